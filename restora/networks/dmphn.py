"""DMPHN: encoder-decoder pairs on ever smaller patches of the picture, the finest patches first.

Zhang, Dai, Li, Koniusz: Deep Stacked Hierarchical Multi-Patch Network for Image Deblurring, CVPR 2019. The RestoraVision
document names it among the deblurring networks (specification, section 1) and gives no details; these follow the authors'
modules and test scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned, global_


class _Pair(nn.Sequential):
    """Convolution, ReLU, convolution: what is added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )


class Encoder(nn.Module):
    """`B x 3 x H x W` -> `B x 128 x H/4 x W/4`: three sizes with two residual blocks each. H and W are multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(3, 32, 3, padding=1)
        self.layer2, self.layer3 = _Pair(32), _Pair(32)
        self.layer5 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.layer6, self.layer7 = _Pair(64), _Pair(64)
        self.layer9 = nn.Conv2d(64, 128, 3, stride=2, padding=1)
        self.layer10, self.layer11 = _Pair(128), _Pair(128)

    def forward(self, x: Tensor) -> Tensor:
        for enter, first, second in (
            (self.layer1, self.layer2, self.layer3),
            (self.layer5, self.layer6, self.layer7),
            (self.layer9, self.layer10, self.layer11),
        ):
            x = enter(x)
            x = x + first(x)
            x = x + second(x)
        return x


class Decoder(nn.Module):
    """`B x 128 x h x w` -> `B x 3 x 4h x 4w`: the encoder mirrored, with 4x4 transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer13, self.layer14 = _Pair(128), _Pair(128)
        self.layer16 = nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1)
        self.layer17, self.layer18 = _Pair(64), _Pair(64)
        self.layer20 = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
        self.layer21, self.layer22 = _Pair(32), _Pair(32)
        self.layer24 = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for first, second, leave in (
            (self.layer13, self.layer14, self.layer16),
            (self.layer17, self.layer18, self.layer20),
            (self.layer21, self.layer22, self.layer24),
        ):
            x = x + first(x)
            x = x + second(x)
            x = leave(x)
        return x


def _grid(level: int) -> tuple[int, int]:
    """Rows and columns of patches: 1x1, 2x1, 2x2, 4x2."""
    return 2 ** (level // 2), 2 ** ((level - 1) // 2)


def _cut(x: Tensor, rows: int, columns: int) -> Tensor:
    """The patches as a batch, `B*rows*columns x C x h x w`."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, rows, h // rows, columns, w // columns)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, c, h // rows, w // columns)


def _join(x: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `_cut`."""
    b, c, h, w = x.shape
    x = x.reshape(b // (rows * columns), rows, columns, c, h, w)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, rows * h, columns * w)


class DMPHN(nn.Module):
    """The hierarchical multi-patch network, levels 1 to `levels` (1-2-4 patches: 3 levels; 1-2-4-8: 4).

    Shapes: `B x 3 x H x W` -> the same, RGB minus 0.5 on both sides; `restore` takes and gives [0, 1]. H is a multiple of 4
    times the rows of the finest level (8, or 16 with four levels), W of 4 times its columns.

    From the finest level up, each level encodes its patches plus the residual that the level below decoded, adds the
    features of that level, and decodes them at the size of the next level's patches. The last residual is the result: no
    skip from the input. The network divides whatever it is given into patches, so tiles of a picture see other patches
    than the picture does.

    Published weights lie in one file a module (`encoder_lv1.pkl` .. `decoder_lv4.pkl`); the folder of these files is read as
    one checkpoint: `restora models import FOLDER`.
    """

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        self.levels = levels
        rows, columns = _grid(levels)
        for level in range(1, levels + 1):
            self.add_module(f"encoder_lv{level}", Encoder())
        for level in range(1, levels + 1):
            self.add_module(f"decoder_lv{level}", Decoder())
        multiple = 4 * max(rows, columns)
        self.spec = NetworkSpec(
            task="deblur",
            tiling=global_(_RADIUS * levels, window=multiple),
            multiple_of=multiple,
            minimum=multiple,
            source="Zhang et al., CVPR 2019",
        )

    def forward(self, x: Tensor) -> Tensor:
        features, residual = torch.zeros(()), torch.zeros(())
        for level in range(self.levels, 0, -1):
            rows, columns = _grid(level)
            source = x if level == self.levels else x + residual
            encoded = _join(self.get_submodule(f"encoder_lv{level}")(_cut(source, rows, columns)), rows, columns)
            features = encoded if level == self.levels else features + encoded
            # decoded at the size of the patches one level up
            rows, columns = _grid(max(level - 1, 1))
            decoded = self.get_submodule(f"decoder_lv{level}")(_cut(features, rows, columns))
            residual = _join(decoded, rows, columns)
        return residual

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture, both in [0, 1]."""
        return self.forward(x - 0.5) + 0.5


class DMPHNPair(nn.Module):
    """One encoder and one decoder: the pair of which `DMPHN` is made.

    Shapes: `B x 3 x H x W` -> the same (RGB minus 0.5), H and W multiples of 4; `encoder` gives the features, `B x 128 x
    H/4 x W/4`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.spec = NetworkSpec(
            task="deblur", tiling=aligned(4, _RADIUS), multiple_of=4, minimum=4, source="Zhang et al., CVPR 2019"
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture, both in [0, 1]."""
        return self.forward(x - 0.5) + 0.5


_RADIUS = 67  # of one pair


def _build(levels: int | None = 3) -> nn.Module:
    """DMPHN with so many levels; None is a single pair under its own keys."""
    return DMPHNPair() if levels is None else DMPHN(levels)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    levels = 0
    while f"encoder_lv{levels + 1}.layer11.2.weight" in state and f"decoder_lv{levels + 1}.layer24.weight" in state:
        levels += 1
    if levels:
        return {"levels": levels}
    if "encoder.layer11.2.weight" in state and "decoder.layer24.weight" in state:
        return {"levels": None}
    return None


FAMILY = Family(
    name="dmphn",
    build=_build,
    variants={"dmphn_1_2_4": {"levels": 3}, "dmphn_1_2_4_8": {"levels": 4}, "dmphn_pair": {"levels": None}},
    identify=_identify,
    paper="Deep Stacked Hierarchical Multi-Patch Network for Image Deblurring (CVPR 2019)",
)

"""MPRNet: deblurs in three stages, on quarters of the picture, on halves and on the whole.

Zamir, Arora, Khan, Hayat, Khan, Yang, Shao: Multi-Stage Progressive Image Restoration, CVPR 2021. Deblurring thesis,
section 2.6. (The thesis lets the supervised attention gate the residual picture; the published one, here, gates
features. It also exchanges the letters of residual and result.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deblur_layers import Reach, count
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

Features = list[Tensor]


def _conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)


class _ChannelAttention(nn.Module):
    """Its means are those of the part that a stage sees, a quarter, a half or all, which tiles cut otherwise: statistics of
    the whole picture would not make them equal."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            _conv(channels, channels // reduction, 1),
            nn.ReLU(),
            _conv(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(x.mean(dim=(2, 3), keepdim=True))


class _CAB(nn.Module):
    """Residual block with channel attention. Its PReLU is the one that the whole network shares."""

    def __init__(self, channels: int, reduction: int, act: nn.PReLU) -> None:
        super().__init__()
        self.CA = _ChannelAttention(channels, reduction)
        self.body = nn.Sequential(_conv(channels, channels, 3), act, _conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.CA(self.body(x))


class _Down(nn.Module):
    def __init__(self, channels: int, more: int) -> None:
        super().__init__()
        self.down = nn.Sequential(_Scale(0.5), _conv(channels, channels + more, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)


class _Up(nn.Module):
    def __init__(self, channels: int, more: int) -> None:
        super().__init__()
        self.up = nn.Sequential(_Scale(2.0), _conv(channels + more, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)


class _Encoder(nn.Module):
    """Three levels. The second stage's also takes what the first stage's encoder and decoder had (CSFF)."""

    def __init__(self, channels: int, more: int, reduction: int, act: nn.PReLU, csff: bool) -> None:
        super().__init__()
        widths = [channels, channels + more, channels + 2 * more]
        for n, width in enumerate(widths, 1):
            self.add_module(f"encoder_level{n}", nn.Sequential(*(_CAB(width, reduction, act) for _ in range(2))))
        self.down12, self.down23 = _Down(widths[0], more), _Down(widths[1], more)
        self.csff = csff
        if csff:
            for side in ("enc", "dec"):
                for n, width in enumerate(widths, 1):
                    self.add_module(f"csff_{side}{n}", _conv(width, width, 1))

    def forward(self, x: Tensor, encoded: Features | None = None, decoded: Features | None = None) -> Features:
        levels = []
        for n in (1, 2, 3):
            x = self.get_submodule(f"encoder_level{n}")(x)
            if encoded is not None and decoded is not None:
                x = x + self.get_submodule(f"csff_enc{n}")(encoded[n - 1])
                x = x + self.get_submodule(f"csff_dec{n}")(decoded[n - 1])
            levels.append(x)
            if n < 3:
                x = (self.down12 if n == 1 else self.down23)(x)
        return levels


class _Decoder(nn.Module):
    def __init__(self, channels: int, more: int, reduction: int, act: nn.PReLU) -> None:
        super().__init__()
        widths = [channels, channels + more, channels + 2 * more]
        for n, width in enumerate(widths, 1):
            self.add_module(f"decoder_level{n}", nn.Sequential(*(_CAB(width, reduction, act) for _ in range(2))))
        self.skip_attn1, self.skip_attn2 = _CAB(widths[0], reduction, act), _CAB(widths[1], reduction, act)
        self.up21, self.up32 = _Up(widths[0], more), _Up(widths[1], more)

    def forward(self, encoded: Features) -> Features:
        three = self.get_submodule("decoder_level3")(encoded[2])
        two = self.get_submodule("decoder_level2")(self.up32(three) + self.skip_attn2(encoded[1]))
        one = self.get_submodule("decoder_level1")(self.up21(two) + self.skip_attn1(encoded[0]))
        return [one, two, three]


class _ORB(nn.Module):
    def __init__(self, channels: int, reduction: int, act: nn.PReLU, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_CAB(channels, reduction, act) for _ in range(blocks)), _conv(channels, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _ORSNet(nn.Module):
    """The third stage: full resolution throughout, fed by all levels of the second."""

    def __init__(self, channels: int, more: int, extra: int, reduction: int, act: nn.PReLU, blocks: int) -> None:
        super().__init__()
        for n in (1, 2, 3):
            self.add_module(f"orb{n}", _ORB(channels + extra, reduction, act, blocks))
        for side in ("enc", "dec"):
            self.add_module(f"up_{side}1", _Up(channels, more))
            self.add_module(f"up_{side}2", nn.Sequential(_Up(channels + more, more), _Up(channels, more)))
            for n in (1, 2, 3):
                self.add_module(f"conv_{side}{n}", _conv(channels, channels + extra, 1))

    def forward(self, x: Tensor, encoded: Features, decoded: Features) -> Tensor:
        for n in (1, 2, 3):
            x = self.get_submodule(f"orb{n}")(x)
            for side, levels in (("enc", encoded), ("dec", decoded)):
                y = levels[n - 1] if n == 1 else self.get_submodule(f"up_{side}{n - 1}")(levels[n - 1])
                x = x + self.get_submodule(f"conv_{side}{n}")(y)
        return x


class _SupervisedAttention(nn.Module):
    """Makes a picture of the features, and of that picture a gate for them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 1)
        self.conv2 = _conv(channels, 3, 1)
        self.conv3 = _conv(3, channels, 1)

    def forward(self, x: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        picture = self.conv2(x) + picture
        return x + self.conv1(x) * torch.sigmoid(self.conv3(picture)), picture


class MPRNet(nn.Module):
    """MPRNet.

    Shapes: `B x 3 x H x W` in [0, 1], sides multiples of 8 -> the results of stages 3, 2 and 1 (training uses all).
    `restore` gives the first alone.

    Args:
        channels: at full size; `more` of them a level further down, `extra` of them in the third stage.
        blocks: CABs of each of the third stage's three blocks.
        reduction: of the channel attention.
        task: for `spec`.
    """

    def __init__(
        self,
        channels: int = 96,
        more: int = 48,
        extra: int = 32,
        blocks: int = 8,
        reduction: int = 4,
        task: Literal["deblur", "denoise", "mixed"] = "deblur",
    ) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task=task, multiple_of=8, tiling=global_(_reach(blocks), 8), source="Zamir et al., CVPR 2021"
        )
        act = nn.PReLU()
        for n in (1, 2, 3):
            shallow = nn.Sequential(_conv(3, channels, 3), _CAB(channels, reduction, act))
            self.add_module(f"shallow_feat{n}", shallow)
        self.stage1_encoder = _Encoder(channels, more, reduction, act, csff=False)
        self.stage1_decoder = _Decoder(channels, more, reduction, act)
        self.stage2_encoder = _Encoder(channels, more, reduction, act, csff=True)
        self.stage2_decoder = _Decoder(channels, more, reduction, act)
        self.stage3_orsnet = _ORSNet(channels, more, extra, reduction, act, blocks)
        self.sam12, self.sam23 = _SupervisedAttention(channels), _SupervisedAttention(channels)
        self.concat12 = _conv(channels * 2, channels, 3)
        self.concat23 = _conv(channels * 2, channels + extra, 3)
        self.tail = _conv(channels + extra, 3, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        shallow1, shallow2, shallow3 = (self.get_submodule(f"shallow_feat{n}") for n in (1, 2, 3))
        halves = x.chunk(2, dim=2)

        # stage 1: the encoder sees quarters, the decoder halves
        encoded1 = [
            _join([self.stage1_encoder(shallow1(quarter)) for quarter in part.chunk(2, dim=3)], dim=3)
            for part in halves
        ]
        decoded1 = [self.stage1_decoder(levels) for levels in encoded1]
        attended = [self.sam12(levels[0], part) for levels, part in zip(decoded1, halves, strict=True)]
        picture1 = torch.cat([picture for _, picture in attended], dim=2)

        # stage 2: the encoder sees halves, the decoder the whole
        encoded2 = []
        for part, (features, _), *first in zip(halves, attended, encoded1, decoded1, strict=True):
            y = self.concat12(torch.cat([shallow2(part), features], dim=1))
            encoded2.append(self.stage2_encoder(y, *first))
        whole = _join(encoded2, dim=2)
        decoded2 = self.stage2_decoder(whole)
        features, picture2 = self.sam23(decoded2[0], x)

        # stage 3
        y = self.concat23(torch.cat([shallow3(x), features], dim=1))
        return [self.tail(self.stage3_orsnet(y, whole, decoded2)) + x, picture2, picture1]

    def restore(self, x: Tensor) -> Tensor:
        """The last stage's picture: `B x 3 x H x W` in [0, 1] -> the same."""
        return self(x)[0]


def _join(parts: list[Features], dim: int) -> Features:
    """Levels of neighbouring parts, put together level by level."""
    return [torch.cat(level, dim) for level in zip(*parts, strict=True)]


def _reach(blocks: int) -> int:
    """How far the convolutions reach; channel attention pools over the part that a stage sees."""

    def encoder(x: Reach, others: list[list[Reach]]) -> list[Reach]:
        levels = []
        for n in range(3):
            x = (x.down(2) if n else x).conv(3, 4)
            for other in others:
                x = x | other[n]
            levels.append(x)
        return levels

    def decoder(levels: list[Reach]) -> list[Reach]:
        out = [levels[2].conv(3, 4)]
        for level in levels[1::-1]:
            out.insert(0, (out[0].bilinear_up() | level.conv(3, 2)).conv(3, 4))
        return out

    shallow = Reach(8).conv(3, 3)
    encoded = encoder(shallow, [])
    decoded = decoder(encoded)
    encoded = encoder((shallow | decoded[0]).conv(3), [encoded, decoded])
    decoded = decoder(encoded)
    x = (shallow | decoded[0]).conv(3)
    for n in range(3):
        x = x.conv(3, 2 * blocks + 1)
        for y in (encoded[n], decoded[n]):
            for _ in range(n):
                y = y.bilinear_up()
            x = x | y
    return x.conv(3).radius


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    needed = {"shallow_feat1.0.weight", "stage2_encoder.csff_enc1.weight", "stage3_orsnet.orb1.body.0.body.0.weight"}
    needed |= {"stage1_encoder.down12.down.1.weight", "concat23.weight", "tail.weight"}
    squeeze = state.get("shallow_feat1.1.CA.conv_du.0.weight")
    if squeeze is None or not needed <= state.keys():
        return None
    channels = state["shallow_feat1.0.weight"].shape[0]
    return {
        "channels": channels,
        "more": state["stage1_encoder.down12.down.1.weight"].shape[0] - channels,
        "extra": state["concat23.weight"].shape[0] - channels,
        "blocks": count(state, "stage3_orsnet.orb1.body.{}.CA.conv_du.0.weight"),
        "reduction": channels // squeeze.shape[0],
    }


FAMILY = Family(
    name="mprnet",
    build=MPRNet,
    variants={
        "mprnet_deblur": {},
        "mprnet_denoise": {"channels": 80, "task": "denoise"},
        "mprnet_derain": {"channels": 40, "more": 20, "extra": 16, "task": "mixed"},
    },
    identify=_identify,
    paper="Multi-Stage Progressive Image Restoration (CVPR 2021)",
)

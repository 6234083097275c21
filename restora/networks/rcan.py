"""RCAN: residual groups of residual blocks with channel attention.

Zhang, Li, Li, Wang, Zhong, Fu: Image Super-Resolution Using Very Deep Residual Channel Attention Networks, ECCV 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.layers import upsampled_radius
from restora.networks.picture_statistics import PictureMean
from restora.networks.registry import Family
from restora.networks.resblocks import (
    MEAN_SHIFT_RULE,
    LinearUpsampler,
    Normalised,
    count_blocks,
    rename,
    scale_of,
)
from restora.networks.spec import NetworkSpec, global_


class ChannelAttention(nn.Module):
    """Multiplies each channel by a number in (0, 1) computed from the means of all channels over the picture."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            PictureMean(),
            nn.Conv2d(channels, channels // squeeze, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // squeeze, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class _AttentionBlock(nn.Module):
    def __init__(self, channels: int, squeeze: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.rcab = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            ChannelAttention(channels, squeeze),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.factor * self.rcab(x)


class _Group(nn.Module):
    def __init__(self, channels: int, blocks: int, squeeze: int, factor: float) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(*(_AttentionBlock(channels, squeeze, factor) for _ in range(blocks)))
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.residual_group(x))


class RCAN(Normalised):
    """Residual in residual: `groups` groups of `blocks` channel-attention blocks, each group and the whole with a shortcut.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`. Inside, pictures are (x - mean colour of DIV2K)
    times 255. The attention averages over the whole picture.

    Args:
        scale: 1, 2, 3, 4 or 8. groups, blocks, channels: 10, 20 and 64 in the paper.
        squeeze: how many times fewer channels the attention has inside.
        residual_factor: factor of each block's residual branch.
    """

    def __init__(
        self,
        scale: int,
        groups: int = 10,
        blocks: int = 20,
        channels: int = 64,
        squeeze: int = 16,
        residual_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution" if scale > 1 else "mixed",
            scales=(scale,),
            tiling=global_(math.ceil(2 + groups * (2 * blocks + 1) + upsampled_radius(scale))),
            source="Zhang et al., ECCV 2018",
        )
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(_Group(channels, blocks, squeeze, residual_factor) for _ in range(groups)))
        self.conv_after_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = LinearUpsampler(channels, scale)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(self.normalise(x))
        x = x + self.conv_after_body(self.body(x))
        return self.denormalise(self.conv_last(self.upsample(x)))

    @staticmethod
    def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The names of this class for a state dict in the layout of the authors' own program (`head`, `body`, `tail`,
        frozen mean shifts); any other comes back as it is."""
        if "head.0.weight" not in state or "body.0.body.0.body.3.conv_du.0.weight" not in state:
            return dict(state)
        return rename(
            state,
            (
                MEAN_SHIFT_RULE,
                (r"head\.0\.(\w+)", r"conv_first.\1"),
                (r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0\.(\w+)", r"body.\1.residual_group.\2.rcab.3.attention.1.\3"),
                (r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.2\.(\w+)", r"body.\1.residual_group.\2.rcab.3.attention.3.\3"),
                (r"body\.(\d+)\.body\.(\d+)\.body\.(\d+)\.(\w+)", r"body.\1.residual_group.\2.rcab.\3.\4"),
                (r"body\.(\d+)\.body\.\d+\.(weight|bias)", r"body.\1.conv.\2"),
                (r"body\.\d+\.(weight|bias)", r"conv_after_body.\1"),
                (r"tail\.0\.(\d+)\.(\w+)", r"upsample.\1.\2"),
                (r"tail\.1\.(\w+)", r"conv_last.\1"),
            ),
        )  # fmt: skip


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    state = RCAN.convert_state(state)
    first, squeezed = state.get("conv_first.weight"), state.get("body.0.residual_group.0.rcab.3.attention.1.weight")
    if first is None or squeezed is None or not {"conv_after_body.weight", "conv_last.weight"} <= state.keys():
        return None
    if tuple(first.shape[1:]) != (3, 3, 3):
        return None
    return {
        "scale": scale_of(state, "upsample"),
        "groups": count_blocks(state, "body.{}.conv.weight"),
        "blocks": count_blocks(state, "body.0.residual_group.{}.rcab.0.weight"),
        "channels": first.shape[0],
        "squeeze": first.shape[0] // squeezed.shape[0],
    }


FAMILY = Family(
    name="rcan",
    build=RCAN,
    variants={f"rcan_x{s}": {"scale": s} for s in (2, 3, 4, 8)},
    identify=_identify,
    paper="Image Super-Resolution Using Very Deep Residual Channel Attention Networks (ECCV 2018)",
)

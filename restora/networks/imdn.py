"""IMDN: information multi-distillation, a light network that keeps a quarter of the channels aside at every step.

Hui, Gao, Yang, Wang: Lightweight Image Super-Resolution with Information Multi-distillation Network, ACM MM 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.picture_statistics import picture_moments
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

_SLOPE = 0.05


class _ContrastAttention(nn.Module):
    """Channel attention on the sum of each map's standard deviation and mean over the picture (section 3.3)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = channels // reduction
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = picture_moments(x)
        return x * self.conv_du(variance.sqrt() + mean)


class _Distillation(nn.Module):
    """Three times: a convolution whose first quarter is kept and whose rest goes on; all quarters are fused (figure 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept = channels // 4
        rest = channels - self.kept
        self.c1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.c2 = nn.Conv2d(rest, channels, 3, padding=1)
        self.c3 = nn.Conv2d(rest, channels, 3, padding=1)
        self.c4 = nn.Conv2d(rest, self.kept, 3, padding=1)
        self.c5 = nn.Conv2d(channels, channels, 1)
        self.cca = _ContrastAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        parts, rest = [], x
        for layer in (self.c1, self.c2, self.c3):
            y = F.leaky_relu(layer(rest), _SLOPE)
            kept, rest = y.split([self.kept, y.shape[1] - self.kept], dim=1)
            parts.append(kept)
        fused = torch.cat([*parts, self.c4(rest)], dim=1)
        return x + self.c5(self.cca(fused))


class IMDN(nn.Module):
    """IMDN with six distillation blocks.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x sH x sW`. The attention looks at the whole picture.

    Args:
        scale: 2, 3 or 4. channels: width. blocks: number of distillation blocks.
    """

    def __init__(self, scale: int, channels: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.blocks = blocks
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(scale,),
            tiling=global_(1 + 4 * blocks + 1 + 1),
            source="Hui et al., ACM MM 2019",
        )
        self.fea_conv = nn.Conv2d(3, channels, 3, padding=1)
        for n in range(1, blocks + 1):
            self.add_module(f"IMDB{n}", _Distillation(channels))
        self.c = nn.Sequential(nn.Conv2d(channels * blocks, channels, 1), nn.LeakyReLU(_SLOPE, inplace=True))
        self.LR_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampler = nn.Sequential(nn.Conv2d(channels, 3 * scale * scale, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.fea_conv(x)
        outputs = []
        for n in range(1, self.blocks + 1):
            y = self.get_submodule(f"IMDB{n}")(y)
            outputs.append(y)
        return self.upsampler(self.LR_conv(self.c(torch.cat(outputs, dim=1))) + first)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not {"fea_conv.weight", "IMDB1.c5.weight", "IMDB1.cca.conv_du.0.weight", "upsampler.0.weight"} <= state.keys():
        return None
    scale = round((state["upsampler.0.weight"].shape[0] / 3) ** 0.5)
    blocks = sum(1 for key in state if key.startswith("IMDB") and key.endswith(".c5.weight"))
    return {"scale": scale, "channels": state["fea_conv.weight"].shape[0], "blocks": blocks}


FAMILY = Family(
    name="imdn",
    build=IMDN,
    variants={f"imdn_x{s}": {"scale": s} for s in (2, 3, 4)},
    identify=_identify,
    paper="Lightweight Image Super-Resolution with Information Multi-distillation Network (ACM MM 2019)",
)

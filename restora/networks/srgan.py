"""SRGAN's generator, which trained without its adversary is SRResNet: residual blocks with batch normalisation.

Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR 2017, figure 4; the
restoration report, section 2.3. `msrresnet` is the later form without batch normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.registry import Family
from restora.networks.resblocks import count_blocks
from restora.networks.spec import NetworkSpec, exact


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rcb(x)


class _Enlarge(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample_block(x)


class SRGANGenerator(nn.Module):
    """9x9 convolution, `blocks` residual blocks, a convolution with the long shortcut, pixel shuffles by 2, 9x9 convolution.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`, not clipped.

    Args:
        scale: a power of two; the paper's is 4.
        channels, blocks: 64 and 16 in the paper.
        output_range: what `forward` returns. ``unit`` is [0, 1], as the published PyTorch weights were trained;
            ``symmetric`` is the paper's [-1, 1]. `restore` always returns [0, 1].
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 16,
        output_range: Literal["unit", "symmetric"] = "unit",
    ) -> None:
        super().__init__()
        if scale < 2 or scale & (scale - 1):
            raise UsageError(f"SRGAN's generator enlarges by powers of two, not by {scale}.")
        stages = int(math.log2(scale))
        self.output_range = output_range
        radius = 4 + 2 * blocks + 1 + sum(2.0**-n for n in range(stages)) + 4 / scale
        self.spec = NetworkSpec(
            task="super-resolution", scales=(scale,), tiling=exact(math.ceil(radius)), source="Ledig et al., CVPR 2017"
        )
        self.conv_block1 = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.conv_block2 = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.upsampling = nn.Sequential(*(_Enlarge(channels) for _ in range(stages)))
        self.conv_block3 = nn.Conv2d(channels, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_block1(x)
        return self.conv_block3(self.upsampling(x + self.conv_block2(self.trunk(x))))

    def restore(self, x: Tensor) -> Tensor:
        """Picture to picture, both in [0, 1]."""
        y = self(x)
        return (y + 1) / 2 if self.output_range == "symmetric" else y


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = state.get("conv_block1.0.weight")
    if first is None or not {"trunk.0.rcb.4.running_var", "conv_block3.weight"} <= state.keys():
        return None
    if tuple(first.shape[1:]) != (3, 9, 9):
        return None
    return {
        "scale": 2 ** count_blocks(state, "upsampling.{}.upsample_block.0.weight"),
        "channels": first.shape[0],
        "blocks": count_blocks(state, "trunk.{}.rcb.0.weight"),
    }


FAMILY = Family(
    name="srgan_generator",
    build=SRGANGenerator,
    variants={f"srgan_generator_x{s}": {"scale": s} for s in (2, 4)},
    identify=_identify,
    paper="Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network (CVPR 2017)",
)

"""MSRResNet: SRResNet without batch normalisation, in the form that became the baseline of later super-resolution work.

Wang et al.: ESRGAN, ECCV Workshops 2018 (the modification: no batch normalisation, a bilinear shortcut), after
Ledig et al., CVPR 2017. The network with batch normalisation is in `srgan`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import upsampling_steps
from restora.networks.registry import Family
from restora.networks.resblocks import ResidualBlock, count_blocks, damp
from restora.networks.spec import NetworkSpec, exact


class MSRResNet(nn.Module):
    """Residual blocks at low resolution, pixel-shuffle upsampling with leaky ReLU (slope 0.1), two convolutions at high
    resolution; the bilinear enlargement of the input is added.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`.

    Args:
        scale: 2, 3 or 4.
        channels, blocks: width and number of residual blocks.
    """

    def __init__(self, scale: int, channels: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.scale = scale
        steps = upsampling_steps(scale)
        # entry, two convolutions a block, each upsampling convolution at its resolution, two at the last
        upsampling = sum(1 / math.prod(steps[:n]) for n in range(len(steps)))
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(scale,),
            tiling=exact(math.ceil(1 + 2 * blocks + upsampling + 2 / scale)),
            source="Wang et al., ECCVW 2018; Ledig et al., CVPR 2017",
        )
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        for number, step in enumerate(steps, start=1):
            self.add_module(f"upconv{number}", nn.Conv2d(channels, channels * step * step, 3, padding=1))
        self.steps = steps
        self.conv_hr = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)
        damp(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        for number, step in enumerate(self.steps, start=1):
            y = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{number}")(y), step), 0.1)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.1))
        return y + F.interpolate(x, scale_factor=float(self.scale), mode="bilinear", align_corners=False)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, upsampling = state.get("conv_first.weight"), state.get("upconv1.weight")
    if first is None or upsampling is None or not {"body.0.conv2.weight", "conv_hr.weight"} <= state.keys():
        return None
    channels = first.shape[0]
    if tuple(first.shape[1:]) != (3, 3, 3) or state["body.0.conv1.weight"].shape[0] != channels:
        return None
    blocks = count_blocks(state, "body.{}.conv1.weight")
    if len(state) != 2 * (2 * blocks + 3) + sum(key.startswith("upconv") for key in state):
        return None
    return {
        "scale": 3 if upsampling.shape[0] == 9 * channels else 4 if "upconv2.weight" in state else 2,
        "channels": channels,
        "blocks": blocks,
    }


FAMILY = Family(
    name="msrresnet",
    build=MSRResNet,
    variants={f"msrresnet_x{s}": {"scale": s} for s in (2, 3, 4)},
    identify=_identify,
    paper="ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (ECCVW 2018)",
)

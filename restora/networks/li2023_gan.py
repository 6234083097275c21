"""The GAN of Li (2023) for deblurring: a residual generator with batch normalisation and its discriminator.

Surveyed in the ViTDeblur document, section 2.2 of its specification: the table of convolutions is from there; no code or
weights are published under that name. What the table leaves open is an argument, with what it settles as the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned, global_

_SOURCE = "Li, 2023, after the specification of the ViTDeblur document, section 2.2"


def _unit(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_unit(channels, channels, 3), nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class LiGenerator(nn.Module):
    """24 convolutions: 7x7 to 64 channels, two of stride 2 to 128 and 256, nine residual blocks, two 3x3 back to 128 and 64,
    7x7 to 3 with tanh.

    Shapes: `B x 3 x H x W` -> the same, RGB in [-1, 1]; `restore` takes and gives [0, 1]. H and W are multiples of 4.

    The table lists the two convolutions on the way back with stride 1, so an enlargement must precede each; it is nearest
    neighbour here.

    Args:
        blocks: residual blocks. width: channels at full size.
        residual: adds the input to the result and clips, as DeblurGAN does. The table does not say it; off by default.
    """

    def __init__(self, blocks: int = 9, width: int = 64, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.spec = NetworkSpec(
            task="deblur", tiling=aligned(4, 15 + 8 * blocks), multiple_of=4, minimum=4, source=_SOURCE
        )
        self.entry = _unit(3, width, 7)
        self.down = nn.Sequential(_unit(width, 2 * width, 3, 2), _unit(2 * width, 4 * width, 3, 2))
        self.blocks = nn.Sequential(*(_Block(4 * width) for _ in range(blocks)))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            _unit(4 * width, 2 * width, 3),
            nn.Upsample(scale_factor=2),
            _unit(2 * width, width, 3),
        )
        self.exit = nn.Conv2d(width, 3, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.exit(self.up(self.blocks(self.down(self.entry(x))))).tanh()
        return (x + y).clamp(-1, 1) if self.residual else y

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture, both in [0, 1]."""
        return (self.forward(2 * x - 1) + 1) / 2


class LiDiscriminator(nn.Module):
    """Six 4x4 convolutions with LeakyReLU 0.2 (strides 2, 2, 2, 2, 1, 1; channels 64, 64, 128, 256, 512, 1), then two
    dense layers with tanh and sigmoid.

    Shapes: `B x 3 x H x W`, RGB in [-1, 1] -> `B x 1`, the probability that the picture is a real sharp one.

    The source names tanh and sigmoid without saying where; dense layers of 1024 and 1 values are a reading. The map of the
    last convolution is 16 x 16 for pictures of 256 x 256 and is averaged to that for others.
    """

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()
        self.spec = NetworkSpec(task="discriminator", tiling=global_(0, window=16), minimum=64, source=_SOURCE)
        self.convs = nn.ModuleList()
        channels = 3
        for wide, stride in ((64, 2), (64, 2), (128, 2), (256, 2), (512, 1), (1, 1)):
            self.convs.append(nn.Conv2d(channels, wide, 4, stride=stride))
            channels = wide
        self.dense = nn.Linear(16 * 16, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        for n, conv in enumerate(self.convs):
            # sizes as under the padding called "same": halved by a stride of 2, kept by a stride of 1
            x = conv(F.pad(x, (1, 1, 1, 1) if n < 4 else (1, 2, 1, 2)))
            x = F.leaky_relu(x, 0.2) if n < 5 else x
        x = F.adaptive_avg_pool2d(x, 16).flatten(1)
        return self.score(torch.tanh(self.dense(x))).sigmoid()


def _build(discriminator: bool = False, **options: Any) -> nn.Module:
    return LiDiscriminator(**options) if discriminator else LiGenerator(**options)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if {"convs.5.weight", "dense.weight", "score.weight"} <= state.keys():
        return {"discriminator": True, "hidden": state["dense.weight"].shape[0]}
    if (
        not {"entry.0.weight", "entry.1.running_mean", "down.1.0.weight", "up.3.0.weight", "exit.weight"}
        <= state.keys()
    ):
        return None
    blocks = 0
    while f"blocks.{blocks}.body.3.weight" in state:
        blocks += 1
    return {"discriminator": False, "blocks": blocks, "width": state["entry.0.weight"].shape[0]}


FAMILY = Family(
    name="li2023_gan",
    build=_build,
    variants={
        "li2023_gan": {"discriminator": False, "blocks": 9, "width": 64},
        "li2023_gan_discriminator": {"discriminator": True, "hidden": 1024},
    },
    identify=_identify,
    paper="Li 2023, a GAN for image deblurring",
)

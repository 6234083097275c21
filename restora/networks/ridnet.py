"""RIDNet: blind denoising of real photographs by residual blocks with dilated branches and channel attention.

Anwar, Barnes: Real Image Denoising with Feature Attention, ICCV 2019; the efficiency thesis, section 3.6 (comparison on
spatially heterogeneous distortions). The published code adds the mean colour to the predicted residual and not only back to the
features it was taken from, so the residual learns to be minus the mean; that is kept, because the weights expect it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.layers import DIV2K_MEAN, AddRelu
from restora.networks.noise_levels import fits
from restora.networks.picture_statistics import picture_mean
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

_BLOCK_RADIUS = 8 + 2 + 2  # dilated branch (3 + 4) and its fusion, two residual blocks of two convolutions


class _MeanShift(nn.Conv2d):
    """A frozen 1x1 convolution that adds `sign` times the mean colour; `layers.MeanShift` without the inner module."""

    def __init__(self, mean: Sequence[float], sign: int) -> None:
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias.copy_(sign * torch.tensor(mean))  # type: ignore[union-attr]
        self.requires_grad_(False)


class _ConvReLU(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _ConvSigmoid(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _MergeRun(nn.Module):
    """Two branches of growing dilation (1, 2 and 3, 4), fused by a 3x3 convolution, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def branch(*dilations: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for d in dilations:
                layers += [nn.Conv2d(channels, channels, 3, padding=d, dilation=d), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        self.body1, self.body2 = branch(1, 2), branch(3, 4)
        self.body3 = nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.body3(torch.cat([self.body1(x), self.body2(x)], dim=1)) + x


class _Residual(AddRelu):
    """`relu(x + f(x))` of two 3x3 convolutions and, if `compressed`, a 1x1 convolution."""

    def __init__(self, channels: int, compressed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        ]
        if compressed:
            layers += [nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)]
        self.body = nn.Sequential(*layers)


class _ChannelAttention(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.c1 = _ConvReLU(channels, channels // reduction, 1)
        self.c2 = _ConvSigmoid(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.c2(self.c1(picture_mean(x)))


class _Block(nn.Module):
    """Enhancement attention module: dilated fusion, two residual blocks, channel attention."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.r1 = _MergeRun(channels)
        self.r2 = _Residual(channels, compressed=False)
        self.r3 = _Residual(channels, compressed=True)
        self.ca = _ChannelAttention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        return self.ca(self.r3(self.r2(self.r1(x))))


class RIDNet(nn.Module):
    """RIDNet.

    Shapes: `B x 3 x H x W` RGB -> the same. The published call works on 0..255 (`rgb_range`), `restore` on [0, 1].

    Args:
        features: width. reduction: of the channel attention. blocks: enhancement attention modules.
        rgb_range: 255 as published; the mean colour in the state dict is on this scale.
    """

    def __init__(self, features: int = 64, reduction: int = 16, blocks: int = 4, rgb_range: float = 255.0) -> None:
        super().__init__()
        self.blocks, self.rgb_range = blocks, rgb_range
        self.spec = NetworkSpec(
            task="denoise", tiling=global_(2 + blocks * _BLOCK_RADIUS), source="Anwar and Barnes, ICCV 2019"
        )
        mean = [rgb_range * m for m in DIV2K_MEAN]
        self.sub_mean, self.add_mean = _MeanShift(mean, -1), _MeanShift(mean, 1)
        self.head = _ConvReLU(3, features, 3)
        for n in range(1, blocks + 1):
            self.add_module(f"b{n}", _Block(features, reduction))
        self.tail = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.sub_mean(x))
        for n in range(1, self.blocks + 1):
            y = self.get_submodule(f"b{n}")(y)
        return self.add_mean(self.tail(y)) + x

    def restore(self, x: Tensor) -> Tensor:
        """The network on pictures in [0, 1]."""
        return self(x * self.rgb_range) / self.rgb_range


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not {"head.body.0.weight", "b1.r1.body3.0.weight", "b1.ca.c1.body.0.weight"} <= state.keys():
        return None
    features = state["head.body.0.weight"].shape[0]
    config = {
        "features": features,
        "reduction": features // state["b1.ca.c1.body.0.weight"].shape[0],
        "blocks": sum(key.endswith(".r1.body3.0.weight") for key in state),
    }
    return config if fits(state, RIDNet, config) else None


FAMILY = Family(
    name="ridnet",
    build=RIDNet,
    variants={"ridnet": {}},
    identify=_identify,
    paper="Real Image Denoising with Feature Attention (ICCV 2019)",
)

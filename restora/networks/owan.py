"""OWAN: operation-wise attention, for pictures with several unknown distortions at once.

Suganuma, Liu, Okatani: Attention-Based Adaptive Selection of Operations for Image Restoration in the Presence of Unknown
Combined Distortions, CVPR 2019; the efficiency thesis, section 3.6 (comparison on spatially heterogeneous distortions). Every
layer applies eight operations side by side; the picture's mean features decide how much of each is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.noise_levels import fits
from restora.networks.picture_statistics import picture_mean
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

_OPERATIONS = 8
_OPERATION_RADIUS = 6  # both the two 7x7 convolutions and the 7x7 convolution of dilation 2


def _depthwise(channels: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=False)


def _pointwise(channels: int, parts: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels * parts, channels, 1, bias=False)


class _Residual(nn.Module):
    """`relu(x + f(x))` of two depthwise 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _depthwise(channels, 3), _depthwise(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.conv1(x).relu())).relu()


class _Operation(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def _separable(channels: int, kernel: int) -> _Operation:
    first, second = ((_depthwise(channels, kernel), _pointwise(channels)) for _ in range(2))
    return _Operation(*first, nn.ReLU(), *second)


def _dilated(channels: int, kernel: int) -> _Operation:
    return _Operation(_depthwise(channels, kernel, dilation=2), _pointwise(channels))


class _OperationLayer(nn.Module):
    """The eight operations, weighted, concatenated and mixed by a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(
            [
                *(_separable(channels, kernel) for kernel in (1, 3, 5, 7)),
                *(_dilated(channels, kernel) for kernel in (3, 5, 7)),
                nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            ]
        )
        self._out = nn.Sequential(_pointwise(channels, _OPERATIONS), nn.ReLU())

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        parts = [op(x) * w[:, None, None, None] for op, w in zip(self._ops, weights.unbind(1), strict=True)]
        return self._out(torch.cat(parts, dim=1))


class _Group(nn.Module):
    """A 1x1 convolution and `steps` operation layers, each with its input added."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.preprocess = _Operation(_pointwise(channels), nn.ReLU())
        self._ops = nn.ModuleList(_OperationLayer(channels) for _ in range(steps))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        x = self.preprocess(x)
        for layer, w in zip(self._ops, weights.unbind(1), strict=True):
            x = (x + layer(x, w)).relu()
        return x


class _Attention(nn.Module):
    """How much of each operation a group's layers take: `B x steps x 8`, sum 1."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.steps, count = steps, steps * _OPERATIONS
        self.ca_fc = nn.Sequential(nn.Linear(channels, 2 * count), nn.ReLU(), nn.Linear(2 * count, count))

    def forward(self, x: Tensor) -> Tensor:
        return self.ca_fc(picture_mean(x).flatten(1)).unflatten(1, (self.steps, _OPERATIONS)).softmax(dim=-1)


class OWAN(nn.Module):
    """OWAN.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> the same.

    Args:
        channels: width. groups: groups of operation layers, each with an attention. steps: layers a group.
    """

    def __init__(self, channels: int = 16, groups: int = 10, steps: int = 4) -> None:
        super().__init__()
        residuals = 4
        radius = 1 + 2 * residuals + groups * steps * _OPERATION_RADIUS + 1
        self.spec = NetworkSpec(task="mixed", tiling=global_(radius), source="Suganuma et al., CVPR 2019")
        head = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.FEB = nn.Sequential(head, *(_Residual(channels) for _ in range(residuals)))
        self.layers = nn.ModuleList()
        for _ in range(groups):
            self.layers += [_Attention(channels, steps), _Group(channels, steps)]
        self.conv2 = nn.Conv2d(channels, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.FEB(x)
        for attention, group in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = group(x, attention(x))
        return self.conv2(x)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, attention = state.get("FEB.0.weight"), state.get("layers.0.ca_fc.2.bias")
    if first is None or attention is None:
        return None
    config = {
        "channels": first.shape[0],
        "groups": sum(key.endswith(".ca_fc.2.bias") for key in state),
        "steps": attention.shape[0] // _OPERATIONS,
    }
    return config if fits(state, OWAN, config) else None


FAMILY = Family(
    name="owan",
    build=OWAN,
    variants={"owan": {}},
    identify=_identify,
    paper="Attention-Based Adaptive Selection of Operations for Image Restoration (CVPR 2019)",
)

"""The ImageNet classifiers on which restoration networks stand: Inception-ResNet-v2 and MobileNet v2.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, AAAI
2017; Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2, CVPR 2018. Keys are those of the PyTorch versions whose weights
are in use (pretrainedmodels; the original MobileNet v2 port).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.picture_norms import BatchNorm

Size = int | tuple[int, int]


class _Unit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, channels_in: int, channels: int, kernel: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=padding, bias=False)
        self.bn = BatchNorm(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _chain(*units: nn.Module) -> nn.Module:
    return units[0] if len(units) == 1 else nn.Sequential(*units)


class _Branches(nn.Module):
    """Parallel branches, concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.count = len(branches)
        for n, branch in enumerate(branches):
            self.add_module(f"branch{n}", branch)

    def join(self, x: Tensor) -> Tensor:
        return torch.cat([self.get_submodule(f"branch{n}")(x) for n in range(self.count)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x)


class _ResidualBranches(_Branches):
    """`relu(x + scale * conv(branches(x)))`; the very last block has no ReLU."""

    def __init__(self, channels: int, joined: int, scale: float, *branches: nn.Module, relu: bool = True) -> None:
        super().__init__(*branches)
        self.scale, self.relu = scale, relu
        self.conv2d = nn.Conv2d(joined, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.scale * self.conv2d(self.join(x))
        return F.relu(y) if self.relu else y


def _block35() -> nn.Module:
    return _ResidualBranches(
        320,
        128,
        0.17,
        _Unit(320, 32, 1),
        _chain(_Unit(320, 32, 1), _Unit(32, 32, 3, padding=1)),
        _chain(_Unit(320, 32, 1), _Unit(32, 48, 3, padding=1), _Unit(48, 64, 3, padding=1)),
    )


def _block17() -> nn.Module:
    return _ResidualBranches(
        1088,
        384,
        0.10,
        _Unit(1088, 192, 1),
        _chain(_Unit(1088, 128, 1), _Unit(128, 160, (1, 7), padding=(0, 3)), _Unit(160, 192, (7, 1), padding=(3, 0))),
    )


def _block8(relu: bool = True) -> nn.Module:
    return _ResidualBranches(
        2080,
        448,
        0.20 if relu else 1.0,
        _Unit(2080, 192, 1),
        _chain(_Unit(2080, 192, 1), _Unit(192, 224, (1, 3), padding=(0, 1)), _Unit(224, 256, (3, 1), padding=(1, 0))),
        relu=relu,
    )


class InceptionResNetV2(nn.Module):
    """Inception-ResNet-v2. `forward` classifies: `B x 3 x H x W` in [-1, 1] -> `B x 1000`, sides at least 75."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = _Unit(3, 32, 3, stride=2)
        self.conv2d_2a = _Unit(32, 32, 3)
        self.conv2d_2b = _Unit(32, 64, 3, padding=1)
        self.conv2d_3b = _Unit(64, 80, 1)
        self.conv2d_4a = _Unit(80, 192, 3)
        self.mixed_5b = _Branches(
            _Unit(192, 96, 1),
            _chain(_Unit(192, 48, 1), _Unit(48, 64, 5, padding=2)),
            _chain(_Unit(192, 64, 1), _Unit(64, 96, 3, padding=1), _Unit(96, 96, 3, padding=1)),
            _chain(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), _Unit(192, 64, 1)),
        )
        self.repeat = nn.Sequential(*(_block35() for _ in range(10)))
        self.mixed_6a = _Branches(
            _Unit(320, 384, 3, stride=2),
            _chain(_Unit(320, 256, 1), _Unit(256, 256, 3, padding=1), _Unit(256, 384, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_1 = nn.Sequential(*(_block17() for _ in range(20)))
        self.mixed_7a = _Branches(
            _chain(_Unit(1088, 256, 1), _Unit(256, 384, 3, stride=2)),
            _chain(_Unit(1088, 256, 1), _Unit(256, 288, 3, stride=2)),
            _chain(_Unit(1088, 256, 1), _Unit(256, 288, 3, padding=1), _Unit(288, 320, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        )
        self.repeat_2 = nn.Sequential(*(_block8() for _ in range(9)))
        self.block8 = _block8(relu=False)
        self.conv2d_7b = _Unit(2080, 1536, 1)
        self.last_linear = nn.Linear(1536, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))), 3, stride=2)
        x = F.max_pool2d(self.conv2d_4a(self.conv2d_3b(x)), 3, stride=2)
        x = self.repeat_1(self.mixed_6a(self.repeat(self.mixed_5b(x))))
        x = self.conv2d_7b(self.block8(self.repeat_2(self.mixed_7a(x))))
        return self.last_linear(x.mean((2, 3)))


def _conv_norm(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, BatchNorm(channels), nn.ReLU6()]


class _InvertedResidual(nn.Module):
    """Widening 1x1 (unless `widen` is 1), depthwise 3x3, narrowing 1x1 without activation; added to its input where the
    shapes agree."""

    def __init__(self, channels_in: int, channels: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = channels_in * widen
        layers = _conv_norm(channels_in, wide, 1) if widen > 1 else []
        layers += _conv_norm(wide, wide, 3, stride, groups=wide)
        layers += _conv_norm(wide, channels, 1)[:2]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


# widening, channels, repetitions, first stride: table 2 of the paper
_MOBILENET = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2_features() -> nn.Sequential:
    """The 19 stages of MobileNet v2 before its classifier: `B x 3 x H x W` -> `B x 1280 x H/32 x W/32`."""
    stages: list[nn.Module] = [nn.Sequential(*_conv_norm(3, 32, 3, stride=2))]
    channels = 32
    for widen, wide, count, stride in _MOBILENET:
        for n in range(count):
            stages.append(_InvertedResidual(channels, wide, stride if n == 0 else 1, widen))
            channels = wide
    stages.append(nn.Sequential(*_conv_norm(channels, 1280, 1)))
    return nn.Sequential(*stages)

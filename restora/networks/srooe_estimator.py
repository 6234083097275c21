"""What predicts SROOE's objective map: VGG-19 features and a U-Net on them. The rest is in `srooe`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.noise_levels import Step, reach
from restora.networks.spec import NetworkSpec, aligned

SOURCE = "Park et al., CVPR 2023"
# VGG-19: width factors of its convolutions, None for a pooling; the layers whose results (before ReLU) are features
_VGG = (1, 1, None, 2, 2, None, 4, 4, 4, 4, None, 8, 8, 8, 8, None, 8, 8, 8, 8)
_FEATURES = (2, 7, 16, 25, 34)
FEATURE_WIDTHS = 1 + 2 + 4 + 8 + 8
ESTIMATOR_STEPS: list[Step] = [2, "down", 2, "down", 2, "down", 2, "up", 2, "up", 2, "up", 2]
# the convolutions of VGG-19 between its poolings, bicubic enlargement to the first size, the estimator
MAP_STEPS: list[Step] = [2, "down", 2, "down", 4, "down", 4, "down", 4, 2, "up", "up", "up", "up", *ESTIMATOR_STEPS]


class _DoubleConvolution(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for first in (channels_in, channels):
            layers += [
                nn.Conv2d(first, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class _Down(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConvolution(channels_in, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class _Up(nn.Module):
    """Doubles the size; where the skip is a pixel larger, because a size was odd, zeros fill the far end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = _DoubleConvolution(channels, channels // 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        rows, columns = (a - b for a, b in zip(skip.shape[-2:], x.shape[-2:], strict=True))
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return self.conv(torch.cat([skip, x], dim=1))


class _Last(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ObjectiveEstimator(nn.Module):
    """The predictor of the objective map (OOE): a U-Net on the picture and its VGG features.

    Shapes: `B x channels x H x W` -> `B x 1 x H x W`, about [0, 1], not clamped. H, W at least 8.

    Args:
        channels: of the input, 1475 for the features of VGG-19. width: at full size, doubled at each of three levels.
    """

    def __init__(self, channels: int = 1475, width: int = 64) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="part", channels=channels, tiling=aligned(8, reach(ESTIMATOR_STEPS, 8)), minimum=8, source=SOURCE
        )
        self.inc = _DoubleConvolution(channels, width)
        for n in range(1, 5):
            self.add_module(f"down{n}", _Down(width * 2 ** (n - 1), width * 2**n))
        for n in range(1, 5):
            self.add_module(f"up{n}", _Up(width * 2 ** (5 - n)))
        self.outc = _Last(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """down4 and up1 belong to the checkpoint and are not called."""
        levels = [self.inc(x)]
        for n in (1, 2, 3):
            levels.append(self.get_submodule(f"down{n}")(levels[-1]))
        y = levels.pop()
        for n in (2, 3, 4):
            y = self.get_submodule(f"up{n}")(y, levels.pop())
        return self.outc(y)


class FeatureStages(nn.Module):
    """VGG-19 on an ImageNet-normalised picture: the last convolution of each of its five stages, before ReLU."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        layers: list[nn.Module] = []
        channels = 3
        for factor in _VGG:
            if factor is None:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, factor * width, 3, padding=1), nn.ReLU()]
            channels = factor * width
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = (x - self.mean) / self.std, []
        for n, layer in enumerate(self.features):
            x = layer(x)
            if n in _FEATURES:
                found.append(x)
        return found

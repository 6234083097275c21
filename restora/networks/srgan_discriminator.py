"""SRGAN's discriminator: strided convolutions with batch normalisation and two dense layers.

Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR 2017, figure 4; the
restoration report, section 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

# maps and stride of the convolutions behind the first
_LAYERS = ((64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2))


class SRGANDiscriminator(nn.Module):
    """One number a picture, the higher the more real: `B x 3 x H x W` -> `B x 1`.

    The paper's dense layers take pictures of 96 x 96. Average pooling to the same 6 x 6 maps stands before them here: it
    changes nothing at 96 x 96 and lets pictures of other sizes in.

    Args:
        sigmoid: return the paper's probability instead of its logit (which a loss computes more precisely).
        grid: side of the maps that the dense layers see.
    """

    def __init__(self, sigmoid: bool = False, grid: int = 6) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        channels = 64
        for maps, stride in _LAYERS:
            layers += [
                nn.Conv2d(channels, maps, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(maps),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = maps
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Linear(channels * grid * grid, 1024), nn.LeakyReLU(0.2, inplace=True), nn.Linear(1024, 1)
        )
        self.spec = NetworkSpec(
            task="discriminator",
            tiling=global_(0, window=16),
            minimum=16,
            half_safe=False,
            source="Ledig et al., CVPR 2017",
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.classifier(self.pool(self.features(x)).flatten(1))
        return torch.sigmoid(y) if self.sigmoid else y


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    dense, last = state.get("classifier.0.weight"), state.get("classifier.2.weight")
    deepest = state.get("features.20.weight")
    if dense is None or last is None or deepest is None or "features.21.running_var" not in state:
        return None
    if tuple(deepest.shape) != (512, 512, 3, 3) or tuple(last.shape) != (1, 1024):
        return None
    return {"grid": math.isqrt(dense.shape[1] // 512)}


FAMILY = Family(
    name="srgan_discriminator",
    build=SRGANDiscriminator,
    variants={"srgan_discriminator": {}},
    identify=_identify,
    paper="Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network (CVPR 2017)",
)

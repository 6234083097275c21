"""The discriminators that train PCARN: a patch discriminator, and three of them on an image pyramid.

Ahn, Kang, Sohn: Efficient Deep Neural Network for Photo-realistic Image Super-Resolution, Pattern Recognition 2022;
the efficiency thesis, equation 2.6 and figure 2.1. The figure labels the last layer k3n3s1; the published code gives
one map, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact

# kernel, maps and stride of the layers between the first and the last
_LAYERS = ((4, 64, 2), (3, 128, 1), (4, 128, 2), (3, 256, 1), (4, 256, 2), (3, 512, 1), (3, 512, 1))


class PatchDiscriminator(nn.Module):
    """Probability that a patch is real: `B x 3 x H x W` in [0, 1] -> `B x 1 x H/8d x W/8d` in (0, 1).

    Args:
        downsample: d, the average pooling before the first layer.
    """

    def __init__(self, downsample: int = 1) -> None:
        super().__init__()
        self.downsample = downsample
        radius, stride = 1, 1  # of the first layer, then grown by each layer's kernel at its stride
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.LeakyReLU(0.01, inplace=True)]
        channels = 64
        for kernel, maps, step in _LAYERS:
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, maps, kernel, stride=step, padding=1),
                    nn.BatchNorm2d(maps),
                    nn.LeakyReLU(0.01, inplace=True),
                )
            )
            radius, stride, channels = radius + (kernel // 2) * stride, stride * step, maps
        layers += [nn.Conv2d(channels, 1, 3, padding=1), nn.Sigmoid()]
        self.body = nn.Sequential(*layers)
        self.spec = NetworkSpec(
            task="discriminator",
            tiling=exact((radius + stride) * downsample),
            minimum=8 * downsample,
            half_safe=False,
            source="Ahn et al., Pattern Recognition 2022",
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.avg_pool2d(x, self.downsample) if self.downsample > 1 else x)


class MultiScaleDiscriminator(nn.Module):
    """Three patch discriminators on the image, its half and its quarter (equation 2.6); returns the list of their maps."""

    def __init__(self, downsamples: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PatchDiscriminator(d) for d in downsamples)
        self.spec = self.discriminators[-1].spec

    def forward(self, x: Tensor) -> list[Tensor]:
        return [discriminator(x) for discriminator in self.discriminators]


def _build(downsample: int = 1, pyramid: bool = False) -> nn.Module:
    return MultiScaleDiscriminator() if pyramid else PatchDiscriminator(downsample)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    multi = "discriminators.2.body.9.weight" in state
    deepest = state.get("discriminators.2.body.8.0.weight" if multi else "body.8.0.weight")
    if deepest is None or tuple(deepest.shape) != (512, 512, 3, 3) or not (multi or "body.9.weight" in state):
        return None
    # the pooling has no parameters: a single patch discriminator has the same shapes for each
    return {"pyramid": multi}


FAMILY = Family(
    name="pcarn_discriminator",
    build=_build,
    variants={
        **{f"pcarn_discriminator_{d}": {"downsample": d} for d in (1, 2, 4)},
        "pcarn_discriminator": {"pyramid": True},
    },
    identify=_identify,
    paper="Efficient Deep Neural Network for Photo-realistic Image Super-Resolution (Pattern Recognition 2022)",
)

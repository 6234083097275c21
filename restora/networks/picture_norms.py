"""Normalisations that keep running statistics, but can use the picture's own, as GAN papers run their generators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from restora.networks.picture_statistics import normalise_by_picture


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation without scale and offset, with running statistics in the state (which `eval` uses)."""

    own_statistics = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return normalise_by_picture(x, None, None, self.eps) if self.own_statistics else super().forward(x)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation; with the picture's own statistics each picture of a batch is normalised alone."""

    own_statistics = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.own_statistics:
            return super().forward(x)
        return normalise_by_picture(x, self.weight, self.bias, self.eps)


@contextlib.contextmanager
def own_statistics(net: nn.Module) -> Iterator[None]:
    """Inside, the normalisations of `net` use the statistics of each picture and leave the running ones untouched."""
    switched: list[Any] = [m for m in net.modules() if hasattr(m, "own_statistics")]
    for module in switched:
        module.own_statistics = True
    try:
        yield
    finally:
        for module in switched:
            module.own_statistics = False

"""ZSSR: the small network that is trained on the one picture it enlarges.

Shocher, Cohen, Irani: "Zero-Shot" Super-Resolution using Deep Internal Learning, CVPR 2018; the efficiency thesis, section 2.6.
The training is in `restora.restorers.zssr`; a network on its own enlarges nothing well but the picture it was trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact


class ZSSR(nn.Module):
    """Convolutions 3x3 with ReLU between them, which give the difference to an input that was enlarged beforehand.

    Shapes: `B x C x H x W` in [0, 1] -> the same. 225,091 parameters with the paper's sizes and RGB.

    Args:
        channels: of the picture, 3 or 1. width: maps of the inner layers. depth: number of convolutions.
    """

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 8) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(1, 2, 3, 4),
            channels=channels,
            colour="rgb" if channels == 3 else "grey",
            grid="output",
            tiling=exact(depth),
            source="Shocher et al., CVPR 2018",
        )
        sizes = [channels, *[width] * (depth - 1), channels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number, layer in enumerate(self.layers):
            y = layer(y if number == 0 else y.relu())
        return x + y


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    depth = len(state) // 2
    if depth < 2 or set(state) != {f"layers.{n}.{kind}" for n in range(depth) for kind in ("weight", "bias")}:
        return None
    first, last = state["layers.0.weight"], state[f"layers.{depth - 1}.weight"]
    if first.ndim != 4 or first.shape[1] not in (1, 3) or last.shape[0] != first.shape[1]:
        return None
    return {"channels": first.shape[1], "width": first.shape[0], "depth": depth}


FAMILY = Family(
    name="zssr",
    build=ZSSR,
    variants={"zssr": {}, "zssr_gray": {"channels": 1}},
    identify=_identify,
    paper="Zero-Shot Super-Resolution using Deep Internal Learning (CVPR 2018)",
)

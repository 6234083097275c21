"""SRCNN: three convolutions on an image that was enlarged bicubically beforehand.

Dong, Loy, He, Tang: Image Super-Resolution Using Deep Convolutional Networks, TPAMI 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact


class SRCNN(nn.Module):
    """The 9-5-5 network with 64 and 32 maps. The scale is the caller's: the input already has the output's size.

    Shapes: `B x C x H x W` -> the same. One channel means luminance of BT.601 divided by 255; three mean RGB in [0, 1].
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(2, 3, 4),
            channels=channels,
            colour="luma" if channels == 1 else "rgb",
            grid="output",
            tiling=exact(4 + 2 + 2),
            source="Dong et al., TPAMI 2016",
        )
        self.conv1 = nn.Conv2d(channels, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, channels, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if set(state) != {f"conv{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")}:
        return None
    channels = state["conv1.weight"].shape[1]
    expected = [(64, channels, 9, 9), (32, 64, 5, 5), (channels, 32, 5, 5)]
    if channels not in (1, 3) or [tuple(state[f"conv{i}.weight"].shape) for i in (1, 2, 3)] != expected:
        return None
    return {"channels": channels}


FAMILY = Family(
    name="srcnn",
    build=SRCNN,
    variants={"srcnn": {"channels": 1}, "srcnn_rgb": {"channels": 3}},
    identify=_identify,
    paper="Image Super-Resolution Using Deep Convolutional Networks (TPAMI 2016)",
)

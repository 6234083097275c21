"""FSRCNN without its expanding layer: the network of the source's ablation, nothing to ship.

Dong, Loy, Tang: Accelerating the Super-Resolution Convolutional Neural Network, ECCV 2016; the restoravision specification,
section 2.2: leaving the layer out costs up to 0.3 dB on Set5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.layers import SubpixelDeconvolution
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact


class UnexpandedFSRCNN(nn.Module):
    """FSRCNN(d, s, m) whose deconvolution sees the s shrunken maps. Shapes and first weights as `FSRCNN`."""

    def __init__(self, scale: int, d: int = 56, s: int = 12, m: int = 4) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(scale,),
            channels=1,
            colour="luma",
            tiling=exact(2 + m + math.ceil(4 / scale)),
            source="Dong et al., ECCV 2016",
        )
        self.features = nn.Sequential(nn.Conv2d(1, d, 5, padding=2), nn.PReLU(d))
        mapping: list[nn.Module] = [nn.Conv2d(d, s, 1), nn.PReLU(s)]
        for _ in range(m):
            mapping += [nn.Conv2d(s, s, 3, padding=1), nn.PReLU(s)]
        self.mapping = nn.Sequential(*mapping)
        self.deconvolution = SubpixelDeconvolution(s, 1, 9, scale)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.deconvolution.weight, std=0.001)
        nn.init.zeros_(self.deconvolution.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.deconvolution(self.mapping(self.features(x)))


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, shrink, last = (state.get(k) for k in ("features.0.weight", "mapping.0.weight", "deconvolution.weight"))
    if first is None or shrink is None or last is None or tuple(last.shape[1:]) != (1, 9, 9):
        return None
    mappings = sum(k.startswith("mapping.") and tuple(v.shape[2:]) == (3, 3) for k, v in state.items())
    # as in FSRCNN, nothing in the shapes depends on the scale
    return {"d": first.shape[0], "s": shrink.shape[0], "m": mappings}


FAMILY = Family(
    name="fsrcnn_forms",
    build=UnexpandedFSRCNN,
    variants={f"fsrcnn_unexpanded_x{n}": {"scale": n} for n in (2, 3, 4)},
    identify=_identify,
    paper="Accelerating the Super-Resolution Convolutional Neural Network (ECCV 2016): ablation",
)

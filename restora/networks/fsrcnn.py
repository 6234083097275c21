"""FSRCNN: super-resolution of the luminance in low-resolution space, enlarged by one deconvolution at the end.

Dong, Loy, Tang: Accelerating the Super-Resolution Convolutional Neural Network, ECCV 2016.
Source document: the restoration report, section on FSRCNN (its formula chain leaves out the expanding layer that its
prose and its complexity count include; the layer is here).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.layers import SubpixelDeconvolution
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact


class FSRCNN(nn.Module):
    """FSRCNN(d, s, m): feature extraction 5x5, shrinking 1x1, m mappings 3x3, expanding 1x1, deconvolution 9x9.

    Shapes: `B x 1 x H x W` -> `B x 1 x scale*H x scale*W`, luminance of BT.601 divided by 255.

    Args:
        scale: the stride of the deconvolution; the only layer that depends on it.
        d: feature maps of the low-resolution features. s: of the shrunken ones. m: number of mapping layers.
    """

    def __init__(self, scale: int, d: int = 56, s: int = 12, m: int = 4) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(scale,),
            channels=1,
            colour="luma",
            # 5x5 and m 3x3 convolutions, then the deconvolution's taps that reach over an input pixel
            tiling=exact(2 + m + math.ceil(4 / scale)),
            source="Dong et al., ECCV 2016",
        )
        self.first_part = nn.Sequential(nn.Conv2d(1, d, 5, padding=2), nn.PReLU(d))
        middle: list[nn.Module] = [nn.Conv2d(d, s, 1), nn.PReLU(s)]
        for _ in range(m):
            middle += [nn.Conv2d(s, s, 3, padding=1), nn.PReLU(s)]
        middle += [nn.Conv2d(s, d, 1), nn.PReLU(d)]
        self.mid_part = nn.Sequential(*middle)
        self.last_part = SubpixelDeconvolution(d, 1, 9, scale)
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation for PReLU (slope 0.25) and N(0, 0.001) for the deconvolution, as in the paper."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.last_part.weight, std=0.001)
        nn.init.zeros_(self.last_part.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.last_part(self.mid_part(self.first_part(x)))


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, last = state.get("first_part.0.weight"), state.get("last_part.weight")
    if first is None or last is None or "mid_part.0.weight" not in state or tuple(last.shape[1:]) != (1, 9, 9):
        return None
    mappings = sum(
        1 for key, value in state.items() if key.startswith("mid_part.") and tuple(value.shape[2:]) == (3, 3)
    )
    # 3x3 .. 9x9: nothing in the shapes depends on the scale
    return {"d": first.shape[0], "s": state["mid_part.0.weight"].shape[0], "m": mappings}


FAMILY = Family(
    name="fsrcnn",
    build=FSRCNN,
    variants={
        **{f"fsrcnn_x{n}": {"scale": n} for n in (2, 3, 4)},
        **{f"fsrcnn_s_x{n}": {"scale": n, "d": 32, "s": 5, "m": 1} for n in (2, 3, 4)},
    },
    identify=_identify,
    paper="Accelerating the Super-Resolution Convolutional Neural Network (ECCV 2016)",
)

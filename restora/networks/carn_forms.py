"""CARN without its parts and with other first weights: the networks of the thesis's ablation, nothing to ship.

The efficiency thesis, tables 2.1 (local and global cascading, global residual) and 2.3 (initialisation). With everything it is
PCARN's body; with nothing a plain chain of residual blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from restora.networks.carn import identify_scale
from restora.networks.layers import DIV2K_MEAN, MeanShift, MultiScaleUpsampler, cascade, upsampled_radius
from restora.networks.pcarn import _fusion, _Residual
from restora.networks.registry import Family
from restora.networks.resblocks import count_blocks
from restora.networks.spec import NetworkSpec, exact

# name -> factor, numerator under the root, normal or uniform; F is the number of values that a weight's output sums over
_FIRST: dict[str, tuple[float, float, bool]] = {
    "normal_small": (0.1, 2, True),
    "uniform_he_small": (0.1, 6, False),
    "uniform_small": (0.1, 1, False),
    "normal_he": (1.0, 2, True),
    "uniform_he": (1.0, 6, False),
    "uniform": (1.0, 1, False),
}
Initialisation = Literal["normal_small", "uniform_he_small", "uniform_small", "normal_he", "uniform_he", "uniform"]


class _Body(nn.Module):
    """Units one after another, with a fusion after each when they are cascading."""

    def __init__(self, units: list[nn.Module], channels: int, cascading: bool) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        counts = range(2, len(units) + 2) if cascading else ()
        self.fusions = nn.ModuleList(_fusion(parts, channels) for parts in counts)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.fusions):
            return cascade(x, self.units, self.fusions, "published")
        for unit in self.units:
            x = unit(x)
        return x


class CARNForm(nn.Module):
    """A CARN whose parts can be left out. Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x sH x sW`.

    Args:
        scale: s. channels, blocks, units: width, B and U.
        local, global_: cascading connections within and between the blocks. residual: the first features added to the last.
        initialisation: of all weights (table 2.3): `0.1 sqrt(2 / F)` normal, `0.1 sqrt(6 / F)` and `0.1 sqrt(1 / F)` uniform, and
            the three without the 0.1; ``uniform``, sqrt(1 / F), is the thesis's choice. Biases begin at 0.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 3,
        units: int = 3,
        local: bool = True,
        global_: bool = True,
        residual: bool = True,
        initialisation: Initialisation = "uniform",
    ) -> None:
        super().__init__()
        self.residual = residual
        radius = math.ceil(1 + 2 * blocks * units + upsampled_radius(scale))
        source = "the efficiency thesis, tables 2.1 and 2.3"
        self.spec = NetworkSpec(task="super-resolution", scales=(scale,), tiling=exact(radius), source=source)
        self.sub_mean, self.add_mean = MeanShift(DIV2K_MEAN, -1), MeanShift(DIV2K_MEAN, 1)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        made = [_Body([_Residual(channels, None) for _ in range(units)], channels, local) for _ in range(blocks)]
        self.body = _Body(list(made), channels, global_)
        self.upsample = MultiScaleUpsampler(channels, scale)
        self.exit = nn.Conv2d(channels, 3, 3, padding=1)
        factor, numerator, normal = _FIRST[initialisation]
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("_mean"):
                size = factor * math.sqrt(numerator / module.weight[0].numel())
                if normal:
                    nn.init.normal_(module.weight, std=size)
                else:
                    nn.init.uniform_(module.weight, -size, size)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(self.sub_mean(x))
        y = self.body(x)
        return self.add_mean(self.exit(self.upsample(x + y if self.residual else y)))


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if "body.units.0.units.0.conv1.weight" not in state or "entry.weight" not in state:
        return None
    return {
        "scale": identify_scale(state),
        "channels": state["entry.weight"].shape[0],
        "blocks": count_blocks(state, "body.units.{}.units.0.conv1.weight"),
        "units": count_blocks(state, "body.units.0.units.{}.conv1.weight"),
        "local": "body.units.0.fusions.0.weight" in state,
        "global_": "body.fusions.0.weight" in state,
    }


FAMILY = Family(
    name="carn_forms",
    build=CARNForm,
    variants={
        "carn_plain_x4": {"local": False, "global_": False, "residual": False},
        "carn_local_x4": {"global_": False, "residual": False},
        "carn_global_x4": {"local": False, "residual": False},
        "carn_both_x4": {},
    },
    identify=_identify,
    paper="the efficiency thesis, chapter 2: ablation of CARN",
)

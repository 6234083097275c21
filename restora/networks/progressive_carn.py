"""Progressive CARN: three CARN modules that each double the size, trained one after the other, for x8.

Ahn, Kang, Sohn: Image Super-resolution via Progressive Cascading Residual Network, CVPR Workshops 2018; the efficiency thesis,
chapter 3. The thesis says B=4 and U=8 in one place and "B8U4" in others: only B=8, U=4 gives its 9.46 M parameters and
2,144 G Mult-Adds (at 1920 x 1080). The code published for the NTIRE 2018 contest is another network (128 channels, B6U5,
pre-activation, the enlarged input added); this is the thesis's. The "+" of its tables is the engine's self-ensemble.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.carn import count_modules
from restora.networks.layers import (
    DIV2K_MEAN,
    CascadeForm,
    MeanShift,
    PixelShuffleUpsampler,
    cascade,
    upsampled_radius,
)
from restora.networks.pcarn import PCARN
from restora.networks.registry import Family
from restora.networks.resblocks import count_blocks
from restora.networks.spec import NetworkSpec, exact


class CARNModule(nn.Module):
    """A cascading body with a global residual and, when `enlarge`, an upsampler by 2; without CARN's last convolution."""

    def __init__(self, channels: int, blocks: int, units: int, form: CascadeForm, enlarge: bool) -> None:
        super().__init__()
        self.blocks, self.form = blocks, form
        for n in range(1, blocks + 1):
            self.add_module(f"b{n}", PCARN.make_block(channels, units, None, False, form))
            self.add_module(f"c{n}", PCARN.make_fusion(n + 1, channels))
        self.up = PixelShuffleUpsampler(channels, 2) if enlarge else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        blocks, fusions = ([self.get_submodule(f"{letter}{n}") for n in range(1, self.blocks + 1)] for letter in "bc")
        return self.up(x + cascade(x, blocks, fusions, self.form))


class ProgressiveCARN(nn.Module):
    """A convolution, `stages` CARN modules, and `to_rgb`, the convolution of the last module to colour.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x sH x sW` with s = 2^stages.

    Training goes by stages (algorithm 1 of the thesis): train with one stage, `grow`, train with two, and so on, each time with
    the optimiser on `parameter_groups(rate)`. The picture of each size is the target of its stage; nothing is faded in.

    Args:
        stages: number of modules. blocks, units, channels: B, U and the width.
        progressive: True doubles the size behind each module; False (CARN-B24U4, the thesis's comparison of equal size) keeps
            all modules at low resolution and enlarges once at the end.
        form: how the cascades concatenate, see `layers.cascade`.
    """

    def __init__(
        self,
        stages: int = 3,
        blocks: int = 8,
        units: int = 4,
        channels: int = 64,
        progressive: bool = True,
        form: CascadeForm = "published",
    ) -> None:
        super().__init__()
        self.blocks, self.units, self.channels, self.form = blocks, units, channels, form
        self.sub_mean, self.add_mean = MeanShift(DIV2K_MEAN, -1), MeanShift(DIV2K_MEAN, 1)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        self.progression = nn.ModuleList(
            CARNModule(channels, blocks, units, form, enlarge=progressive) for _ in range(stages)
        )
        self.up = nn.Identity() if progressive else PixelShuffleUpsampler(channels, 2**stages)
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)
        self.progressive = progressive
        self._promise()

    def _promise(self) -> None:
        stages, body = len(self.progression), 2 * self.blocks * self.units
        if self.progressive:  # each module's body and upsampling convolution at its own resolution, then the last one
            radius = 1 + sum((body + 1) / 2**n for n in range(stages)) + 0.5**stages
        else:
            radius = 1 + stages * body + upsampled_radius(2**stages)
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(2**stages,),
            tiling=exact(math.ceil(radius)),
            source="Ahn et al., CVPRW 2018; the efficiency thesis, chapter 3",
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(self.sub_mean(x))
        for module in self.progression:
            x = module(x)
        return self.add_mean(self.to_rgb(self.up(x)))

    def grow(self) -> None:
        """Adds the next stage: a new module and a new `to_rgb` in place of the old. The optimiser has to be made anew.

        Raises:
            UsageError: the network is not progressive.
        """
        if not self.progressive:
            raise UsageError("Only a progressive network grows; this one enlarges once, at its end.")
        module = CARNModule(self.channels, self.blocks, self.units, self.form, enlarge=True)
        like = self.to_rgb.weight
        self.progression.append(module.to(like))
        self.to_rgb = nn.Conv2d(self.channels, 3, 3, padding=1).to(like)
        self._promise()

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Groups for an optimiser: `rate` for the newest module and `to_rgb`, a tenth of it for each stage that a module is
        older. The entry is as old as the first module."""
        ages = range(len(self.progression) - 1, -1, -1)
        members = [list(module.parameters()) for module in self.progression]
        members[0] += self.entry.parameters()
        members[-1] += [*self.to_rgb.parameters(), *self.up.parameters()]
        return [{"params": own, "lr": rate * 0.1**age} for own, age in zip(members, ages, strict=True)]


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not {"entry.weight", "to_rgb.weight", "progression.0.c1.weight", "progression.0.b1.c1.weight"} <= state.keys():
        return None
    first = state.get("progression.0.b1.b1.conv1.weight")
    if first is None or tuple(state["entry.weight"].shape) != (first.shape[0], 3, 3, 3):
        return None
    return {
        "stages": count_blocks(state, "progression.{}.c1.weight"),
        "blocks": count_modules(state, "progression.0.c{}.weight"),
        "units": count_modules(state, "progression.0.b1.c{}.weight"),
        "channels": first.shape[0],
        "progressive": "progression.0.up.body.0.weight" in state,
    }


FAMILY = Family(
    name="progressive_carn",
    build=ProgressiveCARN,
    variants={
        **{f"progressive_carn_x{2**n}": {"stages": n} for n in (1, 2, 3)},
        "carn_b24u4_x8": {"stages": 3, "progressive": False},
    },
    identify=_identify,
    paper="Image Super-resolution via Progressive Cascading Residual Network (CVPRW 2018)",
)

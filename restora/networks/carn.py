"""CARN and CARN-M: cascading residual networks, one net for x2, x3 and x4.

Ahn, Kang, Sohn: Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network, ECCV 2018; the
efficiency thesis, sections 2.1 and 2.2. The thesis drops the ReLU after the 1x1 fusions and adds a global residual:
that later form is `pcarn`; this file is the form whose weights were published as CARN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.layers import (
    DIV2K_MEAN,
    AddRelu,
    CascadeForm,
    MeanShift,
    MultiScaleUpsampler,
    cascade,
    upsampled_radius,
)
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact


class _Residual(AddRelu):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )


class _EfficientResidual(AddRelu):
    """Two group convolutions and a 1x1 convolution that mixes the groups (thesis, equations 2.8 to 2.10)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
        )


class _Fusion(nn.Module):
    def __init__(self, parts: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(parts * channels, channels, 1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _CascadingBlock(nn.Module):
    """`units` residual blocks (or one, called `units` times) with a fusion after each."""

    def __init__(self, channels: int, units: int, groups: int | None, recursive: bool, form: CascadeForm) -> None:
        super().__init__()
        self.units, self.recursive, self.form = units, recursive, form
        for n in range(1, (1 if recursive else units) + 1):
            self.add_module(f"b{n}", _Residual(channels) if groups is None else _EfficientResidual(channels, groups))
        for n in range(1, units + 1):
            self.add_module(f"c{n}", _Fusion(n + 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        numbers = range(1, self.units + 1)
        units = [self.get_submodule("b1" if self.recursive else f"b{n}") for n in numbers]
        return cascade(x, units, [self.get_submodule(f"c{n}") for n in numbers], self.form)


class CARN(nn.Module):
    """CARN, and CARN-M when `groups` is given.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x sH x sW`. A multi-scale network takes `scale` in `forward`.

    Args:
        scale: the single scale of the network; None builds the upsamplers for 2, 3 and 4.
        groups: groups of the 3x3 convolutions (CARN-M: 4); None is the plain residual block of CARN.
        recursive: share one residual block within each cascading block (CARN-M).
        blocks, units, channels: B, U and the width of the thesis.
        form: how the cascade concatenates, see `layers.cascade`.
    """

    # what PCARN, the later form, does otherwise
    make_block: Callable[..., nn.Module] = _CascadingBlock
    make_fusion: Callable[..., nn.Module] = _Fusion
    global_residual = False
    paper = "Ahn et al., ECCV 2018"

    def __init__(
        self,
        scale: int | None = None,
        groups: int | None = None,
        recursive: bool | None = None,
        blocks: int = 3,
        units: int = 3,
        channels: int = 64,
        form: CascadeForm = "published",
    ) -> None:
        super().__init__()
        recursive = groups is not None if recursive is None else recursive
        self.blocks, self.form = blocks, form
        scales = (2, 3, 4) if scale is None else (scale,)
        radius = math.ceil(1 + 2 * blocks * units + max(map(upsampled_radius, scales)))
        self.spec = NetworkSpec(task="super-resolution", scales=scales, tiling=exact(radius), source=self.paper)
        self.sub_mean, self.add_mean = MeanShift(DIV2K_MEAN, -1), MeanShift(DIV2K_MEAN, 1)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        for n in range(1, blocks + 1):
            self.add_module(f"b{n}", self.make_block(channels, units, groups, recursive, form))
        for n in range(1, blocks + 1):
            self.add_module(f"c{n}", self.make_fusion(n + 1, channels))
        self.upsample = MultiScaleUpsampler(channels, scale, groups or 1)
        self.exit = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor, scale: int | None = None) -> Tensor:
        numbers = range(1, self.blocks + 1)
        x = self.entry(self.sub_mean(x))
        y = cascade(
            x, [self.get_submodule(f"b{n}") for n in numbers], [self.get_submodule(f"c{n}") for n in numbers], self.form
        )
        y = x + y if self.global_residual else y
        return self.add_mean(self.exit(self.upsample(y, scale)))

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of all scales as one of this scale, to begin training with."""
        if len(self.spec.scales) > 1:
            return dict(state)
        (scale,) = self.spec.scales
        return {key.replace(f"upsample.up{scale}.", "upsample.up."): value for key, value in state.items()}


def count_modules(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many of `pattern.format(1)`, `pattern.format(2)`, ... are in the state dict, without a gap."""
    n = 0
    while pattern.format(n + 1) in state:
        n += 1
    return n


def identify_scale(state: Mapping[str, Tensor]) -> int | bool | None:
    """The single scale of the upsampler, None for a multi-scale one, False if there is neither."""
    if "upsample.up2.body.0.weight" in state and "upsample.up4.body.3.weight" in state:
        return None
    if "upsample.up.body.0.weight" not in state:
        return False
    first = state["upsample.up.body.0.weight"].shape[0] // state["entry.weight"].shape[0]
    steps = 1
    while f"upsample.up.body.{3 * steps}.weight" in state:
        steps += 1
    return 3 if first == 9 else 2**steps


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if (
        not {"entry.weight", "exit.weight", "c1.body.0.weight", "b1.b1.body.0.weight", "b1.c1.body.0.weight"}
        <= state.keys()
    ):
        return None
    scale = identify_scale(state)
    if scale is False or state["entry.weight"].shape[1] != 3:
        return None
    channels = state["entry.weight"].shape[0]
    efficient = "b1.b1.body.4.weight" in state
    units = count_modules(state, "b1.c{}.body.0.weight")
    return {
        "scale": scale,
        "groups": channels // state["b1.b1.body.0.weight"].shape[1] if efficient else None,
        "recursive": units > 1 and "b1.b2.body.0.weight" not in state,
        "blocks": count_modules(state, "c{}.body.0.weight"),
        "units": units,
        "channels": channels,
    }


FAMILY = Family(
    name="carn",
    build=CARN,
    variants={
        "carn": {"recursive": False},
        "carn_m": {"groups": 4, "recursive": True},
        **{f"carn_x{s}": {"scale": s, "recursive": False} for s in (2, 3, 4)},
        # the efficiency thesis's CARN-B3U3 of table 3.1: 1,259,587 parameters
        "carn_x8": {"scale": 8, "recursive": False},
        **{f"carn_m_x{s}": {"scale": s, "groups": 4, "recursive": True} for s in (2, 3, 4)},
    },
    identify=_identify,
    paper="Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network (ECCV 2018)",
)

"""PCARN and PCARN-M: CARN without activations after the fusions and with a global residual; and the patch
discriminators that train it for perceptual quality.

Ahn, Kang, Sohn: Efficient Deep Neural Network for Photo-realistic Image Super-Resolution, Pattern Recognition 2022;
the efficiency thesis, sections 2.1 and 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.carn import CARN, count_modules, identify_scale
from restora.networks.layers import CascadeForm, cascade
from restora.networks.registry import Family


class _Residual(nn.Module):
    """conv, ReLU, conv; in the mobile form ReLU and a 1x1 convolution more. The sum with the input is rectified."""

    def __init__(self, channels: int, groups: int | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups or 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups or 1)
        if groups is not None:
            self.pw = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if hasattr(self, "pw"):
            y = self.pw(F.relu(y))
        return F.relu(x + y)


class _CascadingBlock(nn.Module):
    def __init__(self, channels: int, units: int, groups: int | None, recursive: bool, form: CascadeForm) -> None:
        super().__init__()
        self.units, self.form = units, form
        shared = _Residual(channels, groups)
        for n in range(1, units + 1):  # the published state dict lists the shared block under every name
            self.add_module(f"b{n}", shared if recursive or n == 1 else _Residual(channels, groups))
        for n in range(1, units + 1):
            self.add_module(f"c{n}", _fusion(n + 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        numbers = range(1, self.units + 1)
        return cascade(
            x, [self.get_submodule(f"b{n}") for n in numbers], [self.get_submodule(f"c{n}") for n in numbers], self.form
        )


def _fusion(parts: int, channels: int) -> nn.Module:
    return nn.Conv2d(parts * channels, channels, 1)


class PCARN(CARN):
    """PCARN, and PCARN-M when `groups` is given. Shapes and arguments as `CARN`."""

    make_block = _CascadingBlock
    make_fusion = staticmethod(_fusion)
    global_residual = True
    paper = "Ahn et al., Pattern Recognition 2022"


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not {"entry.weight", "exit.weight", "c1.weight", "b1.b1.conv1.weight", "b1.c1.weight"} <= state.keys():
        return None
    scale = identify_scale(state)
    if scale is False or state["entry.weight"].shape[1] != 3:
        return None
    channels = state["entry.weight"].shape[0]
    mobile = "b1.b1.pw.weight" in state
    first, second = state["b1.b1.conv1.weight"], state.get("b1.b2.conv1.weight")
    return {
        "scale": scale,
        "groups": channels // first.shape[1] if mobile else None,
        # a shared block is listed once (our files) or as equal tensors (published ones)
        "recursive": mobile and (second is None or bool((first == second).all())),
        "blocks": count_modules(state, "c{}.weight"),
        "units": count_modules(state, "b1.c{}.weight"),
        "channels": channels,
    }


FAMILY = Family(
    name="pcarn",
    build=PCARN,
    variants={
        "pcarn": {"recursive": False},
        "pcarn_m": {"groups": 4, "recursive": True},
        **{f"pcarn_x{s}": {"scale": s, "recursive": False} for s in (2, 3, 4)},
        **{f"pcarn_m_x{s}": {"scale": s, "groups": 4, "recursive": True} for s in (2, 3, 4)},
    },
    identify=_identify,
    paper="Efficient Deep Neural Network for Photo-realistic Image Super-Resolution (Pattern Recognition 2022)",
)

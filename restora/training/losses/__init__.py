"""Training losses: small modules with typed options, built by name.

loss = build_loss({"kind": "charbonnier", "weight": 1.0, "eps": 1e-3})
value = loss.weight * loss(output, target)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from restora.errors import RecipeError
from restora.training.losses.base import Loss, Options
from restora.training.losses.features import (
    DISTS,
    LPIPS,
    VGG,
    Style,
    find_backbone,
    layer_names,
    load_backbone,
    lpips_map,
)
from restora.training.losses.multiscale import MultiScale
from restora.training.losses.pixel import L1, L2, PSNR, Charbonnier, SmoothL1
from restora.training.losses.structure import SSIM, Edge, Frequency, Grid, Sobel, TotalVariation, laplacian, ssim_map

__all__ = [
    "DISTS",
    "L1",
    "L2",
    "LPIPS",
    "PSNR",
    "SSIM",
    "VGG",
    "Charbonnier",
    "Edge",
    "Frequency",
    "Grid",
    "Loss",
    "MultiScale",
    "Options",
    "SmoothL1",
    "Sobel",
    "Style",
    "TotalVariation",
    "build_loss",
    "build_losses",
    "find_backbone",
    "laplacian",
    "layer_names",
    "load_backbone",
    "loss_names",
    "loss_options",
    "lpips_map",
    "ssim_map",
    "weighted",
]

_KINDS: dict[str, type[Loss]] = {
    kind.name: kind
    for kind in (
        *(L1, L2, SmoothL1, Charbonnier, PSNR),
        *(SSIM, Edge, Sobel, Grid, Frequency, TotalVariation, MultiScale),
        *(VGG, Style, LPIPS, DISTS),
    )
}


def loss_names() -> list[str]:
    """The kinds of losses, sorted."""
    return sorted(_KINDS)


def loss_options(kind: str) -> type[Options]:
    """The pydantic model of a kind's options (for schemas and forms).

    Raises:
        RecipeError: no such kind.
    """
    return _kind(kind).Options


def build_loss(config: Mapping[str, Any]) -> Loss:
    """A loss from `{"kind": "l1", "weight": 1.0, ...}`; the other keys are the kind's options.

    Raises:
        RecipeError: no such kind, an unknown option or an impossible value.
        WeightsError: a loss on features whose weights are missing.
    """
    options = dict(config)
    if "kind" not in options:
        raise RecipeError(f"A loss says its kind, one of {', '.join(loss_names())}.")
    return _kind(options.pop("kind"))(**options)


def build_losses(configs: Sequence[Mapping[str, Any]]) -> dict[str, Loss]:
    """Several losses by name; a second of a kind is called `l1_2`, and so on."""
    losses: dict[str, Loss] = {}
    for config in configs:
        loss = build_loss(config)
        same = sum(other.name == loss.name for other in losses.values())
        losses[f"{loss.name}_{same + 1}" if same else loss.name] = loss
    return losses


def weighted(
    losses: Mapping[str, Loss], output: Tensor, target: Tensor, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """The weighted terms by name; their sum is the objective. Terms of weight 0 are left out."""
    return {name: loss.weight * loss(output, target, mask) for name, loss in losses.items() if loss.weight}


def _kind(name: Any) -> type[Loss]:
    if name not in _KINDS:
        near = difflib.get_close_matches(str(name), _KINDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RecipeError(f"There is no loss '{name}'; they are {', '.join(loss_names())}.{hint}")
    return _KINDS[name]

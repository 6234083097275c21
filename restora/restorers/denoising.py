"""Denoisers for solvers: anything that takes a noise level, as a plain function of a tensor and sigma."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from restora.engine import Settings
from restora.errors import UsageError
from restora.restorers.base import Restorer
from restora.restorers.enhance import Enhancer
from restora.restorers.upscale import Source
from restora.solvers import Denoiser


def denoiser(model: str | Path | nn.Module | Restorer, settings: Settings = Settings()) -> Denoiser:
    """A function `(x, sigma) -> x` of tensors `B x C x H x W` in [0, 1] and a noise level on the 0-255 scale.

    Pictures of any size go through it in tiles, as the restorer's own settings say, and come back on their own device.
    A sigma outside the range that the model knows is brought to its end.

    Args:
        model: a name or file for `load`, a network of `restora.networks`, or a restorer.
        settings: device, precision and tile for what is loaded here; a restorer has its own.

    Raises:
        UsageError: it takes no sigma. WeightsError: it cannot be loaded.
    """
    restorer = _restorer(model, settings)
    if "sigma" not in restorer.controls.model_fields:
        raise UsageError(
            f"'{restorer.name}' takes no noise level, so it cannot be the denoiser of a solver; DRUNet, FFDNet and others "
            "with a control 'sigma' can."
        )
    low, high = _range(restorer)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        result = restorer(x, sigma=min(max(float(sigma), low), high)).tensor
        return result.to(x)

    return denoise


def _restorer(model: str | Path | nn.Module | Restorer, settings: Settings) -> Restorer:
    from restora.restorers.loading import load

    if isinstance(model, Restorer):
        return model
    if isinstance(model, nn.Module):
        name = type(model).__name__
        net = model.requires_grad_(False)
        return Enhancer(name, Source(name, "", lambda: net), settings)
    return load(model, device=settings.device, precision=settings.precision, threads=settings.threads)


def _range(restorer: Restorer) -> tuple[float, float]:
    """Lowest and highest sigma, from the network's spec or the control's own bounds."""
    spec: Any = getattr(restorer, "spec", None)
    for control in spec.controls if spec is not None else ():
        if control.name == "sigma":
            return control.low or 0.0, control.high if control.high is not None else float("inf")
    bounds = restorer.controls.model_fields["sigma"].metadata
    low = next((b.ge for b in bounds if hasattr(b, "ge")), 0.0)
    return low, next((b.le for b in bounds if hasattr(b, "le")), float("inf"))

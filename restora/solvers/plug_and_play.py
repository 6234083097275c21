"""Plug-and-play ADMM and regularisation by denoising (RED), with any denoiser.

Venkatakrishnan, Bouman, Wohlberg: Plug-and-Play Priors for Model Based Reconstruction, GlobalSIP 2013; Chan, Wang, Elgendy:
Plug-and-Play ADMM for Image Restoration, IEEE TCI 2017 (falling noise levels). Romano, Elad, Milanfar: The Little Engine That
Could: Regularization by Denoising, SIAM J. Imaging Sciences 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.solvers.base import Denoiser, Monitor, Problem, Solver
from restora.solvers.denoisers import denoiser
from restora.solvers.half_quadratic import LEAST_SIGMA, Splitting, schedule


@dataclass(frozen=True)
class ADMM(Solver):
    """Plug-and-play ADMM.

    As DPIR, but what the data equation and the denoiser disagree about is summed up (the scaled dual variable) and held against
    both, so that they come to agree. Costs a data equation and a denoiser's call an iteration.

    Args:
        denoise: the denoiser, or the name of one that needs no weights (``dct``, ``tv``, ``nlm``, ``bm3d``).
        iterations: how many. first, last: the denoiser's first and last level, 0-255 scale, spaced logarithmically; None for
            `last` is the noise, at least the scale when that is above 1.
        strength: lambda, the weight of the prior; 1 is what a denoiser that is right about its own level implies.
    """

    name = "admm"
    title = "Plug-and-play ADMM"
    any_scale = True
    iterative = True

    denoise: Denoiser | str = "dct"
    iterations: int = 10
    first: float = 49.0
    last: float | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check(self.iterations, self.denoise)

    @torch.no_grad()
    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        sigma = max(problem.sigma, LEAST_SIGMA)
        last = self.last if self.last is not None else max(sigma, problem.scale if problem.scale > 1 else 0)
        prior = denoiser(self.denoise)
        split = Splitting.of(problem)
        v = split.start
        dual = torch.zeros_like(v)
        before = None
        steps = zip(*schedule(self.iterations, sigma, self.first, last, weight=self.strength), strict=True)
        for i, (alpha, level) in enumerate(steps):
            if before is not None:
                dual = dual * (before / alpha)  # the multiplier itself does not change when its scale does
            before = alpha
            x = split.data(v - dual, alpha)
            v = prior(x + dual, level)
            dual = dual + x - v
            if split.tell(monitor, i + 1, self.iterations, v):
                break
        return split.model.crop(v)


@dataclass(frozen=True)
class RED(Solver):
    """Regularisation by denoising (RED).

    Minimises `|y - H x|^2 / (2 sigma^2) + strength / 2 x'(x - f(x))` for a denoiser f at a fixed level; the defaults are
    the paper's (0-255 scale). Costs a data equation (or the operator and its adjoint) and a denoiser's call an iteration.

    Args:
        denoise: as for `ADMM`. level: its noise level, 0-255 scale; None is the paper's 3.25, or the noise if that is more.
        strength: lambda. iterations: how many.
        step: ``fixed-point`` solves the data equation around f(x) each time; ``gradient`` descends, many times slower.
    """

    name = "red"
    title = "Regularisation by denoising (RED)"
    any_scale = True
    iterative = True

    denoise: Denoiser | str = "dct"
    level: float | None = None
    strength: float = 0.02
    iterations: int = 30
    step: Literal["fixed-point", "gradient"] = "fixed-point"

    def __post_init__(self) -> None:
        _check(self.iterations, self.denoise)
        if self.step not in ("fixed-point", "gradient"):
            raise UsageError(f"RED steps by 'fixed-point' or 'gradient', not '{self.step}'.")

    @torch.no_grad()
    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        sigma = max(problem.sigma, LEAST_SIGMA)
        level = max(_LEVEL, sigma) if self.level is None else self.level
        alpha = self.strength * sigma**2
        prior = denoiser(self.denoise)
        split = Splitting.of(problem)
        x = split.start
        for i in range(self.iterations):
            clean = prior(x, level)
            residual = split.data.residual(x)
            value = residual.square().sum() + alpha * (x * (x - clean)).sum()
            if split.tell(monitor, i, self.iterations, x, float(value) / (2 * x.numel())):
                break
            if self.step == "fixed-point":
                x = split.data(clean, alpha)
            else:
                slope = split.data.adjoint(residual) + alpha * (x - clean)
                x = x - 2 / (1 + alpha) * slope
        else:
            split.tell(monitor, self.iterations, self.iterations, x)
        return split.model.crop(x)


_LEVEL = 3.25


def _check(iterations: int, denoise: Denoiser | str) -> None:
    if iterations < 1:
        raise UsageError(f"At least one iteration is needed, not {iterations}.")
    denoiser(denoise)


SOLVERS = (ADMM, RED)

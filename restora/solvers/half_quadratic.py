"""DPIR: half-quadratic splitting between the data equation and any denoiser, along a schedule of falling noise levels.

Zhang, Li, Zuo, Zhang, Van Gool, Timofte: Plug-and-Play Image Restoration with Deep Denoiser Prior, IEEE TPAMI 2021; the
survey, section 2.7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.networks.deconvolution import DataStep, enlarge
from restora.solvers.base import Denoiser, Monitor, Problem, Solver, Step
from restora.solvers.denoisers import denoiser
from restora.solvers.forward import Forward

LEAST_SIGMA = 0.255  # what the papers' code takes for pictures without noise
WEIGHT = 0.23  # lambda
_NAMED_WEIGHT = 0.5


def schedule(
    iterations: int,
    sigma: float,
    first: float = 49.0,
    last: float | None = None,
    logarithmic: float = 1.0,
    weight: float = WEIGHT,
) -> tuple[list[float], list[float]]:
    """The weights of the data equations and the denoiser's noise levels (0-255 scale), one of each an iteration.

    `alpha_i = weight sigma^2 / sigma_i^2`, sigma_i from `first` to `last`.

    Args:
        iterations: at least 1. sigma: the picture's noise, 0-255 scale. first, last: the denoiser's levels; None for `last` is
            sigma. logarithmic: 1 for logarithmic spacing, 0 for linear, between them for a mixture. weight: lambda, 0.23 as
            published.
    """
    last = sigma if last is None else last
    t = [i / max(iterations - 1, 1) for i in range(iterations)]
    geometric = [first * (last / first) ** u for u in t]
    levels = [
        logarithmic * g + (1 - logarithmic) * (first + (last - first) * u) for g, u in zip(geometric, t, strict=True)
    ]
    return [weight * sigma**2 / level**2 for level in levels], levels


def flip(x: Tensor, mode: int) -> Tensor:
    """The eight flips and quarter turns as the published code numbers them; `B x C x H x W`."""
    turns = (0, 1, 0, 3, 2, 1, 2, 3)[mode]
    x = x.rot90(turns, (-2, -1))
    return x.flip(-2) if mode in (1, 2, 4, 7) else x


def unflip(x: Tensor, mode: int) -> Tensor:
    """Undoes `flip`."""
    return flip(x, {3: 5, 5: 3}.get(mode, mode))


@dataclass(frozen=True)
class Splitting:
    """What all methods of this kind begin with: the grid, the data equation and the start.

    Args:
        model: the forward model with its grid. data: the equation on it; for a photograph only what was observed counts.
        start: bicubic enlargement without half-pixel shift, on the grid.
    """

    model: Forward
    data: DataStep
    start: Tensor

    @classmethod
    def of(cls, problem: Problem) -> Splitting:
        """For a problem; the margin of a photograph is filled smoothly to begin with."""
        model = Forward.of(problem)
        y, mask = problem.observed, None
        if problem.boundary == "photograph":
            y = model.extend(y)
            mask = y.new_zeros(model.grid)
            model.window(mask).fill_(1)
        return cls(model, DataStep(y, model.otf, problem.scale, mask), enlarge(y, problem.scale))

    def tell(self, monitor: Monitor | None, done: int, total: int, x: Tensor, value: float = math.nan) -> bool:
        """Reports an iteration; True when the user has seen enough."""
        if monitor is None:
            return False
        return bool(monitor(Step(done, total, value, lambda: self.model.crop(x))))


@dataclass(frozen=True)
class DPIR(Solver):
    """Plug-and-play by half-quadratic splitting (DPIR).

    Each iteration solves the data equation in closed form around the present estimate and denoises the result, at noise levels
    that fall from 49 to that of the picture. The denoiser's time, and two to some dozens of real Fourier transforms (for a
    photograph's unknown margin), an iteration.

    Args:
        denoise: the denoiser, or the name of one that needs no weights (``dct``, ``tv``, ``nlm``, ``bm3d``).
        iterations: None for the published 8, or 24 when the scale is above 1.
        first, last: the denoiser's first and last level, 0-255 scale; None for `last` is the noise, at least the scale when
            that is above 1.
        strength: lambda, the weight of the prior; None for the published 0.23 (DRUNet), or for the named denoisers 0.5, which
            suits them better (by 0.4 dB at sigma 2.55 and 7.65).
        flips: show the denoiser another of the eight flips and turns in every iteration.
    """

    name = "dpir"
    title = "DPIR: plug-and-play by half-quadratic splitting"
    any_scale = True
    iterative = True

    denoise: Denoiser | str = "dct"
    iterations: int | None = None
    first: float = 49.0
    last: float | None = None
    strength: float | None = None
    flips: bool = True

    def __post_init__(self) -> None:
        if self.iterations is not None and self.iterations < 1:
            raise UsageError(f"DPIR needs at least one iteration, not {self.iterations}.")
        denoiser(self.denoise)

    @torch.no_grad()
    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        sigma = max(problem.sigma, LEAST_SIGMA)
        last = self.last
        if last is None:
            last = sigma if problem.scale == 1 else max(sigma, problem.scale)
        total = self.iterations or (8 if problem.scale == 1 else 24)
        prior = denoiser(self.denoise)
        split = Splitting.of(problem)
        x = split.start
        weight = self.strength or (_NAMED_WEIGHT if isinstance(self.denoise, str) else WEIGHT)
        steps = zip(*schedule(total, sigma, self.first, last, weight=weight), strict=True)
        for i, (alpha, level) in enumerate(steps):
            x = split.data(x, alpha)
            mode = i % 8 if self.flips else 0
            x = unflip(prior(flip(x, mode), level), mode)
            if split.tell(monitor, i + 1, total, x):
                break
        return split.model.crop(x)


SOLVERS = (DPIR,)

"""Richardson-Lucy deconvolution: the most likely picture under Poisson statistics, found by multiplications only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.networks.deconvolution import enlarge
from restora.solvers.base import Monitor, Problem, Solver, Step
from restora.solvers.forward import Forward
from restora.solvers.wiener import noise_variance

_DARK = 1e-4  # no estimate is darker: it could never become brighter again
_DAMPING_POWER = 10
_LONGEST = 0.98


@dataclass(frozen=True)
class RichardsonLucy(Solver):
    """Richardson-Lucy

    `x <- x H'(y / H x) / H'1` (Richardson 1972, Lucy 1974), beginning with the observed picture. The pixels beyond a photograph's
    border are estimated too, H'1 being small there, so that the border does not ring (Bertero and Boccacci, A&A 2005). Each
    iteration costs four Fourier transforms of the grid.

    Args:
        iterations: the more, the sharper and the noisier.
        total_variation: weight of the smoothness that divides each step, 0 for none, 0.002 to 0.02 is usual (Dey et al. 2006).
        damping: differences from the observation below so many sigmas count as noise and are not followed (White 1994); 0: off.
        accelerated: each step goes on from where the last ones point to (Biggs and Andrews 1997); four to ten times
            fewer iterations for the same result.
    """

    iterations: int = 30
    total_variation: float = 0.0
    damping: float = 0.0
    accelerated: bool = False

    name: ClassVar[str] = "richardson-lucy"
    any_scale: ClassVar[bool] = True
    iterative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UsageError("Richardson-Lucy needs at least one iteration.")
        if self.total_variation < 0 or self.damping < 0:
            raise UsageError("The total_variation and the damping of Richardson-Lucy are at least 0.")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        model = Forward.of(problem)
        y = problem.observed.clamp_min(_DARK)
        cover = model.adjoint(torch.ones_like(y))
        usable = cover > 0.01 * cover.amax((-2, -1), keepdim=True)
        cover = torch.where(usable, cover, torch.ones_like(cover))
        x = enlarge(model.extend(y), problem.scale).clamp_min(_DARK)
        ahead, last, step = x, x, torch.zeros_like(x)
        for i in range(self.iterations):
            again = model.apply(ahead).clamp_min(_DARK)
            ratio = model.adjoint(self._ratio(y, again, problem.sigma)) / cover
            ratio = torch.where(usable, ratio, torch.ones_like(ratio)).clamp_min(0)
            if self.total_variation:
                ratio = ratio / (1 - self.total_variation * _curvature(ahead)).clamp_min(0.1)
            x = (ahead * ratio).clamp_min(_DARK)
            if monitor is not None:
                likelihood = (again - y * again.log()).mean().item()
                now = x
                if monitor(Step(i + 1, self.iterations, likelihood, lambda now=now: model.crop(now))):  # type: ignore[misc]
                    break
            new = x - ahead
            length = 0.0
            if self.accelerated and i:
                length = ((new * step).sum() / step.square().sum().clamp_min(1e-12)).clamp(0, _LONGEST).item()
            ahead, last, step = (x + length * (x - last)).clamp_min(_DARK), x, new
        return model.crop(x).contiguous()

    def _ratio(self, y: Tensor, again: Tensor, sigma: float) -> Tensor:
        if not self.damping:
            return y / again
        # the likelihood, as if each grey level's noise were that of the whole picture; flat near its peak
        threshold = self.damping**2 * noise_variance(sigma)
        misfit = ((again - y).square() / threshold).clamp_max(1)
        n = _DAMPING_POWER
        return 1 + misfit ** (n - 1) * (n - (n - 1) * misfit) * (y / again - 1)


def _curvature(x: Tensor) -> Tensor:
    """The divergence of the unit gradient, on the torus."""
    down, across = x.roll(-1, -2) - x, x.roll(-1, -1) - x
    size = (down.square() + across.square() + 1e-6).sqrt()
    down, across = down / size, across / size
    return down - down.roll(1, -2) + across - across.roll(1, -1)


SOLVERS = (RichardsonLucy,)

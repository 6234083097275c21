"""A solver, or a plain function on tensors, as the engine calls it: picture tensor in, restored picture tensor out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from restora.errors import NumericalError
from restora.networks.spec import aligned
from restora.solvers import Monitor, Problem, Solver, Step

# How far a kernel's inverse is followed, in sides of the kernel: a border that is not known disturbs the solution about that far
# (`benchmarks/nonblind.py --tiles` measures what is left).
_REACH = 3
_LEAST_REACH = 24
_FADE = 1 / 3  # of the overlap: the part in which neighbouring tiles pass into each other
_TINY = 48
_PLANES = 40  # float32 arrays of a solution's size that a solver holds at most, where its class does not say `planes`


class FunctionOperator:
    """A function `1 x C x H x W` -> `1 x C x s*H x s*W` whose output pixels depend on input pixels at most `radius` away.

    Args:
        function: called with each tile. radius: in input pixels. scale: s.
        planes: float32 arrays of the output's size that it holds at most; decides the size of tiles.
    """

    multiple_of = 1
    minimum = 1
    half_safe = False
    fade = 0

    def __init__(
        self, function: Callable[[Tensor], Tensor], radius: int, scale: int = 1, planes: float = _PLANES
    ) -> None:
        self.function, self.scale, self.planes = function, scale, planes
        self.tiling = aligned(1, radius)

    def to(self, device: torch.device) -> FunctionOperator:
        """Nothing to move: a function works where its input is."""
        return self

    def bytes_per_pixel(self) -> float:
        """For a colour picture."""
        return 3 * 4 * self.planes * self.scale**2

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)


class SolverOperator(FunctionOperator):
    """A solver with a kernel, a scale and a noise level.

    Every tile is solved as a photograph of its own, whose border is not known. The overlap is derived from the kernel: three
    times its longer side, at least 24 pixels, in input pixels; in a third of it neighbours pass into each other, because what a
    solver estimates from its tile (the strength of a prior) differs a little. Every tile draws from a generator with the same
    seed, so that the result does not depend on the order of tiles.

    Args:
        solver: see `restora.solvers`. kernel: `kh x kw`, at the resolution of the solution. scale: of the problem.
        sigma: noise on the 0-255 scale. seed: for solvers that draw.
        monitor: called after each iteration in each tile; it may raise `Cancelled`.
    """

    def __init__(
        self,
        solver: Solver,
        kernel: Tensor,
        scale: int = 1,
        sigma: float = 0.0,
        seed: int = 0,
        monitor: Monitor | None = None,
    ) -> None:
        self.solver, self.kernel, self.sigma, self.seed, self.monitor = solver, kernel, sigma, seed, monitor
        reach = max(_LEAST_REACH, math.ceil(_REACH * max(kernel.shape) / scale))
        super().__init__(self.solve, reach, scale, getattr(solver, "planes", _PLANES))
        self.fade = round(_FADE * reach)

    def to(self, device: torch.device) -> SolverOperator:
        if isinstance(network := getattr(self.solver, "network", None), nn.Module):
            network.to(device)
        return self

    def bytes_per_pixel(self) -> float:
        """For a colour picture; of a network, one and a half times the largest layer's input and output."""
        usual = super().bytes_per_pixel()
        if not isinstance(network := getattr(self.solver, "network", None), nn.Module):
            return usual
        largest = 0

        def look(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal largest
            largest = max(largest, sum(t.numel() for t in (*inputs, output) if isinstance(t, Tensor)))

        hooks = [module.register_forward_hook(look) for module in network.modules()]
        try:
            place = next(network.parameters()).device
            self.solver(torch.zeros(1, 3, _TINY, _TINY, device=place), torch.ones(1, 1, device=place), self.scale, 1.0)
        finally:
            for hook in hooks:
                hook.remove()
        return 1.5 * 4 * largest / _TINY**2 + usual

    def solve(self, x: Tensor) -> Tensor:
        """The solver's estimate for one tile.

        Raises:
            NumericalError: it is not finite.
        """
        # solvers may differentiate, which the engine's inference mode forbids, also for tensors that were made in it
        with torch.inference_mode(False), torch.enable_grad():
            problem = Problem(x.clone(), self.kernel.to(x.device), self.scale, self.sigma)
            generator = torch.Generator().manual_seed(self.seed)
            y = self.solver.solve(problem, generator=generator, monitor=self._watch if self.monitor else None).detach()
        if not bool(torch.isfinite(y).all()):
            raise NumericalError(
                f"{self.solver.name} diverged (NaN or infinity): the kernel may not be this picture's. "
                "Try --method wiener, or a higher --sigma."
            )
        return y

    def _watch(self, step: Step) -> bool | None:
        assert self.monitor is not None
        return self.monitor(step)

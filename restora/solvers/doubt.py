"""A kernel in doubt: is it turned by 180 degrees, is it turned or stretched a little, and how to centre several at once.

With a wrong kernel a regularised solution explains the observation about as well, but only by edges that are not there: the
objective of `HyperLaplacian`, data term and sparse gradients, is lower for the right one. The verdict is one picture's: whoever
works by tiles asks once, for the whole, and lets the tiles trust the answer.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation import kernels as shapes
from restora.solvers.base import Problem
from restora.solvers.forward import Forward
from restora.solvers.sparse import HyperLaplacian, sparseness

_SIDE = 256  # of the part of a picture that is looked at
_CLEARER = 0.97  # of Levin's 32 pictures the ratios of sparseness are below 0.95 or above 1.04
_SYMMETRIC = 0.1
_TURN, _STRETCH = 5.0, 1.1  # the first steps of the search: degrees and a factor of length
_LEAST_SIGMA = 1.0  # with less noise than this a kernel's own coarseness decides
_GAIN = (
    0.98  # share of the objective that another kernel has to reach; warping costs it about that much by interpolation
)


def repaired(given: Tensor) -> Tensor:
    """Kernels `B x kh x kw`, each centred by whole pixels, non-negative, of sum 1 (`degradation.kernels.repair`); the sides grow
    where a kernel needs it."""
    return _together([shapes.repair(k).to(given) for k in given])


def _together(many: list[Tensor]) -> Tensor:
    height, width = (max(k.shape[axis] for k in many) for axis in (0, 1))
    pads = [((width - k.shape[1]) // 2, (height - k.shape[0]) // 2) for k in many]
    return torch.stack([F.pad(k, (x, x, y, y)) for k, (x, y) in zip(many, pads, strict=True)])


def warped(kernel: Tensor, degrees: float, factor: float) -> Tensor:
    """A kernel `kh x kw` turned counter-clockwise and stretched about its centre, bicubic, in a frame that holds it; sum 1."""
    margin = [math.ceil(n / 4) for n in kernel.shape]
    wide = F.pad(kernel, (margin[1], margin[1], margin[0], margin[0]))
    height, width = wide.shape
    c, s = math.cos(math.radians(degrees)) / factor, math.sin(math.radians(degrees)) / factor
    y = torch.arange(height, dtype=wide.dtype, device=wide.device)[:, None] - height // 2
    x = torch.arange(width, dtype=wide.dtype, device=wide.device) - width // 2
    grid = torch.stack([(c * x - s * y) * 2 / (width - 1), (s * x + c * y) * 2 / (height - 1)], -1)
    out = F.grid_sample(wide[None, None], grid[None], mode="bicubic", align_corners=True)[0, 0].clamp_min(0)
    out = torch.where(out < 1e-3 * out.max(), torch.zeros_like(out), out)  # the cubic's echoes
    return out / out.sum()


def is_turned(problem: Problem) -> Tensor:
    """Whether the kernel turned by 180 degrees suits each picture clearly better, `B`, bool: by the sparse gradients alone, on
    the brightness of the middle of the picture."""
    kernels = problem.kernels
    asymmetric = (kernels - kernels.flip(-2, -1)).abs().sum((-2, -1)) > _SYMMETRIC * kernels.abs().sum((-2, -1))
    part = _middle(problem)
    if part is None or not bool(asymmetric.any()):
        return torch.zeros(len(problem.observed), dtype=torch.bool)
    given, turned = (
        sparseness(HyperLaplacian().solve(replace(part, kernel=k))) for k in (kernels, kernels.flip(-2, -1))
    )
    return (turned < _CLEARER * given).cpu() & asymmetric.cpu()


def refitted(problem: Problem) -> Tensor:
    """The kernels turned and stretched so that they suit the pictures best, `B x kh x kw`; as given where that gains nothing to
    speak of.

    Searched: turns up to 7.5 degrees, stretches up to 15 percent; 17 small deconvolutions a picture.
    """
    part = _middle(problem)
    if part is None or max(problem.kernels.shape[-2:]) < 5:
        return problem.kernels
    kernels = problem.kernels.expand(len(problem.observed), -1, -1)
    return _together(
        [_refit(replace(part, observed=y[None], kernel=k)) for y, k in zip(part.observed, kernels, strict=True)]
    )


def _refit(part: Problem) -> Tensor:
    """One picture's kernel."""
    best, turn, stretch, found = objective(part), 0.0, 1.0, part.kernel
    threshold = _GAIN * best
    best = math.inf
    for step, factor in ((_TURN, _STRETCH), (_TURN / 2, math.sqrt(_STRETCH))):
        for degrees in (turn - step, turn, turn + step):
            for length in (stretch / factor, stretch, stretch * factor):
                kernel = warped(part.kernel, degrees, length)
                value = objective(replace(part, kernel=kernel))
                if value < best:
                    best, found, centre = value, kernel, (degrees, length)
        turn, stretch = centre
    return found if best < threshold else part.kernel


def objective(problem: Problem) -> float:
    """What `HyperLaplacian` minimises, at its solution, all pictures together; at least `_LEAST_SIGMA` of noise is assumed."""
    problem = replace(problem, sigma=max(problem.sigma, _LEAST_SIGMA))
    solver = HyperLaplacian()
    model = Forward.of(problem)
    return solver.objective(model, problem, solver.on_grid(model, problem))


def _middle(problem: Problem) -> Problem | None:
    """The brightness of the middle of the pictures; None where they are too small to tell anything."""
    height, width = problem.observed.shape[-2:]
    reach = max(problem.kernels.shape[-2:])
    if min(height, width) < 2 * reach / problem.scale:
        return None
    side = max(_SIDE, 4 * reach) // problem.scale
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    middle = problem.observed.mean(1, keepdim=True)[..., top : top + side, left : left + side]
    return replace(problem, observed=middle, boundary="photograph")  # a part is not periodic

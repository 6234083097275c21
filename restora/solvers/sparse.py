"""Deconvolution under sparse gradients: hyper-Laplacian and total-variation priors, by half-quadratic splitting.

Krishnan and Fergus, Fast Image Deconvolution using Hyper-Laplacian Priors, NIPS 2009 (splitting, table of shrinkages); second
differences as in Levin, Fergus, Durand, Freeman, SIGGRAPH 2007. What is our own: the differences of all channels and
directions at a pixel are one vector, so that one table look-up a pixel and iteration does; the pixels beyond a photograph's
border are unknowns (`Forward.complete`); and the noise has a second part that a wrong kernel causes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError
from restora.networks.deconvolution import enlarge
from restora.solvers.base import Monitor, Problem, Solver, Step
from restora.solvers.forward import Forward
from restora.solvers.wiener import KERNEL_ERROR, kernel_noise, noise_variance

PRIOR = 5.0  # strength of the prior on [0, 1] pictures
_FIRST, _LAST = 1.0, 512.0  # the coupling of differences to their shrunk selves, from soft to hard
_BINS, _REACH = 8192, 64.0
_MOMENTUM = 0.8  # how far the margin is carried on in the direction of its last change; it lags behind otherwise
_PROXIMAL = 1e-4  # for scales above 1: what keeps the aliases' equations within float32


@functools.lru_cache(maxsize=8)
def _shrinkage(power: float) -> Tensor:
    """The factor u / t for the u that minimises `u^power + (u - t)^2 / 2`, at the middle of `_BINS` bins of t in [0, _REACH]."""
    t = (np.arange(_BINS) + 0.5) * (_REACH / _BINS)
    if power == 1:
        return torch.from_numpy(np.maximum(1 - 1 / t, 0)).float()
    # below this t the minimum is at 0 (Zuo et al., A Generalized Iterated Shrinkage Algorithm, ICCV 2013)
    least = (2 * (1 - power)) ** (1 / (2 - power))
    threshold = least + power * least ** (power - 1)
    u = t.copy()
    for _ in range(60):
        u = np.maximum(t - power * np.maximum(u, least) ** (power - 1), least)
    return torch.from_numpy(np.where(t > threshold, u / t, 0)).float()


def shrink(magnitude: Tensor, coupling: float, power: float) -> Tensor:
    """The factor by which a vector of this magnitude m is shortened by the proximal map of `|.|^power` with weight `coupling`:
    u / m for the minimum u of `u^power + coupling / 2 (u - m)^2`. By table, one look-up an element.

    Args:
        magnitude: non-negative, any shape. power: in (0, 1].
    """
    unit = coupling ** (-1 / (2 - power))  # in this unit the coupling is 1
    index = (magnitude * (_BINS / _REACH / unit)).clamp_(max=_BINS - 1).long()
    return _shrinkage(power).to(magnitude)[index]


def _difference(x: Tensor, axis: int) -> Tensor:
    """x[n + 1] - x[n] on the torus."""
    n = x.shape[axis]
    out = torch.empty_like(x)
    torch.sub(x.narrow(axis, 1, n - 1), x.narrow(axis, 0, n - 1), out=out.narrow(axis, 0, n - 1))
    torch.sub(x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1), out=out.narrow(axis, n - 1, 1))
    return out


def _transposed_difference(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis]
    out = torch.empty_like(x)
    torch.sub(x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1), out=out.narrow(axis, 1, n - 1))
    torch.sub(x.narrow(axis, n - 1, 1), x.narrow(axis, 0, 1), out=out.narrow(axis, 0, 1))
    return out


def _differences(x: Tensor, curvature: float) -> list[tuple[Tensor, float]]:
    """First and second differences, `B x C x H x W` each, with their weights."""
    down, across = _difference(x, -2), _difference(x, -1)
    if not curvature:
        return [(down, 1.0), (across, 1.0)]
    second = [(_difference(down, -2), curvature), (_difference(across, -1), curvature)]
    return [(down, 1.0), (across, 1.0), *second, (_difference(down, -1), 2 * curvature)]


def _transposed_differences(parts: list[tuple[Tensor, float]]) -> Tensor:
    """The weighted adjoint of `_differences`."""
    down, across = parts[0][0], parts[1][0]
    if len(parts) > 2:
        (dd, weight), (aa, _), (da, both) = parts[2:]
        mixed = da.mul_(both / weight)
        down = down.add_(_transposed_difference(dd, -2).add_(_transposed_difference(mixed, -1)), alpha=weight)
        across = across.add_(_transposed_difference(aa, -1), alpha=weight)
    return _transposed_difference(down, -2).add_(_transposed_difference(across, -1))


def shrunk(x: Tensor, coupling: float, power: float, curvature: float) -> Tensor:
    """`D' W u` for the u that minimises `|u|^power + coupling / 2 |u - D x|^2`, the vectors being all differences at a pixel."""
    parts = _differences(x, curvature)
    magnitude = sum((d.square().sum(1, keepdim=True).mul_(w) for d, w in parts), start=x.new_zeros(())).sqrt_()
    factor = shrink(magnitude, coupling, power)
    return _transposed_differences([(d.mul_(factor), w) for d, w in parts])


def sparseness(x: Tensor, power: float = 0.8, curvature: float = 0.5) -> Tensor:
    """The prior's mean over the pixels of `B x C x H x W`, `B`: what `HyperLaplacian` keeps low beside the data term."""
    parts = _differences(x, curvature)
    energy = sum((d.square().sum(1).mul_(w) for d, w in parts), start=x.new_zeros(()))
    return energy[..., 1:-2, 1:-2].pow(power / 2).mean((-2, -1))  # without the differences across the torus's seam


@dataclass(frozen=True)
class HyperLaplacian(Solver):
    """Hyper-Laplacian deconvolution

    Minimises `|y - H x|^2 / 2 Sn + PRIOR weight sum |D x|^power`: few, strong edges rather than many weak ones. Each of the
    `iterations` costs four Fourier transforms of the grid; that is all, whatever the kernel's size and whatever the scale.

    Args:
        power: of the differences' distribution; natural photographs have 0.5 to 0.8.
        weight: strength of the prior relative to the usual.
        curvature: weight of second differences beside the first ones (0: none).
        kernel_error: how wrong the kernel may be, relative; see `kernel_noise`.
        iterations: steps from a soft coupling to a hard one.
    """

    power: float = 0.8
    weight: float = 1.0
    curvature: float = 0.5
    kernel_error: float = KERNEL_ERROR
    iterations: int = 10

    name: ClassVar[str] = "hyper-laplacian"
    any_scale: ClassVar[bool] = True
    iterative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.power <= 1:
            raise UsageError(f"The power of a sparse prior is in (0, 1], not {self.power:g}.")
        if self.weight <= 0 or self.curvature < 0 or self.kernel_error < 0:
            raise UsageError("A sparse prior's weight is above 0; its curvature and kernel_error are at least 0.")
        if self.iterations < 1:
            raise UsageError("A sparse deconvolution needs at least one iteration.")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        model = Forward.of(problem)
        return model.crop(self.on_grid(model, problem, monitor))

    def on_grid(self, model: Forward, problem: Problem, monitor: Monitor | None = None) -> Tensor:
        """The estimate on the whole grid of a forward model, `B x C x sH' x sW'`."""
        y = problem.observed
        v = model.extend(y)
        noise = kernel_noise(model, v, problem.sigma, self.kernel_error)
        x = v if problem.scale == 1 else enlarge(v, problem.scale)
        spectrum = model.spectrum(x)
        back = model.back(v, noise)
        rough = model.roughness * (
            1 + self.curvature * model.roughness
        )  # |d_xx|^2 + |d_yy|^2 + 2 |d_xy|^2 is its square
        before: Tensor | None = None
        proximal = 0.0 if problem.scale == 1 else _PROXIMAL
        strength = PRIOR * self.weight * noise_variance(problem.sigma)
        for i in range(self.iterations):
            coupling = _FIRST * (_LAST / _FIRST) ** (i / max(self.iterations - 1, 1))
            right = shrunk(model.picture(spectrum), coupling, self.power, self.curvature)
            beta = strength * coupling
            total = back + beta * model.spectrum(right)
            if proximal:
                total = total + proximal * spectrum
            spectrum = model.normal(total, beta * rough + proximal, noise)
            last = i == self.iterations - 1
            if problem.boundary == "photograph" and not last:
                predicted = model.picture(model.otf * spectrum)
                ahead = predicted if before is None else torch.lerp(before, predicted, 1 + _MOMENTUM)
                v, before = model.complete(ahead, y), predicted
                back = model.back(v, noise)
            if monitor is not None:
                found = spectrum
                value = self._value(model, problem, noise, found)
                if monitor(Step(i + 1, self.iterations, value, lambda found=found: model.crop(model.picture(found)))):  # type: ignore[misc]
                    break
        return model.picture(spectrum)

    def objective(self, model: Forward, problem: Problem, x: Tensor) -> float:
        """What is minimised, mean a pixel of the observation, at an estimate x on the grid of the model."""
        noise = kernel_noise(model, model.extend(problem.observed), problem.sigma, self.kernel_error)
        return self._value(model, problem, noise, model.spectrum(x))

    def _value(self, model: Forward, problem: Problem, noise: Tensor, spectrum: Tensor) -> float:
        """Mean a pixel; while the coupling is soft it need not fall with every step."""
        blurred = model.picture(model.otf * spectrum)
        left = model.complete(blurred, problem.observed) - model.sample(blurred)
        data = model.energy(left, noise) / 2 / noise_variance(problem.sigma) / problem.observed.numel()
        prior = sparseness(model.picture(spectrum), self.power, self.curvature).mean().item() * model.scale**2
        return data + PRIOR * self.weight * prior


@dataclass(frozen=True)
class TotalVariation(HyperLaplacian):
    """Total-variation deconvolution

    `HyperLaplacian` with power 1 and first differences only: the convex prior (Rudin, Osher, Fatemi 1992; splitting of Wang,
    Yang, Yin, Zhang, SIAM J. Imaging Sciences 2008).
    """

    power: float = 1.0
    curvature: float = 0.0

    name: ClassVar[str] = "total-variation"
    title: ClassVar[str] = "Total-variation deconvolution"


SOLVERS = (HyperLaplacian, TotalVariation)

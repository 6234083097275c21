"""The best method: with a trained denoiser DPIR; without weights sparse deconvolution, then rounds of block matching.

The rounds with the denoiser are those of decoupled deblurring (Danielyan, Katkovnik, Egiazarian, BM3D Frames and Variational
Image Deblurring, IEEE TIP 2012) with the filter for noise of a known spectrum (Dabov et al., Image restoration by sparse 3D
transform-domain collaborative filtering, SPIE 2008): solving the data equation amplifies the noise by a known factor at each
frequency, and the filter is told which.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.networks.deconvolution import enlarge
from restora.solvers.base import Denoiser, Monitor, Problem, Solver, Step
from restora.solvers.block_matching import Search, collaborative, deviations
from restora.solvers.denoisers import dct
from restora.solvers.doubt import is_turned, refitted, repaired
from restora.solvers.forward import Forward
from restora.solvers.half_quadratic import DPIR
from restora.solvers.sparse import HyperLaplacian
from restora.solvers.wiener import KERNEL_ERROR, LEAST_SIGMA, gradient_energy, kernel_noise, noise_variance

FLOOR = 1.75  # of sigma, with a trained denoiser: between the best for kernels that are nearly right (1, by
# `benchmarks/noise_floor.py`) and for those that come with real pictures (2, on some of Levin's)
# the share of the result without weights: 0.06 dB on Levin's pictures; from a floor of 1.5 on no loss with nearly right kernels
_PLAIN = 0.3
_ITERATIONS = 8  # of DPIR; at scales above 1 the published 24 gain less than 0.1 dB
_ROUNDS = 2
_LARGE = 1_500_000  # pixels above which, and at scales above 1, the quicker denoiser is taken
_SEARCH = Search(stride=5, reach=8, group=16, unlike=20.0)
_CAUTION = 1.2  # on the deviations that the filter is told: the estimate errs by more than noise
_LOOSE = 0.004  # the weight of the last estimate in the data equation, for each grey level of noise
_RINGS = 8  # of frequencies, in which noise is looked for
_ENOUGH = 128  # frequencies of a ring that must be judged
_LEAST_SIDE = 64  # of a picture that is judged
_DARK = 0.25
_LEVELS = (2.0, 1.4)  # of the quicker denoiser, in standard deviations of the observation's noise
_TRUST = 1.0  # the weight of its picture, times its level squared


@dataclass(frozen=True)
class Auto(Solver):
    """The best method

    With a denoiser: DPIR. A kernel of a real photograph is never exact, and a prior that is told of no noise believes every error
    of the kernel; so DPIR is told of `FLOOR` at least, and its result is averaged with that of the other way, which errs
    differently, unless the kernel is said to be exact.

    Without one: hyper-Laplacian deconvolution, unknowns beyond the border included; then `polish` rounds of plug-and-play: the
    data equation is solved anew about the estimate, and the noise that this amplifies is removed by collaborative filtering of
    alike blocks, guided by the last estimate. At scales above 1, and for more than 1.5 megapixels at once, the denoiser is the
    thresholded cosines of overlapping blocks, which is about ten times quicker.

    Args:
        denoise: a trained denoiser of pictures with the problem's channels. polish: rounds of block matching, 0 to 2.
        robust: for a kernel that may be wrong: it is centred, turned and stretched to suit the picture (`doubt.refitted`).
        orientation: ``check``: with a kernel that is not symmetric, it is tried whether the kernel turned by 180 degrees
            makes a clearly smoother picture of the same observation, as it does when somebody wrote correlation for convolution;
            then that one is used, with a warning. ``trust``: the kernel is used as it is.
        noise: ``check``: a picture that shows more noise than `sigma` where the blur left nothing else (`noise_seen`) is
            taken to have that much; ``trust``: sigma is used as it is.
        exact: whether kernel and sigma may be believed to the last, as in experiments. Makes a difference with a denoiser.
    """

    denoise: Denoiser | None = None
    polish: int = _ROUNDS
    robust: bool = False
    orientation: Literal["check", "trust"] = "check"
    noise: Literal["check", "trust"] = "check"
    exact: bool = False

    name: ClassVar[str] = "auto"
    any_scale: ClassVar[bool] = True
    iterative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.polish <= _ROUNDS:
            raise UsageError(f"The best method has 0 to {_ROUNDS} rounds of polish, not {self.polish}.")
        if self.orientation not in ("check", "trust"):
            raise UsageError(f"The orientation of a kernel is one to check or trust, not '{self.orientation}'.")
        if self.noise not in ("check", "trust"):
            raise UsageError(f"The noise level is one to check or trust, not '{self.noise}'.")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        if self.robust:
            problem = replace(problem, kernel=repaired(problem.kernels))
        if self.orientation == "check":
            problem = _oriented(problem)
        if self.robust:
            problem = replace(problem, kernel=refitted(problem))
        if len(problem.observed) == 1:
            return self._solve_one(problem, monitor)
        # each picture has a noise level of its own
        found = [enlarge(y[None], problem.scale) for y in problem.observed]
        kernels = problem.kernels.expand(len(found), -1, -1)
        stopped = False
        for i, (y, kernel) in enumerate(zip(problem.observed, kernels, strict=True)):

            def tell(step: Step, i: int = i) -> bool:
                nonlocal stopped

                def image() -> Tensor:
                    return torch.cat([*found[:i], step.image(), *found[i + 1 :]])

                whole = replace(step, done=i * step.total + step.done, total=len(found) * step.total, image=image)
                stopped = bool(monitor and monitor(whole))
                return stopped

            found[i] = self._solve_one(replace(problem, observed=y[None], kernel=kernel), tell if monitor else None)
            if stopped:
                break
        return torch.cat(found)

    def _solve_one(self, problem: Problem, monitor: Monitor | None) -> Tensor:
        if self.noise == "check":
            problem = replace(problem, sigma=max(problem.sigma, noise_seen(problem)))
        if self.denoise is None:
            return self._without(problem, monitor)
        solver = DPIR(self.denoise, iterations=_ITERATIONS)
        if self.exact:
            return solver.solve(problem, monitor=monitor)
        before = HyperLaplacian().iterations + self.polish
        stopped = False

        def tell(step: Step, done: int) -> bool:
            nonlocal stopped
            stopped = bool(monitor and monitor(replace(step, done=done + step.done, total=before + _ITERATIONS)))
            return stopped

        plain = self._without(problem, (lambda step: tell(step, 0)) if monitor else None)
        if stopped:
            return plain
        floored = replace(problem, sigma=max(problem.sigma, FLOOR))
        guided = solver.solve(floored, monitor=(lambda step: tell(step, before)) if monitor else None)
        return guided if stopped else torch.lerp(guided, plain, _PLAIN)

    def _without(self, problem: Problem, monitor: Monitor | None) -> Tensor:
        """The result without a trained denoiser."""
        first = HyperLaplacian(kernel_error=KERNEL_ERROR)
        total = first.iterations + self.polish
        stopped = False

        def tell(step: Step) -> bool:
            nonlocal stopped
            stopped = bool(monitor and monitor(replace(step, total=total)))
            return stopped

        model = Forward.of(problem)
        x = first.on_grid(model, problem, tell if monitor else None)
        relative = kernel_noise(model, model.extend(problem.observed), problem.sigma, KERNEL_ERROR)
        quick = problem.scale > 1 or problem.size[0] * problem.size[1] > _LARGE
        for i in range(0 if stopped else self.polish):
            v = model.complete(model.blur(x), problem.observed)
            if quick:
                x = _thresholded(model, x, v, relative, problem.sigma, _LEVELS[i])
            else:
                x = _collaborated(model, x, v, relative, problem.sigma)
            if monitor is not None:
                now = x
                if monitor(Step(first.iterations + i + 1, total, math.nan, lambda now=now: model.crop(now))):  # type: ignore[misc]
                    break
        return model.crop(x).contiguous()


def _collaborated(model: Forward, x: Tensor, v: Tensor, relative: Tensor, sigma: float) -> Tensor:
    """The data equation about x with little weight on x, and what it amplifies removed with x as guide; scale 1."""
    variance = noise_variance(sigma)
    alpha = _LOOSE * 255 * math.sqrt(variance)
    solved = model.picture(model.normal(model.back(v, relative) + alpha * model.spectrum(x), alpha, relative))
    gain = model.power / relative
    noise = variance * gain / (gain + alpha).square()
    clean = collaborative(
        model.crop(solved), _CAUTION * deviations(noise[0, 0], model.fine), model.crop(x), search=_SEARCH
    )
    x = x.clone()
    model.crop(x).copy_(clean)
    return x


def _thresholded(model: Forward, x: Tensor, v: Tensor, relative: Tensor, sigma: float, level: float) -> Tensor:
    """x denoised, and the data equation solved about the result; `level` in standard deviations of the noise."""
    variance = noise_variance(sigma)
    deviation = level * (variance * relative.mean()).sqrt().item()
    clean = x.clone()
    model.crop(clean).copy_(dct(model.crop(x), 255 * deviation))
    alpha = _TRUST * variance / deviation**2
    return model.picture(model.normal(model.back(v, relative) + alpha * model.spectrum(clean), alpha, relative))


def noise_seen(problem: Problem) -> float:
    """The noise's standard deviation, 0-255 scale, in the rings of frequencies where it is strongest; 0 where none can be judged.

    Judged are frequencies at which the kernel leaves less of a photograph than a quarter of the noise that `sigma` implies. The
    noise of a camera's picture is not white: demosaicing and resizing took its highest frequencies, by which noise is usually
    estimated, so that those below them have more. It also counts what a slightly wrong kernel leaves there.
    """
    y = problem.observed
    if problem.scale > 1 or min(problem.size) < _LEAST_SIDE:
        return 0.0
    model = Forward(problem.kernels.to(y), problem.size, boundary="circular")
    rows, columns = (torch.hann_window(n, periodic=False, dtype=y.dtype, device=y.device) for n in problem.size)
    window = rows[:, None] * columns
    mean = (y * window).sum((-2, -1), keepdim=True) / window.sum()
    spectrum = model.spectrum((y - mean) * window)
    power = (spectrum.real.square() + spectrum.imag.square())[0] / window.square().sum()
    variance = noise_variance(problem.sigma)
    left = model.power * gradient_energy(model, y, problem.sigma) / model.observed_roughness
    dark = left[0, 0] < _DARK * variance
    height, width = problem.size
    rows, columns = torch.fft.fftfreq(height, device=y.device), torch.fft.rfftfreq(width, device=y.device)
    ring = (torch.hypot(rows[:, None], columns) * (2 * _RINGS)).long()
    levels = []
    for i in range(_RINGS):
        chosen = power[:, dark & (ring == i)]
        if chosen.shape[1] >= _ENOUGH:
            # the median of an exponential distribution is ln 2 of its mean; lines and leaks do not move it
            levels.append(chosen.median().item() / math.log(2) * 255**2)
    return math.sqrt(max(max(levels, default=0.0) - LEAST_SIGMA**2, 0))


def _oriented(problem: Problem) -> Problem:
    turned = is_turned(problem)
    if not bool(turned.any()):
        return problem
    warnings.warn(
        "The kernel turned by 180 degrees explains the picture clearly better and was used instead: kernels "
        "here are convolved, not correlated. orientation='trust' uses a kernel as it is.",
        stacklevel=3,
    )
    kernels = problem.kernels.expand(len(turned), -1, -1)
    return replace(problem, kernel=torch.where(turned.to(kernels.device)[:, None, None], kernels.flip(-2, -1), kernels))


SOLVERS = (Auto,)

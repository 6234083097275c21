"""Inverse filters: division by the transfer function, plain and as Wiener would have it.

The survey, eq. 2.3 and section 2.0; Gonzalez and Woods, Digital Image Processing, chapter 5. One division in Fourier space,
O(n log n); for scales above 1 the same estimate with the aliases taken apart (`Forward.normal`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.solvers.base import Monitor, Problem, Solver, Step
from restora.solvers.forward import Forward

LEAST_SIGMA = 0.4  # what even a picture without noise has: rounding to 8 bits is 0.29
KERNEL_ERROR = 0.04  # relative error that a kernel said to be known is given credit for
_USABLE = 0.1  # |otf|^2 above which a frequency of the observation tells of the picture


def noise_variance(sigma: float) -> float:
    """Variance, [0, 1] scale, of noise of `sigma` (0-255 scale) and of what every picture has."""
    return (sigma**2 + LEAST_SIGMA**2) / 255**2


def gradient_energy(model: Forward, v: Tensor, sigma: float) -> Tensor:
    """The c for which the sharp picture's power spectrum is nearest to `c / roughness`, `B x 1 x 1 x 1`, [0, 1] scale.

    It is the mean over the channels and over the frequencies that the blur left over, less what noise adds.

    Args:
        v: observation on the sampled grid. sigma: its noise.
    """
    if model.scale > 1:  # the aliases lie in each other: take the coarse picture for a small version of the fine one
        power = v.new_ones(())
        rough = model.observed_roughness * model.scale**2
        spectrum = torch.fft.fft2(v)
    else:
        power, rough, spectrum = model.power, model.observed_roughness, torch.fft.rfft2(v)
    seen = (spectrum.real.square() + spectrum.imag.square()).mean(1, keepdim=True) / v[0, 0].numel()
    usable = ((power > _USABLE) & (rough < 2)).to(v).expand_as(seen).clone()
    usable[..., 0, 0] = 0  # the mean
    # weighted by roughness once more: spectra fall a little faster, and it is the high frequencies that are in doubt
    energy = (seen / power.clamp_min(_USABLE) - noise_variance(sigma)) * rough.square() * usable
    return (energy.sum((-2, -1), keepdim=True) / (rough * usable).sum((-2, -1), keepdim=True).clamp_min(1)).clamp_min(
        1e-6
    )


def kernel_noise(model: Forward, v: Tensor, sigma: float, kernel_error: float) -> Tensor:
    """The spectrum of noise and of what a wrong kernel causes, over the variance of the noise, at `observed_roughness`.

    An error of the kernel blurs the picture wrongly; taken as independent of the picture, it is noise with the picture's own
    spectrum, strongest at low frequencies, where the data need the least trust to decide.

    Args:
        v: the observation on the sampled grid. kernel_error: the error's Euclidean size, relative (0.05: 5 percent).
    """
    energy = gradient_energy(model, v, sigma) * kernel_error**2 / noise_variance(sigma)
    return 1 + energy / model.observed_roughness


def linear_estimate(model: Forward, observed: Tensor, q: Tensor, passes: int, noise: Tensor | float = 1.0) -> Tensor:
    """The minimum of `|y - H x|^2_N + <x, Q x>` about the picture's mean, `B x C x sh x sw`.

    Args:
        q, noise: Q and N, diagonal in Fourier space (`Forward.normal`).
        passes: how often the margin is filled anew with what the estimate predicts there.
    """
    mean = observed.mean((-2, -1), keepdim=True)
    observed = observed - mean
    v = model.extend(observed)
    solution = model.normal(model.back(v, noise), q, noise)
    for _ in range(passes if model.boundary == "photograph" else 0):
        v = model.complete(model.picture(model.otf * solution), observed)
        solution = model.normal(model.back(v, noise), q, noise)
    return model.crop(model.picture(solution)) + mean


def _tell(monitor: Monitor | None, x: Tensor) -> Tensor:
    if monitor is not None:
        monitor(Step(1, 1, math.nan, lambda: x))
    return x


@dataclass(frozen=True)
class Inverse(Solver):
    """Inverse filter

    `X = Y / K` where |K| is above `floor`, and nothing is amplified by more than 1 / floor. With noise it shows why the others
    exist.
    """

    floor: float = 0.05

    name: ClassVar[str] = "inverse"
    any_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 1:
            raise UsageError(f"The floor of an inverse filter is in (0, 1], not {self.floor:g}.")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        if problem.scale != 1:
            raise UsageError("An inverse filter does not enlarge; take wiener, which does, or scale 1.")
        model = Forward.of(problem, margin=_wide(problem))
        size = model.power.sqrt()
        divided = model.otf.conj() / (size * size.clamp_min(self.floor)).clamp_min(1e-12)
        return _tell(monitor, model.crop(model.picture(divided * model.spectrum(model.extend(problem.observed)))))


@dataclass(frozen=True)
class Wiener(Solver):
    """Wiener filter

    `X = conj(K) Y / (|K|^2 + Sn / Sx)`.

    Args:
        spectrum: ``natural``: Sx falls as 1 / f^2, its height estimated from the picture; ``constant``: Sn / Sx is one number.
        nsr: that number for ``constant``; None: the noise's variance over the picture's.
        kernel_error: how wrong the kernel may be, relative; see `kernel_noise`. passes: how often the margin of a photograph is
            filled anew with what the estimate predicts there.
    """

    spectrum: Literal["natural", "constant"] = "natural"
    nsr: float | None = None
    kernel_error: float = KERNEL_ERROR
    passes: int = 3

    name: ClassVar[str] = "wiener"
    any_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.spectrum not in ("natural", "constant"):
            raise UsageError(f"The spectrum of a Wiener filter is natural or constant, not '{self.spectrum}'.")
        if self.nsr is not None and self.nsr <= 0:
            raise UsageError(f"A ratio of noise to signal is above 0, not {self.nsr:g}.")
        if self.passes < 0 or self.kernel_error < 0:
            raise UsageError("The passes and the kernel_error of a Wiener filter are at least 0.")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        y = problem.observed
        model = Forward.of(problem, margin=_wide(problem))
        variance = noise_variance(problem.sigma)
        if self.spectrum == "natural":
            q = variance * model.roughness / gradient_energy(model, model.extend(y), problem.sigma)
            q = q.clamp_min(1e-6)  # keeps the mean, and the aliases of large scales, within float32
        elif self.nsr is not None:
            q = torch.full_like(model.power, self.nsr)
        else:
            signal = y.var((1, 2, 3), keepdim=True, correction=0)
            q = (variance / signal.clamp_min(variance)) * torch.ones_like(model.power)
        noise = kernel_noise(model, model.extend(y), problem.sigma, self.kernel_error)
        return _tell(monitor, linear_estimate(model, y, q, self.passes, noise))


def _wide(problem: Problem) -> int:
    """A margin in which what a one-shot method gets wrong beyond the border has room to die away."""
    return max(problem.kernels.shape[-2:]) if problem.boundary == "photograph" else 0


SOLVERS = (Inverse, Wiener)

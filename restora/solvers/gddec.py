"""GDDec: deconvolution by gradient descent on the picture itself.

The survey, section 2.5, eq. 5.2 and 5.3: Adam on the image y', started from the bicubic enlargement, minimises
`1 - SSIM((y' * k) down_s, y)` with the learning rate `0.05 f(t, T)`, f being PULSE's `linear1cycle`. `GDDec.literal()` is that.
The default is the same descent made practical: Fourier transforms, a warm start, unknowns beyond the border, a sparse prior in
place of early stopping, and an end when nothing is gained any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation import convolution, kernels
from restora.errors import UsageError
from restora.networks.deconvolution import enlarge
from restora.solvers.base import Boundary, Monitor, Problem, Solver, Step
from restora.solvers.doubt import refitted, repaired
from restora.solvers.forward import Forward
from restora.solvers.sparse import PRIOR, HyperLaplacian
from restora.solvers.wiener import KERNEL_ERROR, Wiener, kernel_noise, noise_variance

Loss = Literal["ssim", "l1", "l2", "huber"]

_C1, _C2 = 0.01**2, 0.03**2
_PRIOR = 2 * PRIOR  # the second differences, which HyperLaplacian has too, are not in it
_SMOOTH = 1e-3  # differences below this have a quadratic prior, so that it has a gradient
_CHECK = 5  # iterations between looks at whether it still gets better
_WARM_RATE = 0.002
_KERNEL_RATE = 0.02  # of the kernel's largest value, an iteration
_KERNEL_TRUST = 0.02


def linear1cycle(t: float, total: float) -> float:
    """The factor on the learning rate at step t of `total`: 0.1 at the ends, 1 in the middle, linear between (eq. 5.3)."""
    return (1 + 9 * (1 - 2 * abs(t / total - 0.5))) / 10


class _Window(torch.autograd.Function):
    """Local means under the SSIM's Gaussian window, only where it fits; the gradient by the same fast convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor) -> Tensor:
        ctx.window, ctx.size = window, (x.shape[-2], x.shape[-1])
        return convolution.convolve(x, window, "valid")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return convolution.transposed(gradients[0].contiguous(), ctx.window, "valid", ctx.size), None


class Similarity:
    """`1 - SSIM` of pictures with one picture, its own moments being taken once.

    Args:
        y: `B x C x h x w` in [0, 1]. Window 11x11, sigma 1.5 (smaller pictures: as large as fits), the mean over the valid
            positions and the channels. Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004.
    """

    def __init__(self, y: Tensor) -> None:
        side = min(11, y.shape[-2], y.shape[-1])
        self.window = kernels.gaussian(1.5, side - 1 + side % 2).to(y)
        self.y, self.mean = y, self._local(y)
        self.variance = (self._local(y * y) - self.mean.square()).clamp_min(0)

    def _local(self, x: Tensor) -> Tensor:
        return _Window.apply(x, self.window)  # type: ignore[no-any-return, no-untyped-call]

    def __call__(self, x: Tensor) -> Tensor:
        """One value a picture, `B`."""
        mean = self._local(x)
        variance = self._local(x * x) - mean.square()
        covariance = self._local(x * self.y) - mean * self.mean
        likeness = (2 * mean * self.mean + _C1) / (mean.square() + self.mean.square() + _C1)
        likeness = likeness * (2 * covariance + _C2) / (variance + self.variance + _C2)
        return 1 - likeness.mean((1, 2, 3))

    @property
    def scale(self) -> Tensor:
        """What a squared error is divided by to become a loss of similarity, about: one value a picture."""
        return 1 / (1 / (2 * self.variance + _C2)).mean((1, 2, 3))


def _spatial(x: Tensor, kernel: Tensor) -> Tensor:
    """Circular convolution, tap by tap."""
    b, c, (kh, kw) = x.shape[0], x.shape[1], kernel.shape[-2:]
    padded = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2), mode="circular")
    weight = kernel.flip(-2, -1).expand(b, kh, kw).repeat_interleave(c, 0)[:, None]
    return F.conv2d(padded.reshape(1, b * c, *padded.shape[-2:]), weight, groups=b * c).view_as(x)


def _sparseness(x: Tensor) -> Tensor:
    """Mean `|gradient|^0.8` a pixel, `B`; the gradients of all channels are one vector."""
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    across = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    return ((down.square() + across.square()).sum(1) + _SMOOTH**2).pow(0.4).mean((-2, -1))


@dataclass(frozen=True)
class GDDec(Solver):
    """Gradient descent deconvolution (GDDec)

    Each iteration costs four Fourier transforms of the grid and, for ``ssim``, a few small convolutions.

    Args:
        loss: what compares the blurred estimate with the observation: ``ssim``, ``l2``, or for a kernel in doubt ``l1`` or
            ``huber``.
        start: ``bicubic``, ``wiener`` or ``sparse`` (`HyperLaplacian`).
        iterations: at most so many.
        learning_rate: of Adam, at the cycle's height; None: 0.05 from bicubic, 0.002 from the others.
        schedule: ``linear1cycle`` or ``constant``.
        tolerance: it ends when five iterations lower the objective by less than this part; 0: never before the last.
        prior: strength of the sparse prior relative to the usual for this noise; 0: none.
        kernel_error: how wrong the kernel may be, relative; what it leaves unexplained counts as noise (`kernel_noise`).
        convolution: ``fourier``, or ``spatial``: tap by tap and circular.
        robust: for a kernel that may be wrong: it is centred, turned and stretched to suit the picture (`doubt.refitted`), and
            a Huber loss stands in place of ``ssim`` and ``l2``.
        refine_kernel: the kernel is descended on too, held near the given one.
    """

    loss: Loss = "ssim"
    start: Literal["bicubic", "wiener", "sparse"] = "sparse"
    iterations: int = 15
    learning_rate: float | None = None
    schedule: Literal["linear1cycle", "constant"] = "linear1cycle"
    tolerance: float = 1e-3
    prior: float = 1.0
    kernel_error: float = KERNEL_ERROR
    convolution: Literal["fourier", "spatial"] = "fourier"
    robust: bool = False
    refine_kernel: bool = False

    name: ClassVar[str] = "gddec"
    any_scale: ClassVar[bool] = True
    iterative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for value, what, allowed in (
            (self.loss, "loss", ("ssim", "l1", "l2", "huber")),
            (self.start, "start", ("bicubic", "wiener", "sparse")),
            (self.schedule, "schedule", ("linear1cycle", "constant")),
            (self.convolution, "convolution", ("fourier", "spatial")),
        ):
            if value not in allowed:
                raise UsageError(f"The {what} of GDDec is one of {', '.join(allowed)}, not '{value}'.")
        if self.iterations < 1 or (self.learning_rate is not None and self.learning_rate <= 0):
            raise UsageError("GDDec needs at least one iteration and a learning rate above 0.")
        if self.tolerance < 0 or self.prior < 0 or self.kernel_error < 0:
            raise UsageError("The tolerance, the prior and the kernel_error of GDDec are at least 0.")
        if self.convolution == "spatial" and self.refine_kernel:
            raise UsageError("GDDec refines a kernel only with convolution='fourier'.")

    @classmethod
    def literal(cls, iterations: int = 200, loss: Loss = "ssim") -> GDDec:
        """The method as it stands in the survey: cold start, spatial convolution, all T iterations, no prior."""
        return cls(loss, "bicubic", iterations, 0.05, tolerance=0, prior=0, convolution="spatial")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            return self._solve(problem, monitor)

    def _solve(self, problem: Problem, monitor: Monitor | None) -> Tensor:
        y = problem.observed.detach().clone()
        kernel = problem.kernels.detach().to(y, copy=True)
        boundary: Boundary = "circular" if self.convolution == "spatial" else problem.boundary
        problem = Problem(y, kernel, problem.scale, problem.sigma, boundary)
        if self.robust:
            problem = replace(problem, kernel=repaired(kernel))
            problem = replace(problem, kernel=refitted(problem))
            kernel = problem.kernels
        model = Forward.of(problem)
        x = self._start(problem, model).requires_grad_()
        measure, weight = self._objective(problem, model)
        rate = self.learning_rate or (0.05 if self.start == "bicubic" else _WARM_RATE)
        groups: list[dict[str, Any]] = [{"params": [x], "lr": rate}]
        change: Tensor | None = None
        if self.refine_kernel:
            change = torch.zeros_like(kernel).requires_grad_()
            groups.append({"params": [change], "lr": _KERNEL_RATE * kernel.max().item()})
        optimiser = torch.optim.Adam(groups)
        rates = [group["lr"] for group in groups]

        def blurred() -> tuple[Tensor, Tensor | float]:
            if self.convolution == "spatial":
                return model.window(model.sample(_spatial(x, kernel))), 0.0
            if change is None:
                return model.apply(x), 0.0
            refined = (kernel + change).clamp_min(0)
            refined = refined / refined.sum((-2, -1), keepdim=True)
            cost = _KERNEL_TRUST * change.square().sum((-2, -1)) / kernel.square().sum((-2, -1))
            return model.with_kernel(refined).apply(x), cost

        best, found = torch.full((len(y),), math.inf, device=y.device), x.detach().clone()
        running = torch.ones_like(
            best, dtype=torch.bool
        )  # a picture that has ended is not changed by others of its batch
        for t in range(self.iterations + 1):
            again, cost = blurred()
            values = measure(again) + cost
            if self.prior:
                values = values + weight * _sparseness(x)
            last = t == self.iterations
            if t % _CHECK == 0 or last:
                now = values.detach()
                better = running & (now < best)
                found[better] = x.detach()[better]
                if self.tolerance:
                    running &= (now < best * (1 - self.tolerance)) | (t == 0)
                best = torch.where(better, now, best)
            if last or not bool(running.any()):
                break
            factor = linear1cycle(t, self.iterations) if self.schedule == "linear1cycle" else 1.0
            for group, base in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = base * factor
            optimiser.zero_grad(set_to_none=True)
            values.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if monitor is not None:
                estimate = x.detach()
                step = Step(t + 1, self.iterations, values.mean().item(), lambda e=estimate: model.crop(e).clone())  # type: ignore[misc]
                if monitor(step):
                    found[running] = x.detach()[running]
                    break
        if not self.tolerance and not self.prior:
            found = x.detach()  # the literal method returns where it has come to
        return model.crop(found).contiguous()

    def _start(self, problem: Problem, model: Forward) -> Tensor:
        if self.start == "bicubic":
            return enlarge(model.extend(problem.observed), problem.scale).clone()
        if self.start == "wiener":
            return model.extend(Wiener(kernel_error=self.kernel_error).solve(problem)).clone()
        return HyperLaplacian(kernel_error=self.kernel_error).on_grid(model, problem).clone()

    def _objective(self, problem: Problem, model: Forward) -> tuple[Callable[[Tensor], Tensor], Tensor | float]:
        """The data term, one value a picture, and the prior's weight beside it."""
        y = problem.observed
        noise = kernel_noise(model, model.extend(y), problem.sigma, self.kernel_error)
        variance = noise_variance(problem.sigma) * noise.mean((1, 2, 3))  # one a picture
        loss = "huber" if self.robust and self.loss in ("ssim", "l2") else self.loss
        strength = 2 * variance * _PRIOR * self.prior
        if loss == "ssim":
            similarity = Similarity(y)
            return similarity, strength / similarity.scale
        if loss == "l2":
            return lambda x: (x - y).square().mean((1, 2, 3)), strength
        deviation = variance.sqrt()
        if loss == "l1":
            return lambda x: (x - y).abs().mean((1, 2, 3)), strength / (2 * deviation)
        bend = 2 * deviation[:, None, None, None]

        def huber(x: Tensor) -> Tensor:
            size = (x - y).abs()
            return torch.where(size < bend, size.square(), bend * (2 * size - bend)).mean((1, 2, 3))

        return huber, strength


SOLVERS = (GDDec,)

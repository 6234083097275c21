"""Blur: convolution with a kernel that is given, computed from parameters or drawn, the same everywhere or not."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation import convolution, kernels
from restora.degradation.base import Linear, Size
from restora.degradation.convolution import BOUNDARIES, Boundary
from restora.degradation.distributions import Choice, bounds, check
from restora.errors import UsageError


class Convolution(Linear):
    """Base of all blurs by one kernel: a subclass gives `make()` and has a field `boundary`."""

    def make(self) -> Tensor:
        """The kernel, `kh x kw`."""
        raise NotImplementedError

    @functools.cached_property
    def psf(self) -> Tensor:
        """The kernel that is applied, `kh x kw` float32.

        Raises:
            UsageError: a parameter is still random.
        """
        if not self.fixed:
            raise UsageError(f"{type(self).__name__} is random; it has a kernel only when it has been drawn.")
        return self.make()

    def __post_init__(self) -> None:
        boundary = getattr(self, "boundary", "reflect")
        if isinstance(boundary, str) and boundary not in BOUNDARIES:
            raise UsageError(f"There is no boundary '{boundary}'; choose one of {', '.join(BOUNDARIES)}.")
        self.validate()

    def validate(self) -> None:
        """Raises UsageError for impossible parameters."""

    def _forward(self, x: Tensor) -> Tensor:
        return convolution.convolve(x, self.psf, self.boundary)  # type: ignore[attr-defined]

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        return convolution.transposed(y, self.psf, self.boundary, size)  # type: ignore[attr-defined]

    def _loss(self) -> Size:
        kh, kw = self.psf.shape
        return (kh - 1, kw - 1) if self.boundary == "valid" else (0, 0)  # type: ignore[attr-defined]

    def out_size(self, size: Size) -> Size:
        lost = self._loss()
        return size[0] - lost[0], size[1] - lost[1]

    def in_size(self, size: Size) -> Size:
        lost = self._loss()
        return size[0] + lost[0], size[1] + lost[1]

    def transfer_function(self, size: Size) -> Tensor:
        if self.boundary != "circular":  # type: ignore[attr-defined]
            return super().transfer_function(size)
        return convolution.transfer(self.psf, size)


class Blur(Convolution):
    """Convolution with a given kernel: odd, non-negative, of sum 1 (`kernels.repair` makes it so); or with one of several,
    `Blur(Choice(kernels.load_all(path)))`.

    boundary: ``reflect`` (about the outermost pixels), ``circular``, ``replicate``, or ``valid`` (the picture shrinks).
    signed: allow negative values, which kernels that stand for a resampling filter have.
    """

    kernel: Tensor | Choice
    boundary: Boundary = "reflect"
    signed: bool = False

    def validate(self) -> None:
        for kernel in self.kernel.values if isinstance(self.kernel, Choice) else (self.kernel,):
            if not isinstance(kernel, Tensor):
                raise UsageError("Blur takes the kernel as a tensor; the generators of degradation.kernels make one.")
            kernels.check(kernel.abs() / kernel.abs().sum() if self.signed else kernel, centred=False)

    def make(self) -> Tensor:
        assert isinstance(self.kernel, Tensor)
        return self.kernel.detach().float()


class GaussianBlur(Convolution):
    """Isotropic Gaussian: standard deviation in pixels; the kernel's side fits it where none is given."""

    sigma: Any
    size: Any = None
    boundary: Boundary = "reflect"

    def validate(self) -> None:
        check("The sigma of a blur", self.sigma, 0)

    def make(self) -> Tensor:
        return kernels.gaussian(self.sigma, self.size)


class AnisotropicBlur(Convolution):
    """Gaussian of two widths and an angle in degrees; see `kernels.anisotropic` and, for ``plateau``, `kernels.plateau`."""

    sigma_x: Any
    sigma_y: Any
    angle: Any = 0.0
    size: Any = 21
    shape: Any = 1.0
    form: Any = "gaussian"
    boundary: Boundary = "reflect"

    def validate(self) -> None:
        check("The sigma of a blur", self.sigma_x, 0)
        check("The sigma of a blur", self.sigma_y, 0)
        check("The shape of a blur", self.shape, 1e-3)
        if isinstance(self.form, str) and self.form not in ("gaussian", "plateau"):
            raise UsageError(f"The form of an anisotropic blur is gaussian or plateau, not '{self.form}'.")

    def make(self) -> Tensor:
        function = kernels.plateau if self.form == "plateau" else kernels.anisotropic
        return function(self.sigma_x, self.sigma_y, self.angle, self.size, self.shape)


class DefocusBlur(Convolution):
    """A lens out of focus: a uniform disc of `radius` pixels."""

    radius: Any
    boundary: Boundary = "reflect"

    def validate(self) -> None:
        check("The radius of a defocus", self.radius, 0)

    def make(self) -> Tensor:
        return kernels.disk(self.radius)


class MotionBlur(Convolution):
    """Even motion along a line of `length` pixels at `angle` degrees."""

    length: Any
    angle: Any = 0.0
    boundary: Boundary = "reflect"

    def validate(self) -> None:
        check("The length of a motion blur", self.length, 1)

    def make(self) -> Tensor:
        return kernels.motion(self.length, self.angle)


class TrajectoryBlur(Convolution):
    """Camera shake along a random path, drawn anew for each picture unless `key` is given; see `kernels.trajectory`."""

    size: Any = 31
    shake: Any = 0.5
    jerks: Any = 0.02
    exposure: Any = 1.0
    boundary: Boundary = "reflect"
    key: int | None = None

    def validate(self) -> None:
        low, high = bounds(self.exposure)
        if low <= 0 or high > 1:
            raise UsageError("The exposure of a trajectory is in (0, 1].")

    def make(self) -> Tensor:
        return kernels.trajectory(self.size, self.key or 0, self.shake, self.jerks, self.exposure)


class SincFilter(Convolution):
    """Ringing: a low-pass with a sharp `cutoff` in radians a pixel (pi leaves everything)."""

    cutoff: Any
    size: Any = 21
    boundary: Boundary = "reflect"

    def validate(self) -> None:
        check("The cutoff of a sinc filter", self.cutoff, 1e-3, 3.1415927)

    def make(self) -> Tensor:
        return kernels.sinc(self.cutoff, self.size)


class VaryingBlur(Linear):
    """Blur that differs from place to place: a grid of kernels, each fully valid at the centre of its cell, blended
    linearly in between. `y = sum_k (w_k * (x conv kernel_k))`, the weights summing to 1 at every pixel.

    kernels: `rows * columns x kh x kw`, row by row, each odd, non-negative, of sum 1. boundary: all but ``valid``.
    """

    kernels: Tensor
    rows: int
    columns: int
    boundary: Boundary = "reflect"

    def __post_init__(self) -> None:
        if self.boundary not in ("reflect", "circular", "replicate"):
            raise UsageError("A varying blur has a reflect, circular or replicate boundary.")
        if (
            not isinstance(self.kernels, Tensor)
            or self.kernels.dim() != 3
            or len(self.kernels) != self.rows * self.columns
        ):
            raise UsageError(f"A varying blur takes {self.rows}x{self.columns} kernels as one K x kh x kw tensor.")
        for kernel in self.kernels:
            kernels.check(kernel, centred=False)

    def weights(self, size: Size) -> Tensor:
        """How much each kernel counts at each pixel: `K x H x W`."""
        down, across = _tents(self.rows, size[0]), _tents(self.columns, size[1])
        return (down[:, None, :, None] * across[None, :, None, :]).flatten(0, 1)

    def _forward(self, x: Tensor) -> Tensor:
        weights = self.weights((x.shape[-2], x.shape[-1])).to(x)
        terms = (w * convolution.convolve(x, k, self.boundary) for w, k in zip(weights, self.kernels, strict=True))
        return _total(terms)

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        weights = self.weights(size).to(y)
        terms = (
            convolution.transposed(w * y, k, self.boundary, size) for w, k in zip(weights, self.kernels, strict=True)
        )
        return _total(terms)


def _tents(count: int, length: int) -> Tensor:
    """Linear weights along an axis: one row for each of `count` cells, 1 at its centre, 0 at its neighbours'."""
    if count == 1:
        return torch.ones(1, length)
    place = (torch.arange(length) + 0.5) * (count / length) - 0.5
    return F.relu(1 - (place.clamp(0, count - 1) - torch.arange(count)[:, None]).abs())


def _total(terms: Any) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total

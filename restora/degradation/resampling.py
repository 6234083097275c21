"""Resampling as degradations: MATLAB's reduction, plain decimation, there and back, and the random sizes of chains."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation.base import Degradation, Draw, Linear, Size
from restora.degradation.distributions import bounds, check
from restora.degradation.frames import over_frames
from restora.degradation.resize import _KERNELS, Method, _bands, _plan, resize, resize_uint8
from restora.errors import UsageError

Border = Literal["symmetric", "replicate"]


def resize_adjoint(
    y: Tensor, size: Size, scale: float | None, method: Method, antialias: bool, border: Border
) -> Tensor:
    """The transpose of `resize` (to y's size) for an input of `size`; `scale` None where a size was asked for."""
    plans = _plan(*size, scale, None) if scale is not None else _plan(*size, None, (y.shape[-2], y.shape[-1]))
    (out_h, scale_h), (out_w, scale_w) = plans
    wide = y.new_zeros((*y.shape[:-1], size[1]))
    start = 0
    for low, high, matrix in _bands(size[1], out_w, scale_w, method, antialias, border):
        wide[..., low:high] += y[..., start : start + len(matrix)] @ matrix.to(y)
        start += len(matrix)
    x = y.new_zeros((*y.shape[:-2], *size))
    start = 0
    for low, high, matrix in _bands(size[0], out_h, scale_h, method, antialias, border):
        x[..., low:high, :] += matrix.to(y).T @ wide[..., start : start + len(matrix), :]
        start += len(matrix)
    return x


def _check_method(method: Any) -> None:
    if isinstance(method, str) and method not in _KERNELS:
        raise UsageError(f"There is no resampling method '{method}'; choose one of {', '.join(_KERNELS)}.")


class Downsample(Linear):
    """MATLAB's `imresize` by 1/scale: ``bicubic``, ``bilinear``, ``box`` or ``nearest``; nothing is clipped.

    border: ``symmetric`` as MATLAB today, or ``replicate`` as the public benchmark files.
    """

    scale: Any
    method: Any = "bicubic"
    antialias: bool = True
    border: Border = "symmetric"

    def __post_init__(self) -> None:
        check("The scale of a reduction", self.scale, 1)
        _check_method(self.method)

    @property
    def grows(self) -> float:  # type: ignore[override]
        return 1 / bounds(self.scale)[1]

    def _forward(self, x: Tensor) -> Tensor:
        return resize(x, 1 / self.scale, None, self.method, self.antialias, self.border)

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        return resize_adjoint(y, size, 1 / self.scale, self.method, self.antialias, self.border)

    def out_size(self, size: Size) -> Size:
        (height, _), (width, _) = _plan(*size, 1 / self.scale, None)
        return height, width


class Upsample(Linear):
    """MATLAB's `imresize` by `scale`; methods as `Downsample`."""

    scale: Any
    method: Any = "bicubic"

    def __post_init__(self) -> None:
        check("The scale of an enlargement", self.scale, 1)
        _check_method(self.method)

    @property
    def grows(self) -> float:  # type: ignore[override]
        return bounds(self.scale)[0]

    def _forward(self, x: Tensor) -> Tensor:
        return resize(x, self.scale, None, self.method)

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        return resize_adjoint(y, size, self.scale, self.method, True, "symmetric")

    def out_size(self, size: Size) -> Size:
        (height, _), (width, _) = _plan(*size, self.scale, None)
        return height, width

    def in_size(self, size: Size) -> Size:
        return math.floor(size[0] / self.scale + 1e-9), math.floor(size[1] / self.scale + 1e-9)


class Downsample8Bit(Degradation):
    """The reduction of 8-bit files, by which the low-resolution pictures of Set5, Set14 and BSD100 were made: rounded and
    clipped between the two axes, borders replicated. The result is a multiple of 1/255."""

    scale: Any
    method: Any = "bicubic"

    def __post_init__(self) -> None:
        check("The scale of a reduction", self.scale, 1)
        _check_method(self.method)

    @property
    def grows(self) -> float:  # type: ignore[override]
        return 1 / bounds(self.scale)[1]

    def run(self, x: Tensor) -> Tensor:
        bytes_ = (x * 255).round().clamp(0, 255).to(torch.uint8)
        return resize_uint8(bytes_, 1 / self.scale, None, self.method).to(x.dtype) / 255


class Decimate(Linear):
    """Every `scale`-th pixel, the top left one first, as USRNet and the plug-and-play papers reduce (their `(.)down_s`)."""

    scale: int

    def __post_init__(self) -> None:
        check("The scale of a decimation", self.scale, 1)
        if self.scale != int(self.scale):
            raise UsageError(f"Decimation takes a whole number, not {self.scale}.")

    @property
    def grows(self) -> float:  # type: ignore[override]
        return 1 / self.scale

    def _forward(self, x: Tensor) -> Tensor:
        return x[..., :: self.scale, :: self.scale].clone()

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        x = y.new_zeros((*y.shape[:-2], *size))
        x[..., :: self.scale, :: self.scale] = y
        return x

    def out_size(self, size: Size) -> Size:
        return -(-size[0] // self.scale), -(-size[1] // self.scale)

    def transfer_function(self, size: Size) -> Tensor:
        """1 everywhere: a decimation after a circular blur leaves that blur's function as it is, on the fine grid."""
        return torch.ones(size, dtype=torch.complex64)


class DownUp(Linear):
    """Reduced by `factor` and enlarged to the size it had: detail is lost, the size is kept (SRRUNet, eq. 5.5)."""

    factor: Any
    down: Any = "bicubic"
    up: Any = "bicubic"

    def __post_init__(self) -> None:
        check("The factor of a reduction", self.factor, 1)
        _check_method(self.down)
        _check_method(self.up)

    def _small(self, size: Size) -> Size:
        return max(1, round(size[0] / self.factor)), max(1, round(size[1] / self.factor))

    def _forward(self, x: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        return resize(resize(x, size=self._small(size), method=self.down), size=size, method=self.up)

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        small = resize_adjoint(y, self._small(size), None, self.up, True, "symmetric")
        return resize_adjoint(small, size, None, self.down, True, "symmetric")


_FAST = {"area": "INTER_AREA", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC", "nearest": "INTER_NEAREST"}


class ResizeTo(Degradation):
    """To a size, by the fast filters of image libraries: ``area``, ``bilinear``, ``bicubic`` (a = -0.75) or ``nearest``, none
    of which widens when it reduces (but ``area``). For chains that imitate the wild; benchmarks use `Downsample`."""

    height: int
    width: int
    method: Any = "area"

    def __post_init__(self) -> None:
        _check_fast(self.method)
        check("The side of a picture", min(self.height, self.width), 1)

    def run(self, x: Tensor) -> Tensor:
        return resize_fast(x, (self.height, self.width), self.method)


class Rescale(Degradation):
    """By a factor of the present size, or with `of="input"` to `factor` times the size at the beginning of the chain.

    Random factors are what it is for: `Rescale(Uniform(0.15, 1.5), Choice(("area", "bilinear", "bicubic")))`.
    """

    factor: Any
    method: Any = "area"
    of: Literal["here", "input"] = "here"

    def __post_init__(self) -> None:
        check("The factor of a resampling", self.factor, 1e-4)
        _check_fast(self.method)
        if self.of not in ("here", "input"):
            raise UsageError(f"Rescale counts of 'here' or 'input', not '{self.of}'.")

    @property
    def fixed(self) -> bool:
        return self.of == "here" and super().fixed

    def fix(self, draw: Draw, size: Size) -> Degradation:
        drawn = super().fix(draw, size)
        assert isinstance(drawn, Rescale)
        base = draw.origin if self.of == "input" else size
        height, width = (max(1, math.ceil(n * drawn.factor - 1e-9)) for n in base)
        return ResizeTo(height, width, drawn.method)

    def run(self, x: Tensor) -> Tensor:
        size = (
            max(1, math.ceil(x.shape[-2] * self.factor - 1e-9)),
            max(1, math.ceil(x.shape[-1] * self.factor - 1e-9)),
        )
        return resize_fast(x, size, self.method)


def _check_fast(method: Any) -> None:
    if isinstance(method, str) and method not in _FAST:
        raise UsageError(f"There is no fast resampling '{method}'; choose one of {', '.join(_FAST)}.")


def resize_fast(x: Tensor, size: Size, method: str) -> Tensor:
    """`N x C x H x W` to `size`; OpenCV on the processor, torch elsewhere and where a gradient is wanted."""
    if (x.shape[-2], x.shape[-1]) == size:
        return x
    if x.device.type == "cpu" and x.shape[1] <= 4 and not (x.requires_grad and torch.is_grad_enabled()):
        import cv2

        flag = getattr(cv2, _FAST[method])

        def work(a: np.ndarray) -> np.ndarray:
            return cv2.resize(a, (size[1], size[0]), interpolation=flag)

        return over_frames(x, work, "a resampling")
    if method in ("area", "nearest"):
        return F.interpolate(x, size=size, mode=method)
    return F.interpolate(x, size=size, mode=method, align_corners=False)


class FitScale(Degradation):
    """To the chain's input size divided by `scale`, whatever the steps before have made of it: the end of a chain whose
    pairs must have a fixed ratio."""

    scale: float
    method: Any = "bicubic"

    def __post_init__(self) -> None:
        check("The scale of a reduction", self.scale, 1e-3)
        _check_fast(self.method)

    @property
    def fixed(self) -> bool:
        return False

    @property
    def grows(self) -> float:  # type: ignore[override]
        return 1 / self.scale

    def fix(self, draw: Draw, size: Size) -> Degradation:
        drawn = super().fix(draw, size)
        assert isinstance(drawn, FitScale)
        height, width = (max(1, math.ceil(n / self.scale - 1e-9)) for n in draw.origin)
        return ResizeTo(height, width, drawn.method)

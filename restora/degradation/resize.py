"""MATLAB's `imresize` on tensors: the resampling that the super-resolution benchmarks were made with.

Each axis is a banded matrix (a kernel row for every output pixel, the border folded in). It is applied block by block,
as small dense matrix products: a block of output pixels only needs a short run of input pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restora.errors import UsageError

Method = Literal["bicubic", "bilinear", "box", "nearest"]
Boundary = Literal["symmetric", "replicate"]
_BLOCK = 64  # output pixels a block: large enough for a fast product, small enough that the band stays dense


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5."""
    a = x.abs()
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return torch.where(a <= 1, near, torch.where(a <= 2, far, torch.zeros_like(a)))


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _box(x: Tensor) -> Tensor:
    return ((x >= -0.5) & (x < 0.5)).to(x.dtype)


_KERNELS = {"bicubic": (_cubic, 4.0), "bilinear": (_triangle, 2.0), "box": (_box, 1.0), "nearest": (_box, 1.0)}


@functools.lru_cache(maxsize=256)
def _bands(
    length: int, out_length: int, scale: float, method: Method, antialias: bool, boundary: Boundary
) -> tuple[tuple[int, int, Tensor], ...]:
    """The axis as blocks `(first input pixel, end, matrix of shape (outputs, inputs))`, float64."""
    kernel, width = _KERNELS[method]
    shrink = antialias and scale < 1 and method != "nearest"
    if shrink:
        width /= scale
    # centre of output pixel i in input coordinates, pixel centres at integers
    centre = (torch.arange(out_length, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = math.ceil(width) + 2
    index = torch.floor(centre - width / 2).to(torch.int64)[:, None] + torch.arange(taps)
    distance = centre[:, None] - index
    if method == "nearest":
        index, weight = (
            torch.floor(centre + 0.5).to(torch.int64)[:, None],
            torch.ones(out_length, 1, dtype=torch.float64),
        )
    else:
        weight = kernel(distance * scale) if shrink else kernel(distance)
        weight = weight / weight.sum(1, keepdim=True)
    if boundary == "symmetric":
        index = index.remainder(2 * length)
        index = torch.where(index < length, index, 2 * length - 1 - index)
    else:
        index = index.clamp(0, length - 1)
    blocks = []
    for start in range(0, out_length, _BLOCK):
        rows, values = index[start : start + _BLOCK], weight[start : start + _BLOCK]
        used = rows[values != 0]
        low, high = int(used.min()), int(used.max()) + 1
        rows, values = rows.clamp(low, high - 1), torch.where((rows >= low) & (rows < high), values, 0.0)
        matrix = torch.zeros(len(rows), high - low, dtype=torch.float64).scatter_add_(1, rows - low, values)
        blocks.append((low, high, matrix))
    return tuple(blocks)


def _along_height(x: Tensor, bands: tuple[tuple[int, int, Tensor], ...]) -> Tensor:
    return torch.cat([matrix.to(x) @ x[..., low:high, :] for low, high, matrix in bands], dim=-2)


def _along_width(x: Tensor, bands: tuple[tuple[int, int, Tensor], ...]) -> Tensor:
    return torch.cat([x[..., low:high] @ matrix.to(x).T for low, high, matrix in bands], dim=-1)


def _plan(
    height: int, width: int, scale: float | None, size: tuple[int, int] | None
) -> tuple[tuple[int, float], tuple[int, float]]:
    """Output length and scale of both axes, by MATLAB's rules."""
    if (scale is None) == (size is None):
        raise UsageError("resize takes either a scale or a size.")
    if size is not None:
        if min(size) < 1:
            raise UsageError(f"A picture of {size[1]}x{size[0]} pixels cannot be made.")
        return (size[0], size[0] / height), (size[1], size[1] / width)
    assert scale is not None
    if not 0 < scale < math.inf:
        raise UsageError(f"A scale factor must be positive, not {scale}.")
    # ceil as MATLAB does, but 30 * (1/3) must give 10 although the product is 10.000000000000002 in places
    lengths = [max(1, math.ceil(round(n * scale, 9))) for n in (height, width)]
    return (lengths[0], scale), (lengths[1], scale)


def resize(
    x: Tensor,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    method: Method = "bicubic",
    antialias: bool = True,
    boundary: Boundary = "symmetric",
) -> Tensor:
    """Resizes the last two axes as MATLAB's `imresize` does on floating-point images; nothing is clipped or rounded.

    Args:
        x: `... x H x W`, floating point, any range.
        scale: factor of both axes; the output has `ceil(scale * n)` pixels. Alternatively
        size: `(height, width)` of the output.
        method: ``bicubic`` (Keys, a = -0.5), ``bilinear``, ``box`` or ``nearest``.
        antialias: widen the kernel by 1/scale when shrinking.
        boundary: ``symmetric`` (today's MATLAB) or ``replicate`` (how the benchmark files were made).

    Raises:
        UsageError: neither or both of scale and size, or an impossible one, or an integer tensor.
    """
    if not x.is_floating_point():
        raise UsageError("resize takes floating-point tensors; `resize_uint8` is MATLAB's path for 8-bit images.")
    if method not in _KERNELS:
        raise UsageError(f"There is no resampling method '{method}'; choose one of {', '.join(_KERNELS)}.")
    height, width = x.shape[-2:]
    (out_h, scale_h), (out_w, scale_w) = _plan(height, width, scale, size)
    down = _bands(height, out_h, scale_h, method, antialias, boundary)
    across = _bands(width, out_w, scale_w, method, antialias, boundary)

    def one(picture: Tensor) -> Tensor:
        if out_h < height:  # the order that moves fewer values
            return _along_width(_along_height(picture, down), across)
        return _along_height(_along_width(picture, across), down)

    if x.dim() < 4 or len(x) == 1:
        return one(x)
    # one by one: how a product of matrices is summed depends on its size, and a picture's bits must not depend on its neighbours
    return torch.stack([one(picture) for picture in x])


@dataclass(frozen=True)
class Strip:
    """Some rows of a resampled picture (`top`, `bottom`) and the input rows that they need."""

    top: int
    bottom: int
    read_top: int
    read_bottom: int
    down: Tensor
    across: tuple[tuple[int, int, Tensor], ...]

    def apply(self, x: Tensor) -> Tensor:
        """`... x (read_bottom - read_top) x W` -> `... x (bottom - top) x out_W`."""
        return _along_width(self.down.to(x) @ x, self.across)


class Strips:
    """The work of `resize`, cut into strips of rows: for pictures that do not fit into memory as floats.

    `size` is the output's (height, width).

    >>> x = torch.rand(1, 3, 100, 40)
    >>> parts = [s.apply(x[..., s.read_top : s.read_bottom, :]) for s in Strips(100, 40, 1.3)]
    >>> bool((torch.cat(parts, dim=-2) - resize(x, 1.3)).abs().max() < 1e-5)
    True
    """

    def __init__(
        self,
        height: int,
        width: int,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        method: Method = "bicubic",
        antialias: bool = True,
    ) -> None:
        (out_h, scale_h), (out_w, scale_w) = _plan(height, width, scale, size)
        self.size = out_h, out_w
        self._down = _bands(height, out_h, scale_h, method, antialias, "symmetric")
        self._across = _bands(width, out_w, scale_w, method, antialias, "symmetric")

    def __iter__(self) -> Iterator[Strip]:
        top = 0
        for low, high, matrix in self._down:
            yield Strip(top, top + len(matrix), low, high, matrix, self._across)
            top += len(matrix)


def resize_uint8(
    x: Tensor,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    method: Method = "bicubic",
    antialias: bool = True,
) -> Tensor:
    """MATLAB's `imresize` of 8-bit images, as the public low-resolution benchmark files were made: the height first,
    rounded and clipped to 8 bits before the width, borders replicated.

    Args:
        x: `... x H x W`, uint8. The other arguments are those of `resize`.

    Returns:
        uint8, equal to the files of Set5, Set14 and BSD100 byte for byte.
    """
    if x.dtype != torch.uint8:
        raise UsageError(f"resize_uint8 takes uint8 tensors, not {x.dtype}.")
    height, width = x.shape[-2:]
    (out_h, scale_h), (out_w, scale_w) = _plan(height, width, scale, size)
    y = _round(_along_height(x.double(), _bands(height, out_h, scale_h, method, antialias, "replicate")))
    y = _round(_along_width(y, _bands(width, out_w, scale_w, method, antialias, "replicate")))
    return y.to(torch.uint8)


def _round(x: Tensor) -> Tensor:
    """Half away from zero, as MATLAB rounds; the products carry an error of 1e-13, which must not break a tie."""
    return torch.floor(x + 0.5 + 1e-9).clamp(0, 255)

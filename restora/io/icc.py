"""Colour profiles of RGB pictures made of a matrix and three curves, computed in floating point.

Pillow's LittleCMS works on 8 bits and cuts what lies outside sRGB. Here the working space is sRGB without limits: values
below 0 and above 1 stand for colours that sRGB cannot show, and come back unharmed. Source: ICC.1:2022, sections 8 to 10.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Array = np.ndarray

# sRGB's primaries adapted to D50 (columns R, G, B), in the rounding of sRGB profiles, whose white is D50 = white
_SRGB_TO_XYZ = np.array(
    [[0.43606567, 0.38514709, 0.14306641], [0.2224884, 0.71687317, 0.06060791], [0.01391602, 0.09707642, 0.71409607]]
)
# A pure power curve is flat at black: there, a rounding error of the float32 between would come back as many levels.
# So no curve is let flatter than this; it moves the darkest shadows by less than half a level of 8 bits.
_LEAST_SLOPE = 1 / 64


@dataclass(frozen=True)
class _Power:
    """ICC's parametric curve: (a x + b)^g + e from d on, c x + f below; odd for negative x."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def forward(self, x: Array) -> Array:
        size = np.abs(x)
        power = np.maximum(self.a * size + self.b, 0) ** self.g + self.e
        y = np.where(size >= self.d, power, self.c * size + self.f)
        return np.copysign(np.maximum(y, size * _LEAST_SLOPE), x)

    def inverse(self, y: Array) -> Array:
        size = np.abs(y)
        power = (np.maximum(size - self.e, 0) ** (1 / self.g) - self.b) / self.a
        start = max(self.a * self.d + self.b, 0) ** self.g + self.e
        below = np.clip((size - self.f) / self.c, 0, self.d) if self.c > 0 else self.d
        x = np.where(size >= start, power, below)
        return np.copysign(np.minimum(np.maximum(x, 0), size / _LEAST_SLOPE), y)


@dataclass(frozen=True)
class _Table:
    """A sampled curve, linear between the samples, going on straight beyond 1; odd for negative x."""

    samples: tuple[float, ...]

    @cached_property
    def _points(self) -> tuple[Array, Array]:
        x = np.linspace(0, 1, len(self.samples))
        y = np.maximum.accumulate(np.asarray(self.samples) - x * _LEAST_SLOPE) + x * _LEAST_SLOPE
        y = np.maximum(y, x * _LEAST_SLOPE)
        near = len(x) - 1 - max(1, len(x) // 16)
        slope = (y[-1] - y[near]) / (1 - x[near])
        return np.append(x, 9.0), np.append(y, y[-1] + 8 * slope)

    def forward(self, x: Array) -> Array:
        grid, values = self._points
        return np.copysign(np.interp(np.abs(x), grid, values), x)

    def inverse(self, y: Array) -> Array:
        grid, values = self._points
        return np.copysign(np.interp(np.abs(y), values, grid), y)


_SRGB_CURVE = _Power(g=2.4, a=1 / 1.055, b=0.055 / 1.055, c=1 / 12.92, d=0.04045)


@dataclass(frozen=True)
class ColourTransform:
    """Between a picture's own RGB and the working space, sRGB-encoded and unlimited. A pure function of each pixel.

    The arrays are H x W x 3 (or ... x 3), floating point, [0, 1] for what the file can hold; the results are float32.
    An identity passes arrays of any number of channels through.
    """

    description: str = "sRGB"
    curves: tuple[_Power | _Table, ...] = ()
    matrix: tuple[tuple[float, ...], ...] = ()  # linear RGB of the profile -> linear sRGB

    @property
    def is_identity(self) -> bool:
        return not self.curves

    def to_working(self, array: Array) -> Array:
        """The picture's values as sRGB-encoded float32."""
        if self.is_identity:
            return np.asarray(array, np.float32)
        linear = self._per_channel(array, inverse=False) @ np.array(self.matrix).T
        return _SRGB_CURVE.inverse(linear).astype(np.float32)

    def from_working(self, array: Array) -> Array:
        """The inverse of `to_working`; what the picture's own space cannot hold lies outside [0, 1]."""
        if self.is_identity:
            return np.asarray(array, np.float32)
        linear = _SRGB_CURVE.forward(np.asarray(array, np.float64)) @ np.linalg.inv(np.array(self.matrix)).T
        return self._per_channel(linear, inverse=True).astype(np.float32)

    def _per_channel(self, array: Array, inverse: bool) -> Array:
        array = np.asarray(array, np.float64)
        planes = [(c.inverse if inverse else c.forward)(array[..., i]) for i, c in enumerate(self.curves)]
        return np.stack(planes, axis=-1)


def transform_of(profile: bytes | None, channels: int = 3) -> ColourTransform:
    """The transform of an embedded profile. Never fails: a profile that cannot be used, or need not be, gives the identity,
    and `description` says so."""
    if not profile:
        return ColourTransform("sRGB (no profile)")
    name = description_of(profile)
    if channels != 3 or profile[16:20] != b"RGB ":
        return ColourTransform(f"{name} (left as it is)")
    try:
        transform = _parse(profile, name)
    except (ValueError, struct.error, IndexError, ZeroDivisionError, OverflowError, np.linalg.LinAlgError):
        return ColourTransform(f"{name} (not made of a matrix and curves; left as it is)")
    axis = np.linspace(0, 1, 9)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1)
    greys = np.repeat(np.linspace(0, 1, 81)[:, None], 3, axis=1)
    if all(np.abs(transform.to_working(x) - x).max() < 0.5 / 255 for x in (grid, greys)):
        return ColourTransform(name)
    return transform


def _tags(profile: bytes) -> dict[bytes, bytes]:
    if profile[36:40] != b"acsp" or len(profile) < 132:
        return {}
    count = min(int.from_bytes(profile[128:132], "big"), 1000)
    table = profile[132 : 132 + 12 * count]
    places = [struct.unpack(">4sII", table[i : i + 12]) for i in range(0, len(table) - 11, 12)]
    return {name: profile[offset : offset + size] for name, offset, size in places}


def description_of(profile: bytes) -> str:
    """The name that the profile gives itself."""
    text = _tags(profile).get(b"desc", b"")
    name = ""
    if text[:4] == b"desc":
        name = text[12 : 12 + int.from_bytes(text[8:12], "big")].decode("latin-1")
    elif text[:4] == b"mluc" and len(text) >= 28:
        size, offset = struct.unpack(">II", text[20:28])
        name = text[offset : offset + size].decode("utf-16-be", "replace")
    return " ".join(name.replace("\0", " ").split())[:100] or "a profile without a name"


def _parse(profile: bytes, name: str) -> ColourTransform:
    tags = _tags(profile)
    wanted = [tags.get(tag, b"") for tag in (b"rXYZ", b"gXYZ", b"bXYZ")]
    if profile[20:24] != b"XYZ " or any(tag[:4] != b"XYZ " for tag in wanted):
        raise ValueError("no matrix")
    columns = [[n / 65536 for n in struct.unpack(">3i", tag[8:20])] for tag in wanted]
    matrix = np.linalg.inv(_SRGB_TO_XYZ) @ np.array(columns).T
    if abs(np.linalg.det(matrix)) < 1e-3 or np.abs(matrix).max() > 100:
        raise ValueError("a matrix that cannot be inverted")
    curves = tuple(_curve(tags.get(tag, b"")) for tag in (b"rTRC", b"gTRC", b"bTRC"))
    return ColourTransform(name, curves, tuple(tuple(float(v) for v in row) for row in matrix))


def _curve(tag: bytes) -> _Power | _Table:
    if tag[:4] == b"curv":
        count = int.from_bytes(tag[8:12], "big")
        if count == 0:
            return _Power(1.0)
        values = struct.unpack(f">{count}H", tag[12 : 12 + 2 * count]) if count <= 65536 else ()
        if count == 1 and values[0]:
            return _Power(values[0] / 256)
        table = tuple(v / 65535 for v in values)
        if len(table) < 2 or table[-1] - table[0] < 0.1 or max(a - b for a, b in itertools.pairwise(table)) > 0.01:
            raise ValueError("a curve that does not rise")
        return _Table(table)
    if tag[:4] == b"para":
        kind = int.from_bytes(tag[8:10], "big")
        number = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}[kind] if kind <= 4 else 0
        values = tuple(v / 65536 for v in struct.unpack(f">{number}i", tag[12 : 12 + 4 * number]))
        if not number or not 0.1 <= values[0] <= 10 or (number > 1 and values[1] <= 0):
            raise ValueError("an unknown curve")
        g, *rest = values
        if kind == 0:
            return _Power(g)
        a, b = rest[:2]
        if kind in (1, 2):
            c = rest[2] if kind == 2 else 0.0
            return _Power(g, a, b, 0.0, max(0.0, -b / a), c, c)
        return _Power(g, a, b, rest[2], rest[3], *(rest[4:6] if kind == 4 else ()))
    raise ValueError("no curve")

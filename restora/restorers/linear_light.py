"""Between sRGB values and linear light, for what a lens did to light and not to grey levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from restora.engine.run import Convert


def to_linear(x: np.ndarray) -> np.ndarray:
    """sRGB's curve (IEC 61966-2-1), odd for values below 0."""
    size = np.abs(x)
    return np.copysign(np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4), x).astype(np.float32)


def from_linear(x: np.ndarray) -> np.ndarray:
    """The inverse of `to_linear`."""
    size = np.abs(x)
    return np.copysign(np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055), x).astype(
        np.float32
    )


def conversions(transform: Any, linear: bool) -> tuple[Convert | None, Convert | None]:
    """What the engine needs to take tiles into the working space and back: by the picture's profile, and by sRGB's curve.

    Args:
        transform: `Picture.colour_transform()`. linear: work in linear light.
    """
    decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
    if not linear:
        return decode, encode

    def into(x: np.ndarray) -> np.ndarray:
        return to_linear(x if decode is None else decode(x))

    def back(x: np.ndarray) -> np.ndarray:
        y = from_linear(x)
        return y if encode is None else encode(y)

    return into, back

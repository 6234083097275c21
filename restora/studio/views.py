"""Pictures as a browser shows them: a region at a size, 8 bits, sRGB, as PNG or JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restora.errors import UsageError
from restora.io import Picture

_OVERVIEW = 2048  # longest side of the reduced copy that small views are made from


@dataclass(frozen=True)
class Region:
    """A part of a picture in its pixels, cut to what there is, and the longest side of what is shown."""

    x: int
    y: int
    w: int
    h: int
    side: int

    @classmethod
    def of(cls, width: int, height: int, x: int, y: int, w: int | None, h: int | None, side: int) -> Region:
        """The region within a picture of that size; without w and h all that lies right of and below x, y.

        Raises:
            UsageError: it lies outside.
        """
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"The region begins at {x}, {y}, outside the picture of {width}x{height} pixels.")
        return cls(x, y, min(w or width, width - x), min(h or height, height - y), side)


def view(pixels: np.ndarray, alpha: np.ndarray | None, picture: Picture, region: Region) -> tuple[bytes, str]:
    """The region as bytes and their type. What is reduced goes out as JPEG, pixels that may be looked at as PNG."""
    reduced = max(region.w, region.h) > region.side
    part = shown(pixels, alpha, picture, region)
    return encoded(part, lossless=not reduced or part.shape[2] == 4 or max(part.shape[:2]) <= 256)


def shown(pixels: np.ndarray, alpha: np.ndarray | None, picture: Picture, region: Region) -> np.ndarray:
    """The region in 8-bit sRGB, `H x W x {3, 4}`, reduced to the wanted side."""
    rows, columns = slice(region.y, region.y + region.h), slice(region.x, region.x + region.w)
    part = reduced_to(pixels[rows, columns], region.side)
    transform = picture.colour_transform()
    if part.shape[2] == 1:
        part = np.repeat(part, 3, axis=2)
    if not transform.is_identity:
        part = transform.to_working(as_float(part))
    colour = to_bytes(part)
    if alpha is None:
        return colour
    return np.dstack([colour, to_bytes(reduced_to(alpha[rows, columns, None], region.side))[..., 0]])


def reduced_to(part: np.ndarray, side: int) -> np.ndarray:
    """`H x W x C` at most `side` long, by area; as it is when it is not longer."""
    import cv2

    height, width, channels = part.shape
    longest = max(height, width)
    if longest <= side:
        return part
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)


def as_float(part: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(part.dtype, 1.0)
    return part.astype(np.float32) / np.float32(top)


def to_bytes(part: np.ndarray) -> np.ndarray:
    """Pixels of any type as uint8."""
    if part.dtype == np.uint8:
        return part
    if part.dtype == np.uint16:
        return ((part.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.rint(np.clip(part, 0, 1) * 255).astype(np.uint8)


def encoded(part: np.ndarray, lossless: bool = True) -> tuple[bytes, str]:
    """`H x W x {1, 3, 4}` uint8 as the bytes of a file, and their type. PNG with little effort: it is for this machine."""
    import cv2

    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(part.shape[2] if part.ndim == 3 else 1)
    image = np.ascontiguousarray(part) if order is None else cv2.cvtColor(np.ascontiguousarray(part), order)
    if lossless:
        return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(), "image/png"
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes(), "image/jpeg"


def overview(pixels: np.ndarray) -> np.ndarray:
    """A reduced copy of a large picture."""
    return reduced_to(pixels, _OVERVIEW)


def difference(before: np.ndarray, after: np.ndarray, gain: float) -> np.ndarray:
    """Where two 8-bit views differ: grey 128 where they do not, `gain` times the difference around it."""
    signed = after[..., :3].astype(np.float32) - before[..., :3]
    return np.clip(np.rint(128 + gain * signed), 0, 255).astype(np.uint8)


def heat(plane: np.ndarray) -> np.ndarray:
    """A map `H x W` in [0, 1] as colours from black over red and yellow to white."""
    import cv2

    colours = cv2.applyColorMap(np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)

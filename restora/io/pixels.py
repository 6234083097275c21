"""Arrays of pixels: turned upright, split into colour and alpha, taken to another depth, filled where they are invisible."""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from restora.errors import UsageError

Array = np.ndarray
T = TypeVar("T")
R = TypeVar("R")
_BYTES = 1 << 20  # a strip: large enough for the coders, small beside any picture


def strips(height: int, row_bytes: int, size: int = _BYTES) -> list[tuple[int, int]]:
    """The rows in runs of about `size` bytes, as (first, end)."""
    step = max(1, size // max(1, row_bytes))
    return [(y, min(height, y + step)) for y in range(0, height, step)]


_coding = threading.local()


@contextlib.contextmanager
def coding_threads(count: int | None) -> Iterator[None]:
    """Inside, in this thread, `map_ahead` takes so many threads; None leaves the choice to it."""
    before = getattr(_coding, "threads", None)
    _coding.threads = count
    try:
        yield
    finally:
        _coding.threads = before


def map_ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` on a few threads, in order, with only a few results waiting (zlib and numpy let go of the interpreter)."""
    workers = getattr(_coding, "threads", None) or min(8, os.cpu_count() or 1)
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[R]] = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def deflated(data: Array | memoryview, window: int = 15, finish: bool = True) -> bytes:
    """Filtered pixels compressed: of a photograph only the distribution of the differences, since the search for repeats
    costs three times the time and finds nothing; of drawings everything. Not finished, the stream can be continued."""
    values = np.frombuffer(data, np.uint8)
    flat = np.count_nonzero(values) < 0.75 * values.size
    coder = zlib.compressobj(
        6 if flat else 1, zlib.DEFLATED, window, 9, zlib.Z_DEFAULT_STRATEGY if flat else zlib.Z_RLE
    )
    return coder.compress(values.data) + coder.flush(zlib.Z_FINISH if finish else zlib.Z_SYNC_FLUSH)


def upright(array: Array, orientation: int) -> Array:
    """H x W (x C) as a viewer shows it, for EXIF orientation 1 to 8; contiguous."""
    if orientation == 1:
        return array
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def split(array: Array) -> tuple[Array, Array | None]:
    """An array as users bring it -> (H x W x {1, 3}, alpha H x W or None).

    Takes H x W or H x W x {1, 2, 3, 4} of bool, uint8, uint16 or a float type; bool becomes 0 and 255, floats float32.

    Raises:
        UsageError: another shape or type.
    """
    array = np.asanyarray(array)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float32)
    elif array.dtype not in (np.uint8, np.uint16, np.float32):
        raise UsageError(
            f"A picture has 8-bit, 16-bit or floating-point pixels, not {array.dtype}; convert the array first."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise UsageError(f"A picture's array is H x W or H x W x C with 1 to 4 channels, not of shape {array.shape}.")
    colours = 3 if array.shape[2] >= 3 else 1
    return array[..., :colours], array[..., colours] if array.shape[2] > colours else None


def to_depth(array: Array, depth: int) -> Array:
    """The values of any depth at 8 or 16 bits, or as float32 (32) in [0, 1]; floats are clipped to [0, 1], NaN is 0.

    16 to 8 bits is rounded (65535 -> 255), 8 to 16 exact (x 257); there and back is the identity.
    """
    dtype = {8: np.uint8, 16: np.uint16, 32: np.float32}[depth]
    if array.dtype == dtype:
        return array
    values = np.empty(array.shape, dtype)
    for first, end in strips(
        len(array), array[:1].nbytes
    ):  # the steps between are as large as a strip, not as the picture
        values[first:end] = _at_depth(array[first:end], depth)
    return values


def _at_depth(array: Array, depth: int) -> Array:
    if depth == 32:
        return array.astype(np.float32) / np.float32(255 if array.dtype == np.uint8 else 65535)
    if array.dtype.kind == "f":
        return np.clip(np.nan_to_num(array), 0, 1) * np.float32((1 << depth) - 1) + np.float32(0.5)
    if depth == 16:
        return array.astype(np.uint16) * np.uint16(257)
    return (array.astype(np.uint32) + 128) // 257


def over_white(pixels: Array, alpha: Array) -> Array:
    """Colour composited on white by straight alpha, at the pixels' depth."""
    top = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    mixed = np.empty_like(pixels, subok=False)
    for first, end in strips(len(pixels), pixels[:1].nbytes):
        cover = alpha[first:end, :, None].astype(np.float32) / np.float32(top)
        values = pixels[first:end].astype(np.float32) * cover + np.float32(top) * (1 - cover)
        mixed[first:end] = values if pixels.dtype.kind == "f" else values + np.float32(0.5)
    return mixed


def unpremultiplied(pixels: Array, alpha: Array) -> Array:
    """Straight colour from colour that is stored multiplied by alpha."""
    top = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    cover = alpha[..., None].astype(np.float64) / top
    straight = np.divide(pixels, cover, out=np.zeros(pixels.shape), where=cover > 0)
    return (
        straight.astype(np.float32)
        if pixels.dtype.kind == "f"
        else np.clip(np.rint(straight), 0, top).astype(pixels.dtype)
    )


def filled(pixels: Array, alpha: Array) -> Array:
    """The pixels with those that can hardly be seen (alpha up to 2 %) given the colour of the nearest visible one, so that
    a filter across the edge finds no colour that nobody was meant to see.

    Args:
        pixels: H x W x C. alpha: H x W, same type, straight.

    Returns:
        a copy; `pixels` itself where everything or nothing is visible. Linear in the number of pixels.
    """
    import cv2

    top = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    hidden = (~(alpha > 0.02 * top)).astype(np.uint8)  # NaN counts as hidden
    count = int(np.count_nonzero(hidden))
    if count in (0, hidden.size):
        return pixels
    labels = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    labels, hidden = labels.reshape(-1), hidden.reshape(-1)
    runs = strips(hidden.size, 1, 1 << 22)
    place = np.empty(int(labels.max()) + 1, np.int64)
    for first, end in runs:  # every visible pixel is the one of its label
        seen = np.flatnonzero(hidden[first:end] == 0)
        place[labels[first:end][seen]] = seen + first
    flat = np.array(pixels, copy=True, order="C", subok=False).reshape(-1, pixels.shape[2])
    for first, end in runs:
        wanted = np.flatnonzero(hidden[first:end])
        flat[first:end][wanted] = flat[place[labels[first:end][wanted]]]
    return flat.reshape(pixels.shape)

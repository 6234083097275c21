"""Blur kernels that a user draws, writes, picks as a motion, or has estimated."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import io
import math
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from restora.errors import UsageError
from restora.studio.preview import Busy
from restora.studio.store import Store

_LARGEST = 255
_estimating = threading.BoundedSemaphore(1)


def make(request: Any, store: Store) -> dict[str, Any]:
    """A kernel of a `schemas.KernelRequest`, kept: the fields of `schemas.KernelShown`.

    Raises:
        UsageError: not exactly one source, or one that is no kernel. Busy: an estimate is being made already.
    """
    given = [name for name in ("text", "drawing", "motion", "file") if getattr(request, name) is not None]
    if len(given) != 1:
        raise UsageError("A kernel is made from exactly one of text, drawing, motion and file.")
    kernel, text = {"text": _written, "drawing": _drawn, "motion": _moved, "file": _estimated}[given[0]](request, store)
    if max(kernel.weights.shape) > _LARGEST:
        raise UsageError(f"A kernel has at most {_LARGEST} pixels a side; this one has {kernel.shape}.")
    return shown(store.add_kernel(kernel, text), store)


def shown(id: str, store: Store) -> dict[str, Any]:
    """The fields of `schemas.KernelShown`."""
    kernel = store.kernel(id)
    return {
        "id": id,
        "text": kernel.label,
        "size": kernel.shape,
        "estimated": kernel.estimated,
        "warnings": [store.scrub(note) for note in kernel.notes],
    }


def picture_of(id: str, store: Store, side: int) -> np.ndarray:
    """The kernel as a picture, `H x W` uint8, its brightest value white, enlarged by whole pixels up to `side`."""
    k = store.kernel(id).weights.numpy()
    plane = np.rint(k / k.max() * 255).astype(np.uint8)
    times = max(1, side // max(plane.shape))
    return plane.repeat(times, axis=0).repeat(times, axis=1)


def _written(request: Any, store: Store) -> tuple[Any, str]:
    from restora.restorers.blur_kernel import BlurKernel
    from restora.studio.steering import formula, is_formula

    text = request.text.strip()
    if is_formula(text):
        return formula(text), text
    try:
        rows = [
            [float(v) for v in line.replace(",", " ").replace(";", " ").split()]
            for line in text.splitlines()
            if line.strip()
        ]
    except ValueError:
        rows = []
    if not rows or len({len(r) for r in rows}) != 1 or len(rows) > _LARGEST or len(rows[0]) > _LARGEST:
        raise UsageError(
            "A kernel in words is a formula (gaussian:1.6, motion:25:30, disk:4) or rows of as many numbers each."
        )
    return BlurKernel.of(np.array(rows)), f"typed, {len(rows)}x{len(rows[0])}"


def _drawn(request: Any, store: Store) -> tuple[Any, str]:
    from restora.io import Picture
    from restora.restorers.blur_kernel import BlurKernel

    text = request.drawing.partition("base64,")[2] if request.drawing.startswith("data:") else request.drawing
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("The drawing is no base64 of a picture.") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawing"
        path.write_bytes(data)
        with store.named(path, "the drawing"):
            picture = Picture.open(path, 4 * _LARGEST * _LARGEST)
    plane = picture.pixels.astype(np.float64).mean(axis=2)
    if picture.alpha is not None:  # drawn on nothing
        plane *= picture.alpha > 0
    if plane.max() <= 0:
        raise UsageError("The drawing is black: draw the path of the blur in white.")
    kernel = BlurKernel.of(plane.astype(np.float32))
    notes = tuple(n for n in kernel.notes if "sums to" not in n)  # grey levels always do
    return dataclasses.replace(kernel, notes=notes), "drawn"


def _moved(request: Any, store: Store) -> tuple[Any, str]:
    from restora.studio.steering import formula

    # a pixel's way across the picture; angles turn as `degradation.kernels.motion` turns them
    length = max(1.0, math.hypot(request.motion.dx, request.motion.dy))
    angle = math.degrees(math.atan2(request.motion.dy, request.motion.dx)) % 180
    text = f"motion:{length:.2f}:{angle:.2f}"
    return formula(text), text


def _estimated(request: Any, store: Store) -> tuple[Any, str]:
    from restora.restorers.deconvolve import estimated

    picture = store.picture(request.file)
    if not _estimating.acquire(blocking=False):
        raise Busy("A kernel is being estimated already; wait for it.")
    try:
        kernel = estimated(picture.filled())
    finally:
        _estimating.release()
    return kernel, kernel.label


def as_file(id: str, store: Store) -> bytes:
    """The kernel as .npy, for the command line."""
    out = io.BytesIO()
    np.save(out, store.kernel(id).weights.numpy())
    return out.getvalue()

"""One picture through several restorers, side by side on a sheet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restora.errors import UsageError
from restora.evaluation import drawing, inputs, safety
from restora.evaluation.benchmark import load
from restora.evaluation.metrics import psnr, ssim, to_uint8
from restora.evaluation.rules import protocol as find_protocol

if TYPE_CHECKING:
    from restora.engine import Settings
    from restora.restorers import Restorer

_SIDE = 280


@dataclass
class Compared:
    """One restorer's result. `psnr` and `ssim` only with a reference; `against`: PSNR against the first column."""

    name: str
    seconds: float
    image: np.ndarray
    psnr: float | None = None
    ssim: float | None = None
    against: float | None = None


@dataclass
class Comparison:
    """The results and the sheet, `H x W x 3` uint8. `box`: left, top, width and height of the crop in the results."""

    results: list[Compared]
    sheet: np.ndarray
    box: drawing.Box
    protocol: str
    notes: list[str] = field(default_factory=list)


def compare(
    models: Sequence[str | Path | Restorer],
    picture: str | Path,
    reference: str | Path | None = None,
    *,
    scale: int | None = None,
    protocol: str = "",
    crop: drawing.Box | None = None,
    settings: Settings | None = None,
    inset: np.ndarray | None = None,
    **controls: Any,
) -> Comparison:
    """Restores a picture by several restorers and draws the sheet: each result whole with the crop's place, the crop, and
    its difference from the reference (without one: from the plain result of the first column).

    Args:
        models: names, files or restorers. picture: the input. reference: the clean picture, for scores.
        scale: of super-resolution; the models' smallest common one when not given. protocol: of the scores; chosen by task
            when empty (``sr-y``, ``denoise-rgb``, ``deblur-rgb``, ``jpeg-y``).
        crop: left, top, width, height in the result; by default where the results differ most.
        inset: something small to show in the corner of the input, `h x w` (the blur kernel).

    Raises:
        UsageError: fewer than one model, results of different sizes, a crop outside. PictureError: an unreadable picture.
    """
    if not models:
        raise UsageError("Name at least one model to compare.")
    image = inputs.read(Path(picture))
    task, scale = _task_and_scale(models, settings, scale)
    rules = find_protocol(protocol or _usual(task))
    image = inputs.channels(image, rules)
    recipe = inputs.Recipe(task, scale)
    low = image.astype(np.float32) / np.float32(255)
    results = [Compared("input" if scale == 1 else "bicubic", 0.0, to_uint8(inputs.enlarged(low, scale)))]
    warm = low if task == "deconvolve" else np.ascontiguousarray(low[:48, :48])  # a kernel may be larger than a piece
    for model in models:
        restorer = load(model, settings, recipe)
        if restorer.name == "bicubic":
            continue
        known = {k: v for k, v in {"scale": float(scale), **controls}.items() if k in restorer.controls.model_fields}
        restorer(warm, settings=settings, **known)  # loads the weights
        started = time.perf_counter()
        output = restorer(low, settings=settings, **known).array
        seconds = time.perf_counter() - started
        results.append(Compared(restorer.name, seconds, to_uint8(np.clip(output, 0, 1))))
    sizes = {r.image.shape for r in results}
    if len(sizes) > 1:
        raise UsageError(
            f"The results differ in size ({', '.join(map(str, sizes))}): compare models of one task and scale."
        )
    clean, notes = _reference(reference, rules, results[0].image)
    for r in results:
        if clean is not None:
            r.psnr, r.ssim = psnr(r.image, clean, rules, scale), ssim(r.image, clean, rules, scale)
        else:
            r.against = psnr(r.image, results[0].image, rules, scale)
    shown = [*(r.image for r in results), *([clean] if clean is not None else [])]
    size = max(32, min(results[0].image.shape[:2]) // 6)
    box = _checked(crop, results[0].image) if crop else _region(shown, size)
    return Comparison(results, _sheet(results, clean, box, inset), box, rules.label, notes)


def _task_and_scale(
    models: Sequence[str | Path | Restorer], settings: Settings | None, scale: int | None
) -> tuple[str, int]:
    restorers = [load(m, settings, inputs.Recipe("super-resolution" if scale else "", scale or 1)) for m in models]
    tasks = {r.task for r in restorers}
    if len(tasks) > 1:
        raise UsageError(f"These models do different tasks ({', '.join(sorted(tasks))}): compare models of one task.")
    task = tasks.pop()
    if task != "super-resolution":
        return task, (scale or 1) if task == "deconvolve" else 1
    if scale is None:
        scales = [set(getattr(r, "scales", [4])) for r in restorers if r.name != "bicubic"] or [{4}]
        common = set.intersection(*scales)
        if not common:
            raise UsageError("These models have no scale in common: say which one with --scale.")
        scale = max(common)
    return task, scale


def _usual(task: str) -> str:
    return {"super-resolution": "sr-y", "denoise": "denoise-rgb", "dejpeg": "jpeg-y"}.get(task, "deblur-rgb")


def _reference(path: str | Path | None, rules: Any, result: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    if path is None:
        return None, []
    clean = inputs.channels(inputs.read(Path(path)), rules)
    height, width = result.shape[:2]
    if (
        clean.shape[0] - height not in range(8)
        or clean.shape[1] - width not in range(8)
        or clean.shape[2] != result.shape[2]
    ):
        raise UsageError(
            f"The reference has {clean.shape[1]}x{clean.shape[0]} pixels and {clean.shape[2]} channels, the results have "
            f"{width}x{height} and {result.shape[2]}: another picture or another scale."
        )
    clean = np.ascontiguousarray(clean[:height, :width])
    return clean, safety.check_pair(result / 255.0, clean / 255.0)


def _region(shown: list[np.ndarray], size: int) -> drawing.Box:
    if len(shown) > 1:
        return drawing.most_different(shown, size)
    height, width = shown[0].shape[:2]
    return (width - size) // 2, (height - size) // 2, min(size, width), min(size, height)


def _checked(crop: drawing.Box, image: np.ndarray) -> drawing.Box:
    left, top, width, height = crop
    if min(crop[:2]) < 0 or min(crop[2:]) < 4 or left + width > image.shape[1] or top + height > image.shape[0]:
        raise UsageError(
            f"The crop {width}x{height} at {left},{top} is smaller than 4x4 or reaches outside the result of "
            f"{image.shape[1]}x{image.shape[0]} pixels."
        )
    return crop


def _sheet(results: list[Compared], clean: np.ndarray | None, box: drawing.Box, inset: np.ndarray | None) -> np.ndarray:
    against = clean if clean is not None else results[0].image
    columns: list[tuple[str, list[str], np.ndarray]] = []
    if clean is not None:
        columns.append(("reference", ["", ""], clean))
    for r in results:
        first = f"{r.psnr:.2f} dB  SSIM {r.ssim:.4f}" if r.psnr is not None else ""
        if r.against is not None and r is not results[0]:
            first = f"{r.against:.2f} dB from {results[0].name}"
        columns.append((r.name, [first, f"{r.seconds:.2f} s" if r.seconds else ""], r.image))
    wholes = [_fitted(drawing.with_box(i, box)) for _, _, i in columns]
    if inset is not None:
        given = [name for name, _, _ in columns].index(results[0].name)
        wholes[given] = drawing.with_inset(wholes[given], inset)
    whole = [drawing.labelled(w, [n, *lines], _SIDE) for w, (n, lines, _) in zip(wholes, columns, strict=True)]
    crops = [drawing.labelled(_fitted(drawing.crop(i, box, _SIDE)), [], _SIDE) for _, _, i in columns]
    maps = [
        drawing.labelled(_fitted(drawing.crop(drawing.difference(i, against), box, _SIDE)), [], _SIDE)
        for _, _, i in columns
    ]
    return drawing.grid([whole, crops, maps])


def _fitted(image: np.ndarray) -> np.ndarray:
    import cv2

    factor = _SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)

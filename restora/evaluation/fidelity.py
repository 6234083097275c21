"""Whether a restorer is faithful where there is nothing to restore: mean colour, flat areas, seams, odd sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from restora.errors import RestoraError, UsageError
from restora.evaluation.metrics import to_uint8

if TYPE_CHECKING:
    from restora.restorers import Restorer

DRIFT = 1.0  # grey levels of 255 by which the mean of a channel may change
TEXT_DRIFT = 3.0  # the same for black text on white, where what sharpening adds beyond white is cut off
GRID = 0.5  # standard deviation, in grey levels, of what should be flat
SEAM = 1.0  # grey levels between a picture in tiles and whole, where the network promises that they are equal
_BORDER = 16  # of a flat picture that is left out: networks pad with zeros
WITHOUT_MEAN = ("checkerboard", "one pixel high", "one pixel wide", "one pixel", "3x3")
FLAT = ("black", "white", "grey", "colour")


def hard_pictures(side: int = 64) -> dict[str, np.ndarray]:
    """Pictures that no training set holds, `H x W x 3` uint8, by name: flat ones, a gradient, text, a checkerboard of single
    pixels, and some that are hardly pictures."""
    import cv2

    def flat(*colour: int) -> np.ndarray:
        return np.full((side, side, 3), colour, np.uint8)

    ramp = np.linspace(0, 255, side).round().astype(np.uint8)
    text = flat(255, 255, 255)
    for row, words in enumerate(("Restora 0123", "the quick fox", "AaGgQq&%@#")):
        cv2.putText(text, words, (2, 16 + 18 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
    line = np.random.default_rng(0).integers(0, 256, (1, side, 3), dtype=np.uint8)
    y, x = np.mgrid[:side, :side]
    return {
        "black": flat(0, 0, 0),
        "white": flat(255, 255, 255),
        "grey": flat(128, 128, 128),
        "colour": flat(200, 60, 90),
        "gradient": np.repeat(np.repeat(ramp[None, :, None], side, 0), 3, 2),
        "text": text,
        "checkerboard": np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, 2),
        "one pixel high": line,
        "one pixel wide": np.ascontiguousarray(line.transpose(1, 0, 2)),
        "one pixel": line[:, :1].copy(),
        "3x3": line[0, :9].reshape(3, 3, 3).copy(),
    }


@dataclass(frozen=True)
class Finding:
    """What became of a picture: the largest change of a channel's mean and, of a flat one, the standard deviation inside, in
    grey levels; or why there is no result."""

    name: str
    drift: float = 0.0
    grid: float = 0.0
    problem: str = ""

    @property
    def faithful(self) -> bool:
        """Whether nothing is wrong. Of a checkerboard of single pixels, and of pictures that are all border, no mean is asked:
        they only have to come back whole."""
        limit = TEXT_DRIFT if self.name == "text" else DRIFT
        return not self.problem and (self.drift <= limit or self.name in WITHOUT_MEAN) and self.grid <= GRID


def examine(restorer: Restorer, name: str, picture: np.ndarray, **controls: Any) -> Finding:
    """Restores a picture and compares means; of a flat one it looks for a pattern inside. What undoes a kernel gets the picture
    blurred by it: undoing a blur that is not there overshoots."""
    try:
        checked = restorer.check_controls(controls)
        picture = _blurred(picture, getattr(checked, "kernel", None))
        result = restorer(picture, **controls)
    except RestoraError as error:
        return Finding(name, problem=f"{type(error).__name__}: {error}")
    expected = restorer.output_size(picture.shape[0], picture.shape[1], checked)
    array = result.array
    if array.shape != (*expected, picture.shape[2]) or array.dtype != picture.dtype:
        return Finding(name, problem=f"{array.dtype} of shape {array.shape} came back")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return Finding(name, problem="NaN or infinity in the result")
    after, before = (to_uint8(a).astype(np.float64) for a in (array, picture))
    drift = float(np.abs(after.mean(axis=(0, 1)) - before.mean(axis=(0, 1))).max())
    grid = 0.0
    if name in FLAT and min(after.shape[:2]) > 2 * _BORDER:
        grid = float(after[_BORDER:-_BORDER, _BORDER:-_BORDER].std(axis=(0, 1)).max())
    return Finding(name, drift, grid)


def _blurred(picture: np.ndarray, kernel: Any) -> np.ndarray:
    """By a control's kernel, if there is one that is not larger than the picture."""
    from restora.degradation.convolution import convolve

    if kernel is None or any(k > n for k, n in zip(kernel.weights.shape, picture.shape, strict=False)):
        return picture
    x = torch.from_numpy(to_uint8(picture).transpose(2, 0, 1).astype(np.float32) / 255)[None]
    return to_uint8(convolve(x, kernel.weights, "reflect")[0].permute(1, 2, 0).numpy())


def seam(restorer: Restorer, picture: np.ndarray, tile: int, **controls: Any) -> tuple[float, float]:
    """The largest and the root-mean-square difference, in grey levels, of a picture restored in tiles and in one piece."""
    results = [
        restorer(picture, settings=dataclasses.replace(restorer.settings, tile=side), **controls).array
        for side in (tile, 0)
    ]
    gap = np.abs(to_uint8(results[0]).astype(np.float64) - to_uint8(results[1]))
    return float(gap.max()), float(np.sqrt((gap**2).mean()))


def repeated(pixels: np.ndarray, period: int = 8, window: int = 64) -> float:
    """How much of a picture's fine detail repeats every `period` pixels, as the grid of a network's strides does and hardly any
    texture: the median over windows of the standard deviation, in grey levels, of the period's medians.

    Args:
        pixels: `H x W x C`, uint8, each side at least `window`. window: side of a window in pixels, a multiple of `period`.

    Raises:
        UsageError: a picture smaller than a window.
    """
    import cv2

    if min(pixels.shape[:2]) < window:
        raise UsageError(f"A repeated pattern is looked for in windows of {window} pixels; this picture is smaller.")
    x = pixels.astype(np.float32)
    fine = x - cv2.GaussianBlur(x, (0, 0), 1.5).reshape(x.shape)
    rows, columns = (n // window for n in pixels.shape[:2])
    times = window // period
    parts = fine[: rows * window, : columns * window].reshape(rows, times, period, columns, times, period, -1)
    typical = np.median(parts, axis=(1, 4))  # rows x period x columns x period x C
    return float(np.median(typical.std(axis=(1, 3))))


def settings_of(restorer: Restorer) -> dict[str, Any]:
    """Controls under which a restorer can be examined: those that it asks for, at a moderate value."""
    values: dict[str, Any] = {}
    for name, field in restorer.controls.model_fields.items():
        if name == "kernel":
            values[name] = "gaussian:1"
        elif name == "sigma":
            values[name] = 10.0
        elif field.is_required():
            values[name] = {"quality": 50, "factor": 2.0}.get(name, 1.0)
    return values

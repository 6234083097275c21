"""Guards against numbers that look good and mean nothing.

A source document reports 48 dB for deblurring. Its training log shows why: the error was taken on tensors with mean 0 and
variance 1, the peak was 255, and the true value is near 13 dB: what a blank picture gets (spec/vitdeblur.md, section 0).
Here a reference that is no image in [0, 1] is refused, and what else is suspicious is said beside the score.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import cv2
import numpy as np

from restora.errors import UsageError

_TOLERANCE = 1 / 255  # what a resampling filter or a half-precision conversion may overshoot
_FAR = 0.25  # outside [0, 1] by more than this, restored values are no overshoot any more


class RangeWarning(UserWarning):
    """Values far outside [0, 1] were clipped."""


def check_reference(array: np.ndarray) -> None:
    """Refuses a floating-point reference that is no image in [0, 1].

    Raises:
        UsageError: values of 0 to 255, of -1 to 1, or normalised by a mean and a deviation; the sentence says which.
    """
    if array.dtype == np.uint8:
        return
    low, high = float(array.min()), float(array.max())
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return
    raise UsageError(f"The reference must lie in [0, 1], but goes from {low:.3g} to {high:.3g}; {_guess(low, high)}.")


def _guess(low: float, high: float) -> str:
    if low >= -_TOLERANCE and high > 2:
        return f"divide it by {255 if high <= 256 else 65535} first"
    if low >= -1 - _TOLERANCE and high <= 1 + _TOLERANCE:
        return "it seems to be scaled to [-1, 1]: use (x + 1) / 2"
    return "it seems to be normalised by a mean and a deviation: undo that first (x * std + mean)"


def warn_range(array: np.ndarray) -> None:
    """Warns when an image that will be clipped to [0, 1] lies so far outside that it is on another scale."""
    if array.dtype == np.uint8:
        return
    share = outside(array)
    if share > 0.25:
        low, high = float(array.min()), float(array.max())
        message = (
            f"{share:.0%} of an image's values lie far outside [0, 1] ({low:.3g} to {high:.3g}) and were clipped; "
            f"{_guess(low, high)}."
        )
        warnings.warn(message, RangeWarning, stacklevel=4)


def outside(array: np.ndarray) -> float:
    """Share of a floating-point image's values that no overshoot explains (below -0.25 or above 1.25)."""
    return float(np.mean((array < -_FAR) | (array > 1 + _FAR)))


@dataclass(frozen=True)
class Shift:
    """How far an image is displaced against its reference: it has to be moved by (`down`, `right`) pixels to fit.
    `gain` is what that brings, in dB."""

    down: float
    right: float
    gain: float

    def __str__(self) -> str:
        return f"{self.down:+.1f} down, {self.right:+.1f} right ({self.gain:.1f} dB better)"


def find_shift(image: np.ndarray, reference: np.ndarray) -> Shift | None:
    """The displacement of two pictures of one size, by phase correlation; None when there is none of 0.4 pixels or more
    that brings them at least 0.5 dB nearer.

    The peaks of the phase correlation are candidates; the one whose overlap fits best is refined between the pixels by a
    parabola through the errors beside it.

    Args:
        image, reference: `H x W` or `H x W x C`, one scale, at least 16x16.
    """
    x, y = _flat(image), _flat(reference)
    if x.shape != y.shape or min(x.shape) < 16 or x.std() == 0 or y.std() == 0:
        return None
    found = min(_peaks(x, y), key=lambda at: _overlap_error(x, y, *at))
    down, right = (
        at
        + _valley([_overlap_error(x, y, *(n + step * (a == axis) for a, n in enumerate(found))) for step in (-1, 0, 1)])
        for axis, at in enumerate(found)
    )
    margin = math.ceil(max(abs(down), abs(right))) + 2
    if max(abs(down), abs(right)) < 0.4 or 2 * margin + 4 > min(x.shape):
        return None
    move = np.array([[1.0, 0.0, right], [0.0, 1.0, down]])
    moved = cv2.warpAffine(x, move, (x.shape[1], x.shape[0]), flags=cv2.INTER_CUBIC)
    inner = slice(margin, -margin), slice(margin, -margin)
    before, after = (float(np.mean((z[inner] - y[inner]) ** 2)) for z in (x, moved))
    gain = 10 * math.log10(before / max(after, 1e-12)) if before > 0 else 0.0
    return Shift(round(down, 2), round(right, 2), gain) if gain >= 0.5 else None


def _peaks(x: np.ndarray, y: np.ndarray, count: int = 5) -> list[tuple[int, int]]:
    """Shifts (down, right) at the highest points of the phase correlation, and no shift."""
    window = np.outer(np.hanning(x.shape[0] + 2)[1:-1], np.hanning(x.shape[1] + 2)[1:-1])
    first, second = (np.fft.rfft2((z - z.mean()) * window) for z in (x, y))
    power = second * first.conj()
    correlation = np.fft.irfft2(power / (np.abs(power) + 1e-3 * np.abs(power).mean()), s=x.shape)
    highest = np.argsort(correlation, axis=None)[-count:]
    shifts = [(0, 0)]
    for flat in highest:
        at = [int(n) for n in np.unravel_index(flat, x.shape)]
        down, right = (n - size if n > size // 2 else n for n, size in zip(at, x.shape, strict=True))
        if abs(down) <= x.shape[0] // 3 and abs(right) <= x.shape[1] // 3:
            shifts.append((down, right))
    return shifts


def _overlap_error(x: np.ndarray, y: np.ndarray, down: int, right: int) -> float:
    """Mean squared difference where `x`, moved by whole pixels, lies over `y`."""
    height, width = x.shape
    over = y[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    moved = x[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    return float(np.mean((moved - over) ** 2))


def _valley(errors: list[float]) -> float:
    """Where a parabola through the values at -1, 0 and 1 is lowest, within half a step."""
    bend = errors[0] - 2 * errors[1] + errors[2]
    return float(np.clip((errors[0] - errors[2]) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0


def check_pair(image: np.ndarray, reference: np.ndarray) -> list[str]:
    """What is wrong with a test pair, in sentences; empty when nothing is.

    Args:
        image: the degraded picture, brought to the reference's size. reference: `H x W x C`. Both uint8 or in [0, 1].
    """
    flags = []
    for what, array in (("input", image), ("reference", reference)):
        if np.ptp(array) == 0:
            flags.append(f"the {what} is one constant colour: no score means anything on it")
    if flags:
        return flags
    if image.shape == reference.shape and np.array_equal(image, reference):
        return ["input and reference are the same picture: nothing is to be restored"]
    x, y = (cv2.GaussianBlur(_flat(a), (0, 0), 2.0) for a in (image, reference))
    if x.shape == y.shape:
        likeness = float(np.corrcoef(x.ravel(), y.ravel())[0, 1])
        if not likeness > 0.5:
            flags.append(f"input and reference hardly resemble each other (correlation {likeness:.2f}): a wrong pair?")
        elif shift := find_shift(image, reference):
            flags.append(f"input and reference are misaligned: move the input by {shift}")
    return flags


def check_score(psnr: float, ssim: float, input_psnr: float | None = None, constant: float | None = None) -> list[str]:
    """What makes a score suspicious, in sentences; empty when nothing does.

    Args:
        psnr, ssim: the restored image's. input_psnr: the degraded input's. constant: PSNR of a picture of one colour.
    """
    flags = []
    if math.isinf(psnr):
        flags.append("the result equals the reference: was the reference fed in, or trained on?")
    elif psnr > 60:
        flags.append(f"{psnr:.1f} dB is more than a restoration of 8-bit images can reach: check ranges and pairs")
    elif psnr >= 40 and ssim < 0.9:
        flags.append(f"{psnr:.1f} dB and SSIM {ssim:.3f} contradict each other: a wrong range, as a rule")
    elif psnr >= 35 and ssim < 0.7:
        flags.append(f"{psnr:.1f} dB and SSIM {ssim:.3f} hardly go together: check ranges")
    if input_psnr is not None and math.isfinite(psnr) and psnr - input_psnr > 20:
        flags.append(f"{psnr - input_psnr:.1f} dB above its input: too good, check for leaked test data")
    if constant is not None and psnr < constant:
        flags.append(
            f"worse than a picture of one colour ({constant:.1f} dB): the output is on another scale or broken"
        )
    return flags


def _flat(image: np.ndarray) -> np.ndarray:
    x = np.asarray(image, np.float64)
    return x if x.ndim == 2 else x.mean(axis=2)

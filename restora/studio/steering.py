"""From what a client sent to what a restorer takes; and the user's hand on the result: a mask, a blend with the input."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from restora.engine import Progress, Settings
from restora.errors import UsageError
from restora.io import Picture
from restora.restorers import Report, Restorer
from restora.restorers.buffers import resample
from restora.studio.store import Store

_ID = re.compile(r"[mk]-[0-9a-f]{16}")
_FORMULA = re.compile(r"(?:gaussian|anisotropic|motion|disk|trajectory)(?::-?[0-9]{1,4}(?:\.[0-9]{1,6})?){0,4}")
# how many numbers a formula has, at least and at most, and how many of them are sizes; the largest size
_NUMBERS = {
    "gaussian": (1, 1, 1),
    "anisotropic": (2, 3, 2),
    "motion": (1, 2, 1),
    "disk": (1, 1, 1),
    "trajectory": (1, 2, 1),
}
_LARGEST = {"gaussian": 40, "anisotropic": 40, "motion": 250, "disk": 125, "trajectory": 250}
ESTIMATE = "estimate"
_ROWS = 256


def resolve(model: Mapping[str, Any], values: Mapping[str, Any], store: Store, preview: bool = False) -> dict[str, Any]:
    """The controls as the restorer takes them, ids replaced by what they stand for.

    Text that is neither a choice, `auto`, a kernel's formula nor an id of ours is refused: a path of the host would be text.

    Raises:
        UsageError: an unknown control, a wrong type, a missing kernel. NotFound: an id that is not here.
    """
    known = {c["name"]: c for c in model["controls"]}
    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{model['name']} has no control '{name}'; it has {', '.join(known) or 'none'}.")
        control = known[name]
        if value is None or (value == control["default"] and not control["required"]):
            continue
        settled = _value(control, value, store, preview)
        if name.startswith("options."):
            options[name.removeprefix("options.")] = settled
        else:
            found[name] = settled
    for name, control in known.items():
        if control["required"] and name not in found:
            what = " Draw it, pick a motion, or estimate it." if control["type"] == "kernel" else ""
            raise UsageError(f"{model['name']} needs a value for '{name}'.{what}")
        if control["default"] == "auto" and name not in found:
            found[name] = "auto"
    if options:
        found["options"] = options
    return found


def _value(control: Mapping[str, Any], value: Any, store: Store, preview: bool) -> Any:
    name, kind = control["name"], control["type"]
    if kind == "boolean":
        if not isinstance(value, bool):
            raise UsageError(f"'{name}' is true or false.")
        return value
    if kind == "choice":
        if value not in control["choices"]:
            raise UsageError(f"'{name}' is one of {', '.join(control['choices'])}.")
        return value
    if kind == "kernel":
        return _kernel(value, store, preview)
    if kind == "regions" or (control["spatial"] and isinstance(value, str) and value.startswith("m-")):
        if not isinstance(value, str) or not _ID.fullmatch(value):
            raise UsageError(f"'{name}' is the id of a mask that was sent before.")
        return store.mask_path(value)
    if isinstance(value, bool) or (isinstance(value, str) and not (control["auto"] and value == "auto")):
        more = " or auto" if control["auto"] else ""
        more += ", or the id of a mask" if control["spatial"] else ""
        raise UsageError(f"'{name}' is a number{more}.")
    if not isinstance(value, str):
        low, high = (
            control[key] if control[key] is not None else edge for key, edge in (("min", -math.inf), ("max", math.inf))
        )
        if kind == "integer" and value != int(value):
            raise UsageError(f"'{name}' is a whole number.")
        if not name.startswith("options.") and name != "sigma" and not low <= value <= high:
            raise UsageError(f"'{name}' lies between {low:g} and {high:g}; {value:g} was given.")
        if abs(value) > 1e9:
            raise UsageError(f"'{name}' is too large.")
        return int(value) if kind == "integer" else value
    return value


def _kernel(value: Any, store: Store, preview: bool) -> Any:
    text = value.strip() if isinstance(value, str) else ""
    if _ID.fullmatch(text):
        return store.kernel(text)
    if text == ESTIMATE:
        if preview:
            raise UsageError("An estimate needs the whole picture: make the kernel first, then preview with it.")
        return ESTIMATE
    if is_formula(text):
        return formula(text)
    raise UsageError(
        "A kernel is a formula such as gaussian:1.6, motion:25:30 or disk:4, the id of a kernel made before, or estimate."
    )


def is_formula(text: str) -> bool:
    """Whether a text has the form of a kernel's formula."""
    return bool(_FORMULA.fullmatch(text))


def formula(text: str) -> Any:
    """The kernel of a formula. Not by `kernels.parse`, which looks for a file of that name first: in the server's folder.

    Raises:
        UsageError: too few or too many numbers, or too large ones.
    """
    from restora.degradation import kernels
    from restora.restorers.blur_kernel import BlurKernel

    name, *parts = text.split(":")
    values = [float(part) for part in parts]
    least, most, reach = _NUMBERS[name]
    if not least <= len(values) <= most or max([abs(v) for v in values[:reach]]) > _LARGEST[name]:
        raise UsageError(
            f"'{text}' is no kernel: it has {least} to {most} numbers, sizes up to {_LARGEST[name]} pixels."
        )
    if name == "trajectory":
        return dataclasses.replace(
            BlurKernel.of(kernels.trajectory(int(values[0]), seed=int([*values, 0.0][1]))), label=text
        )
    return dataclasses.replace(BlurKernel.of(getattr(kernels, name)(*values)), label=text)


@dataclasses.dataclass(frozen=True)
class Steering:
    """What of the result is taken: `blend` of it, where `mask` (`H x W` uint8, any size) is white."""

    blend: float = 1.0
    mask: np.ndarray | None = None

    @property
    def none(self) -> bool:
        return self.blend >= 1 and self.mask is None


class Steered(Restorer):
    """A restorer whose result is mixed with its input, evenly or where a mask says so.

    >>> Steered(restora.load("fsrcnn_x4"), 0.7, "mask.png")("face.jpg").save("face_x4.png")  # doctest: +SKIP

    Args:
        restorer: any. blend: 0 to 1, the share of its result. mask: a grey picture (path or `H x W` uint8) of any size, laid over
            the input: white takes the result, black keeps the input.
    """

    def __init__(self, restorer: Restorer, blend: float = 1.0, mask: str | Path | np.ndarray | None = None) -> None:
        self.inner, self.steering = (
            restorer,
            Steering(blend, _read_mask(mask) if isinstance(mask, (str, Path)) else mask),
        )
        self.name, self.task, self.settings = restorer.name, restorer.task, restorer.settings
        self.controls = restorer.controls  # type: ignore[misc]

    def check_controls(self, values: dict[str, Any]) -> Any:
        return self.inner.check_controls(values)

    @property
    def fingerprint(self) -> str:
        mask = self.steering.mask
        drawn = "" if mask is None else hashlib.sha256(mask.tobytes()).hexdigest()[:12]
        return f"{self.inner.fingerprint}+{self.steering.blend:g}+{drawn}"

    def output_size(self, height: int, width: int, controls: Any) -> tuple[int, int]:
        return self.inner.output_size(height, width, controls)

    def restore(
        self,
        picture: Picture,
        controls: Any,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        result, report = self.inner.restore(picture, controls, progress, cancelled, settings)
        if self.steering.none:
            return result, report
        report.notes.append(
            f"{'Within the mask, ' if self.steering.mask is not None else ''}{self.steering.blend:.0%} of the result was mixed "
            "with the input."
        )
        return result.replace(pixels=mix(picture.pixels, result.pixels, report.scale, self.steering)), report


def _read_mask(path: str | Path) -> np.ndarray:
    pixels = Picture.open(path).pixels
    return np.rint(pixels.mean(axis=2) / (257 if pixels.dtype == np.uint16 else 1)).astype(np.uint8)


def mix(before: np.ndarray, after: np.ndarray, scale: float, steering: Steering) -> np.ndarray:
    """The result where it is wanted and the input, enlarged, elsewhere; both `H x W x C` of one type."""
    height, width = after.shape[:2]
    if before.shape != after.shape:
        before = enlarged(before, scale, (height, width))
    mask = None
    if steering.mask is not None:
        mask = cv2.resize(steering.mask, (width, height), interpolation=cv2.INTER_LINEAR)
    mixed = np.empty_like(after)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        share: Any = np.float32(steering.blend)
        if mask is not None:
            share = share * mask[rows, :, None].astype(np.float32) / 255
        part = before[rows] + (after[rows].astype(np.float32) - before[rows]) * share
        mixed[rows] = np.rint(part).astype(after.dtype) if after.dtype.kind == "u" else part
    return mixed


def enlarged(pixels: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """`H x W x C` by bicubic interpolation at exactly that size (height, width)."""
    large = resample(pixels, scale, pixels.dtype)
    if large.shape[:2] != size:  # a size that was rounded another way
        large = cv2.resize(large, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, -1)
    return large


def cut(picture: Picture, x: int, y: int, w: int, h: int) -> Picture:
    """A part of a picture."""
    alpha = None if picture.alpha is None else np.ascontiguousarray(picture.alpha[y : y + h, x : x + w])
    return picture.replace(pixels=np.ascontiguousarray(picture.pixels[y : y + h, x : x + w]), alpha=alpha)

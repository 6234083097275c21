"""Pairs that were photographed one after the other: paired by the scene's number, and looked at with suspicion."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from restora.degradation.datasets.layouts import Pair, Pairs
from restora.errors import RestoraError, UsageError

Array = np.ndarray
_NAME = re.compile(r"(?P<id>\d+)_(?P<device>.+)_(?P<kind>[A-Za-z]+)")
_FOLDERS = {"motion": "motion_blurred", "defocus": "defocused_blurred"}
_UNLIKE = 0.35  # correlation of the two small luminances below which they hardly show the same scene


def kaggle_blur(root: str | Path, kind: str = "motion", exclude: Collection[int] = (), look: bool = True) -> Pairs:
    """The Kaggle blur set (350 scenes): `sharp/`, `defocused_blurred/` and `motion_blurred/` with names
    `{scene}_{device}_{S|F|M}.ext` (spec vitdeblur, data preparation).

    Args:
        kind: ``motion`` or ``defocus``. exclude: scene numbers to leave out (the set's own list of bad ones, say).
        look: also open the pictures and compare them (`suspicious`).

    Returns:
        pairs in the order of the scenes' numbers; scenes with one side only in `missing`; in `suspicious` those with several
        files, unequal devices, and what `suspicious` sees.
    """
    root = Path(root)
    if kind not in _FOLDERS:
        raise UsageError(f"The blur set has motion and defocus blur, not '{kind}'.")
    sides = []
    found = Pairs()
    for folder in ("sharp", _FOLDERS[kind]):
        if not (root / folder).is_dir():
            raise UsageError(f"'{root}' does not look like the blur set: it has no folder '{folder}'.")
        scenes: dict[int, list[Path]] = {}
        for file in sorted((root / folder).iterdir()):
            match = _NAME.fullmatch(file.stem)
            if match is None:
                found.suspicious.setdefault(f"{folder}/{file.name}", []).append("its name holds no scene number")
            elif int(match["id"]) not in exclude:
                scenes.setdefault(int(match["id"]), []).append(file)
        sides.append(scenes)
    sharp, blurred = sides
    for scene in sorted(set(sharp) | set(blurred)):
        if scene not in sharp or scene not in blurred:
            found.missing += sharp.get(scene, []) + blurred.get(scene, [])
            continue
        clean, degraded = sharp[scene][0], blurred[scene][0]
        name = str(scene)
        found.pairs.append(Pair(name, degraded, clean))
        reasons = []
        if len(sharp[scene]) > 1 or len(blurred[scene]) > 1:
            reasons.append("the scene has several files; the first was taken")
        devices = [match["device"] for f in (clean, degraded) if (match := _NAME.fullmatch(f.stem))]
        if len(set(devices)) > 1:
            reasons.append(f"two devices: {devices[0]} and {devices[1]}")
        if reasons:
            found.suspicious[name] = reasons
    if look:
        for name, reasons in suspicious(found, blurred=True).items():
            found.suspicious[name] = found.suspicious.get(name, []) + reasons
    return found


def suspicious(pairs: Pairs, scale: int = 1, blurred: bool = False) -> dict[str, list[str]]:
    """Pairs that should be looked at by eye before anything is learnt from them or measured on them, with reasons: another
    size, another scene, unreadable, identical, or (with `blurred`) a degraded side that is the sharper one."""
    from restora.io import Picture

    found: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.degraded is None:
            continue
        try:
            clean, degraded = (_grey(Picture.open(f).pixels) for f in (pair.clean, pair.degraded))
        except RestoraError as error:
            found[pair.name] = [f"unreadable: {error}"]
            continue
        reasons = []
        if clean.shape != (degraded.shape[0] * scale, degraded.shape[1] * scale):
            sizes = f"{clean.shape[1]}x{clean.shape[0]} and {degraded.shape[1]}x{degraded.shape[0]}"
            reasons.append(f"sizes {sizes}" + (f" at scale {scale}" if scale > 1 else ""))
        elif scale == 1 and np.array_equal(clean, degraded):
            reasons.append("the two pictures are identical")
        likeness = _correlation(clean, degraded)
        if likeness < _UNLIKE:
            reasons.append(f"they hardly show the same scene (correlation {likeness:.2f})")
        if blurred and not reasons and _sharpness(degraded) > 1.05 * _sharpness(clean):
            reasons.append("the blurred picture is the sharper one")
        if reasons:
            found[pair.name] = reasons
    return found


def _grey(pixels: Array) -> Array:
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return pixels.astype(np.float32).mean(2) / np.float32(top)


def _correlation(a: Array, b: Array) -> float:
    import cv2

    small = [cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA).ravel() for p in (a, b)]
    if min(s.std() for s in small) < 1e-4:
        return 1.0  # a flat picture tells nothing
    return float(np.corrcoef(small[0], small[1])[0, 1])


def _sharpness(grey: Array) -> float:
    """Mean energy of the Laplacian of a picture that fine noise has been taken from."""
    import cv2

    return float(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.CV_32F).var())

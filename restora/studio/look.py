"""The automatic look: what seems to have happened to a picture, and what would help."""

from __future__ import annotations

from typing import Any

import numpy as np

from restora.errors import UsageError
from restora.io import Picture

_SIDE = 1024  # of the middle part that is measured
_NOISY, _SOFT, _COMPRESSED = 4.0, 0.55, 75
_SMALL, _LARGE = 1.0, 24.0  # megapixels


def look(picture: Picture) -> dict[str, Any]:
    """Noise, blur, JPEG quality and size of a picture, with advice: the fields of `schemas.Look`."""
    from restora.degradation.estimate import jpeg_quality
    from restora.evaluation.no_reference import noise_level, sharpness

    part = middle(picture.pixels)
    noise = _told(lambda: round(noise_level(part), 2))
    blur = _told(lambda: round(1 - sharpness(np.clip(part, 0, 1) if part.dtype.kind == "f" else part), 3))
    quality = _told(lambda: jpeg_quality(part, picture.metadata.quantisation))
    megapixels = picture.width * picture.height / 1e6
    size = "small" if megapixels < _SMALL else "large" if megapixels > _LARGE else "medium"
    task, advice = advise(noise, blur, quality, size)
    return {"noise": noise, "blur": blur, "jpeg_quality": quality, "size": size, "task": task, "advice": advice}


def _told(measure: Any) -> Any:
    """A measure, or None where this picture does not show it: one smaller than the measure's window, a grid that is not there."""
    try:
        return measure()
    except UsageError:
        return None


def middle(pixels: np.ndarray, side: int = _SIDE) -> np.ndarray:
    """The middle of a picture, which says as much as all of it."""
    top, left = (max(0, n - side) // 2 // 8 * 8 for n in pixels.shape[:2])  # on the grid of JPEG's blocks
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def advise(noise: float | None, blur: float | None, quality: int | None, size: str) -> tuple[str | None, str]:
    """The task that would help most, and a sentence. What hides everything else comes first: noise, then JPEG's blocks (whose
    rings look like noise to no measure, but to every network), then blur, then size."""
    found = []
    if noise is not None and noise >= _NOISY:
        found.append(("denoise", f"noise of about {noise:.0f} of 255"))
    if quality is not None and quality < _COMPRESSED:
        found.append(("dejpeg", f"JPEG compression of quality {quality}"))
    if blur is not None and blur > _SOFT:
        found.append(("deconvolve", "little sharpness"))
    if size == "small":
        found.append(("upscale", "few pixels"))
    if not found:
        return None, "Nothing stands out: the picture is fairly clean and sharp. Enlarge it if it has to be larger."
    words = {
        "denoise": "remove the noise first",
        "dejpeg": "remove the traces of JPEG first",
        "deconvolve": "undo the blur, with a kernel that is estimated or drawn",
        "upscale": "enlarge it",
    }
    seen = ", ".join(text for _, text in found)
    return found[0][0], f"Found: {seen}. Best {words[found[0][0]]}."

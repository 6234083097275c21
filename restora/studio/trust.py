"""How far a result can be trusted: whether the input is still in it, whether colours moved, which detail nothing confirms.

Detail that is not confirmed: what of the result vanishes when the result is degraded again as the input was. For an enlargement
that is what lies between the pixels of the input; for an undone blur what the blur would have swallowed; for the rest, the
structure (not the grain) of what was changed.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np

from restora.errors import UsageError
from restora.studio import views
from restora.studio.queue import Job, Queue

_SIDE = 1280  # of the part of the input that is measured
_RESULT = 3072  # longest side of what is looked at of the result
_GAIN = 8.0  # of the map: 1/8 of the full range is its brightest
_NOTICED = 6.0  # grey levels of unconfirmed detail that a viewer notices
_one = threading.Lock()


def measure(queue: Queue, job: Job) -> dict[str, Any]:
    """The fields of `schemas.Trust`; kept with the job."""
    from restora.studio.store import read_json, write_json

    kept = queue.folder / job.id / "trust.json"
    done = queue.result_path(job).stat().st_mtime_ns
    data = read_json(kept)
    if data is None or data.get("of") != done:
        with _one:
            data = {"of": done, **_measured(queue, job)}
            write_json(kept, data)
    return {k: v for k, v in data.items() if k != "of"}


def _measured(queue: Queue, job: Job) -> dict[str, Any]:
    before, after, scale, region = parts(queue, job)
    small = _resized(after, before.shape[:2])
    again, model, ready = _again(queue, job, after, before, scale)
    unconfirmed = _unconfirmed(before, after, again, scale, ready)
    share = float((unconfirmed > _NOTICED / 255).mean())
    from restora.evaluation.diagnostics import colour_drift

    drift = colour_drift(small, before)
    error = float(np.mean((again - before) ** 2)) if again.shape == before.shape else None
    psnr = None if error is None else round(min(99.0, 10 * np.log10(1 / max(error, 1e-10))), 2)
    return {
        "consistency": {"model": model, "psnr": psnr, "sentence": _verdict(psnr, model)},
        "colour_drift": {
            **dict(zip(("red", "green", "blue"), (round(v, 3) for v in drift.rgb), strict=True)),
            "delta_e": round(drift.delta_e, 3),
        },
        "invented": round(share, 4),
        "map": f"/api/jobs/{job.id}/trust/map",
        "sentence": _told(share, drift.delta_e),
        "before": _scores(before),
        "after": _scores(after),
        "region": {"x": region.x, "y": region.y, "w": region.w, "h": region.h},
    }


def map_of(queue: Queue, job: Job, side: int) -> np.ndarray:
    """Where the detail is that the input does not confirm: colours `H x W x 3` uint8, black for none, of the measured part."""
    with _one:
        before, after, scale, _ = parts(queue, job)
        again, _, ready = _again(queue, job, after, before, scale)
        plane = _unconfirmed(before, after, again, scale, ready)
    return views.heat(views.reduced_to(plane[..., None], side)[..., 0] * _GAIN)


def parts(queue: Queue, job: Job) -> tuple[np.ndarray, np.ndarray, float, views.Region]:
    """The middle of the input and the same part of the result, float32 sRGB in [0, 1], the scale, the region of the input."""
    given, result = queue.store.open(queue.input_path(job), job.name), queue.picture(job)
    scale = result.width / given.width
    side = max(1, min(_SIDE, int(_RESULT / scale)))
    left, top = max(0, given.width - side) // 2, max(0, given.height - side) // 2
    region = views.Region.of(given.width, given.height, left, top, side, side, 1 << 20)
    x, y, w, h = (round(n * scale) for n in (region.x, region.y, region.w, region.h))
    there = views.Region.of(result.width, result.height, x, y, w, h, 1 << 20)
    shown = [views.as_float(views.shown(p.pixels, None, p, r)) for p, r in ((given, region), (result, there))]
    return shown[0], shown[1], scale, region


def _again(
    queue: Queue, job: Job, after: np.ndarray, before: np.ndarray, scale: float
) -> tuple[np.ndarray, str, np.ndarray]:
    """The result degraded as its input was, in words how, and the blurred result before it was reduced."""
    blurred, words = after, []
    if job.task == "deconvolve":
        kernel = _kernel(queue, job)
        if kernel is not None:
            blurred = cv2.filter2D(after, -1, np.ascontiguousarray(kernel[::-1, ::-1]), borderType=cv2.BORDER_REFLECT)
            words.append("blurred by its kernel")
    reduced = _resized(blurred, before.shape[:2]) if scale != 1 else blurred
    if scale != 1:
        words.append(f"reduced by {scale:g} (bicubic)")
    return reduced, " and ".join(words) or "as it is", blurred


def _kernel(queue: Queue, job: Job) -> np.ndarray | None:
    from restora.studio.steering import ESTIMATE, resolve

    kernel = resolve(queue.catalogue.model(job.model), job.controls, queue.store).get("kernel")
    return None if kernel is None or kernel == ESTIMATE else kernel.weights.numpy()


def _unconfirmed(
    before: np.ndarray, after: np.ndarray, again: np.ndarray, scale: float, blurred: np.ndarray
) -> np.ndarray:
    """Strength of the detail that the input does not confirm, `H x W` of the result, in [0, 1]."""
    if scale != 1:
        detail = after - _resized(again, after.shape[:2])
    elif blurred is not after:
        detail = after - blurred
    else:
        # grain averages away, structure stays
        detail = cv2.GaussianBlur(after - before, (0, 0), 2.0)
    power = cv2.GaussianBlur(np.square(detail).mean(axis=2), (0, 0), max(2.0, scale))
    return np.sqrt(np.maximum(power, 0))


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`H x W x C` at that size, as MATLAB's bicubic."""
    import torch

    from restora.degradation import resize

    if picture.shape[:2] == size:
        return picture
    x = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    return resize(x, size=size)[0].permute(1, 2, 0).numpy()


def _scores(picture: np.ndarray) -> dict[str, float | None]:
    from restora.evaluation.naturalness import niqe
    from restora.evaluation.no_reference import noise_level, sharpness

    found: dict[str, float | None] = {}
    for name, of in (("niqe", niqe), ("sharpness", sharpness), ("noise", noise_level)):
        try:
            value = float(of(np.clip(picture, 0, 1)))
            found[name] = round(value, 3) if np.isfinite(value) else None
        except (UsageError, np.linalg.LinAlgError):  # too small or too flat for it
            found[name] = None
    return found


def _verdict(psnr: float | None, model: str) -> str:
    if psnr is None:
        return "It cannot be told whether the input is still in the result."
    if model == "as it is":
        return (
            f"The result differs from its input by {psnr:.1f} dB; what was removed should be noise or artefacts only."
        )
    if psnr >= 40:
        return f"The result, {model}, gives the input back: {psnr:.1f} dB."
    if psnr >= 30:
        return f"The result, {model}, gives nearly the input back: {psnr:.1f} dB."
    return (
        f"The result, {model}, does not give the input back ({psnr:.1f} dB): it shows things that the input excludes."
    )


def _told(share: float, drift: float) -> str:
    parts = [f"{share:.0%} of the picture shows detail that the input does not confirm"]
    if drift > 2:
        parts.append(f"colours moved visibly (delta E {drift:.1f})")
    return ", and ".join(parts) + "."

"""The scores that a card carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from restora.errors import WeightsError
from restora.evaluation.benchmark import bench

if TYPE_CHECKING:
    from restora.restorers import Restorer
    from restora.zoo import Score


def measure(
    restorer: str | Path | Restorer, folder: str | Path, protocol: str, scale: int | None = None, **options: Any
) -> Score:
    """Measures a model on a test set and returns the entry of a card's `scores`.

    Args:
        restorer: a name, checkpoint file or restorer. folder, protocol, scale: as for `bench`; options: its others.

    Returns:
        A `zoo.Score` with the baseline's values beside; `data_sha256` is `zoo.checkpoint.folder_sha256(folder, pattern)`
        with the pattern of the layout that `open_test_set` reports.

    Raises:
        As `bench`; WeightsError if the model could not be run.
    """
    from restora.zoo import Score

    result = bench([restorer], folder, protocol, scale, **options)
    row = result.rows[-1]
    if row.error:
        raise WeightsError(row.error)
    plain = next(r for r in result.rows if r.kind == "baseline")
    before = plain if result.task == "super-resolution" else None
    degraded = next(r for r in result.rows if r.kind == "input") if result.task != "super-resolution" else None
    made = {"denoise": f"--sigma {options.get('sigma', 25):g} ", "dejpeg": f"--quality {options.get('quality', 10)} "}
    flags = f"--scale {scale} " if scale else made.get(result.task, "") if result.inputs != "files" else ""
    psnr, ssim = result.mean(row, "psnr"), result.mean(row, "ssim")
    assert psnr is not None and ssim is not None
    return Score(
        data=result.data,
        data_sha256=result.data_sha256,
        images=result.images,
        protocol=result.protocol.label,
        scale=result.scale,
        psnr=round(psnr, 4),
        ssim=round(ssim, 5),
        bicubic_psnr=_rounded(result.mean(before, "psnr"), 4) if before else None,
        bicubic_ssim=_rounded(result.mean(before, "ssim"), 5) if before else None,
        input="" if result.inputs == "files" or before is not None else result.inputs,
        input_psnr=_rounded(result.mean(degraded, "psnr"), 4) if degraded else None,
        input_ssim=_rounded(result.mean(degraded, "ssim"), 5) if degraded else None,
        command=f"restora bench {row.name} --data {result.data} --protocol {result.protocol.name} {flags}".rstrip(),
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

"""The further columns of a benchmark, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np

from restora.errors import UsageError
from restora.evaluation import diagnostics, full_reference, naturalness, no_reference, perceptual
from restora.evaluation.metrics import mae
from restora.evaluation.rules import Protocol

EXTRA = {
    "ms_ssim": "MS-SSIM",
    "psnr_b": "PSNR-B",
    "mae": "mean absolute error in grey levels",
    "lpips": "LPIPS 0.1 through an imported backbone (lower is better)",
    "dists": "DISTS (lower is better)",
    "niqe": "NIQE (no reference; lower is better)",
    "sharpness": "1 - blur effect (no reference)",
    "noise": "estimated noise level (no reference)",
    "consistency": "super-resolution: PSNR dB of the result, reduced again, against its input",
    "delta_e": "drift of smoothed colours in CIELAB (lower is better)",
}
LOWER = {"mae", "lpips", "dists", "niqe", "noise", "delta_e"}


def check(names: Iterable[str]) -> list[str]:
    """Notes on what the measures look through. Before any picture is touched, it raises UsageError for a name that is no
    measure and WeightsError for weights that are missing."""
    notes = []
    for name in names:
        if name not in EXTRA:
            near = difflib.get_close_matches(name, EXTRA, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(f"There is no measure '{name}'; they are {', '.join(EXTRA)}.{hint}")
        if name == "lpips":
            model = perceptual.lpips_model()
            notes.append(
                f"LPIPS 0.1 through the backbone '{model.backbone.name}'{f': {model.note}' if model.note else ''}"
            )
        elif name == "dists":
            perceptual.dists_model()
    return notes


def take(
    name: str,
    output: np.ndarray,
    reference: np.ndarray,
    rules: Protocol,
    scale: int,
    degraded: np.ndarray | None = None,
) -> float:
    """One measure of a picture. Perceptual ones take whole colour pictures whatever the protocol's channel and border.

    Args:
        degraded: the input, for measures that look back at it.

    Raises:
        UsageError: the measure cannot be taken of this picture; the sentence says why.
    """
    if name == "ms_ssim":
        return full_reference.ms_ssim(output, reference, rules, scale)
    if name == "psnr_b":
        return full_reference.psnr_b(output, reference, rules, scale)
    if name == "mae":
        return mae(output, reference, rules, scale)
    if name == "lpips":
        return perceptual.lpips(output, reference)
    if name == "dists":
        return perceptual.dists(output, reference)
    if name == "niqe":
        return naturalness.niqe(output, border=rules.border_for(scale))
    if name == "sharpness":
        return no_reference.sharpness(output)
    if name == "noise":
        return no_reference.noise_level(output)
    if name == "consistency":
        return _consistency(output, degraded, scale)
    return diagnostics.colour_drift(output, reference).delta_e


def _consistency(output: np.ndarray, degraded: np.ndarray | None, scale: int) -> float:
    if degraded is None or scale == 1:
        raise UsageError(
            "the forward model is only known for super-resolution; use evaluation.consistency(forward=...)"
        )
    from restora.degradation import resize

    return diagnostics.consistency(output, np.clip(degraded, 0, 1), lambda x: resize(x, 1 / scale))

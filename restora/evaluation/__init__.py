"""Measuring: metrics under named protocols, benchmarks, profiles, comparisons.

The plain measures are here at once; what needs restorers, networks or weights is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from restora.evaluation.metrics import mae, mse, psnr, ssim, to_uint8
from restora.evaluation.rules import Protocol, neighbours, protocol, protocols
from restora.evaluation.safety import RangeWarning, Shift, check_pair, check_score, find_shift

if TYPE_CHECKING:
    from restora.evaluation.benchmark import Benchmark, Row, bench
    from restora.evaluation.comparison import compare
    from restora.evaluation.diagnostics import (
        Band,
        ColourDrift,
        brightness_bands,
        collapse_rate,
        colour_drift,
        consistency,
    )
    from restora.evaluation.full_reference import kernel_mae, kernel_similarity, ms_ssim, psnr_b
    from restora.evaluation.naturalness import niqe
    from restora.evaluation.no_reference import edge_energy, noise_level, sharpness
    from restora.evaluation.perceptual import dists, import_weights, lpips
    from restora.evaluation.profiling import Profile, profile
    from restora.evaluation.scores import measure
    from restora.evaluation.spectrum import Spectrum, augmentation_spectra, power_spectrum, spectral_change
    from restora.evaluation.testsets import Pair, TestSet, open_test_set
    from restora.evaluation.why import Explanation, explain

_LAZY = {
    "benchmark": ("Benchmark", "Row", "bench"),
    "comparison": ("compare",),
    "diagnostics": ("Band", "ColourDrift", "brightness_bands", "collapse_rate", "colour_drift", "consistency"),
    "full_reference": ("kernel_mae", "kernel_similarity", "ms_ssim", "psnr_b"),
    "naturalness": ("niqe",),
    "no_reference": ("edge_energy", "noise_level", "sharpness"),
    "perceptual": ("dists", "import_weights", "lpips"),
    "profiling": ("Profile", "profile"),
    "scores": ("measure",),
    "spectrum": ("Spectrum", "augmentation_spectra", "power_spectrum", "spectral_change"),
    "testsets": ("Pair", "TestSet", "open_test_set"),
    "why": ("Explanation", "explain"),
}
_WHERE = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "Band",
    "Benchmark",
    "ColourDrift",
    "Explanation",
    "Pair",
    "Profile",
    "Protocol",
    "RangeWarning",
    "Row",
    "Shift",
    "Spectrum",
    "TestSet",
    "augmentation_spectra",
    "bench",
    "brightness_bands",
    "check_pair",
    "check_score",
    "collapse_rate",
    "colour_drift",
    "compare",
    "consistency",
    "dists",
    "edge_energy",
    "explain",
    "find_shift",
    "import_weights",
    "kernel_mae",
    "kernel_similarity",
    "lpips",
    "mae",
    "measure",
    "ms_ssim",
    "mse",
    "neighbours",
    "niqe",
    "noise_level",
    "open_test_set",
    "power_spectrum",
    "profile",
    "protocol",
    "protocols",
    "psnr",
    "psnr_b",
    "sharpness",
    "spectral_change",
    "ssim",
    "to_uint8",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

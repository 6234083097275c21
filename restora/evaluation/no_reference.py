"""Measures that need no reference: sharpness and noise level. NIQE has a file of its own."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from restora.degradation.estimate import noise_level
from restora.errors import UsageError
from restora.evaluation.metrics import to_uint8

__all__ = ["edge_energy", "noise_level", "sharpness"]


def sharpness(image: Any) -> float:
    """1 minus the blur effect (Crete, Dolmiere, Ladret, Nicolas, SPIE 2007): what a further blur would still destroy of the
    picture's grey-level steps. Near 1 is sharp, near 0 blurred; a constant picture has 0. Noise counts as sharpness.

    Args:
        image: as for `psnr`.

    Raises:
        UsageError: an image smaller than 16x16.
    """
    x = to_uint8(image).astype(np.float64)
    if min(x.shape[:2]) < 16:
        raise UsageError(f"Sharpness needs at least 16x16 pixels; there are {x.shape[1]}x{x.shape[0]}.")
    grey = x[..., 0] if x.shape[2] == 1 else x @ np.array([0.2125, 0.7154, 0.0721])
    values = []
    for axis in (0, 1):
        length = 11
        kernel = np.ones((length, 1) if axis == 0 else (1, length)) / length
        soft = cv2.filter2D(grey, -1, kernel, borderType=cv2.BORDER_REFLECT)
        steps, softened = (np.abs(_slope(z, axis)) for z in (grey, soft))
        lost = np.maximum(steps - softened, 0)[2:-2, 2:-2]
        total = float(steps[2:-2, 2:-2].sum())
        values.append(float(lost.sum()) / total if total else 0.0)
    return min(values)


def _slope(z: np.ndarray, axis: int) -> np.ndarray:
    """Sobel's derivative along an axis."""
    return cv2.Sobel(z, cv2.CV_64F, int(axis == 1), int(axis == 0), borderType=cv2.BORDER_REFLECT)


def edge_energy(image: Any) -> float:
    """Standard deviation of the Laplacian of the luminance, on the 0 to 255 scale: a quick sharpness to compare versions of
    one picture with; it depends on content, contrast and size."""
    x = to_uint8(image)
    grey = x[..., 0] if x.shape[2] == 1 else cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)
    return math.sqrt(float(cv2.Laplacian(grey.astype(np.float64), cv2.CV_64F).var()))

"""Estimates, from a picture alone, of what happened to it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from restora.errors import UsageError

# Daubechies' wavelet with two vanishing moments: blind to constants and to slopes
_DETAIL = np.array([-0.12940952, -0.22414387, 0.8365163, -0.48296291])


def noise_level(image: Any) -> float:
    """Standard deviation of the noise, on the 0 to 255 scale: median absolute diagonal wavelet coefficient over 0.6745
    (Donoho, Johnstone 1994), mean over channels. Fine texture counts as noise; correlated noise is underestimated.

    Args:
        image: `H x W x C` or `H x W`, uint8, uint16 or floating point in [0, 1] (not clipped: that would change its noise), or a
            tensor `C x H x W`.

    Raises:
        UsageError: an image smaller than 8x8.
    """
    x = _unclipped(image)
    if min(x.shape[:2]) < 8:
        raise UsageError(f"A noise level needs at least 8x8 pixels; there are {x.shape[1]}x{x.shape[0]}.")
    levels = []
    for c in range(x.shape[2]):
        diagonal = cv2.sepFilter2D(x[..., c], -1, _DETAIL, _DETAIL, borderType=cv2.BORDER_REFLECT)[2:-2:2, 2:-2:2]
        kept = np.abs(diagonal[diagonal != 0])
        levels.append(float(np.median(kept)) / 0.6744897501960817 if len(kept) else 0.0)
    return float(np.mean(levels))


def _unclipped(image: Any) -> np.ndarray:
    array = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    if hasattr(image, "detach") and array.ndim >= 3:
        array = array.reshape(array.shape[-3:]).transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype == np.uint8:
        return array.astype(np.float64)
    return array.astype(np.float64) * (1 / 257 if array.dtype == np.uint16 else 255)

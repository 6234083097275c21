"""Further measures against a reference: MS-SSIM, PSNR-B and the similarity of blur kernels."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from restora.errors import UsageError
from restora.evaluation.metrics import planes, psnr_of, similarity
from restora.evaluation.rules import Protocol

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(a: Any, b: Any, protocol: str | Protocol, scale: int | None = None) -> float:
    """Multi-scale structural similarity over five octaves (Wang, Simoncelli, Bovik, Asilomar 2003), mean over channels.

    Each octave is a mean of 2x2 pixels (an odd last row or column is repeated). A negative contrast term counts as 0.
    Arguments as for `psnr`.

    Raises:
        UsageError: as `psnr`, or an image with a side below 161 pixels, which leaves no window on the last octave.
    """
    x, y = planes(a, b, protocol, scale)
    if min(x.shape[:2]) < 161:
        raise UsageError(
            f"MS-SSIM needs at least 161 pixels a side after the border is cut; there are {x.shape[1]}x{x.shape[0]}."
        )
    return float(np.mean([_ms_ssim_plane(x[..., c], y[..., c]) for c in range(x.shape[2])]))


def _ms_ssim_plane(x: np.ndarray, y: np.ndarray) -> float:
    product = 1.0
    for octave, weight in enumerate(_WEIGHTS):
        luminance, structure = similarity(x, y)
        last = octave == len(_WEIGHTS) - 1
        value = float(np.mean(luminance * structure if last else structure))
        product *= max(value, 0.0) ** weight
        if not last:
            x, y = _halved(x), _halved(y)
    return product


def _halved(x: np.ndarray) -> np.ndarray:
    x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2)), mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def psnr_b(a: Any, b: Any, protocol: str | Protocol, scale: int | None = None, block: int = 8) -> float:
    """PSNR in dB with a penalty for visible block edges in `a` (Yim, Bovik, IEEE TIP 2011), mean over channels.

    The grid of blocks begins at the first pixel, so that it only makes sense under protocols without a border. Arguments
    as for `psnr`; never above it.

    Raises:
        UsageError: as `psnr`, or an image with a side below two blocks.
    """
    x, y = planes(a, b, protocol, scale)
    if min(x.shape[:2]) < 2 * block:
        raise UsageError(
            f"PSNR-B needs at least {2 * block} pixels a side; there are {x.shape[1]}x{x.shape[0]} after the border is cut."
        )
    values = []
    for c in range(x.shape[2]):
        error = float(np.mean((x[..., c] - y[..., c]) ** 2))
        values.append(psnr_of(error + blocking_effect(x[..., c], block)))
    return float(np.mean(values))


def blocking_effect(plane: np.ndarray, block: int = 8) -> float:
    """The blocking effect factor of a plane (equations 10 to 14 of Yim and Bovik): by how much the mean squared step across
    block edges exceeds that elsewhere, weighted by the size of the blocks against the picture's; 0 if it does not."""
    on_edges, elsewhere, edges, others = 0.0, 0.0, 0, 0
    for axis in (0, 1):
        steps = np.diff(plane, axis=axis) ** 2
        at_edge = (np.arange(steps.shape[axis]) + 1) % block == 0
        across = np.moveaxis(steps, axis, 0)
        on_edges, edges = on_edges + float(across[at_edge].sum()), edges + across[at_edge].size
        elsewhere, others = elsewhere + float(across[~at_edge].sum()), others + across[~at_edge].size
    excess = on_edges / edges - elsewhere / others
    return max(0.0, excess) * math.log2(block) / math.log2(min(plane.shape))


def kernel_similarity(a: Any, b: Any) -> float:
    """Maximum over all shifts of the normalised correlation of two blur kernels, 1 for equal ones (spec/
    controllable-restoration.md, metrics). Shifts and scale do not matter, as they do not for a blur.

    Args:
        a, b: `kh x kw`, of any sizes.

    Raises:
        UsageError: not two-dimensional, not finite, or zero throughout.
    """
    x, y = _kernel(a), _kernel(b)
    padded = np.pad(x, [(n - 1, n - 1) for n in y.shape])
    correlation = cv2.matchTemplate(padded.astype(np.float32), y.astype(np.float32), cv2.TM_CCORR)
    return float(np.clip(correlation.max() / (np.linalg.norm(x) * np.linalg.norm(y)), -1, 1))


def kernel_mae(a: Any, b: Any) -> float:
    """Mean absolute difference of two blur kernels of one size; each is brought to the sum 1 first.

    Raises:
        UsageError: as `kernel_similarity`, or of different sizes, or with a sum of zero.
    """
    x, y = _kernel(a), _kernel(b)
    if x.shape != y.shape:
        raise UsageError(
            f"The kernels differ in size: {x.shape} and {y.shape}; `kernel_similarity` compares them anyhow."
        )
    if x.sum() == 0 or y.sum() == 0:
        raise UsageError("A blur kernel whose values add up to zero cannot be normalised.")
    return float(np.mean(np.abs(x / x.sum() - y / y.sum())))


def _kernel(k: Any) -> np.ndarray:
    x = np.asarray(k.detach().cpu() if hasattr(k, "detach") else k, np.float64)
    if x.ndim != 2 or not np.isfinite(x).all() or not x.any():
        raise UsageError(f"A blur kernel is a finite kh x kw array that is not zero throughout; this one is {x.shape}.")
    return x

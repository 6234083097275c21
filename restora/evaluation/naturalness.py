"""NIQE: how far a picture's statistics are from those of natural pictures; no reference needed, lower is better.

Mittal, Soundararajan, Bovik: Making a "Completely Blind" Image Quality Analyzer, IEEE Signal Processing Letters 2013.
With the authors' parameters of pristine pictures (restora/evaluation/data, licence beside them).
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from restora.errors import PictureError, UsageError
from restora.evaluation.metrics import to_uint8

_DATA = Path(__file__).parent / "data" / "niqe_pristine.npz"
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
BLOCK = 96


def niqe(image: Any, border: int = 0, parameters: str | Path | None = None) -> float:
    """The distance of a picture from natural ones under protocol ``niqe/1``: Y of BT.601, rounded, blocks of 96x96 on two
    octaves; a remainder at the right and bottom that fills no block is left out.

    Args:
        image: uint8 `H x W (x 3)`, or floating point in [0, 1], or a tensor `C x H x W`. border: pixels cut on each side.
        parameters: an npz file with `mu_pris_param`, `cov_pris_param` and `gaussian_window`; the published ones by default.

    Raises:
        UsageError: fewer than two blocks of 96x96, a constant picture. PictureError: an unusable parameter file.
    """
    mean, covariance, window = _parameters(Path(parameters) if parameters else _DATA)
    x = to_uint8(image)[border or None : -border or None, border or None : -border or None]
    plane = x[..., 0].astype(np.float64)
    if x.shape[2] == 3:
        plane = np.floor(x @ np.array([65.481, 128.553, 24.966]) / 255 + 16.5)
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    if rows * columns < 2:
        raise UsageError(
            f"NIQE needs at least two blocks of {BLOCK}x{BLOCK} pixels; the picture has {plane.shape[1]}x{plane.shape[0]}."
        )
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    if np.ptp(plane) == 0:
        raise UsageError("NIQE means nothing on a picture of one colour.")
    octaves = []
    for block in (BLOCK, BLOCK // 2):
        normalised = _normalise(plane, window)
        octaves.append(
            [
                _features(normalised[r * block : (r + 1) * block, c * block : (c + 1) * block])
                for c in range(columns)
                for r in range(rows)
            ]
        )
        if block == BLOCK:
            plane = _half(plane)
    features = np.hstack(octaves)
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        raise UsageError("NIQE needs at least two blocks that are not flat.")
    difference = mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2)
    return float(math.sqrt((difference @ inverse @ difference.T).item()))


@functools.lru_cache(maxsize=4)
def _parameters(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with np.load(path) as file:
            return file["mu_pris_param"], file["cov_pris_param"], file["gaussian_window"]
    except (OSError, KeyError, ValueError) as error:
        raise PictureError(f"'{path}' is no file of NIQE parameters: {error}.") from error


def _normalise(plane: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Mean subtracted, contrast divided out: what is left of natural pictures is nearly Gaussian."""

    def local(z: np.ndarray) -> np.ndarray:
        return cv2.filter2D(z, -1, window, borderType=cv2.BORDER_REPLICATE)

    mean = local(plane)
    return (plane - mean) / (np.sqrt(np.abs(local(plane * plane) - mean * mean)) + 1)


def _half(plane: np.ndarray) -> np.ndarray:
    import torch

    from restora.degradation import resize

    return resize(torch.from_numpy(plane), 0.5).numpy()


def _features(block: np.ndarray) -> list[float]:
    """Shape and width of the values' distribution, then of products with four neighbours: 18 numbers."""
    shape, left, right = fit_generalised_gaussian(block)
    numbers = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = fit_generalised_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        ratio = math.exp(math.lgamma(2 / shape) - math.lgamma(1 / shape)) if shape == shape else math.nan
        numbers += [shape, (right - left) * ratio, left, right]
    return numbers


@functools.cache
def _ratios() -> tuple[np.ndarray, np.ndarray]:
    """Shapes from 0.2 to 10 and what the moments of a distribution of that shape make of them."""
    shapes = np.arange(0.2, 10.001, 0.001)
    log_gamma = np.vectorize(math.lgamma)
    return shapes, np.exp(2 * log_gamma(2 / shapes) - log_gamma(1 / shapes) - log_gamma(3 / shapes))


def fit_generalised_gaussian(values: np.ndarray) -> tuple[float, float, float]:
    """Shape, left and right width of an asymmetric generalised Gaussian, by moment matching (Lasmar et al. 2009). NaN where
    the values are all of one sign or all zero."""
    flat = values.ravel()
    negative, positive = flat[flat < 0], flat[flat > 0]
    if not len(negative) or not len(positive):
        return math.nan, math.nan, math.nan
    left, right = math.sqrt(np.mean(negative**2)), math.sqrt(np.mean(positive**2))
    lopsided = left / right
    ratio = np.mean(np.abs(flat)) ** 2 / np.mean(flat**2)
    ratio *= (lopsided**3 + 1) * (lopsided + 1) / (lopsided**2 + 1) ** 2
    shapes, table = _ratios()
    shape = float(shapes[np.argmin((table - ratio) ** 2)])
    width = math.exp((math.lgamma(1 / shape) - math.lgamma(3 / shape)) / 2)
    return shape, left * width, right * width

"""Estimates, from a picture alone, of what happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from restora.degradation.compression import standard_tables
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
    x = unclipped(image)
    if min(x.shape[:2]) < 8:
        raise UsageError(f"A noise level needs at least 8x8 pixels; there are {x.shape[1]}x{x.shape[0]}.")
    levels = []
    for c in range(x.shape[2]):
        diagonal = cv2.sepFilter2D(x[..., c], -1, _DETAIL, _DETAIL, borderType=cv2.BORDER_REFLECT)[2:-2:2, 2:-2:2]
        kept = np.abs(diagonal[diagonal != 0])
        levels.append(float(np.median(kept)) / 0.6744897501960817 if len(kept) else 0.0)
    return float(np.mean(levels))


# Noise of a decoded coefficient in grey levels: rounding to whole RGB values and back; the same after weaker and stronger later
# changes (another compression, a slight filter)
_ROUNDING = 0.35
_LATER = (_ROUNDING, 0.7, 1.4, 2.8)
_STRAY = 0.05  # share of coefficients that clipping and editing put anywhere
_BLOCKS = 3000
_EVIDENCE = 40.0  # log-likelihood ratio that is believed


def jpeg_table_quality(tables: Sequence[Sequence[int]]) -> int:
    """The quality, 1 to 100, whose tables by libjpeg's rule are nearest to these (mean ratio of the steps): exact where
    libjpeg or a program like it wrote the file; an equivalent for cameras and editors with tables of their own.

    Args:
        tables: 64 steps each in rows, luminance first, as Pillow's `quantization` has them. Chrominance, if there is one, counts
            as much as luminance.

    Raises:
        UsageError: no table, or one that has not 64 steps from 1.
    """
    if not tables or any(len(t) != 64 or min(t) < 1 for t in tables):
        raise UsageError("A JPEG's quality is told from quantisation tables of 64 steps, 1 or more each.")
    distance = np.zeros(100)
    for standard, table in zip(standard_tables(), tables[:2], strict=False):
        distance += np.abs(np.log(standard / np.asarray(table, np.float64))).mean(axis=1)
    return int(distance.argmin()) + 1


def jpeg_quality(image: Any, tables: Sequence[Sequence[int]] = ()) -> int:
    """Quality, 1 to 100 by libjpeg's rule, of the strongest JPEG compression that a picture went through.

    A file that is a JPEG says it by its tables. Whether the picture was one before, too, or is saved in another format by now, is
    seen in its pixels: on the grid of 8x8 blocks, the luminance's cosine coefficients lie on multiples of the steps. The
    quality whose steps make them likeliest, against coefficients that lie anywhere, is the answer (a likelihood ratio over all
    frequencies; maximum likelihood steps: Fan, de Queiroz, IEEE TIP 2003). A crop may shift the grid; after resizing nothing
    is left to see.

    Args:
        image: as for `noise_level`. tables: of the file, `Picture.metadata.quantisation`; none for other formats.

    Raises:
        UsageError: it cannot be told: no tables, and no trace of compression (or of one weaker than about 95).
    """
    told = jpeg_table_quality(tables) if tables else None
    found = _quality_of_blocks(_luma(image), tables)
    if told is not None:
        return found if found is not None and found < told - 3 else told
    if found is None:
        raise UsageError(
            "The JPEG quality of this picture cannot be told: the file has no quantisation tables, and its pixels show no grid "
            "of 8x8 blocks (it was never compressed, hardly, or was resized afterwards). Give the quality as a number."
        )
    return found


def _luma(image: Any) -> np.ndarray:
    """Luminance as JFIF has it, `H x W`, 0 to 255."""
    x = unclipped(image)
    return x[..., 0] if x.shape[2] == 1 else x[..., :3] @ np.array([0.299, 0.587, 0.114])


def _quality_of_blocks(luma: np.ndarray, tables: Sequence[Sequence[int]]) -> int | None:
    """The likeliest quality by the pixels, on the usual grid or on the one that a crop left; None without evidence. A block's
    mean is left out: in a flat picture it is the same everywhere, which speaks for any step that divides it."""
    steps = standard_tables()[0]
    noises = [np.full(64, sigma) for sigma in _LATER]
    if tables:  # a later compression with these steps
        noises.append(np.hypot(_ROUNDING, np.asarray(tables[0], np.float64) / np.sqrt(12)))
    found: list[int] = []
    for top, left in dict.fromkeys([(0, 0), _grid(luma)]):
        coefficients = _coefficients(luma[top:, left:])
        if coefficients is None:
            continue
        for noise in noises:
            evidence = np.sum([_evidence(coefficients[:, n], steps[:, n], noise[n]) for n in range(1, 64)], axis=0)
            quality = int(np.argmax(evidence))
            if evidence[quality] > _EVIDENCE:
                found.append(quality + 1)
    return min(found, default=None)  # the trace of a weaker, later compression is as plain, but less of a loss


def _grid(luma: np.ndarray) -> tuple[int, int]:
    """Row and column where the first whole block begins: where neighbouring pixels differ most, in every eighth place."""
    place = []
    for plane in (luma.T, luma):
        jump = np.abs(np.diff(plane, axis=1)).mean(axis=0)
        means = [jump[n::8].mean() if len(jump) > n else 0.0 for n in range(8)]
        place.append((int(np.argmax(means)) + 1) % 8)
    return place[0], place[1]


def _coefficients(luma: np.ndarray) -> np.ndarray | None:
    """Cosine coefficients of evenly chosen 8x8 blocks, `blocks x 64`; None where there is no whole block."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    if not rows * columns:
        return None
    blocks = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    blocks = blocks[:: -(-len(blocks) // _BLOCKS)]
    n = np.arange(8)
    cosine = np.cos(np.pi / 8 * (n + 0.5) * n[:, None]) / 2
    cosine[0] *= np.sqrt(0.5)
    return (cosine @ (blocks - 128) @ cosine.T).reshape(-1, 64)


def _evidence(values: np.ndarray, steps: np.ndarray, noise: float) -> np.ndarray:
    """Log-likelihood ratio of each step: the values lie at its multiples with that noise, against anywhere. What was rounded
    to zero says nothing; a value between zero and half a step speaks against the step."""
    values = np.abs(values)
    values = values[values > 3.5 * noise]
    distinct, place = np.unique(steps, return_inverse=True)
    told = distinct > 3 * noise  # finer steps cannot be seen through the noise
    result = np.zeros(len(distinct))
    s = distinct[told]
    multiple = np.rint(values[:, None] / s)
    far = values[:, None] - multiple * s
    density = s / (noise * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (far / noise) ** 2)
    likelihood = np.log((1 - _STRAY) * np.where(multiple > 0, density, 0) + _STRAY)
    result[told] = likelihood.sum(axis=0)
    return result[place]


def unclipped(image: Any) -> np.ndarray:
    """`H x W x C` float64 on the 0 to 255 scale, of whatever `noise_level` takes."""
    array = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    if hasattr(image, "detach") and array.ndim >= 3:
        array = array.reshape(array.shape[-3:]).transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype == np.uint8:
        return array.astype(np.float64)
    return array.astype(np.float64) * (1 / 257 if array.dtype == np.uint16 else 255)

"""The noise of a photograph, measured where the photograph itself is flat; and whether it is the same everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from restora.degradation.estimate import noise_level, unclipped
from restora.errors import UsageError

_BLOCK, _STEP = 8, 4
_MOST = 50_000  # blocks that are looked at, evenly chosen
_FLATTEST, _FEWEST = 0.03, 40  # share of the blocks that counts, and how many at least
_CELL, _CELLS = 112, 4  # least side in pixels, and most cells along a side
_CELL_FLATTEST, _CELL_FEWEST, _CELL_BLOCKS = 0.04, 24, 100
_CLIPPED = 0.02  # share of pixels at black or white from which a channel's noise in a block is no longer whole
_VARIES = 2.0  # quotient of the cells' 90th and 10th percentile, of which the latter counts as _FAINT at least
_FAINT = 4.0  # below, texture is what differs between cells

NOISE = (
    0.65  # least purity of what is taken for noise: of 149 clean photographs none has it together with a sigma above 2
)

_n = np.arange(_BLOCK)
_COSINES = np.cos(np.pi / _BLOCK * (_n + 0.5) * _n[:, None]) / 2
_COSINES[0] *= math.sqrt(0.5)
_ORDER = (_n[:, None] + _n).ravel()
_LOW, _HIGH = (_ORDER > 0) & (_ORDER <= 5), _ORDER >= 8
_TEXTURE = (
    0.05  # power of texture's fine coefficients, of its coarse ones': 0 to 0.05 in clean photographs, rarely more
)
# the median of a mean of 28 squared normal values, against its mean (Wilson, Hilferty 1931)
_MEDIAN = (1 - 2 / (9 * int(_HIGH.sum()))) ** 3


@dataclass(frozen=True, eq=False)
class FlatNoise:
    """What `flat_noise` finds.

    Attributes:
        sigma: standard deviation on the 0 to 255 scale, mean square over channels, and over cells where they differ.
        cells: the same for each cell of a grid over the picture, `rows x columns`; NaN where there is too little that is flat.
        varies: whether the cells differ by more than one estimate from another.
        purity: how white the flattest parts are, fine against coarse detail: near 1 what was measured is noise; below `NOISE`
            even the flattest parts are texture, and sigma is no more than an upper bound.
    """

    sigma: float
    cells: np.ndarray
    varies: bool
    purity: float

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and 90th percentile of the cells; sigma twice where there are none."""
        known = self.cells[np.isfinite(self.cells)]
        if not known.size:
            return self.sigma, self.sigma
        low, high = np.percentile(known, (10, 90))
        return float(low), float(high)

    def map(self, height: int, width: int) -> np.ndarray:
        """Sigma at each pixel, `height x width` float32: the cells, interpolated; what is not known is sigma."""
        import cv2

        cells = np.where(np.isfinite(self.cells), self.cells, self.sigma).astype(np.float32)
        return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR))


def flat_noise(image: Any) -> FlatNoise:
    """The noise of the finest detail in those 8x8 blocks that have the least coarse detail.

    White noise has its fine and its coarse cosine coefficients independent of each other: choosing blocks by the coarse ones
    leaves the fine ones unbiased, and leaves texture out (Ponomarenko, Lukin, Abramov, Egiazarian, Astola, 2003: the blocks
    are sorted by their low frequencies; here the estimate is the median over blocks). On photographs it is within a few
    per cent from sigma 5 upwards, where the median of all wavelet coefficients (`estimate.noise_level`) takes texture for
    noise. Correlated noise is underestimated, and what JPEG put to zero is not there to be measured.

    Args:
        image: as for `estimate.noise_level`.

    Raises:
        UsageError: an image smaller than 16x16.
    """
    x = unclipped(image).astype(np.float32)
    height, width = x.shape[:2]
    if min(height, width) < 2 * _BLOCK:
        raise UsageError(f"A noise level needs at least {2 * _BLOCK}x{2 * _BLOCK} pixels; there are {width}x{height}.")
    step = _STEP * max(1, math.ceil(math.sqrt(height * width / _STEP**2 / _MOST)))
    rows, columns = (np.arange(0, n - _BLOCK + 1, step) for n in (height, width))
    low, high, usable = _energies(x, step)
    chosen = _flattest(low, usable, _FLATTEST, _FEWEST)
    overall = _level(high[chosen], low[chosen])
    purity = _purity(high[chosen], low[chosen])
    # cells
    grid = [max(1, min(_CELLS, n // _CELL)) for n in (height, width)]
    places = [p * g // n for p, g, n in zip((rows, columns), grid, (height, width), strict=True)]
    owner = (places[0][:, None] * grid[1] + places[1]).ravel()
    cells = np.full(grid[0] * grid[1], np.nan)
    for cell in range(len(cells)):
        own = usable & (owner == cell)
        if own.sum() >= _CELL_BLOCKS:
            flat = _flattest(low, own, _CELL_FLATTEST, _CELL_FEWEST)
            if _purity(high[flat], low[flat]) >= NOISE:
                cells[cell] = _level(high[flat], low[flat])
    known = cells[np.isfinite(cells)]
    varies = False
    if known.size >= max(4, len(cells) / 2) and purity >= NOISE:
        smallest, largest = np.percentile(known, (10, 90))
        varies = bool(largest > _VARIES * max(float(smallest), _FAINT))
    sigma = math.sqrt(float(np.mean(known**2))) if varies else overall
    return FlatNoise(sigma, cells.reshape(grid), varies, purity)


def noise_sigma(image: Any) -> float:
    """The noise level alone; of pictures too small for `flat_noise`, by `estimate.noise_level`.

    Raises:
        UsageError: an image smaller than 8x8.
    """
    shape = unclipped(image).shape
    return flat_noise(image).sigma if min(shape[:2]) >= 2 * _BLOCK else noise_level(image)


def _energies(x: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each block: the mean square of its coarse coefficients and of its fine ones, over the channels that are not clipped in
    it; and whether there is such a channel."""
    cosines = _COSINES.astype(np.float32)
    low, high, clipped = [], [], []
    for c in range(x.shape[2]):
        blocks = np.lib.stride_tricks.sliding_window_view(x[..., c], (_BLOCK, _BLOCK))[::step, ::step]
        blocks = blocks.reshape(-1, _BLOCK, _BLOCK)
        power = np.square(cosines @ blocks @ cosines.T).reshape(len(blocks), -1)
        low.append(power[:, _LOW].mean(axis=1))
        high.append(power[:, _HIGH].mean(axis=1))
        clipped.append(((blocks <= 0) | (blocks >= 255)).mean(axis=(1, 2)))
    share = np.stack(clipped)
    whole = share <= _CLIPPED
    if whole.any(axis=0).sum() < max(_FEWEST, 0.05 * share.shape[1]):  # nothing is whole: what lost least
        whole = share <= np.quantile(share, 0.2)
    count = np.maximum(whole.sum(axis=0), 1)
    power_low: np.ndarray = (np.stack(low) * whole).sum(axis=0) / count
    power_high: np.ndarray = (np.stack(high) * whole).sum(axis=0) / count
    return power_low, power_high, np.asarray(whole.any(axis=0))


def _flattest(low: np.ndarray, usable: np.ndarray, share: float, fewest: int) -> np.ndarray:
    places = np.flatnonzero(usable)
    count = min(len(places), max(fewest, round(share * len(places))))
    return places[np.argpartition(low[places], count - 1)[:count]]


def _level(high: np.ndarray, low: np.ndarray | None = None) -> float:
    """The deviation behind mean squares of fine coefficients; with those of the coarse ones, what texture adds is taken off."""
    power = float(np.median(high)) / _MEDIAN
    if low is not None:
        power = max(0.0, power - _TEXTURE * float(np.median(low))) / (1 - _TEXTURE)
    return math.sqrt(power)


def _purity(high: np.ndarray, low: np.ndarray) -> float:
    coarse = float(np.median(low))
    return _level(high) / math.sqrt(coarse) if coarse > 0 else 0.0

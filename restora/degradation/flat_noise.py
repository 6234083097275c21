"""The noise of a photograph, measured where the photograph itself is flat; and whether it is the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from restora.degradation.compression import standard_tables
from restora.degradation.estimate import jpeg_quality, noise_level, unclipped
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

COMPRESSED = 85  # JPEG quality above which a picture's gain does not pay for the risk
# sigma that removes what JPEG left, from the mean step s of the nine lowest frequencies: 2 s^0.6 was the best for cosine
# thresholding on photographs from quality 10 to 90, and is within 0.1 dB of the best for DRUNet; a little less is taken
_JPEG_SIGMA, _JPEG_POWER = 1.8, 0.6

_n = np.arange(_BLOCK)
_COSINES = np.cos(np.pi / _BLOCK * (_n + 0.5) * _n[:, None]) / 2
_COSINES[0] *= math.sqrt(0.5)
_ORDER = (_n[:, None] + _n).ravel()
_COARSE, _MIDDLE, _HIGH = (_ORDER > 0) & (_ORDER <= 2), (_ORDER > 2) & (_ORDER <= 5), _ORDER >= 8
_TEXTURE = (
    0.05  # power of texture's fine coefficients, of its coarse ones': 0 to 0.05 in clean photographs, rarely more
)

# Noise whose neighbours are alike: photographs have it as a floor, which all flat parts share, in the middle frequencies
_FLOOR_SPREAD = 2.0  # 90th by 10th percentile of the flattest blocks' levels; 1.5 to 2.0 of noise, more of texture
_FLOOR_REACH = 1.7  # the 20th by the 3rd percentile of all blocks' levels
_FLOOR_MIDDLE = 0.55  # least level of the middle frequencies, of the coarse ones'
_CONTRAST = (
    5.0  # least contrast of the picture's 8x8 means, of the floor: a picture of nothing else is one of sand or wool
)
_LEAST_FLOOR = 1.8  # grey levels; below, rounding and compression make floors of their own
# White noise that a denoiser has to be told to remove it, of its floor: the densest frequencies are below the middle ones. 1.8
# was the best on training photographs through a simulated camera, 1.4 to 1.8 after JPEG; less is taken, because on textured
# held-out ones more than 1.2 took texture.
_TOLD = 1.2
# The same at half the size, for noise in wider blotches (colours interpolated, then enlarged or smoothed): 2.2 to 3 was the best.
_TOLD_WIDE = 1.6
_LEAST_WIDE = 4.0  # of 149 clean photographs four have such a floor, of 3.3 at most
_SMALLEST_HALF = 64  # pixels


def _median(count: int) -> float:
    """The median of a mean of so many squared normal values, against its mean (Wilson, Hilferty 1931)."""
    return (1 - 2 / (9 * count)) ** 3


@dataclass(frozen=True, eq=False)
class FlatNoise:
    """What `flat_noise` finds.

    Attributes:
        sigma: standard deviation on the 0 to 255 scale, mean square over channels, and over cells where they differ.
        cells: the same for each cell of a grid over the picture, `rows x columns`; NaN where there is too little that is flat.
        varies: whether the cells differ by more than one estimate from another.
        purity: how white the flattest parts are, fine against coarse detail: near 1 what was measured is noise; below `NOISE`
            even the flattest parts are texture, or noise whose neighbours are alike, and sigma says little of it.
        floor: level, in the same units, of the middle frequencies where flat parts share one; 0 where they do not. Of white noise
            it is sigma; what a camera's or JPEG's processing left of noise is seen here only.
        wide: the same of the picture at half its size, where noise in wide blotches is seen.
    """

    sigma: float
    cells: np.ndarray
    varies: bool
    purity: float
    floor: float = 0.0
    wide: float = 0.0

    @property
    def correlated(self) -> bool:
        """Whether neighbouring pixels' noise is alike."""
        return self.told > 0 and self.purity < NOISE

    @property
    def told(self) -> float:
        """The sigma of white noise that takes a denoiser as far as the floor's noise needs, by the one at half the size where it
        is the only one; 0 without a floor."""
        return _TOLD * self.floor if self.floor > 0 else _TOLD_WIDE * self.wide

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
    noise. Of correlated noise sigma is too small, and what JPEG put to zero is not there to be measured: see `FlatNoise.floor`.

    Args:
        image: as for `estimate.noise_level`.

    Raises:
        UsageError: an image smaller than 16x16.
    """
    x = unclipped(image).astype(np.float32)
    height, width = x.shape[:2]
    if min(height, width) < 2 * _BLOCK:
        raise UsageError(f"A noise level needs at least {2 * _BLOCK}x{2 * _BLOCK} pixels; there are {width}x{height}.")
    step = _spacing(height, width)
    rows, columns = (np.arange(0, n - _BLOCK + 1, step) for n in (height, width))
    coarse, middle, high, usable = _energies(x, step)
    low = (int(_COARSE.sum()) * coarse + int(_MIDDLE.sum()) * middle) / int(_COARSE.sum() + _MIDDLE.sum())
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
    return FlatNoise(sigma, cells.reshape(grid), varies, purity, _floor(x, coarse, middle, usable), _wide(x))


def noise_sigma(image: Any, tables: Sequence[Sequence[int]] = ()) -> float:
    """What to tell a denoiser for white noise, on the 0 to 255 scale; of pictures too small for `flat_noise`, by
    `estimate.noise_level`. Of a picture that was a JPEG it is at least `jpeg_sigma`: what compression took of the noise cannot be
    measured, and what it put in its place is as strong.

    Args:
        image: as for `estimate.noise_level`. tables: of the file, `Picture.metadata.quantisation`.

    Raises:
        UsageError: an image smaller than 8x8.
    """
    shape = unclipped(image).shape
    if min(shape[:2]) < 2 * _BLOCK:
        return noise_level(image)
    found = flat_noise(image)
    level = found.told if found.correlated else found.sigma
    try:
        quality = jpeg_quality(middle(np.asarray(image)) if not hasattr(image, "detach") else image, tables)
    except UsageError:  # no trace of it
        return level
    return max(level, jpeg_sigma(quality)) if quality <= COMPRESSED else level


def jpeg_sigma(quality: int) -> float:
    """The level of white noise that stands for what JPEG of a quality did."""
    steps = standard_tables()[0][quality - 1].reshape(8, 8)[:3, :3]
    return float(_JPEG_SIGMA * steps.mean() ** _JPEG_POWER)


def middle(pixels: np.ndarray, side: int = 1024) -> np.ndarray:
    """The middle of a picture `H x W x C`, which says as much as all of it; on the grid of JPEG's blocks."""
    top, left = (max(0, n - side) // 2 // 8 * 8 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _floor(x: np.ndarray, coarse: np.ndarray, middle: np.ndarray, usable: np.ndarray) -> float:
    """The level of the middle frequencies of those blocks that have the least coarse detail, if it is a floor: about the same
    in all of them, not far below the many, no mere rest of coarse detail, and not all there is. Texture varies; noise has one
    level."""
    places = np.flatnonzero(usable)
    chosen = _flattest(coarse, usable, _FLATTEST, _FEWEST)
    least, most = np.sqrt(np.quantile(middle[chosen], (0.1, 0.9)))
    lowest, many = np.sqrt(np.quantile(middle[places], (0.03, 0.2)))
    level = math.sqrt(float(np.median(middle[chosen])) / _median(int(_MIDDLE.sum())))
    shared = most <= _FLOOR_SPREAD * least and many <= _FLOOR_REACH * lowest
    fine = level**2 >= _FLOOR_MIDDLE**2 * float(np.median(coarse[chosen]))
    return level if level >= _LEAST_FLOOR and shared and fine and _contrast(x) >= _CONTRAST * level else 0.0


def _wide(x: np.ndarray) -> float:
    """The floor at half the size; 0 of a small picture."""
    import cv2

    height, width = (n // 2 for n in x.shape[:2])
    if min(height, width) < _SMALLEST_HALF:
        return 0.0
    half = cv2.resize(x[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA).reshape(
        height, width, -1
    )
    coarse, middle, _, usable = _energies(half, _spacing(height, width))
    level = _floor(half, coarse, middle, usable)
    return level if level >= _LEAST_WIDE else 0.0


def _spacing(height: int, width: int) -> int:
    """Pixels between blocks, so that there are not too many."""
    return _STEP * max(1, math.ceil(math.sqrt(height * width / _STEP**2 / _MOST)))


def _contrast(x: np.ndarray) -> float:
    """Standard deviation of the means of 8x8 blocks, in the scale of a block's coefficients."""
    rows, columns = (n // _BLOCK for n in x.shape[:2])
    blocks = x[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, -1).mean(axis=(1, 3, 4))
    return _BLOCK * float(blocks.std())


def _energies(x: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each block: the mean square of its coarse, middle and fine coefficients, over the channels that are not clipped in it;
    and whether there is such a channel."""
    cosines = _COSINES.astype(np.float32)
    powers: list[list[np.ndarray]] = [[], [], []]
    clipped = []
    for c in range(x.shape[2]):
        blocks = np.lib.stride_tricks.sliding_window_view(x[..., c], (_BLOCK, _BLOCK))[::step, ::step]
        blocks = blocks.reshape(-1, _BLOCK, _BLOCK)
        power = np.square(cosines @ blocks @ cosines.T).reshape(len(blocks), -1)
        for band, found in zip((_COARSE, _MIDDLE, _HIGH), powers, strict=True):
            found.append(power[:, band].mean(axis=1))
        clipped.append(((blocks <= 0) | (blocks >= 255)).mean(axis=(1, 2)))
    share = np.stack(clipped)
    whole = share <= _CLIPPED
    if whole.any(axis=0).sum() < max(_FEWEST, 0.05 * share.shape[1]):  # nothing is whole: what lost least
        whole = share <= np.quantile(share, 0.2)
    count = np.maximum(whole.sum(axis=0), 1)
    coarse, middle, high = ((np.stack(found) * whole).sum(axis=0) / count for found in powers)
    return coarse, middle, high, np.asarray(whole.any(axis=0))


def _flattest(low: np.ndarray, usable: np.ndarray, share: float, fewest: int) -> np.ndarray:
    places = np.flatnonzero(usable)
    count = min(len(places), max(fewest, round(share * len(places))))
    return places[np.argpartition(low[places], count - 1)[:count]]


def _level(high: np.ndarray, low: np.ndarray | None = None) -> float:
    """The deviation behind mean squares of fine coefficients; with those of the coarse ones, what texture adds is taken off."""
    power = float(np.median(high)) / _median(int(_HIGH.sum()))
    if low is not None:
        power = max(0.0, power - _TEXTURE * float(np.median(low))) / (1 - _TEXTURE)
    return math.sqrt(power)


def _purity(high: np.ndarray, low: np.ndarray) -> float:
    coarse = float(np.median(low))
    return _level(high) / math.sqrt(coarse) if coarse > 0 else 0.0

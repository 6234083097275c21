"""Power spectra of pictures, and what an augmentation or a restoration does to them.

The power of natural pictures falls like 1 / f^a (a between 1 and 2 in the thesis; the radial mean of the photographs measured by
`benchmarks/augmentation.py` has 2.5). An augmentation that leaves this law alone leaves the pictures natural: the
analysis of the efficiency thesis, section 2.5 (P11), where Cutout adds power at high frequencies, Mixup moves the envelope and
CutBlur follows the original.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError

NYQUIST = 0.5


@dataclass(frozen=True)
class Spectrum:
    """A radially averaged power spectrum.

    `frequency` in cycles per pixel, rising, at most 0.5; `power` is the mean of |FFT|^2 over the ring, scaled so that white
    noise of variance v has the power v at every frequency.
    """

    frequency: np.ndarray
    power: np.ndarray

    def exponent(self, low: float = 1 / 32, high: float = 0.35) -> float:
        """The a of the straight line through log power against log frequency, power ~ 1 / f^a, between two frequencies.

        Raises:
            UsageError: fewer than three rings lie between them, or one has no power.
        """
        inside = (self.frequency >= low) & (self.frequency <= high)
        if inside.sum() < 3 or not (self.power[inside] > 0).all():
            raise UsageError(f"There are not three rings with power between {low:g} and {high:g} cycles per pixel.")
        slope = np.polyfit(np.log(self.frequency[inside]), np.log(self.power[inside]), 1)[0]
        return -float(slope)

    def band(self, low: float, high: float) -> float:
        """Mean power of the rings in (low, high] cycles per pixel; NaN where there are none."""
        inside = (self.frequency > low) & (self.frequency <= high)
        return float(self.power[inside].mean()) if inside.any() else math.nan


def power_spectrum(images: Tensor, windowed: bool = True) -> Spectrum:
    """The radially averaged power spectrum, a mean over pictures and channels.

    Args:
        images: `B x C x H x W` or `C x H x W`, floating point. windowed: fades the borders out (Hann), since a picture is not
            periodic and its borders would count as edges.

    Raises:
        UsageError: another shape or type, or sides below 8 pixels.
    """
    x = images[None] if images.ndim == 3 else images
    if x.ndim != 4 or not x.is_floating_point() or min(x.shape[-2:]) < 8:
        raise UsageError(
            "A spectrum is taken of B x C x H x W in floating point, 8 pixels a side or more, "
            f"not of {x.dtype}, {tuple(images.shape)}."
        )
    height, width = x.shape[-2:]
    planes = x.detach().to("cpu", torch.float64)
    window = torch.ones(height, width, dtype=torch.float64)
    if windowed:
        window = torch.outer(
            *(torch.hann_window(n + 2, periodic=False, dtype=torch.float64)[1:-1] for n in (height, width))
        )
    # the weighted mean is taken away, so that the window does not smear the constant over the lowest rings
    mean = (planes * window).sum(dim=(-2, -1), keepdim=True) / window.sum()
    power = torch.fft.fft2((planes - mean) * window).abs().square().mean(dim=(0, 1)) / window.square().sum()
    radius = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")).numpy()
    rings = min(height, width) // 2
    ring = np.rint(radius * 2 * rings).astype(int)  # ring n holds n / (2 rings) cycles per pixel
    inside = (ring >= 1) & (ring <= rings)
    count = np.bincount(ring[inside], minlength=rings + 1)[1:]
    total = np.bincount(ring[inside], power.numpy()[inside], minlength=rings + 1)[1:]
    return Spectrum(np.arange(1, rings + 1) / (2 * rings), total / count)


@dataclass(frozen=True)
class SpectralChange:
    """What was done to a spectrum: the exponent of its fall, and the change in dB against the original in each of the bands,
    which are octaves up to the Nyquist frequency, low to high."""

    name: str
    spectrum: Spectrum
    exponent: float
    bands: tuple[float, ...]


def octaves(count: int = 4) -> tuple[tuple[float, float], ...]:
    """The upper `count` octaves below 0.5 cycles per pixel, low to high, as (low, high)."""
    return tuple((NYQUIST / 2 ** (n + 1), NYQUIST / 2**n) for n in reversed(range(count)))


def spectral_change(name: str, before: Tensor, after: Tensor, bands: int = 4) -> SpectralChange:
    """The spectrum of `after` beside that of `before`; both as for `power_spectrum`, of one size."""
    old, new = power_spectrum(before), power_spectrum(after)
    ratios = (new.band(*b) / old.band(*b) if old.band(*b) > 0 else math.nan for b in octaves(bands))
    changes = tuple(10 * math.log10(r) if r > 0 else -math.inf if r == 0 else math.nan for r in ratios)
    return SpectralChange(name, new, new.exponent(), changes)


def augmentation_spectra(
    augmentations: Mapping[str, Callable[..., Any]],
    degraded: Tensor,
    sharp: Tensor,
    seed: int = 0,
    draws: int = 4,
    bands: int = 4,
) -> list[SpectralChange]:
    """What augmentations do to the power spectrum of the pictures that a network is fed.

    Args:
        augmentations: name -> `(input, target, rng) -> (input, target)`, such as those of `restora.training.augment`; what
            they return is unpacked, so that anybody's will do.
        degraded, sharp: a batch of pairs of one size, `B x C x H x W` in [0, 1]. Without a degradation pass `sharp` twice.
        seed: of the generator; every augmentation gets the same. draws: how often each is applied to the batch.

    Returns: the unchanged input and the sharp target first, then one row for each augmentation; changes are against the input.

    Raises:
        UsageError: shapes that do not belong together.
    """
    if degraded.shape != sharp.shape:
        raise UsageError(
            f"Input and target have one size here; enlarge the input first: {tuple(degraded.shape)}, {tuple(sharp.shape)}."
        )
    rows = [spectral_change("input", degraded, degraded, bands), spectral_change("target", degraded, sharp, bands)]
    for name, augment in augmentations.items():
        rng = np.random.default_rng(seed)
        results = []
        for _ in range(draws):
            changed, _ = augment(degraded, sharp, rng)
            results.append(changed)
        rows.append(spectral_change(name, degraded, torch.cat(results), bands))
    return rows

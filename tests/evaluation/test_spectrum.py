"""Power spectra against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from restora.errors import UsageError
from restora.evaluation.spectrum import augmentation_spectra, octaves, power_spectrum, spectral_change
from restora.training.augment import CutBlur, Cutout, RgbPermutation


@pytest.mark.parametrize("windowed", [False, True])
def test_white_noise_has_its_variance_at_every_frequency(windowed: bool) -> None:
    x = torch.randn(16, 1, 96, 64, generator=torch.Generator().manual_seed(0)) * 3
    spectrum = power_spectrum(x, windowed)
    assert spectrum.frequency[-1] == 0.5 and len(spectrum.frequency) == 32
    assert np.allclose(spectrum.power[3:], 9, rtol=0.2) and spectrum.power[3:].mean() == pytest.approx(9, rel=0.02)
    assert abs(spectrum.exponent()) < 0.05


def test_a_wave_has_its_power_in_its_ring_only() -> None:
    """cos(2 pi 8 x / 64): two lines of power (N/2)^2 / N each, shared by the pixels of ring 8."""
    x = torch.cos(2 * math.pi * 8 * torch.arange(64) / 64).expand(64, 64)[None, None]
    spectrum = power_spectrum(x, windowed=False)
    radius = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(64), torch.fft.fftfreq(64), indexing="ij"))
    members = int(((radius * 64).round() == 8).sum())
    assert spectrum.power[7] == pytest.approx(2 * (64 * 64 / 2) ** 2 / 64**2 / members)
    assert np.delete(spectrum.power, 7).max() < 1e-9


@pytest.mark.parametrize("wanted", [1.0, 2.0, 3.0])
def test_the_exponent_of_coloured_noise_is_found(wanted: float) -> None:
    noise = torch.fft.fft2(torch.randn(8, 1, 128, 128, generator=torch.Generator().manual_seed(1)))
    radius = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(128), torch.fft.fftfreq(128), indexing="ij"))
    radius[0, 0] = 1
    x = torch.fft.ifft2(noise * radius ** (-wanted / 2)).real
    assert power_spectrum(x).exponent() == pytest.approx(wanted, abs=0.12)


def test_change_is_in_decibels_of_each_octave() -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    change = spectral_change("half", x, x / 2)
    assert change.bands == pytest.approx([10 * math.log10(0.25)] * 4)
    assert octaves(2) == ((0.125, 0.25), (0.25, 0.5))


def test_augmentations_leave_their_traces() -> None:
    """Dropped pixels raise the highest octave of a soft picture; permuted channels raise nothing; CutBlur lies between."""
    ramp = torch.linspace(0, 4 * math.pi, 96)
    soft = (0.5 + 0.4 * torch.sin(ramp)[:, None] * torch.cos(ramp)).expand(2, 3, -1, -1).contiguous()
    soft = soft + 0.001 * torch.rand(soft.shape, generator=torch.Generator().manual_seed(3))
    sharp = (soft + 0.05 * torch.rand(soft.shape, generator=torch.Generator().manual_seed(4))).clamp(0, 1)
    rows = augmentation_spectra({"cutout": Cutout(), "rgb": RgbPermutation(), "cutblur": CutBlur()}, soft, sharp)
    high = {row.name: row.bands[-1] for row in rows}
    assert high["input"] == 0 and high["rgb"] == pytest.approx(0, abs=1e-9)
    assert high["cutout"] > 10 and 3 < high["cutblur"] < high["target"]


def test_what_is_no_picture_is_refused() -> None:
    for x in (torch.rand(3, 4, 4), torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.rand(16, 16)):
        with pytest.raises(UsageError):
            power_spectrum(x)
    with pytest.raises(UsageError):
        augmentation_spectra({}, torch.rand(1, 3, 16, 16), torch.rand(1, 3, 32, 32))

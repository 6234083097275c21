"""Measures without a reference, and what a single score hides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve
from scipy.special import gamma
from skimage.color import rgb2lab
from skimage.measure import blur_effect

from restora import evaluation
from restora.errors import PictureError, UsageError
from restora.evaluation import naturalness
from restora.evaluation.diagnostics import srgb_to_lab
from tests.conftest import make_photo


@given(st.floats(2, 60), st.integers(0, 1000))
@settings(max_examples=12, deadline=None)
def test_noise_level_of_noise(sigma: float, seed: int) -> None:
    y, x = np.mgrid[0:128, 0:128] / 128
    smooth = (0.3 + 0.4 * x * y)[..., None]
    noisy = smooth + np.random.default_rng(seed).normal(0, sigma / 255, (128, 128, 3))
    assert evaluation.noise_level(noisy) == pytest.approx(sigma, rel=0.06)
    assert evaluation.noise_level(torch.from_numpy(noisy).permute(2, 0, 1)) == evaluation.noise_level(noisy)
    assert evaluation.noise_level(smooth) < 0.05


def test_sharpness_falls_with_blur_and_agrees_with_scikit_image() -> None:
    sharp = make_photo(96, 120)
    values = []
    for sigma in (0.01, 1, 2, 4):
        image = cv2.GaussianBlur(sharp, (0, 0), sigma)
        values.append(evaluation.sharpness(image))
        # scikit-image's default: the worse of the two directions, on its grey value
        assert 1 - values[-1] == pytest.approx(blur_effect(image, channel_axis=2), abs=0.03)
    assert values == sorted(values, reverse=True)
    assert evaluation.sharpness(np.full((20, 20), 7, np.uint8)) == 0
    assert evaluation.edge_energy(sharp) > evaluation.edge_energy(cv2.GaussianBlur(sharp, (0, 0), 2))
    with pytest.raises(UsageError):
        evaluation.sharpness(sharp[:10])
    with pytest.raises(UsageError):
        evaluation.noise_level(sharp[:5])


def natural(height: int = 192, width: int = 288) -> np.ndarray:
    """A photograph that comes with scikit-image."""
    return np.ascontiguousarray(skimage.data.astronaut()[100 : 100 + height, 100 : 100 + width])


def test_niqe_prefers_the_undistorted() -> None:
    image = natural()
    own = evaluation.niqe(image)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 40, image.shape), 0, 255).astype(np.uint8)
    assert own < evaluation.niqe(cv2.GaussianBlur(image, (0, 0), 3))
    assert own < evaluation.niqe(noisy)
    assert evaluation.niqe(torch.from_numpy(image / 255).permute(2, 0, 1)) == pytest.approx(own)
    # what fills no block does not count
    assert evaluation.niqe(np.pad(image, ((0, 50), (0, 60), (0, 0)))) == own
    assert evaluation.niqe(image[:192, :280]) == evaluation.niqe(image[:192, :192])


def test_niqe_parts_against_scipy() -> None:
    """Local normalisation and the table of moments, by scipy's convolution and gamma function."""
    mean, covariance, window = naturalness._parameters(naturalness._DATA)
    assert mean.shape == (1, 36) and covariance.shape == (36, 36)
    plane = natural()[..., 0].astype(float)
    mu = convolve(plane, window, mode="nearest")
    deviation = np.sqrt(np.abs(convolve(plane**2, window, mode="nearest") - mu**2))
    assert np.abs(naturalness._normalise(plane, window) - (plane - mu) / (deviation + 1)).max() < 1e-6
    shapes, table = naturalness._ratios()
    assert np.allclose(table, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes)))


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0])
def test_generalised_gaussian_fit(shape: float) -> None:
    from scipy.stats import gennorm

    values = gennorm.rvs(shape, size=200_000, random_state=np.random.default_rng(0))
    values = np.where(values < 0, 2 * values, values)
    fitted, left, right = naturalness.fit_generalised_gaussian(values)
    assert left / right == pytest.approx(2, rel=0.05)
    symmetric = gennorm.rvs(shape, size=200_000, random_state=np.random.default_rng(2))
    fitted, left, right = naturalness.fit_generalised_gaussian(symmetric)
    assert fitted == pytest.approx(shape, rel=0.03)
    assert left == pytest.approx(right, rel=0.02)


def test_niqe_refusals(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="two blocks"):
        evaluation.niqe(natural(100, 100))
    with pytest.raises(UsageError, match="one colour"):
        evaluation.niqe(np.full((200, 200), 9, np.uint8))
    with pytest.raises(PictureError, match="parameters"):
        evaluation.niqe(natural(), parameters=tmp_path / "none.npz")


def test_brightness_bands_split_the_error() -> None:
    reference = np.zeros((20, 50, 3), np.uint8)
    for n in range(5):
        reference[:, 10 * n : 10 * n + 10] = 25 + 51 * n
    restored = reference.copy()
    restored[:, :10] += 20  # only the darkest fifth is wrong
    bands = evaluation.brightness_bands(restored, reference, "deblur-rgb")
    assert [b.share for b in bands] == [0.2] * 5
    assert bands[0].psnr == pytest.approx(20 * np.log10(255 / 20))
    assert all(b.psnr == float("inf") for b in bands[1:])
    assert sum(b.share for b in evaluation.brightness_bands(restored, reference, "sr-y", 4)) == pytest.approx(1)
    dark = evaluation.brightness_bands(reference // 5, reference // 5, "deblur-rgb")
    assert dark[4].psnr is None and dark[0].share == 1


def test_colour_drift(photo: np.ndarray) -> None:
    still = evaluation.colour_drift(photo, photo)
    assert still.rgb == (0, 0, 0) and still.delta_e == 0
    base = np.clip(photo, 20, 220)
    redder = base.copy()
    redder[..., 0] += 10
    drift = evaluation.colour_drift(redder, base)
    assert drift.rgb == pytest.approx((10, 0, 0))
    assert 1 < drift.delta_e < 20
    assert np.abs(srgb_to_lab(photo / 255) - rgb2lab(photo / 255)).max() < 0.05
    with pytest.raises(UsageError):
        evaluation.colour_drift(photo, photo[1:])


def test_consistency(photo: np.ndarray) -> None:
    from restora.degradation import resize

    def forward(x: torch.Tensor) -> torch.Tensor:
        return resize(x, 0.5)

    low = forward(torch.from_numpy(photo / 255).permute(2, 0, 1)[None])
    assert evaluation.consistency(photo, low, forward) > 50
    assert evaluation.consistency(255 - photo, low, forward) < 20
    with pytest.raises(UsageError, match="forward model"):
        evaluation.consistency(photo, photo, forward)


def test_collapse_rate() -> None:
    assert evaluation.collapse_rate([20, 21, 30, 17], [24, 23.9, 25, 20]) == 0.25
    for wrong in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(UsageError):
            evaluation.collapse_rate(*wrong)

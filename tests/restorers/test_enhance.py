"""Same-size restorers: controls from the network's spec, maps, blending."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import restora
from restora.engine import Settings
from restora.errors import UsageError
from restora.io import Picture
from restora.networks import Control, NetworkSpec, exact
from restora.restorers import Enhancer
from restora.restorers.upscale import Source
from tests.conftest import make_photo


class Dimmer(nn.Module):
    """Takes `sigma / 255` off every pixel: any error in a map, a tile or a blend shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.spec = NetworkSpec(
            task="denoise",
            tiling=exact(0),
            controls=(
                Control("sigma", "noise level", low=0, high=255, spatial=True),
                Control("mode", "how", kind="choice", default="soft", choices=("soft", "hard")),
            ),
        )

    def restore(self, x: Tensor, sigma: float | Tensor, mode: str) -> Tensor:
        return x - sigma / 255 * (2 if mode == "hard" else 1)


@pytest.fixture
def dimmer() -> Enhancer:
    return Enhancer("dimmer", Source("dimmer", "0" * 64, Dimmer), Settings(device="cpu", tile=7))


def test_a_number_and_a_constant_map_are_the_same(dimmer: Enhancer, photo: np.ndarray) -> None:
    bright = np.maximum(photo, 60)
    by_number = dimmer(bright, sigma=51).array
    assert np.array_equal(by_number, bright - 51)
    assert np.array_equal(dimmer(bright, sigma=np.full(bright.shape[:2], 51, np.uint8)).array, by_number)


def test_a_map_lies_over_the_picture_pixel_by_pixel(dimmer: Enhancer, photo: np.ndarray, tmp_path: Path) -> None:
    bright = np.maximum(photo, 60)
    level = np.random.default_rng(0).integers(0, 60, bright.shape[:2], dtype=np.uint8)
    Picture.from_array(level).save(tmp_path / "map.png")
    expected = bright - level[..., None]
    assert np.array_equal(dimmer(bright, sigma=level).array, expected)
    assert np.array_equal(dimmer(bright, sigma=str(tmp_path / "map.png"), ensemble=True).array, expected)
    with pytest.raises(UsageError, match="does not fit"):
        dimmer(bright, sigma=level[:-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strength_blends_with_the_input(dimmer: Enhancer, dtype: type) -> None:
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    array = np.full((9, 11, 3), 0.8 * top, dtype)
    array[..., 0] += array.dtype.type(0.1 * top)  # a colour
    full, half, none = (dimmer(array, sigma=51, strength=s).array for s in (1, 0.5, 0))
    assert np.array_equal(none, array)
    assert np.allclose(full, array - 0.2 * top, atol=1e-6 * top + (dtype != np.float32))
    assert np.allclose(half, array - 0.1 * top, atol=1e-6 * top + (dtype != np.float32))


def test_transparency_is_left_alone(dimmer: Enhancer) -> None:
    rgba = np.random.default_rng(0).integers(60, 256, (12, 12, 4), dtype=np.uint8)
    assert np.array_equal(dimmer(rgba, sigma=10).picture.alpha, rgba[..., 3])


@pytest.mark.parametrize(
    ("controls", "named"),
    [
        ({}, "sigma"),
        ({"sigma": -1}, "sigma"),
        ({"sigma": 300}, "sigma"),
        ({"sigma": 5, "mode": "loud"}, "mode"),
        ({"sigma": 5, "strength": 2}, "strength"),
        ({"sigma": 5, "speed": 1}, "speed"),
    ],
)
def test_wrong_controls_are_named(dimmer: Enhancer, controls: dict, named: str, photo: np.ndarray) -> None:
    with pytest.raises(UsageError, match=named):
        dimmer(photo, **controls)


def test_a_choice_reaches_the_network(dimmer: Enhancer) -> None:
    array = np.random.default_rng(0).integers(100, 256, (4, 4, 3), dtype=np.uint8)
    assert np.array_equal(dimmer(array, sigma=20, mode="hard").array, array - 40)


def test_the_controls_are_those_of_the_network_and_the_common_ones(dimmer: Enhancer) -> None:
    assert set(dimmer.controls.model_fields) == {"strength", "ensemble", "sigma", "mode"}


def test_a_sigma_can_be_estimated(dimmer: Enhancer) -> None:
    noisy = np.clip(128 + np.random.default_rng(0).normal(0, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
    for array in (noisy, noisy.astype(np.uint16) * 257, noisy.astype(np.float32) / 255):
        result = dimmer(array, sigma="auto")
        (note,) = [n for n in result.report.notes if "estimated" in n]
        assert 18 < float(result.report.controls["sigma"]) < 22 and "of 255" in note


@pytest.mark.parametrize("sigma", [25.0, 60.0])  # the second is more than the network knows of equal channels
def test_a_grey_picture_is_denoised_as_well_as_its_noise_allows(sigma: float) -> None:
    sharp = make_photo(96, 96)[..., 1].astype(np.float32) / 255
    noisy = sharp + np.random.default_rng(0).normal(0, sigma / 255, sharp.shape).astype(np.float32)
    restorer = restora.load("drunet_s.restora", device="cpu", precision="float32")
    grey = restorer(noisy, sigma=sigma).array.reshape(96, 96)
    before, after = (float(np.square(x - sharp).mean()) for x in (noisy, grey))
    assert after < before / 4, (before, after)
    # the same picture in three equal channels, and the same level as a map
    three = restorer(np.repeat(noisy[..., None], 3, 2), sigma=sigma).array
    assert three.shape == (96, 96, 3) and np.array_equal(three, np.repeat(grey[..., None], 3, 2))
    map_ = restorer(noisy, sigma=np.full((96, 96), sigma / restorer.spec.controls[0].high, np.float32)).array.reshape(
        96, 96
    )
    assert np.abs(map_ - grey).max() < 1e-3

"""Colour profiles: agreement with LittleCMS, and the way there and back."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from io_making import ADOBE, P3, PROPHOTO, SRGB, SRGB_PARA, noise, profile
from PIL import Image, ImageCms

from restora.io import Metadata, Picture
from restora.io.icc import transform_of

GAMMA_TABLE = tuple(round(65535 * (i / 1023) ** 2.2) for i in range(1024))
SRGB_TABLE = tuple(
    round(65535 * (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4)) for x in np.linspace(0, 1, 1024)
)
PROFILES = {
    "adobe": profile(ADOBE),
    "adobe table": profile(ADOBE, GAMMA_TABLE),
    "p3 v4": profile(P3, SRGB_PARA, version=4),
    "prophoto": profile(PROPHOTO, (1.8,)),
    "prophoto para": profile(PROPHOTO, (0, (1.8,)), version=4),
    "linear": profile(SRGB, (1.0,)),
    "two-part": profile(P3, (1, (2.2, 0.9, 0.1)), version=4),
    "lifted": profile(P3, (4, (2.2, 0.95, 0.04, 0.06, 0.05, 0.01, 0.01)), version=4),
}


def littlecms(array, source, back=False):
    pair = [ImageCms.ImageCmsProfile(io.BytesIO(source)), ImageCms.createProfile("sRGB")]
    image = ImageCms.profileToProfile(
        Image.fromarray(array),
        *(reversed(pair) if back else pair),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", PROFILES)
def test_agrees_with_littlecms(name):
    array = noise(200, 200)
    array[:50] = np.arange(200, dtype=np.uint8)[:, None]  # greys
    array[50:100] //= 8  # shadows
    transform = transform_of(PROFILES[name])
    assert not transform.is_identity and transform.description == "Test RGB"
    ours = transform.to_working(array / np.float32(255))
    theirs = littlecms(array, PROFILES[name])
    inside = ((ours >= 0) & (ours <= 1)).all(axis=2)
    assert inside.sum() > 4000
    difference = np.abs(ours * 255 - theirs)[inside]
    assert difference.max() <= 1.1 and difference.mean() < 0.35
    # where sRGB cannot hold the colour, LittleCMS stops at its border
    np.testing.assert_allclose(np.clip(ours, 0, 1) * 255, theirs, atol=1.6)


@pytest.mark.parametrize("name", [name for name in PROFILES if name != "lifted"])  # which cannot show black
def test_from_working_agrees_with_littlecms(name):
    array = noise(100, 100)
    ours = transform_of(PROFILES[name]).from_working(array / np.float32(255))
    difference = np.abs(np.clip(ours, 0, 1) * 255 - littlecms(array, PROFILES[name], back=True))
    # at black, where the curves are steep, LittleCMS's 8-bit arithmetic and ours part by a few levels
    assert np.quantile(difference, 0.999) < 1.3 and difference.max() < 5 and difference.mean() < 0.3


@pytest.mark.parametrize("name", PROFILES)
def test_there_and_back_in_16_bits(name):
    array = noise(300, 300, dtype=np.uint16)
    array[:60] = np.random.default_rng(1).choice([0, 1, 5, 300, 65535], (60, 300, 3))
    transform = transform_of(PROFILES[name])
    real = array / np.float32(65535)
    back = transform.from_working(transform.to_working(real))
    assert back.dtype == np.float32
    if name in ("lifted", "two-part"):  # these two jump near black: their darkest values are one
        real = np.maximum(real, 0.06)
        back = transform.from_working(transform.to_working(real))
    assert np.abs(back - real).max() * 65535 < 1


@pytest.mark.parametrize("curve", [SRGB_PARA, SRGB_TABLE])
@pytest.mark.parametrize("version", [2, 4])
def test_srgb_is_the_identity(curve, version):
    transform = transform_of(profile(SRGB, curve, "My sRGB", version))
    assert transform.is_identity and transform.description == "My sRGB"
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert transform_of(made).is_identity
    array = noise(dtype=np.float32)
    np.testing.assert_array_equal(transform.to_working(array), array)
    np.testing.assert_array_equal(transform.from_working(array), array)


def test_values_outside_the_range_survive():
    for name in ("adobe", "p3 v4", "prophoto", "adobe table"):
        transform = transform_of(PROFILES[name])
        array = np.random.default_rng(0).uniform(-0.3, 1.5, (50, 50, 3)).astype(np.float32)
        np.testing.assert_allclose(transform.from_working(transform.to_working(array)), array, atol=2e-5)


def test_is_a_function_of_the_pixel_and_pickles():
    transform = pickle.loads(pickle.dumps(transform_of(PROFILES["adobe table"])))
    array = noise(20, 30, dtype=np.float32)
    whole = transform.to_working(array)
    np.testing.assert_array_equal(transform.to_working(array[5:9, 7:20]), whole[5:9, 7:20])
    np.testing.assert_array_equal(transform.to_working(array[3, 4]), whole[3, 4])


def test_profiles_that_cannot_be_used_are_left_alone():
    colour = PROFILES["adobe"]
    grey = colour[:16] + b"GRAY" + colour[20:]
    table = colour.replace(b"rXYZ", b"A2B0")
    flat = profile(ADOBE, (0, 0, 0, 0))
    falling = profile(ADOBE, (65535, 40000, 0, 0))
    singular = profile(ADOBE[:3] * 3)
    for bad in (None, b"", b"nonsense", grey, table, flat, falling, singular, colour[:200]):
        assert transform_of(bad).is_identity
    assert "left as it is" in transform_of(table).description
    assert transform_of(colour, channels=1).is_identity
    picture = Picture.from_array(noise(), metadata=Metadata(icc=colour))
    assert not picture.colour_transform().is_identity
    assert Picture.from_array(noise()).colour_transform().is_identity


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_any_damage_to_a_profile_is_harmless(seed, count):
    rng = np.random.default_rng(seed)
    data = np.frombuffer(PROFILES[list(PROFILES)[seed % len(PROFILES)]], np.uint8).copy()
    data[rng.integers(0, len(data), count)] = rng.integers(0, 256, count)
    with np.errstate(all="ignore"):
        transform = transform_of(data.tobytes()[: rng.integers(1, len(data) + 1) if seed % 2 else None])
        transform.from_working(transform.to_working(np.linspace(0, 1, 30, dtype=np.float32).reshape(1, 10, 3)))

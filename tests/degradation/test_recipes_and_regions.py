"""Named chains, and pictures whose regions differ."""

from __future__ import annotations

import json

import pytest
import torch

from restora import degradation as d
from restora.degradation.recipes import classical, mixed
from restora.degradation.regions import flickr_levels
from restora.errors import UsageError


@pytest.mark.parametrize("name", d.recipes())
@pytest.mark.parametrize("channels", [1, 3])
def test_every_recipe(name: str, channels: int) -> None:
    chain = d.recipe(name)
    scale = round(1 / chain.grows)
    assert scale == (int(name.split("-x")[1]) if "-x" in name else 1)
    x = torch.rand(3, channels, 48, 64, generator=torch.Generator().manual_seed(1))
    y, manifest = chain.degrade(x, 4)
    assert y.shape == (3, channels, 48 // scale, 64 // scale)
    assert torch.equal(d.replay(json.loads(json.dumps(manifest)), x), y)
    assert d.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain
    if not name.startswith("usrnet"):  # the one whose noise is not rounded to 8 bits
        assert float(y.min()) >= 0 and float(y.max()) <= 1


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_wild_chains_at_other_scales_and_odd_sizes(scale: int) -> None:
    for name in ("realesrgan", "bsrgan"):
        assert d.recipe(f"{name}-x{scale}")(torch.rand(2, 3, 37, 41), 0).shape[-2:] == (
            -(-37 // scale),
            -(-41 // scale),
        )


def test_unknown_recipes() -> None:
    with pytest.raises(UsageError, match="Did you mean"):
        d.recipe("realesrgan-4")
    assert d.recipe("noise-12.5") == d.GaussianNoise(12.5) >> d.Quantise()
    assert d.recipe("jpeg-7") == d.Jpeg(7)


def test_the_classical_model() -> None:
    kernel = d.kernels.gaussian(1.6, 15)
    chain = classical(kernel, 2, 5)
    x = torch.rand(1, 3, 24, 30)
    expected = d.Blur(kernel, "circular")(x)[..., ::2, ::2]
    y = chain.seed(0)(x)
    assert float((y - expected).std()) * 255 == pytest.approx(5, rel=0.2)
    assert classical(kernel, 3, sampler="bicubic").seed(0)(x).shape[-2:] == (8, 10)


def test_severities_are_in_order() -> None:
    x = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    x = d.GaussianBlur(2.0)(x)
    x = (x - x.min()) / (x.max() - x.min())
    errors = [float((mixed(s).seed(1)(x) - x).square().mean()) for s in ("mild", "moderate", "severe")]
    assert errors == sorted(errors)


@pytest.mark.parametrize(("difficulty", "count"), [("easy", 2), ("moderate", 3), ("difficult", 4)])
@pytest.mark.parametrize("layout", ["rows", "columns", "grid"])
def test_shdd(difficulty: str, count: int, layout: str) -> None:
    x = torch.rand(12, 3, 60, 72)
    y, manifest = d.Shdd(difficulty, layout).degrade(x, 0)
    seen = set()
    for i, image in enumerate(manifest["images"]):
        regions = d.from_dict(image)
        boxes = regions.boxes()
        assert len(boxes) == count
        covered = torch.zeros(60, 72)
        for b in boxes:
            top, left, bottom, right = b["box"]
            covered[top:bottom, left:right] += 1
            seen.add(b["type"])
            if b["type"] == "Identity":
                assert torch.equal(y[i, :, top:bottom, left:right], x[i, :, top:bottom, left:right])
        assert bool((covered == 1).all()), "the regions tile the picture"
    assert seen == {"VarianceNoise", "GaussianBlur", "FrequencyNoise", "Contrast", "Identity"}


def test_a_regions_blur_sees_its_neighbours() -> None:
    x = torch.rand(1, 3, 30, 30)
    y = d.Region((0, 0, 30, 15), d.GaussianBlur(2.0))(x)
    assert torch.equal(y[..., :15], d.GaussianBlur(2.0)(x)[..., :15]) and torch.equal(y[..., 15:], x[..., 15:])
    disc = d.Region((5, 5, 25, 25), d.Contrast(-255), "disc")(x)
    assert torch.equal(disc[..., 5, 5], x[..., 5, 5]) and not torch.equal(disc[..., 15, 15], x[..., 15, 15])
    with pytest.raises(UsageError, match="changes the size"):
        d.Region((0, 0, 3, 3), d.Decimate(2))(x)


@pytest.mark.parametrize(
    ("difficulty", "least", "most", "small", "large"), [("basic", 1, 4, 0.3, 0.7), ("difficult", 5, 9, 0.1, 0.3)]
)
def test_flickr_distortion(difficulty: str, least: int, most: int, small: float, large: float) -> None:
    x = torch.rand(10, 3, 60, 60)
    y, manifest = d.FlickrDistortion(difficulty).degrade(x, 0)
    counts = set()
    for i, image in enumerate(manifest["images"]):
        boxes = d.from_dict(image).boxes()
        counts.add(len(boxes))
        outside = torch.ones(60, 60, dtype=torch.bool)
        for b in boxes:
            top, left, bottom, right = b["box"]
            assert 0 <= top < bottom <= 60 and 0 <= left < right <= 60
            assert small * 60 - 1 <= bottom - top <= large * 60 + 1
            outside[top:bottom, left:right] = False
        assert torch.equal(y[i][:, outside], x[i][:, outside])
    assert min(counts) >= least and max(counts) <= most and len(counts) > 1


def test_flickr_levels_get_worse() -> None:
    x = d.GaussianBlur(1.0)(torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)))
    levels = flickr_levels()
    assert len(levels) == 8 and all(len(v) == 3 for v in levels.values())
    for name in ("gaussian-noise", "gaussian-blur", "salt-pepper", "quantisation", "low-pass", "f-noise"):
        errors = [float((step.seed(0)(x) - x).square().mean()) for step in levels[name]]
        assert errors == sorted(errors), name

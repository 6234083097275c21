"""Damage over time, overlays, averaged frames."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from restora import degradation as d
from restora.errors import UsageError
from restora.io import Picture


def test_white_scratches_are_a_mask() -> None:
    """CBVR's model: (1 - S) x + S."""
    x = torch.rand(1, 3, 60, 80)
    scratches = d.Scratches(4, key=2)
    mask = scratches.mask(1, (60, 80))
    assert 0.001 < float(mask.mean()) < 0.3
    assert torch.allclose(scratches(x), x * (1 - mask) + mask, atol=1e-6)
    assert torch.equal(d.Scratches(0)(x, 0), x)


def test_colours() -> None:
    x = torch.full((1, 3, 60, 80), 0.5)
    assert float(d.Scratches(4, colour="black", key=2)(x).max()) <= 0.5 + 1e-6
    coloured = d.Scratches(4, colour="coloured", key=2)(x)
    assert float((coloured[:, 0] - coloured[:, 1]).abs().max()) > 0.05
    assert d.Scratches(4, colour="coloured", key=2)(x[:, :1]).shape == (1, 1, 60, 80)


@pytest.mark.parametrize("damage", [d.Scratches, d.Dust, d.Stains])
def test_persistence(damage: type) -> None:
    def likeness(persistence: float) -> float:
        masks = damage(6, persistence=persistence, key=1, **({"drift": 0.0} if damage is d.Scratches else {})).mask(
            8, (80, 90)
        )
        pairs = [(a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-6) for a, b in pairwise(masks)]
        return float(torch.stack(pairs).mean())

    assert likeness(1.0) > 0.999
    assert likeness(0.0) < 0.6
    assert likeness(0.0) <= likeness(0.7) <= likeness(1.0)


def test_parameters_stay_over_a_clip_unless_drawn_for_each_frame() -> None:
    clip = torch.full((1, 6, 1, 8, 8), 0.25)
    steady = d.Brightness(d.Uniform(0.5, 2))(clip, 0)
    assert torch.equal(steady[:, 0], steady[:, 5])
    y, manifest = d.EachFrame(d.Brightness(d.Uniform(0.5, 2))).degrade(clip, 0)
    assert len({float(f[0, 0, 0]) for f in y[0]}) == 6
    assert torch.equal(d.replay(json.loads(json.dumps(manifest)), clip), y)
    with pytest.raises(UsageError, match="clip"):
        d.EachFrame(d.Clip())(clip[0], 0)


@pytest.mark.parametrize("mode", ["mask", "lighten", "screen", "add", "multiply"])
def test_overlays(mode: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        Picture.from_array((rng.random((20, 30, 3)) ** 4 * 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    overlay = d.Overlay(str(tmp_path), mode, d.Uniform(0.5, 1), d.Uniform(0, 4))
    x = torch.rand(3, 3, 40, 50)
    y, manifest = overlay.degrade(x, 2)
    assert y.shape == x.shape and float(y.min()) >= 0 and float(y.max()) <= 1
    assert bool((y <= x + 1e-6).all()) if mode == "multiply" else bool((y >= x - 1e-6).all())
    assert torch.equal(d.replay(manifest, x), y)
    assert all(image["path"].endswith(".png") for image in manifest["images"])


def test_an_empty_folder_of_overlays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture"):
        d.Overlay(str(tmp_path))(torch.rand(1, 3, 8, 8), 0)


def test_mean_of_frames() -> None:
    clip = torch.rand(2, 11, 3, 6, 7)
    blur = d.FrameAverage(5, 3)
    y = blur(clip)
    assert y.shape == (2, 3, 3, 6, 7)
    assert torch.allclose(y[:, 1], clip[:, 3:8].mean(1), atol=1e-6)
    assert torch.equal(blur.targets(clip), clip[:, [2, 5, 8]])
    assert torch.equal(blur.sequences(clip)[:, 2], clip[:, 6:11])
    assert d.FrameAverage(5)(clip).shape[1] == 2


@pytest.mark.parametrize("response", ["gamma", "srgb"])
def test_camera_response(response: str) -> None:
    blur = d.FrameAverage(3, response=response)
    still = torch.rand(1, 1, 3, 5, 5).expand(1, 3, 3, 5, 5)
    assert torch.allclose(blur(still)[:, 0], still[:, 0], atol=1e-5), "what does not move is not blurred"
    flash = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1, 1)
    assert float(blur(flash)) > 0.5, "light adds up, pixel values do not"
    assert float(d.FrameAverage(3)(flash)) == pytest.approx(1 / 3)


def test_averages_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="odd"):
        d.FrameAverage(4)
    with pytest.raises(UsageError, match="clip of 3"):
        d.FrameAverage(7)(torch.rand(1, 3, 3, 4, 4))
    with pytest.raises(UsageError, match="clip"):
        d.FrameAverage(3)(torch.rand(1, 3, 4, 4))

"""MATLAB's imresize: the values measured from published code, and the files of the public benchmarks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from restora import degradation as d
from restora.errors import UsageError

STORE = Path(__file__).parents[1] / "conformance"
FLOAT, BYTES = (json.loads((STORE / f"{name}.json").read_text()) for name in ("bicubic", "bicubic_uint8"))


@pytest.mark.parametrize("case", FLOAT["cases"], ids=lambda c: f"{c['name']}-{c['scale']}")
def test_float_path(case: dict) -> None:
    seed = int(case["input"]["recipe"].split(":")[1])
    image = np.random.Generator(np.random.PCG64(seed)).random(case["input"]["shape"]).astype(np.float32)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    scale = float(Fraction(case["scale"]))
    y = d.resize(x, scale, antialias=case["antialiasing"])[0].permute(1, 2, 0).numpy()
    stored = np.load(STORE / "bicubic.npz")
    assert list(y.shape) == case["output_shape"]
    assert np.abs(y - stored[case["name"]]).max() < FLOAT["tolerance"]


@pytest.mark.parametrize("case", BYTES["cases"], ids=lambda c: f"{c['input']}-{c['scale']}")
def test_8_bit_path(case: dict) -> None:
    stored = np.load(STORE / "bicubic_uint8.npz")
    x = torch.from_numpy(stored[case["input"]]).permute(2, 0, 1)[None]
    y = d.resize_uint8(x, float(Fraction(case["scale"])))
    assert np.array_equal(y[0].permute(1, 2, 0).numpy(), stored[case["output"]])
    as_degradation = d.Downsample8Bit(round(1 / Fraction(case["scale"])))(x.float() / 255)
    assert torch.equal((as_degradation * 255).round().byte(), y)


@pytest.mark.parametrize(("folder", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("Set14", 4)])
def test_the_benchmarks_own_files(data_folder: Path, folder: str, scale: int) -> None:
    from restora.io import Picture

    pairs = d.datasets.read_pairs(data_folder / "bench" / folder, "benchmark", scale=scale)
    assert len(pairs) >= 5 and not pairs.missing
    for pair in pairs:
        high = torch.from_numpy(Picture.open(pair.clean).pixels).permute(2, 0, 1)[None]
        assert pair.degraded is not None
        low = Picture.open(pair.degraded).pixels
        assert np.array_equal(d.resize_uint8(high, 1 / scale)[0].permute(1, 2, 0).numpy(), low), pair.name


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "box", "nearest"])
@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 1.0, 1.5, 4.0])
def test_a_constant_stays(method: str, scale: float) -> None:
    y = d.resize(torch.full((1, 1, 13, 17), 0.3), scale, method=method)  # type: ignore[arg-type]
    assert torch.allclose(y, torch.full_like(y, 0.3), atol=1e-6)
    assert y.shape[-2:] == (max(1, int(np.ceil(round(13 * scale, 9)))), max(1, int(np.ceil(round(17 * scale, 9)))))


def test_refusals() -> None:
    x = torch.rand(1, 1, 8, 8)
    for call in (
        lambda: d.resize(x),
        lambda: d.resize(x, 2, (3, 3)),
        lambda: d.resize(x, -1),
        lambda: d.resize(x, 2, method="lanczos"),  # type: ignore[arg-type]
        lambda: d.resize(x.byte(), 2),
        lambda: d.resize_uint8(x, 2),
        lambda: d.resize(x, size=(0, 4)),
        lambda: d.Downsample(0.5),
        lambda: d.Decimate(1.5),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError):
            call()


def test_down_up_keeps_the_size() -> None:
    x = torch.rand(1, 3, 37, 53)
    assert d.DownUp(5)(x).shape == x.shape
    assert torch.allclose(d.DownUp(1)(x), x, atol=1e-6)


def test_fast_sizes_agree_on_both_ways() -> None:
    from restora.degradation.resampling import resize_fast

    x = torch.rand(1, 3, 24, 30)
    for method, size in (("bilinear", (40, 50)), ("bicubic", (48, 60)), ("area", (12, 15)), ("nearest", (48, 60))):
        here = resize_fast(x, size, method)
        there = resize_fast(x.clone().requires_grad_(), size, method).detach()
        assert torch.allclose(here, there, atol=1e-4), method

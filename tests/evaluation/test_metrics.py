"""PSNR, SSIM and their relatives against measured values, against scikit-image, and by their properties."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restora import evaluation
from restora.errors import UsageError
from restora.evaluation import neighbours, protocol
from restora.evaluation.full_reference import blocking_effect
from tests.conftest import make_photo

CONFORMANCE = Path(__file__).parents[1] / "conformance"
CASES = json.loads((CONFORMANCE / "metrics.json").read_text())["cases"]


def pair(name_a: str, name_b: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(CONFORMANCE / "metrics.npz") as file:
        return file[name_a], file[name_b]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["a"])
def test_published_values(case: dict) -> None:
    """BasicSR's values: Y in float or RGB, with and without a border."""
    a, b = pair(case["a"], case["b"])
    for value in case["values"]:
        name = "sr-y" if value["test_y_channel"] else "sr-rgb"
        border = value["crop_border"]
        assert evaluation.psnr(a, b, name, border) == pytest.approx(value["psnr"], abs=1e-5)
        assert evaluation.ssim(a, b, name, border) == pytest.approx(value["ssim"], abs=1e-8)


@pytest.mark.parametrize("case", [c for c in CASES if "kair_rounded_y" in c], ids=lambda c: c["a"])
def test_published_values_of_rounded_y(case: dict) -> None:
    a, b = pair(case["a"], case["b"])
    rounded = next(p for phrase, p in neighbours(protocol("sr-y")).items() if phrase.startswith("Y rounded"))
    for value in case["kair_rounded_y"]:
        assert evaluation.psnr(a, b, rounded, value["border"]) == pytest.approx(value["psnr"], abs=1e-5)
        assert evaluation.ssim(a, b, rounded, value["border"]) == pytest.approx(value["ssim"], abs=1e-8)


def test_y_of_known_colours() -> None:
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    # Y goes from 16 to 235, so that the worst error is 219 and not 255
    assert evaluation.psnr(black, white, "sr-y", 1) == pytest.approx(20 * math.log10(255 / 219))
    full = next(p for phrase, p in neighbours(protocol("sr-y")).items() if phrase.startswith("full-range"))
    assert evaluation.psnr(black, white, full, 1) == pytest.approx(0.0)


def test_luminance_ranges_differ_by_a_constant() -> None:
    """The gap that users of full-range Y report: 20 log10(255 / 219) = 1.32 dB."""
    a = make_photo(64, 64, 1)
    grey = np.repeat(a[..., :1], 3, axis=2)
    other = np.clip(grey.astype(int) + 5, 0, 255).astype(np.uint8)
    full = next(p for phrase, p in neighbours(protocol("sr-y")).items() if phrase.startswith("full-range"))
    gap = evaluation.psnr(grey, other, "sr-y", 4) - evaluation.psnr(grey, other, full, 4)
    assert gap == pytest.approx(20 * math.log10(255 / 219), abs=1e-3)


def test_scikit_image_agrees() -> None:
    a = make_photo(40, 52)
    b = np.clip(a + np.random.default_rng(3).normal(0, 12, a.shape), 0, 255).astype(np.uint8)
    assert evaluation.psnr(a, b, "denoise-rgb") == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255))
    _, full = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2, full=True
    )
    assert evaluation.ssim(a, b, "denoise-rgb") == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)
    assert evaluation.mae(a, b, "denoise-rgb") == pytest.approx(np.abs(a.astype(float) - b).mean())


def test_arrays_and_tensors_are_the_same_images(photo: np.ndarray) -> None:
    noisy = np.clip(photo / 255 + np.random.default_rng(0).normal(0, 0.1, photo.shape), 0, 1)
    as_tensor = torch.from_numpy(noisy).permute(2, 0, 1)[None]
    value = evaluation.psnr(noisy, photo, "sr-y", 4)
    assert value == evaluation.psnr(as_tensor, photo / 255, "sr-y", 4)
    assert value == evaluation.psnr(evaluation.to_uint8(noisy), photo, "sr-y/1", 4)


def test_rounding_is_to_the_nearest() -> None:
    x = np.full((2, 2, 1), 100.49 / 255), np.full((2, 2, 1), 100.5 / 255)
    assert [int(evaluation.to_uint8(v)[0, 0, 0]) for v in x] == [100, 101]


@given(st.integers(0, 2**31), st.integers(12, 40), st.integers(12, 40), st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_properties(seed: int, height: int, width: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    b = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    for name in ("sr-rgb", "jpeg-y"):
        border = 0 if name == "sr-rgb" else None
        assert evaluation.psnr(a, a, name, border) == math.inf
        assert evaluation.ssim(a, a, name, border) == pytest.approx(1)
        assert evaluation.psnr(a, b, name, border) == evaluation.psnr(b, a, name, border)
        assert evaluation.ssim(a, b, name, border) == pytest.approx(evaluation.ssim(b, a, name, border))
        assert -1 <= evaluation.ssim(a, b, name, border) < 1
    assert evaluation.mse(a, b, "denoise-rgb") >= evaluation.mae(a, b, "denoise-rgb") ** 2
    if min(height, width) >= 16:
        assert evaluation.psnr_b(a, b, "jpeg-y") <= evaluation.psnr(a, b, "jpeg-y")


def test_refusals(photo: np.ndarray) -> None:
    for action, word in (
        (lambda: evaluation.psnr(photo, photo, "psnr"), "protocol"),
        (lambda: evaluation.psnr(photo, photo, "sr-y/7"), "version"),
        (lambda: evaluation.psnr(photo, photo, "sr-y"), "scale"),
        (lambda: evaluation.psnr(photo, photo[:-1], "sr-y", 2), "shape"),
        (lambda: evaluation.psnr(photo, photo, "sr-y", 30), "border"),
        (lambda: evaluation.psnr(photo, photo, "denoise-gray"), "grey"),
        (lambda: evaluation.psnr(photo.astype(np.int32), photo, "sr-y", 2), "int32"),
        (lambda: evaluation.psnr(np.full((20, 20, 1), np.nan), np.zeros((20, 20, 1)), "denoise-gray"), "NaN"),
        (lambda: evaluation.ssim(photo[:10], photo[:10], "denoise-rgb"), "11x11"),
        (lambda: evaluation.ms_ssim(photo, photo, "denoise-rgb"), "161"),
        (lambda: evaluation.psnr_b(photo[:10], photo[:10], "denoise-rgb"), "16"),
        (lambda: evaluation.psnr(photo[..., :2], photo[..., :2], "sr-rgb", 2), "1 or 3"),
    ):
        with pytest.raises(UsageError, match=word):
            action()


def test_every_protocol_measures(photo: np.ndarray) -> None:
    grey = photo[..., :1]
    for name, rules in evaluation.protocols().items():
        image = grey if rules.channel == "grey" else photo
        noisy = np.clip(image.astype(int) + 9, 0, 255).astype(np.uint8)
        assert 25 < evaluation.psnr(noisy, image, name, 2) < 35
        for phrase, other in neighbours(rules).items():
            assert other != rules, phrase
            evaluation.psnr(noisy, image, other, 2)


def test_multiscale_ssim() -> None:
    rng = np.random.default_rng(5)
    a = make_photo(176, 181)
    scores = [1.0]
    for sigma in (5, 15, 45):
        b = np.clip(a + rng.normal(0, sigma, a.shape), 0, 255).astype(np.uint8)
        scores.append(evaluation.ms_ssim(b, a, "denoise-rgb"))
    assert evaluation.ms_ssim(a, a, "denoise-rgb") == pytest.approx(1)
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0
    # a single octave's formula by hand, on scikit-image's map of the coarsest one
    x, y = (z[..., 0].astype(float) for z in (a, np.clip(a + 20.0, 0, 255)))
    for _ in range(4):
        x, y = (np.pad(z, [(0, n % 2) for n in z.shape], mode="edge") for z in (x, y))
        x, y = (z.reshape(z.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)) for z in (x, y))
    _, full = structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )
    from restora.evaluation.metrics import similarity

    luminance, structure = similarity(x, y)
    assert (luminance * structure).mean() == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)


def test_psnr_b_sees_blocks() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 2, (64, 1))
    blocks = ramp.reshape(64, 8, 8).mean(axis=2).repeat(8, axis=1).astype(np.uint8)
    assert blocking_effect(ramp.astype(float)) == 0
    # all steps of 16 at the edges: 64 * 7 of them, and as many vertical places without any step
    expected = (64 * 7 * 16**2) / (2 * 64 * 7) * math.log2(8) / math.log2(64)
    assert blocking_effect(blocks.astype(float)) == pytest.approx(expected)
    error = np.mean((ramp.astype(float) - blocks) ** 2)
    assert evaluation.psnr_b(blocks, ramp, "jpeg-y") == pytest.approx(10 * math.log10(255**2 / (error + expected)))
    assert evaluation.psnr_b(ramp, blocks, "jpeg-y") == pytest.approx(evaluation.psnr(ramp, blocks, "jpeg-y"))


@given(st.integers(0, 2**31), st.integers(0, 6), st.integers(0, 6), st.floats(0.1, 9))
@settings(max_examples=20, deadline=None)
def test_kernel_similarity_ignores_shift_and_scale(seed: int, down: int, right: int, factor: float) -> None:
    k = np.random.default_rng(seed).random((5, 7))
    moved = np.zeros((11, 13))
    moved[down : down + 5, right : right + 7] = factor * k
    assert evaluation.kernel_similarity(k, moved) == pytest.approx(1, abs=1e-5)


def test_kernel_measures() -> None:
    line, column, dot = np.zeros((9, 9)), np.zeros((9, 9)), np.zeros((9, 9))
    line[4], column[:, 4], dot[4, 4] = 1 / 9, 1 / 9, 1
    assert evaluation.kernel_similarity(line, column) == pytest.approx(1 / 9)
    assert evaluation.kernel_similarity(line, dot) == pytest.approx(1 / 3)
    assert evaluation.kernel_mae(line, 5 * line) == pytest.approx(0)
    assert evaluation.kernel_mae(line, dot) == pytest.approx((8 / 9 + 8 / 9) / 81)
    for bad in (np.zeros((3, 3)), np.ones(3), np.full((3, 3), np.nan)):
        with pytest.raises(UsageError):
            evaluation.kernel_similarity(bad, dot)
    with pytest.raises(UsageError, match="size"):
        evaluation.kernel_mae(np.ones((3, 3)), dot)

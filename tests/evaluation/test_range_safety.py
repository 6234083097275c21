"""Scores that look good and mean nothing cannot come about."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restora import evaluation
from restora.errors import UsageError
from restora.evaluation import RangeWarning, check_pair, check_score, find_shift
from tests.conftest import make_photo

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def test_48_dB_that_are_13_dB() -> None:
    """The mistake of a source document: the error of normalised tensors beside a peak of 255."""
    rng = np.random.default_rng(0)
    # a picture of unit variance after normalisation, and the blank that a broken network returns
    sharp = np.clip(MEAN + STD * rng.normal(0, 1, (64, 64, 3)), 0, 1)
    normalised = (sharp - MEAN) / STD
    blank = np.full_like(normalised, normalised.mean())
    reported = 10 * np.log10(255**2 / np.mean((normalised - blank) ** 2))
    assert reported == pytest.approx(48.4, abs=0.5)  # what was printed

    for restored in (blank, torch.from_numpy(blank).permute(2, 0, 1)):
        reference = normalised if isinstance(restored, np.ndarray) else torch.from_numpy(normalised).permute(2, 0, 1)
        for measure in (evaluation.psnr, evaluation.ssim, evaluation.mae):
            with pytest.raises(UsageError, match="normalised by a mean"):
                measure(restored, reference, "deblur-rgb")

    undone = blank * STD + MEAN
    true = evaluation.psnr(undone, sharp, "deblur-rgb")
    assert true == pytest.approx(13, abs=0.7)
    assert evaluation.ssim(undone, sharp, "deblur-rgb") < 0.05
    # and beside a picture of one colour it shows that it is none better
    own = evaluation.psnr(np.broadcast_to(sharp.mean(axis=(0, 1)), sharp.shape), sharp, "deblur-rgb")
    assert true < own + 0.5


def test_a_normalised_result_against_a_proper_reference_is_no_false_high() -> None:
    sharp = make_photo(40, 40) / 255
    with pytest.warns(RangeWarning, match="far outside"):
        value = evaluation.psnr((sharp - MEAN) / STD * 3, sharp, "deblur-rgb")
    assert value < 20


@pytest.mark.parametrize(
    ("reference", "word"),
    [
        (lambda x: x * 255, "divide it by 255"),
        (lambda x: x * 65535, "65535"),
        (lambda x: x * 2 - 1, r"\(x \+ 1\) / 2"),
        (lambda x: (x - MEAN) / STD, "normalised"),
        (lambda x: x * 1.2, "normalised"),
    ],
)
def test_references_on_another_scale_are_refused(reference, word: str) -> None:  # type: ignore[no-untyped-def]
    x = make_photo(30, 30) / 255
    x[0, 0], x[0, 1] = 0, 1
    with pytest.raises(UsageError, match=word):
        evaluation.psnr(x, reference(x), "sr-rgb", 2)


@given(st.floats(0, 1 / 255), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_an_overshoot_below_a_grey_level_is_no_fault(amount: float, seed: int) -> None:
    x = np.random.default_rng(seed).random((12, 12, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation.psnr(x, x * (1 + 2 * amount) - amount, "sr-rgb", 0)


def test_results_may_overshoot() -> None:
    x = make_photo(24, 24) / 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation.psnr(x * 1.3 - 0.1, x, "sr-rgb", 0)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -5), (-2, 4), (7, 7)])
def test_a_displaced_pair_is_found_and_the_shift_named(down: int, right: int) -> None:
    picture = make_photo(120, 140) / 255
    sharp = picture[20:100, 20:120]
    moved = picture[20 + down : 100 + down, 20 + right : 120 + right]
    shift = find_shift(moved, sharp)
    assert shift is not None
    assert (shift.down, shift.right) == pytest.approx((down, right), abs=0.3)
    assert shift.gain > 5
    (flag,) = check_pair(moved, sharp)
    assert "misaligned" in flag and f"{shift.down:+.1f} down" in flag


def test_blur_and_noise_are_no_displacement() -> None:
    import cv2

    sharp = make_photo(96, 96) / 255
    noisy = sharp + np.random.default_rng(0).normal(0, 0.2, sharp.shape)
    for degraded in (cv2.GaussianBlur(sharp, (0, 0), 2.5), noisy, 0.7 * sharp + 0.1):
        assert check_pair(degraded, sharp) == []


def test_other_faults_of_pairs() -> None:
    a, b = make_photo(64, 64, 1) / 255, make_photo(64, 64, 2) / 255
    assert "wrong pair" in check_pair(a, 1 - b)[0]
    assert "same picture" in check_pair(a, a.copy())[0]
    assert "input is one constant colour" in check_pair(np.full_like(a, 0.4), a)[0]
    assert "reference is one constant colour" in check_pair(a, np.zeros_like(a))[0]


def test_impossible_scores_are_flagged() -> None:
    assert check_score(31.9, 0.89, 28.4, 13.4) == []
    assert "fed in" in check_score(float("inf"), 1.0)[0]
    assert "8-bit" in check_score(64.0, 0.9999)[0]
    assert "contradict" in check_score(48.45, 0.895)[0]
    assert "go together" in check_score(36.0, 0.5)[0]
    assert "leaked" in check_score(50.0, 0.99, 25.0)[0]
    assert "one colour" in check_score(11.0, 0.2, 25.0, 13.0)[0]

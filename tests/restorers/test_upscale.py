"""Restorers: what goes in, what comes out, and how a scale is reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import restora
from restora.errors import Cancelled, UnknownModel, UsageError
from restora.io import Picture
from restora.restorers import plan_scale
from restora.restorers.buffers import allocate, resample


@given(st.floats(1, 32), st.sets(st.sampled_from([2, 3, 4]), min_size=1))
def test_a_plan_reaches_the_scale(wanted: float, scales: set[int]) -> None:
    plan = plan_scale(wanted, sorted(scales))
    assert set(plan.passes) <= scales
    assert np.prod(plan.passes) * plan.factor == pytest.approx(wanted)
    assert plan.factor <= 1  # networks overshoot, resampling shrinks: never the other way round
    assert bool(plan.sentence) == (wanted not in scales)


@pytest.mark.parametrize(
    ("wanted", "passes", "factor"),
    [(4, (4,), 1), (8, (2, 4), 1), (16, (4, 4), 1), (3.5, (4,), 0.875), (6, (2, 3), 1), (1.5, (2,), 0.75)],
)
def test_plans_by_hand(wanted: float, passes: tuple[int, ...], factor: float) -> None:
    plan = plan_scale(wanted, [2, 3, 4])
    assert (plan.passes, plan.factor) == (passes, factor)


@pytest.mark.parametrize("wanted", [0.5, 0, -2, 33, float("nan"), float("inf")])
def test_impossible_scales_are_refused(wanted: float) -> None:
    with pytest.raises(UsageError):
        plan_scale(wanted, [2])


def test_everything_that_is_a_picture_gives_the_same(tmp_path: Path, photo: np.ndarray) -> None:
    restorer = restora.load("fsrcnn_x2")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    expected = restorer(photo).array
    assert expected.shape == (120, 168, 3) and expected.dtype == np.uint8
    tensor = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    for value in (
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        Image.fromarray(photo),
        Picture.from_array(photo),
    ):
        assert np.array_equal(restorer(value).array, expected)
    for value in (tensor, tensor[None]):
        result = restorer(value).tensor
        assert result.shape == (1, 3, 120, 168)
        assert np.abs(result.clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255 - expected).max() <= 0.51


def test_a_batch_gives_a_batch() -> None:
    batch = torch.rand(3, 3, 10, 12)
    result = restora.load("fsrcnn_x2")(batch)
    assert result.tensor.shape == (3, 3, 20, 24) and result.array.shape == (3, 20, 24, 3)
    with pytest.raises(UsageError, match="batch of 3"):
        result.picture  # noqa: B018


@pytest.mark.parametrize("value", [3, None, torch.rand(4, 4), torch.rand(1, 5, 4, 4), [1, 2]])
def test_what_is_no_picture_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"picture|tensor"):
        restora.load("bicubic")(value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_type_and_channels_stay(dtype: type, channels: int) -> None:
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    array = (np.random.default_rng(0).random((14, 17, channels)) * top).astype(dtype)
    for name in ("fsrcnn_x2", "bicubic"):
        result = restora.load(name)(array, scale=2)
        assert result.array.dtype == dtype and result.array.shape == (28, 34, channels)


def test_a_dark_16_bit_picture_keeps_its_levels() -> None:
    array = np.full((12, 12, 3), 37, np.uint16)
    result = restora.load("fsrcnn_x2")(array).array
    assert result.dtype == np.uint16 and abs(int(result[12, 12, 0]) - 37) < 300  # 0.5 % of the range


@pytest.mark.parametrize(
    ("scale", "size"), [(2, (40, 60)), (3.5, (70, 105)), (8, (160, 240)), (1.3, (26, 39)), (1, (20, 30))]
)
@pytest.mark.parametrize("name", ["fsrcnn", "bicubic"])
def test_any_scale_is_made_and_said(name: str, scale: float, size: tuple[int, int]) -> None:
    result = restora.load(name)(np.zeros((20, 30, 3), np.uint8), scale=scale)
    assert result.array.shape[:2] == size and result.report.output_size == size
    told = any("No model enlarges" in note for note in result.report.notes)
    assert told == (name == "fsrcnn" and scale not in (2, 3, 4))


def test_a_named_variant_is_used_alone_and_a_family_completes_itself() -> None:
    assert restora.load("fsrcnn_x4").scales == [4]
    assert restora.load("fsrcnn").scales == [2, 3, 4]
    assert (
        restora.load("realsr").scales == restora.load("realsr.restora").scales == [2, 4]
        and restora.load("realsr").name == "realsr.restora"
    )  # of the family SPAN, as span_x4 is
    assert restora.load("span").scales == [4]
    assert restora.load(task="upscale").scale == 4


def test_transparency_takes_its_own_path_and_leaves_no_dark_fringe() -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)  # black under the transparent half, white in the opaque one
    rgba[:, 16:] = 255
    result = restora.load("fsrcnn_x2")(rgba).picture
    assert result.alpha.shape == (64, 64)
    assert result.alpha[:, :24].max() < 40 and result.alpha[:, 40:].min() > 215
    assert result.pixels[8:-8, 8:-8].min() > 235  # the edge is white, not grey


def test_constant_transparency_stays_constant() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    rgba[..., 3] = 77
    assert (restora.load("fsrcnn_x2")(rgba).picture.alpha == 77).all()


def test_bicubic_is_matlabs() -> None:
    from restora.degradation import resize

    array = np.random.default_rng(0).random((21, 17, 3), dtype=np.float32)
    expected = resize(torch.from_numpy(array).permute(2, 0, 1), 2.5).permute(1, 2, 0).numpy()
    assert np.abs(restora.load("bicubic")(array, scale=2.5).array - expected).max() < 1e-5


def test_strips_equal_the_whole() -> None:
    from restora.degradation import resize

    array = np.random.default_rng(0).random((203, 31, 3), dtype=np.float32)
    for scale in (0.73, 2.01, 0.004):
        expected = resize(torch.from_numpy(array).permute(2, 0, 1), scale).permute(1, 2, 0).numpy()
        assert np.abs(resample(array, scale, np.dtype(np.float32)) - expected).max() < 1e-5


def test_large_results_are_mapped_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from restora.restorers import buffers

    assert type(allocate((10, 10, 3), np.dtype(np.uint8))) is np.ndarray
    monkeypatch.setattr(buffers, "_IN_MEMORY", 100)
    monkeypatch.setenv("RESTORA_SCRATCH", str(tmp_path))
    array = allocate((10, 10, 3), np.dtype(np.uint8))
    assert isinstance(array, np.memmap)
    assert not list(tmp_path.iterdir())  # unlinked already: nothing is left behind by a crash
    picture = np.random.default_rng(0).integers(0, 256, (15, 15, 3), dtype=np.uint8)
    mapped = restora.load("fsrcnn")(picture, scale=3.5).array
    monkeypatch.undo()
    assert np.array_equal(mapped, restora.load("fsrcnn")(picture, scale=3.5).array)


def test_unknown_controls_and_models_are_named() -> None:
    with pytest.raises(UsageError, match=r"sharpness.*scale, ensemble"):
        restora.load("bicubic")(np.zeros((4, 4, 3), np.uint8), sharpness=3)
    with pytest.raises(UsageError, match="scale"):
        restora.load("bicubic")(np.zeros((4, 4, 3), np.uint8), scale=100)
    with pytest.raises(UnknownModel, match="fsrcnn_x4"):
        restora.load("fsrcnn_x5")
    with pytest.raises(UsageError, match="task"):
        restora.load(task="polish")


def test_progress_grows_to_the_total_and_cancel_stops() -> None:
    restorer = restora.load("fsrcnn", tile=8)
    rgba = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)
    seen: list[tuple[int, int]] = []
    restorer(rgba, scale=8, progress=lambda p: seen.append((p.done, p.total)))
    done = [d for d, _ in seen]
    assert done == sorted(done) and seen[-1][0] == seen[-1][1] == 2 * (400 + 1600)
    with pytest.raises(Cancelled):
        restorer(rgba, scale=2, cancelled=lambda: True)


def test_restore_in_one_line(photo: np.ndarray) -> None:
    result = restora.restore(photo, task="upscale", scale=2)
    assert result.array.shape == (120, 168, 3) and result.report.scale == 2

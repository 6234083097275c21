"""The automatic restoration: what is seen, what is decided, and that nothing is done where nothing helps."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import restora
from restora.cli import main
from restora.degradation.edge_width import edge_width
from restora.degradation.flat_noise import FlatNoise, flat_noise, jpeg_sigma, noise_sigma
from restora.errors import UsageError
from restora.io import Picture
from restora.restorers.automatic import Ability, Automatic, KernelSeen, Look, look, plan


def scene(height: int = 192, width: int = 256, seed: int = 0) -> np.ndarray:
    """A clean picture with flat parts, gradients, sharp edges and a textured corner, `H x W x 3` uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([90 + 40 * np.sin(x / 61 + c) + 30 * np.cos(y / 47 - c) for c in range(3)], axis=-1)
    for _ in range(14):
        top, left = rng.integers(0, height - 30), rng.integers(0, width - 30)
        image[top : top + rng.integers(12, 60), left : left + rng.integers(12, 60)] = rng.uniform(30, 225, 3)
    image[-48:, -48:] += rng.normal(0, 25, (48, 48, 1))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def noisy(clean: np.ndarray, sigma: float | np.ndarray, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, clean.shape) * sigma
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def jpeg(clean: np.ndarray, quality: int) -> np.ndarray:
    code = cv2.imencode(".jpg", clean[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(code, 1)[..., ::-1])


# looking


@pytest.mark.parametrize("sigma", [3, 5, 10, 15, 25, 50])
def test_noise_is_told_within_a_tenth(sigma: float) -> None:
    for seed in range(3):
        found = flat_noise(noisy(scene(seed=seed), sigma, seed))
        assert found.sigma == pytest.approx(sigma, rel=0.1) and not found.varies and found.purity > 0.65


def test_noise_of_other_types_and_of_grey_pictures_is_the_same() -> None:
    picture = noisy(scene(), 10)
    level = flat_noise(picture).sigma
    assert flat_noise(picture / np.float32(255)).sigma == pytest.approx(level, rel=1e-3)
    assert flat_noise(picture.astype(np.uint16) * np.uint16(257)).sigma == pytest.approx(level, rel=1e-3)
    assert flat_noise(picture[..., 1]).sigma == pytest.approx(10, rel=0.1)


def test_texture_is_not_noise() -> None:
    clean = flat_noise(scene())
    assert clean.sigma < 0.5
    rng = np.random.default_rng(0)
    wool = cv2.GaussianBlur(rng.normal(0, 1, (192, 192, 3)), (0, 0), 1.0) * 90 + 128  # texture all over
    found = look(np.clip(wool, 0, 255).astype(np.uint8), thorough=False)
    assert found.noise is not None and found.noise.purity < 0.65 and found.sigma == 0


@pytest.mark.parametrize("seed", range(3))
def test_noise_whose_neighbours_are_alike_is_seen_by_its_floor(seed: int) -> None:
    clean = scene(256, 320, seed)
    rng = np.random.default_rng(seed)
    blotches = cv2.GaussianBlur(rng.normal(0, 12, clean.shape), (0, 0), 0.8)  # as a camera's interpolation leaves it
    found = flat_noise(np.clip(np.rint(clean + blotches), 0, 255).astype(np.uint8))
    assert found.correlated and found.sigma < 4 < found.floor < 12 and found.told > found.floor
    white = flat_noise(noisy(clean, 12, seed))
    assert not white.correlated and white.floor == pytest.approx(12, rel=0.15)


def test_a_denoiser_is_told_the_level_that_removes_what_is_there() -> None:
    clean = scene(256, 320)
    assert noise_sigma(noisy(clean, 10)) == pytest.approx(10, rel=0.1)
    smoothed = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 12, clean.shape), (0, 0), 0.8)
    picture = np.clip(np.rint(clean + smoothed), 0, 255).astype(np.uint8)
    assert noise_sigma(picture) == flat_noise(picture).told > 5


def test_a_denoiser_is_told_at_least_what_jpeg_did() -> None:
    clean = scene(256, 320)
    levels = [noise_sigma(jpeg(clean, q)) for q in (30, 75)]
    assert levels == [jpeg_sigma(30), jpeg_sigma(75)] and levels[0] > levels[1] > 4
    assert noise_sigma(jpeg(clean, 92)) < 1 and noise_sigma(clean) < 1


def test_noise_in_wide_blotches_is_seen_at_half_the_size() -> None:
    clean = scene(256, 320)
    wide = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 40, clean.shape), (0, 0), 1.6)
    found = flat_noise(np.clip(np.rint(clean + wide), 0, 255).astype(np.uint8))
    assert found.correlated and found.wide > 4 and found.told > 6
    assert flat_noise(clean).wide == 0 and flat_noise(jpeg(clean, 20)).wide == 0


def test_neither_jpeg_nor_a_picture_of_sand_has_a_floor_of_noise() -> None:
    for quality in (10, 30, 60, 90):
        assert flat_noise(jpeg(scene(256, 320), quality)).told < 4.2
    sand = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 60, (192, 192, 3)), (0, 0), 0.8) + 128
    assert flat_noise(np.clip(sand, 0, 255).astype(np.uint8)).floor == 0


def test_one_channel_in_the_sky_being_clipped_does_not_hide_that_it_is_flat() -> None:
    picture = noisy(scene(), 0)
    picture[:140] = (120, 180, 255)
    assert flat_noise(picture).sigma < 0.5
    assert flat_noise(noisy(picture, 8)).sigma == pytest.approx(8, rel=0.1)


def test_noise_that_differs_across_the_picture_is_mapped() -> None:
    clean = scene(384, 512)
    level = np.linspace(4, 24, 512)[None, :, None]
    found = flat_noise(noisy(clean, level))
    assert found.varies
    low, high = found.spread
    assert low < 9 and high > 17
    across = found.map(384, 512).mean(axis=0)
    assert across.shape == (512,) and np.corrcoef(across, level[0, :, 0])[0, 1] > 0.95
    assert np.abs(across - level[0, :, 0]).mean() < 3


def test_a_small_picture_has_no_noise_level_and_a_tiny_one_an_older_estimate() -> None:
    with pytest.raises(UsageError, match="16x16"):
        flat_noise(np.zeros((15, 40, 3), np.uint8))
    assert noise_sigma(np.zeros((10, 10), np.uint8)) == 0
    found = look(np.zeros((1, 40, 3), np.uint8))
    assert found.noise is None and found.sigma is None and found.width_of_edges is None


def test_the_width_of_edges_grows_with_the_blur() -> None:
    clean = scene()
    widths = [edge_width(clean), *(edge_width(cv2.GaussianBlur(clean, (0, 0), s)) for s in (1.0, 1.5, 2.0))]
    assert all(w is not None for w in widths) and widths == sorted(widths)  # type: ignore[type-var]
    assert widths[0] < 0.6 and widths[2] == pytest.approx(1.5, rel=0.2)  # type: ignore[operator]
    half = clean.copy()
    half[:, 128:] = cv2.GaussianBlur(clean, (0, 0), 4)[:, 128:]  # a blurred background
    assert edge_width(half) < 0.6  # type: ignore[operator]
    assert edge_width(np.full((64, 64, 3), 90, np.uint8)) is None


def test_the_history_of_a_jpeg_is_told_even_from_a_png(tmp_path: Path) -> None:
    clean = scene()
    assert look(jpeg(clean, 30)).quality == pytest.approx(30, abs=1)
    assert look(clean).quality is None
    Image.fromarray(jpeg(clean, 30)).save(tmp_path / "again.jpg", quality=92)
    found = look(tmp_path / "again.jpg")
    assert found.quality == pytest.approx(30, abs=2) and found.file_quality == 92 and found.saved_again
    assert "saved again at 92" in "; ".join(found.findings())


def test_a_look_is_one_picture_and_plain_json() -> None:
    found = restora.look(noisy(scene(), 12))
    assert json.loads(json.dumps(found.to_dict()))["sigma"] == pytest.approx(12, rel=0.1)
    with pytest.raises(UsageError, match="One picture"):
        import torch

        look(torch.zeros(2, 3, 8, 8))


# deciding

NOISE = FlatNoise(12.0, np.full((3, 4), 12.0), False, 0.95)
VARYING = FlatNoise(12.0, np.linspace(4, 24, 12).reshape(3, 4), True, 0.95)
CLEAN = FlatNoise(0.4, np.full((3, 4), 0.4), False, 0.2)
ALL = {
    "denoise": Ability("den", sigma=True, maps=True, high=75),
    "dejpeg": Ability("jpg", quality=True),
    "deblur": Ability("blur"),
    "upscale": Ability("up"),
}
NONE = {"denoise": Ability("block_matching", sigma=True), "upscale": Ability("bicubic")}
SHARP = Look(2000, 1500, CLEAN, None, None, 0.5)


def steps(
    found: Look, installed: dict[str, Ability] = ALL, **more: object
) -> list[tuple[str, str | None, dict[str, object]]]:
    return [(m.task, m.model, dict(m.controls)) for m in plan(found, installed, **more).moves]  # type: ignore[arg-type]


def test_a_clean_picture_is_left_alone() -> None:
    made = plan(SHARP, ALL)
    assert not made.moves and not made.advice and "kept as it was" in made.paragraph()
    assert "few pixels" in plan(dataclasses.replace(SHARP, width=300, height=200), ALL).paragraph()
    assert steps(dataclasses.replace(SHARP, quality=92, file_quality=92)) == []
    assert steps(dataclasses.replace(SHARP, noise=FlatNoise(2.5, np.full((2, 2), 2.5), False, 0.9))) == []
    texture = FlatNoise(9.0, np.full((2, 2), 9.0), False, 0.4)
    assert steps(dataclasses.replace(SHARP, noise=texture)) == []


def test_noise_calls_for_a_denoiser_with_its_level_or_a_map_of_it() -> None:
    assert steps(dataclasses.replace(SHARP, noise=NOISE)) == [("denoise", None, {"sigma": 12.0})]
    ((task, _, controls),) = steps(dataclasses.replace(SHARP, noise=VARYING))
    level = controls["sigma"]
    assert task == "denoise" and isinstance(level, np.ndarray) and level.shape == (1500, 2000)
    assert level.min() >= 0 and 0.25 < level.max() * 75 / 24 < 1.1  # the full range stands for 75
    ((_, _, controls),) = steps(dataclasses.replace(SHARP, noise=VARYING), NONE)
    assert controls["sigma"] == pytest.approx(VARYING.spread[0], abs=0.01)  # the quieter parts decide
    strong = FlatNoise(90.0, np.full((2, 2), 90.0), False, 0.9)
    assert steps(dataclasses.replace(SHARP, noise=strong)) == [("denoise", None, {"sigma": 75})]


def test_jpeg_calls_for_its_network_and_else_for_a_denoiser_without_weights() -> None:
    old = dataclasses.replace(SHARP, quality=30)
    assert steps(old) == [("dejpeg", None, {"quality": 30})]
    ((task, model, controls),) = steps(old, NONE)
    assert (task, model) == ("dejpeg", "dct") and 8 < controls["sigma"] < 14  # type: ignore[operator]
    levels = [steps(dataclasses.replace(SHARP, quality=q), NONE)[0][2]["sigma"] for q in (80, 50, 30, 10)]
    assert levels == sorted(levels)  # type: ignore[type-var]


def test_of_noise_and_jpeg_the_stronger_is_treated() -> None:
    both = dataclasses.replace(SHARP, noise=NOISE)
    assert [s[0] for s in steps(dataclasses.replace(both, quality=80))] == ["denoise"]
    assert [s[0] for s in steps(dataclasses.replace(both, quality=10))] == ["dejpeg"]


def test_noise_that_went_through_a_camera_or_jpeg_is_treated_by_its_floor() -> None:
    grain = FlatNoise(1.5, np.full((2, 2), np.nan), False, 0.3, 6.0)
    ((task, _, controls),) = steps(dataclasses.replace(SHARP, noise=grain))
    assert task == "denoise" and controls == {"sigma": round(grain.told, 2)} and grain.told > 6
    assert "smoothed by a camera" in plan(dataclasses.replace(SHARP, noise=grain), ALL).paragraph()
    assert steps(dataclasses.replace(SHARP, noise=dataclasses.replace(grain, floor=2.0))) == []
    through_jpeg = FlatNoise(17.0, np.linspace(4, 24, 12).reshape(3, 4), True, 1.2, 17.0)
    ((task, _, controls),) = steps(dataclasses.replace(SHARP, noise=through_jpeg, quality=75))
    assert task == "denoise" and controls == {"sigma": round(through_jpeg.told, 2)}  # one level, no map


def test_blur_is_undone_only_with_a_kernel_that_can_be_trusted() -> None:
    kernel = np.full((5, 5), 1 / 25, np.float32)
    blurred = dataclasses.replace(SHARP, width_of_edges=1.8)
    sure = dataclasses.replace(blurred, kernel=KernelSeen(kernel, 0.98, 2.0))
    ((task, _, controls),) = steps(sure)
    assert task == "deconvolve" and controls["robust"] is True and controls["kernel"] is kernel
    assert [s[0] for s in steps(dataclasses.replace(blurred, kernel=KernelSeen(kernel, 0.7, 2.0)))] == ["deblur"]
    unsure = plan(dataclasses.replace(blurred, kernel=KernelSeen(kernel, 0.7, 2.0)), NONE)
    assert not unsure.moves and "restora deblur" in unsure.paragraph()
    assert (
        steps(dataclasses.replace(blurred, kernel=KernelSeen(kernel, 0.99, 12.0)), NONE) == []
    )  # too wide to be a blur
    assert steps(blurred) == []
    unclear = dataclasses.replace(SHARP, width_of_edges=None)
    assert not plan(unclear, ALL).moves and "restora deblur" in plan(unclear, ALL).paragraph()
    assert "restora deblur" not in plan(SHARP, ALL).paragraph()


def test_size_changes_only_when_asked_and_steps_can_be_skipped() -> None:
    small = dataclasses.replace(SHARP, width=300, height=200, noise=NOISE)
    assert [s[0] for s in steps(small, scale=2.0)] == ["denoise", "upscale"]
    assert steps(small, skip=("denoise",)) == []
    with pytest.raises(UsageError, match="sharpen"):
        plan(small, ALL, skip=("sharpen",))


# doing


def test_a_clean_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    result = restora.restore(tmp_path / "a.jpg")
    assert result.report.kept and "kept as it was" in result.report.notes[0]
    assert result.save(tmp_path / "b.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()
    smaller = result.save(tmp_path / "c.jpg", quality=60)
    assert smaller.stat().st_size < (tmp_path / "a.jpg").stat().st_size
    assert np.array_equal(Picture.open(result.save(tmp_path / "d.png")).pixels, result.picture.pixels)


def test_pixels_that_were_changed_since_are_not_replaced_by_the_file(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "a.png")
    picture = Picture.open(tmp_path / "a.png")
    picture.pixels[:20] = 77
    result = restora.restore(picture)
    assert result.report.kept
    assert np.array_equal(Picture.open(result.save(tmp_path / "b.png")).pixels, picture.pixels)


def test_noise_and_jpeg_get_better() -> None:
    clean = scene(144, 176)
    automatic = Automatic()
    for picture, task, share in ((noisy(clean, 15), "denoise", 0.5), (jpeg(clean, 20), "dejpeg", 0.95)):
        result = automatic(picture)
        assert [s["task"] for s in result.report.controls["plan"]["steps"]] == [task]
        before, after = (np.square(x.astype(float) - clean).mean() for x in (picture, result.array))
        assert after < share * before and not result.report.kept
        assert result.report.notes[0].startswith("Found: ") and "Done: " in result.report.notes[0]
        json.dumps(dataclasses.asdict(result.report))


def test_strength_and_skipping_reach_the_steps() -> None:
    picture = noisy(scene(96, 96), 15)
    automatic = restora.load(task="auto")
    full, half = (automatic(picture, strength=s).array.astype(float) for s in (1.0, 0.5))
    mean = (full + picture) / 2
    assert np.abs(half - mean).max() <= 1
    assert automatic(picture, skip="denoise").report.kept
    assert automatic.output_size(96, 96, automatic.check_controls({"scale": 2})) == (192, 192)
    with pytest.raises(UsageError, match="sharpen"):
        automatic(picture, skip="sharpen")
    with pytest.raises(UsageError, match="by itself"):
        restora.load("fsrcnn_x4", task="auto")


def test_odd_pictures_pass(tmp_path: Path) -> None:
    automatic = Automatic()
    for shape in ((1, 1, 3), (1, 60, 3), (9, 9, 1), (20, 20, 4)):
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        assert automatic(array).array.shape[:2] == shape[:2]
    grey = np.full((40, 40), 128, np.uint16)
    assert np.array_equal(automatic(grey).array[..., 0], grey)


# the command


def run(*arguments: str) -> int:
    try:
        main(["restore", *arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    Image.fromarray(scene(96, 128)).save(tmp_path / "in" / "clean.png")
    Image.fromarray(noisy(scene(96, 128), 14)).save(tmp_path / "in" / "noisy.png")
    return tmp_path


def test_the_command_restores_what_needs_it_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(folder / "in"), "-o", str(folder / "out"), "--json") == 0
    done = {
        Path(e["source"]).stem: e for e in map(json.loads, capsys.readouterr().out.splitlines()) if e["event"] == "done"
    }
    assert done["clean"]["kept"] and not done["noisy"]["kept"]
    assert "noise of about 1" in done["noisy"]["notes"][0]
    assert (folder / "out" / "clean_restored.png").read_bytes() == (folder / "in" / "clean.png").read_bytes()
    assert run(str(folder / "in"), "-o", str(folder / "out"), "--json") == 0
    again = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert again.count("skipped") == 2


@pytest.mark.parametrize("flag", ["--look", "--dry-run"])
def test_a_look_writes_nothing(folder: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(folder / "in"), "-o", str(folder / "out"), flag) == 0
    text = capsys.readouterr().out
    assert "would be kept as it is" in text and "To do: noise removed" in text and not (folder / "out").exists()
    assert run(str(folder / "in"), flag, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["plan"]["kept"] for e in events] == [True, False] and events[1]["plan"]["steps"][0]["task"] == "denoise"


def test_flags_of_the_choice_do_not_go_with_steps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(folder / "in"), "--steps", "upscale", "--skip", "denoise") == 2
    assert "--skip" in capsys.readouterr().err
    (folder / "in" / "broken.png").write_bytes(io.BytesIO(b"\x89PNG\r\n\x1a\n").getvalue())
    assert run(str(folder / "in"), "--look") == 1

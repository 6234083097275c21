"""Pairs are what the forward model says, and depend on seed and step only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restora import training
from restora.degradation import Blur, Decimate, DownUp, resize
from restora.errors import RecipeError
from restora.training import pairs
from restora.training.batch import Batch
from restora.training.prefetch import Prefetcher
from tests.conftest import make_photo
from tests.training.conftest import TINY

TASKS: dict[str, dict[str, Any]] = {
    "sr": {"kind": "sr", "scale": [2, 3]},
    "denoise": {"kind": "denoise", "varying": 0.4, "camera": 0.3},
    "dejpeg": {"kind": "dejpeg", "twice": 0.5},
    "deblur": {"kind": "deblur", "size": [5, 11], "sharp": 0.2},
    "frames": {"kind": "frames", "window": [3, 5], "clips": "clips"},
    "nonblind": {"kind": "nonblind", "scale": [1, 2], "kernel": 9},
    "nonblind-valid": {"kind": "nonblind", "scale": [1, 2, 3], "kernel": 9, "boundary": "valid"},
    "real": {"kind": "real", "chain": "realesrgan-x2", "scale": 2, "margin": 4},
    "real-pool": {"kind": "real", "chain": "realesrgan-x2", "scale": 2, "margin": 4, "fresh": 0.5, "memory": 3},
    "resolution": {"kind": "resolution", "factor": [1, 4]},
    "mix": {"kind": "mix", "parts": [{"kind": "deblur", "size": [5, 9]}, {"kind": "frames", "share": 2, "window": [3, 3], "clips": "clips"}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "a").mkdir()
    photo = make_photo(70, 90)
    for n in range(8):
        Image.fromarray(np.roll(photo, 2 * n, axis=1)).save(folder / "a" / f"{n:03d}.png")
    return folder


def sampler(
    task: dict[str, Any],
    photos: Path,
    clip: Path,
    rank: int = 0,
    world: int = 1,
    augment: dict[str, Any] | list[dict[str, Any]] | None = None,
    **data: Any,
) -> training.Pairs:
    recipe = training.parse_recipe(
        {**TINY, "task": task, "augment": augment, "data": {"patch": 16, "batch": 4, "cache": False, **data}}
    )
    return training.Pairs(recipe, {"": photos, "clips": clip}, "rgb", rank=rank, world=world)


def same(a: Batch, b: Batch) -> bool:
    controls = all(torch.equal(torch.as_tensor(v), torch.as_tensor(b.controls[k])) for k, v in a.controls.items())
    return torch.equal(a.input, b.input) and torch.equal(a.target, b.target) and controls


@pytest.mark.parametrize("name", TASKS)
def test_a_pair_depends_on_seed_and_step_only(name: str, photos: Path, clip: Path) -> None:
    first, second = (sampler(TASKS[name], photos, clip) for _ in range(2))
    for step in (3, 4):
        batch = first.batch(step)
        assert same(batch, second.batch(step))
        assert batch.target.shape[-1] == batch.scale * batch.input.shape[-1] and len(batch) == 4
        assert torch.isfinite(batch.input).all() and batch.target.min() >= 0 and batch.target.max() <= 1
    assert not torch.equal(first.batch(3).target, first.batch(5).target)


@pytest.mark.parametrize("name", TASKS)
def test_two_processes_share_one_batch(name: str, photos: Path, clip: Path) -> None:
    whole = sampler(TASKS[name], photos, clip).batch(2)
    parts = [sampler(TASKS[name], photos, clip, rank, 2).batch(2) for rank in (0, 1)]
    assert torch.equal(torch.cat([p.input for p in parts]), whole.input)
    assert torch.equal(torch.cat([p.target for p in parts]), whole.target)


@pytest.mark.parametrize("name", TASKS)
def test_held_out_examples_are_fixed_and_degraded(name: str, photos: Path, clip: Path) -> None:
    maker = sampler(TASKS[name], photos, clip).maker
    folder = clip if name == "frames" else photos
    pictures = maker.held_out(folder, 2, 48)
    for case in maker.cases():
        pair, again = (maker.example(pictures[0].clone(), case, 1) for _ in range(2))
        assert same(pair, again) and pair.target.shape[-1] == case.scale * pair.input.shape[-1]
        shown = resize(pair.input, case.scale) if case.scale > 1 else pair.input
        assert 1e-5 < (shown - pair.target).square().mean() < 0.2


def test_the_crops_of_a_seed_never_change() -> None:
    """Pinned: recipes of shipped weights were trained on these draws."""
    source = training.Photographs.__new__(training.Photographs)
    rng = np.random.default_rng(1)
    source.images = [
        rng.integers(0, 256, (40, 50, 3), dtype=np.uint8),
        rng.integers(0, 256, (60, 30, 3), dtype=np.uint8),
    ]
    source._cumulative = np.cumsum([2000 / 3800, 1800 / 3800])
    crops = source.crops(5, 20, np.random.default_rng((7, 3)))
    assert hashlib.sha256(crops.tobytes()).hexdigest()[:16] == "a2b3a6991e9f94dd"


def test_the_pair_is_what_the_whole_picture_would_give() -> None:
    """A crop's low-resolution patch equals the same place of the reduced photograph: no border of the crop shows."""
    photo = torch.from_numpy(make_photo(96, 96)).permute(2, 0, 1)[None].float() / 255
    for scale in (2, 3, 4):
        maker = pairs.build({"kind": "sr", "scale": scale, "quantise": False})
        whole = resize(photo, 1 / scale)
        side, top = maker.side(8, scale), 2
        batch = maker.pair(photo[..., top * scale : top * scale + side, :side], scale, [0], np.random.default_rng(0))
        there = whole[..., top + 3 : top + 11, 3:11]
        assert batch.input.shape[-1] == 8 and (batch.input - there).abs().max() < 1e-5


def test_noise_has_the_level_that_the_network_is_told() -> None:
    maker = pairs.build({"kind": "denoise", "sigma": [5, 60], "varying": 0.5})
    clean = torch.full((12, 3, 64, 64), 0.5)
    batch = maker.pair(clean, 1, list(range(12)), np.random.default_rng(0))
    told = batch.controls["sigma"]
    assert told.shape == (12, 1, 64, 64) and len({round(float(t.mean()), 2) for t in told}) == 12
    measured = ((batch.input - clean) / (told / 255)).flatten(1).std(1)
    assert measured.sub(1).abs().max() < 0.05
    assert any(t.std() > 1 for t in told) and any(t.std() < 1e-5 for t in told)
    blind = pairs.build({"kind": "denoise", "blind": True}).pair(clean[:1], 1, [1], np.random.default_rng(0))
    assert not blind.controls and blind.extra["level"].shape == (1, 1, 64, 64)


def test_camera_noise_grows_with_the_light() -> None:
    maker = pairs.build(
        {"kind": "denoise", "noise": "camera", "shot": [0.02, 0.02], "read": [0.001, 0.001], "mosaic": False}
    )
    dark, light = (torch.full((1, 3, 64, 64), v) for v in (0.1, 0.8))
    levels = [maker.pair(x, 1, [0], np.random.default_rng(0)).input.std() for x in (dark, light)]
    assert all(level > 0.01 for level in levels) and levels[0] != levels[1]


def test_jpeg_grids_begin_anywhere() -> None:
    """The block edges of a flat ramp show where the coder's grid was."""
    photo = torch.from_numpy(make_photo(64, 64, 3)).permute(2, 0, 1)[None].float() / 255
    maker = pairs.build({"kind": "dejpeg", "quality": 5, "chroma": "444"})
    fixed = pairs.build({"kind": "dejpeg", "quality": 5, "chroma": "444", "shift": False})

    def phase(batch: Batch) -> int:
        steps = (batch.input[..., 1:] - batch.input[..., :-1]).abs().mean((0, 1, 2))
        return int(torch.stack([steps[n::8].mean() for n in range(8)]).argmax())

    phases = {phase(maker.pair(photo, 1, [seed], np.random.default_rng(0))) for seed in range(12)}
    assert len(phases) > 3
    assert {phase(fixed.pair(photo, 1, [seed], np.random.default_rng(0))) for seed in range(4)} == {7}
    assert maker.pair(photo, 1, [0], np.random.default_rng(0)).controls["quality"].tolist() == [5.0]


def test_nonblind_pairs_follow_the_equation() -> None:
    photo = torch.from_numpy(make_photo(48, 48)).permute(2, 0, 1)[None].float() / 255
    for boundary in ("circular", "valid"):
        task = {"kind": "nonblind", "scale": 2, "kernel": 9, "sigma": [0, 0], "boundary": boundary}
        batch = pairs.build(task).pair(photo, 2, [5], np.random.default_rng(0))
        kernel = batch.controls["kernel"]
        assert kernel.shape == (1, 1, 9, 9) and kernel.sum() == pytest.approx(1, abs=1e-5)
        expected = Decimate(2)(Blur(kernel[0, 0], boundary)(photo))
        assert (batch.input - expected).abs().max() < 1e-5 and batch.target.shape[-1] == 2 * batch.input.shape[-1]
        if boundary == "valid":
            assert torch.equal(batch.target, photo[..., 4:-4, 4:-4])


def test_pairs_that_are_kept_are_the_same_after_a_restart(photos: Path, clip: Path) -> None:
    running, restarted = (sampler(TASKS["real-pool"], photos, clip) for _ in range(2))
    batches = [running.batch(step) for step in range(6)]
    assert same(restarted.batch(5), batches[5])
    kept = running.maker._made  # type: ignore[attr-defined]
    assert sorted(kept) == [3, 4, 5] and all(len(b) == 2 and b.input.shape[-1] == 24 for b in kept.values())
    # every patch is the same place of a kept input and its target, in one of eight turns
    for low, high in zip(batches[5].input, batches[5].target, strict=True):
        places = set()
        for turn in range(8):
            small, large = (torch.rot90(p.flip(-1) if turn >= 4 else p, -(turn % 4), (-2, -1)) for p in (low, high))
            for number, pair in enumerate(p for b in kept.values() for p in zip(b.input, b.target, strict=True)):
                for top, left in np.ndindex(9, 9):
                    if torch.equal(pair[0][:, top : top + 16, left : left + 16], small):
                        part = pair[1][:, 2 * top : 2 * top + 32, 2 * left : 2 * left + 32]
                        places.add((number, top, left, torch.equal(part, large)))
        assert len(places) == 1 and next(iter(places))[3]


def test_resolution_pairs_tell_their_factor() -> None:
    photo = torch.from_numpy(make_photo(48, 48)).permute(2, 0, 1)[None].float() / 255
    maker = pairs.build({"kind": "resolution", "factor": [3, 3], "up": ["nearest"]})
    batch = maker.pair(photo, 1, [0], np.random.default_rng(0))
    assert batch.controls == {"factor": 3.0}
    assert (batch.input - DownUp(3, "bicubic", "nearest")(photo).clamp(0, 1)).abs().max() < 0.5 / 255 + 1e-6


def test_blurred_frames_are_means_of_windows(clip: Path, photos: Path) -> None:
    source = training.Clips(clip, 5)
    window = source.window(5, 30, np.random.default_rng(3))
    assert window.shape == (5, 30, 30, 3)
    batch = sampler({"kind": "frames", "window": [5, 5], "clips": "clips"}, photos, clip, patch=30, batch=1).batch(0)
    assert (batch.input - batch.target).abs().mean() > 0.005
    with pytest.raises(RecipeError, match="--data other=FOLDER"):
        sampler({"kind": "frames", "clips": "other"}, photos, clip)
    with pytest.raises(RecipeError, match="No clip of at least 20"):
        training.Clips(clip, 20)


def test_pairs_that_somebody_made(tmp_path: Path) -> None:
    for part in ("input", "target"):
        (tmp_path / part).mkdir()
    for n in range(3):
        photo = make_photo(48, 64, n)
        Image.fromarray(photo).save(tmp_path / "target" / f"{n}.png")
        Image.fromarray(photo[::2, ::2]).save(tmp_path / "input" / f"{n}.png")
    recipe = training.parse_recipe({**TINY, "task": {"kind": "folder", "scale": 2, "what": "super-resolution"}})
    sampled = training.Pairs(recipe, tmp_path)
    batch = sampled.batch(0)
    # whatever the turn, one of the four phases of the target is the input
    phases = [batch.target[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    assert all(any(torch.equal(p[n], batch.input[n]) for p in phases) for n in range(4))
    maker = sampled.maker
    for seed, clean in enumerate(maker.held_out(tmp_path, 2, 32)):
        pair = maker.example(clean, maker.cases()[0], seed)
        assert torch.equal(pair.target[..., ::2, ::2], pair.input)
    (tmp_path / "input" / "1.png").unlink()
    with pytest.raises(RecipeError, match="no partner"):
        training.Pairs(recipe, tmp_path)
    with pytest.raises(RecipeError, match="no folder"):
        training.Pairs(recipe, tmp_path / "absent")


def test_photographs_are_decoded_once_and_found_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from restora import io

    plain = training.Photographs(photos, (1.0, 0.8))
    assert len(plain.images) == 6 and plain.files == 4
    first = training.Photographs(photos, (1.0, 0.8), cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(io.Picture, "open", lambda *_: pytest.fail("decoded again"))
        again = training.Photographs(photos, (1.0, 0.8), cache=tmp_path)
    for other in (first, again):
        assert other.checksum == plain.checksum
        assert all(np.array_equal(a, b) for a, b in zip(plain.images, other.images, strict=True))
    assert not again.images[0].flags.writeable
    pixels = next(tmp_path.glob("*.rgb"))
    pixels.write_bytes(pixels.read_bytes()[:-10])
    mended = training.Photographs(photos, (1.0, 0.8), cache=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(plain.images, mended.images, strict=True))


def test_smaller_photographs_are_left_out(photos: Path) -> None:
    assert len(training.Photographs(photos, (1.0, 0.5), smallest=70).images) == 3
    with pytest.raises(RecipeError, match="at least 500"):
        training.Photographs(photos, smallest=500)


def test_growing_patches(photos: Path, clip: Path) -> None:
    growth = [{"step": 2, "patch": 20, "batch": 2}, {"step": 4, "patch": 24, "batch": 1}]
    sampled = sampler({"kind": "sr", "scale": 2}, photos, clip, growth=growth)
    assert [tuple(sampled.batch(s).input.shape[::3]) for s in (1, 2, 3, 4)] == [(4, 16), (2, 20), (2, 20), (1, 24)]


@pytest.mark.parametrize(
    ("task", "told"),
    [("denoise", "sigma"), ("dejpeg", "quality"), ("nonblind", "kernel and sigma")],
)
@pytest.mark.parametrize("augment", ["mixup", "cutmix", "cutmixup", "blend", "moa"])
def test_pictures_are_not_mixed_where_each_has_a_level_of_its_own(
    task: str, told: str, augment: str, photos: Path, clip: Path
) -> None:
    augmented = sampler(TASKS[task], photos, clip, augment={"kind": augment, "p": 1e-9})  # whatever is drawn
    with pytest.raises(RecipeError, match=f"mixes pictures, but the network is told the {told} of each"):
        augmented.batch(0)


def test_pictures_are_mixed_where_the_network_is_told_nothing_of_each(photos: Path, clip: Path) -> None:
    mixing = {"kind": "mixup", "p": 1.0}
    for task in ({"kind": "denoise", "blind": True}, {"kind": "sr", "scale": 2}, TASKS["resolution"]):
        plain, mixed = (sampler(task, photos, clip, augment=how).batch(0) for how in (None, mixing))
        assert not torch.equal(plain.target, mixed.target)
    kept = {"kind": "moa", "ratios": {"rgb_permutation": 1, "cutout": 1, "mixup": 0}}
    told = sampler(TASKS["denoise"], photos, clip, augment=kept).batch(0)
    assert told.controls["sigma"].shape[0] == 4


def test_a_recipe_names_several_augmentations(photos: Path, clip: Path) -> None:
    flat = [{"kind": "rgb_permutation"}, {"kind": "blend", "alpha": 0.0, "p": 1.0}]
    plain, both = (sampler({"kind": "sr", "scale": 2}, photos, clip, augment=how).batch(0) for how in (None, flat))
    for before, after in zip(plain.target, both.target, strict=True):
        assert after.amax() <= 1 and after.std(dim=(1, 2)).sum() < before.std(dim=(1, 2)).sum()


def test_batches_in_parts() -> None:
    batch = Batch(
        torch.rand(5, 3, 4, 4),
        torch.rand(5, 3, 8, 8),
        2,
        {"sigma": torch.arange(5.0), "factor": 2.0},
        torch.ones(5, 1, 8, 8),
    )
    parts = batch.chunk(2)
    assert [len(p) for p in parts] == [2, 3] and parts[1].controls["sigma"].tolist() == [2, 3, 4]
    assert all(p.controls["factor"] == 2.0 and p.scale == 2 for p in parts)
    assert torch.equal(torch.cat([p.target for p in parts]), batch.target)


@pytest.mark.parametrize("ahead", [0, 3])
def test_batches_made_ahead_come_in_order_and_so_do_their_errors(ahead: int) -> None:
    def make(step: int) -> Batch:
        if step == 4:
            raise RecipeError("no more")
        return Batch(torch.full((1, 1, 1, 1), float(step)), torch.zeros(1))

    feed = Prefetcher(make, 1, 9, ahead)
    assert [float(feed.batch(s).input) for s in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(RecipeError, match="no more"):
        feed.batch(4)
    feed.close()
    threads = torch.get_num_threads()
    other = Prefetcher(make, 1, 4, ahead)
    other.batch(1)
    other.close()
    assert torch.get_num_threads() == threads


def test_a_pair_is_cut_to_a_networks_multiple() -> None:
    batch = Batch(
        torch.rand(1, 3, 13, 21),
        torch.rand(1, 3, 26, 42),
        2,
        {"sigma": torch.rand(1, 1, 13, 21), "kernel": torch.rand(1, 1, 5, 5)},
    )
    cut = batch.cut(8)
    assert cut.input.shape[-2:] == (8, 16) and cut.target.shape[-2:] == (16, 32)
    assert cut.controls["sigma"].shape[-2:] == (8, 16) and cut.controls["kernel"].shape[-2:] == (5, 5)
    assert torch.equal(cut.target, batch.target[..., :16, :32]) and batch.cut(1) is batch

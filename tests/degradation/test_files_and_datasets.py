"""Files degraded by the command, and the tools around data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from restora import degradation as d
from restora.cli import main, make_app
from restora.degradation import datasets
from restora.errors import UsageError
from restora.io import Picture
from tests.conftest import make_photo


def run(*arguments: object) -> str:
    result = CliRunner().invoke(make_app(), ["degrade", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def exit_code(*arguments: object) -> int:
    try:
        main(["degrade", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "a.bmp", "sub/a.png", "sub/b.png")):
        Picture.from_array(make_photo(50 + i, 61, i)).save(folder / name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_one_process_four_and_a_replay_give_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    run(photos, "-o", tmp_path / "one", "--recipe", "realesrgan-x4", "--seed", 7)
    run(photos, "-o", tmp_path / "four", "--recipe", "realesrgan-x4", "--seed", 7, "--workers", 4)
    one = contents(tmp_path / "one")
    assert {"degraded/a.png", "degraded/a_2.png", "degraded/sub/b.png", "clean/sub/a.png", "manifest.json"} <= set(one)
    assert contents(tmp_path / "four") == one
    run(photos, "-o", tmp_path / "again", "--replay", tmp_path / "one" / "manifest.json")
    assert contents(tmp_path / "again") == one
    run(photos / "sub", "-o", tmp_path / "other", "--recipe", "realesrgan-x4", "--seed", 8)
    assert contents(tmp_path / "other")["degraded/b.png"] != one["degraded/sub/b.png"]
    pair = json.loads(one["manifest.json"])["pairs"][0]
    assert Picture.open(tmp_path / "one" / "clean" / f"{pair['names'][0]}.png").pixels.shape == (48, 60, 3)
    for kernel in pair["kernels"]:
        assert np.load(tmp_path / "one" / kernel).sum() == pytest.approx(1, abs=1e-4)


def test_a_pictures_result_does_not_depend_on_the_others(photos: Path, tmp_path: Path) -> None:
    run(photos, "-o", tmp_path / "all", "--recipe", "noise-25")
    (photos / "a.png").unlink()
    (photos / "sub" / "a.png").unlink()
    run(photos, "-o", tmp_path / "some", "--recipe", "noise-25")
    assert contents(tmp_path / "some")["degraded/sub/b.png"] == contents(tmp_path / "all")["degraded/sub/b.png"]


def test_recipe_files_crops_variants_and_splits(photos: Path, tmp_path: Path) -> None:
    chain = d.GaussianBlur(d.Uniform(0.2, 2)) >> d.Downsample(2) >> d.Quantise()
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(chain.to_dict()))
    run(
        photos,
        "-o",
        tmp_path / "out",
        "--recipe",
        recipe,
        "--crop-size",
        32,
        "--crop-step",
        16,
        "--variants",
        2,
        "--split",
        "50/50",
    )
    made = contents(tmp_path / "out")
    assert "degraded/sub/b_s001_v02.png" in made
    assert Picture.open(tmp_path / "out/degraded/a_s001_v01.png").pixels.shape == (16, 16, 3)
    split = datasets.Split.load(tmp_path / "out/split.json")
    names = [n for part in split.parts.values() for n in part]
    assert len(names) == len({n for n in made if n.startswith("clean/")})
    stems = {part: {n.split("_s0")[0] for n in members} for part, members in split.parts.items()}
    assert not stems["train"] & stems["test"], "sub-images of one picture stay together"
    yaml = tmp_path / "r.yaml"
    yaml.write_text("- {kind: GaussianBlur, sigma: {kind: Uniform, low: 0.2, high: 2}}\n- {kind: Jpeg, quality: 40}\n")
    run(photos / "a.png", "-o", tmp_path / "y", "--recipe", yaml)


def test_regions_and_depth(tmp_path: Path) -> None:
    Picture.from_array((make_photo(64, 64).astype(np.uint16) * 257)[..., 0]).save(tmp_path / "deep.png")
    run(tmp_path / "deep.png", "-o", tmp_path / "out", "--recipe", "flickr-basic", "--centre-crop", 40)
    degraded = Picture.open(tmp_path / "out/degraded/deep.png")
    assert degraded.pixels.shape == (40, 40, 1) and degraded.bit_depth == 16
    regions = json.loads((tmp_path / "out/manifest.json").read_text())["pairs"][0]["regions"]
    assert regions and set(regions[0]) == {"type", "box", "form"}


def test_clips(tmp_path: Path) -> None:
    for i in range(9):
        path = tmp_path / "in" / "clip" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.from_array(np.roll(make_photo(32, 40), i, 1)).save(path)
    recipe = tmp_path / "r.json"
    recipe.write_text(json.dumps((d.FrameAverage(3) >> d.Scratches(3)).to_dict()))
    run(tmp_path / "in", "-o", tmp_path / "out", "--recipe", recipe, "--clips")
    made = contents(tmp_path / "out")
    assert [n for n in made if n.startswith("degraded")] == [f"degraded/clip/{i:02d}.png" for i in (1, 4, 7)]
    sharp = Picture.open(tmp_path / "in/clip/04.png").pixels
    assert np.array_equal(Picture.open(tmp_path / "out/clean/clip/04.png").pixels, sharp)
    run(tmp_path / "in", "-o", tmp_path / "again", "--replay", tmp_path / "out/manifest.json")
    assert contents(tmp_path / "again") == made
    assert exit_code(tmp_path / "in", "-o", tmp_path / "no", "--recipe", recipe) == 2


def test_what_goes_wrong_is_said(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    assert exit_code(photos, "-o", tmp_path / "out", "--recipe", "bicubic-x2") == 1
    assert "bad.png" in capsys.readouterr().err
    assert (tmp_path / "out/degraded/a.png").exists(), "the rest is done"
    (photos / "bad.png").unlink()
    assert exit_code(photos, "-o", tmp_path / "out", "--recipe", "bicubic-x2") == 2
    assert "--overwrite" in capsys.readouterr().err
    for arguments in (
        (photos, "-o", tmp_path / "x"),
        ("-o", tmp_path / "x", "--recipe", "bicubic-x2"),
        (photos, "-o", tmp_path / "x", "--recipe", "nonsense"),
        (photos, "-o", tmp_path / "x", "--recipe", tmp_path / "none.yaml"),
        (photos, "-o", tmp_path / "x", "--recipe", "bicubic-x2", "--split", "a/b"),
        (photos, "-o", tmp_path / "x", "--replay", tmp_path / "none.json"),
        (photos / "sub", "-o", tmp_path / "x", "--replay", tmp_path / "out/manifest.json"),
    ):
        assert exit_code(*arguments) == 2, arguments
    Picture.from_array(make_photo(50, 61, 99)).save(photos / "a.png")
    assert exit_code(photos, "-o", tmp_path / "x", "--replay", tmp_path / "out/manifest.json") == 1
    assert "is not the file" in capsys.readouterr().err


def test_leaks(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = tmp_path / "test"
    test.mkdir()
    original = Picture.open(photos / "sub/b.png").pixels
    small = d.resize_uint8(torch.from_numpy(np.ascontiguousarray(original[:, ::-1])).permute(2, 0, 1), 0.7)
    Picture.from_array(np.ascontiguousarray(small.permute(1, 2, 0).numpy())).save(test / "copy.jpg", quality=60)
    Picture.from_array(make_photo(70, 50, 50)).save(test / "other.png")
    found = datasets.leaks(sorted(photos.rglob("*.png")), sorted(test.iterdir()))
    assert [(f.first.name, f.second.name, f.mirrored) for f in found] == [("b.png", "copy.jpg", True)]
    assert exit_code(photos, "-o", tmp_path / "x", "--recipe", "bicubic-x2", "--check-against", test) == 2
    assert "copy.jpg" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_windows() -> None:
    assert datasets.windows((480, 500), 480, 240) == [(0, 0), (0, 20)]
    assert datasets.windows((480, 500), 480, 240, least=30) == [(0, 0)]
    assert datasets.windows((100, 500), 480, 240) == []
    for n in range(32, 90):
        starts = [top for top, _ in datasets.windows((n, 32), 32, 12)]
        assert starts[0] == 0 and starts[-1] == n - 32


def test_splits(tmp_path: Path) -> None:
    names = [f"{scene:03d}/{frame}" for scene in range(30) for frame in range(4)]
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    one = datasets.split(names, shares, 1, lambda n: n[:3])
    assert datasets.split(names[::-1], shares, 1, lambda n: n[:3]) == one
    assert datasets.split(names, shares, 2, lambda n: n[:3]) != one
    assert [len(p) for p in one.parts.values()] == [96, 12, 12]
    scenes = [{n[:3] for n in part} for part in one.parts.values()]
    assert not scenes[0] & scenes[1] and not scenes[0] & scenes[2] and not scenes[1] & scenes[2]
    assert [len(p) for p in datasets.split([str(i) for i in range(350)], shares, 0).parts.values()] == [280, 35, 35]
    one.save(tmp_path / "split.json")
    assert datasets.Split.load(tmp_path / "split.json") == one
    (tmp_path / "bad.json").write_text('{"parts": {"train": ["a"], "test": ["a"]}}')
    with pytest.raises(UsageError, match="both in"):
        datasets.Split.load(tmp_path / "bad.json")
    with pytest.raises(UsageError, match="sum to 1"):
        datasets.split(names, {"train": 0.5}, 0)


LAYOUTS = {
    "div2k": ({}, "DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png"),
    "div2k ": (
        {"part": "valid", "scale": 2, "track": "unknown"},
        "DIV2K_valid_HR/0801.png",
        "DIV2K_valid_LR_unknown/X2/0801x2.png",
    ),
    "flickr2k": ({}, "Flickr2K/Flickr2K_HR/000001.png", "Flickr2K/Flickr2K_LR_bicubic/X4/000001x4.png"),
    "benchmark": ({"scale": 3}, "HRx3/baby.png", "LRx3/baby.png"),
    "benchmark ": ({}, "HR/baby.png", "LR_bicubic/X4/babyx4.png"),
    "benchmark  ": ({}, "GTmod12/baby.png", "LRbicx4/baby.png"),
    "selfexsr": ({}, "image_SRF_4/img_001_SRF_4_HR.png", "image_SRF_4/img_001_SRF_4_LR.png"),
    "gopro": (
        {"part": "train", "blur": "blur_gamma"},
        "train/GOPR0372_07_00/sharp/000047.png",
        "train/GOPR0372_07_00/blur_gamma/000047.png",
    ),
    "gopro ": ({}, "GOPR0372_07_00/sharp/000047.png", "GOPR0372_07_00/blur/000047.png"),
    "hide": ({}, "GT/12fromIMG_1.png", "train/12fromIMG_1.png"),
    "hide ": ({"part": "test"}, "GT/1.png", "test/test-long-shot/1.png"),
    "realblur": ({}, "RealBlur-J/scene001/gt/gt_3.png", "RealBlur-J/scene001/blur/blur_3.png"),
    "sidd": ({}, "Data/0001_001_S6/GT_SRGB_010.PNG", "Data/0001_001_S6/NOISY_SRGB_010.PNG"),
    "sidd ": ({}, "0001_001_S6/0001_GT_SRGB_010.PNG", "0001_001_S6/0001_NOISY_SRGB_010.PNG"),
    "reds": ({}, "train_sharp/000/00000007.png", "train_sharp_bicubic/X4/000/00000007.png"),
    "reds ": ({"part": "val", "task": "blur"}, "val_sharp/001/00000007.png", "val_blur/001/00000007.png"),
    "vimeo90k": ({}, "sequences/00001/0266/im4.png", "sequences_LRx4/00001/0266/im4.png"),
    "vid4": ({"task": "BDx4"}, "GT/calendar/001.png", "BDx4/calendar/001.png"),
    "faces": ({}, "00000/00012.jpg", None),
    "suffix": ({}, "a_gt.png", "a.png"),
    "suffix ": ({"clean": "_mean", "degraded": "_real"}, "a_mean.JPG", "a_real.JPG"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts(case: str, tmp_path: Path) -> None:
    options, clean, degraded = LAYOUTS[case]
    for name in filter(None, (clean, degraded)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = datasets.read_pairs(tmp_path, case.strip(), **options)
    assert [(p.clean, p.degraded) for p in found] == [(tmp_path / clean, tmp_path / degraded if degraded else None)]
    assert not found.missing
    if degraded:
        (tmp_path / degraded).unlink()
        found = datasets.read_pairs(tmp_path, case.strip(), **options)
        assert not found.pairs and found.missing == [tmp_path / clean]


def test_df2k_is_both(tmp_path: Path) -> None:
    for case in ("div2k", "flickr2k"):
        for name in LAYOUTS[case][1:]:
            (tmp_path / str(name)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / str(name)).touch()
    assert [p.name.split("/")[0] for p in datasets.read_pairs(tmp_path, "df2k")] == ["div2k", "flickr2k"]


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for layout, options in (("div2k", {}), ("div2kk", {}), ("gopro", {"scale": 4})):
        with pytest.raises(UsageError):
            datasets.read_pairs(tmp_path, layout, **options)
    with pytest.raises(UsageError, match="no folder"):
        datasets.read_pairs(tmp_path / "none", "faces")


def test_the_kaggle_blur_set(tmp_path: Path) -> None:
    def put(name: str, pixels: np.ndarray) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Picture.from_array(pixels).save(tmp_path / name)

    def blurred(pixels: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
        return (d.MotionBlur(9.0)(x)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    scenes = {i: make_photo(60, 80, i) for i in range(8)}
    for i, pixels in scenes.items():
        put(f"sharp/{i}_PHONE_S.png", pixels)
    put("motion_blurred/0_PHONE_M.png", blurred(scenes[0]))
    put("motion_blurred/1_OTHER_M.png", blurred(scenes[1]))  # another device
    put("motion_blurred/2_PHONE_M.png", 255 - blurred(scenes[2]))  # another scene
    put("motion_blurred/3_PHONE_M.png", blurred(scenes[3])[:50])  # another size
    put("motion_blurred/4_PHONE_M.png", scenes[4])  # not blurred
    put("sharp/5_PHONE_S.png", blurred(scenes[5]))
    put("motion_blurred/5_PHONE_M.png", scenes[5])  # exchanged
    put("motion_blurred/6_PHONE_M.png", blurred(scenes[6]))
    put("motion_blurred/9_PHONE_M.png", blurred(scenes[6]))  # no sharp one
    put("motion_blurred/noname.png", scenes[0])
    found = datasets.read_pairs(tmp_path, "kaggle-blur")
    assert [p.name for p in found] == ["0", "1", "2", "3", "4", "5", "6"]
    assert sorted(p.name for p in found.missing) == ["7_PHONE_S.png", "9_PHONE_M.png"]
    assert set(found.suspicious) == {"1", "2", "3", "4", "5", "motion_blurred/noname.png"}
    assert "identical" in found.suspicious["4"][0] and "sharper" in found.suspicious["5"][0]
    assert [p.name for p in datasets.kaggle_blur(tmp_path, exclude=[0, 1, 2, 3], look=False)] == ["4", "5", "6"]

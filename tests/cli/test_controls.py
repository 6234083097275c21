"""Controls of models at the command line: --set, --quality auto, --mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restora import networks
from tests.cli.test_commands import restora
from tests.conftest import make_photo


def checkpoint(folder: Path, variant: str, **sizes: object) -> Path:
    """Random weights of a small form of a network, in a file."""
    torch.manual_seed(0)
    path = folder / f"{variant}.pth"
    torch.save(networks.create(variant, **sizes).state_dict(), path)
    return path


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    Image.fromarray(make_photo(24, 32)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def events(done: object) -> dict[str, dict]:
    return {e["event"]: e for e in map(json.loads, done.stdout.splitlines())}  # type: ignore[attr-defined]


def test_an_upscaler_takes_what_its_network_knows(tmp_path: Path, photo_file: Path) -> None:
    model = checkpoint(tmp_path, "srooe_generator", channels=8, blocks=1, growth=8)
    Image.fromarray(np.full((24, 32), 64, np.uint8)).save(tmp_path / "t.png")
    results = {}
    for name, value in (("low", "0"), ("high", "1"), ("map", str(tmp_path / "t.png"))):
        done = restora("upscale", photo_file, "-n", model, "--set", f"t={value}", "-o", tmp_path / name, "--json")
        assert done.returncode == 0, done.stderr
        assert str(events(done)["done"]["controls"]["t"]) in (value, f"{value}.0")
        results[name] = np.asarray(Image.open(tmp_path / name / "photo_x4.png"))
    assert results["low"].shape == (96, 128, 3)
    assert not np.array_equal(results["low"], results["high"]) and not np.array_equal(results["map"], results["high"])
    for wrong in ("t=2", "u=1", "t", "scale=99"):
        done = restora("upscale", photo_file, "-n", model, "--set", wrong, "-o", tmp_path / "none")
        assert done.returncode == 2 and done.stderr.strip() and not (tmp_path / "none").exists()


def test_the_quality_of_a_jpeg_is_found(tmp_path: Path) -> None:
    sizes = {"dim": 12, "depths": (1,), "heads": (2,)}
    model = checkpoint(tmp_path, "swinir_jpeg_color", **sizes)
    Image.fromarray(make_photo(40, 40)).save(tmp_path / "a.jpg", quality=20)
    Image.fromarray(make_photo(40, 40)).save(tmp_path / "b.png")
    done = restora(
        "dejpeg", tmp_path / "a.jpg", tmp_path / "b.png", "-n", model, "--quality", "auto", "-o", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "JPEG quality 20, by the quantisation tables" in done.stdout and "cannot be told" in done.stdout
    assert restora("dejpeg", tmp_path / "a.jpg", "-n", model, "--quality", 40, "-o", tmp_path / "other").returncode == 0
    for wrong in ("0", "101", "good"):
        done = restora("dejpeg", tmp_path / "a.jpg", "-n", model, "--quality", wrong, "-o", tmp_path / "none")
        assert done.returncode == 2 and "quality" in done.stderr and not (tmp_path / "none").exists()


def test_regions_come_from_a_file(tmp_path: Path, photo_file: Path) -> None:
    model = checkpoint(tmp_path, "sam_deblur", width=8, enc_blk_nums=(1, 1), middle_blk_num=1, dec_blk_nums=(1, 1))
    regions = np.zeros((24, 32), np.uint8)
    regions[:12], regions[12:, :16] = 1, 2
    Image.fromarray(regions).save(tmp_path / "m.png")
    np.save(tmp_path / "m.npy", np.stack([regions == 1, regions == 2]))
    results = {}
    for name, flags in (("none", []), ("png", ["--mask", tmp_path / "m.png"]), ("npy", ["--mask", tmp_path / "m.npy"])):
        done = restora("deblur", photo_file, "-n", model, *flags, "-o", tmp_path / name, "--ext", "tif")
        assert done.returncode == 0, done.stderr
        results[name] = np.asarray(Image.open(tmp_path / name / "photo_deblur.tif")).astype(int)
    assert np.array_equal(results["png"], results["npy"])
    assert not np.array_equal(results["png"], results["none"])
    plain = checkpoint(
        tmp_path, "nafnet_gopro_width32", width=8, enc_blk_nums=(1,), middle_blk_num=1, dec_blk_nums=(1,)
    )
    done = restora("deblur", photo_file, "-n", plain, "--mask", tmp_path / "m.png", "-o", tmp_path / "wrong")
    assert done.returncode == 2 and "'mask'" in done.stderr


def test_steps_of_a_chain_take_numbers_as_text(tmp_path: Path, photo_file: Path) -> None:
    model = checkpoint(tmp_path, "ffdnet_gray", features=8, depth=3)
    steps = f"denoise={model},upscale=bicubic"
    done = restora(
        "restore", photo_file, "--steps", steps, "--set", "denoise.sigma=15", "--set", "upscale.scale=2", "-o", tmp_path / "out", "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert events(done)["done"]["controls"]["denoise.sigma"] == 15 and events(done)["done"]["output_size"] == [48, 64]
    done = restora("restore", photo_file, "--steps", steps, "--set", "denoise.sigma=900", "-o", tmp_path / "none")
    assert done.returncode == 2 and "denoise.sigma" in done.stderr


@pytest.mark.parametrize("command", ["upscale", "denoise", "deblur", "dejpeg", "restore"])
def test_help_says_where_controls_are_listed(command: str) -> None:
    text = " ".join(restora(command, "--help").stdout.split())
    assert "--set" in text and "restora models show MODEL" in text

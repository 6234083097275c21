"""`restora deconvolve` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restora.degradation import kernels
from restora.io import Picture
from tests.cli.test_commands import restora
from tests.conftest import make_photo
from tests.restorers.test_deconvolve import blurred, decibels, inner

KERNEL = kernels.motion(9, 30)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(blurred(make_photo(90, 100), KERNEL, 1.0)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_help_shows_how() -> None:
    done = restora("deconvolve", "--help")
    assert done.returncode == 0 and "Example" in done.stdout and "motion:" in done.stdout
    listed = restora("deconvolve", "--list-methods")
    assert listed.returncode == 0 and {"auto", "wiener", "our-nonblind"} <= {
        li.split()[0] for li in listed.stdout.splitlines()
    }


def test_a_picture_is_deconvolved_and_not_twice(photo: Path, tmp_path: Path) -> None:
    arguments = [
        "deconvolve",
        photo,
        "-o",
        tmp_path / "out",
        "--kernel",
        "motion:9:30",
        "--method",
        "wiener",
        "--sigma",
        1,
    ]
    done = restora(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Kernel: motion:9:30" in done.stdout
    sharp = inner(make_photo(90, 100), KERNEL)
    result = Picture.open(tmp_path / "out" / "photo_deconvolve.png").pixels
    assert decibels(result, sharp) > decibels(Picture.open(photo).pixels, sharp) + 2
    assert "skipped" in restora(*arguments).stdout
    assert "skipped" not in restora(*arguments[:-1], 3).stdout


def test_another_kernel_in_the_same_file_is_another_job(photo: Path, tmp_path: Path) -> None:
    arguments = ["deconvolve", photo, "-o", tmp_path / "out", "-k", tmp_path / "k.npy", "--method", "wiener"]
    np.save(tmp_path / "k.npy", KERNEL.numpy())
    assert restora(*arguments).returncode == 0
    assert "skipped" in restora(*arguments).stdout
    np.save(tmp_path / "k.npy", kernels.gaussian(1.5).numpy())
    assert "skipped" not in restora(*arguments).stdout


def test_json_names_kernel_noise_and_method(photo: Path, tmp_path: Path) -> None:
    done = restora("deconvolve", photo, "-o", tmp_path / "out", "-k", "motion:9:30", "--method", "rl", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (last,) = (e for e in events if e["event"] == "done")
    assert last["controls"]["method"] == "richardson-lucy" and "motion:9:30" in last["controls"]["kernel"]
    assert last["controls"]["sigma"] > 0 and any(e["event"] == "progress" for e in events)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--kernel"),
        (["-k", "absent.npy"], "absent.npy"),
        (["-k", "disk:3", "--method", "magic"], "magic"),
        (["-k", "disk:3", "--sigma", "loud"], "sigma"),
        (["-k", "disk:3", "--set", "iterations"], "name=value"),
        (["-k", "disk:3", "--set", "nonsense=3"], "nonsense"),
        (["-k", "disk:3", "--method", "wiener", "--robust"], "robust"),
        (["-k", "disk:3", "-n", "fsrcnn_x2"], "takes no kernel"),
    ],
)
def test_wrong_usage(photo: Path, tmp_path: Path, arguments: list[str], named: str) -> None:
    done = restora("deconvolve", photo, "-o", tmp_path / "out", *arguments)
    assert done.returncode == 2 and named in done.stderr, done
    assert not (tmp_path / "out").exists()


def test_a_bad_file_does_not_stop_the_others(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    done = restora(
        "deconvolve", tmp_path / "bad.png", photo, "-o", tmp_path / "out", "-k", "disk:2", "--method", "wiener"
    )
    assert done.returncode == 1 and "bad.png" in done.stderr and (tmp_path / "out" / "photo_deconvolve.png").is_file()


def test_steps_lie_in_a_folder_for_each_picture(photo: Path, tmp_path: Path) -> None:
    done = restora(
        "deconvolve", photo, "-o", tmp_path / "out", "-k", "motion:9:30", "--method", "rl", "--set", "iterations=8",
        "--keep-steps", tmp_path / "steps",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "steps" / "photo").glob("*.png"))) >= 4


def test_dry_run(photo: Path, tmp_path: Path) -> None:
    done = restora(
        "deconvolve", photo, "-o", tmp_path / "out", "-k", "motion:9:30", "--method", "wiener", "--dry-run", "--json"
    )
    assert done.returncode == 0, done.stderr
    estimate = json.loads(done.stdout.splitlines()[0])
    assert estimate["memory"] > 0 and estimate["seconds"] > 0 and not (tmp_path / "out").exists()


def test_compare_makes_a_sheet(photo: Path, tmp_path: Path) -> None:
    Image.fromarray(inner(make_photo(90, 100), KERNEL)).save(tmp_path / "sharp.png")
    done = restora(
        "deconvolve", photo, "-k", "motion:9:30", "--sigma", 1, "--compare", tmp_path / "sheet.png", "--methods", "wiener,rl",
        "-r", tmp_path / "sharp.png", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["method"] for r in rows] == ["input", "wiener", "richardson-lucy"]
    assert rows[1]["psnr"] > rows[0]["psnr"] + 2 and rows[1]["seconds"] > 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] > 300 and sheet.shape[1] > 3 * 280
    assert restora("deconvolve", photo, photo, "-k", "disk:2", "--compare", tmp_path / "s.png").returncode == 2


def test_a_scale_is_in_the_name(photo: Path, tmp_path: Path) -> None:
    done = restora(
        "deconvolve",
        photo,
        "-o",
        tmp_path / "out",
        "-k",
        "gaussian:1",
        "-s",
        2,
        "--method",
        "gddec",
        "--set",
        "iterations=3",
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "photo_x2.png").size[0] == 2 * Image.open(photo).size[0]

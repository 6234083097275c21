"""The command line as a user meets it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from restora import cli, networks
from tests.conftest import make_photo


def restora(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command in this process: starting an interpreter with torch for each would cost seconds."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(a) for a in arguments])
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(make_photo(30, 40)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_help_names_the_commands_with_examples() -> None:
    done = restora("--help")
    assert done.returncode == 0
    for command in ("upscale", "models", "doctor", "train", "verify-tiling"):
        assert command in done.stdout
        assert restora(command, "--help").returncode == 0
    assert "Example:" in restora("upscale", "--help").stdout


def test_version() -> None:
    assert restora("--version").stdout.startswith("restora 0.")


def test_upscale_and_its_exit_codes(picture: Path, tmp_path: Path) -> None:
    done = restora("upscale", picture, "-s", 2, "-o", tmp_path / "out")
    assert done.returncode == 0 and "photo_x2.png (80x60" in done.stdout
    assert Image.open(tmp_path / "out" / "photo_x2.png").size == (80, 60)
    assert restora("upscale", picture, tmp_path / "absent.png", "-o", tmp_path / "out").returncode == 1
    for wrong in (
        ["-s", "0.5"],
        ["-s", "abc"],
        ["-n", "nope_x4"],
        ["--device", "tpu"],
        ["--precision", "int4"],
        ["--ext", "doc"],
        ["--frobnicate"],
    ):
        done = restora("upscale", picture, "-o", tmp_path / "other", *wrong)
        assert done.returncode == 2, (wrong, done)
        assert done.stderr.strip() and not (tmp_path / "other").exists()


def test_a_chain_is_said(picture: Path, tmp_path: Path) -> None:
    done = restora("upscale", picture, "-s", 3.5, "-o", tmp_path / "out")
    assert "No model enlarges by 3.5: done as x4, then bicubic resampling by 0.875." in done.stdout


def test_json_lines(picture: Path, tmp_path: Path) -> None:
    done = restora("upscale", picture, "-s", 2, "-o", tmp_path / "out", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["start", "file", "writing", "done", "end"]
    assert events[-1]["done"] == 1 and events[-2]["output_size"] == [60, 80]


def test_dry_run_touches_nothing(picture: Path, tmp_path: Path) -> None:
    done = restora("upscale", picture, "-s", 2, "-o", tmp_path / "out", "--dry-run")
    assert done.returncode == 0 and "40x30 -> 80x60" in done.stdout and not (tmp_path / "out").exists()


def test_models_list_show_get_import(tmp_path: Path) -> None:
    assert "fsrcnn_x4.restora" in restora("models", "list").stdout
    assert json.loads(restora("models", "list", "*x2*", "--json").stdout.splitlines()[0])["scales"] == [2]
    assert "controls:" in restora("models", "show", "fsrcnn_x4").stdout
    assert "checksum verified" in restora("models", "get", "fsrcnn_x4").stdout
    torch.save(networks.create("carn_m").state_dict(), tmp_path / "mine.pth")
    assert "carn_m.mine" in restora("models", "import", tmp_path / "mine.pth", "--licence", "MIT").stdout
    assert "carn_m.mine" in restora("models", "list").stdout
    assert restora("models", "remove", "carn_m.mine").returncode == 0
    assert restora("models", "show", "carn_m.mine").returncode == 2
    (tmp_path / "junk.pth").write_bytes(b"junk")
    done = restora("models", "import", tmp_path / "junk.pth")
    assert done.returncode == 1 and "no checkpoint" in done.stderr


def test_doctor() -> None:
    done = restora("doctor")
    assert done.returncode == 0 and "No problem found." in done.stdout
    assert json.loads(restora("doctor", "--json").stdout)["problems"] == []


@pytest.mark.parametrize("model", ["fsrcnn_x4", "carn_m_x2", "srcnn"])
def test_verify_tiling(model: str) -> None:
    done = restora("verify-tiling", model, "--size", "97x61", "-t", 32)
    assert done.returncode == 0 and "kept" in done.stdout


def test_train_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    done = restora("train", "fsrcnn_x4", "--data", tmp_path / "none", "--validation", tmp_path)
    assert done.returncode == 1 and "no folder" in done.stderr
    done = restora("train", "unknown", "--data", tmp_path, "--validation", tmp_path)
    assert done.returncode == 1 and "--list" in done.stderr
    done = restora("train", "fsrcnn_x4", "--data", tmp_path, "--validation", tmp_path, "stepz=3")
    assert done.returncode == 1 and "stepz" in done.stderr

"""`restora kernel`, kernel formulas, and what kernel files say of their origin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from restora.cli import main, make_app
from restora.degradation import kernels
from restora.degradation.kernel_files import Provenance
from restora.errors import UsageError
from restora.io import Picture
from tests.solvers.test_kernel_estimation import KERNEL, blurred


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(make_app(), ["kernel", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("gaussian:1.6", kernels.gaussian(1.6)),
        ("Gaussian:1.6:15", kernels.gaussian(1.6, 15)),
        ("anisotropic:3:1:30", kernels.anisotropic(3, 1, 30)),
        ("motion:25", kernels.motion(25)),
        ("motion:25:30", kernels.motion(25, 30)),
        ("disk:4", kernels.disk(4)),
        ("trajectory:31:7", kernels.trajectory(31, 7)),
        ("trajectory", kernels.trajectory()),
    ],
)
def test_formulas(text: str, made: torch.Tensor) -> None:
    assert torch.equal(kernels.parse(text), made)
    assert kernels.provenance(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "gauss:2",
        "gaussian",
        "gaussian:x",
        "gaussian:1:2:3",
        "gaussian:nan",
        "disk:1e9",
        "motion:5:0:8",
        "disk:-1",
        "",
        "no.npy",
    ],
)
def test_what_is_no_kernel(text: str) -> None:
    with pytest.raises(UsageError):
        kernels.parse(text)


def test_one_of_several(tmp_path: Path) -> None:
    stack = torch.stack([kernels.gaussian(1, 9), kernels.motion(7, 20, 9)])
    np.save(tmp_path / "ks.npy", stack.numpy())
    assert torch.allclose(kernels.parse(f"{tmp_path}/ks.npy:1"), stack[1])
    with pytest.raises(UsageError, match="say which"):
        kernels.parse(f"{tmp_path}/ks.npy")
    with pytest.raises(UsageError, match="number 2"):
        kernels.parse(f"{tmp_path}/ks.npy:2")


@pytest.mark.parametrize("suffix", ["npy", "npz", "txt", "png"])
def test_files_keep_kernel_and_origin(tmp_path: Path, suffix: str) -> None:
    path, k = tmp_path / f"k.{suffix}", kernels.anisotropic(3, 1.5, 40, 15)
    origin = Provenance(True, 0.75, "Bö.jpg")
    kernels.save(path, k, origin)
    back = kernels.parse(str(path))
    assert float((back - k).abs().max()) < (2e-5 * float(k.max()) if suffix == "png" else 1e-8)
    assert kernels.provenance(path) == origin and kernels.provenance(f"{path}:0") == origin
    kernels.save(path, k)
    assert kernels.provenance(path) is None, "an older file's origin does not speak for the new one"


def test_a_damaged_origin_is_none(tmp_path: Path) -> None:
    kernels.save(tmp_path / "k.npy", kernels.disk(2), Provenance(True))
    (tmp_path / "k.npy.json").write_text('{"restora-kernel": [1, 2')
    assert kernels.provenance(tmp_path / "k.npy") is None
    (tmp_path / "k.npz").write_bytes(b"no archive")
    assert kernels.provenance(tmp_path / "k.npz") is None
    with pytest.raises(UsageError, match="cannot be read"):
        kernels.parse(str(tmp_path / "k.npz"))


def test_a_drawing_on_nothing(tmp_path: Path) -> None:
    """Of a drawing on a transparent ground the drawing counts, whatever lies below it."""
    pixels = np.full((9, 9, 3), 255, np.uint8)
    alpha = np.zeros((9, 9), np.uint8)
    alpha[4, 2:7] = 255
    Picture.from_array(pixels, alpha).save(tmp_path / "k.png")
    assert torch.allclose(kernels.parse(str(tmp_path / "k.png"))[4, 2:7], torch.full((5,), 0.2))


def test_make_and_show(tmp_path: Path) -> None:
    path = tmp_path / "k.png"
    assert run("make", "gaussian:1.6", "-o", str(path))[0] == 0
    assert kernels.provenance(path) == Provenance(source="gaussian:1.6")
    code, out = run("show", str(path), "-o", str(tmp_path / "large.png"), "--json")
    facts = json.loads(out)
    assert code == 0 and facts["sum"] == pytest.approx(1) and facts["centroid"] == [0, 0]
    assert facts["width"] == facts["height"] == kernels.gaussian(1.6).shape[0] and not facts["estimated"]
    assert Picture.open(tmp_path / "large.png").width >= 384
    assert "made from gaussian:1.6" in run("show", str(path))[1]
    with pytest.raises(UsageError, match="exists"):
        run("make", "disk:2", "-o", str(path))
    assert run("make", "disk:2", "-o", str(path), "--overwrite")[0] == 0
    with pytest.raises(SystemExit) as stop:
        main(["kernel", "make", "disk:2", "-o", str(tmp_path / "k.jpg")])
    assert stop.value.code == 2


def test_show_measures_the_kernel_as_it_stands(tmp_path: Path) -> None:
    k = np.zeros((7, 9))
    k[1, 2], k[5, 6] = 3.0, -0.5
    np.save(tmp_path / "k.npy", k)
    facts = json.loads(run("show", str(tmp_path / "k.npy"), "--json")[1])
    assert facts["sum"] == 2.5 and facts["negative"] == pytest.approx(0.5 / 3, abs=1e-5)
    assert facts["centroid"] == [-2, -2] and facts["extent"] == [1, 1]


def test_check(tmp_path: Path) -> None:
    good = tmp_path / "good.npy"
    kernels.save(good, kernels.gaussian(1.5))
    code, out = run("check", str(good), "disk:3", "motion:9:45", "gaussian:5:9")
    assert code == 0 and out.count("good") == 4 + 1 and out.count("cut off") == 1  # the file is called good.npy

    def verdict(k: np.ndarray, *more: str) -> tuple[int, dict[str, object]]:
        np.save(tmp_path / "k.npy", k)
        code, out = run("check", str(tmp_path / "k.npy"), "--json", *more)
        return code, json.loads(out)

    plain = kernels.gaussian(1.5, 15).numpy()
    for wrong, word in (
        (np.roll(plain, 3, 1), "not centred"),
        (2 * plain, "sums to 2"),
        (plain - 0.002, "negative"),
        (plain[:14], "odd"),
        (plain * np.nan, "NaN"),
    ):
        code, said = verdict(wrong)
        assert code == 1 and not said["ok"] and word in " ".join(said["faults"]), word
    code, said = verdict(kernels.gaussian(6, 15).numpy())
    assert code == 0 and said["ok"] and "cut off" in " ".join(said["warnings"])
    Picture.from_array(np.zeros((12, 60, 3), np.uint8)).save(tmp_path / "p.png")
    code, said = verdict(plain, "--picture", str(tmp_path / "p.png"))
    assert code == 1 and "larger than the picture" in " ".join(said["faults"])
    kernels.save(tmp_path / "e.npz", kernels.disk(2), Provenance(True, 0.4, "a.jpg"))
    code, out = run("check", str(tmp_path / "e.npz"))
    assert code == 0 and "estimated (confidence 0.40)" in out and "--robust" in out
    code, out = run("check", str(tmp_path / "missing.npy"), str(good))
    assert code == 1 and "no kernel file" in out and f"{good}: good" in out


def test_estimate(tmp_path: Path) -> None:
    picture = (blurred(110, KERNEL)[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    Picture.from_array(picture).save(tmp_path / "shaken.png")
    k, sheet = tmp_path / "k.npz", tmp_path / "sheet.png"
    code, out = run(
        "estimate", str(tmp_path / "shaken.png"), "-o", str(k), "--size", "13", "--crop", "2,3,90,88",
        "--report", str(sheet), "--json",
    )  # fmt: skip
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    done = lines[-1]
    assert done["estimated"] and done["source"] == "shaken.png" and done["crop"] == [2, 3, 90, 88]
    origin = kernels.provenance(k)
    assert origin is not None and origin.estimated and origin.confidence == pytest.approx(done["confidence"])
    assert kernels.problems(kernels.parse(str(k))) == []
    assert Picture.open(sheet).width > 2 * 90
    with pytest.raises(UsageError, match="left,top,width,height"):
        run("estimate", str(tmp_path / "shaken.png"), "-o", str(tmp_path / "n.npy"), "--crop", "1,2")

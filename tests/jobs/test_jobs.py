"""Jobs: what is taken, where it goes, what a second run does, and what a crash costs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import restora
from restora import jobs
from restora.errors import UsageError
from restora.jobs.manifest import NAME
from tests.conftest import make_photo


def save(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_photo(height, width, seed)).save(path)
    return path


def run(
    inputs: list[Path], output: Path, model: str = "fsrcnn_x2", **options: Any
) -> tuple[jobs.Summary, list[tuple[str, dict]]]:
    events: list[tuple[str, dict]] = []
    controls = options.pop("controls", {"scale": 2})
    items = jobs.assign(
        jobs.expand([str(i) for i in inputs]), output, options.pop("suffix", "_x2"), options.pop("ext", "auto")
    )
    how = jobs.Output(output if output.is_dir() or not output.suffix else output.parent, **options)
    summary = jobs.run_job(restora.load(model), items, how, controls, lambda e, d: events.append((e, d)))
    return summary, events


def contents(folder: Path) -> dict[str, bytes]:
    """Every picture below a folder, and nothing of ours beside the manifest."""
    files = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != NAME
    }
    assert not [name for name in files if Path(name).name.startswith(".")]
    return files


def test_files_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "d/b.png", "d/e/c.jpg", "d/.hidden/x.png", "d/notes.txt", "scans/1.tif", "scans/2.tif"):
        save(Path(name)) if not name.endswith("txt") else Path(name).write_text("no picture")
    found = jobs.expand(["a.png", "d", "scans/*.tif", "a.png", "absent.png"])
    assert [(str(f), str(p)) for f, p in found] == [
        ("a.png", "a.png"), ("d/b.png", "b.png"), ("d/e/c.jpg", "e/c.jpg"), ("scans/1.tif", "1.tif"), ("scans/2.tif", "2.tif"),
        ("absent.png", "absent.png"),
    ]  # fmt: skip
    assert [str(f) for f, _ in jobs.expand(["d"], recursive=False)] == ["d/b.png"]
    with pytest.raises(UsageError, match="Nothing matches"):
        jobs.expand(["*.bmp"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no pictures"):
        jobs.expand(["empty"])


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    path = save(tmp_path / "holiday [1].png")
    assert jobs.expand([str(path)]) == [(path, Path(path.name))]


def test_names_never_collide_and_inputs_are_never_replaced(tmp_path: Path) -> None:
    a, b = save(tmp_path / "in" / "a.png"), save(tmp_path / "other" / "a.png")
    items = jobs.assign(jobs.expand([str(a), str(b)]), tmp_path / "out", "_x2", "auto")
    assert [i.target.name for i in items] == ["a_x2.png", "a_x2_2.png"]
    with pytest.raises(UsageError, match="replace an input"):
        jobs.assign(jobs.expand([str(a)]), tmp_path / "in", "", "auto")
    with pytest.raises(UsageError, match="name a folder"):
        jobs.assign(jobs.expand([str(a), str(b)]), tmp_path / "one.png", "", "auto")
    with pytest.raises(UsageError, match="xyz"):
        jobs.assign(jobs.expand([str(a)]), tmp_path / "out", "", "xyz")
    assert jobs.assign([(Path("x.gif"), Path("x.gif"))], tmp_path, "", "auto")[0].target.name == "x.png"


def test_the_structure_of_a_folder_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "sub" / "b.jpg")
    summary, _ = run([tmp_path / "in"], tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"a_x2.png", "sub/b_x2.jpg"}
    assert len(summary.done) == 2 and not summary.failed


def test_a_second_run_skips_and_every_change_is_noticed(tmp_path: Path) -> None:
    source, out = save(tmp_path / "a.png"), tmp_path / "out"
    assert len(run([source], out)[0].done) == 1
    first = contents(out)
    assert len(run([source], out)[0].skipped) == 1
    for change in ({"controls": {"scale": 2, "ensemble": True}}, {"model": "bicubic"}, {"metadata": False}):
        assert len(run([source], out, **change)[0].done) == 1, change
    assert len(run([source], out)[0].done) == 1
    assert contents(out) == first
    save(source, seed=1)
    assert len(run([source], out)[0].done) == 1
    (out / "a_x2.png").unlink()
    assert len(run([source], out)[0].done) == 1


def test_a_file_of_the_users_own_is_kept(tmp_path: Path) -> None:
    source, out = save(tmp_path / "a.png"), tmp_path / "out"
    save(out / "a_x2.png", seed=5)
    before = contents(out)
    summary, _ = run([source], out)
    assert "was not made by this job" in summary.failed[source]
    assert contents(out) == before
    assert run([source], out, overwrite=True)[0].done
    (out / "a_x2.png").write_bytes(b"edited by its owner")
    assert run([source], out)[0].failed and (out / "a_x2.png").read_bytes() == b"edited by its owner"


def test_one_bad_file_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    good = [save(tmp_path / "in" / f"{n}.png", seed=n) for n in range(3)]
    bad = tmp_path / "in" / "1b.png"
    bad.write_bytes(good[0].read_bytes()[:200])
    summary, events = run([tmp_path / "in"], tmp_path / "out")
    assert len(summary.done) == 3 and list(summary.failed) == [bad]
    assert "1b.png" in summary.failed[bad]
    ended = {Path(d["source"]).name: e for e, d in events if e in ("done", "failed")}
    assert ended == {"0.png": "done", "1.png": "done", "1b.png": "failed", "2.png": "done"}
    assert len(run([tmp_path / "in"], tmp_path / "out")[0].skipped) == 3


def test_a_defect_of_ours_costs_one_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        save(tmp_path / "in" / f"{n}.png", seed=n)
    original, calls = restora.restorers.Upscaler.restore, []

    def broken(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("oops")
        return original(self, *arguments)

    monkeypatch.setattr(restora.restorers.Upscaler, "restore", broken)
    summary, _ = run([tmp_path / "in"], tmp_path / "out")
    assert len(summary.done) == 2 and "a defect" in next(iter(summary.failed.values()))


def test_a_torn_manifest_line_is_no_obstacle(tmp_path: Path) -> None:
    for n in range(2):
        save(tmp_path / "in" / f"{n}.png", seed=n)
    run([tmp_path / "in"], tmp_path / "out")
    before = contents(tmp_path / "out")
    manifest = tmp_path / "out" / NAME
    torn = json.loads(manifest.read_text().splitlines()[-1])["target"]  # whichever ended last
    manifest.write_bytes(manifest.read_bytes()[:-40] + b"\xff\xfe")
    (tmp_path / "out" / torn).unlink()
    summary, _ = run([tmp_path / "in"], tmp_path / "out")
    assert (len(summary.skipped), len(summary.done)) == (1, 1)
    assert contents(tmp_path / "out") == before
    assert json.loads(manifest.read_text(errors="replace").splitlines()[-1])["target"] == torn
    assert len(run([tmp_path / "in"], tmp_path / "out")[0].skipped) == 2


def test_a_crash_between_the_file_and_its_record_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, calm, rough = save(tmp_path / "a.png"), tmp_path / "calm", tmp_path / "rough"
    run([source], calm)
    add = jobs.Manifest.add

    def crash(self: jobs.Manifest, record: jobs.Record) -> None:
        if record.status == "done":
            raise KeyboardInterrupt  # not an error of the file: it ends the run as a kill would
        add(self, record)

    monkeypatch.setattr(jobs.Manifest, "add", crash)
    with pytest.raises(KeyboardInterrupt):
        run([source], rough)
    assert (rough / "a_x2.png").exists()
    monkeypatch.undo()
    assert len(run([source], rough)[0].done) == 1
    assert contents(rough) == contents(calm)


def test_a_result_that_could_not_be_written_makes_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = save(tmp_path / "a.png"), tmp_path / "out"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert run([source], out)[0].failed
    monkeypatch.undo()
    (out / "a_x2.png").write_bytes(b"put there by its owner since")
    assert run([source], out)[0].failed and (out / "a_x2.png").read_bytes() == b"put there by its owner since"


def test_single_file_output_and_cancel(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    summary, _ = run([source], tmp_path / "new name.jpg")
    assert summary.done == [tmp_path / "new name.jpg"]
    items = jobs.assign(jobs.expand([str(source)]), tmp_path / "out", "", "auto")
    stopped = jobs.run_job(
        restora.load("bicubic"), items, jobs.Output(tmp_path / "out"), {}, lambda *_: None, lambda: True
    )
    assert stopped.cancelled and not (tmp_path / "out").exists()


def test_an_estimate_reads_headers_only(tmp_path: Path) -> None:
    good, bad = save(tmp_path / "a.png", 60, 90), tmp_path / "b.png"
    bad.write_text("no picture")
    items = jobs.assign(jobs.expand([str(good), str(bad)]), tmp_path / "out", "", "auto")
    for model in ("fsrcnn", "bicubic"):
        first, second = jobs.estimate(restora.load(model), items, {"scale": 3.5})
        assert first.size == (60, 90) and first.output_size == (210, 315)
        assert first.seconds > 0 and first.memory > 210 * 315 * 3
        assert second.error and not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_kill_9_in_the_middle_then_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    for n in range(8):
        save(tmp_path / "in" / f"{n}.png", 120, 160, seed=n)
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    run([tmp_path / "in"], calm, controls={"scale": 2, "ensemble": False})
    command = [
        sys.executable,
        "-m",
        "restora",
        "upscale",
        str(tmp_path / "in"),
        "-s",
        "2",
        "-n",
        "fsrcnn_x2",
        "-t",
        "16",
        "-o",
        str(rough),
    ]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    finished = 0
    for line in process.stdout:
        event = json.loads(line)
        finished += event["event"] == "done"
        if finished and event["event"] == "progress":
            process.kill()
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    (rough / f".restora-{process.pid}-0123456789abcdef.png").write_bytes(b"half")  # what a kill while writing leaves
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"[1-7] skipped", done.stdout)
    assert contents(rough) == contents(calm)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_finishes_cleanly(tmp_path: Path) -> None:
    for n in range(3):
        save(tmp_path / "in" / f"{n}.png", 200, 200, seed=n)
    command = [
        sys.executable,
        "-m",
        "restora",
        "upscale",
        str(tmp_path / "in"),
        "-s",
        "2",
        "-t",
        "8",
        "-o",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "progress":
            process.send_signal(signal.SIGINT)
            break
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert time.monotonic() - started < 30
    assert set(contents(tmp_path / "out")) <= {f"{n}_x2.png" for n in range(3)} if (tmp_path / "out").exists() else True


def test_sixteen_bit_transparency_survives_a_job(tmp_path: Path) -> None:
    import cv2

    rgba = np.random.default_rng(0).integers(0, 200, (20, 20, 4), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", rgba)[1].tobytes())
    run([tmp_path / "a.png"], tmp_path / "out")
    result = restora.Picture.open(tmp_path / "out" / "a_x2.png")
    assert result.bit_depth == 16 and result.alpha is not None and result.pixels.shape == (40, 40, 3)

"""The benchmark: means, baselines, warnings, resuming, reports, and the reasons of disagreements."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from restora import evaluation
from restora.cli import make_app
from restora.degradation import resize_uint8
from restora.engine import Settings
from restora.errors import Cancelled, EngineError, UsageError
from restora.evaluation import report
from restora.evaluation.memory import PeakMemory
from restora.evaluation.results import ImageScore, Row
from restora.evaluation.why import explain, parse_expectation
from restora.io import Picture
from restora.restorers import Report, Restorer, UpscaleControls
from restora.restorers.base import Controls
from tests.conftest import make_photo


class Fake(Restorer):
    """Any function on `H x W x C` arrays as a restorer."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], name: str = "fake", scale: int = 1) -> None:
        self.function, self.name, self.scale, self.calls = function, name, scale, 0
        self.task = "super-resolution" if scale > 1 else "denoise"
        self.controls = UpscaleControls if scale > 1 else Controls  # type: ignore[misc]

    @property
    def fingerprint(self) -> str:
        return f"{self.name}/1"

    def output_size(self, height: int, width: int, controls: Any) -> tuple[int, int]:
        return height * self.scale, width * self.scale

    def restore(self, picture: Picture, controls: Any, progress: Any, cancelled: Any, settings: Settings | None) -> Any:
        self.calls += 1
        pixels = np.ascontiguousarray(self.function(picture.pixels), np.float32)
        return picture.replace(pixels=pixels), Report(self.name, device="cpu", precision="float32")


@pytest.fixture
def sr_set(tmp_path: Path) -> Path:
    """Three pictures with their x2 inputs, as the benchmark files were made."""
    for n, size in enumerate(((48, 64), (64, 48), (56, 56))):
        high = make_photo(*size, seed=n)
        low = resize_uint8(torch.from_numpy(high.transpose(2, 0, 1).copy()), 0.5).numpy().transpose(1, 2, 0)
        for folder, image in (("HRx2", high), ("LRx2", low)):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            Picture.from_array(np.ascontiguousarray(image)).save(tmp_path / "set" / folder / f"{n}.png")
    return tmp_path / "set"


@pytest.fixture
def clean_set(tmp_path: Path) -> Path:
    folder = tmp_path / "clean"
    folder.mkdir()
    for n in range(3):
        Picture.from_array(make_photo(40, 52, seed=n)).save(folder / f"{n}.png")
    return folder


def test_rows_and_means(sr_set: Path) -> None:
    double = Fake(lambda x: x.repeat(2, 0).repeat(2, 1), "doubler", 2)
    result = evaluation.bench([double], sr_set, "sr-y", 2)
    assert [r.kind for r in result.rows] == ["input", "constant", "baseline", "model"]
    assert [r.name for r in result.rows] == ["input (nearest)", "one colour", "bicubic", "doubler"]
    nearest, constant, bicubic, model = (result.mean(r, "psnr") for r in result.rows)
    assert model == nearest  # the same thing, once as a restorer
    assert constant is not None and nearest is not None and bicubic is not None
    assert constant < nearest < bicubic
    # by hand
    values = []
    for n in range(3):
        high, low = (Picture.open(sr_set / f / f"{n}.png").pixels for f in ("HRx2", "LRx2"))
        values.append(evaluation.psnr(low.repeat(2, 0).repeat(2, 1), high, "sr-y", 2))
    assert model == pytest.approx(np.mean(values))
    row = result.row("doubler")
    assert row.mean("seconds") is not None and row.device == "cpu"
    assert result.images == 3 and result.scale == 2 and result.inputs == "files"
    assert result.collapse(row) is not None and len(row.bands()) == 5


def test_bicubic_by_name_and_bundled_models_run(sr_set: Path) -> None:
    result = evaluation.bench(["bicubic", "fsrcnn_x2"], sr_set, "sr-y", 2)
    assert [r.kind for r in result.rows] == ["input", "constant", "baseline", "model"]
    model = result.rows[-1]
    assert not model.error and model.name.startswith("fsrcnn_x2")
    assert len(model.fingerprint) == 64 and math.isfinite(model.mean("psnr") or math.nan)


def test_a_second_run_measures_nothing_again(sr_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = Fake(lambda x: x.repeat(2, 0).repeat(2, 1), "doubler", 2)
    before = evaluation.bench([first], sr_set, "sr-y", 2, output=out)
    again = Fake(first.function, "doubler", 2)
    after = evaluation.bench([again], sr_set, "sr-y", 2, output=out)
    assert first.calls == 4 and again.calls == 0  # three pictures and a warm-up
    assert before.to_dict() == after.to_dict()
    # another protocol, other weights, another picture are measured anew
    for change in ("protocol", "weights", "picture"):
        other = Fake(first.function, "doubler2" if change == "weights" else "doubler", 2)
        if change == "picture":
            Picture.from_array(make_photo(48, 64, seed=9)).save(sr_set / "HRx2" / "0.png")
        evaluation.bench([other], sr_set, "sr-rgb" if change == "protocol" else "sr-y", 2, output=out)
        assert other.calls == (2 if change == "picture" else 4)


def test_a_stopped_run_goes_on(sr_set: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def report_(event: str, data: dict[str, Any]) -> None:
        if event == "image" and data["row"] == "doubler":
            seen.append(data["image"])

    first = Fake(lambda x: x.repeat(2, 0).repeat(2, 1), "doubler", 2)
    with pytest.raises(Cancelled):
        evaluation.bench(
            [first], sr_set, "sr-y", 2, output=tmp_path / "out", report=report_, cancelled=lambda: len(seen) == 2
        )
    second = Fake(first.function, "doubler", 2)
    result = evaluation.bench([second], sr_set, "sr-y", 2, output=tmp_path / "out")
    assert second.calls == 2 and len(result.rows[-1].scores) == 3
    (tmp_path / "out" / "cache" / next((tmp_path / "out" / "cache").iterdir()).name).write_text("{ damaged")
    evaluation.bench([second], sr_set, "sr-y", 2, output=tmp_path / "out")


def test_denoising_inputs_are_made(clean_set: Path) -> None:
    result = evaluation.bench([Fake(lambda x: x)], clean_set, "denoise-rgb", sigma=15)
    assert "sigma 15" in result.inputs and result.layout == "references only"
    given, _, wiener, same = (result.mean(r, "psnr") or 0 for r in result.rows)
    assert given == pytest.approx(20 * math.log10(255 / 15), abs=0.5)
    assert same == given < wiener


def test_flags(clean_set: Path) -> None:
    perfect = {n: make_photo(40, 52, seed=n) / 255 for n in range(3)}

    def cheat(x: np.ndarray) -> np.ndarray:
        if x.shape[0] < 40 or x.shape[1] < 52:
            return x
        return min(perfect.values(), key=lambda p: float(np.abs(p - x).mean()))

    models = [
        Fake(cheat, "cheat"),
        Fake(lambda x: np.full_like(x, 0.5), "blank"),
        Fake(lambda x: x * 255, "unscaled"),
        Fake(lambda x: (x - 0.45) / 0.22, "normalised"),
    ]
    flags = "\n".join(evaluation.bench(models, clean_set, "denoise-rgb").flags())
    assert "cheat, 0: the result equals the reference" in flags
    assert "blank, 0: the result is one constant colour" in flags
    assert "unscaled" in flags and "normalised" in flags and "outside [0, 1]" in flags
    assert "and 2 more images alike" in flags


def test_a_failing_model_does_not_end_the_run(clean_set: Path) -> None:
    def fail(x: np.ndarray) -> np.ndarray:
        raise EngineError("Not enough memory.")

    result = evaluation.bench([Fake(fail, "broken"), "no_such_model", Fake(lambda x: x)], clean_set, "denoise-rgb")
    assert result.row("broken").error == "Not enough memory." and not result.row("broken").scores
    assert "no model called" in result.row("no_such_model").error
    assert len(result.rows[-1].scores) == 3
    wrong = evaluation.bench([Fake(lambda x: x[::2], "halver")], clean_set, "denoise-rgb")
    assert "does not do the task" in wrong.rows[-1].error


def test_reports(sr_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    name = "<b>double|er</b>"
    result = evaluation.bench(
        [Fake(lambda x: x.repeat(2, 0).repeat(2, 1), name, 2)], sr_set, "sr-y", 2, output=out, extra=["mae", "ms_ssim"]
    )
    paths = report.write(result, out)
    data = json.loads(paths["results.json"].read_text(encoding="utf-8"))
    assert data["protocol"]["name"] == "sr-y" and len(data["rows"]) == 4 and data["data_sha256"] == result.data_sha256
    rows = list(csv.DictReader(paths["results.csv"].open(encoding="utf-8")))
    assert len(rows) == 4 * 4 and {r["protocol"] for r in rows} == {"sr-y/1"}
    mean = next(r for r in rows if r["model"] == "bicubic" and r["image"] == "MEAN")
    assert float(mean["psnr"]) == pytest.approx(result.mean(result.row("bicubic"), "psnr"))
    text = paths["results.md"].read_text(encoding="utf-8")
    assert "sr-y/1" in text and "double\\|er" in text and "no ms_ssim" in text  # too small for it, and said so
    page = paths["report.html"].read_text(encoding="utf-8")
    assert "&lt;b&gt;double|er" in page and "<b>double" not in page
    assert page.count("data:image/png;base64,") >= 3 * 2 and "http" not in page.replace("<!doctype html>", "")
    assert str(tmp_path) not in page + text + json.dumps(data)


def test_infinite_scores_survive_the_reports(clean_set: Path, tmp_path: Path) -> None:
    Picture.from_array(make_photo(40, 52)).save(clean_set / "a.png")
    Picture.from_array(make_photo(40, 52)).save(clean_set / "a_gt.png")
    for n in range(3):
        (clean_set / f"{n}.png").unlink()
    for _ in range(2):
        result = evaluation.bench([], clean_set, "denoise-rgb", output=tmp_path / "out")
        assert result.mean(result.rows[0], "psnr") == math.inf
        assert "same picture" in "".join(result.flags())
    paths = report.write(result, tmp_path / "out")
    assert json.loads(paths["results.json"].read_text())["rows"][0]["mean"]["psnr"] is None
    assert "∞" in paths["results.md"].read_text(encoding="utf-8")


def test_why_names_the_neighbour(sr_set: Path) -> None:
    result = evaluation.bench([], sr_set, "sr-y", 2, why=True)
    row = result.row("bicubic")
    for phrase in row.scores[0].nearby:
        psnr, ssim = row.under(phrase) or (0.0, None)
        explanation = explain(result, row, round(psnr, 2), None if ssim is None else round(ssim, 4))
        assert phrase in explanation.verdict or "agrees" in explanation.verdict, phrase
    assert "agrees" in explain(result, row, round(row.mean("psnr") or 0, 2)).verdict
    assert "no neighbouring protocol" in explain(result, row, 3.21).verdict
    assert parse_expectation("28.42/0.8104") == (28.42, 0.8104)
    with pytest.raises(UsageError):
        parse_expectation("about 28")


def test_pooled_is_not_the_mean() -> None:
    """The gap of whole decibels that a pooled PSNR makes, from two images of different difficulty."""
    row = Row("x", "model")
    for name, error in (("easy", 1.0), ("hard", 1000.0)):
        value = 10 * math.log10(255**2 / error)
        row.scores.append(ImageScore(name, "", value, 0.9, error, nearby={"pooled": (value, None, error)}))
    mean, pooled = row.mean("psnr"), (row.under("pooled") or (0.0,))[0]
    assert mean == pytest.approx(33.13, abs=0.01) and pooled == pytest.approx(21.14, abs=0.01)


def test_clips_are_averaged_before_they_are_averaged(tmp_path: Path) -> None:
    for clip, frames, noise in (("a", 3, 5), ("b", 1, 40)):
        for n in range(frames):
            sharp = make_photo(32, 32, seed=n)
            bad = np.clip(sharp + np.random.default_rng(n).normal(0, noise, sharp.shape), 0, 255).astype(np.uint8)
            for folder, image in (("sharp", sharp), ("blur", bad)):
                (tmp_path / folder / clip).mkdir(parents=True, exist_ok=True)
                Picture.from_array(image).save(tmp_path / folder / clip / f"{n}.png")
    result = evaluation.bench([], tmp_path, "video-rgb")
    row = result.row("input")
    a = [s.psnr for s in row.scores if s.group == "a"]
    b = [s.psnr for s in row.scores if s.group == "b"]
    assert (len(a), len(b)) == (3, 1)
    assert result.mean(row, "psnr") == pytest.approx((np.mean(a) + b[0]) / 2)


def test_a_score_for_a_card(sr_set: Path) -> None:
    from restora.zoo.checkpoint import folder_sha256

    score = evaluation.measure(Fake(lambda x: x.repeat(2, 0).repeat(2, 1), "doubler", 2), sr_set, "sr-y", 2)
    assert score.data == "set" and score.images == 3 and score.protocol == "sr-y/1" and score.scale == 2
    assert score.bicubic_psnr is not None and score.psnr < score.bicubic_psnr
    assert score.data_sha256 == folder_sha256(sr_set, "?Rx2/*")
    assert score.command == "restora bench doubler --data set --protocol sr-y --scale 2"


def test_peak_memory() -> None:
    with PeakMemory() as peak:
        work = np.ones(8_000_000)
        del work
    assert peak.bytes is None or 50e6 < peak.bytes < 150e6


def test_command(sr_set: Path, tmp_path: Path) -> None:
    runner, out = CliRunner(), tmp_path / "out"
    common = ["bench", "--data", str(sr_set), "-s", "2", "-o", str(out), "--threads", "1"]
    done = runner.invoke(make_app(), [*common, "fsrcnn_x2", "--metrics", "mae", "--expect", "99.9/0.5"])
    assert done.exit_code == 0, done.output
    assert "| bicubic |" in done.output and "no neighbouring protocol" in done.output
    assert {p.name for p in out.iterdir()} >= {"results.json", "results.csv", "results.md", "report.html", "cache"}
    lines = runner.invoke(make_app(), [*common, "no_such_model", "--json"])
    assert lines.exit_code == 1
    events = [json.loads(line) for line in lines.output.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "result" and events[-1]["rows"][-1]["error"]
    listed = runner.invoke(make_app(), ["bench", "--protocol", "list"])
    assert "jpeg-y/1" in listed.output
    refused = runner.invoke(make_app(), ["bench", "--protocol", "sr-y"])
    assert isinstance(refused.exception, UsageError)


def test_consistency_as_a_column(sr_set: Path, clean_set: Path) -> None:
    result = evaluation.bench([], sr_set, "sr-y", 2, extra=["consistency", "delta_e"])
    plain, given = result.row("bicubic"), result.row("input (nearest)")
    # each pixel repeated and reduced again gives almost the input; a smoothed picture does not
    assert (plain.mean("consistency") or 0) > 20 and (given.mean("consistency") or 0) > 20
    denoised = evaluation.bench([], clean_set, "denoise-rgb", extra=["consistency"])
    assert denoised.rows[0].mean("consistency") is None and "no consistency" in "".join(denoised.flags())
    with pytest.raises(UsageError, match="Did you mean 'niqe'"):
        evaluation.bench([], clean_set, "denoise-rgb", extra=["nique"])

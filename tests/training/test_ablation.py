"""Ablations: rows, tables, resuming; and that the grids that come with Restora can be trained."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from restora import networks
from restora.errors import RecipeError
from restora.training.ablation import Ablation, Result, ablations, load_ablation, run_ablation, tabulate
from tests.conftest import make_photo

BASE = """
name: base
network: {variant: fsrcnn_s_x2}
task: {kind: sr, scale: 2}
data: {patch: 12, batch: 2, cache: false, prefetch: 0}
optimiser: {lr: 0.003}
steps: 4
validation: {every: 2, pictures: 1, crop: 64}
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for n in range(2):
        Image.fromarray(make_photo(80, 90, n)).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def ablation(tmp_path: Path) -> Ablation:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return load_ablation(str(path), ["network.config.m=1,2", "optimiser.lr=1e-3"], seeds=2)


def test_rows_are_all_combinations() -> None:
    made = Ablation.model_validate(
        {
            "name": "x", "recipe": "fsrcnn.small", "set": {"steps": 700}, "seeds": [3],
            "grid": {"network.config.m": [1, 2], "loss": ["l1", "l2"]},
            "forms": [{"name": "a"}, {"name": "b", "set": {"optimiser.lr": 0.5}}],
        }
    )  # fmt: skip
    runs = made.runs()
    assert [r.row for r in runs][:5] == [
        "a, m=1, loss=l1",
        "a, m=1, loss=l2",
        "a, m=2, loss=l1",
        "a, m=2, loss=l2",
        "b, m=1, loss=l1",
    ]
    last = runs[-1].recipe
    assert (last.steps, last.seed, last.network.config, last.loss[0].kind, last.optimiser.lr) == (
        700,
        3,
        {"m": 2},
        "l2",
        0.5,
    )
    assert len({r.recipe.name for r in runs}) == len({r.checksum for r in runs}) == 8


def test_mean_and_deviation_by_hand() -> None:
    made = Ablation.model_validate({"name": "x", "recipe": "r", "grid": {"k": [1, 2]}, "seeds": [0, 1, 2]})
    scores = {("k=1", 0): 30.0, ("k=1", 1): 31.0, ("k=1", 2): 32.0, ("k=2", 0): 33.0}
    known = {at: Result(*at, v, 20.0, 25.0, "bicubic", 10, 5, 2.0, "") for at, v in scores.items()}
    table = tabulate(made, known)
    first, second = table.lines
    assert (first.mean, first.deviation, first.difference, first.count) == (31.0, 1.0, None, 3)
    assert (second.mean, second.deviation, second.difference, second.count) == (33.0, None, 2.0, 1)
    assert not table.finished
    assert (
        "| k=1 | 10 | 3 | 31.000 | 1.000 | - | 2 |" in table.markdown()
        and "| (bicubic) | - | - | 25.000" in table.markdown()
    )


def test_it_stops_goes_on_and_does_nothing_twice(ablation: Ablation, photos: Path, tmp_path: Path) -> None:
    seen: list[dict] = []
    stopped = run_ablation(
        ablation, photos, photos, tmp_path, threads=1, report=seen.append,
        started=lambda trainer: trainer.stop() if len([s for s in seen if s["event"] == "result"]) == 1 else None,
    )  # fmt: skip
    assert not stopped.finished and sum(line.count for line in stopped.lines) == 1
    seen.clear()
    table = run_ablation(ablation, photos, photos, tmp_path, threads=1, report=seen.append)
    results = [s for s in seen if s["event"] == "result"]
    assert table.finished and len(results) == 3 and [line.count for line in table.lines] == [2, 2]
    assert [line.row for line in table.lines] == ["m=1", "m=2"] and table.lines[0].parameters < table.lines[
        1
    ].parameters
    assert all(line.deviation is not None and math.isfinite(line.mean) for line in table.lines)
    seen.clear()
    assert run_ablation(ablation, photos, photos, tmp_path, threads=1, report=seen.append) == table and not seen
    place = tmp_path / ablation.name
    assert json.loads((place / "table.json").read_text())["lines"][1]["mean"] == table.lines[1].mean
    assert (place / "table.md").read_text().strip() == table.markdown()
    # a result that a crash swallowed is found again without training
    lines = (place / "results.jsonl").read_text().splitlines()
    (place / "results.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    assert run_ablation(ablation, photos, photos, tmp_path, threads=1, report=seen.append).lines == table.lines
    assert not [s for s in seen if s["event"] in ("train", "validation")]
    other = ablation.model_copy(update={"set": {"optimiser.lr": 0.5}})
    with pytest.raises(RecipeError, match="another recipe"):
        run_ablation(other, photos, photos, tmp_path, threads=1)


def test_a_seed_gives_its_result_again(ablation: Ablation, photos: Path, tmp_path: Path) -> None:
    one = ablation.model_copy(update={"seeds": [1]})
    first, second = (run_ablation(one, photos, photos, tmp_path / name, threads=1) for name in "ab")
    assert [line.mean for line in first.lines] == [line.mean for line in second.lines]


@pytest.mark.parametrize("name", sorted(ablations()))
def test_bundled_ablations_make_networks(name: str) -> None:
    made = load_ablation(name)
    assert made.name == name and made.description
    rows = made.rows()
    runs = made.runs()
    assert len(runs) == len(rows) * len(made.seeds)
    sizes = set()
    for run in runs[: len(rows)]:
        net = networks.create(run.recipe.network.variant, **run.recipe.network.config)
        sizes.add(sum(p.numel() for p in net.parameters()))
    assert len(sizes) > 1 or name == "moa_operations"
    assert len({run.checksum for run in runs}) == len(runs)


def test_the_forms_of_carn_have_the_papers_sizes() -> None:
    """Efficiency thesis, table 2.1; the shifts by the mean colour are 24 numbers more."""
    sizes = {"plain": 963_651, "local": 1_074_819, "global": 1_000_707, "both": 1_111_875}
    for form, size in sizes.items():
        net = networks.create(f"carn_{form}_x4")
        assert sum(p.numel() for name, p in net.named_parameters() if "mean" not in name) == size


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [("absent", [], "no recipe"), ("fsrcnn.small", [], "varies something"), ("fsrcnn.small", ["steps"], "key=a,b,c"),
     ("fsrcnn.small", ["steps=[1,2"], "YAML")],
)  # fmt: skip
def test_what_cannot_be_is_refused(name: str, changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_ablation(name, changes)


def test_impossible_rows_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(RecipeError, match="speed"):
        load_ablation("fsrcnn.small", ["optimiser.speed=1,2"]).runs()


def test_the_command(photos: Path, tmp_path: Path) -> None:
    from restora.cli import make_app

    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    arguments = ["ablate", str(path), "steps=1,2", "--seeds", "1", "--threads", "1", "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(make_app(), [*arguments, "--data", str(photos), "--validation", str(photos)])
    assert done.exit_code == 0, done.output
    assert "| steps=2 |" in done.output and "| (degraded input) |" in done.output
    listed = CliRunner().invoke(make_app(), ["ablate", "--list"])
    assert "moa_operations" in listed.output and "srn_forms" in listed.output

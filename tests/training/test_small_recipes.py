"""Every small recipe runs from pictures to card: two steps of each stage, on tiny batches."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import restora
from restora import training, zoo
from restora.training import state
from tests.conftest import make_photo

SMALL = [name for name in training.bundled_recipes() if name.endswith(".small")]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Photographs, a clip, and a folder of pairs, large enough for every small recipe's patches."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("photos", "clip", "pairs/input", "pairs/target"):
        (root / name).mkdir(parents=True)
    for n in range(2):
        photo = make_photo(330, 340, n)
        Image.fromarray(photo).save(root / "photos" / f"{n}.png")
        Image.fromarray(photo).save(root / "pairs" / "target" / f"{n}.png")
        noisy = photo + np.random.default_rng(n).normal(0, 15, photo.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "pairs" / "input" / f"{n}.png")
    photo = make_photo(140, 150, 7)
    for n in range(17):
        Image.fromarray(np.roll(photo, n, axis=1)).save(root / "clip" / f"{n:02d}.png")
    return {"": root / "photos", "clips": root / "clip", "pairs": root / "pairs"}


def shrunk(raw: dict[str, Any]) -> dict[str, Any]:
    """A recipe with two steps and two pictures a step; what is learned is not the question here."""
    short = {"steps": 2, "schedule": {"kind": "constant"}}
    raw = {**raw, **short, "validation": {"every": 2, "crop": 133, "pictures": 1, "sheet": 1}}
    raw["data"] = {**raw.get("data", {}), "batch": 2, "rescale": [1.0], "cache": False, "growth": []}
    raw["stages"] = [
        {**{k: v for k, v in stage.items() if k != "data"}, **short, "data": {**stage.get("data", {}), "batch": 2}}
        for stage in raw.get("stages", [])
    ]
    return raw


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recipe_runs_to_its_card(name: str, sources: dict[str, Path], tmp_path: Path) -> None:
    raw = shrunk(yaml.safe_load(training.find_recipe(name).read_text()))
    recipe = training.parse_recipe(raw, name)
    paired = recipe.task["kind"] == "folder"
    data = {**sources, "": sources["pairs"]} if paired else sources
    done = training.train(recipe, data, data[""], tmp_path, threads=1)
    assert done.finished and math.isfinite(done.line["validation"]) and done.line["input"] > 5
    assert done.card is not None and zoo.read_card(done.card).training.steps == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_recipe_ends_better_than_the_degraded_input(name: str, data_folder: Path, tmp_path: Path) -> None:
    """At its full length: minutes each, an hour or more for all of them on one core."""
    photos, held_out = data_folder / "train" / "photos", data_folder / "train" / "validation"
    done = training.train(training.load_recipe(training.find_recipe(name)), photos, held_out, tmp_path, threads=1)
    assert done.line["validation"] > done.line["input"]


def reached(folder: Path) -> int:
    """The step of a run's last checkpoint; -1 before the first."""
    latest = folder / "latest.pt"
    return int(state.load(latest, torch.device("cpu"))["step"]) if latest.is_file() else -1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["edsr.small", "deblurganv2.small", "pcarn.small"]
)  # one network, an adversary, stages
def test_a_killed_small_recipe_comes_to_the_same_weights(name: str, sources: dict[str, Path], tmp_path: Path) -> None:
    """The recipe's own batches and networks, 24 steps of each stage, `restora train` killed once in each of them."""
    raw = yaml.safe_load(training.find_recipe(name).read_text())
    raw |= {"steps": 24, "schedule": {"kind": "cosine"}, "checkpoints": {"every": 4}}
    raw["validation"] = {"every": 12, "crop": 133, "pictures": 1}
    raw["stages"] = [{**stage, "steps": 24, "schedule": {"kind": "cosine"}} for stage in raw.get("stages", [])]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw))
    recipe = training.load_recipe(file)
    calm = training.train(recipe, sources, sources[""], tmp_path / "calm", threads=1)

    rough = tmp_path / "rough"
    command = [sys.executable, "-m", "restora", "train", str(file), "--data", str(sources[""]), "--threads", "1"]
    command += ["--validation", str(sources[""]), "--runs", str(rough)]
    environment = {**os.environ, "PYTHONPATH": str(Path(restora.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    places = [rough / recipe.name / stage["name"] for stage in recipe.stages] or [rough / recipe.name]
    for number, place in enumerate(places):
        resume = ["--resume"] if number else []
        process = subprocess.Popen([*command, *resume], stdout=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 300
        while reached(place) < 8 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 8 <= reached(place) < 24, "the run was killed in the middle"
    again = training.train(recipe, sources, sources[""], rough, resume=True, threads=1)

    assert calm.weights is not None and again.weights is not None
    whole, pieces = load_file(calm.weights), load_file(again.weights)
    assert whole and all(torch.equal(value, pieces[key]) for key, value in whole.items())
    assert calm.line["validation"] == again.line["validation"]
    first, second = (
        state.load(folder / place.relative_to(rough) / "latest.pt", torch.device("cpu"))
        for folder in (tmp_path / "calm", rough)
    )
    for group in ("modules", "averaged_modules"):
        for module, weights in first[group].items():
            assert all(torch.equal(value, second[group][module][key]) for key, value in weights.items())

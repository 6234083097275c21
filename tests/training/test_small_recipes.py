"""Every small recipe runs from pictures to card: two steps of each stage, on tiny batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from restora import training, zoo
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

"""From a run to weights: the same recipe and seed give the same file; the card says how it was built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

import restora
from restora import networks, training, zoo
from tests.conftest import make_photo
from tests.training.conftest import TINY


def trained(recipe: training.Recipe, data: dict[str, Path], photos: Path, folder: Path) -> bytes:
    """The weight file of a run that is measured on `photos`."""
    done = training.train(recipe, data, photos, folder, threads=1)
    assert done.weights is not None
    return done.weights.read_bytes()


def bundled_recipes() -> list[str]:
    """The recipes that the cards of the bundled weights name, each once."""
    cards = zoo.list_models(bundled=True)
    return sorted({part.removesuffix(".yaml") for card in cards for part in card.training.recipe.split(", then ")})


def shortened(name: str) -> dict[str, Any]:
    """A bundled recipe with 200 steps in all, from weights that need no other run."""
    settings = training.load_recipe(training.find_recipe(name)).model_dump(mode="json")
    count = max(1, len(settings["stages"]))
    settings |= {"steps": 200, "validation": {"every": 100, "pictures": 2}}
    settings["network"]["init_from"] = None
    settings["schedule"]["warmup"] = 20
    for stage in settings["stages"]:
        stage["steps"] = 200 // count
        stage.get("schedule", {}).pop("warmup", None)
        for loss in stage.get("loss", []):
            if loss.get("backbone"):  # weights that Restora does not carry
                stage["loss"] = ["l1"]
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled_recipes())
def test_a_bundled_recipe_gives_the_same_bytes_again(name: str, tmp_path: Path) -> None:
    """200 steps of what the bundled weights were trained by, twice."""
    photos, clips = tmp_path / "photos", tmp_path / "clips" / "pan"
    for folder in (photos, clips):
        folder.mkdir(parents=True)
    for n in range(3):
        Image.fromarray(make_photo(520, 540, n)).save(photos / f"{n}.png")
    scene = make_photo(240, 300, 4)
    for n in range(20):
        Image.fromarray(scene[:, 2 * n : 2 * n + 256]).save(clips / f"{n:02}.png")
    data = {"": photos, "clips": clips.parent}
    settings = shortened(name)
    first, second = (trained(training.parse_recipe(settings), data, photos, tmp_path / part) for part in ("a", "b"))
    assert first == second
    assert (
        trained(training.parse_recipe(settings | {"seed": settings["seed"] + 1}), data, photos, tmp_path / "c") != first
    )


def test_a_configuration_of_its_own_is_on_the_card(photos: Path, tmp_path: Path) -> None:
    network = {"variant": "srrunet", "config": {"widths": [8, 8, 8, 8], "blocks": 1}}
    changes = {"name": "srrunet_xs", "network": network, "task": {"kind": "resolution", "factor": [1, 4]}, "steps": 2}
    changes |= {"data": {"patch": 16, "batch": 1}, "optimiser": {"lr": 0.001}, "validation": {"every": 2, "crop": 32}}
    done = training.train(training.parse_recipe({**TINY, **changes}), photos, photos, tmp_path, threads=1)
    assert done.card is not None and done.weights is not None
    card = zoo.read_card(done.card)
    assert (
        card.config == network["config"]
        and card.variant == "srrunet"
        and "config" in yaml.safe_load(done.card.read_text())
    )
    folder = zoo.cache_folder()
    for part in ("weights", "cards"):
        (folder / part).mkdir(parents=True)
    (folder / "weights" / done.weights.name).write_bytes(done.weights.read_bytes())
    (folder / "cards" / done.card.name).write_bytes(done.card.read_bytes())
    assert card.scales == [2, 3, 4, 1]  # the factors that were trained, not the size that stayed
    restorer = restora.load(card.name)
    assert restorer(np.zeros((8, 8, 3), np.uint8), scale=2).array.shape == (16, 16, 3)


def test_the_card_of_a_folded_network_is_that_of_the_folded(photos: Path, tmp_path: Path) -> None:
    """SPAN is trained with four convolutions for each that it is run with."""
    network = {"variant": "span_x2", "config": {"expansion": 2, "channels": 8, "blocks": 1}}
    done = training.train(
        training.parse_recipe({**TINY, "network": network, "steps": 2}), photos, photos, tmp_path, threads=1
    )
    assert done.card is not None and done.weights is not None
    card = zoo.read_card(done.card)
    assert card.config == {"channels": 8, "blocks": 1}
    state = load_file(done.weights)
    net = networks.load_state(networks.create(card.variant, **card.config), state)
    assert card.parameters == sum(p.numel() for p in net.parameters())

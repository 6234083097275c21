"""The trainer: recipes are strict, runs are resumable to the bit, and what is trained gets better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import restora
from restora import training
from restora.errors import RecipeError
from tests.conftest import make_photo

RECIPE = {
    "name": "tiny",
    "network": {"variant": "fsrcnn_s_x2"},
    "data": {"patch": 12, "batch": 4, "colour": "luma", "rescale": [1.0, 0.8]},
    "degradation": {"scale": 2},
    "optimiser": {"lr": 0.003, "lr_factors": {"last_part": 0.5}},
    "steps": 12,
    "validation": {"every": 6},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for n in range(3):
        Image.fromarray(make_photo(80, 100, n)).save(folder / f"{n}.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


def trainer(photos: Path, folder: Path, **changes: object) -> training.Trainer:
    return training.Trainer(training.parse_recipe({**RECIPE, **changes}), photos, photos, folder, threads=1)


@pytest.mark.parametrize("name", [p.stem for p in sorted((Path(training.__file__).parent / "recipes").glob("*.yaml"))])
def test_bundled_recipes_are_valid(name: str) -> None:
    recipe = training.load_recipe(training.find_recipe(name))
    assert recipe.name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stepz": 3}, "stepz"), ({"steps": 0}, "steps"), ({"loss": "l3"}, "loss"), ({"data": {"patch": 2}}, "patch"),
     ({"schedule": {"warmup": 50}}, "warm-up"), ({"data": {"rescale": [2.0]}}, "rescale")],
)  # fmt: skip
def test_impossible_recipes_are_refused(change: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        training.parse_recipe({**RECIPE, **change})


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(RECIPE))
    recipe = training.load_recipe(path, ["optimiser.lr=0.5", "steps=99", "network.init_from=other"])
    assert (recipe.optimiser.lr, recipe.steps, recipe.network.init_from) == (0.5, 99, "other")
    for wrong in ("steps", "name.x=3", "optimiser.speed=1"):
        with pytest.raises(RecipeError):
            training.load_recipe(path, [wrong])
    path.write_text("a: [1")
    with pytest.raises(RecipeError, match="no valid YAML"):
        training.load_recipe(path)


def test_time_limits() -> None:
    assert training.seconds("90s") == 90 and training.seconds("2h") == 7200
    with pytest.raises(RecipeError):
        training.seconds("soon")


def test_the_rate_warms_up_and_falls() -> None:
    recipe = training.parse_recipe({**RECIPE, "steps": 100, "schedule": {"warmup": 10, "final": 0.01}})
    rates = [training.learning_rate(recipe, s) for s in range(101)]
    assert rates[0] == pytest.approx(0.0003) and max(rates) == pytest.approx(0.003) == rates[10]
    assert rates[100] == pytest.approx(0.00003) and rates[10:] == sorted(rates[10:], reverse=True)


def test_pairs_depend_on_seed_and_step_only(photos: Path) -> None:
    recipe = training.parse_recipe(RECIPE)
    pictures = training.Photographs(photos, (1.0,), training.Pairs.smallest(recipe))
    assert len(pictures.images) == 3 and pictures.files == 4
    first, second = training.Pairs(pictures, recipe), training.Pairs(pictures, recipe)
    low, clean = first.batch(7)
    assert low.shape == (4, 1, 12, 12) and clean.shape == (4, 1, 24, 24)
    assert all(torch.equal(a, b) for a, b in zip((low, clean), second.batch(7), strict=True))
    assert not torch.equal(low, first.batch(8)[0])
    levels = (low * 255 - 16) / 219 * 255  # grey levels of 8-bit RGB inputs are no longer whole in luma, but in range
    assert levels.min() > -1 and levels.max() < 256


def test_the_pair_is_what_the_whole_picture_would_give() -> None:
    """A crop's low-resolution patch equals the same place of the reduced photograph: no border of the crop shows."""
    from restora.degradation import resize
    from restora.training.data import _MARGIN, degrade

    photo = torch.from_numpy(make_photo(96, 96)).permute(2, 0, 1)[None].float() / 255
    for scale in (2, 3, 4):
        whole = resize(photo, 1 / scale)
        side, top = 8 + 2 * _MARGIN, 2
        crop = photo[..., top * scale : (top + side) * scale, : side * scale]
        patch = degrade(crop, scale, quantise=False)[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        there = whole[..., top + _MARGIN : top + _MARGIN + 8, _MARGIN : _MARGIN + 8]
        assert (patch - there).abs().max() < 1e-5


def test_a_stopped_run_equals_an_undisturbed_one(photos: Path, tmp_path: Path) -> None:
    calm = trainer(photos, tmp_path / "calm")
    calm.run()
    first = trainer(photos, tmp_path / "rough")
    first.run(time_limit=0)
    assert 0 < first.step < 12
    second = trainer(photos, tmp_path / "rough")
    second.run(resume=True)
    assert second.step == 12
    for a, b in zip(calm.net.state_dict().values(), second.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(calm.average, second.average, strict=True):
        assert torch.equal(a, b)
    lines = [json.loads(li) for li in (tmp_path / "rough" / "tiny" / "log.jsonl").read_text().splitlines()]
    assert [li["step"] for li in lines] == [6, 12]


def test_a_run_is_not_overwritten_nor_mixed_with_another(photos: Path, tmp_path: Path) -> None:
    trainer(photos, tmp_path).run()
    with pytest.raises(RecipeError, match="--resume"):
        trainer(photos, tmp_path).run()
    with pytest.raises(RecipeError, match="loss"):
        trainer(photos, tmp_path, loss="l2").run(resume=True)
    longer = trainer(photos, tmp_path, steps=14)
    longer.run(resume=True)
    assert longer.step == 14


def test_a_run_starts_from_another(photos: Path, tmp_path: Path) -> None:
    trainer(photos, tmp_path).run()
    heir = trainer(
        photos,
        tmp_path,
        name="heir",
        network={"variant": "fsrcnn_s_x3", "init_from": "tiny", "reinitialise": ["last_part"]},
    )
    parent = torch.load(tmp_path / "tiny" / "best.pt", weights_only=True)["params_ema"]
    assert torch.equal(heir.net.first_part[0].weight, parent["first_part.0.weight"])
    assert not torch.equal(heir.net.last_part.weight, parent["last_part.weight"])
    with pytest.raises(RecipeError, match="absent"):
        trainer(photos, tmp_path, name="orphan", network={"variant": "fsrcnn_s_x3", "init_from": "absent"})


def test_nan_is_named_and_the_last_good_state_kept(photos: Path, tmp_path: Path) -> None:
    broken = trainer(photos, tmp_path)
    step = broken._step
    broken._step = lambda *a: step(*a) * (float("nan") if broken.step > 7 else 1)  # type: ignore[method-assign]
    with pytest.raises(RecipeError, match="l1 loss became nan"):
        broken.run()
    assert torch.load(tmp_path / "tiny" / "latest.pt", weights_only=True)["step"] == 6


def test_export_gives_a_model_that_can_be_used(photos: Path, tmp_path: Path) -> None:
    done = trainer(photos, tmp_path)
    done.run()
    path = training.export(done)
    card = restora.zoo.read_card(path.with_suffix(".yaml"))
    assert card.training.steps == 12 and card.training.data_sha256 == done.pairs.photographs.checksum
    result = restora.load(path)(np.zeros((8, 8, 3), np.uint8))
    assert result.array.shape == (16, 16, 3)


def test_training_improves_on_what_it_sees(photos: Path, tmp_path: Path) -> None:
    """Fine-tuning the bundled network on three pictures fits it to them, and it stands above the plain baseline."""
    bundled = restora.zoo.load_network(restora.zoo.find("fsrcnn_x2"))
    (tmp_path / "bundled").mkdir()
    torch.save({"params_ema": bundled.state_dict()}, tmp_path / "bundled" / "best.pt")
    changes = {
        "network": {"variant": "fsrcnn_x2", "init_from": "bundled"},
        "data": {"patch": 16, "batch": 8, "colour": "luma"},
        "optimiser": {"lr": 0.0005},
        "steps": 150,
        "validation": {"every": 150},
        "ema": 0.9,
    }
    run = trainer(photos, tmp_path, **changes)
    before, plain = run.validate()
    after = run.run()["validation"]
    assert after > before + 0.05 and after > plain

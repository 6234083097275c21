"""Recipes are strict, complete, and say the same in every form."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from restora import networks, training
from restora.errors import RecipeError
from restora.training.basicsr import import_options
from restora.training.recipe import merged
from tests.training.conftest import TINY


@pytest.mark.parametrize("name", training.bundled_recipes())
def test_bundled_recipes_are_valid(name: str) -> None:
    recipe = training.load_recipe(training.find_recipe(name))
    assert recipe.name == name and recipe.description
    for stage in recipe.split():
        assert networks.family_of(stage.network.variant)
        if stage.network.config:
            with torch.device("meta"):
                networks.create(stage.network.variant, **stage.network.config)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stepz": 3}, "stepz"), ({"steps": 0}, "steps"), ({"loss": 3}, "loss"), ({"data": {"patch": 2}}, "patch"),
     ({"schedule": {"warmup": 50}}, "warm-up"), ({"data": {"rescale": [2.0]}}, "rescale"),
     ({"task": {"kind": "sr", "sigma": 3}}, "sigma"), ({"task": {"kind": "srr"}}, "Did you mean 'sr'"),
     ({"task": {"kind": "dejpeg", "quality": [50, 10]}}, "low to high"), ({"task": {"kind": "real", "chain": "no"}}, "no recipe"),
     ({"procedure": "supervisd"}, "Did you mean 'supervised'"), ({"options": {"speed": 1}}, "speed"),
     ({"optimiser": {"phases": {"net": {"rate": 1}}}}, "net.rate"), ({"schedule": {"kind": "multistep"}}, "milestones"),
     ({"schedule": {"periods": [4, 4]}}, "periods"), ({"name": "a/b"}, "name"),
     ({"data": {"growth": [{"step": 5, "patch": 8, "batch": 1}, {"step": 5, "patch": 9, "batch": 1}]}}, "increase"),
     ({"stages": [{"name": "a"}]}, "number of steps"), ({"stages": [{"name": "a", "steps": 2, "loss": "l1", "x": 1}]}, "x"),
     ({"task": {"kind": "mix", "parts": [{"kind": "sr"}, {"kind": "xx"}]}}, "no kind 'xx'")],
)  # fmt: skip
def test_impossible_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        training.parse_recipe({**TINY, **change})


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps({**TINY, "stages": [{"name": "a", "steps": 5}]}))
    changes = [
        "optimiser.lr=5e-1",
        "steps=99",
        "network.init_from=other",
        "stages.0.steps=7",
        "loss=[l1, {kind: l2, weight: 2}]",
    ]
    recipe = training.load_recipe(path, changes)
    assert (recipe.optimiser.lr, recipe.steps, recipe.network.init_from) == (0.5, 99, "other")
    assert recipe.split()[0].steps == 7 and [(t.kind, t.weight) for t in recipe.loss] == [("l1", 1), ("l2", 2)]
    for wrong in ("steps", "name.x=3", "optimiser.speed=1", "stages.3.steps=1", "steps=[1"):
        with pytest.raises(RecipeError):
            training.load_recipe(path, [wrong])
    path.write_text("a: [1")
    with pytest.raises(RecipeError, match="no valid YAML"):
        training.load_recipe(path)
    with pytest.raises(RecipeError, match="Nearest: fsrcnn_x4"):
        training.find_recipe("fsrcnn-x4")


def test_time_limits() -> None:
    assert training.seconds("90s") == 90 and training.seconds("2h") == 7200
    for wrong in ("soon", "-5m", "nans"):
        with pytest.raises(RecipeError):
            training.seconds(wrong)


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(TINY).replace("lr: 0.003", "lr: 3e-3"))
    assert training.load_recipe(path).optimiser.lr == 0.003


def factors(steps: int, **schedule: Any) -> list[float]:
    recipe = training.parse_recipe({**TINY, "steps": steps, "schedule": schedule})
    return [training.factor(recipe, s) for s in range(steps + 1)]


def test_schedules_have_the_values_computed_by_hand() -> None:
    cosine = factors(100, warmup=10, final=0.01)
    assert cosine[0] == pytest.approx(0.1) and max(cosine) == cosine[10] == 1
    assert cosine[55] == pytest.approx(0.01 + 0.99 / 2) and cosine[100] == pytest.approx(0.01)
    assert cosine[10:] == sorted(cosine[10:], reverse=True)
    assert factors(4, kind="linear", final=0.2) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert factors(4, kind="linear", final=0.0, hold=2) == pytest.approx([1, 1, 1, 0.5, 0])
    assert factors(2, kind="polynomial", power=2, final=0.0) == pytest.approx([1, 0.25, 0])
    assert factors(5, kind="multistep", milestones=[2, 4], gamma=0.1) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert factors(4, kind="step", every=2, gamma=0.5) == [1, 1, 0.5, 0.5, 0.25]
    assert factors(2, kind="exponential", every=2, gamma=0.25) == [1, 0.5, 0.25]
    assert factors(3, kind="constant", warmup=2, warmup_from=0.5) == [0.75, 1, 1, 1]
    restarts = factors(6, periods=[2, 4], restarts=[1.0, 0.5], final=0.1)
    expected = [1, 0.55, 0.5, 0.1 + 0.4 * 0.5 * (1 + math.cos(math.pi / 4)), 0.3]
    assert restarts[:5] == pytest.approx(expected) and restarts[6] == pytest.approx(0.1)
    recipe = training.parse_recipe({**TINY, "steps": 100, "schedule": {"warmup": 10}})
    assert training.learning_rate(recipe, 0) == pytest.approx(0.0003)


def test_stages_change_what_they_name_and_keep_the_rest() -> None:
    raw = {
        **TINY,
        "network": {"variant": "fsrcnn_s_x2", "init_from": "other"},
        "stages": [
            {"name": "one", "steps": 5},
            {"name": "two", "steps": 7, "optimiser": {"lr": 0.1}, "loss": "l2", "task": {"kind": "real", "chain": "bicubic-x2", "scale": 2}},
        ],
    }  # fmt: skip
    one, two = training.parse_recipe(raw).split()
    assert (one.name, one.steps, one.network.init_from) == ("one", 5, "other")
    assert (two.name, two.steps, two.network.init_from) == ("two", 7, None)
    assert two.optimiser.lr == 0.1 and two.optimiser.lr_factors == {"last_part": 0.5}
    assert two.task == {"kind": "real", "chain": "bicubic-x2", "scale": 2} and two.loss[0].kind == "l2"
    assert one.data == two.data
    with pytest.raises(RecipeError, match="name of its own"):
        training.parse_recipe({**TINY, "stages": [{"name": "a", "steps": 1}, {"name": "a", "steps": 1}]})


def test_merging_replaces_a_group_of_another_kind_and_the_options_of_another_procedure() -> None:
    base = {"task": {"kind": "sr", "scale": 2}, "procedure": "a", "options": {"x": 1}}
    assert merged(base, {"task": {"scale": 3}})["task"] == {"kind": "sr", "scale": 3}
    assert merged(base, {"task": {"kind": "real"}})["task"] == {"kind": "real"}
    assert merged(base, {"procedure": "b"})["options"] == {}
    assert merged(base, {"procedure": "b", "options": {"y": 2}})["options"] == {"y": 2}
    assert merged(base, {"options": {"y": 2}})["options"] == {"x": 1, "y": 2}


def test_the_schema_names_every_task_and_procedure() -> None:
    schema = training.schema()
    kinds = {
        task["properties"]["kind"]["const"] for task in schema["properties"]["task"]["oneOf"] if "properties" in task
    }
    assert {"sr", "denoise", "dejpeg", "deblur", "frames", "nonblind", "real", "resolution", "folder", "mix"} <= kinds
    assert "supervised" in schema["properties"]["procedure"]["enum"] and schema["additionalProperties"] is False
    references = set(_references(schema))
    assert references <= {f"#/$defs/{name}" for name in schema["$defs"]}
    json.dumps(schema)


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


OPTIONS = """
name: train_thing
scale: 4
num_gpu: 2
manual_seed: 3
datasets:
  train: {type: PairedImageDataset, gt_size: 192, batch_size_per_gpu: 8, use_hflip: true}
network_g: {type: EDSR, num_in_ch: 3, upscale: 4, num_feat: 64}
train:
  ema_decay: 0.99
  optim_g: {type: AdamW, lr: !!float 2e-4, weight_decay: 1e-3, betas: [0.9, 0.99], fused: true}
  scheduler: {type: MultiStepLR, milestones: [200, 400], gamma: 0.5}
  total_iter: 500
  warmup_iter: -1
  pixel_opt: {type: CharbonnierLoss, loss_weight: 2.0}
  gan_opt: {type: GANLoss, gan_type: vanilla}
val: {val_freq: 100}
"""


def test_option_files_become_recipes(tmp_path: Path) -> None:
    path = tmp_path / "thing.yml"
    path.write_text(OPTIONS)
    raw, lost = import_options(path)
    recipe = training.parse_recipe(raw)
    assert recipe.network.variant == "edsr_baseline_x4" and recipe.task == {"kind": "sr", "scale": 4}
    assert (recipe.data.patch, recipe.data.batch, recipe.seed, recipe.ema, recipe.steps) == (48, 16, 3, 0.99, 500)
    assert recipe.optimiser.kind == "adamw" and recipe.optimiser.lr == 2e-4 and recipe.optimiser.weight_decay == 1e-3
    assert recipe.schedule.milestones == [200, 400] and recipe.validation.every == 100
    assert [(t.kind, t.weight) for t in recipe.loss] == [("charbonnier", 2.0)]
    assert any("gan_opt" in s for s in lost) and any("fused" in s for s in lost) and any("num_feat" in s for s in lost)
    path.write_text("a: 1")
    with pytest.raises(RecipeError, match="no option file"):
        import_options(path)
    path.write_text(OPTIONS.replace("EDSR", "Nonesuch"))
    with pytest.raises(RecipeError, match="Nonesuch"):
        import_options(path)

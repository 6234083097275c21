"""Adversarial procedures and those built on them, a few steps each with tiny networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from restora.errors import RecipeError, WeightsError
from restora.training import Trainer, parse_recipe, train
from restora.training.batch import Batch
from restora.training.procedures.srooe import rise
from tests.conftest import make_photo


class Pictures:
    """A source of crops from one synthetic photograph."""

    checksum, files = "synthetic", 1

    def __init__(self) -> None:
        self.image = make_photo(160, 180)

    def crops(self, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
        places = [(int(rng.integers(161 - side)), int(rng.integers(181 - side))) for _ in range(count)]
        return np.stack([self.image[t : t + side, n : n + side] for t, n in places])


GENERATOR = {"variant": "srgan_generator_x4", "config": {"channels": 4, "blocks": 1}}
PATCHES = {"variant": "patch_discriminator", "config": {"width": 4, "layers": 1}}
THIN_SROOE = {"channels": 4, "blocks": 1, "growth": 4}
THIN_DIFFIR = {"dim": 8, "blocks": [1, 1, 1, 1], "refinement": 1, "residuals": 1}


def recipe(**changes: Any) -> Any:
    base: dict[str, Any] = {
        "name": "run",
        "network": GENERATOR,
        "task": {"kind": "sr", "scale": 4},
        "data": {"patch": 8, "batch": 2, "prefetch": 0},
        "procedure": "gan",
        "options": {"discriminator": PATCHES},
        "optimiser": {"lr": 1e-3},
        "schedule": {"kind": "constant"},
        "steps": 3,
        "ema": 0.5,
    }
    return parse_recipe({**base, **changes})


def trainer(folder: Path, **changes: Any) -> Trainer:
    return Trainer(recipe(**changes), Pictures(), None, folder, threads=1)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def terms(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return next(line["terms"] for line in lines if line["event"] == "train")


# -- the adversarial procedure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discriminator", "adversarial", "more"),
    [
        (PATCHES, {"kind": "vanilla"}, {}),
        ({"variant": "unet_discriminator", "config": {"width": 4}}, {"kind": "ragan", "r1": 1.0}, {}),
        (
            {"variant": "patch_discriminator_x3", "config": {"scales": 2, "width": 4, "layers": 1}},
            {"kind": "ragan-ls", "reduce": "sum"},
            {"range": "symmetric"},
        ),
        (PATCHES, {"kind": "wgan-gp"}, {"repeat": 2, "crop": 16}),
    ],
    ids=["vanilla", "ragan-r1-unet", "ragan-ls-pyramid", "wgan-gp"],
)
def test_both_learn_and_a_stopped_run_goes_on_exactly(
    discriminator: dict[str, Any], adversarial: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    options = {"discriminator": discriminator, "adversarial": adversarial, **more}
    whole = trainer(tmp_path / "whole", options=options)
    before = {name: state_of(m) for name, m in whole.modules.items()}
    whole.run()
    assert not any(same(before[name], state_of(m)) for name, m in whole.modules.items())
    logged = terms(tmp_path / "whole" / "run")
    penalised = {"discriminator.penalty"} if len(adversarial) > 1 and "r1" in adversarial else set()
    penalised |= {"discriminator.penalty"} if adversarial["kind"] == "wgan-gp" else set()
    assert set(logged) == {"net.l1", "net.adversarial", "discriminator.adversarial"} | penalised

    first = trainer(tmp_path / "parts", options=options)
    first.run(time_limit=0)  # one step, then the checkpoint
    assert first.step == 1
    second = trainer(tmp_path / "parts", options=options)
    second.run(resume=True)
    assert all(same(state_of(whole.modules[n]), state_of(second.modules[n])) for n in whole.modules)


def test_half_precision_leaves_the_penalty_whole(tmp_path: Path) -> None:
    options = {"discriminator": PATCHES, "adversarial": {"kind": "wgan-gp"}}
    run = trainer(tmp_path, options=options, precision="bf16", steps=1)
    procedure: Any = run.procedure
    values = {}
    for half in (False, True):
        batch = Batch(torch.linspace(0, 1, 384).view(2, 3, 8, 8), torch.linspace(0, 1, 6144).view(2, 3, 32, 32), 4)
        batch.extra["made"] = batch.target.flip(-1)
        procedure.draws.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            values[half] = {k: float(v.detach()) for k, v in procedure.discriminator_loss(batch, 0).items()}
    assert values[True]["penalty"] == values[False]["penalty"]
    assert values[True]["adversarial"] != values[False]["adversarial"]
    run.run()
    assert all(np.isfinite(v) for v in terms(tmp_path / "run").values())


def test_the_adversary_changes_the_network_and_weight_0_does_not(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "a", procedure="supervised", options={})
    weights = [
        trainer(tmp_path / str(w), options={"discriminator": PATCHES, "adversarial": {"kind": "hinge", "weight": w}})
        for w in (0.0, 1.0)
    ]
    for run in (plain, *weights):
        run.run()
    assert same(state_of(plain.net), state_of(weights[0].net))
    assert not same(state_of(plain.net), state_of(weights[1].net))


def test_while_warming_up_only_the_discriminator_learns(tmp_path: Path) -> None:
    run = trainer(tmp_path, options={"discriminator": PATCHES, "warmup": 3})
    before = {name: [p.detach().clone() for p in m.parameters()] for name, m in run.modules.items()}
    run.run()
    moved = {
        n: any(not torch.equal(a, b) for a, b in zip(before[n], m.parameters(), strict=True))
        for n, m in run.modules.items()
    }
    assert moved == {"net": False, "discriminator": True}


def test_micro_batches_show_each_its_own_pictures(tmp_path: Path) -> None:
    """Without batch statistics, two halves give the step of the whole."""
    spectral = {"variant": "patch_discriminator", "config": {"width": 4, "layers": 1, "normalisation": "none"}}
    runs = [
        trainer(
            tmp_path / str(parts),
            network={"variant": "fsrcnn_x4"},
            data={"patch": 8, "batch": 4, "prefetch": 0, "colour": "luma"},
            options={"discriminator": {**spectral, "config": {**spectral["config"], "channels": 1}}},
            optimiser={"kind": "sgd", "lr": 0.1, "accumulate": parts},
        )
        for parts in (1, 2)
    ]
    for run in runs:
        run.run()
    for name in ("net", "discriminator"):
        a, b = (state_of(run.modules[name]) for run in runs)
        assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a)


def test_pcarn_s_probabilities_become_logits(tmp_path: Path) -> None:
    run = trainer(tmp_path, options={"discriminator": {"variant": "pcarn_discriminator_1"}})
    scores = run.procedure.judge(torch.rand(2, 3, 32, 32))  # type: ignore[attr-defined]
    assert scores.shape == (2, 1, 4, 4) and not ((scores > 0) & (scores < 1)).all()


def test_penalties_are_of_gradients_in_the_discriminator_s_range(tmp_path: Path) -> None:
    options = {"discriminator": PATCHES, "adversarial": {"kind": "wgan-gp"}}
    runs = [trainer(tmp_path / r, options={**options, "range": r}) for r in ("unit", "symmetric")]
    real, made = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    penalties = []
    for run, (a, b) in zip(runs, [(2 * real - 1, 2 * made - 1), (real, made)], strict=True):
        batch = Batch(real, a, extra={"made": b})
        penalties.append(float(run.procedure.discriminator_loss(batch, 0)["penalty"].detach()))  # type: ignore[attr-defined]
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-5)


def test_double_scale_critics_see_crops_and_the_whole(tmp_path: Path) -> None:
    options = {"discriminator": {"variant": "deblurganv2_discriminator"}, "crop": 16}
    run = trainer(tmp_path, options=options)
    local, whole = run.procedure.judge(torch.rand(2, 3, 32, 32))  # type: ignore[attr-defined]
    alone, _ = run.procedure.discriminator(torch.rand(2, 3, 16, 16))  # type: ignore[attr-defined]
    assert local.shape == alone.shape and whole.shape[-1] > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": {"variant": "srooe_discriminator"}}, "from 128 pixels"),
        ({"discriminator": {"variant": "fsrcnn_x4"}}, "does not judge"),
        ({"discriminator": PATCHES, "adversarial": {"kind": "gan"}}, "no adversarial objective"),
        ({"discriminator": PATCHES, "adversarial": {"kind": "vanilla", "lambda": 1}}, "lambda"),
        ({}, "discriminator"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        trainer(tmp_path, options=options)


def test_missing_feature_weights_are_said_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTORA_METRICS", str(tmp_path))
    with pytest.raises(WeightsError, match="weights: "):
        trainer(tmp_path, loss={"kind": "vgg"})


def test_two_phases_hand_over_the_network(tmp_path: Path) -> None:
    stages = [
        {"name": "pixels", "steps": 2, "procedure": "supervised"},
        {"name": "adversary", "steps": 1, "procedure": "gan", "options": {"discriminator": PATCHES}},
    ]
    done = train(recipe(options={}, procedure="supervised", stages=stages), Pictures(), None, tmp_path, threads=1)
    assert done.finished and done.stage == "adversary"
    starts = [
        torch.load(tmp_path / "run" / s / "latest.pt", weights_only=True)["modules"] for s in ("pixels", "adversary")
    ]
    assert set(starts[1]) == {"net", "discriminator"}


# -- SROOE ----------------------------------------------------------------------------------------------------------


def srooe(folder: Path, **options: Any) -> Trainer:
    network = {"variant": "srooe_generator", "config": THIN_SROOE}
    return trainer(folder, network=network, procedure="srooe", options=options, steps=2)


def test_ramps_follow_one_another() -> None:
    assert rise(0.0, 4) == [0, 0, 0, 0] and rise(1.0, 4) == [1, 1, 1, 1]
    assert rise(0.6, 4) == pytest.approx([1, 1, 0.4, 0])
    assert rise(0.5, 0) == []


def test_srooe_weighs_its_terms_by_the_objective(tmp_path: Path) -> None:
    run = srooe(
        tmp_path,
        perceptual=[{"kind": "edge", "weight": 0.25}, {"kind": "ssim", "weight": 0.25}],
        discriminator=PATCHES,
        adversarial={"kind": "ragan", "weight": 5e-3},
    )
    procedure: Any = run.procedure
    drawn = [procedure.objective(step) for step in range(200)]
    assert 0 <= min(drawn) < 0.1 and 0.9 < max(drawn) <= 1 and drawn[:3] == [procedure.objective(s) for s in range(3)]
    step = next(s for s, t in enumerate(drawn) if 0.6 < t < 0.9)
    t = drawn[step]
    batch = procedure.batch(step)
    with torch.no_grad():
        output, found = procedure.generate(batch, step)
    l1 = (output - batch.target).abs().mean()
    assert float(found["l1"]) == pytest.approx(float((0.01 + 20 * (1 - t)) * l1), rel=1e-5)
    criterion = procedure.rising(output, batch.target)
    assert float(found["perceptual.edge"]) == pytest.approx(float(criterion["edge"]), rel=1e-6)
    assert float(found["perceptual.ssim"]) == pytest.approx(float((2 * t - 1) * criterion["ssim"]), rel=1e-6)
    assert procedure.adversarial_weight(batch, step) == pytest.approx(5e-3 * t)
    assert torch.equal(output, run.net(batch.input, t)) and not torch.equal(output, run.net(batch.input, 0.0))
    run.run()
    with pytest.raises(RecipeError, match="told its objective"):
        trainer(tmp_path / "other", procedure="srooe", options={})


def objective_stage(folder: Path, **options: Any) -> Trainer:
    network = {"variant": "srooe", "config": {**THIN_SROOE, "width": 2, "vgg_width": 2}}
    options = {"distance": {"kind": "ssim"}, "tried": 3, "learn_features": True, **options}
    return trainer(
        folder, network=network, procedure="srooe_objective", options=options, data={"patch": 16, "batch": 1}
    )


def test_the_predictor_learns_before_a_fixed_generator(tmp_path: Path) -> None:
    first = srooe(tmp_path)
    run = objective_stage(tmp_path / "second")
    run.inherit({"net": first.net.state_dict()})
    assert same(state_of(run.net.generator), state_of(first.net))  # type: ignore[arg-type]
    before = state_of(run.net)
    run.run()
    after = state_of(run.net)
    moved = {k.split(".")[0] for k in after if not torch.equal(before[k], after[k])}
    assert moved == {"ooe", "vgg"}


def test_the_target_map_is_the_best_objective_at_each_place(tmp_path: Path) -> None:
    """A generator that adds t to the picture, targets brighter by 0 on the left, by 1 / 2 on the right."""
    run = objective_stage(tmp_path)

    class Adds(nn.Module):
        def forward(self, given: tuple[Tensor, Tensor]) -> Tensor:
            x, t = given
            return torch.nn.functional.interpolate(x + t, scale_factor=4.0)

    procedure: Any = run.procedure
    procedure.chain.generator = Adds()
    x = 0.3 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.1
    target = torch.nn.functional.interpolate(x, scale_factor=4.0)
    target[..., 32:] += 0.5
    found = procedure.target_map(Batch(x, target, 4))
    assert found.shape == (1, 1, 16, 16)
    assert (found[..., :6] == 0).all() and (found[..., 10:] == 0.5).all()


def test_the_predictor_needs_features_that_mean_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESTORA_METRICS", raising=False)
    with pytest.raises(RecipeError, match="VGG-19"):
        objective_stage(tmp_path, learn_features=False)
    with pytest.raises(RecipeError, match="no map"):
        objective_stage(tmp_path, distance={"kind": "l1"})
    torch.save({"features.0.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "little.pth")
    with pytest.raises(RecipeError, match="no VGG-19"):
        objective_stage(tmp_path, vgg=str(tmp_path / "little.pth"), learn_features=False)
    # the stage that is trained with features of its own, and the same file by its name in the folder of backbones
    run = objective_stage(tmp_path / "own")
    full = {k: torch.full_like(v, 0.25) for k, v in run.net.vgg.state_dict().items() if k.startswith("features")}  # type: ignore[union-attr]
    torch.save(full, tmp_path / "vgg19-own.pth")
    monkeypatch.setenv("RESTORA_METRICS", str(tmp_path))
    found = objective_stage(tmp_path / "found", learn_features=False)
    assert all(float(p.min()) == 0.25 and not p.requires_grad for p in found.net.vgg.parameters())  # type: ignore[union-attr]


# -- DiffIR ---------------------------------------------------------------------------------------------------------


def diffir(folder: Path, stage: int, steps: int = 2, **options: Any) -> Trainer:
    network = {"variant": f"diffir_s{stage}_sr_x4", "config": THIN_DIFFIR}
    return trainer(folder, network=network, procedure="diffir", options=options, steps=steps)


def test_diffir_s_stages(tmp_path: Path) -> None:
    first = diffir(tmp_path / "1", 1)
    first.run()
    assert set(terms(tmp_path / "1" / "run")) == {"l1"}

    second = diffir(tmp_path / "2", 2, steps=3, joint_from=2)
    second.inherit({"net": first.net.state_dict()})
    teacher = state_of(second.modules["teacher"])
    assert same(teacher, state_of(first.net.E))  # type: ignore[arg-type]
    assert same(state_of(second.net.G), state_of(first.net.G))  # type: ignore[arg-type]
    before = state_of(second.net.G)  # type: ignore[arg-type]
    second.run(time_limit=0)
    assert same(before, state_of(second.net.G))  # type: ignore[arg-type]  # the priors alone, so far
    resumed = diffir(tmp_path / "2", 2, steps=3, joint_from=2)
    resumed.run(resume=True)
    assert not same(before, state_of(resumed.net.G))  # type: ignore[arg-type]
    assert same(teacher, state_of(resumed.modules["teacher"]))

    third = diffir(tmp_path / "3", 2, discriminator={"variant": "unet_discriminator", "config": {"width": 4}})
    third.inherit({name: m.state_dict() for name, m in resumed.modules.items()})
    assert same(teacher, state_of(third.modules["teacher"]))
    third.run()
    assert set(terms(tmp_path / "3" / "run")) == {
        "net.l1", "net.prior", "net.adversarial", "discriminator.adversarial",
    }  # fmt: skip


def test_the_distance_of_priors_is_their_mean_difference(tmp_path: Path) -> None:
    run = diffir(tmp_path, 2, prior=3.0)
    procedure: Any = run.procedure
    batch = procedure.batch(0)
    with torch.no_grad():
        _, found = procedure.generate(batch, 0)
    procedure.draws.manual_seed(0)
    noise = torch.randn(2, 256, generator=procedure.draws)
    with torch.no_grad():
        prior, _ = procedure.teacher(batch.input, batch.target)
        drawn = run.net.diffusion(batch.input, prior=prior, z=noise)  # type: ignore[operator]
    assert float(found["prior"]) == pytest.approx(float(3 * (drawn - prior).abs().mean()), rel=1e-5)


def test_a_second_stage_without_a_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="teacher"):
        diffir(tmp_path, 2).run()
    with pytest.raises(RecipeError, match="trains DiffIR"):
        trainer(tmp_path, procedure="diffir", options={})
    first = diffir(tmp_path / "1", 1)
    torch.save(first.net.state_dict(), tmp_path / "first.pth")
    taught = diffir(tmp_path / "2", 2, teacher=str(tmp_path / "first.pth"))
    assert same(state_of(taught.modules["teacher"]), state_of(first.net.E))  # type: ignore[arg-type]
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(RecipeError, match="no first stage"):
        diffir(tmp_path / "3", 2, teacher=str(tmp_path / "other.pth"))


# -- DASR -----------------------------------------------------------------------------------------------------------


def dasr(folder: Path, **options: Any) -> Trainer:
    network = {"variant": "dasr_x4", "config": {"channels": 8, "groups": 1, "blocks": 1, "queue": 4}}
    return trainer(folder, network=network, procedure="dasr", options=options, data={"patch": 16, "batch": 2})


def test_dasr_learns_its_encoder_first_and_goes_on_exactly(tmp_path: Path) -> None:
    alone = dasr(tmp_path / "alone", encoder_steps=9)
    before = state_of(alone.net)
    alone.run()
    moved = {".".join(k.split(".")[:2]) for k, v in state_of(alone.net).items() if not torch.equal(v, before[k])}
    assert moved == {"E.encoder_q", "E.encoder_k", "E.queue", "E.queue_ptr"}
    assert set(terms(tmp_path / "alone" / "run")) == {"contrast"}

    whole, parts = dasr(tmp_path / "whole", encoder_steps=1), dasr(tmp_path / "parts", encoder_steps=1)
    whole.run()
    assert set(terms(tmp_path / "whole" / "run")) == {"contrast", "l1"}
    parts.run(time_limit=0)
    parts = dasr(tmp_path / "parts", encoder_steps=1)
    parts.run(resume=True)
    assert same(state_of(whole.net), state_of(parts.net))


def test_views_are_crops_of_their_own_pictures(tmp_path: Path) -> None:
    procedure: Any = dasr(tmp_path).procedure
    x = torch.arange(3.0)[:, None, None, None] + torch.rand(3, 1, 16, 16) / 2
    views = procedure.view(x)
    assert views.shape == (3, 1, 8, 8)
    windows = x.unfold(2, 8, 1).unfold(3, 8, 1).reshape(3, -1, 8, 8)
    assert all((windows[n] == views[n]).flatten(1).all(dim=1).any() for n in range(3))
    with pytest.raises(RecipeError, match="cannot be cut"):
        dasr(tmp_path / "large", view=17)
    with pytest.raises(RecipeError, match="trains DASR"):
        trainer(tmp_path / "other", procedure="dasr", options={})

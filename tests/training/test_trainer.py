"""The trainer: runs are resumable to the bit, whatever stopped them, and what is trained gets better."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import restora
from restora import training, zoo
from restora.cli import train as train_command
from restora.errors import RecipeError
from restora.training import procedures, state
from tests.training.conftest import TINY
from tests.training.two_phase import TwoPhase

Make = Callable[..., training.Trainer]


@pytest.fixture
def two_phase(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    known = {**procedures.procedures(), "two_phase": TwoPhase}
    monkeypatch.setattr(procedures, "procedures", lambda: known)
    return {"procedure": "two_phase"}


def equal(a: training.Trainer, b: training.Trainer) -> bool:
    """Whether two trainers hold the same weights, averages and optimiser states, to the bit."""
    mine, theirs = (
        [t for m in trainer.modules.values() for t in m.state_dict().values()]
        + [t for m in trainer.averages.values() for t in m.state_dict().values()]
        + [
            t
            for optimiser in trainer.optimisers.values()
            for entry in optimiser.state_dict()["state"].values()
            for t in entry.values()
            if isinstance(t, torch.Tensor)
        ]
        for trainer in (a, b)
    )
    return len(mine) == len(theirs) > 0 and all(torch.equal(x, y) for x, y in zip(mine, theirs, strict=True))


def log(folder: Path, event: str = "validation") -> list[dict[str, Any]]:
    return [line for line in state.read_lines(folder / "log.jsonl") if line["event"] == event]


# -- resuming ------------------------------------------------------------------------------------------------------


def test_a_stopped_run_equals_an_undisturbed_one(tiny: Make, tmp_path: Path) -> None:
    calm = tiny(tmp_path / "calm")
    calm.run()
    first = tiny(tmp_path / "rough")
    first.run(time_limit=0)
    assert 0 < first.step < 12
    second = tiny(tmp_path / "rough")
    second.run(resume=True)
    assert second.step == 12 and equal(calm, second)
    rough, quiet = (log(tmp_path / name / "tiny") for name in ("rough", "calm"))
    assert [li["step"] for li in rough] == [6, 12]
    assert [li["validation"] for li in rough] == [li["validation"] for li in quiet]


def test_two_phases_with_their_state_are_resumed_too(tiny: Make, tmp_path: Path, two_phase: dict[str, Any]) -> None:
    changes = {**two_phase, "optimiser": {"lr": 0.003, "accumulate": 2, "phases": {"critic": {"lr": 0.01}}}}
    calm = tiny(tmp_path / "calm", **changes)
    calm.run()
    stopped = tiny(tmp_path / "rough", **changes)
    stopped.journal.report = lambda line: stopped.stop() if line["step"] >= 6 else None
    stopped.run()
    assert stopped.step < 12
    resumed = tiny(tmp_path / "rough", **changes)
    resumed.run(resume=True)
    assert equal(calm, resumed) and resumed.procedure.count == 12
    assert resumed.modules["critic"].queue.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]
    assert resumed.optimisers["critic"].param_groups[0]["momentum"] == 0.5
    assert {"net.l1", "net.adversarial", "critic.critic"} == set(log(tmp_path / "rough" / "tiny", "train")[-1]["terms"])


SCRIPT = """
import sys, time, torch
from restora import training
from restora.training import state
torch.set_num_threads(1)
recipe = training.load_recipe(sys.argv[1])
trainer = training.Trainer(recipe, sys.argv[2], sys.argv[2], sys.argv[3], threads=1)
trainer.journal.report = lambda line: time.sleep(0.02)
slow = trainer.journal.progress
trainer.journal.progress = lambda *at: (time.sleep(0.02), slow(*at))
print("ready", flush=True)
trainer.run(resume=True)
print("done", flush=True)
"""


def test_a_killed_run_equals_an_undisturbed_one(tiny: Make, photos: Path, tmp_path: Path) -> None:
    changes = {"steps": 60, "validation": {"every": 25}, "checkpoints": {"every": 7}}
    calm = tiny(tmp_path / "calm", **changes)
    calm.run()
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, **changes}))
    command = [sys.executable, "-c", SCRIPT, str(recipe), str(photos), str(tmp_path / "rough")]
    environment = {**os.environ, "PYTHONPATH": str(Path(restora.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    latest = tmp_path / "rough" / "tiny" / "latest.pt"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if latest.exists() and state.load(latest, torch.device("cpu"))["step"] >= 28:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 28 <= state.load(latest, torch.device("cpu"))["step"] < 60, "the run was killed in the middle"
    (latest.parent / "log.jsonl").open("a").write('{"event": "validation", "step": 59, "validation": 99}\n{"half a li')
    resumed = tiny(tmp_path / "rough", **changes)
    resumed.run(resume=True)
    assert equal(calm, resumed)
    assert [li["step"] for li in log(latest.parent)] == [25, 50, 60]
    best = [torch.load(tmp_path / name / "tiny" / "best.pt", weights_only=True) for name in ("calm", "rough")]
    assert best[0]["step"] == best[1]["step"] and best[0]["validation"] == best[1]["validation"]
    assert not list(latest.parent.glob(".restora-*"))


def test_a_run_is_not_overwritten_nor_mixed_with_another(tiny: Make, photos: Path, tmp_path: Path) -> None:
    tiny().run()
    with pytest.raises(RecipeError, match="--resume"):
        tiny().run()
    with pytest.raises(RecipeError, match="loss"):
        tiny(loss="l2").run(resume=True)
    longer = tiny(steps=14)
    longer.run(resume=True)
    assert longer.step == 14
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(other / "x.png")
    stranger = training.Trainer(training.parse_recipe({**TINY, "steps": 20}), other, photos, tmp_path, threads=1)
    with pytest.raises(RecipeError, match="other pictures"):
        stranger.run(resume=True)
    torch.save({"step": 3}, tmp_path / "tiny" / "latest.pt")
    with pytest.raises(RecipeError, match="another version"):
        tiny().run(resume=True)
    (tmp_path / "tiny" / "latest.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(RecipeError, match="cannot be read"):
        tiny().run(resume=True)


# -- the step ------------------------------------------------------------------------------------------------------


def test_a_step_is_adam_on_the_mean_absolute_error(tiny: Make) -> None:
    """Against three steps written out by hand."""
    trainer = tiny(
        ema=0.5,
        optimiser={"lr": 0.01, "clip": 0.05, "lr_factors": {"last_part": 0.5}},
        steps=3,
        schedule={"kind": "constant"},
    )
    import copy

    net = copy.deepcopy(trainer.net)
    groups = [
        {"params": [p for n, p in net.named_parameters() if not n.startswith("last_part")], "lr": 0.01},
        {"params": list(net.last_part.parameters()), "lr": 0.005},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.999))
    mean = [p.detach().clone() for p in net.parameters()]
    for step in range(3):
        batch = trainer.pairs.batch(step)
        optimiser.zero_grad()
        (net(batch.input) - batch.target).abs().mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        optimiser.step()
        decay = min(0.5, (2 + step) / (11 + step))
        mean = [decay * m + (1 - decay) * p.detach() for m, p in zip(mean, net.parameters(), strict=True)]
    trainer.run()
    for ours, theirs in zip(trainer.net.parameters(), net.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(trainer.averaged().parameters(), mean, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_accumulation_gives_the_gradient_of_the_whole_batch(tiny: Make, tmp_path: Path) -> None:
    sgd = {"kind": "sgd", "lr": 0.1}
    whole = tiny(tmp_path / "a", optimiser=sgd, steps=1)
    parts = tiny(tmp_path / "b", optimiser={**sgd, "accumulate": 3}, steps=1)
    whole.run()
    parts.run()
    for a, b in zip(whole.net.parameters(), parts.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)
    with pytest.raises(RecipeError, match="cannot be divided"):
        tiny(tmp_path / "c", optimiser={"accumulate": 5})


def test_frozen_parts_stay_until_their_step(tiny: Make) -> None:
    trainer = tiny(network={"variant": "fsrcnn_s_x2", "freeze": {"last_part": None, "net.first_part": 5}}, steps=8)
    start = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    snapshots: dict[int, dict[str, torch.Tensor]] = {}
    after = trainer.procedure.after_step
    trainer.procedure.after_step = lambda step: (  # type: ignore[method-assign]
        after(step), snapshots.update({step: {k: v.clone() for k, v in trainer.net.state_dict().items()}})
    )  # fmt: skip
    trainer.run()
    moved = {s: {k.split(".")[0] for k in start if not torch.equal(start[k], snapshots[s][k])} for s in (4, 5)}
    assert moved == {4: {"mid_part"}, 5: {"mid_part", "first_part"}}
    with pytest.raises(RecipeError, match="nothing to train"):
        tiny(network={"variant": "fsrcnn_s_x2", "freeze": ["first", "mid", "last"]})


def test_other_phases_weights_do_not_move(tiny: Make, two_phase: dict[str, Any]) -> None:
    trainer = tiny(**two_phase, steps=2)
    start = {k: v.clone() for k, v in trainer.modules["critic"].named_parameters()}
    seen = []
    loss = trainer.procedure.net_loss
    trainer.phases[1].__dict__["every"] = 10**6

    def watched(batch: Any, step: int) -> Any:
        seen.append([p.requires_grad for p in trainer.modules["critic"].parameters()])
        return loss(batch, step)

    trainer.phases[0].__dict__["loss"] = watched
    trainer.step = 1  # 0 is a multiple of everything
    trainer._advance(trainer.pairs.batch(1))
    assert seen and not any(seen[0])
    assert all(torch.equal(start[k], v) for k, v in trainer.modules["critic"].named_parameters())
    with pytest.raises(RecipeError, match="the phases are net, critic"):
        tiny(**two_phase, optimiser={"phases": {"criticc": {"lr": 1}}})


def test_bf16_trains_and_keeps_its_weights_in_float32(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restora.training.trainer.cpu_has_bf16", lambda: True)
    trainer = tiny(precision="bf16", network={"variant": "carn_m_x2", "config": {"channels": 8, "blocks": 1}}, steps=4)
    kinds = []
    trainer.net.exit.register_forward_hook(lambda m, i, o: kinds.append(o.dtype))
    before = trainer.validate().mean
    trainer.run()
    assert torch.bfloat16 in kinds and {p.dtype for p in trainer.net.parameters()} == {torch.float32}
    assert trainer.validate().mean != before and np.isfinite(trainer.validate().mean)


def test_a_cpu_without_bf16_trains_in_float32_and_says_so(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restora.training.trainer.cpu_has_bf16", lambda: False)
    lines: list[dict[str, Any]] = []
    trainer = tiny(precision="bf16", steps=2)
    trainer.journal.report = lines.append
    kinds = []
    trainer.net.last_part.register_forward_hook(lambda m, i, o: kinds.append(o.dtype))
    trainer.run()
    assert set(kinds) == {torch.float32}
    assert (lines[0]["event"], lines[0]["precision"], lines[0]["asked"]) == ("start", "float32", "bf16")
    assert train_command._text(lines[0]) == "trains in float32: this CPU has no instructions for bf16"
    assert train_command._text({**lines[0], "asked": "float32"}) == ""


def test_several_outputs_and_a_noise_estimate(tiny: Make) -> None:
    multi = tiny(
        network={"variant": "mimo_unet", "config": {"blocks": 1}}, task={"kind": "deblur", "size": [5, 7]},
        data={"patch": 16, "batch": 2}, options={"outputs": "all"}, steps=1, loss=["l1", {"kind": "frequency", "weight": 0.1}],
    )  # fmt: skip
    batch = multi.pairs.batch(0)
    terms = multi.procedure.loss(batch, 0)
    assert set(terms) == {"l1", "frequency"} and len(multi.net(batch.input)) == 3
    from restora.degradation import resize

    outputs = multi.net(batch.input)
    expected = sum(
        (o - resize(batch.target, size=tuple(o.shape[-2:]), method="bilinear")).abs().mean() for o in outputs
    )
    assert terms["l1"].item() == pytest.approx(expected.item(), rel=1e-5)
    blind = tiny(
        network={"variant": "drunet_blind_color", "config": {"widths": [4, 4, 4, 4], "blocks": 1}}, task={"kind": "denoise", "blind": True},
        data={"patch": 16, "batch": 2}, options={"estimate": 2.0}, name="blind",
    )  # fmt: skip
    batch = blind.pairs.batch(0)
    term = blind.procedure.loss(batch, 0)["estimate"]
    assert term.item() == pytest.approx(
        2 * (blind.net.estimate(batch.input) * 255 - batch.extra["level"]).abs().mean().item() / 255, rel=1e-4
    )


# -- trouble -------------------------------------------------------------------------------------------------------


def poisoned(trainer: training.Trainer, when: Callable[[int, float], bool]) -> None:
    """Makes the L1 term NaN at chosen steps and rates."""
    phase, loss = trainer.phases[0], trainer.phases[0].loss

    def poison(batch: Any, step: int) -> Any:
        terms = dict(loss(batch, step))
        return {k: v * float("nan") for k, v in terms.items()} if when(step, trainer.lr_factor) else terms

    phase.__dict__["loss"] = poison


def test_nan_is_named_and_the_run_goes_on_from_the_last_good_state(tiny: Make, tmp_path: Path) -> None:
    trainer = tiny(checkpoints={"every": 4})
    poisoned(trainer, lambda step, rate: step == 9 and rate > 0.3)
    events: list[dict[str, Any]] = []
    trainer.journal.report = events.append
    trainer.run()
    recovered = [e for e in events if e["event"] == "recovered"]
    assert [(e["step"], e["failed"], e["terms"], e["lr_factor"]) for e in recovered] == [
        (8, 10, ["l1"], 0.5),
        (8, 10, ["l1"], 0.25),
    ]
    assert trainer.step == 12 and all(torch.isfinite(p).all() for p in trainer.net.parameters())
    assert [li["step"] for li in log(tmp_path / "tiny")] == [6, 12]
    assert log(tmp_path / "tiny", "train")[-1]["lr"] == pytest.approx(0.25 * training.learning_rate(trainer.recipe, 12))


def test_nan_that_stays_ends_the_run_with_a_sentence(tiny: Make, tmp_path: Path) -> None:
    trainer = tiny(recovery={"tries": 1})
    poisoned(trainer, lambda step, rate: step > 7)
    with pytest.raises(RecipeError, match=r"loss term l1 was no finite number in step 9, also after 1 tries"):
        trainer.run()
    saved = state.load(tmp_path / "tiny" / "latest.pt", torch.device("cpu"))
    assert saved["step"] == 6 and saved["tries"] == 1
    assert all(torch.isfinite(v).all() for v in saved["modules"]["net"].values())


def test_weights_that_are_no_numbers_are_not_saved(tiny: Make, tmp_path: Path) -> None:
    trainer = tiny()
    trainer._open(False)
    with torch.no_grad():
        next(trainer.net.parameters()).fill_(float("nan"))
    trainer.step = 5
    trainer._save()
    assert state.load(tmp_path / "tiny" / "latest.pt", torch.device("cpu"))["step"] == 0


# -- starting from others, stages -----------------------------------------------------------------------------------


def test_a_run_starts_from_another(tiny: Make, tmp_path: Path) -> None:
    tiny().run()
    network = {"variant": "fsrcnn_s_x3", "init_from": "tiny", "reinitialise": ["last_part"]}
    heir = tiny(name="heir", network=network, task={"kind": "sr", "scale": 3}, data={"patch": 12, "batch": 2})
    fitting, there = len(heir.net.state_dict()) - 2, len(heir.net.state_dict())
    assert heir.taken == (fitting, there)
    line = {"event": "start", "step": 0, "steps": 2, "precision": "float32", "asked": "float32", "taken": heir.taken}
    assert train_command._text(line) == f"starts with {fitting} of {there} tensors; the others are fresh"
    parent = torch.load(tmp_path / "tiny" / "best.pt", weights_only=True)["params_ema"]
    assert torch.equal(heir.net.first_part[0].weight, parent["first_part.0.weight"])
    assert not torch.equal(heir.net.last_part.weight, parent["last_part.weight"])
    with pytest.raises(RecipeError, match="absent"):
        tiny(name="orphan", network={"variant": "fsrcnn_s_x3", "init_from": "absent"})
    with pytest.raises(RecipeError, match="No tensor"):
        tiny(name="stranger", network={"variant": "carn_m", "init_from": "tiny"}, data={"patch": 8, "batch": 1})


STAGED = {
    **TINY,
    "name": "staged",
    "validation": {"every": 4},
    "stages": [
        {"name": "warm", "steps": 4, "loss": "l2"},
        {"name": "fine", "steps": 6, "optimiser": {"lr": 1e-9}, "data": {"patch": 8}, "ema": 0},
    ],
}


def test_stages_begin_where_the_one_before_ended(photos: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    done = training.train(training.parse_recipe(STAGED), photos, photos, tmp_path, threads=1, report=events.append)
    assert done.finished and done.stage == "fine" and done.step == 6
    run = tmp_path / "staged"
    warm = state.load(run / "warm" / "latest.pt", torch.device("cpu"))
    fine = state.load(run / "fine" / "latest.pt", torch.device("cpu"))
    for key, value in warm["averaged_modules"]["net"].items():
        assert torch.allclose(value, fine["modules"]["net"][key], atol=1e-5)
    assert any(not torch.equal(v, warm["modules"]["net"][k]) for k, v in fine["modules"]["net"].items())
    assert {e["stage"] for e in events} == {"warm", "fine"}
    assert (run / "best.pt").is_file() and done.card is not None and done.card.parent == run
    with pytest.raises(RecipeError, match="--resume"):
        training.train(training.parse_recipe(STAGED), photos, photos, tmp_path, threads=1)


def test_a_stage_with_another_network_is_refused(tiny: Make) -> None:
    first, other = tiny(), tiny(name="stranger", network={"variant": "carn_m"}, data={"patch": 8, "batch": 1})
    with pytest.raises(RecipeError, match="No tensor of the stage before"):
        other.inherit({"net": first.net.state_dict()})


def test_stages_are_resumed_where_they_stopped(photos: Path, tmp_path: Path) -> None:
    recipe = training.parse_recipe(STAGED)
    training.train(recipe, photos, photos, tmp_path / "calm", threads=1)
    stops = 0
    while True:
        done = training.train(recipe, photos, photos, tmp_path / "rough", threads=1, resume=True, time_limit=0)
        stops += 1
        if done.finished:
            break
    assert stops > 5
    a, b = (
        torch.load(tmp_path / n / "staged" / "fine" / "latest.pt", weights_only=True)["modules"]["net"]
        for n in ("calm", "rough")
    )
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_card_has_the_hours_of_all_stages(photos: Path, tmp_path: Path) -> None:
    recipe = training.parse_recipe(STAGED)
    fine = tmp_path / "staged" / "fine" / "latest.pt"
    while not fine.exists():
        training.train(recipe, photos, photos, tmp_path, threads=1, resume=True, time_limit=0)
    warm = fine.parents[1] / "warm" / "latest.pt"
    state.save(warm, {**state.load(warm, torch.device("cpu")), "seconds": 7200.0})
    done = training.train(recipe, photos, photos, tmp_path, threads=1, resume=True)
    assert done.card is not None and zoo.read_card(done.card).training.hours == pytest.approx(2, abs=0.1)


# -- what is left ---------------------------------------------------------------------------------------------------


def test_export_gives_a_model_that_can_be_used(photos: Path, tmp_path: Path) -> None:
    done = training.train(training.parse_recipe(TINY), photos, photos, tmp_path, threads=1)
    assert done.weights is not None and done.card is not None
    card = restora.zoo.read_card(done.card)
    assert card.training.steps == 12 and len(card.training.data_sha256) == 64 and card.training.revision is not None
    assert card.weights.sha256 == restora.zoo.checkpoint.file_sha256(done.weights)
    score = card.scores[0]
    assert score.protocol == "sr-y/1" and score.psnr == pytest.approx(log(tmp_path / "tiny")[-1]["best"], abs=0.006)
    assert score.bicubic_psnr is not None and "bicubic" in card.training.notes and "16 bits" in card.training.notes
    result = restora.load(done.weights)(np.zeros((8, 8, 3), np.uint8))
    assert result.array.shape == (16, 16, 3)
    assert Image.open(tmp_path / "tiny" / "curve.png").size == (900, 420)
    assert training.load_recipe(tmp_path / "tiny" / "recipe.yaml") == training.parse_recipe(TINY)


def test_half_precision_is_kept_only_where_it_costs_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from restora.zoo.checkpoint import read_checkpoint

    monkeypatch.setattr(importlib.import_module("restora.training.export"), "HALF_COSTS", -1.0)
    done = training.train(training.parse_recipe(TINY), photos, photos, tmp_path, threads=1)
    assert done.weights is not None
    assert {v.dtype for v in read_checkpoint(done.weights)[0].values()} == {torch.float32}
    assert "stored in 32 bits" in restora.zoo.read_card(done.weights.with_suffix(".yaml")).training.notes


def test_the_log_tells_rate_share_and_scores_and_the_sheet_shows_pictures(tiny: Make, tmp_path: Path) -> None:
    trainer = tiny(steps=120, validation={"every": 60, "crop": 64, "pictures": 2, "sheet": 2})
    trainer.run()
    lines = log(tmp_path / "tiny", "train")
    assert [li["step"] for li in lines] == [100, 120] and set(lines[0]["terms"]) == {"l1"}
    assert lines[0]["steps_per_second"] > 0 and 0 < lines[0]["data_share"] < 1
    scores = log(tmp_path / "tiny")
    assert [li["step"] for li in scores] == [60, 120] and scores[0]["input"] == scores[1]["input"]
    assert scores[0]["baseline"] > 15 and scores[0]["plain"] == "bicubic"
    sheet = np.asarray(Image.open(tmp_path / "tiny" / "sheet.png"))
    assert sheet.shape == (2 * 192, 3 * 192, 3) and (tmp_path / "tiny" / "sheet_best.png").is_file()
    target = sheet[:64, 128:192].astype(int)
    assert np.abs(sheet[:64, :64].astype(int) - target).mean() > 0.5


def test_scalars_for_tensorboard_are_those_of_the_log(tiny: Make, photos: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = training.parse_recipe(TINY)
    first = training.Trainer(recipe, photos, photos, tmp_path, threads=1, tensorboard=True)
    first.journal.report = lambda line: first.stop() if line["event"] == "validation" else None
    first.run()
    # what a killed run had written after its last checkpoint is taken back when it goes on
    first.journal.scalars.add_scalar("validation/validation", 99.0, 9)
    first.journal.close()
    training.Trainer(recipe, photos, photos, tmp_path, threads=1, tensorboard=True).run(resume=True)
    events = reader.EventAccumulator(str(tmp_path / "tiny" / "tensorboard")).Reload()
    for event, key in (("validation", "validation"), ("train", "loss"), ("train", "terms.l1")):
        lines = log(tmp_path / "tiny", event)
        values = [li["terms"]["l1"] if key == "terms.l1" else li[key] for li in lines]
        seen = events.Scalars(f"{event}/{key}")
        assert [e.step for e in seen] == [li["step"] for li in lines]
        assert [e.value for e in seen] == pytest.approx(values, rel=1e-6)


def test_validation_scores_by_the_protocol(tiny: Make) -> None:
    from restora import evaluation
    from restora.degradation import luma, resize
    from restora.training.data import Photographs, centre

    trainer = tiny(validation={"every": 6, "crop": 60, "pictures": 2})
    scores = trainer.validate()
    expected = []
    for image in Photographs(trainer.pairs.source.folder).images[:2]:
        clean = torch.from_numpy(np.ascontiguousarray(centre(image, 60))).permute(2, 0, 1)[None].float() / 255
        low = (resize(clean, 0.5).clamp(0, 1) * 255).round() / 255
        expected.append(evaluation.psnr(resize(luma(low), 2), luma(clean), "sr-y", 2))
    assert scores.mean_baseline == pytest.approx(np.mean(expected), abs=1e-3)


def test_training_improves_on_what_it_sees(tiny: Make, tmp_path: Path) -> None:
    """Fine-tuning the bundled network on three pictures fits it to them, and it stands above the plain baseline."""
    run = tiny(
        network={"variant": "fsrcnn_x2", "init_from": "fsrcnn_x2"}, data={"patch": 16, "batch": 8}, optimiser={"lr": 0.0005},
        steps=150, validation={"every": 150}, ema=0.9,
    )  # fmt: skip
    before = run.validate()
    after = run.run()["validation"]
    assert after > before.mean + 0.05 and after > before.mean_baseline


def test_a_run_without_held_out_pictures(photos: Path, tmp_path: Path) -> None:
    trainer = training.Trainer(training.parse_recipe(TINY), photos, None, tmp_path, threads=1)
    trainer.run()
    assert torch.load(tmp_path / "tiny" / "best.pt", weights_only=True)["step"] == 12
    with pytest.raises(RecipeError, match="no held-out"):
        trainer.validate()
    assert training.export(trainer).is_file()


def test_the_command_trains_lists_and_shows(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from restora.cli import make_app

    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(TINY))
    run = CliRunner().invoke
    app = make_app()
    options = ["--data", str(photos), "--validation", str(photos), "--runs", str(tmp_path), "--threads", "1"]
    result = run(app, ["train", str(path), "steps=8", *options, "--json", "--time-limit", "0s"])
    assert result.exit_code == 0 and "--resume" in result.output
    result = run(app, ["train", str(path), "steps=8", *options, "--resume"])
    assert result.exit_code == 0 and "validation" in result.stdout and "Trained." in result.stdout
    listed = run(app, ["train", "--list"]).stdout
    assert "fsrcnn_x4" in listed and len(listed.splitlines()) == len(training.bundled_recipes())
    assert json.loads(run(app, ["train", "--schema"]).stdout)["title"] == "Recipe"
    shown = yaml.safe_load(
        run(app, ["train", "fsrcnn_x2", "steps=7", "schedule.warmup=1", "--show", "--precision", "bf16"]).stdout
    )
    assert shown["steps"] == 7 and shown["precision"] == "bf16" and shown["optimiser"]["betas"] == [0.9, 0.999]
    assert run(app, ["train", "fsrcnn_x2"]).exit_code != 0

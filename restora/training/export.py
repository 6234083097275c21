"""From a finished run to a weight file and a card that tells how it was made."""

from __future__ import annotations

import copy
import platform
import subprocess
import typing
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from restora import evaluation, networks, zoo
from restora.training import state
from restora.training.curve import draw_curve
from restora.training.recipe import Recipe
from restora.training.trainer import Trainer
from restora.training.validation import Scores
from restora.zoo.checkpoint import file_sha256, write_weights

HALF_COSTS = 0.005  # dB; what rounding the weights to 16 bits may cost before they are kept in 32


def export(
    trainer: Trainer,
    licence: str = "Apache-2.0",
    recipe: Recipe | None = None,
    folder: Path | None = None,
    earlier: float = 0.0,
) -> Path:
    """Writes `VARIANT.safetensors` (the best averaged weights), the card `VARIANT.yaml`, the learning curve `curve.png` and
    the exact recipe into the run's folder; returns the path of the weights. They are kept in half precision where that costs
    less than 0.005 dB on the held-out pictures. Benchmark scores are added by whoever measures them.

    Args:
        recipe, folder: of the whole run, where the trainer is that of its last stage. earlier: seconds of the stages before,
            which the card's hours include.
    """
    recipe, folder = recipe or trainer.recipe, folder or trainer.folder
    variant = trainer.recipe.network.variant
    net = copy.deepcopy(trainer.averaged())
    best = torch.load(trainer.folder / "best.pt", map_location=trainer.device, weights_only=True)
    net.load_state_dict(best["params_ema"])
    net = trainer.procedure.finished(net).eval()
    scores = _measured(trainer, net)
    half = _halved(net)
    cost = scores.mean - _measured(trainer, half).mean if scores is not None and half is not None else None
    small = cost is not None and cost < HALF_COSTS
    if small:
        assert half is not None
        net = half
    path = folder / f"{variant}.safetensors"
    metadata = {"restora.variant": variant, "restora.recipe": recipe.name, "restora.step": str(best["step"])}
    write_weights(copy.deepcopy(net).half() if small else net, path, metadata)
    lines = state.read_lines(trainer.folder / "log.jsonl")
    draw_curve(lines, folder / "curve.png", f"{recipe.name}: {trainer.pairs.maker.task}")
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )
    notes = [f"best averaged weights on validation: step {best['step']}"]
    if scores is not None:
        notes[0] += (
            f", {scores.mean:.3f} dB {trainer.protocol} (input {scores.mean_input:.3f}, "
            f"{scores.plain} {scores.mean_baseline:.3f})"
        )
    if cost is not None:
        notes.append(f"stored in {'16' if small else '32'} bits (rounding to 16 costs {max(cost, 0):.4f} dB)")
    card = _card(trainer, recipe, net, path, licence, "; ".join(notes), scores, trainer.seconds + earlier)
    zoo.write_card(card, path.with_suffix(".yaml"))
    return path


def _measured(trainer: Trainer, net: nn.Module) -> Any:
    return trainer.validator.measure(net, trainer.device) if trainer.validator is not None else None


def _halved(net: nn.Module) -> nn.Module | None:
    """The network with its weights rounded to 16 bits, in float32; None where they do not fit."""
    rounded = copy.deepcopy(net).half().float()
    return rounded if all(bool(torch.isfinite(v).all()) for v in rounded.state_dict().values()) else None


def _card(
    trainer: Trainer,
    recipe: Recipe,
    net: nn.Module,
    path: Path,
    licence: str,
    notes: str,
    scores: Scores | None,
    seconds: float,
) -> zoo.Card:
    spec: Any = net.spec
    allowed = typing.get_args(zoo.Card.model_fields["task"].annotation)
    task = next((t for t in (spec.task, trainer.pairs.maker.task) if t in allowed), allowed[0])
    network = recipe.network if not recipe.stages else trainer.recipe.network
    variant = network.variant
    # what a network fixes (the shift by a mean) is no parameter; the averaged copy fixes all
    fixed = {k for k, p in networks.create(variant, **network.config).named_parameters() if not p.requires_grad}
    tag = "".join(c if c.isalnum() or c in "_.+-" else "_" for c in recipe.name.lower().replace(variant, ""))
    return zoo.Card(
        name=f"{variant}.{tag.strip('_.-') or 'trained'}",
        title=recipe.description or variant,
        variant=variant,
        # a network that was folded is no longer the recipe's
        config=networks.own_config(variant, net.config) if hasattr(net, "fold") else network.config,  # type: ignore[arg-type]
        task=task,
        family=networks.family_of(variant).name,
        scales=_scales(trainer, spec),
        licence=licence,
        parameters=sum(p.numel() for name, p in net.named_parameters() if name not in fixed),
        weights=zoo.Weights(file=path.name, sha256=file_sha256(path), bytes=path.stat().st_size),
        training=zoo.Training(
            recipe=f"{recipe.name}.yaml",
            data=f"{trainer.pairs.files} files",
            data_sha256=trainer.pairs.checksum,
            steps=trainer.step,
            hours=round(seconds / 3600, 3),
            hardware=_hardware(trainer),
            revision=_revision(),
            notes=notes,
        ),
        scores=_entries(trainer, net, scores) if scores is not None else [],
    )


def _scales(trainer: Trainer, spec: Any) -> list[int]:
    """What was trained of what the network could do. A network for lost resolution learns at unchanged size what a scale is."""
    maker = trainer.pairs.maker
    low, high = getattr(maker.options, "factor", (0, 0))
    trained = [s for s in spec.scales if s in maker.scales or low <= s <= high]
    return trained or list(spec.scales)


def _entries(trainer: Trainer, net: nn.Module, scores: Scores) -> list[zoo.Score]:
    """The validation as the card's scores: held-out pictures, not a benchmark, and the card says so."""
    validator = trainer.validator
    assert validator is not None
    entries = []
    similar = validator.similarity(net, trainer.device)
    for case in trainer.procedure.cases():
        entries.append(
            zoo.Score(
                data=f"held-out pictures, {case.name}",
                data_sha256=validator.checksum,
                images=len(validator.pictures),
                protocol=evaluation.protocol(trainer.protocol).label,
                scale=case.scale,
                psnr=round(scores.output[case.name], 4),
                ssim=round(similar[case.name], 5),
                bicubic_psnr=round(scores.baseline[case.name], 4) if scores.plain == "bicubic" else None,
                input_psnr=round(scores.input[case.name], 4) if scores.plain != "bicubic" else None,
                command=f"restora train {trainer.recipe.name}",
            )
        )
    return entries


def _hardware(trainer: Trainer) -> str:
    if trainer.device.type == "cpu":
        return f"{trainer.threads} CPU thread(s), {platform.machine()}, {trainer.precision}"
    return torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else str(trainer.device)


def _revision() -> str:
    """The git revision of the code, empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()

"""From a finished run to a weight file and a card that tells how it was made."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from restora import networks, zoo
from restora.training.trainer import Trainer
from restora.zoo.checkpoint import file_sha256, write_weights


def export(trainer: Trainer, licence: str = "Apache-2.0") -> Path:
    """Writes `VARIANT.safetensors` (the best averaged weights) and the card `VARIANT.yaml` into the run's folder;
    returns the path of the weights. Benchmark scores are added by whoever measures them."""
    recipe = trainer.recipe
    variant = recipe.network.variant
    net = networks.create(variant)
    best = torch.load(trainer.folder / "best.pt", map_location="cpu", weights_only=True)
    networks.load_state(net, best)
    spec: Any = net.spec
    path = trainer.folder / f"{variant}.safetensors"
    write_weights(
        net, path, {"restora.variant": variant, "restora.recipe": recipe.name, "restora.step": str(best["step"])}
    )
    card = zoo.Card(
        name=f"{variant}.{recipe.name.replace(variant, '').strip('_-') or 'trained'}",
        title=recipe.description or variant,
        variant=variant,
        task=spec.task,
        family=networks.family_of(variant).name,
        scales=list(spec.scales),
        licence=licence,
        parameters=sum(p.numel() for p in net.parameters() if p.requires_grad),
        weights=zoo.Weights(file=path.name, sha256=file_sha256(path), bytes=path.stat().st_size),
        training=zoo.Training(
            recipe=f"{recipe.name}.yaml",
            data=f"{trainer.pairs.photographs.files} photographs",
            data_sha256=trainer.pairs.photographs.checksum,
            steps=trainer.step,
            hours=round(trainer.seconds / 3600, 2),
            hardware=f"{trainer.threads} CPU thread(s), {platform.machine()}"
            if trainer.device.type == "cpu"
            else str(trainer.device),
            revision=_revision(),
            notes=f"best averaged weights on validation: step {best['step']}, {best['validation']:.3f} dB",
        ),
    )
    zoo.write_card(card, path.with_suffix(".yaml"))
    return path


def _revision() -> str:
    """The git revision of the code, empty outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()

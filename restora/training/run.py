"""A whole training: the stages of a recipe one after another, and what is left of it at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from restora.errors import RecipeError
from restora.io import atomic_path
from restora.training import state
from restora.training.criterion import Criterion
from restora.training.processes import Processes
from restora.training.recipe import Recipe
from restora.training.trainer import Trainer


@dataclass(frozen=True)
class Trained:
    """How a training ended.

    Attributes:
        folder: the run's. finished: whether the last step was reached. stage: the stage that it is at ("" without stages).
        step, steps: of that stage. line: the last validation. weights, card: the exported files, once finished.
    """

    folder: Path
    finished: bool
    stage: str
    step: int
    steps: int
    line: dict[str, Any]
    weights: Path | None = None
    card: Path | None = None


def train(
    recipe: Recipe,
    data: str | Path | Mapping[str, str | Path] | Any,
    validation: str | Path | None,
    folder: str | Path,
    *,
    resume: bool = False,
    time_limit: float | None = None,
    threads: int | None = None,
    device: str | Processes = "cpu",
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    tensorboard: bool = False,
    stopped: Callable[[Trainer], None] | None = None,
) -> Trained:
    """Trains a recipe to its end, through its stages, and exports weights and card.

    Each stage is a run in a folder of its own inside the recipe's; it begins with the weights of the one before. Arguments are
    those of `Trainer` and `Trainer.run`; `time_limit` is for all stages together. `stopped` is handed each trainer before it
    runs, for whoever wants to call its `stop`.

    Raises:
        RecipeError: as `Trainer`.
    """
    from restora.training.export import export

    began = time.monotonic()
    plumbing = Processes(device) if isinstance(device, str) else device
    stages = recipe.split()
    root, cache = Path(folder) / recipe.name, Path(folder) / ".photographs"
    whole = not recipe.stages
    if not whole:
        _open(root, recipe, resume, plumbing)
    for stage in stages[1:]:
        Criterion(stage.loss)  # weights that a later stage's loss lacks are told now, not hours later
    trainer: Trainer | None = None
    earlier = 0.0  # seconds of the stages before
    line: dict[str, Any] = {}
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        place = Path(folder) if whole else root
        if not last and (taken := _finished(place / stage.name, stage)) is not None:
            earlier += taken
            continue
        trainer = Trainer(
            stage, data, validation, place, threads, plumbing, _labelled(report, stage, whole), tensorboard, cache
        )
        fresh = not (trainer.folder / "latest.pt").exists()
        if number and fresh:
            trainer.inherit(_legacy(place / stages[number - 1].name))
        if stopped is not None:
            stopped(trainer)
        left = None if time_limit is None else max(0.0, time_limit - (time.monotonic() - began))
        line = trainer.run(resume if whole else not fresh, left)
        if trainer.step < stage.steps:
            return Trained(root, False, "" if whole else stage.name, trainer.step, stage.steps, line)
        earlier += 0.0 if last else trainer.seconds
    assert trainer is not None
    if not whole and plumbing.rank == 0:
        with atomic_path(root / "best.pt") as temporary:
            shutil.copyfile(trainer.folder / "best.pt", temporary)
    if plumbing.rank:
        return Trained(root, True, "" if whole else trainer.recipe.name, trainer.step, trainer.recipe.steps, line)
    weights = export(trainer, recipe=recipe, folder=root, earlier=earlier)
    stage_name = "" if whole else trainer.recipe.name
    return Trained(
        root, True, stage_name, trainer.step, trainer.recipe.steps, line, weights, weights.with_suffix(".yaml")
    )


def _open(root: Path, recipe: Recipe, resume: bool, plumbing: Processes) -> None:
    record = root / "recipe.yaml"
    if record.exists() and not resume:
        raise RecipeError(f"'{root}' already holds a run; continue it with --resume or remove the folder.")
    if plumbing.rank == 0:
        root.mkdir(parents=True, exist_ok=True)
        record.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    plumbing.wait()


def _finished(folder: Path, stage: Recipe) -> float | None:
    """The seconds that a finished stage took, else None."""
    latest = folder / "latest.pt"
    saved = state.load(latest, torch.device("cpu")) if latest.is_file() else {"step": -1}
    return float(saved["seconds"]) if saved["step"] >= stage.steps else None


def _legacy(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The modules of a finished stage, with averaged parameters where there are some."""
    saved = state.load(folder / "latest.pt", torch.device("cpu"))
    modules = {name: dict(weights) for name, weights in saved["modules"].items()}
    for name, weights in saved["averaged_modules"].items():
        modules[name] = dict(weights)
    return modules


def _labelled(report: Callable[[dict[str, Any]], None], stage: Recipe, whole: bool) -> Callable[[dict[str, Any]], None]:
    return report if whole else lambda line: report({"stage": stage.name, **line})

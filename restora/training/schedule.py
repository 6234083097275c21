"""The learning rate over the steps, as a factor on the rate that the recipe states."""

from __future__ import annotations

import math

from restora.training.recipe import Recipe


def factor(recipe: Recipe, step: int) -> float:
    """The factor on the learning rate at a step (from 0): linear warm-up, then the schedule's curve.

    - ``cosine``: from 1 to `final` by half a cosine, after `hold` steps; with `periods`, once for each of them (SGDR).
    - ``linear``, ``polynomial``: `final + (1 - final) (1 - progress)^power`, power 1 for linear.
    - ``multistep``: `gamma` to the number of milestones passed. ``step``: gamma to the number of whole `every` passed.
    - ``exponential``: `gamma^(step / every)`. ``constant``: 1.
    """
    schedule = recipe.schedule
    if step < schedule.warmup:
        return schedule.warmup_from + (1 - schedule.warmup_from) * (step + 1) / schedule.warmup
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "multistep":
        return schedule.gamma ** sum(step >= m for m in schedule.milestones)
    if schedule.kind == "step":
        return schedule.gamma ** (step // schedule.every)
    if schedule.kind == "exponential":
        return schedule.gamma ** (step / schedule.every)
    if schedule.kind == "cosine" and schedule.periods:
        return _restarting(recipe, step)
    start = schedule.warmup + schedule.hold
    progress = min(1.0, max(0.0, (step - start) / max(1, recipe.steps - start)))
    if schedule.kind == "cosine":
        return _cosine(progress, schedule.final)
    return schedule.final + (1 - schedule.final) * (1 - progress) ** (
        1.0 if schedule.kind == "linear" else schedule.power
    )


def _cosine(progress: float, final: float) -> float:
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def _restarting(recipe: Recipe, step: int) -> float:
    schedule, first = recipe.schedule, 0
    for number, length in enumerate(schedule.periods):
        if step < first + length or number == len(schedule.periods) - 1:
            start = schedule.restarts[number] if schedule.restarts else 1.0
            shape = _cosine(min(1.0, (step - first) / length), 0.0)
            return schedule.final + (start - schedule.final) * shape
        first += length
    raise AssertionError


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step for parameters without a factor of their own."""
    return recipe.optimiser.lr * factor(recipe, step)

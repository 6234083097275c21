"""Pair makers: from clean pictures to what the network is given and what it should make of it. One file a task.

A file here that defines `MAKER` is a task, found by being there; the recipe names it as `task: {kind: FILE, ...}`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from typing import Any

from pydantic import ValidationError

from restora.errors import RecipeError
from restora.training.pairs.base import Case, PairMaker, TaskOptions

__all__ = ["Case", "PairMaker", "TaskOptions", "build", "kinds", "makers", "parse"]


@functools.cache
def makers() -> dict[str, type[PairMaker]]:
    """The pair makers by kind."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        maker = getattr(importlib.import_module(f"{__name__}.{info.name}"), "MAKER", None)
        if maker is not None:
            found[info.name] = maker
    return found


def kinds() -> dict[str, type[TaskOptions]]:
    """The keys of every kind of task."""
    return {kind: maker.Options for kind, maker in makers().items()}


def parse(task: dict[str, Any]) -> TaskOptions:
    """The typed keys of a task.

    Raises:
        RecipeError: no such kind, an unknown key, an impossible value.
    """
    kind = task.get("kind")
    if not isinstance(kind, str) or kind not in makers():
        near = difflib.get_close_matches(str(kind), makers(), 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RecipeError(f"task: there is no kind '{kind}'; there are {', '.join(makers())}.{hint}")
    try:
        return makers()[kind].Options.model_validate({k: v for k, v in task.items() if k != "kind"})
    except ValidationError as error:
        from restora.training.recipe import complaint

        raise RecipeError(f"task {kind}: {complaint(error, 'task')}.") from error


def build(task: dict[str, Any]) -> PairMaker:
    """The pair maker of a recipe's `task`."""
    return makers()[task["kind"]](parse(task))

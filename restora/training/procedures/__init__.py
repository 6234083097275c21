"""Training procedures: what is trained against what, in which order. One file a procedure.

A file here that defines `PROCEDURE` is one, found by being there; the recipe names it as `procedure: FILE` and gives its keys
under `options`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from typing import Any

from pydantic import BaseModel, ValidationError

from restora.errors import RecipeError
from restora.training.procedures.base import NoOptions, Phase, Procedure, restored

__all__ = ["NoOptions", "Phase", "Procedure", "find", "options", "parse", "procedures", "restored"]


@functools.cache
def procedures() -> dict[str, type[Procedure]]:
    """The procedures by name."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        procedure = getattr(importlib.import_module(f"{__name__}.{info.name}"), "PROCEDURE", None)
        if procedure is not None:
            found[info.name] = procedure
    return found


def options() -> dict[str, type[BaseModel]]:
    """The keys of every procedure."""
    return {name: procedure.Options for name, procedure in procedures().items()}


def find(name: str) -> type[Procedure]:
    """A procedure by name.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in procedures():
        near = difflib.get_close_matches(name, procedures(), 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RecipeError(f"There is no training procedure '{name}'; there are {', '.join(procedures())}.{hint}")
    return procedures()[name]


def parse(name: str, values: dict[str, Any]) -> BaseModel:
    """The typed options of a procedure; raises RecipeError for unknown or impossible ones."""
    try:
        return find(name).Options.model_validate(values)
    except ValidationError as error:
        from restora.training.recipe import complaint

        raise RecipeError(f"options of {name}: {complaint(error, 'options')}.") from error

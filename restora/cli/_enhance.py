"""What the commands for same-size restoration share: one body, a flag for what is special to each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o

Strength = Annotated[
    float, typer.Option("--strength", help="1 takes the result, 0 keeps the input, between them a blend.", min=0, max=1)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another control of the model, as name=value; see `restora models show`."),
]
Suffix = Annotated[str, typer.Option("--suffix", help="Put behind each name.", rich_help_panel=o.WRITING)]


def number_or_path(text: str) -> float | str:
    """The value of a control that may be a map: a number, or the path of a grey picture."""
    try:
        return float(text)
    except ValueError:
        return text


def run(
    task: str,
    inputs: list[str],
    output: Path,
    model: str | None,
    given: dict[str, Any],
    extra: list[str] | None,
    **how: Any,
) -> None:
    """Loads the restorer and runs the job; `given` are controls by name, None where the user set none."""
    from restora.cli import _job
    from restora.errors import UsageError
    from restora.restorers import load

    running = {k: how.pop(k) for k in ("device", "precision", "tile", "threads")}
    restorer = load(model, task=task, **running)
    controls = {k: v for k, v in given.items() if v is not None}
    for pair in extra or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set takes name=value, not '{pair}'.")
        controls[name] = value
    restorer.check_controls(controls)
    _job.run(restorer, inputs, output, controls=controls, **how)

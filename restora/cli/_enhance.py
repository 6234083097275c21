"""What the commands for same-size restoration share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli._options import JobFlags, assignments, with_estimates

Strength = Annotated[
    float, typer.Option(help="1 takes the result, 0 keeps the input, between them a blend.", min=0, max=1)
]


def run(
    task: str,
    inputs: list[str],
    output: Path,
    model: str | None,
    given: dict[str, Any],
    extra: list[str] | None,
    flags: JobFlags,
) -> None:
    """Loads the restorer and runs the job; `given` are controls by name, None where the user set none."""
    from restora.cli import _job
    from restora.errors import UsageError
    from restora.restorers import Upscaler, load

    restorer = load(model, task=task, **flags.running)
    if isinstance(restorer, Upscaler):
        raise UsageError(f"'{restorer.name}' enlarges: use `restora upscale`.")
    controls = {k: v for k, v in given.items() if v is not None} | assignments(extra)
    controls = with_estimates(restorer, controls)
    restorer.check_controls(controls)
    _job.run(restorer, inputs, output, controls, f"_{task}", flags)

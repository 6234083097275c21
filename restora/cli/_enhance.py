"""What the commands for same-size restoration share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli._options import JobFlags

Strength = Annotated[
    float, typer.Option(help="1 takes the result, 0 keeps the input, between them a blend.", min=0, max=1)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another control of the model, as name=value; see `restora models show`."),
]


def number_or_path(text: str | None) -> float | str | None:
    """The value of a control that may be a map: a number, or the path of a grey picture."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


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
    controls = {k: v for k, v in given.items() if v is not None}
    sigma = restorer.controls.model_fields.get("sigma")
    if sigma is not None and sigma.is_required():
        controls.setdefault("sigma", "auto")
    for pair in extra or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set takes name=value, not '{pair}'.")
        controls[name] = value
    restorer.check_controls(controls)
    _job.run(restorer, inputs, output, controls, f"_{task}", flags)

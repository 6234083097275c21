"""`restora restore`: several steps in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(
        epilog="Example: restora restore old.jpg --steps denoise=drunet.pth,upscale --set denoise.sigma=10 -o out/"
    )
    @o.takes_job_flags
    def restore(
        inputs: o.Inputs,
        flags: o.JobFlags,
        steps: Annotated[
            str, typer.Option(help="Steps in order, each a task or task=model: denoise=drunet.pth,upscale")
        ] = "upscale",
        output: o.OutputPath = Path("restored"),
        extra: o.Set = None,
    ) -> None:
        """Restore pictures in several steps, one after the other. Between the steps 16 bits are kept.

        `restora models show MODEL` lists the controls of a step's model; --set step.name=value sets them.
        """
        from restora.cli import _job
        from restora.restorers import Chain, load

        parts = []
        for step in steps.split(","):
            task, _, model = step.strip().partition("=")
            parts.append((task, load(model or None, task=task, **flags.running)))
        chain = Chain(parts)
        controls = o.with_estimates(chain, o.assignments(extra))
        chain.check_controls(controls)
        _job.run(chain, inputs, output, controls, "_" + "_".join(name for name, _ in chain.steps), flags)

"""`restora upscale`: enlarges pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora upscale photo.jpg folder/ 'scans/*.tif' -o out/ -s 4")
    @o.takes_job_flags
    def upscale(
        inputs: o.Inputs,
        flags: o.JobFlags,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        method: Annotated[
            str | None,
            typer.Option(help="zssr learns on the picture itself, in a minute or more, instead of using a model."),
        ] = None,
        scale: o.Scale = None,
        extra: o.Set = None,
        ensemble: o.Ensemble = False,
    ) -> None:
        """Enlarge pictures.

        Any scale works: what no model makes directly is reached by a chain of models and resampling, and said so.
        Metadata, colour profile, transparency and bit depth are kept. A run that was stopped goes on with the same
        command; what is done is skipped. `-n bicubic` is the plain baseline.

        A model may have controls of its own (an objective, a seed): `restora models show MODEL` lists them, --set sets them.
        """
        from restora.cli import _job
        from restora.errors import UsageError
        from restora.restorers import Upscaler, load

        if method is not None and (method != "zssr" or model is not None):
            raise UsageError("The only method is zssr, which takes no model.")
        model = method or model
        ambiguity = int(scale) if scale is not None and float(scale).is_integer() else None
        restorer = load(model, task="upscale", scale=ambiguity, **flags.running)
        if not isinstance(restorer, Upscaler):
            raise UsageError(f"'{restorer.name}' does not enlarge; its task is {restorer.task}.")
        chosen = scale if scale is not None else restorer.scale
        controls = {"scale": chosen, **({"ensemble": True} if ensemble else {}), **o.assignments(extra)}
        restorer.check_controls(controls)
        _job.run(restorer, inputs, output, controls, f"_x{chosen:g}", flags)

"""`restora deblur`: sharpen blurred or shaken pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _enhance
from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora deblur shaken.jpg -o out/")
    @o.takes_job_flags
    def deblur(
        inputs: o.Inputs,
        flags: o.JobFlags,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        mask: Annotated[
            Path | None,
            typer.Option(
                help="Regions of the picture, for models that take them (SAM-Deblur): a picture with a colour for each region, "
                "or a .npy of region numbers H x W or masks M x H x W."
            ),
        ] = None,
        strength: _enhance.Strength = 1.0,
        extra: o.Set = None,
        ensemble: o.Ensemble = False,
    ) -> None:
        """Sharpen blurred or shaken pictures.

        `restora models show MODEL` lists the controls of a model; --set sets those that have no flag.
        """
        given = {"mask": mask, "strength": strength, "ensemble": ensemble}
        _enhance.run("deblur", inputs, output, model, given, extra, flags)

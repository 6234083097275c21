"""`restora dejpeg`: remove the blocks and rings that JPEG compression leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _enhance
from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora dejpeg old.jpg -n swinir_jpeg.pth -o out/")
    @o.takes_job_flags
    def dejpeg(
        inputs: o.Inputs,
        flags: o.JobFlags,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        quality: Annotated[
            str | None,
            typer.Option(help="Quality that the picture was compressed with, 1 to 100; or auto, which finds it out."),
        ] = None,
        strength: _enhance.Strength = 1.0,
        extra: o.Set = None,
        ensemble: o.Ensemble = False,
    ) -> None:
        """Remove the blocks and rings that JPEG compression leaves.

        `restora models show MODEL` lists the controls of a model; --set sets those that have no flag.
        """
        given = {"quality": quality, "strength": strength, "ensemble": ensemble}
        _enhance.run("dejpeg", inputs, output, model, given, extra, flags)

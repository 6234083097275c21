"""`restora denoise`: remove noise from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _enhance
from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora denoise scan.tif -n drunet.pth --sigma 15 -o out/")
    @o.takes_job_flags
    def denoise(
        inputs: o.Inputs,
        flags: o.JobFlags,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        sigma: Annotated[
            str | None, typer.Option(help="Noise level, 0 to 255; auto; or a grey picture as a map of it.")
        ] = None,
        strength: _enhance.Strength = 1.0,
        extra: o.Set = None,
        ensemble: o.Ensemble = False,
    ) -> None:
        """Remove noise from pictures.

        `restora models show MODEL` lists the controls of a model; --set sets those that have no flag.
        """
        given = {"sigma": sigma, "strength": strength, "ensemble": ensemble}
        _enhance.run("denoise", inputs, output, model, given, extra, flags)

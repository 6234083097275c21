"""`restora deblur`: sharpen blurred or shaken pictures."""

from __future__ import annotations

from pathlib import Path

import typer

from restora.cli import _enhance
from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora deblur shaken.jpg -n nafnet_gopro.pth -o out/")
    @o.takes_job_flags
    def deblur(
        inputs: o.Inputs,
        flags: o.JobFlags,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        strength: _enhance.Strength = 1.0,
        extra: _enhance.Set = None,
        ensemble: o.Ensemble = False,
    ) -> None:
        """Sharpen blurred or shaken pictures."""
        given = {"strength": strength, "ensemble": ensemble}
        _enhance.run("deblur", inputs, output, model, given, extra, flags)

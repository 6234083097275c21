"""`restora deblur`: sharpen blurred or shaken pictures."""

from __future__ import annotations

from pathlib import Path

import typer

from restora.cli import _enhance
from restora.cli import _options as o
from restora.cli._enhance import Set, Strength, Suffix


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora deblur shaken.jpg -n nafnet_gopro.pth -o out/")
    def deblur(
        inputs: o.Inputs,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        strength: Strength = 1.0,
        extra: Set = None,
        ensemble: o.Ensemble = False,
        tile: o.Tile = None,
        device: o.Device = "auto",
        precision: o.Precision = "auto",
        threads: o.Threads = None,
        suffix: Suffix = "_deblur",
        ext: o.Extension = "auto",
        quality: o.Quality = None,
        overwrite: o.Overwrite = False,
        no_recursive: o.Flat = False,
        dry_run: o.DryRun = False,
        as_json: o.Json = False,
    ) -> None:
        """Sharpen blurred or shaken pictures."""
        given = {"strength": strength, "ensemble": ensemble}
        _enhance.run(
            "deblur",
            inputs,
            output,
            model,
            given,
            extra,
            device=device,
            precision=precision,
            tile=tile,
            threads=threads,
            suffix=suffix,
            ext=ext,
            quality=quality,
            overwrite=overwrite,
            recursive=not no_recursive,
            dry_run=dry_run,
            as_json=as_json,
        )

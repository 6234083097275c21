"""`restora dejpeg`: remove the blocks and rings that JPEG compression leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _enhance
from restora.cli import _options as o
from restora.cli._enhance import Set, Strength, Suffix


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora dejpeg old.jpg -n swinir_jpeg.pth -o out/")
    def dejpeg(
        inputs: o.Inputs,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        quality_factor: Annotated[
            int | None,
            typer.Option("--quality", help="Quality that the picture was compressed with, 1 to 100.", min=1, max=100),
        ] = None,
        strength: Strength = 1.0,
        extra: Set = None,
        ensemble: o.Ensemble = False,
        tile: o.Tile = None,
        device: o.Device = "auto",
        precision: o.Precision = "auto",
        threads: o.Threads = None,
        suffix: Suffix = "_dejpeg",
        ext: o.Extension = "auto",
        quality: o.OutputQuality = None,
        overwrite: o.Overwrite = False,
        no_recursive: o.Flat = False,
        dry_run: o.DryRun = False,
        as_json: o.Json = False,
    ) -> None:
        """Remove the blocks and rings that JPEG compression leaves."""
        given = {"quality": quality_factor, "strength": strength, "ensemble": ensemble}
        _enhance.run(
            "dejpeg",
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

"""`restora denoise`: remove noise from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _enhance
from restora.cli import _options as o
from restora.cli._enhance import Set, Strength, Suffix, number_or_path


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora denoise scan.tif -n drunet.pth --sigma 15 -o out/")
    def denoise(
        inputs: o.Inputs,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        sigma: Annotated[
            str | None, typer.Option("--sigma", help="Noise level, 0 to 255; or a grey picture as a map of it.")
        ] = None,
        strength: Strength = 1.0,
        extra: Set = None,
        ensemble: o.Ensemble = False,
        tile: o.Tile = None,
        device: o.Device = "auto",
        precision: o.Precision = "auto",
        threads: o.Threads = None,
        suffix: Suffix = "_denoise",
        ext: o.Extension = "auto",
        quality: o.Quality = None,
        overwrite: o.Overwrite = False,
        no_recursive: o.Flat = False,
        dry_run: o.DryRun = False,
        as_json: o.Json = False,
    ) -> None:
        """Remove noise from pictures."""
        given = {"sigma": None if sigma is None else number_or_path(sigma), "strength": strength, "ensemble": ensemble}
        _enhance.run(
            "denoise",
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

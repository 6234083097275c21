"""`restora upscale`: enlarges pictures."""

from __future__ import annotations

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""
    from pathlib import Path

    @app.command(epilog="Example: restora upscale photo.jpg folder/ 'scans/*.tif' -o out/ -s 4")
    def upscale(
        inputs: o.Inputs,
        output: o.OutputPath = Path("restored"),
        model: o.Model = None,
        scale: o.Scale = None,
        ensemble: o.Ensemble = False,
        tile: o.Tile = None,
        device: o.Device = "auto",
        precision: o.Precision = "auto",
        threads: o.Threads = None,
        suffix: o.Suffix = None,
        ext: o.Extension = "auto",
        quality: o.Quality = None,
        overwrite: o.Overwrite = False,
        no_recursive: o.Flat = False,
        dry_run: o.DryRun = False,
        as_json: o.Json = False,
    ) -> None:
        """Enlarge pictures.

        Any scale works: what no model makes directly is reached by a chain of models and resampling, and said so.
        Metadata, colour profile, transparency and bit depth are kept. A run that was stopped goes on with the same
        command; what is done is skipped.
        """
        from restora.cli import _job
        from restora.restorers import load

        ambiguity = int(scale) if scale is not None and float(scale).is_integer() else None
        restorer = load(
            model,
            task="upscale",
            device=device,
            precision=precision,
            tile=tile,
            threads=threads,
            scale=ambiguity,
        )
        chosen = scale if scale is not None else restorer.scale  # type: ignore[attr-defined]
        _job.run(
            restorer,
            inputs,
            output,
            suffix=f"_x{chosen:g}" if suffix is None else suffix,
            ext=ext,
            controls={"scale": chosen, "ensemble": ensemble},
            quality=quality,
            overwrite=overwrite,
            recursive=not no_recursive,
            dry_run=dry_run,
            as_json=as_json,
        )

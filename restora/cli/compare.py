"""`restora compare`: one picture through several models, on a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora compare bicubic fsrcnn_x4 carn_m.pth --input old.jpg -o sheet.png")
    def compare(
        models: Annotated[list[str], typer.Argument(help="Model names or checkpoint files of one task.")],
        picture: Annotated[Path, typer.Option("-i", "--input", help="The picture to restore.")],
        reference: Annotated[
            Path | None, typer.Option("-r", "--reference", help="The clean picture, for scores.")
        ] = None,
        output: Annotated[
            Path, typer.Option("-o", "--output", help="The sheet: a PNG, or another picture format.")
        ] = Path("sheet.png"),
        crop: Annotated[
            str | None, typer.Option(help="Region of the result as left,top,width,height; else where they differ most.")
        ] = None,
        scale: Annotated[int | None, typer.Option("-s", "--scale", help="Scale of super-resolution.", min=1)] = None,
        sigma: Annotated[
            float | None, typer.Option(help="Noise level on the 0-255 scale, for models that ask for it.", min=0)
        ] = None,
        protocol: Annotated[str, typer.Option("-p", "--protocol", help="Of the scores; chosen by task.")] = "",
        tile: o.Tile = None,
        device: o.Device = "auto",
        precision: o.Precision = "auto",
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Restore a picture with several models and draw the results, crops and difference maps side by side."""
        import json

        from restora import evaluation
        from restora.engine import Settings, set_threads
        from restora.errors import UsageError
        from restora.io import Picture

        box = None
        if crop:
            try:
                left, top, width, height = (int(n) for n in crop.split(","))
                box = left, top, width, height
            except ValueError as error:
                raise UsageError(f"A crop has the form left,top,width,height, not '{crop}'.") from error
        controls: dict[str, Any] = {} if sigma is None else {"sigma": sigma}
        set_threads(threads)
        settings = Settings(device, precision, tile, threads=threads)  # type: ignore[arg-type]
        found = evaluation.compare(
            models, picture, reference, scale=scale, protocol=protocol, crop=box, settings=settings, **controls
        )
        Picture.from_array(found.sheet).save(output)
        for note in found.notes:
            typer.echo(f"Warning: {note}", err=True)
        for r in found.results:
            if as_json:
                facts = {
                    "model": r.name,
                    "seconds": r.seconds,
                    "psnr": r.psnr,
                    "ssim": r.ssim,
                    "protocol": found.protocol,
                }
                typer.echo(json.dumps(facts, ensure_ascii=False))
                continue
            scores = f"  {r.psnr:.2f} dB  SSIM {r.ssim:.4f}  ({found.protocol})" if r.psnr is not None else ""
            typer.echo(f"{r.name:<24}{r.seconds:7.2f} s{scores}")
        if not as_json:
            typer.echo(f"Sheet: {output}")

"""`restora bench`: measures models on test sets under a named protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora bench fsrcnn_x4 carn_m.pth --data Set5 --protocol sr-y --scale 4 -o bench/")
    def bench(
        models: Annotated[
            list[str] | None, typer.Argument(help="Model names or checkpoint files; none for the baselines.")
        ] = None,
        data: Annotated[
            Path | None, typer.Option(help="Folder with test pictures: HRx4 and LRx4, sharp and blur...")
        ] = None,
        protocol: Annotated[str, typer.Option("-p", "--protocol", help="How to measure; 'list' shows all.")] = "sr-y",
        scale: Annotated[int | None, typer.Option("-s", "--scale", help="Scale of super-resolution.", min=1)] = None,
        task: Annotated[
            str, typer.Option(help="super-resolution, denoise, deblur or dejpeg; the protocol's own.")
        ] = "",
        sigma: Annotated[float, typer.Option(help="Noise added to clean pictures, on the 0-255 scale.", min=0)] = 25.0,
        quality: Annotated[int, typer.Option(help="JPEG quality put on clean pictures.", min=1, max=100)] = 10,
        metrics: Annotated[
            str, typer.Option(help="Further columns, with commas: lpips,niqe,ms_ssim; 'list' shows all.")
        ] = "",
        why: Annotated[bool, typer.Option("--why", help="Also measure in the neighbouring ways.")] = False,
        expect: Annotated[
            str | None, typer.Option(help="What another table says (28.42 or 28.42/0.8104); implies --why.")
        ] = None,
        output: Annotated[
            Path, typer.Option("-o", "--output", help="Folder for tables, page, pictures, cache.")
        ] = Path("bench"),
        limit: Annotated[int | None, typer.Option(help="Only the first so many pictures.", min=1)] = None,
        ensemble: o.Ensemble = False,
        tile: o.Tile = 0,
        device: o.Device = "auto",
        precision: o.Precision = "float32",
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Measure models on a test set: means and images, baselines, time, memory; as JSON, CSV, Markdown and a page.

        Whole pictures in one piece and in float32 by default, as published numbers are made. A run that was stopped goes
        on with the same command.
        """
        from restora import evaluation
        from restora.errors import UsageError

        if protocol == "list" or metrics == "list":
            _list(protocol == "list")
            return
        if data is None:
            raise UsageError("Name the folder with the test pictures (--data Set5).")
        from restora.engine import Settings, set_threads
        from restora.evaluation import report
        from restora.evaluation.why import parse_expectation

        expected = parse_expectation(expect) if expect else None
        set_threads(threads)
        settings = Settings(device, precision, tile, ensemble, threads)  # type: ignore[arg-type]
        result = evaluation.bench(
            models or [],
            data,
            protocol,
            scale,
            task=task,
            sigma=sigma,
            quality=quality,
            extra=[m.strip() for m in metrics.split(",") if m.strip()],
            why=why or expected is not None,
            limit=limit,
            output=output,
            settings=settings,
            report=_progress(as_json),
        )
        paths = report.write(result, output)
        if as_json:
            import json

            typer.echo(json.dumps({"event": "result", **result.to_dict()}, ensure_ascii=False))
        else:
            typer.echo(report.as_markdown(result))
        if why or expected:
            _explain(result, expected, as_json)
        if not as_json:
            typer.echo(f"Tables, page and pictures: {paths['report.html']}")
        if any(row.error for row in result.rows):
            raise typer.Exit(1)


def _explain(result: Any, expected: tuple[float, float | None] | None, as_json: bool) -> None:
    import dataclasses
    import json

    from restora.evaluation.why import explain

    rows = [r for r in result.rows if r.kind == "model" and r.scores] or [
        r for r in result.rows if r.kind == "baseline"
    ]
    for row in rows:
        own = row.mean("psnr", result.protocol.average)
        explanation = explain(result, row, *(expected or (own, None)))
        if as_json:
            typer.echo(json.dumps({"event": "why", **dataclasses.asdict(explanation)}, ensure_ascii=False))
            continue
        if expected:
            typer.echo(explanation.verdict)
        else:
            typer.echo(f"{row.name} in the neighbouring ways of measuring:")
        for candidate in explanation.candidates:
            typer.echo(f"    {candidate}")


def _list(protocols: bool) -> None:
    if protocols:
        from restora.evaluation import protocols as known

        for p in known().values():
            typer.echo(f"{p.label:<16}{p.description}")
        return
    from restora.evaluation.measures import EXTRA

    for name, what in EXTRA.items():
        typer.echo(f"{name:<16}{what}")


def _progress(as_json: bool) -> Any:
    import json
    import sys

    live = sys.stderr.isatty() and not as_json
    total = 0

    def show(event: str, data: dict[str, Any]) -> None:
        nonlocal total
        if event == "row":
            total = data["images"]
        if as_json:
            if event != "row":
                kept = {k: v for k, v in data.items() if k not in ("nearby", "bands")}
                typer.echo(json.dumps({"event": event, **kept}, ensure_ascii=False))
        elif event == "failed":
            typer.echo(f"{data['row']} failed: {data['error']}", err=True)
        elif live and event == "image":
            end = "\n" if data["number"] == total else ""
            typer.echo(
                f"\r{data['row']}: {data['number']}/{total} {data['psnr']:.2f} dB\033[K{end}", nl=False, err=True
            )
        elif event == "image" and data["number"] == total:
            typer.echo(f"{data['row']}: {total} pictures", err=True)

    return show

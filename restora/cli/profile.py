"""`restora profile`: what a network costs."""

from __future__ import annotations

from typing import Annotated

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora profile carn_m fsrcnn_x4 --size 1280x720 --scale 4")
    def profile(
        models: Annotated[list[str], typer.Argument(help="Network variants, model names or checkpoint files.")],
        size: Annotated[str, typer.Option(help="Width x height of the output, as the papers count.")] = "1280x720",
        scale: Annotated[int | None, typer.Option("-s", "--scale", help="Only this scale.")] = None,
        dry: Annotated[bool, typer.Option("--dry", help="Only count; measure neither time nor memory.")] = False,
        repeats: Annotated[int, typer.Option(help="Timed runs; the median counts.", min=1)] = 3,
        device: o.Device = "auto",
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Count parameters, Mult-Adds and activations, measure memory and time, and check the counts against the papers'."""
        import dataclasses
        import json

        from restora.engine import set_threads
        from restora.evaluation import profiling
        from restora.evaluation.profiling import parse_size

        wanted = parse_size(size)
        set_threads(threads)
        found = [profiling.profile(m, wanted, scale, run=not dry, repeats=repeats, device=device) for m in models]
        if as_json:
            for p in found:
                typer.echo(json.dumps(dataclasses.asdict(p), ensure_ascii=False))
        else:
            typer.echo(profiling.as_table(found))
        if any(p.agrees is False for p in found):
            raise typer.Exit(1)

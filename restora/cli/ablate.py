"""`restora ablate`: trains a recipe in several forms from several seeds, and prints one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(
        epilog="Example: restora ablate fsrcnn.small network.config.m=1,2,4 --seeds 3 --data photos/ --validation others/"
    )
    def ablate(
        name: Annotated[
            str | None, typer.Argument(help="An ablation (name or file), or a recipe whose keys are to be varied.")
        ] = None,
        changes: Annotated[
            list[str] | None, typer.Argument(help="key=value for all rows, key=a,b,c to vary; several are combined.")
        ] = None,
        data: Annotated[Path | None, typer.Option(help="Folder of clean photographs to train on.")] = None,
        validation: Annotated[Path | None, typer.Option(help="Folder of other photographs to measure on.")] = None,
        seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each row; the file's, or 3.")] = None,
        runs: Annotated[Path, typer.Option(help="Where the ablation's folder is made.")] = Path("runs"),
        time_limit: Annotated[
            str | None,
            typer.Option(help="Stop cleanly after this long, for example 25m, 2h; the same command goes on."),
        ] = None,
        device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
        threads: o.Threads = None,
        list_all: Annotated[bool, typer.Option("--list", help="List the ablations that come with Restora.")] = False,
        as_json: o.Json = False,
    ) -> None:
        """Train a recipe in several forms and from several seeds; print mean and deviation of each as one table.

        Each run has a folder of its own. Ctrl-C or the time limit stop it with a checkpoint; the same command goes on, and does
        nothing twice.
        """
        from restora.errors import UsageError
        from restora.training import seconds
        from restora.training.ablation import ablations, load_ablation, run_ablation

        if list_all:
            for known in ablations():
                found = load_ablation(known)
                told = {
                    "name": known,
                    "rows": len(found.rows()),
                    "seeds": len(found.seeds),
                    "description": found.description,
                }
                text = (
                    f"{known}: {found.description} ({len(found.rows())} rows, {len(found.seeds)} seeds, {found.recipe})"
                )
                typer.echo(json.dumps(told) if as_json else text)
            return
        if name is None:
            raise UsageError("Which ablation? `restora ablate --list` lists those that come with Restora.")
        if data is None or validation is None:
            raise UsageError("An ablation takes --data FOLDER (to learn from) and --validation FOLDER (to measure on).")
        ablation = load_ablation(name, changes or [], seeds)

        def show(line: dict[str, Any]) -> None:
            if as_json and line["event"] != "progress":
                typer.echo(json.dumps(line))
            elif line["event"] == "result" and not as_json:
                typer.echo(f"{line['row']}, seed {line['seed']}: {line['score']:.3f} dB in {line['seconds']:.0f} s")

        limit = seconds(time_limit) if time_limit else None
        table = run_ablation(
            ablation, data, validation, runs, time_limit=limit, threads=threads, device=device, report=show
        )
        if as_json:
            typer.echo(json.dumps({"event": "table", **json.loads(table.json())}))
        else:
            typer.echo("\n" + table.markdown())
        if not table.finished:
            typer.echo("Stopped before the end; the same command goes on.", err=True)
            raise typer.Exit(130)

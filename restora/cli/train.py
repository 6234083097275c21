"""`restora train`: trains a network from a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora train fsrcnn_x4 --data photos/ --validation other-photos/ --time-limit 25m")
    def train(
        recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a bundled recipe.")],
        data: Annotated[Path, typer.Option(help="Folder of clean photographs to train on.")],
        validation: Annotated[Path, typer.Option(help="Folder of other photographs to measure on.")],
        overrides: Annotated[
            list[str] | None, typer.Argument(help="Changes such as steps=2000 or optimiser.lr=0.0005.")
        ] = None,
        runs: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
        resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
        time_limit: Annotated[
            str | None, typer.Option(help="Stop cleanly after this long, for example 90s, 25m, 2h.")
        ] = None,
        device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Train a network from a recipe. Ctrl-C or the time limit stop it with a checkpoint; --resume goes on exactly there."""
        from restora.cli._report import duration
        from restora.training import Trainer, export, find_recipe, load_recipe, seconds

        def show(line: dict[str, Any]) -> None:
            if as_json:
                typer.echo(json.dumps(line))
                return
            left = (line["steps"] - line["step"]) / max(line["steps_per_second"], 1e-9)
            typer.echo(
                f"step {line['step']}/{line['steps']}  loss {line['loss']:.5f}  validation {line['validation']:.3f} dB "
                f"(best {line['best']:.3f}, bicubic {line['bicubic']:.3f})  {line['steps_per_second']:.1f} steps/s, "
                f"data {line['data_share']:.0%}, {duration(left)} left"
            )

        limit = seconds(time_limit) if time_limit else None
        trainer = Trainer(load_recipe(find_recipe(recipe), overrides), data, validation, runs, threads, device, show)
        trainer.run(resume, limit)
        if trainer.step >= trainer.recipe.steps:
            path = export(trainer)
            typer.echo(f"Trained. Weights and card: {path} and {path.with_suffix('.yaml')}", err=as_json)
        else:
            typer.echo(f"Stopped at step {trainer.step}; go on with the same command and --resume.", err=as_json)

"""`restora train`: trains a network from a recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restora.cli import _options as o

if TYPE_CHECKING:
    from restora.training import Trained

_MEASURING = "Recipes"


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora train fsrcnn_x4 --data photos/ --validation other-photos/ --time-limit 25m")
    def train(
        recipe: Annotated[str | None, typer.Argument(help="A recipe file, or the name of a bundled recipe.")] = None,
        overrides: Annotated[
            list[str] | None, typer.Argument(help="Changes such as steps=2000 or optimiser.lr=0.0005.")
        ] = None,
        data: Annotated[
            list[str] | None,
            typer.Option(help="Folder of clean photographs to train on; NAME=FOLDER for a further source of a task."),
        ] = None,
        validation: Annotated[Path | None, typer.Option(help="Folder of other photographs to measure on.")] = None,
        runs: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
        resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
        time_limit: Annotated[
            str | None, typer.Option(help="Stop cleanly after this long, for example 90s, 25m, 2h.")
        ] = None,
        device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
        precision: Annotated[str | None, typer.Option(help="float32, bf16 or fp16; the recipe's by default.")] = None,
        processes: Annotated[
            int, typer.Option(min=1, help="Processes on this machine, one a device (needs restora[train]).")
        ] = 1,
        threads: o.Threads = None,
        tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
        list_recipes: Annotated[
            bool, typer.Option("--list", rich_help_panel=_MEASURING, help="List the bundled recipes.")
        ] = False,
        show: Annotated[
            bool,
            typer.Option("--show", rich_help_panel=_MEASURING, help="Print the recipe with all its keys, and stop."),
        ] = False,
        show_schema: Annotated[
            bool, typer.Option("--schema", rich_help_panel=_MEASURING, help="Print the JSON schema of recipes.")
        ] = False,
        import_options: Annotated[
            Path | None,
            typer.Option(rich_help_panel=_MEASURING, help="Print the recipe for an option file of the BasicSR kind."),
        ] = None,
        as_json: o.Json = False,
    ) -> None:
        """Train a network from a recipe. Ctrl-C or the time limit stop it with a checkpoint; --resume goes on exactly there."""
        from restora.errors import UsageError

        if list_recipes:
            return _list(as_json)
        if show_schema:
            from restora.training import schema

            return typer.echo(json.dumps(schema(), indent=2))
        if import_options is not None:
            return _import(import_options)
        if recipe is None:
            raise UsageError("Which recipe? `restora train --list` lists the bundled ones.")
        changes = [*(overrides or []), *([f"precision={precision}"] if precision else [])]
        from restora.training import find_recipe, load_recipe

        loaded = load_recipe(find_recipe(recipe), changes)
        if show:
            import yaml

            return typer.echo(yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        if not data or validation is None:
            raise UsageError("Training takes --data FOLDER (to learn from) and --validation FOLDER (to measure on).")
        from restora.training import seconds, train
        from restora.training.processes import processes as plumbing

        limit = seconds(time_limit) if time_limit else None
        place = plumbing(device, processes)
        with _Progress(as_json) as progress:
            done = train(
                loaded,
                _sources(data),
                validation,
                runs,
                resume=resume,
                time_limit=limit,
                threads=threads,
                device=place,
                report=progress,
                tensorboard=tensorboard,
            )
        if place.rank == 0:
            _tell(done, as_json)


def _sources(data: list[str]) -> dict[str, Path]:
    """`FOLDER` is the main source, `NAME=FOLDER` a further one; a folder whose own name has a '=' is meant as it stands."""
    found: dict[str, Path] = {}
    for text in data:
        name, equals, folder = text.partition("=")
        named = equals and name.isidentifier() and not Path(text).exists()
        found[name if named else ""] = Path(folder if named else text)
    found.setdefault("", next(iter(found.values())))
    return found


def _tell(done: Trained, as_json: bool) -> None:
    if done.finished:
        typer.echo(
            f"Trained. Weights, card and curve: {done.weights}, {done.card}, {done.folder / 'curve.png'}", err=as_json
        )
    else:
        at = f" of stage {done.stage}" if done.stage else ""
        typer.echo(
            f"Stopped at step {done.step} of {done.steps}{at}; go on with the same command and --resume.", err=as_json
        )


class _Progress:
    """Validations as lines; on a terminal also a live line with rate, loss and time left; or everything as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> _Progress:
        if not self.as_json and sys.stdout.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[now]}"),
            )
            self.bar = Progress(*columns, console=Console(highlight=False, soft_wrap=True), transient=True)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, line: dict[str, Any]) -> None:
        from restora.cli._report import duration

        event = line["event"]
        if self.as_json:
            if event != "progress":
                typer.echo(json.dumps(line))
            return
        if event == "progress" and self.bar is not None:
            if self.task is None:
                self.task = self.bar.add_task("", now="")
            now = (
                f"step {line['step']}/{line['steps']}  loss {line['loss']:.5f}  {line['steps_per_second']:.1f} steps/s, "
                f"data {line['data_share']:.0%}, {duration(line['left'])} left"
            )
            self.bar.update(
                self.task,
                description=line.get("stage", "training"),
                completed=line["step"],
                total=line["steps"],
                now=now,
            )
        elif text := _text(line):
            (self.bar.console.print if self.bar is not None else typer.echo)(text)


def _text(line: dict[str, Any]) -> str:
    """A line of progress for people; empty for what is not worth one."""
    stage = f"{line['stage']}: " if "stage" in line else ""
    head = f"{stage}step {line['step']}/{line['steps']}"
    if line["event"] == "start":
        return _started(stage, line)
    if line["event"] == "recovered":
        return (
            f"{head}  {' and '.join(line['terms'])} was no finite number in step {line['failed']}: back at step {line['step']} "
            f"with {line['lr_factor']:g} times the learning rate (try {line['try']})"
        )
    if line["event"] == "validation" and "validation" in line:
        cases = "  ".join(f"{name} {value:.2f}" for name, value in line.get("cases", {}).items())
        plain = "" if line["plain"] == "bicubic" else f"input {line['input']:.3f}, "
        return (
            f"{head}  validation {line['validation']:.3f} dB (best {line['best']:.3f}, {plain}{line['plain']} "
            f"{line['baseline']:.3f})  {cases}".rstrip()
        )
    if line["event"] == "train":
        return (
            f"{head}  loss {line['loss']:.5f}  {line['steps_per_second']:.1f} steps/s, data {line['data_share']:.0%}"
            if line["step"] % 1000 == 0
            else ""
        )
    return ""


def _started(stage: str, line: dict[str, Any]) -> str:
    """What is not as one would think: the precision, and how little of another's weights fits."""
    said = []
    if line["precision"] != line["asked"]:
        said.append(f"{stage}trains in {line['precision']}: this CPU has no instructions for {line['asked']}")
    if line["taken"] and line["taken"][0] < line["taken"][1] and not line["step"]:
        said.append(f"{stage}starts with {line['taken'][0]} of {line['taken'][1]} tensors; the others are fresh")
    return "\n".join(said)


def _list(as_json: bool) -> None:
    from restora.training import bundled_recipes, load_recipe

    rows = [load_recipe(path) for path in bundled_recipes().values()]
    if as_json:
        for row in rows:
            keys = {"name", "description", "budget", "procedure", "steps"}
            typer.echo(
                json.dumps({**row.model_dump(include=keys), "variant": row.network.variant, "task": row.task["kind"]})
            )
        return
    width = max(len(row.name) for row in rows)
    for row in rows:
        typer.echo(f"{row.name:<{width}}  {row.description}{f' ({row.budget})' if row.budget else ''}")


def _import(path: Path) -> None:
    import yaml

    from restora.training.basicsr import import_options

    recipe, lost = import_options(path)
    for sentence in lost:
        typer.echo(f"not carried over: {sentence}", err=True)
    typer.echo(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))

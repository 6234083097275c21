"""`restora degrade`: makes degraded pictures from clean ones, in pairs, and can make them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restora.cli import _options as o

if TYPE_CHECKING:
    from restora.degradation import Degradation


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora degrade photos/ -o pairs/ --recipe realesrgan-x4 --seed 1 --workers 4")
    def degrade(
        inputs: Annotated[
            list[str] | None, typer.Argument(help="Clean pictures, folders, or quoted patterns.", metavar="INPUT...")
        ] = None,
        output: Annotated[
            Path, typer.Option("-o", "--output", help="Folder for degraded and clean files, kernels and the manifest.")
        ] = Path("degraded"),
        recipe: Annotated[str, typer.Option("--recipe", help="A name (see --list) or a .yaml or .json file.")] = "",
        seed: Annotated[int, typer.Option("--seed", help="Decides everything that is drawn.")] = 0,
        variants: Annotated[int, typer.Option("--variants", help="How often each picture is drawn.", min=1)] = 1,
        centre: Annotated[
            int | None, typer.Option("--centre-crop", help="Side of a centre crop taken first.", min=1)
        ] = None,
        side: Annotated[int | None, typer.Option("--crop-size", help="Cut sub-images of this side.", min=1)] = None,
        step: Annotated[
            int | None, typer.Option("--crop-step", help="Pixels between sub-images (the side by default).", min=1)
        ] = None,
        clips: Annotated[
            bool, typer.Option("--clips", help="The pictures of a folder are the frames of one clip.")
        ] = False,
        split: Annotated[
            str | None, typer.Option("--split", help="Write split.json: shares for train/validation/test, as 80/10/10.")
        ] = None,
        check_against: Annotated[
            Path | None,
            typer.Option("--check-against", help="A folder of test pictures; inputs that show the same are refused."),
        ] = None,
        replay: Annotated[
            Path | None, typer.Option("--replay", help="A manifest: make its files again from the same inputs.")
        ] = None,
        workers: Annotated[
            int,
            typer.Option(
                "--workers", help="Processes; the bytes do not depend on it.", min=1, rich_help_panel=o.RUNNING
            ),
        ] = 1,
        overwrite: Annotated[
            bool,
            typer.Option("--overwrite", help="Write into a folder that holds a manifest.", rich_help_panel=o.WRITING),
        ] = False,
        no_recursive: o.Flat = False,
        list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
        as_json: o.Json = False,
    ) -> None:
        """Degrade clean pictures: pairs for training and tests.

        Writes degraded/ and clean/ under the same names, kernels/, and manifest.json, from which --replay makes the same
        bytes again. A recipe file holds what Degradation.to_dict() gives, or the name of a recipe.
        """
        from restora import jobs
        from restora.degradation import files as work
        from restora.degradation import recipes
        from restora.degradation.datasets import Cutting
        from restora.errors import UsageError

        if list_recipes:
            typer.echo("\n".join(recipes()))
            return
        if not inputs:
            raise UsageError("Name the pictures or folders to degrade.")
        if bool(recipe) == bool(replay):
            raise UsageError("Give either --recipe NAME (see --list) or --replay MANIFEST.")
        if (output / work.MANIFEST).exists() and not overwrite:
            raise UsageError(f"'{output}' already holds a manifest; choose another folder, or --overwrite.")
        found = jobs.expand(inputs, not no_recursive)
        if check_against is not None:
            _refuse_leaks([file for file, _ in found], check_against)
        shares = _shares(split) if split else {}

        def tell(outcome: Any) -> None:
            if as_json:
                _echo(
                    {
                        "event": "failed" if outcome.error else "done",
                        "source": outcome.source,
                        "pairs": len(outcome.pairs),
                        "error": outcome.error,
                    }
                )
            elif outcome.error:
                typer.echo(f"failed: {outcome.error}", err=True)
            else:
                typer.echo(f"{outcome.source}: {len(outcome.pairs)} pair" + ("" if len(outcome.pairs) == 1 else "s"))

        if replay is not None:
            report = work.replay_files(replay, found, output, workers, tell)
        else:
            chain = _recipe(recipe)
            cutting = Cutting(centre, side, step, work.multiple_of(chain))
            report = work.degrade_files(
                found, output, chain, seed, variants=variants, cutting=cutting, clips=clips, workers=workers, done=tell
            )
        if shares:
            from restora.degradation.datasets import split as divide

            sources = {name: pair["sources"][0] for pair in report.pairs for name in pair["names"]}
            divide(list(sources), shares, seed, sources.__getitem__).save(output / "split.json")
        if as_json:
            _echo({"event": "end", "pairs": len(report.pairs), "failed": len(report.failed)})
        else:
            typer.echo(
                f"{len(report.pairs)} pairs in '{output}'"
                + (f", {len(report.failed)} inputs failed." if report.failed else ".")
            )
        if report.failed:
            raise typer.Exit(1)


def _echo(event: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps({k: v for k, v in event.items() if v != ""}, ensure_ascii=False))


def _recipe(text: str) -> Degradation:
    """A recipe by name or from a file."""
    import yaml

    from restora.degradation import Degradation, from_dict, recipe
    from restora.errors import UsageError

    path = Path(text)
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        return recipe(text)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"The recipe '{path}' cannot be read: {error}.") from error
    made = recipe(data) if isinstance(data, str) else from_dict(data)
    if not isinstance(made, Degradation):
        raise UsageError(f"The recipe '{path}' describes no degradation.")
    return made


def _shares(text: str) -> dict[str, float]:
    from restora.errors import UsageError

    try:
        values = [float(v) for v in text.replace(",", "/").split("/")]
    except ValueError:
        values = []
    if len(values) not in (2, 3) or min(values) < 0 or sum(values) <= 0:
        raise UsageError(f"A split is two or three shares such as 80/10/10, not '{text}'.")
    names = ("train", "validation", "test") if len(values) == 3 else ("train", "test")
    return {name: v / sum(values) for name, v in zip(names, values, strict=True)}


def _refuse_leaks(train: list[Path], folder: Path) -> None:
    from restora import jobs
    from restora.degradation.datasets import leaks
    from restora.errors import UsageError

    test = [file for file, _ in jobs.expand([str(folder)])]
    found = leaks(train, test)
    for leak in found[:20]:
        how = " mirrored" if leak.mirrored else ""
        typer.echo(
            f"'{leak.first}' shows the same as '{leak.second}'{how} ({leak.distance} of 64 bits differ).", err=True
        )
    if found:
        raise UsageError(
            f"{len({leak.first for leak in found})} inputs are also in '{folder}': leave them out. Nothing was written."
        )

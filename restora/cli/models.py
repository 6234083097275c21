"""`restora models`: what is installed, what it can do, and adding more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the group of commands."""
    group = typer.Typer(no_args_is_help=True, help="List, show, fetch and import models.")
    app.add_typer(group, name="models")

    @group.command("list")
    def list_(
        pattern: Annotated[str, typer.Argument(help="Shell pattern on the name, for example '*x4*'.")] = "*",
        task: Annotated[str | None, typer.Option(help="Only this task, for example super-resolution.")] = None,
        licence: Annotated[str | None, typer.Option(help="Shell pattern on the SPDX licence.")] = None,
        as_json: o.Json = False,
    ) -> None:
        """List the models that can be used."""
        from restora import zoo

        found = zoo.list_models(pattern, task=task, licence=licence)
        if as_json:
            for card in found:
                typer.echo(json.dumps(card.model_dump(mode="json"), ensure_ascii=False))
            return
        if not found:
            typer.echo(f"No model matches '{pattern}'.")
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("name", "task", "scales", "parameters", "licence", "origin"):
            table.add_column(title, justify="right" if title == "parameters" else "left", no_wrap=title == "name")
        for card in found:
            scales = ", ".join(f"x{s}" for s in card.scales)
            origin = ("bundled" if card.bundled else "imported") + (", default" if card.default else "")
            table.add_row(card.name, card.task, scales, f"{card.parameters:,}", card.licence, origin)
        console = Console(highlight=False)
        console.print(table, width=None if console.is_terminal else 140, soft_wrap=not console.is_terminal)

    @group.command()
    def show(name: str, as_json: o.Json = False) -> None:
        """Show a model's card: what it is for, how it was trained, what it scores."""
        from restora import zoo

        card = zoo.find(name)
        if as_json:
            typer.echo(json.dumps(card.model_dump(mode="json"), ensure_ascii=False))
            return
        import yaml

        typer.echo(
            yaml.safe_dump(
                card.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=110
            ).rstrip()
        )
        from restora.restorers import UpscaleControls

        typer.echo("controls:")
        for key, value in UpscaleControls.model_json_schema()["properties"].items():
            typer.echo(f"  {key}: {value['description']}")

    @group.command()
    def get(name: str) -> None:
        """Make sure that a model's weights are on this machine and undamaged."""
        from restora import zoo
        from restora.cli._report import size

        card = zoo.find(name)
        path = zoo.fetch(card, lambda done, total: typer.echo(f"\r{size(done)} of {size(total)}", nl=False, err=True))
        typer.echo(f"{card.name}: {size(path.stat().st_size)}, checksum verified ({path}).")

    @group.command("import")
    def import_(
        path: Annotated[Path, typer.Argument(help="A checkpoint: .pth, .pt or .safetensors.")],
        name: Annotated[
            str | None, typer.Option(help="What follows the variant in its name; the file's name by default.")
        ] = None,
        licence: Annotated[str, typer.Option(help="SPDX licence of the weights, for your own record.")] = "unknown",
        scale: Annotated[
            int | None, typer.Option("-s", "--scale", help="Its scale, where the file cannot tell.")
        ] = None,
    ) -> None:
        """Take a checkpoint of your own into the collection. Its network is recognised from its content; no code in it runs."""
        from restora import zoo

        card = zoo.import_model(path, name, licence, scale)
        scales = ", ".join(f"x{s}" for s in card.scales)
        typer.echo(f"Imported as '{card.name}' ({card.variant}, {scales}, {card.parameters:,} parameters).")

    @group.command()
    def export(
        name: Annotated[
            str, typer.Argument(help="A model, a checkpoint file, or a network variant (then with random weights).")
        ],
        output: Annotated[Path, typer.Option("-o", "--output", help="The ONNX file to write.")],
        scale: Annotated[
            int | None, typer.Option("-s", "--scale", help="Fixed in the file, for networks of several.")
        ] = None,
    ) -> None:
        """Write a network as ONNX, and check the file against torch."""
        from restora import networks, zoo
        from restora.engine import NetworkOperator
        from restora.errors import UnknownModel
        from restora.zoo.onnx import export_onnx

        if zoo.looks_like_path(name):
            net = zoo.identify_file(name, scale)[0]
        else:
            try:
                net = zoo.load_network(zoo.find(name))
            except UnknownModel:
                net = networks.create(name)
        done = export_onnx(net, output, NetworkOperator(net, scale).controls)
        size = "any height and width" if done.dynamic else f"{done.sizes[0][1]}x{done.sizes[0][0]} only"
        checked = "not checked (pip install onnxruntime)"
        if done.difference is not None:
            checked = f"differs from torch by at most {done.difference:.1e} of the range"
        typer.echo(f"{done.path}: {size}; {checked}.")

    @group.command()
    def remove(name: str) -> None:
        """Remove an imported model."""
        from restora import zoo

        zoo.remove(name)
        typer.echo(f"Removed '{name}'.")

"""`restora models`: what is installed, what it can do, and adding more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
    def networks(
        pattern: Annotated[str, typer.Argument(help="Shell pattern on the variant, for example 'swinir*'.")] = "*",
        as_json: o.Json = False,
    ) -> None:
        """List the networks that can be built, trained, and loaded from checkpoints of your own."""
        from restora import networks as room

        chosen = set(room.variants(pattern))
        for family in room.families().values():
            variants = [v for v in family.variants if v in chosen]
            if variants and as_json:
                typer.echo(
                    json.dumps({"family": family.name, "paper": family.paper, "variants": variants}, ensure_ascii=False)
                )
            elif variants:
                typer.echo(f"{family.name}: {', '.join(variants)}\n    {family.paper}")

    @group.command()
    def show(
        name: Annotated[str, typer.Argument(help="A model, or a network variant.")],
        as_json: o.Json = False,
    ) -> None:
        """Show a model's card and its network: what it is for, how it was trained, what it scores, how it is built."""
        import yaml

        from restora import networks, zoo
        from restora.errors import UnknownModel

        try:
            card = zoo.find(name)
        except UnknownModel:
            if name not in networks.variants():
                raise
            card = None
        facts: dict[str, Any] = {} if card is None else card.model_dump(mode="json", exclude_defaults=not as_json)
        facts["network"] = _network(card.variant if card is not None else name)
        if as_json:
            typer.echo(json.dumps(facts, ensure_ascii=False))
        else:
            typer.echo(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=110).rstrip())

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


def _network(variant: str) -> dict[str, Any]:
    """A network's architecture in one screen: what it takes, what it costs, what it is made of."""
    from restora import evaluation, networks
    from restora.restorers.enhance import controls_of
    from restora.restorers.upscale import UpscaleControls

    family = networks.family_of(variant)
    net = networks.create(variant)
    spec: Any = net.spec
    costs = evaluation.profile(variant, run=False).costs
    enlarges = spec.task == "super-resolution"
    schema = (UpscaleControls if enlarges else controls_of(spec)).model_json_schema(mode="serialization")
    return {
        "variant": variant,
        "paper": family.paper or spec.source,
        "configuration": dict(family.variants[variant]),
        "task": spec.task,
        "colour": f"{spec.colour}, {spec.channels} channel(s)",
        "scales": [f"x{s}" for s in spec.scales],
        "sizes": f"multiples of {spec.multiple_of}, from {spec.minimum} (the engine pads)",
        "receptive field": f"{spec.tiling.radius} pixels on each side",
        "tiling promise": str(spec.tiling),
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "Mult-Adds at 1280x720": {f"x{c.scale}": f"{c.mult_adds / 1e9:.1f} G" for c in costs},
        "blocks": {
            name: f"{type(child).__name__}, {sum(p.numel() for p in child.parameters()):,} parameters"
            for name, child in net.named_children()
        },
        "controls": {k: v.get("description", "") for k, v in schema["properties"].items()},
    }

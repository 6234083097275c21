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
        name: Annotated[str, typer.Argument(help="A model, a network variant, or a checkpoint file.")],
        as_json: o.Json = False,
    ) -> None:
        """Show a model's card and its network: what it is for, how it was trained, what it scores, how it is built, what
        controls it has."""
        import yaml

        from restora import networks, zoo
        from restora.errors import UnknownModel

        facts: dict[str, Any] = {}
        config: dict[str, Any] = {}
        if zoo.looks_like_path(name):
            net, variant = zoo.identify_file(name)
        else:
            try:
                card = zoo.find(name)
                facts, variant = card.model_dump(mode="json", exclude_defaults=not as_json), card.variant
                config = card.config
            except UnknownModel:
                if name not in networks.variants():
                    raise
                variant = name
            net = networks.create(variant, **config)
        facts["network"] = _network(net, variant)
        if as_json:
            typer.echo(json.dumps(facts, ensure_ascii=False))
        else:
            typer.echo(yaml.safe_dump(_one_line_lists(facts), sort_keys=False, allow_unicode=True, width=130).rstrip())

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
        path: Annotated[
            Path,
            typer.Argument(help="A checkpoint: .pth, .pt, .safetensors; or a folder, a file for each module."),
        ],
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
        operator = NetworkOperator(net, scale)
        done = export_onnx(net, output, operator.controls)
        size = "any height and width" if done.dynamic else f"{done.sizes[0][1]}x{done.sizes[0][0]} only"
        checked = "not checked (pip install onnxruntime)"
        if done.difference is not None:
            checked = f"differs from torch by at most {done.difference:.1e} of the range"
        before = ""
        if operator.spec.grid == "output" and operator.scale > 1:
            before = f" Its input has the output's size: enlarge {operator.scale} times (bicubic) beforehand."
        typer.echo(f"{done.path}: {size}; {checked}.{before}")

    @group.command()
    def remove(name: str) -> None:
        """Remove an imported model."""
        from restora import zoo

        zoo.remove(name)
        typer.echo(f"Removed '{name}'.")


_SHOWN_SCALES = 4


def _network(net: Any, variant: str) -> dict[str, Any]:
    """A network's architecture in one screen: what it takes, what it costs, what it is made of."""
    from restora import evaluation, networks
    from restora.errors import EngineError
    from restora.restorers.controls import describe
    from restora.restorers.enhance import EnhanceControls
    from restora.restorers.upscale import UpscaleControls

    family = networks.family_of(variant) if variant in networks.variants() else None
    spec = net.spec
    runs_alone = spec.task not in ("discriminator", "part")
    costs = {}
    for scale in spec.scales[:_SHOWN_SCALES] if runs_alone else ():
        try:
            (cost,) = evaluation.profile(net, scale=scale, run=False).costs
            costs[f"x{scale}"] = f"{cost.mult_adds / 1e9:.1f} G"
        except EngineError as error:
            costs[f"x{scale}"] = str(error)
    facts = {
        "variant": variant,
        "paper": (family.paper if family is not None else "") or spec.source,
        "source": spec.source,
        "configuration": _plain(family.variants[variant]) if family is not None else {},
        "task": spec.task,
        "colour": f"{spec.colour}, {spec.channels} channel(s)",
        "scales": [f"x{s}" for s in spec.scales],
        "sizes": f"multiples of {spec.multiple_of}, from {spec.minimum} (the engine pads)",
        "receptive field": f"{spec.tiling.radius} pixels on each side",
        "tiling promise": str(spec.tiling),
        "half precision": "safe" if spec.half_safe else "not safe, run in float32",
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "Mult-Adds at 1280x720": costs or "not run on pictures alone",
        "blocks": _blocks(net),
    }
    if runs_alone:
        common = UpscaleControls if spec.task == "super-resolution" else EnhanceControls
        facts["controls"] = {k: f.description for k, f in common.model_fields.items()}
        facts["controls"] |= {control.name: describe(control) for control in spec.controls}
    return facts


def _blocks(net: Any) -> dict[str, str]:
    """The parts of a network by name; many equal ones that follow each other take one line."""
    import itertools

    blocks = {}
    for text, group in itertools.groupby(net.named_children(), key=lambda part: _block(part[1])):
        names = [name for name, _ in group]
        if len(names) > 2:
            blocks[f"{names[0]} ... {names[-1]}"] = f"{len(names)} x {text}"
        else:
            blocks.update(dict.fromkeys(names, text))
    return blocks


def _block(module: Any) -> str:
    """What a part is made of: its kind, or how many of which kinds; widths; parameters."""
    import itertools

    from torch import nn

    count = f"{sum(p.numel() for p in module.parameters()):,} parameters"
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        kernel = "x".join(map(str, module.kernel_size))
        return f"{type(module).__name__} {kernel}, {module.in_channels} to {module.out_channels} channels, {count}"
    kind = type(module).__name__
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        runs = [(k, len(list(g))) for k, g in itertools.groupby(type(child).__name__ for child in module)]
        shown = [f"{n} x {k}" if n > 1 else k for k, n in runs[:6]] + (["..."] if len(runs) > 6 else [])
        kind = " + ".join(shown) or kind
    convolutions = (m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)))
    widths: list[Any] = sorted({m.out_channels for m in convolutions})
    if len(widths) > 6:
        widths = [*widths[:3], "...", *widths[-2:]]
    return f"{kind}, " + (f"widths {', '.join(map(str, widths))}, " if widths else "") + count


def _plain(value: Any) -> Any:
    """Without tuples, and without an object that occurs twice, which YAML would write as a reference."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {str(k): _plain(v) for k, v in value.items()} if hasattr(value, "items") else value


def _one_line_lists(value: Any) -> Any:
    """Lists of single values as text, so that they take one line."""
    if isinstance(value, dict):
        return {k: _one_line_lists(v) for k, v in value.items()}
    if isinstance(value, list) and value and not any(isinstance(v, (dict, list)) for v in value):
        return ", ".join(map(str, value))
    return [_one_line_lists(v) for v in value] if isinstance(value, list) else value

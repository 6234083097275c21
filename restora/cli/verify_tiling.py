"""`restora verify-tiling`: measures what a network's tiling promise is worth."""

from __future__ import annotations

from typing import Annotated

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command("verify-tiling")
    def verify_tiling(
        model: Annotated[
            str, typer.Argument(help="A model, a checkpoint file, or a network variant (then with random weights).")
        ],
        size: Annotated[str, typer.Option(help="Width x height of the test picture.")] = "317x211",
        tile: o.Tile = 64,
        scale: Annotated[int | None, typer.Option("-s", "--scale", help="Only this scale.")] = None,
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Run a network on a picture in one piece and in tiles, and print the largest difference."""
        import dataclasses
        import json

        import numpy as np

        from restora import engine
        from restora.errors import UsageError

        try:
            width, height = (int(n) for n in size.lower().split("x"))
        except ValueError as error:
            raise UsageError(f"A size has the form 317x211, not '{size}'.") from error
        engine.set_threads(threads)
        net = _network(model, scale)
        picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
        kept = True
        for s in net.spec.scales if scale is None else (scale,):
            found = engine.verify_tiling(engine.NetworkOperator(net, s), picture, tile or 64)
            kept &= found.kept
            if as_json:
                typer.echo(json.dumps({"model": model, "scale": s, **dataclasses.asdict(found), "kept": found.kept}))
            else:
                verdict = "kept" if found.kept else "BROKEN"
                typer.echo(
                    f"{model} x{s}: promise {found.tiling}, {found.tiles} tiles of {found.tile} on {width}x{height}: "
                    f"largest difference {found.largest:.2e}, rms {found.rms:.2e} of the range: {verdict}"
                )
        if not kept:
            raise typer.Exit(1)


def _network(model: str, scale: int | None):  # type: ignore[no-untyped-def]
    """The network itself: from the zoo, a file, or a variant's name."""
    import torch

    from restora import networks, zoo
    from restora.errors import UnknownModel, UsageError

    if zoo.looks_like_path(model):
        net = zoo.identify_file(model, scale)[0]
    else:
        try:
            net = zoo.load_network(zoo.find(model))
        except UnknownModel:
            torch.manual_seed(0)
            net = networks.create(model)
            for parameter in net.parameters():  # a fresh network may be nearly silent, and silence hides errors
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    if net.spec.task == "discriminator":  # type: ignore[union-attr]
        raise UsageError(f"'{model}' is a discriminator: it is not run on pictures in tiles.")
    return net

"""`restora verify-tiling`: measures what a network's tiling promise is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command("verify-tiling")
    def verify_tiling(
        model: Annotated[
            str, typer.Argument(help="A model, a checkpoint file, or a network variant (then with random weights).")
        ],
        size: Annotated[
            str | None,
            typer.Option(help="Width x height of the test picture; by default 317x211, or less for slow networks."),
        ] = None,
        picture: Annotated[
            Path | None, typer.Option(help="A photograph to cut the test picture from; noise by default.")
        ] = None,
        tile: o.Tile = 64,
        scale: Annotated[int | None, typer.Option("-s", "--scale", help="Only this scale.")] = None,
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Run a network on a picture in one piece and in tiles, and print the largest difference.

        The limits are 1e-5 for a promise `exact` and 2/255 for `aligned`. What is `global` is only an approximation: its limit,
        2/255, holds for trained weights on photographs; of random ones the difference is just printed.
        """
        import dataclasses
        import json

        import numpy as np

        from restora import engine
        from restora.errors import UsageError
        from restora.io import Picture

        try:
            wanted = None if size is None else [int(n) for n in size.lower().split("x")]
            sizes = _SIZES if wanted is None else [(wanted[0], wanted[1])]
        except (ValueError, IndexError) as error:
            raise UsageError(f"A size has the form 317x211, not '{size}'.") from error
        engine.set_threads(threads)
        net, trained = _network(model, scale)
        rng = np.random.default_rng(0)
        kept = True
        for s in _some(net.spec.scales) if scale is None else (scale,):
            operator = engine.NetworkOperator(net, s)
            side = tile or 64
            width, height = next(
                (x for x in sizes[:-1] if engine.seconds_of(operator, x[1], x[0], side) < 60), sizes[-1]
            )
            if picture is None:
                pixels = rng.random((height, width, 3), dtype=np.float32)
            else:
                pixels = _crop(Picture.open(picture).pixels, height, width)
            found = engine.verify_tiling(operator, pixels, side)
            judged = trained or found.tiling.kind != "global"
            kept &= found.kept or not judged
            if as_json:
                facts = {
                    "model": model,
                    "scale": s,
                    **dataclasses.asdict(found),
                    "kept": found.kept if judged else None,
                }
                typer.echo(json.dumps(facts))
            else:
                verdict = ("kept" if found.kept else "BROKEN") if judged else "an approximation"
                if not found.tested:
                    verdict += " (not tested: every tile saw the whole picture; take a larger --size)"
                height, width = found.height, found.width
                typer.echo(
                    f"{model} x{s}: promise {found.tiling}, {found.tiles} tiles of {found.tile} on {width}x{height}: "
                    f"largest difference {found.largest:.2e}, rms {found.rms:.2e} of the range: {verdict}"
                )
        if not kept:
            raise typer.Exit(1)


_SIZES = [(317, 211), (221, 147), (157, 107), (117, 79)]


def _some(scales: tuple[int, ...]) -> tuple[int, ...]:
    """Of many scales the first three: the cost grows with their squares, and the layers are the same."""
    return scales if len(scales) <= 4 else scales[:3]


def _crop(pixels: Any, height: int, width: int) -> Any:
    """The middle of a picture as float32 RGB in [0, 1]."""
    import numpy as np

    top, left = max(0, (pixels.shape[0] - height) // 2), max(0, (pixels.shape[1] - width) // 2)
    cut = pixels[top : top + height, left : left + width]
    full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(cut.dtype, 1)
    return np.broadcast_to(cut.astype(np.float32) / np.float32(full), (*cut.shape[:2], 3)).copy()


def _network(model: str, scale: int | None) -> tuple[Any, bool]:
    """The network itself, from the zoo, a file, or a variant's name, and whether its weights are trained ones."""
    import torch

    from restora import networks, zoo
    from restora.engine import enliven
    from restora.errors import UnknownModel, UsageError

    trained = True
    if zoo.looks_like_path(model):
        net = zoo.identify_file(model, scale)[0]
    else:
        try:
            net = zoo.load_network(zoo.find(model))
        except UnknownModel:
            trained = False
            torch.manual_seed(0)
            net = enliven(networks.create(model))
    spec: Any = net.spec
    if spec.task in ("discriminator", "part"):
        what = "a discriminator" if spec.task == "discriminator" else "a part of a larger system"
        raise UsageError(f"'{model}' is {what}: it is not run on pictures in tiles.")
    return net, trained

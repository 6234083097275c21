"""`restora tune`: finds the fastest way to run a model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(epilog="Example: restora tune fsrcnn_x4 --quick")
    def tune(
        models: Annotated[
            list[str], typer.Argument(help="Names from `restora models list`, or checkpoint files.", metavar="MODEL...")
        ],
        quick: Annotated[
            bool, typer.Option("--quick", help="Only torch and OpenVINO, and short runs: some seconds a model.")
        ] = False,
        photos: Annotated[
            Path | None,
            typer.Option(
                help="Folder of photographs that precisions are judged on and int8 is calibrated on.",
                exists=True,
                file_okay=False,
            ),
        ] = None,
        scale: o.Scale = None,
        device: o.Device = "auto",
        threads: o.Threads = None,
        as_json: o.Json = False,
    ) -> None:
        """Find the fastest way to run a model here, and use it from now on.

        Backends, precisions, tile sizes and threads are measured once. What differs from float32 by more than 50 dB on
        photographs is never taken by itself. Pictures with more than 8 bits are always computed in float32.
        """
        import json

        from restora import engine
        from restora.engine.selection import FAITHFUL, best_of
        from restora.engine.tune import Failed
        from restora.engine.tune import tune as measure
        from restora.restorers import load

        place = engine.choose_device(device)
        for model in models:
            restorer = load(model, scale=int(scale) if scale and float(scale).is_integer() else None)
            for network in _networks(restorer, scale):
                name = f"{restorer.name}" + (f" x{network.scale}" if network.scale > 1 else "")
                if not as_json:
                    typer.echo(f"{name} on {engine.machine(place)[0]}")

                def tell(result: Any, name: str = name) -> None:
                    if as_json:
                        kind = "failed" if isinstance(result, Failed) else "measured"
                        typer.echo(json.dumps({"event": kind, "model": name, **_plain(result)}, ensure_ascii=False))
                    elif isinstance(result, Failed):
                        typer.echo(f"  {result.backend:<12} {result.precision:<8} cannot be had: {result.reason}")
                    else:
                        typer.echo("  " + line(result))

                record = measure(
                    network, place, quick=quick, photographs=photos, threads=threads, model=name, tell=tell
                )
                best = best_of(record.measured, None)
                plain = min(
                    (r.seconds for r in record.measured if (r.backend, r.precision) == ("torch", "float32")),
                    default=float("nan"),
                )
                if best is None:
                    continue
                if as_json:
                    typer.echo(
                        json.dumps({"event": "chosen", "model": name, **_plain(best), "gain": plain / best.seconds})
                    )
                else:
                    typer.echo(
                        f"  From now on: {best.backend} in {best.precision}, {plain / best.seconds:.1f} times as fast as torch "
                        f"in float32. Precisions below {FAITHFUL:g} dB are used only when you name them."
                    )


def line(row: Any) -> str:
    """A measurement in a line."""
    tile = f"tile {row.tile}" if row.tile else "tile auto"
    same = "exact" if row.psnr > 90 else f"{row.psnr:.1f} dB"
    slow = f", ready after {row.ready:.0f} s" if row.ready >= 10 else ""
    return (
        f"{row.backend:<12} {row.precision:<8} {tile:<9} {row.threads} threads  {row.seconds:8.2f} s/megapixel  {same:>8}"
        f"{slow}{'' if row.faithful else '  not taken: too far from float32'}"
    )


def _plain(result: Any) -> dict[str, Any]:
    """As JSON has it: infinity is null."""
    import dataclasses
    import math

    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in dataclasses.asdict(result).items()
    }


def _networks(restorer: Any, scale: float | None) -> list[Any]:
    """The networks of a restorer, as the engine runs them.

    Raises:
        UsageError: it has none, or not for that scale.
    """
    from restora.engine import NetworkOperator
    from restora.errors import UsageError
    from restora.restorers import Upscaler

    if isinstance(restorer, Upscaler) and restorer.scales:
        chosen = [restorer.scale] if scale is None else [s for s in restorer.scales if s == scale]
        if not chosen:
            able = ", ".join(map(str, restorer.scales))
            raise UsageError(f"{restorer.name} enlarges by {able} in one pass; {scale:g} was asked.")
        return [restorer.operator(s) for s in chosen]
    if (net := getattr(restorer, "net", None)) is None:
        raise UsageError(f"{restorer.name} is no network, so there is nothing to tune.")
    return [NetworkOperator(net, 1)]

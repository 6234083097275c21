"""Runs a job for a command: from flags to an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from restora.cli._options import JobFlags

if TYPE_CHECKING:
    from restora.restorers import Restorer


class _Stop:
    """Ctrl-C asks the job to stop after the tile in hand; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Stop:
        self.previous = signal.signal(signal.SIGINT, self._ask)
        self.previous_term = signal.signal(signal.SIGTERM, self._ask)
        return self

    def _ask(self, *_: object) -> None:
        if self.asked:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        self.asked = True
        typer.echo("Stopping after the current tile ... (Ctrl-C again stops at once)", err=True)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.previous)
        signal.signal(signal.SIGTERM, self.previous_term)


def run(
    restorer: Restorer,
    inputs: list[str],
    output: Path,
    controls: dict[str, Any],
    suffix: str,
    flags: JobFlags,
    on_file: Callable[[Path], None] | None = None,
) -> None:
    """Expands the inputs, runs the job (or estimates it) and exits with the code that the outcome deserves.

    `suffix` is put behind each name unless the flags have one. `on_file` is told of each input before it is restored.
    """
    from restora import jobs
    from restora.cli._report import reporter
    from restora.io import WRITABLE

    crew, shard = flags.crew, flags.part
    files = jobs.expand(inputs, not flags.no_recursive)
    items = jobs.assign(files, output, suffix if flags.suffix is None else flags.suffix, flags.ext)
    if flags.dry_run:
        own = items if shard is None else jobs.part(items, *shard)
        _print_estimate(jobs.estimate(restorer, own, controls), flags.as_json)
        return
    folder = output.parent if output.suffix.lower() in WRITABLE and not output.is_dir() else output
    how = jobs.Output(folder, flags.output_quality, overwrite=flags.overwrite)
    with _Stop() as stop, reporter(flags.as_json) as report:

        def tell(event: str, data: dict[str, Any]) -> None:
            if event == "file" and on_file is not None:
                on_file(Path(data["source"]))
            report(event, data)

        summary = jobs.run_job(restorer, items, how, controls, tell, lambda: stop.asked, crew, shard)
    if summary.cancelled:
        raise typer.Exit(130)
    if summary.failed:
        raise typer.Exit(1)


def _print_estimate(estimates: list[Any], as_json: bool) -> None:
    import dataclasses
    import json

    from restora.cli._report import duration, size

    for e in estimates:
        if as_json:
            data = {**dataclasses.asdict(e), "source": str(e.source), "target": str(e.target)}
            typer.echo(json.dumps({"event": "estimate", **data}, ensure_ascii=False))
        elif e.error:
            typer.echo(f"would fail: {e.error}", err=True)
        else:
            sizes = f"{e.size[1]}x{e.size[0]} -> {e.output_size[1]}x{e.output_size[0]}"
            typer.echo(f"{e.source} -> {e.target} ({sizes}, about {duration(e.seconds)}, {size(e.memory)})")
    good = [e for e in estimates if not e.error]
    if not as_json:
        total, peak = sum(e.seconds for e in good), max((e.memory for e in good), default=0)
        typer.echo(
            f"{len(good)} of {len(estimates)} files, about {duration(total)}, at most {size(peak)} above the program's own."
        )
    if len(good) < len(estimates):
        raise typer.Exit(1)

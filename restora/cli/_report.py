"""What a running job shows: a live line on a terminal, plain lines in a log, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import typer


def duration(seconds: float) -> str:
    """A time as people read it.

    >>> duration(75), duration(7.25), duration(7300)
    ('1:15 min', '7.2 s', '2:01 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def size(byte_count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if byte_count < 1000:
            return f"{byte_count:.0f} {unit}"
        byte_count /= 1000
    return f"{byte_count:.1f} GB"


class JsonReporter:
    """One JSON object a line on standard output."""

    def __enter__(self) -> JsonReporter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        typer.echo(json.dumps({"event": event, **data}, ensure_ascii=False))


class LineReporter:
    """A line for each file as it ends: for logs and pipes."""

    def __init__(self) -> None:
        self.files = 0

    def __enter__(self) -> LineReporter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str, problem: bool = False) -> None:
        """Prints a line; problems go to standard error."""
        typer.echo(text, err=problem)

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        if event == "start":
            self.files = data["files"]
        elif event == "done":
            height, width = data["output_size"]
            self.say(f"{data['source']} -> {data['target']} ({width}x{height}, {duration(data['seconds'])})")
            for note in data["notes"]:
                self.say(f"    {note}")
        elif event == "skipped":
            self.say(f"{data['source']}: {data['reason']}, skipped")
        elif event == "failed":
            self.say(f"failed: {data['error']}", problem=True)
        elif event == "end":
            parts = [f"{data[k]} {k}" for k in ("done", "skipped", "failed") if data[k] or k == "done"]
            stopped = "Stopped. " if data["cancelled"] else ""
            self.say(f"{stopped}{', '.join(parts)} of {self.files} in {duration(data['seconds'])}.")
            if data["cancelled"]:
                self.say("The same command goes on where this one stopped.")


class TerminalReporter(LineReporter):
    """`LineReporter` with a live bar: pixels done, rate, time left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self.console = Console(highlight=False, soft_wrap=True)
        self.problems = Console(highlight=False, soft_wrap=True, stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}  # several files may be in hand: the bar's line of each, by its source
        self.shares: dict[str, float] = {}
        self.ended, self.skipped, self.began = 0, 0, time.monotonic()

    def __enter__(self) -> TerminalReporter:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str, problem: bool = False) -> None:
        self.bar.console.print(text, markup=False, style="red" if problem else None)

    def __call__(self, event: str, data: dict[str, Any]) -> None:
        source = data.get("source", "")
        task = self.tasks.get(source)
        if event == "start":
            self.began = time.monotonic()
        elif event == "file":
            label = f"[{data['index'] + 1}/{self.files}] {Path(source).name}".replace("[", r"\[")
            self.tasks[source] = self.bar.add_task(label, total=None, rate="")
        elif event == "progress" and task is not None:
            self.shares[source] = data["done"] / max(1, data["total"])
            seconds = self.bar.tasks[self.bar.task_ids.index(task)].elapsed or 0
            rate = data["done"] / max(seconds, 1e-9) / 1e6
            left = f"{rate:.2f} MP/s, {duration(data['remaining'])} left{self._left_of_all()}"
            self.bar.update(task, completed=data["done"], total=data["total"], rate=left)
        elif event == "writing" and task is not None:
            self.bar.update(task, rate="writing ...")
        elif event in ("done", "skipped", "failed"):
            if task is not None:
                self.bar.remove_task(self.tasks.pop(source))
            self.shares.pop(source, None)
            self.ended += event != "skipped"
            self.skipped += event == "skipped"
        super().__call__(event, data)

    def _left_of_all(self) -> str:
        """Time left for the whole job, from the files so far."""
        after = self.files - self.skipped - self.ended
        if after < 2 or not self.ended:
            return ""
        begun = sum(self.shares.values())  # what is done of the files in hand
        each = (time.monotonic() - self.began) / (self.ended + begun)
        return f" (all: {duration(each * (after - begun))})"


def reporter(as_json: bool) -> JsonReporter | LineReporter:
    """The reporter that suits where the output goes."""
    if as_json:
        return JsonReporter()
    return TerminalReporter() if sys.stdout.isatty() else LineReporter()

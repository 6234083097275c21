"""What a running job shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from restora.cli._report import TerminalReporter, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00 min"), (3599, "59:59 min"), (3600, "1:00 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes() -> None:
    assert (size(999), size(51_200), size(1.5e9)) == ("999 bytes", "51 kB", "1.5 GB")


def test_the_terminal_shows_files_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    reporter = TerminalReporter()
    with reporter as report:
        report("start", {"files": 3, "model": "m"})
        for index in range(3):
            file = {"source": f"in/[{index}].png", "target": "t"}
            report("file", {**file, "index": index})
            reporter.began -= 2  # as if two seconds had passed
            report("progress", {**file, "done": 50, "total": 100, "remaining": 2.0})
            reporter.bar.refresh()
            report("writing", file)
            reporter.began -= 2
            done = {
                "source": file["source"],
                "target": "t",
                "seconds": 4.0,
                "output_size": (2, 3),
                "notes": ["a [note]"],
            }
            report("done", done)
        report("end", {"done": 3, "skipped": 0, "failed": 0, "cancelled": False, "seconds": 12})
    shown = out.getvalue()
    assert "[1/3] [0].png" in shown and "2.0 s left" in shown
    assert "(all: 6.0 s)" in shown  # the second file: two seconds, and four for the third
    assert "a [note]" in shown and "3 done of 3" in shown


def test_files_in_hand_at_the_same_time_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    reporter = TerminalReporter()
    with reporter as report:
        report("start", {"files": 2, "model": "m"})
        for index in range(2):
            report("file", {"source": f"{index}.png", "target": "t", "index": index})
        for index in (1, 0):
            report("progress", {"source": f"{index}.png", "done": 10 + index, "total": 100, "remaining": 2.0})
        assert [(t.description, t.completed) for t in reporter.bar.tasks] == [
            (r"\[1/2] 0.png", 10),
            (r"\[2/2] 1.png", 11),
        ]
        report("failed", {"source": "0.png", "target": "t", "error": "no"})
        assert [t.completed for t in reporter.bar.tasks] == [11]
        report("skipped", {"source": "1.png", "target": "t", "reason": "done before"})
        assert not reporter.bar.tasks

"""What a run tells about itself: lines of its log, scalars for TensorBoard, progress with the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from restora.training import state
from restora.training.processes import Processes

_REPORT_SECONDS = 0.5
_EMPTY = {"steps": 0.0, "seconds": 0.0, "waiting": 0.0, "data": 0.0, "processor": 0.0}  # since the last line of losses


class Journal:
    """The log of a run of `steps` steps in its folder. Only the first of several processes writes and reports.

    Args:
        report: called with every line as it is written, and with ``progress`` twice a second.
        tensorboard: also write scalars for TensorBoard. Files are begun with `open`, a missing package is told now.

    Raises:
        MissingExtra: TensorBoard is wanted and not installed.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        processes: Processes,
        report: Callable[[dict[str, Any]], None],
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.path, self.steps = folder, folder / "log.jsonl", steps
        self.processes, self.report = processes, report
        self.scalars: Any = None
        self._writer = _writer() if tensorboard and processes.rank == 0 else None
        self._sums: dict[str, list[float]] = {}  # of each loss term, with their number, since the last line of losses
        self._window = dict(_EMPTY)
        self._loss, self._said = math.nan, 0.0

    def open(self, resumed_at: int | None) -> None:
        """Begins the log, or goes on with it after the step of the checkpoint: what a killed run wrote later is taken away."""
        if resumed_at is not None:
            self.cut(resumed_at)
        else:
            self.path.unlink(missing_ok=True)
        if self._writer is not None:
            # TensorBoard leaves out what an interrupted run had written after its last checkpoint
            purge = None if resumed_at is None else resumed_at + 1
            self.scalars = self._writer(str(self.folder / "tensorboard"), purge_step=purge)

    def close(self) -> None:
        """Finishes the files of TensorBoard."""
        if self.scalars is not None:
            self.scalars.close()

    def cut(self, step: int) -> None:
        """Forgets what was written after a step."""
        state.cut_lines(self.path, step)

    def add(self, terms: Mapping[str, float]) -> None:
        """The loss terms of a step, which `losses` averages."""
        for name, value in terms.items():
            total = self._sums.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += 1

    def tick(self, seconds: float, waiting: float, data: float, processor: float) -> None:
        """A step is done: its seconds, those that it waited for its batch, and the processor's for making batches and in all."""
        passed = {"steps": 1.0, "seconds": seconds, "waiting": waiting, "data": data, "processor": processor}
        self._window = {key: total + passed[key] for key, total in self._window.items()}

    def progress(self, step: int, rate: float) -> None:
        """Reports where the run is, at most twice a second."""
        now = time.monotonic()
        if now - self._said < _REPORT_SECONDS or self.processes.rank:
            return
        self._said = now
        loss = sum(self._means().values()) if self._sums else self._loss
        line = {"event": "progress", "step": step, "steps": self.steps, "loss": loss, "lr": rate, **self._speed(step)}
        self.report(line)

    def losses(self, step: int, rate: float, seconds: float) -> None:
        """Writes the means since the last such line; of all processes where there are several."""
        terms = self._means()
        if self.processes.world > 1:
            means = torch.tensor(list(terms.values()), device=self.processes.device)
            self.processes.average([means])
            terms = dict(zip(terms, means.tolist(), strict=True))
        self._loss = sum(terms.values())
        line = {
            "event": "train",
            "step": step,
            "loss": round(self._loss, 7),
            "terms": {k: round(v, 7) for k, v in terms.items()},
            "lr": rate,
            "seconds": round(seconds, 1),
            **self._speed(step),
        }
        self._sums, self._window = {}, dict(_EMPTY)
        self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """A line with its ``event`` and ``step``."""
        if self.processes.rank:
            return
        state.append_line(self.path, line)
        if self.scalars is not None:
            for key, value in _flat(line):
                self.scalars.add_scalar(f"{line['event']}/{key}", value, line["step"])
        self.report({**line, "steps": self.steps})

    def last_validation(self) -> dict[str, Any] | None:
        """The line of the latest validation."""
        lines = [line for line in state.read_lines(self.path) if line.get("event") == "validation"]
        return lines[-1] if lines else None

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"sums": self._sums, "window": self._window}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._sums = {name: list(values) for name, values in saved["sums"].items()}
        self._window = {**_EMPTY, **saved["window"]}

    def _means(self) -> dict[str, float]:
        return {name: total / max(1.0, count) for name, (total, count) in self._sums.items()}

    def _speed(self, step: int) -> dict[str, float]:
        """Steps a second; of all the processor time, the part that made batches; of the time, the part that was waited for
        them; and the seconds that are left."""
        window = self._window
        if not window["steps"]:
            return {"steps_per_second": 0.0, "data_share": 0.0, "data_wait": 0.0, "left": 0.0}
        rate = window["steps"] / max(window["seconds"], 1e-9)
        return {
            "steps_per_second": round(rate, 2),
            "data_share": round(window["data"] / max(window["processor"], 1e-9), 3),
            "data_wait": round(window["waiting"] / max(window["seconds"], 1e-9), 3),
            "left": round((self.steps - step) / max(rate, 1e-9), 1),
        }


def _flat(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in line.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{k}", v) for k, v in value.items())
        elif isinstance(value, (int, float)) and key not in ("step", "event"):
            yield key, float(value)


def _writer() -> Any:
    """The class that writes for TensorBoard."""
    from restora.errors import MissingExtra

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("A log for TensorBoard needs it installed: pip install 'restora[train]'.") from error
    return SummaryWriter

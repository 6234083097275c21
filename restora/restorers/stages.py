"""Several operators, one after the other, over one picture: progress over all of them, intermediate pictures on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from restora.engine import Operator, Progress, RunReport, Settings, SolverOperator, choose_device, layout, run, store
from restora.engine.run import Convert
from restora.engine.tiles import plan
from restora.errors import Cancelled
from restora.restorers.buffers import allocate
from restora.solvers import Step

# Gets the name of a stage, or of an iteration within one, and the picture so far: `H x W x C` float32 in the working space.
Keep = Callable[[str, np.ndarray], None]

_KEPT_STEPS = 10
_REPORTS = 200  # a stage of a thousand iterations need not say each


@dataclass(frozen=True)
class Stage:
    """A step of a method. `weight` is its share of the work, for the estimate of the time left."""

    name: str
    operator: Operator
    weight: float = 1.0


def run_stages(
    stages: Sequence[Stage],
    source: np.ndarray,
    settings: Settings = Settings(),
    decode: Convert | None = None,
    encode: Convert | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    keep: Keep | None = None,
) -> tuple[np.ndarray, list[RunReport]]:
    """Runs the stages; between them the picture is float32 in the working space, unclipped.

    Args:
        source, decode, encode, settings, cancelled: as `engine.run`; `cancelled` is also asked at each iteration.
        progress: pixels of `source`, with the iterations of a solver as parts of its tiles.
        keep: called with each stage's result, and with ten iterates of a solver that has the picture in one tile.

    Returns:
        `s*H x s*W x C` of the source's type, and the engine's reports.
    """
    meter = _Meter(progress, source.shape[0] * source.shape[1], [s.weight for s in stages], cancelled)
    reports: list[RunReport] = []
    current = source
    for number, stage in enumerate(stages):
        last = number == len(stages) - 1
        operator = stage.operator
        height, width = (n * operator.scale for n in current.shape[:2])
        side, reach = layout(operator, choose_device(settings.device), settings.tile, current.shape[:2])
        meter.begin(number, len(plan(current.shape[0], current.shape[1], side, operator.tiling.window, reach)))
        if isinstance(operator, SolverOperator):
            operator.monitor = _watcher(stage.name, meter, keep)
        target = allocate((height, width, source.shape[2]), source.dtype if last and keep is None else np.dtype("f4"))
        current, report = run(
            operator,
            current,
            target,
            settings,
            decode if number == 0 else None,
            encode if last and keep is None else None,
            meter.tile,
            cancelled,
        )
        reports.append(report)
        if keep is not None:
            keep(stage.name, current)
    if keep is not None:
        current = _written(current, source.dtype, encode)
    return current, reports


def _written(working: np.ndarray, dtype: np.dtype, encode: Convert | None) -> np.ndarray:
    """A picture of the working space in the type and space of the source, strip by strip."""
    import torch

    target = allocate(working.shape, dtype)
    for top in range(0, len(working), 256):
        planes = np.ascontiguousarray(working[top : top + 256].transpose(2, 0, 1))
        target[top : top + 256] = store(torch.from_numpy(planes)[None], dtype, encode)
    return target


def _watcher(name: str, meter: _Meter, keep: Keep | None) -> Callable[[Step], None]:
    kept: set[int] = set()

    def watch(step: Step) -> None:
        meter.step(step)
        tenth = step.done * _KEPT_STEPS // max(1, step.total)
        if keep is not None and meter.tiles == 1 and step.done < step.total and tenth not in kept:
            kept.add(tenth)
            image = step.image().detach()[0].permute(1, 2, 0).float().cpu().numpy()
            keep(f"{name}_{step.done:04d}", image)

    return watch


class _Meter:
    """One progress over stages, tiles and iterations, in pixels of the source."""

    def __init__(
        self,
        report: Callable[[Progress], None] | None,
        pixels: int,
        weights: list[float],
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.report, self.pixels, self.cancelled = report, pixels, cancelled
        self.ends = np.cumsum([0.0, *weights]) / sum(weights)
        self.started, self.told = time.monotonic(), 0.0
        self.stage, self.tiles, self.finished = 0, 1, 0.0

    def begin(self, stage: int, tiles: int) -> None:
        self.stage, self.tiles, self.finished = stage, tiles, 0.0

    def tile(self, progress: Progress) -> None:
        """A tile is done."""
        self.finished = progress.done / progress.total
        self._tell(self.finished, always=True)

    def step(self, step: Step) -> None:
        """An iteration is done."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")
        part = step.done / max(1, step.total) / self.tiles
        self._tell(min(1.0, self.finished + part))

    def _tell(self, fraction: float, always: bool = False) -> None:
        first, end = self.ends[self.stage], self.ends[self.stage + 1]
        total = first + (end - first) * fraction
        if self.report is None or total <= self.told or (total - self.told < 1 / _REPORTS and not always):
            return
        self.told = total
        self.report(Progress(round(total * self.pixels), self.pixels, time.monotonic() - self.started))

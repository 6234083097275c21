"""Several tasks in one training: each batch is of one of them, drawn by share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from restora.errors import RestoraError
from restora.training.batch import Batch
from restora.training.pairs.base import Case, Order, PairMaker, TaskOptions


class MixOptions(TaskOptions):
    parts: list[dict[str, Any]] = Field(
        min_length=1,
        description="tasks of one ratio, each with a `share` (1 by default) of the batches; the first is measured",
    )

    @model_validator(mode="after")
    def _known(self) -> MixOptions:
        from restora.training import pairs

        for part in self.parts:
            if not isinstance(part.get("share", 1.0), (int, float)) or part.get("share", 1.0) < 0:
                raise ValueError("a share is a number from 0")
            try:
                pairs.parse(_task(part))
            except RestoraError as error:
                raise ValueError(str(error)) from error
        if sum(part.get("share", 1.0) for part in self.parts) <= 0:
            raise ValueError("the shares sum to nothing")
        return self


def _task(part: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in part.items() if k != "share"}


class Mix(PairMaker):
    """For example shaken photographs and averaged frames. A batch is of one part, the same on every process."""

    Options = MixOptions
    options: MixOptions

    def __init__(self, options: MixOptions) -> None:
        from restora.training import pairs

        super().__init__(options)
        self.parts = [pairs.build(_task(part)) for part in options.parts]
        shares = np.array([part.get("share", 1.0) for part in options.parts], dtype=np.float64)
        self._cumulative = np.cumsum(shares / shares.sum())
        self.task, self.protocol = self.parts[0].task, self.parts[0].protocol

    @property
    def scales(self) -> list[int]:
        return self.parts[0].scales

    def open(self, data: dict[str, Path], rescale: Sequence[float], largest: int, cache: Path | None) -> _Sources:
        return _Sources([part.open(data, rescale, largest, cache) for part in self.parts])

    def draw(self, source: _Sources, order: Order) -> Batch:
        number = min(int(np.searchsorted(self._cumulative, order.rng.random(), side="right")), len(self.parts) - 1)
        return self.parts[number].draw(source.sources[number], order)

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        return self.parts[0].pair(clean, scale, seeds, rng)

    def held_out(self, folder: Path, count: int, side: int) -> list[Tensor]:
        return self.parts[0].held_out(folder, count, side)

    def cases(self) -> list[Case]:
        return self.parts[0].cases()

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        return self.parts[0].example(clean, case, seed)


class _Sources:
    """The parts' pictures, with one checksum over all."""

    def __init__(self, sources: list[Any]) -> None:
        import hashlib

        self.sources = sources
        self.files = sum(s.files for s in sources)
        self.checksum = hashlib.sha256("".join(s.checksum for s in sources).encode()).hexdigest()


MAKER = Mix

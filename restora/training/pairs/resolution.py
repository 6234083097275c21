"""Lost resolution at unchanged size: reduced by a factor and enlarged again (SRRUNet)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import DownUp
from restora.training.batch import Batch
from restora.training.pairs.base import Case, PairMaker, TaskOptions, quantised

_USUAL = (2, 4, 8)


class ResolutionOptions(TaskOptions):
    factor: tuple[int, int] = Field((1, 16), description="range of the whole factors, one a batch")
    up: list[Literal["bicubic", "nearest"]] = Field(
        ["bicubic", "nearest"], min_length=1, description="how it is enlarged again: one a batch, drawn"
    )

    @field_validator("factor")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1]:
            raise ValueError("a range of factors goes from low to high, from 1")
        return value


class Resolution(PairMaker):
    """Spec deep-restoration-survey, equations 5.4 and 5.5. The controls carry the batch's `factor`."""

    Options = ResolutionOptions
    options: ResolutionOptions
    protocol = "sr-rgb"

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        low, high = self.options.factor
        factor, up = int(rng.integers(low, high + 1)), self.options.up[int(rng.integers(len(self.options.up)))]
        return self._degraded(clean, factor, up)

    def _degraded(self, clean: Tensor, factor: int, up: str) -> Batch:
        lost = quantised(DownUp(factor, "bicubic", up)(clean)) if factor > 1 else clean.clone()
        return Batch(lost, clean, 1, {"factor": float(factor)})

    def cases(self) -> list[Case]:
        low, high = self.options.factor
        factors = [f for f in _USUAL if low <= f <= high] or [high]
        return [Case(f"x{f}", 1, {"factor": f}) for f in factors]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        return self._degraded(clean, case.values["factor"], self.options.up[0])


MAKER = Resolution

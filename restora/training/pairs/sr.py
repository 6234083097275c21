"""Classical super-resolution: antialiased bicubic reduction by one scale, or by one of several a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import resize
from restora.training.batch import Batch
from restora.training.pairs.base import MARGIN, Case, PairMaker, TaskOptions, cut_to_multiple, quantised


class SROptions(TaskOptions):
    scale: list[int] = Field([4], min_length=1, description="a scale, or several: one scale a batch, in turn")
    quantise: bool = Field(True, description="round the low-resolution picture to 8 bits, as files are")

    @field_validator("scale", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @field_validator("scale")
    @classmethod
    def _whole(cls, value: list[int]) -> list[int]:
        if any(s < 1 for s in value):
            raise ValueError("scales are whole numbers from 1")
        return value


class SuperResolution(PairMaker):
    """MATLAB's bicubic reduction, as the low-resolution files of the benchmarks were made."""

    Options = SROptions
    options: SROptions

    @property
    def scales(self) -> list[int]:
        return self.options.scale

    def side(self, patch: int, scale: int) -> int:
        return (patch + 2 * MARGIN) * scale

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        low, edge = self.reduced(clean, scale), MARGIN * scale
        low, clean = low[..., MARGIN:-MARGIN, MARGIN:-MARGIN], clean[..., edge:-edge, edge:-edge]
        return Batch(low.contiguous(), clean.contiguous(), scale)

    def reduced(self, clean: Tensor, scale: int) -> Tensor:
        """The low-resolution input: antialiased bicubic reduction, rounded to 8 bits where asked."""
        low = resize(clean, 1 / scale)
        return quantised(low) if self.options.quantise else low

    def cases(self) -> list[Case]:
        return [Case(f"x{s}", s) for s in sorted(set(self.scales))]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        clean = cut_to_multiple(clean, case.scale)
        return Batch(quantised(resize(clean, 1 / case.scale)), clean, case.scale)


MAKER = SuperResolution

"""One level of a pyramid: from the picture reduced by `total` to the one twice (or four times ...) as large.

For networks that are grown level by level towards a large scale (progressive CARN, efficiency thesis 2.4): the input is the same
at every level, the target is the photograph reduced to what the levels so far reach.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from restora.degradation import resize
from restora.training.batch import Batch
from restora.training.pairs.base import MARGIN, Case, PairMaker, TaskOptions, cut_to_multiple, quantised


class PyramidOptions(TaskOptions):
    total: int = Field(8, ge=2, description="the scale that the input is made with")
    scale: int = Field(description="the scale of this level's network; divides the total one")
    quantise: bool = Field(True, description="round input and target to 8 bits, as files are")

    @model_validator(mode="after")
    def _divides(self) -> PyramidOptions:
        if self.scale < 1 or self.total % self.scale:
            raise ValueError(f"a level's scale divides {self.total}; {self.scale} does not")
        return self


class Pyramid(PairMaker):
    """Both reductions are bicubic, from the photograph directly."""

    Options = PyramidOptions
    options: PyramidOptions

    @property
    def scales(self) -> list[int]:
        return [self.options.scale]

    def side(self, patch: int, scale: int) -> int:
        return (patch + 2 * MARGIN) * self.options.total

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        low, target, edge = self._reduced(clean, self.options.total), self._level(clean), MARGIN * scale
        low, target = low[..., MARGIN:-MARGIN, MARGIN:-MARGIN], target[..., edge:-edge, edge:-edge]
        return Batch(low.contiguous(), target.contiguous(), scale)

    def _level(self, clean: Tensor) -> Tensor:
        factor = self.options.total // self.options.scale
        return self._reduced(clean, factor) if factor > 1 else clean

    def _reduced(self, clean: Tensor, factor: int) -> Tensor:
        low = resize(clean, 1 / factor)
        return quantised(low) if self.options.quantise else low

    def cases(self) -> list[Case]:
        return [Case(f"x{self.options.scale} of x{self.options.total}", self.options.scale)]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        clean = cut_to_multiple(clean, self.options.total)
        return Batch(self._reduced(clean, self.options.total), self._level(clean), case.scale)


MAKER = Pyramid

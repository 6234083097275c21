"""Degradations of the wild: any chain of `restora.degradation`, by name or written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from restora.errors import RestoraError
from restora.training.batch import Batch
from restora.training.pairs.base import (
    Case,
    Order,
    PairMaker,
    TaskOptions,
    applied,
    chain_of,
    cut_to_multiple,
    quantised,
)


class RealOptions(TaskOptions):
    chain: str | list[Any] | dict[str, Any] = Field(
        "realesrgan-x4", description="name of a chain (`restora degrade --list`), or its description"
    )
    scale: int = Field(4, ge=1, description="the ratio that the chain ends with")
    margin: int = Field(8, ge=0, description="input pixels around a patch that its making may look at")
    fresh: float = Field(
        1.0,
        gt=0,
        le=1,
        description="part of a batch that is made anew at each step; the rest are other places and turns of what the last "
        "`memory` steps made, where making pairs would take longer than learning from them",
    )
    memory: int = Field(32, ge=1, description="steps for which a made pair is kept")
    protocol: str = Field("", description="of the validation; by default the one for its scale")

    @model_validator(mode="after")
    def _known(self) -> RealOptions:
        try:
            chain_of(self.chain)
        except RestoraError as error:
            raise ValueError(str(error)) from error
        return self


class Real(PairMaker):
    """Pairs of a chain that ends at 1/scale of the size it began with: second-order degradation (Real-ESRGAN), BSRGAN, mixed
    distortions, old film."""

    Options = RealOptions
    options: RealOptions

    def __init__(self, options: RealOptions) -> None:
        super().__init__(options)
        self.chain = chain_of(options.chain)
        self._made: dict[int, Batch] = {}
        self.protocol = options.protocol or ("sr-rgb" if options.scale > 1 else "denoise-rgb")
        self.task = "super-resolution" if options.scale > 1 else "mixed"

    @property
    def scales(self) -> list[int]:
        return [self.options.scale]

    def side(self, patch: int, scale: int) -> int:
        return (patch + 2 * self.options.margin) * scale

    def draw(self, source: Any, order: Order) -> Batch:
        if self.options.fresh == 1:
            return super().draw(source, order)
        # what was made at a step depends on that step alone, so that a resumed run makes the same again
        steps = range(max(0, order.step - self.options.memory + 1), order.step + 1)
        self._made = {s: self._made[s] if s in self._made else self._make(source, order, s) for s in steps}
        kept = list(self._made.values())
        low, high = (torch.cat([getattr(b, name) for b in kept]) for name in ("input", "target"))
        places = order.rng.integers(len(low), size=order.batch)
        offsets = order.rng.integers(low.shape[-1] - order.patch + 1, size=(order.batch, 2))
        turns = order.rng.integers(8, size=order.batch)
        inputs: list[Tensor] = []
        targets: list[Tensor] = []
        for place, (top, left), turn in zip(*(a[order.part].tolist() for a in (places, offsets, turns)), strict=True):
            for pictures, scale, out in ((low, 1, inputs), (high, self.options.scale, targets)):
                side = order.patch * scale
                part = pictures[place, :, top * scale : top * scale + side, left * scale : left * scale + side]
                part = torch.rot90(part, turn % 4, (-2, -1))
                out.append(part.flip(-1) if turn >= 4 else part)
        return Batch(torch.stack(inputs), torch.stack(targets), self.options.scale)

    def _make(self, source: Any, order: Order, step: int) -> Batch:
        """The new pairs of a step, half as large again as a patch."""
        rng = np.random.default_rng((order.seed, step, 2))
        count, side = max(1, round(order.batch * self.options.fresh)), order.patch * 3 // 2
        everything = Order(order.seed, step, count, side, rng, slice(0, count))
        return super().draw(source, everything)

    def smallest(self, patch: int) -> int:
        return super().smallest(patch if self.options.fresh == 1 else patch * 3 // 2)

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        low, _ = applied(self.chain, clean, seeds)
        edge = self.options.margin
        if edge:
            low = low[..., edge:-edge, edge:-edge]
            clean = clean[..., edge * scale : -edge * scale, edge * scale : -edge * scale]
        return Batch(quantised(low.contiguous()), clean.contiguous(), scale)

    def cases(self) -> list[Case]:
        name = self.options.chain if isinstance(self.options.chain, str) else "chain"
        return [Case(name, self.options.scale)]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        clean = cut_to_multiple(clean, case.scale)
        low, _ = applied(self.chain, clean, [seed])
        return Batch(quantised(low), clean, case.scale)


MAKER = Real

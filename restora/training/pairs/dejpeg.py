"""JPEG artefacts: a real coder at a quality drawn for each picture, its grid of blocks shifted at random."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import Jpeg
from restora.training.batch import Batch
from restora.training.pairs.base import Case, PairMaker, TaskOptions

_BLOCK = 16  # side in pixels of a block of chroma at half size: the period of the coder's grid
_USUAL = (10, 20, 40)


class DejpegOptions(TaskOptions):
    quality: tuple[int, int] = Field((10, 95), description="range of libjpeg's quality; one number: always that")
    chroma: Literal["420", "444", "both"] = Field(
        "both", description="chroma at half size, at full size, or half the pictures each"
    )
    shift: bool = Field(
        True, description="the block grid begins anywhere, as in cut pictures; else at the patch's corner"
    )
    twice: float = Field(
        0.0, ge=0, le=1, description="part of the pictures that were compressed before, on another grid"
    )
    validate_at: list[int] = Field(
        [], description="qualities that are measured; by default those of 10, 20, 40 in the range"
    )

    @field_validator("quality", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("quality")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1] <= 100:
            raise ValueError("a range of qualities goes from low to high, between 1 and 100")
        return value


class Dejpeg(PairMaker):
    """The controls carry the (last) `quality`, one number a picture."""

    Options = DejpegOptions
    options: DejpegOptions
    task = "dejpeg"
    protocol = "jpeg-y"

    def side(self, patch: int, scale: int) -> int:
        return patch + _BLOCK

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        size = clean.shape[-1] - _BLOCK
        inputs, targets, qualities = [], [], []
        for n, seed in enumerate(seeds):
            own = np.random.Generator(np.random.PCG64(seed))
            low, high = self.options.quality
            quality, before = (int(own.integers(low, high + 1)) for _ in range(2))
            chroma = str(own.choice(("420", "444"))) if self.options.chroma == "both" else self.options.chroma
            top, left, first_top, first_left = (int(v) for v in own.integers(0, _BLOCK, 4))
            whole = clean[n : n + 1]
            coded = whole
            if own.random() < self.options.twice:
                coded = whole.clone()
                coded[..., first_top:, first_left:] = Jpeg(before, chroma)(whole[..., first_top:, first_left:])
            coded = Jpeg(quality, chroma)(coded)
            if not self.options.shift:
                top = left = 0
            # the patch lies `top`, `left` pixels inside the coded picture, whose grid begins at its corner
            inputs.append(coded[..., top : top + size, left : left + size])
            targets.append(whole[..., top : top + size, left : left + size])
            qualities.append(float(quality))
        return Batch(torch.cat(inputs), torch.cat(targets), 1, {"quality": torch.tensor(qualities)})

    def cases(self) -> list[Case]:
        low, high = self.options.quality
        levels = self.options.validate_at or [q for q in _USUAL if low <= q <= high] or [(low + high) // 2]
        return [Case(f"q{q}", 1, {"quality": q}) for q in levels]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        quality = case.values["quality"]
        chroma = "420" if self.options.chroma == "both" else self.options.chroma
        return Batch(Jpeg(quality, chroma)(clean), clean, 1, {"quality": torch.tensor([float(quality)])})


MAKER = Dejpeg

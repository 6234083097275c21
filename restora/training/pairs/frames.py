"""Motion blur of real scenes: averaged windows of consecutive frames of fast cameras, against the middle frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import FrameAverage
from restora.errors import RecipeError
from restora.training.batch import Batch
from restora.training.data import Clips, centre
from restora.training.pairs.base import Case, Order, PairMaker, TaskOptions, as_tensor, quantised


class FramesOptions(TaskOptions):
    window: tuple[int, int] = Field((7, 13), description="range of the number of averaged frames, odd")
    response: Literal["linear", "gamma", "srgb"] = Field("linear", description="curve from light to pixel values")
    clips: str = Field("", description="name of the source of frames (--data NAME=FOLDER); by default the main folder")

    @field_validator("window")
    @classmethod
    def _odd(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 3 <= value[0] <= value[1] or value[0] % 2 == 0 or value[1] % 2 == 0:
            raise ValueError("windows have an odd number of frames, from 3, and go from low to high")
        return value


class Frames(PairMaker):
    """GoPro's way of making pairs (Nah et al., CVPR 2017). Held-out pictures are folders of frames too: the middle window of
    each clip."""

    Options = FramesOptions
    options: FramesOptions
    task = "deblur"
    protocol = "deblur-rgb"

    def open(self, data: dict[str, Path], rescale: Sequence[float], largest: int, cache: Path | None) -> Clips:
        name = self.options.clips
        if name not in data:
            raise RecipeError(
                f"The recipe averages frames of a source called '{name}': give it as --data {name}=FOLDER."
            )
        return Clips(data[name], self.options.window[1], largest, cache)

    def draw(self, source: Clips, order: Order) -> Batch:
        low, high = self.options.window
        # all windows are cut, so that the chance of the later ones is the same in every process
        inputs, targets = [], []
        for n in range(order.batch):
            length = low + 2 * int(order.rng.integers((high - low) // 2 + 1))
            frames = source.window(length, order.patch, order.rng)
            if order.part.start <= n < order.part.stop:
                blurred, sharp = self._averaged(frames)
                inputs.append(blurred)
                targets.append(sharp)
        return Batch(quantised(torch.cat(inputs)), torch.cat(targets))

    def _averaged(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).float()[None] / 255
        mean = FrameAverage(len(frames), response=self.options.response)
        return mean(x)[:, 0], mean.targets(x)[:, 0]

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        raise NotImplementedError  # pairs come from windows of frames, not from single crops

    def cases(self) -> list[Case]:
        return [Case("frames")]

    def held_out(self, folder: Path, count: int, side: int) -> list[Tensor]:
        """Stacks of frames, `1 x 3n x h x w`: the windows that are averaged."""
        length = self.options.window[1]
        found = []
        for clip in Clips(folder, length).clips:
            for first in range(0, len(clip) - length + 1, max(length, len(clip) // max(1, count))):
                found.append(torch.cat([as_tensor(centre(f, side)) for f in clip[first : first + length]], 1))
        return found[:count]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        frames = clean[0].unflatten(0, (-1, 3))[None]
        mean = FrameAverage(frames.shape[1], response=self.options.response)
        return Batch(quantised(mean(frames)[:, 0]), mean.targets(frames)[:, 0])


MAKER = Frames

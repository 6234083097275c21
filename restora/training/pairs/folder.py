"""Pairs that somebody made: `input/` and `target/` with the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from restora.errors import RecipeError
from restora.training.batch import Batch
from restora.training.data import PairedFolders, centre
from restora.training.pairs.base import Case, Order, PairMaker, TaskOptions, as_tensor


class FolderOptions(TaskOptions):
    scale: int = Field(1, ge=1, description="ratio of the targets' size to the inputs'")
    what: Literal["super-resolution", "denoise", "deblur", "dejpeg"] = Field(
        "denoise", description="the task, for the protocol and the plain baseline"
    )


_PROTOCOLS = {
    "super-resolution": "sr-y",
    "denoise": "denoise-rgb",
    "deblur": "deblur-rgb",
    "dejpeg": "jpeg-y",
}


class Folder(PairMaker):
    """Real pairs: SIDD, RealBlur, RealSR, or what `restora degrade` wrote. The validation folder is laid out alike."""

    Options = FolderOptions
    options: FolderOptions

    def __init__(self, options: FolderOptions) -> None:
        super().__init__(options)
        self.task, self.protocol = options.what, _PROTOCOLS[options.what]

    @property
    def scales(self) -> list[int]:
        return [self.options.scale]

    def open(self, data: dict[str, Path], rescale: Sequence[float], largest: int, cache: Path | None) -> PairedFolders:
        found = PairedFolders(data[""], largest, cache)
        return self._checked(found)

    def _checked(self, found: PairedFolders) -> PairedFolders:
        if found.scale != self.options.scale:
            raise RecipeError(
                f"'{found.folder}' holds pairs of ratio {found.scale}; the recipe says task.scale: {self.options.scale}."
            )
        return found

    def draw(self, source: PairedFolders, order: Order) -> Batch:
        given, wanted = source.crops(order.batch, order.patch, order.rng)
        inputs, targets = (
            torch.from_numpy(a[order.part]).permute(0, 3, 1, 2).float().div_(255).contiguous() for a in (given, wanted)
        )
        return Batch(inputs, targets, self.options.scale)

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        raise NotImplementedError  # the pairs exist already

    def held_out(self, folder: Path, count: int, side: int) -> list[Tensor]:
        """Targets with their inputs behind, which `example` takes apart: `1 x 3 x H x W`, and the inputs kept aside."""
        scale = self.options.scale
        self._inputs, targets = [], []
        for given, wanted in self._checked(PairedFolders(folder)).pairs[:count]:
            small = centre(given, max(1, side // scale))
            top, left = ((n - m) // 2 for n, m in zip(given.shape[:2], small.shape[:2], strict=True))
            height, width = (n * scale for n in small.shape[:2])
            self._inputs.append(as_tensor(small))
            targets.append(as_tensor(wanted[top * scale : top * scale + height, left * scale : left * scale + width]))
        return targets

    def cases(self) -> list[Case]:
        return [Case("pairs", self.options.scale)]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        # `seed` is the picture's place among the held-out ones
        return Batch(self._inputs[seed].clone(), clean, self.options.scale)


MAKER = Folder

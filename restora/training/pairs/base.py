"""What a pair maker is."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from restora.degradation.base import Degradation, Draw
from restora.training.batch import Batch
from restora.training.data import Photographs, centres

MARGIN = 3  # low-resolution pixels around a patch: the bicubic kernel reaches 2, and half a pixel more


class TaskOptions(BaseModel):
    """Base of every kind's keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Case:
    """A fixed setting in which a validation measures: its name in the log, and the maker's own parameters."""

    name: str
    scale: int = 1
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Order:
    """What a batch is ordered with.

    Attributes:
        seed, step: the recipe's seed and the step's number.
        batch, patch: pictures in the whole batch, and their side in input pixels.
        rng: chance that all processes share; the crops of the whole batch are drawn from it.
        part: the pictures of the whole batch that this process works on.
    """

    seed: int
    step: int
    batch: int
    patch: int
    rng: np.random.Generator
    part: slice


class PairMaker(abc.ABC):
    """Makes the pairs of a task.

    The pair of a step depends on the recipe's seed and the step only: everything random comes from the order's generator,
    drawn for the whole batch, so that it does not depend on the number of processes either.
    """

    Options: ClassVar[type[TaskOptions]]
    protocol: str = "sr-y"
    task: str = "super-resolution"  # whose plain baseline a validation stands beside

    def __init__(self, options: Any) -> None:
        self.options = options

    @property
    def scales(self) -> list[int]:
        """The ratios of target to input that occur."""
        return [1]

    def scale(self, step: int) -> int:
        """The ratio at a step: one scale a batch, in turn."""
        return self.scales[step % len(self.scales)]

    def open(self, data: dict[str, Path], rescale: Sequence[float], largest: int, cache: Path | None) -> Any:
        """The training pictures. `data` maps a name to a folder, "" is the main one; `largest`: the largest patch."""
        return Photographs(data[""], rescale, self.smallest(largest), cache)

    def smallest(self, patch: int) -> int:
        """Side in pixels that a photograph must have to give a pair."""
        return max(self.side(patch, scale) for scale in self.scales)

    def side(self, patch: int, scale: int) -> int:
        """Side of the clean crop behind a patch: the patch at full size with whatever its making needs around it."""
        return patch * scale

    def draw(self, source: Any, order: Order) -> Batch:
        """The batch of a step, RGB, of the part that this process works on."""
        scale = self.scale(order.step)
        crops = source.crops(order.batch, self.side(order.patch, scale), order.rng)
        seeds = order.rng.integers(2**62, size=order.batch)[order.part].tolist()
        # copied into planes once; what follows works on contiguous planes
        clean = torch.from_numpy(crops[order.part]).permute(0, 3, 1, 2).float().div_(255)
        return self.pair(clean, scale, seeds, order.rng)

    @abc.abstractmethod
    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        """Pairs from clean crops of `side(patch, scale)` pixels, `B x 3 x S x S` in [0, 1].

        Args:
            seeds: one for each picture. rng: for what the whole batch shares; the same on every process.
        """

    @abc.abstractmethod
    def cases(self) -> list[Case]:
        """The settings that a validation measures in."""

    @abc.abstractmethod
    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        """The degraded input of a whole held-out picture, `1 x 3 x H x W`, in a case; the target is cut to fit."""

    def held_out(self, folder: Path, count: int, side: int) -> list[Tensor]:
        """Held-out pictures, `1 x 3 x h x w`, from the middle of the first `count` files."""
        return [as_tensor(image) for image in centres(folder, count, side)]


def as_tensor(image: np.ndarray) -> Tensor:
    """`H x W x 3` uint8 as `1 x 3 x H x W` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


def quantised(x: Tensor) -> Tensor:
    """Clipped and rounded to 8 bits."""
    return x.clamp(0, 1).mul_(255).round_().div_(255)


def applied(degradation: Degradation, x: Tensor, seeds: list[int]) -> tuple[Tensor, list[Degradation]]:
    """A degradation drawn for every picture by its own seed, whatever its neighbours are; and what was drawn."""
    results, drawn = [], []
    for picture, seed in zip(x, seeds, strict=True):
        draw = Draw(np.random.Generator(np.random.PCG64(seed)), (x.shape[-2], x.shape[-1]))
        y, fixed = degradation.perform(picture[None], draw)
        results.append(y)
        drawn.append(fixed)
    return torch.cat(results), drawn


def cut_to_multiple(x: Tensor, of: int) -> Tensor:
    """Without the last rows and columns that are no multiple of `of`."""
    height, width = (n - n % of for n in x.shape[-2:])
    return x[..., :height, :width]


def chain_of(recipe: str | list[Any] | dict[str, Any]) -> Degradation:
    """A degradation by the name of a chain (`restora.degradation.recipe`) or by its description."""
    from restora import degradation

    return degradation.recipe(recipe) if isinstance(recipe, str) else degradation.from_dict(recipe)

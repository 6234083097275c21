"""The batches of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from restora.degradation import luma, luma_to_grey
from restora.errors import RecipeError
from restora.training import pairs
from restora.training.batch import Batch
from restora.training.pairs.base import Order
from restora.training.recipe import Recipe


class Pairs:
    """Batches of a recipe's task from training pictures. The batch of a step depends on the recipe's seed and the step only,
    so that a resumed run sees what an undisturbed one would have seen.

    Args:
        recipe: of the run. data: a folder; folders by name for tasks with several sources; or a source of crops itself
            (anything with `crops(count, side, rng)`, such as `Photographs`).
        colour: ``rgb``, ``luma`` or ``grey``: what the network takes.
        cache: where decoded pictures are kept. rank, world: this process among how many; each makes its share of the batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: str | Path | Mapping[str, str | Path] | Any,
        colour: str = "rgb",
        cache: Path | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.recipe, self.colour, self.rank, self.world = recipe, colour, rank, world
        self.maker = pairs.build(recipe.task)
        self.source: Any = data
        if isinstance(data, (str, Path, Mapping)):
            folders = {k: Path(v) for k, v in data.items()} if isinstance(data, Mapping) else {"": Path(data)}
            keep = cache if recipe.data.cache else None
            self.source = self.maker.open(folders, recipe.data.rescale, recipe.data.largest_patch, keep)
        smallest = min([recipe.data.batch, *(g.batch for g in recipe.data.growth)])
        if smallest < world * recipe.optimiser.accumulate:
            raise RecipeError(
                f"A batch of {smallest} cannot be divided among {world} processes with {recipe.optimiser.accumulate} parts each."
            )
        self.augment: Any = None
        if recipe.augment is not None:
            from restora.training.augment import build_augmentation

            self.augment = build_augmentation(recipe.augment)

    @property
    def checksum(self) -> str:
        """Of the training pictures."""
        return str(getattr(self.source, "checksum", ""))

    @property
    def files(self) -> int:
        """Number of training files."""
        return int(getattr(self.source, "files", 0))

    def batch(self, step: int) -> Batch:
        """Input and target of a step, this process's share."""
        patch, size = self.recipe.data.at(step)
        rng = np.random.default_rng((self.recipe.seed, step))
        part = slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)
        made = self.maker.draw(self.source, Order(self.recipe.seed, step, size, patch, rng, part))
        if self.augment is not None:
            self._check_mixing(made)
            done = self.augment(made.input, made.target, np.random.default_rng((self.recipe.seed, step, 1)))
            made.input, made.target = done.input, done.target
            made.mask = done.mask if made.mask is None or done.mask is None else made.mask * done.mask
        return self.coloured(made)

    def _check_mixing(self, made: Batch) -> None:
        """Raises RecipeError where the augmentation mixes pictures of which each has its own noise level, kernel or quality."""
        own = [k for k, v in made.controls.items() if isinstance(v, Tensor) and v.dim() and len(v) == len(made)]
        if own and (mixing := self.augment.mixes):
            raise RecipeError(
                f"The augmentation {' and '.join(mixing)} mixes pictures, but the network is told the {' and '.join(own)} of "
                "each picture, which would no longer be true: leave it out of augment, or make the task blind."
            )

    def coloured(self, batch: Batch) -> Batch:
        """A batch of RGB in the network's colours."""
        batch.input, batch.target = in_colour(batch.input, self.colour), in_colour(batch.target, self.colour)
        return batch


def in_colour(x: Tensor, colour: str) -> Tensor:
    """RGB as ``rgb``; as ``luma``, Y of BT.601 in studio range; or as ``grey``, the same in full range."""
    if colour == "rgb":
        return x
    return luma(x) if colour == "luma" else luma_to_grey(luma(x))

"""SROOE's first stage: a generator for every objective between true pixels and natural looks.

Park, Moon, Cho: Perception-Oriented Single Image Super-Resolution using Optimal Objective Estimation, CVPR 2023; the survey
specification, section 2.4. In each step t is drawn from [0, 1] and given to the generator as a constant map; the weights of the
loss follow it: `L1 * (0.01 + 20 (1 - t))`, perceptual terms that rise one after another, and the adversary times t.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError
from restora.training.batch import Batch
from restora.training.criterion import Criterion
from restora.training.procedures.base import restored
from restora.training.procedures.gan import Adversarial, AdversarialOptions
from restora.training.recipe import Loss


class SROOEOptions(AdversarialOptions):
    pixel: tuple[float, float] = Field(
        (0.01, 20.0), description="a, b: the recipe's own loss is multiplied by a + b (1 - t)"
    )
    perceptual: list[Loss] = Field(
        [],
        description="terms in the order in which they rise: with n of them, the k-th goes from 0 to its weight while t goes from "
        "(k - 1) / n to k / n; the paper's are V12, V22, V34 and V44 of VGG-19, 0.25 each",
    )
    validate_at: float = Field(0.0, ge=0, le=1, description="the t at which held-out pictures are measured")


class SROOE(Adversarial):
    """The generator with a drawn objective."""

    Options = SROOEOptions
    options: SROOEOptions  # type: ignore[assignment]

    def __init__(self, recipe: Any, net: Any, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        self.rising = Criterion(options.perceptual)
        if not any(c.name == "t" for c in net.spec.controls):
            raise RecipeError(
                f"The procedure 'srooe' trains a network that is told its objective, as srooe_generator is; "
                f"{recipe.network.variant} is not."
            )

    def helpers(self) -> list[nn.Module]:
        return [*super().helpers(), self.rising]

    def objective(self, step: int) -> float:
        """The t of a step; it depends on the recipe's seed and the step only."""
        return float(np.random.default_rng((self.recipe.seed, step, 2)).random())

    def generate(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        t = self.objective(step)
        batch.controls["t"] = t
        output = self.predict(batch)
        base, slope = self.options.pixel
        factor = base + slope * (1 - t)
        terms = {name: factor * term for name, term in self.criterion(output, batch.target, batch.mask).items()}
        heights = rise(t, len(self.rising.names))
        if any(heights):
            perceptual = self.rising(output, batch.target, batch.mask)
            for name, height in zip(self.rising.names, heights, strict=True):
                if name in perceptual:
                    terms[f"perceptual.{name}"] = height * perceptual[name]
        return output, terms

    def adversarial_weight(self, batch: Batch, step: int) -> float:
        return self.adversary.weight * self.objective(step)

    def restore(self, net: nn.Module, batch: Batch) -> Tensor:
        batch.controls.setdefault("t", self.options.validate_at)
        return restored(net, batch)


def rise(t: float, count: int) -> list[float]:
    """The heights of `count` ramps that follow one another over [0, 1].

    >>> rise(0.375, 4)
    [1.0, 0.5, 0.0, 0.0]
    """
    return [min(max(count * t - n, 0.0), 1.0) for n in range(count)]


PROCEDURE = SROOE

"""Distillation: a small network learns from the clean picture and from a better network's answer to the same input.

Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, carried over to pictures: what cannot be known from the
input is missing from the teacher's answer too, so that this target is less noisy than the clean picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError, RestoraError
from restora.networks.spec import NetworkSpec
from restora.training.batch import Batch
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions, restored


class DistilledOptions(ProcedureOptions):
    teacher: str = Field(description="model, or checkpoint file, whose answers are learned")
    weight: float = Field(1.0, gt=0, description="factor of the recipe's terms between answer and teacher's answer")


class Distilled(Procedure):
    """One phase, `sum of terms(net(y), x) + weight * sum of terms(net(y), teacher(y))`.

    In batches of a scale that the teacher does not have, the first part stands alone: one scale of several may have a teacher.

    Raises:
        RecipeError: no such teacher, or one that has none of the task's scales or takes other pictures than the network.
    """

    Options = DistilledOptions
    options: DistilledOptions

    def __init__(self, recipe: Any, net: nn.Module, options: DistilledOptions, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        self.teacher = _load(options.teacher).requires_grad_(False).eval()
        mine: NetworkSpec = net.spec  # type: ignore[assignment]
        its: NetworkSpec = self.teacher.spec  # type: ignore[assignment]
        if not set(its.scales) & set(pairs.maker.scales):
            raise RecipeError(f"The teacher '{options.teacher}' has none of the scales that are trained.")
        if its.colour != mine.colour:
            raise RecipeError(
                f"The teacher '{options.teacher}' and {recipe.network.variant} take different kinds of pictures."
            )
        self.scales = its.scales

    def helpers(self) -> list[nn.Module]:
        return [*super().helpers(), self.teacher]

    def phases(self) -> Sequence[Phase]:
        return [Phase("net", self.loss)]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The recipe's terms against the clean picture, and ``teacher.`` terms against the teacher's."""
        output = self.predict(batch)
        terms = dict(self.criterion(output, batch.target, batch.mask))
        if batch.scale in self.scales:
            with torch.no_grad():
                answer = restored(self.teacher, batch)
            for name, term in self.criterion(output, answer, batch.mask).items():
                terms[f"teacher.{name}"] = self.options.weight * term
        return terms


def _load(name: str) -> nn.Module:
    from restora import zoo

    try:
        return zoo.identify_file(name)[0] if Path(name).is_file() else zoo.load_network(zoo.find(name))
    except RestoraError as error:
        raise RecipeError(f"The recipe's teacher '{name}' cannot be had: {error}") from error


PROCEDURE = Distilled

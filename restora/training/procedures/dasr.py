"""DASR: an encoder of degradations learnt by contrast, then together with the restorer that it steers.

Wang et al.: Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021, section 3. Two views of one
degraded picture are a positive pair, the queue holds views of others; the loss is the contrast and the recipe's own.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError
from restora.networks.resblocks import DIV2K_RANGE
from restora.training.batch import Batch
from restora.training.contrast import MomentumContrast
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions


class DASROptions(ProcedureOptions):
    contrast: float = Field(1.0, ge=0, description="weight of the contrast")
    encoder_steps: int = Field(0, ge=0, description="so many steps at first the encoder learns alone, by contrast")
    view: int = Field(
        0, ge=0, description="side of the two views cut from each patch, in input pixels; 0: half the patch"
    )
    momentum: float = Field(0.999, ge=0, lt=1)
    temperature: float = Field(0.07, gt=0)


class DASRTraining(Procedure):
    """One phase. The views are drawn from a generator whose state is in the checkpoints; encoders and queue are in the network's
    own state."""

    Options = DASROptions
    options: DASROptions

    def __init__(self, recipe: Any, net: Any, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        if not hasattr(getattr(net, "E", None), "queue"):
            raise RecipeError(f"The procedure 'dasr' trains DASR's networks, not {recipe.network.variant}.")
        self.contrast = MomentumContrast(net.E, options.momentum, options.temperature)
        self.draws = torch.Generator().manual_seed(recipe.seed)
        side = options.view or recipe.data.patch // 2
        if side > recipe.data.patch:
            raise RecipeError(f"options.view: {side} pixels cannot be cut from patches of {recipe.data.patch}.")

    def helpers(self) -> list[nn.Module]:
        return [*super().helpers(), self.contrast]

    def phases(self) -> list[Phase]:
        return [Phase("net", self.loss)]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of a batch."""
        query, key = (DIV2K_RANGE * self.view(batch.input) for _ in range(2))
        value, _ = self.contrast(query, key)
        terms = {"contrast": self.options.contrast * value}
        if step >= self.options.encoder_steps:
            terms |= self.criterion(self.predict(batch), batch.target, batch.mask)
        return terms

    def view(self, x: Tensor) -> Tensor:
        """A crop of every picture at a place drawn for each."""
        side = self.options.view or x.shape[-1] // 2
        span = torch.tensor([n - side + 1 for n in x.shape[-2:]])
        places = (torch.rand(len(x), 2, generator=self.draws) * span).long().tolist()
        return torch.stack(
            [picture[:, top : top + side, left : left + side] for picture, (top, left) in zip(x, places, strict=True)]
        )

    def state(self) -> dict[str, Any]:
        return {"draws": self.draws.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.draws.set_state(state["draws"].cpu())


PROCEDURE = DASRTraining

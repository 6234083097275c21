"""DiffIR's stages: a prior learnt with the true picture, then one that diffusion draws without it, then an adversary.

Xia et al., ICCV 2023; the restoration specification, section 2.5. With a network of the first stage (`diffir_s1_...`) the loss
is the recipe's on `net(x, truth)`. With one of the second, the encoder of the first is the teacher: the loss is the recipe's and
`mean |drawn prior - teacher's prior|`. A discriminator makes it the third.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from restora.errors import RecipeError
from restora.networks.diffir import PriorEncoder
from restora.networks.window_attention import reflect_to_multiple
from restora.training.batch import Batch
from restora.training.procedures.base import restored
from restora.training.procedures.gan import Adversarial, AdversarialOptions
from restora.training.start import find_weights, take_over


class DiffIROptions(AdversarialOptions):
    prior: float = Field(1.0, ge=0, description="weight of the distance of the priors")
    joint_from: int = Field(
        0, ge=0, description="until this step only the encoder and the denoiser learn, from the distance of the priors"
    )
    teacher: str | None = Field(
        None, description="model or checkpoint file of the first stage, where it is no stage of this recipe"
    )

    @model_validator(mode="after")
    def _sensible(self) -> DiffIROptions:
        if self.joint_from and self.discriminator is not None:
            raise ValueError("joint_from is of the second stage, before there is a discriminator")
        return self


class DiffIR(Adversarial):
    """All stages; which one it is, network and options say."""

    Options = DiffIROptions
    options: DiffIROptions  # type: ignore[assignment]

    def __init__(self, recipe: Any, net: Any, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        self.diffir: Any = net
        self.first = getattr(net, "stage", 0) == 1
        self.keep = "last" if self.discriminator is not None else "best"
        if getattr(net, "stage", 0) not in (1, 2):
            raise RecipeError(f"The procedure 'diffir' trains DiffIR's networks, not {recipe.network.variant}.")
        self.teacher: PriorEncoder | None = None
        self.taught = False
        if not self.first:
            residuals = sum(hasattr(part, "body") for part in self.diffir.condition.E)
            self.teacher = PriorEncoder(self.diffir.scale, True, residuals).requires_grad_(False)
            if options.teacher is not None:
                self._teach(find_weights(options.teacher, []), options.teacher)

    def _teach(self, first_stage: dict[str, Tensor], where: str) -> None:
        """Takes encoder and transformer of a first stage."""
        assert self.teacher is not None
        encoder = {key.removeprefix("E."): value for key, value in first_stage.items() if key.startswith("E.")}
        if take_over(self.teacher, encoder) < len(self.teacher.state_dict()):
            raise RecipeError(f"{where} is no first stage of {self.recipe.network.variant}: its encoder does not fit.")
        take_over(self.diffir, first_stage, self.recipe.network.reinitialise)
        self.taught = True

    def modules(self) -> dict[str, nn.Module]:
        return {**super().modules(), **({} if self.teacher is None else {"teacher": self.teacher})}

    def inherit(self, before: dict[str, dict[str, Tensor]]) -> None:
        """After a first stage its encoder is the teacher; after a second everything goes on."""
        if self.teacher is not None and "teacher" not in before:
            self._teach(before["net"], "The stage before")
            return
        super().inherit(before)
        self.taught = True

    def before_step(self, step: int) -> None:
        if self.teacher is not None and not self.taught:
            raise RecipeError(
                "DiffIR's second stage needs the first as its teacher: make it the stage before in the recipe, or name its "
                "weights as options.teacher."
            )

    def restore(self, net: nn.Module, batch: Batch) -> Tensor:
        """The first stage is measured with the true picture: an upper bound of the second."""
        if self.first:
            return net(batch.input, batch.target).float()
        return restored(net, batch)

    def generate(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        if self.first:
            return super().generate(batch, step)
        assert self.teacher is not None
        height, width = batch.target.shape[-2:]
        x = reflect_to_multiple(batch.input, 8)
        with torch.no_grad():
            prior, _ = self.teacher(x, reflect_to_multiple(batch.target, 8 * self.diffir.scale))
        noise = torch.randn(prior.shape, generator=self.draws).to(x)
        drawn = self.diffir.diffusion(x, prior=prior, z=noise)
        terms = {"prior": self.options.prior * (drawn.float() - prior.float()).abs().mean()}
        if step < self.options.joint_from:
            return batch.target, terms
        output = self.diffir.G(x, drawn)[..., :height, :width].float()
        return output, {**self.criterion(output, batch.target, batch.mask), **terms}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "taught": self.taught}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.taught = bool(state["taught"])


PROCEDURE = DiffIR

"""Adversarial training: the network against its targets and against a discriminator, which learns beside it.

One procedure for SRGAN (Ledig et al., CVPR 2017), PCARN (Ahn et al., Pattern Recognition 2022), ESRGAN and Real-ESRGAN (Wang et
al., 2018 and 2021), DeblurGAN and DeblurGAN-v2 (Kupyn et al., 2018 and 2019): they differ in discriminator, objective and
losses, which the recipe names. Their first phase, on pixels alone, is a stage of the recipe with the supervised procedure.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor, nn

from restora import networks
from restora.errors import RecipeError, RestoraError
from restora.training.batch import Batch
from restora.training.gan import GanObjective, build_gan, without_sigmoid
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions
from restora.training.recipe import Part


class Judge(Part):
    """A discriminator."""

    variant: str
    config: dict[str, Any] = Field({}, description="constructor arguments that differ from the variant's")


class AdversarialOptions(ProcedureOptions):
    """Keys of every procedure that may have a discriminator."""

    discriminator: Judge | None = Field(None, description="None trains without an adversary")
    adversarial: dict[str, Any] = Field(
        {"kind": "vanilla"}, description="the objective, its weight and its penalties: restora.training.gan.build_gan"
    )
    range: Literal["unit", "symmetric"] = Field(
        "unit", description="of the pictures that the discriminator sees: [0, 1], or [-1, 1]"
    )
    crop: int = Field(
        0,
        ge=0,
        description="the discriminator sees random crops of this side, a double-scale one with its first critic only; 0: all",
    )
    repeat: int = Field(1, ge=1, description="steps of the discriminator for each of the network")
    warmup: int = Field(0, ge=0, description="steps during which the discriminator learns alone")

    @field_validator("adversarial")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            build_gan(value)
        except RestoraError as error:
            raise ValueError(str(error)) from error
        return value


class Adversarial(Procedure):
    """Base of procedures with a discriminator: the network's phase, then the discriminator's on the same pictures, detached.

    The trainer freezes the discriminator while the network learns. The random places of the gradient penalty come from a
    generator of its own, whose state is in the checkpoints.
    """

    Options: ClassVar[type[BaseModel]] = AdversarialOptions
    options: AdversarialOptions
    # the weights of the best PSNR are those before the adversary had an effect
    keep: str = "last"

    def __init__(self, recipe: Any, net: Any, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        self.adversary: GanObjective = build_gan(options.adversarial)
        self.draws = torch.Generator().manual_seed(recipe.seed)
        self.discriminator: nn.Module | None = None
        if options.discriminator is not None:
            made = networks.create(options.discriminator.variant, **options.discriminator.config)
            self._check(made)
            self.discriminator = without_sigmoid(made)

    def _check(self, discriminator: nn.Module) -> None:
        spec: Any = discriminator.spec
        name = self.options.discriminator.variant if self.options.discriminator else ""
        if spec.task != "discriminator":
            raise RecipeError(
                f"options.discriminator: '{name}' restores pictures (task {spec.task}), it does not judge them."
            )
        patches = [self.recipe.data.patch, *(g.patch for g in self.recipe.data.growth)]
        for patch in patches:
            for scale in self.pairs.maker.scales:
                side = patch * scale
                if self.options.crop and not _double_scale(discriminator):
                    side = min(side, self.options.crop)
                if side % spec.multiple_of or side < spec.minimum:
                    multiple = f" and in multiples of {spec.multiple_of}" if spec.multiple_of > 1 else ""
                    raise RecipeError(
                        f"'{name}' judges pictures from {spec.minimum} pixels a side{multiple}; patches of {patch} at scale "
                        f"{scale} are {side}. Change data.patch."
                    )

    def modules(self) -> dict[str, nn.Module]:
        judges = {} if self.discriminator is None else {"discriminator": self.discriminator}
        return {**super().modules(), **judges}

    def phases(self) -> Sequence[Phase]:
        of_net = Phase("net", self.network_loss, first=self.options.warmup if self.discriminator is not None else 0)
        if self.discriminator is None:
            return [of_net]
        return [of_net, Phase("discriminator", self.discriminator_loss, ("discriminator",), repeat=self.options.repeat)]

    # -- what a procedure of its own changes ------------------------------------------------------------------------

    def generate(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's picture, `B x C x H x W` in [0, 1], and the weighted terms of its loss but for the adversary's."""
        output = self.predict(batch)
        return output, dict(self.criterion(output, batch.target, batch.mask))

    def adversarial_weight(self, batch: Batch, step: int) -> float:
        """The factor of the adversary's term in the network's loss."""
        return self.adversary.weight

    # -- the two phases ---------------------------------------------------------------------------------------------

    def network_loss(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """The terms of the network's loss."""
        output, terms = self.generate(batch, step)
        weight = self.adversarial_weight(batch, step)
        if self.discriminator is None:
            return terms
        batch.extra["made"] = output.detach()
        if weight:
            real = None
            with torch.no_grad():
                if self.adversary.needs_real:
                    real = self.judge(batch.target)
            terms["adversarial"] = weight * self.adversary.generator_loss(real, self.judge(output))
        return terms

    def discriminator_loss(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """The terms of the discriminator's loss."""
        made = batch.extra.get("made")
        if made is None:  # the network does not learn in this step
            with torch.no_grad():
                made = self.generate(batch, step)[0]
            batch.extra["made"] = made
        terms = {"adversarial": self.adversary.discriminator_loss(self.judge(batch.target), self.judge(made))}
        if self.adversary.penalised(step):
            # gradients of gradients need the full precision
            with torch.autocast(made.device.type, enabled=False):
                real, fake = self.seen(batch.target.float()), self.seen(made.float())
                terms["penalty"] = self.adversary.penalty(self.logits, real, fake, self.draws)
        return terms

    def judge(self, x: Tensor) -> Tensor | list[Tensor]:
        """The discriminator's logits of pictures in [0, 1], float32."""
        return self.logits(self.seen(x))

    def seen(self, x: Tensor) -> Tensor:
        """Pictures in [0, 1] in the discriminator's range."""
        return 2 * x - 1 if self.options.range == "symmetric" else x

    def logits(self, x: Tensor) -> Tensor | list[Tensor]:
        """The discriminator's logits, float32, of pictures in its range."""
        assert self.discriminator is not None
        crop = self._crop(x) if self.options.crop else x
        found = self.discriminator(x, crops=crop) if _double_scale(self.discriminator) else self.discriminator(crop)
        return found.float() if isinstance(found, Tensor) else [part.float() for part in found]

    def _crop(self, x: Tensor) -> Tensor:
        side = min(self.options.crop, *x.shape[-2:])
        top, left = (int(torch.randint(n - side + 1, (1,), generator=self.draws)) for n in x.shape[-2:])
        return x[..., top : top + side, left : left + side]

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"draws": self.draws.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.draws.set_state(state["draws"].cpu())


def _double_scale(discriminator: nn.Module) -> bool:
    """Whether it has a critic for crops and one for whole pictures."""
    return "crops" in inspect.signature(discriminator.forward).parameters


class GanOptions(AdversarialOptions):
    discriminator: Judge


class Gan(Adversarial):
    """The recipe's losses and an adversary."""

    Options = GanOptions


PROCEDURE = Gan

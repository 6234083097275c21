"""Adversarial objectives: what a generator and a discriminator minimise, and the penalties that keep the latter smooth.

All objectives work on logits (scores before any sigmoid), tensors of any shape. A discriminator with several outputs
(multi-scale, double-scale) gives a list; the value is then the mean over the list (or the sum, `reduce="sum"`).

    gan = build_gan({"kind": "ragan-ls", "weight": 0.01})
    loss_d = gan.discriminator_loss(critic(real), critic(fake.detach()))
    loss_g = gan.weight * gan.generator_loss(critic(real), critic(fake))
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError, UsageError
from restora.training.losses.base import Options, parse

Logits = Tensor | Sequence[Tensor]
Discriminator = Callable[[Tensor], Logits]


@dataclass(frozen=True)
class Form:
    """The three functions that an objective is made of, element by element.

    `real(s)` and `fake(s)` are what the discriminator pays for a score s of a true or a made picture; `deceive(s)` is what the
    generator pays for a made one. `fake_relative` stands for `fake` where scores are relative to the other kind's mean, when it
    differs (least squares aims at -1 there, not at 0).
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    deceive: Callable[[Tensor], Tensor]
    fake_relative: Callable[[Tensor], Tensor] | None = None
    relative_factor: float = 1.0


FORMS: dict[str, Form] = {
    # -log sigmoid(s) = softplus(-s); the generator's is the non-saturating one: Goodfellow et al., NIPS 2014
    "vanilla": Form(lambda s: F.softplus(-s), F.softplus, lambda s: F.softplus(-s)),
    # Mao et al., LSGAN, ICCV 2017, equation 9 (a = 0, b = c = 1)
    "lsgan": Form(
        lambda s: 0.5 * (s - 1) ** 2,
        lambda s: 0.5 * s**2,
        lambda s: 0.5 * (s - 1) ** 2,
        lambda s: 0.5 * (s + 1) ** 2,
        # the relativistic form has no halves: Kupyn et al., DeblurGAN-v2, ICCV 2019, equation 1
        relative_factor=2.0,
    ),
    # Lim, Ye 2017; Miyato et al., ICLR 2018, equations 16 and 17
    "hinge": Form(lambda s: F.relu(1 - s), lambda s: F.relu(1 + s), lambda s: -s),
    # Arjovsky, Chintala, Bottou, ICML 2017
    "wgan": Form(lambda s: -s, lambda s: s, lambda s: -s),
}


def discriminator_loss(form: Form, real: Tensor, fake: Tensor) -> Tensor:
    """`E real(D(x)) + E fake(D(G(z)))`: a scalar."""
    return form.real(real).mean() + form.fake(fake).mean()


def generator_loss(form: Form, fake: Tensor) -> Tensor:
    """`E deceive(D(G(z)))`: a scalar."""
    return form.deceive(fake).mean()


def relativistic_loss(form: Form, real: Tensor, fake: Tensor) -> Tensor:
    """The relativistic average objective of the discriminator; the generator's is the same with both arguments exchanged.

    `E real(D(x) - E D(G(z))) + E fake(D(G(z)) - E D(x))`, each mean over the batch and all positions.

    Source: Jolicoeur-Martineau, ICLR 2019, equations 7 to 10; ESRGAN, ECCV workshops 2018, equation 3, with ``vanilla``.
    """
    fake_cost = form.fake_relative or form.fake
    return form.relative_factor * (form.real(real - fake.mean()).mean() + fake_cost(fake - real.mean()).mean())


def gradient_penalty(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    generator: torch.Generator | None = None,
    target: float = 1.0,
    positions: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """`E (||grad D(x)||_2 - target)^2` at random points x between true and made pictures.

    Source: Gulrajani et al., Improved Training of Wasserstein GANs, NIPS 2017, equation 3 and algorithm 1.

    Args:
        real, fake: `B x ...` of one shape; no gradient goes back to the generator.
        generator: draws the B places between them, on the CPU; None draws from torch's global state.
        positions: a critic with a map of scores has one value a picture, their ``mean`` (as in the objectives here) or their
            ``sum`` (as the gradient is usually coded; far stricter for large maps).

    Raises:
        UsageError: real and fake of different shapes.
    """
    if real.shape != fake.shape:
        raise UsageError(f"A gradient penalty lies between pictures of one shape, not {real.shape} and {fake.shape}.")
    place = torch.rand(real.shape[0], generator=generator).to(real)
    place = place.view(-1, *[1] * (real.ndim - 1))
    x = torch.lerp(fake.detach(), real.detach(), place).requires_grad_(True)
    norms = [g.flatten(1).norm(dim=1) for g in _gradients(discriminator, x, positions)]
    return torch.stack([((norm - target) ** 2).mean() for norm in norms]).mean()


def r1_penalty(discriminator: Discriminator, real: Tensor, positions: Literal["mean", "sum"] = "sum") -> Tensor:
    """`E ||grad D(x)||^2 / 2` on true pictures.

    Source: Mescheder, Geiger, Nowozin, ICML 2018, equation 9 (gamma is the caller's factor). Arguments as `gradient_penalty`.
    """
    x = real.detach().requires_grad_(True)
    squares = [g.flatten(1).square().sum(dim=1) for g in _gradients(discriminator, x, positions)]
    return torch.stack([s.mean() for s in squares]).mean() / 2


def _gradients(discriminator: Discriminator, x: Tensor, positions: str) -> list[Tensor]:
    """The gradient of each output's value by each picture, differentiable."""
    with torch.enable_grad():
        found = []
        for scores in as_list(discriminator(x)):
            values = scores.reshape(len(x), -1)
            values = values.mean(dim=1) if positions == "mean" else values.sum(dim=1)
            found.append(torch.autograd.grad(values.sum(), x, create_graph=True)[0])
    return found


def as_list(logits: Logits) -> list[Tensor]:
    """The outputs of a discriminator that has one or several."""
    return [logits] if isinstance(logits, Tensor) else list(logits)


class GanOptions(Options):
    """Options of every adversarial objective. `weight` is the factor of the generator's term."""

    reduce: Literal["mean", "sum"] = Field("mean", description="over the outputs of a discriminator with several")
    saturating: bool = Field(False, description="vanilla only: the generator minimises log(1 - D), the minimax form")
    gradient_penalty: float = Field(0.0, ge=0, description="factor of the gradient penalty; wgan-gp has 10")
    r1: float = Field(0.0, ge=0, description="gamma of the R1 penalty")
    every: int = Field(1, ge=1, description="steps between penalties; the penalty is multiplied by it to keep its mean")
    positions: Literal["mean", "sum"] | None = Field(
        None, description="a map's value in penalties; None is mean for the gradient penalty, sum for R1"
    )


class GanObjective:
    """An adversarial objective. Make one with `build_gan`.

    `generator_loss` and `discriminator_loss` take the logits of true and made pictures; `penalty` the pictures. Relativistic
    kinds need the true ones' logits for the generator too (`needs_real`), others ignore them there.
    """

    def __init__(self, kind: str, form: Form, relativistic: bool, options: GanOptions) -> None:
        if options.saturating and (relativistic or kind != "vanilla"):
            raise RecipeError(f"Only the vanilla objective has a saturating form, '{kind}' has none.")
        self.kind, self.form, self.needs_real, self.options = kind, form, relativistic, options
        self.weight = options.weight

    def discriminator_loss(self, real: Logits, fake: Logits) -> Tensor:
        """What the discriminator minimises, without penalties; a scalar. `fake` comes from detached pictures."""
        loss = relativistic_loss if self.needs_real else discriminator_loss
        return self._over_outputs([loss(self.form, r, f) for r, f in self._pairs(real, fake)])

    def generator_loss(self, real: Logits | None, fake: Logits) -> Tensor:
        """What the generator minimises, not multiplied by `weight`; a scalar. No gradient goes to the true pictures' logits.

        Raises:
            UsageError: a relativistic objective without the logits of true pictures.
        """
        if self.needs_real:
            if real is None:
                raise UsageError(f"The objective '{self.kind}' compares with true pictures; their logits are missing.")
            terms = [relativistic_loss(self.form, f, r.detach()) for r, f in self._pairs(real, fake)]
        elif self.options.saturating:
            terms = [-self.form.fake(f).mean() for f in as_list(fake)]
        else:
            terms = [generator_loss(self.form, f) for f in as_list(fake)]
        return self._over_outputs(terms)

    def penalised(self, step: int) -> bool:
        """Whether a penalty is due at a step."""
        wanted = self.options.gradient_penalty > 0 or self.options.r1 > 0
        return wanted and step % self.options.every == 0

    def penalty(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The penalties with their factors, times `every`; a scalar, 0 when the objective has none.

        Args:
            real, fake: `B x C x H x W`. generator: of the random places of the gradient penalty.
        """
        o, total = self.options, real.new_zeros(())
        if o.gradient_penalty:
            value = gradient_penalty(discriminator, real, fake, generator, positions=o.positions or "mean")
            total = total + o.gradient_penalty * value
        if o.r1:
            total = total + o.r1 * r1_penalty(discriminator, real, o.positions or "sum")
        return total * o.every

    def _pairs(self, real: Logits, fake: Logits) -> list[tuple[Tensor, Tensor]]:
        return list(zip(as_list(real), as_list(fake), strict=True))

    def _over_outputs(self, terms: list[Tensor]) -> Tensor:
        total = torch.stack(terms).sum()
        return total / len(terms) if self.options.reduce == "mean" else total


# name -> form, relativistic, defaults that differ
_KINDS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "vanilla": ("vanilla", False, {}),
    "lsgan": ("lsgan", False, {}),
    "hinge": ("hinge", False, {}),
    "wgan": ("wgan", False, {}),
    "wgan-gp": ("wgan", False, {"gradient_penalty": 10.0}),
    "ragan": ("vanilla", True, {}),
    "ragan-ls": ("lsgan", True, {}),
    "ragan-hinge": ("hinge", True, {}),
}


def gan_names() -> list[str]:
    """The kinds of objectives."""
    return list(_KINDS)


def build_gan(config: Mapping[str, Any]) -> GanObjective:
    """An objective from `{"kind": "ragan", "weight": 0.005, ...}`; the other keys are those of `GanOptions`.

    Kinds: ``vanilla`` (non-saturating), ``lsgan``, ``hinge``, ``wgan``, ``wgan-gp``, and the relativistic average ``ragan``,
    ``ragan-ls``, ``ragan-hinge``.

    Raises:
        RecipeError: no such kind, an unknown option or an impossible value.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in _KINDS:
        near = difflib.get_close_matches(str(kind), _KINDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RecipeError(f"There is no adversarial objective '{kind}'; they are {', '.join(_KINDS)}.{hint}")
    form, relativistic, defaults = _KINDS[kind]
    parsed = parse(GanOptions, {**defaults, **options}, f"the objective '{kind}'")
    return GanObjective(kind, FORMS[form], relativistic, parsed)


def without_sigmoid(discriminator: nn.Module) -> nn.Module:
    """The same discriminator, in place, giving logits where it gave probabilities (a `Sigmoid` layer at the end, or a
    `sigmoid` switch, as PCARN's and SRGAN's have). It has no weights, so checkpoints fit as before."""
    for module in list(discriminator.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Sigmoid):
                setattr(module, name, nn.Identity())
        if isinstance(getattr(module, "sigmoid", None), bool):
            module.sigmoid = False  # type: ignore[assignment]
    return discriminator

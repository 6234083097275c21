"""Adversarial objectives and penalties against closed forms; each trains a toy generator to its distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from restora import networks
from restora.errors import RecipeError, UsageError
from restora.training.gan import GanObjective, build_gan, gan_names, gradient_penalty, r1_penalty, without_sigmoid

REAL, FAKE = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [0.5]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def by_hand(kind: str, real: list[float], fake: list[float]) -> tuple[float, float]:
    """(discriminator, generator) from the papers' formulas, one score at a time."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    mr, mf = mean(real), mean(fake)
    above, below = [r - mf for r in real], [f - mr for f in fake]
    return {
        "vanilla": (
            mean([softplus(-r) for r in real]) + mean([softplus(f) for f in fake]),
            mean([softplus(-f) for f in fake]),
        ),
        "lsgan": (
            mean([(r - 1) ** 2 for r in real]) / 2 + mean([f**2 for f in fake]) / 2,
            mean([(f - 1) ** 2 for f in fake]) / 2,
        ),
        "hinge": (mean([max(0, 1 - r) for r in real]) + mean([max(0, 1 + f) for f in fake]), -mf),
        "wgan": (mf - mr, -mf),
        "wgan-gp": (mf - mr, -mf),
        "ragan": (
            mean([softplus(-a) for a in above]) + mean([softplus(b) for b in below]),
            mean([softplus(a) for a in above]) + mean([softplus(-b) for b in below]),
        ),
        "ragan-ls": (
            mean([(a - 1) ** 2 for a in above]) + mean([(b + 1) ** 2 for b in below]),
            mean([(a + 1) ** 2 for a in above]) + mean([(b - 1) ** 2 for b in below]),
        ),
        "ragan-hinge": (
            mean([max(0, 1 - a) for a in above]) + mean([max(0, 1 + b) for b in below]),
            mean([max(0, 1 + a) for a in above]) + mean([max(0, 1 - b) for b in below]),
        ),
    }[kind]


@pytest.mark.parametrize("kind", gan_names())
def test_objectives_are_the_formulas(kind: str) -> None:
    gan = build_gan({"kind": kind})
    d, g = by_hand(kind, REAL.flatten().tolist(), FAKE.flatten().tolist())
    assert float(gan.discriminator_loss(REAL, FAKE)) == pytest.approx(d, rel=1e-6)
    assert float(gan.generator_loss(REAL, FAKE)) == pytest.approx(g, rel=1e-6)


@pytest.mark.parametrize("kind", gan_names())
def test_several_outputs_are_averaged_or_summed(kind: str) -> None:
    one, two = build_gan({"kind": kind}), build_gan({"kind": kind, "reduce": "sum"})
    real, fake = [REAL, 3 * REAL[:1].view(1, 1, 1, 1)], [FAKE, FAKE[:1].view(1, 1, 1, 1)]
    parts = [float(one.discriminator_loss(r, f)) for r, f in zip(real, fake, strict=True)]
    assert float(one.discriminator_loss(real, fake)) == pytest.approx(sum(parts) / 2)
    assert float(two.discriminator_loss(real, fake)) == pytest.approx(sum(parts))
    parts = [float(one.generator_loss(r, f)) for r, f in zip(real, fake, strict=True)]
    assert float(one.generator_loss(real, fake)) == pytest.approx(sum(parts) / 2)
    with pytest.raises(ValueError, match="shorter"):
        one.discriminator_loss(real, fake[:1])


@pytest.mark.parametrize("kind", gan_names())
def test_a_generator_step_raises_the_score(kind: str) -> None:
    """The generator's gradient points to higher scores of its pictures, and none comes back to the true ones."""
    real, fake = (torch.tensor(s).requires_grad_(True) for s in ([[0.3], [0.0]], [[-0.1], [0.2]]))
    gan = build_gan({"kind": kind})
    gan.generator_loss(real, fake).backward()
    assert (fake.grad <= 0).all() and fake.grad.sum() < 0
    assert real.grad is None
    fake.grad = None
    gan.discriminator_loss(real, fake).backward()
    assert real.grad.sum() < 0 < fake.grad.sum()


def test_the_saturating_form_is_the_minimax_game() -> None:
    gan = build_gan({"kind": "vanilla", "saturating": True})
    expected = -sum(softplus(f) for f in FAKE.flatten().tolist()) / 2  # log(1 - sigmoid(f))
    assert float(gan.generator_loss(None, FAKE)) == pytest.approx(expected)
    with pytest.raises(RecipeError, match="saturating"):
        build_gan({"kind": "hinge", "saturating": True})


def test_relativistic_kinds_need_the_true_scores() -> None:
    assert build_gan({"kind": "ragan"}).needs_real and not build_gan({"kind": "hinge"}).needs_real
    with pytest.raises(UsageError, match="true pictures"):
        build_gan({"kind": "ragan"}).generator_loss(None, FAKE)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'ragan'"):
        build_gan({"kind": "ragn"})
    with pytest.raises(RecipeError, match="lambda"):
        build_gan({"kind": "wgan-gp", "lambda": 10})
    with pytest.raises(RecipeError, match="r1"):
        build_gan({"kind": "vanilla", "r1": -1})


# -- penalties ------------------------------------------------------------------------------------------------------


def linear_critic(x: Tensor) -> Tensor:
    """w.x with |w| = sqrt(3 * 64) * 0.25 = 2 sqrt(3)."""
    return 0.25 * x.flatten(1).sum(dim=1, keepdim=True)


def test_gradient_penalty_of_a_linear_critic() -> None:
    real, fake = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    expected = (math.sqrt(192) * 0.25 - 1) ** 2
    assert float(gradient_penalty(linear_critic, real, fake)) == pytest.approx(expected, rel=1e-5)
    assert float(gradient_penalty(linear_critic, real, fake, target=0)) == pytest.approx(12, rel=1e-5)
    gan = build_gan({"kind": "wgan-gp"})
    assert float(gan.penalty(linear_critic, real, fake)) == pytest.approx(10 * expected, rel=1e-5)
    assert float(build_gan({"kind": "wgan"}).penalty(linear_critic, real, fake)) == 0


def test_gradient_penalty_of_a_quadratic_critic_depends_on_the_place() -> None:
    """D(x) = |x|^2 / 2 has the gradient x; between 0 and a picture of norm n, the place e gives (e n - 1)^2."""

    def critic(x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(dim=1) / 2

    real, fake = torch.full((5, 1, 2, 2), 1.5), torch.zeros(5, 1, 2, 2)
    places = torch.rand(5, generator=torch.Generator().manual_seed(7))
    value = gradient_penalty(critic, real, fake, torch.Generator().manual_seed(7))
    assert float(value.detach()) == pytest.approx(float(((3 * places - 1) ** 2).mean()), rel=1e-5)


def test_a_map_counts_as_its_mean_or_its_sum() -> None:
    def critic(x: Tensor) -> Tensor:  # 16 scores a picture, each w.x of its own pixel: |grad of the sum| = 2 * sqrt(16)
        return 2 * x

    real, fake = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    assert float(gradient_penalty(critic, real, fake)) == pytest.approx((8 / 16 - 1) ** 2, rel=1e-5)
    assert float(gradient_penalty(critic, real, fake, positions="sum")) == pytest.approx(49, rel=1e-5)


def test_penalties_of_several_outputs_are_averaged() -> None:
    real, fake = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    single = [gradient_penalty(lambda x, k=k: k * linear_critic(x), real, fake) for k in (1, 2)]
    both = gradient_penalty(lambda x: [linear_critic(x), 2 * linear_critic(x)], real, fake)
    assert float(both) == pytest.approx(float(sum(single)) / 2, rel=1e-5)


def test_r1_of_a_linear_critic_and_its_lazy_form() -> None:
    real = torch.rand(4, 3, 8, 8)
    assert float(r1_penalty(linear_critic, real)) == pytest.approx(12 / 2, rel=1e-5)
    gan = build_gan({"kind": "vanilla", "r1": 10, "every": 16})
    assert [s for s in range(40) if gan.penalised(s)] == [0, 16, 32]
    assert float(gan.penalty(linear_critic, real, real)) == pytest.approx(10 * 6 * 16, rel=1e-5)
    assert not build_gan({"kind": "vanilla"}).penalised(0)


def test_penalties_train_the_critic_and_not_the_generator() -> None:
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    real, fake = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8, requires_grad=True)
    with torch.no_grad():  # the caller's mode does not matter
        value = gradient_penalty(critic, real, fake)
    (value + r1_penalty(critic, real)).backward()
    assert critic[0].weight.grad.abs().sum() > 0 and fake.grad is None
    with pytest.raises(UsageError, match="one shape"):
        gradient_penalty(critic, real, fake[:1])


@pytest.mark.parametrize("variant", ["pcarn_discriminator_1", "pcarn_discriminator"])
def test_without_sigmoid_gives_the_logits(variant: str) -> None:
    torch.manual_seed(0)
    net = networks.create(variant)
    x = torch.rand(1, 3, 32, 32)
    keys = list(net.state_dict())
    with torch.no_grad():
        before = net(x)
        after = without_sigmoid(net)(x)
    pairs = zip(before, after, strict=True) if isinstance(before, list) else [(before, after)]
    assert all(torch.allclose(torch.logit(p), s, atol=1e-4) for p, s in pairs)
    assert list(net.state_dict()) == keys


# -- a toy distribution ---------------------------------------------------------------------------------------------


def multilayer(width: int = 24) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(1, width), nn.LeakyReLU(0.2)), *(nn.Linear(width, width), nn.LeakyReLU(0.2)), nn.Linear(width, 1)
    )


def train_toy(gan: GanObjective, steps: int, critic_steps: int = 1) -> Tensor:
    """A generator from normal noise to the line x ~ N(2, 0.5); returns 4000 samples of its averaged weights."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    generator, critic = multilayer(), multilayer()
    weights = list(generator.parameters())
    average = [p.detach().clone() for p in weights]
    of_g = torch.optim.Adam(weights, 3e-3, betas=(0.5, 0.9), fused=True)
    of_d = torch.optim.Adam(critic.parameters(), 6e-3, betas=(0.5, 0.9), fused=True)

    def noise(n: int = 64) -> Tensor:
        return torch.randn(n, 1, generator=draw)

    for step in range(steps):
        for _ in range(critic_steps):
            real, fake = 2 + 0.5 * noise(), generator(noise()).detach()
            loss = gan.discriminator_loss(critic(real), critic(fake))
            if gan.penalised(step):
                loss = loss + gan.penalty(critic, real, fake, draw)
            of_d.zero_grad()
            loss.backward()
            of_d.step()
        real_scores = critic(2 + 0.5 * noise()) if gan.needs_real else None
        loss = gan.generator_loss(real_scores, critic(generator(noise())))
        of_g.zero_grad()
        loss.backward()
        of_g.step()
        torch._foreach_lerp_(average, [p.detach() for p in weights], 0.02)
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
        return generator(noise(4000))


@pytest.mark.parametrize(
    ("config", "critic_steps"),
    [
        ({"kind": "vanilla", "r1": 0.2}, 1),
        ({"kind": "lsgan"}, 2),
        ({"kind": "hinge", "r1": 0.2}, 1),
        ({"kind": "wgan-gp", "gradient_penalty": 0.3}, 3),
        ({"kind": "ragan"}, 2),
    ],
    ids=lambda c: c["kind"] if isinstance(c, dict) else "",
)
def test_a_toy_distribution_is_learnt(config: dict[str, object], critic_steps: int) -> None:
    samples = train_toy(build_gan(config), 300, critic_steps)
    # the untrained generator's samples lie about 0 with a deviation of a tenth
    assert float(samples.mean()) == pytest.approx(2, abs=0.2)
    assert float(samples.std()) == pytest.approx(0.5, abs=0.2)

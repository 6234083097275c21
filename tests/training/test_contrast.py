"""Contrast against closed forms: the loss, the momentum, the queue; and it tells degradations apart."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora import networks
from restora.errors import UsageError
from restora.training.contrast import EncoderPair, MomentumContrast, info_nce


class Projection(nn.Module):
    """Means of the colours, then a linear layer: representation and projection."""

    def __init__(self, dimension: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(3, dimension)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r = x.mean(dim=(2, 3))
        return r, self.linear(r)


def contrast(queue: int = 6, **options: float) -> MomentumContrast:
    torch.manual_seed(0)
    return MomentumContrast(EncoderPair(Projection(), 4, queue, torch.Generator().manual_seed(0)), **options).train()


def test_the_loss_by_hand() -> None:
    query, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    queue = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # two negatives, as columns
    e = [math.exp(s / 0.5) for s in (0.6, 0.0, -1.0)]
    assert float(info_nce(query, key, queue, 0.5)) == pytest.approx(-math.log(e[0] / sum(e)), rel=1e-6)


def test_hard_negatives_join_the_denominator() -> None:
    query, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    hard = torch.tensor([[[0.8, 0.6], [-1.0, 0.0]]])
    e = [math.exp(s / 0.5) for s in (0.6, 0.0, 0.8, -1.0)]
    value = info_nce(query, key, torch.tensor([[0.0], [1.0]]), 0.5, hard)
    assert float(value) == pytest.approx(-math.log(e[0] / sum(e)), rel=1e-6)


def test_indistinguishable_keys_cost_the_logarithm_of_their_number() -> None:
    unit = F.normalize(torch.ones(3, 4), dim=1)
    assert float(info_nce(unit, unit, unit[:1].T.expand(4, 15))) == pytest.approx(math.log(16), rel=1e-6)


def test_the_queue_holds_the_newest_keys_in_a_ring() -> None:
    moco = contrast(queue=5)
    start = moco.pair.queue.clone()
    first, second = torch.eye(4)[:3], -torch.eye(4)[:3]
    moco.enqueue(first)
    assert torch.equal(moco.pair.queue[:, :3], first.T) and torch.equal(moco.pair.queue[:, 3:], start[:, 3:])
    moco.enqueue(second)  # two places are left, the third is the oldest
    assert torch.equal(moco.pair.queue[:, 3:], second[:2].T) and torch.equal(moco.pair.queue[:, 0], second[2])
    assert int(moco.pair.queue_ptr) == 1


def test_the_key_encoder_follows_slowly() -> None:
    moco = contrast(momentum=0.9)
    with torch.no_grad():
        moco.pair.encoder_q.linear.weight.fill_(1.0)
        moco.pair.encoder_k.linear.weight.fill_(0.0)
    for n in (1, 2, 3):
        moco.follow()
        assert float(moco.pair.encoder_k.linear.weight.mean()) == pytest.approx(1 - 0.9**n, rel=1e-5)


def test_a_call_updates_in_training_only() -> None:
    moco, x = contrast(), torch.rand(2, 3, 8, 8)
    before = {k: v.clone() for k, v in moco.state_dict().items()}
    loss, representation = moco(x, x.flip(-1))
    loss.backward()
    assert representation.shape == (2, 3) and loss.shape == ()
    assert moco.pair.encoder_q.linear.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in moco.pair.encoder_k.parameters())
    assert int(moco.pair.queue_ptr) == 2 and not torch.equal(before["pair.queue"], moco.pair.queue)
    assert torch.allclose(moco.pair.queue.norm(dim=0), torch.ones(6), atol=1e-5)
    now = {k: v.clone() for k, v in moco.state_dict().items()}
    moco.eval()(x, x)
    assert all(torch.equal(now[k], v) for k, v in moco.state_dict().items())


def test_a_resumed_run_goes_on_exactly() -> None:
    first, views = contrast(), [torch.rand(4, 2, 3, 8, 8)[n] for n in range(4)]
    for x in views[:2]:
        first(x, x.flip(-1))
    second = contrast()
    second.load_state_dict(first.state_dict())
    losses = [[float(m(x, x.flip(-1))[0].detach()) for x in views[2:]] for m in (first, second)]
    assert losses[0] == losses[1]


def test_dasr_carries_its_own_pair() -> None:
    net = networks.create("dasr_x4", groups=1, blocks=1, channels=8, queue=8).train()
    moco = MomentumContrast(net.E).train()
    loss, representation = moco(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))
    assert representation.shape == (2, 256)
    assert int(net.state_dict()["E.queue_ptr"]) == 2
    loss.backward()
    assert net.E.encoder_q.E[0].weight.grad is not None


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="queue's 6"):
        contrast()(torch.rand(7, 3, 8, 8), torch.rand(7, 3, 8, 8))
    with pytest.raises(UsageError, match="momentum"):
        contrast(momentum=1.5)


def test_it_learns_to_tell_tints_apart() -> None:
    """Views of one tint in different noise become nearer than views of different tints."""
    moco = contrast(queue=64, momentum=0.9)
    draw = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(moco.pair.encoder_q.parameters(), 1e-2)

    def views(n: int) -> tuple[Tensor, Tensor]:
        tint = torch.rand(n, 3, 1, 1, generator=draw)
        a, b = (tint + 0.2 * torch.randn(n, 3, 8, 8, generator=draw) for _ in range(2))
        return a, b

    losses = []
    for _ in range(150):
        loss, _ = moco(*views(16))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.6 * sum(losses[8:28])
    a, b = (F.normalize(moco.pair.encoder_q(v)[1], dim=1) for v in views(64))
    nearest = (a @ b.T).argmax(dim=1)
    assert (nearest == torch.arange(64)).float().mean() > 0.3  # by chance it would be 1 / 64

"""A network as the engine calls it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restora.engine import NetworkOperator
from restora.networks.spec import NetworkSpec, exact


class Drawing(nn.Module):
    """A network that draws at random, as samplers do."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = NetworkSpec(task="denoise", tiling=exact(0), source="")
        self.layer = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, :3] + torch.randn_like(x)


def test_asking_for_the_memory_leaves_the_random_state_alone() -> None:
    operator = NetworkOperator(Drawing())
    before = torch.random.get_rng_state()
    assert operator.bytes_per_pixel() > 0
    assert torch.equal(torch.random.get_rng_state(), before)

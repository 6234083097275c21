"""A procedure for tests: a network and a second module that reacts to it, in two phases, with state of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from restora.training.batch import Batch
from restora.training.procedures.base import Phase, Procedure


class TwoPhase(Procedure):
    """`net` learns the picture and to please `critic`; the critic learns to tell it from the truth. Dropout draws from
    torch's own generator, a queue travels as a buffer, a counter as plain state."""

    def __init__(self, recipe: Any, net: nn.Module, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        self.critic = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 1, 3)
        )
        self.critic.register_buffer("queue", torch.zeros(8))
        self.count = 0

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "critic": self.critic}

    def phases(self) -> Sequence[Phase]:
        return [
            Phase("net", self.net_loss),
            Phase(
                "critic", self.critic_loss, ("critic",), every=2, repeat=2, optimiser={"kind": "sgd", "momentum": 0.5}
            ),
        ]

    def net_loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        fake = self.predict(batch)
        batch.extra["fake"] = fake.detach()
        return {**self.criterion(fake, batch.target), "adversarial": -0.01 * self.critic(fake).mean()}

    def critic_loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {
            "critic": (self.critic(batch.extra["fake"]) + 1).square().mean()
            + (self.critic(batch.target) - 1).square().mean()
        }

    def after_step(self, step: int) -> None:
        self.count += 1
        self.critic.queue[step % 8] = float(step)  # type: ignore[index, operator]

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]

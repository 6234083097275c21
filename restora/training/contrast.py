"""Contrastive learning of degradation representations: InfoNCE with a momentum encoder and a queue of negatives.

He, Fan, Wu, Xie, Girshick: Momentum Contrast (MoCo), CVPR 2020; used for degradations by Wang et al., DASR, CVPR 2021: two
patches of one degraded picture are a positive pair, the queue holds patches of others.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError


def info_nce(
    query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.07, hard: Tensor | None = None
) -> Tensor:
    """`-mean log (exp(q.k / t) / (exp(q.k / t) + sum_j exp(q.n_j / t)))`.

    Shapes: queries and their keys `B x D`, the queue's negatives `D x K`, further negatives of each query alone `B x N x D` (the
    same content in another degradation), all of unit length -> a scalar.

    Source: He et al., CVPR 2020, equation 1; DASR, equation 2; with `hard`, the controllable-restoration specification,
    equation 6.5, whose printed denominator lacks the positive pair.
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    negatives = [query @ queue]
    if hard is not None:
        negatives.append(torch.einsum("bd,bnd->bn", query, hard))
    logits = torch.cat([positive, *negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


class EncoderPair(nn.Module):
    """A query encoder, its slowly following copy and the queue, as published DASR checkpoints hold them (`DASR(...).E` is such
    a module).

    Args:
        encoder: gives the projection `B x D` of `B x C x H x W`, alone or as the last of a tuple.
        dimension: D. queue: K, the number of negatives.
        generator: draws the queue's random start.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self, encoder: nn.Module, dimension: int = 256, queue: int = 8192, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = encoder, copy.deepcopy(encoder)
        self.register_buffer("queue", F.normalize(torch.randn(dimension, queue, generator=generator), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))


class MomentumContrast(nn.Module):
    """The contrastive loss of two views, with the updates that belong to it.

    In training mode a call moves the key encoder towards the query encoder, `k <- m k + (1 - m) q`, computes the loss, and puts
    the new keys into the queue in place of the oldest. In eval mode it only computes. Encoders, queue and its position are in
    the state dict, so a run resumes exactly.

    Args:
        pair: a module with `encoder_q`, `encoder_k`, `queue` (D x K) and `queue_ptr`; an `EncoderPair`, or `DASR(...).E`.
        momentum: m, 0.999 in both papers. temperature: 0.07 in both.
    """

    def __init__(self, pair: nn.Module, momentum: float = 0.999, temperature: float = 0.07) -> None:
        super().__init__()
        if not 0 <= momentum <= 1 or temperature <= 0:
            raise UsageError(f"The momentum lies in [0, 1] and the temperature above 0, not {momentum}, {temperature}.")
        self.pair: Any = pair
        self.momentum, self.temperature = momentum, temperature
        self.pair.encoder_k.requires_grad_(False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Two views of the same pictures, `B x C x H x W` each -> the loss, and what the query encoder gave first (DASR's
        representation, which the restorer is conditioned on).

        Raises:
            UsageError: views of different numbers, or more of them than the queue is long.
        """
        if len(query) != len(key) or len(key) > self.pair.queue.shape[1]:
            raise UsageError(
                f"Contrast takes as many queries as keys, and at most the queue's {self.pair.queue.shape[1]}; these are "
                f"{len(query)} and {len(key)}."
            )
        representation, projection = _both(self.pair.encoder_q(query))
        with torch.no_grad():
            if self.training:
                self.follow()
            keys = F.normalize(_both(self.pair.encoder_k(key))[1].float(), dim=1)
        # a copy: the queue changes in place before the gradient is taken
        negatives = self.pair.queue.detach().clone()
        loss = info_nce(F.normalize(projection.float(), dim=1), keys, negatives, self.temperature)
        if self.training:
            self.enqueue(keys)
        return loss, representation

    @torch.no_grad()
    def follow(self) -> None:
        """One momentum step of the key encoder's parameters."""
        slow, fast = list(self.pair.encoder_k.parameters()), list(self.pair.encoder_q.parameters())
        torch._foreach_lerp_(slow, [p.detach() for p in fast], 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Puts `B x D` keys in place of the oldest ones, round and round."""
        length = self.pair.queue.shape[1]
        start = int(self.pair.queue_ptr)
        places = (start + torch.arange(len(keys), device=keys.device)) % length
        self.pair.queue[:, places] = keys.T.to(self.pair.queue)
        self.pair.queue_ptr.fill_((start + len(keys)) % length)


def _both(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Representation and projection of an encoder that gives both, or one for both."""
    return (result, result) if isinstance(result, Tensor) else (result[0], result[-1])

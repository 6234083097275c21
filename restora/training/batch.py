"""What a training step is given."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from restora.errors import RecipeError


@dataclass
class Batch:
    """A batch of pairs.

    Attributes:
        input: `B x C x h x w` in [0, 1] (noise may leave it). target: `B x C x s*h x s*w` in [0, 1].
        scale: s.
        controls: what the network may be told, by the names of `NetworkSpec.controls` and further ones (`kernel`,
            `quality`, `factor`): a number for the whole batch, or a tensor with a row for each picture. Noise levels are on
            the 0-255 scale.
        mask: `B x 1 x H x W` or None: where the loss counts, in target pixels.
        extra: whatever else a pair maker has to tell, and what phases of a step hand to each other (the fakes that a
            discriminator is shown).
    """

    input: Tensor
    target: Tensor
    scale: int = 1
    controls: dict[str, Any] = field(default_factory=dict)
    mask: Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input)

    def to(self, device: torch.device) -> Batch:
        """On a device; pictures with the channels last in memory, as convolutions prefer them."""

        def move(value: Any, *_: int) -> Any:
            if not isinstance(value, Tensor):
                return value
            if value.dim() == 4 and value.is_floating_point():
                return value.to(device, memory_format=torch.channels_last, non_blocking=True)
            return value.to(device, non_blocking=True)

        return self._map(move)

    def chunk(self, count: int) -> list[Batch]:
        """In `count` parts of nearly equal size, in order; itself where that is 1."""
        if count == 1:
            return [self]
        total = len(self)
        edges = [total * n // count for n in range(count + 1)]

        def part(low: int, high: int) -> Batch:
            def cut(value: Any) -> Any:
                return value[low:high] if isinstance(value, Tensor) and value.dim() and len(value) == total else value

            return self._map(cut)

        return [part(low, high) for low, high in itertools.pairwise(edges) if high > low]

    def cut(self, multiple: int) -> Batch:
        """Without the last rows and columns that make the input's sides no multiple of `multiple`; maps and targets alike.

        Raises:
            RecipeError: nothing would be left.
        """
        height, width = self.input.shape[-2:]
        low, high = (height, width), (self.scale * height, self.scale * width)
        kept = tuple(n - n % multiple for n in low)
        if 0 in kept:
            raise RecipeError(
                f"A held-out picture of {width}x{height} pixels is too small for a network that needs multiples of {multiple}; "
                "raise validation.crop or take larger pictures."
            )
        if kept == low:
            return self

        def part(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.dim() != 4 or value.shape[-2:] not in (low, high):
                return value
            times = 1 if value.shape[-2:] == low else self.scale
            return value[..., : times * kept[0], : times * kept[1]]

        return self._map(part)

    def _map(self, change: Any) -> Batch:
        return dataclasses.replace(
            self,
            input=change(self.input),
            target=change(self.target),
            controls={k: change(v) for k, v in self.controls.items()},
            mask=change(self.mask),
            extra={k: change(v) for k, v in self.extra.items()},
        )

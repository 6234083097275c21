"""From the scale that the user wants to the passes that the networks can make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from restora.errors import UsageError

_LARGEST = 32


@dataclass(frozen=True)
class ScalePlan:
    """`passes` of networks one after the other, then resampling by `factor` (1 when there is none)."""

    wanted: float
    passes: tuple[int, ...]
    factor: float

    @property
    def sentence(self) -> str:
        """What is done, for a report; empty when a single pass does it."""
        if not self.passes or (len(self.passes) == 1 and self.factor == 1):
            return ""
        chain = " then ".join(f"x{p}" for p in self.passes)
        tail = f", then bicubic resampling by {self.factor:.4g}" if self.factor != 1 else ""
        return f"No model enlarges by {self.wanted:g}: done as {chain}{tail}."


def plan_scale(wanted: float, scales: Sequence[int]) -> ScalePlan:
    """The shortest chain of `scales` that reaches `wanted` exactly, else the one that overshoots least and is shrunk.

    >>> plan_scale(8, [2, 3, 4]).passes
    (2, 4)
    >>> plan_scale(3.5, [2, 3, 4])
    ScalePlan(wanted=3.5, passes=(4,), factor=0.875)

    Raises:
        UsageError: a scale below 1 or above 32.
    """
    if not 1 <= wanted <= _LARGEST:
        raise UsageError(f"A scale lies between 1 and {_LARGEST}; {wanted:g} was asked.")
    if wanted == 1 and 1 in scales:
        return ScalePlan(wanted, (1,), 1.0)
    usable = sorted({s for s in scales if s > 1})
    if not usable:
        raise UsageError(f"This model does not enlarge; a scale of {wanted:g} was asked.")
    best: tuple[tuple[bool, int, int], tuple[int, ...]] | None = None
    for length in range(1, math.ceil(math.log(_LARGEST, usable[0])) + 1):
        # ascending: the costly last pass then runs on the fewest pixels
        for passes in itertools.combinations_with_replacement(usable, length):
            product = math.prod(passes)
            if product >= wanted:
                key = (product != wanted, length, product)
                if best is None or key < best[0]:
                    best = (key, passes)
    assert best is not None
    return ScalePlan(wanted, best[1], wanted / math.prod(best[1]))

"""How a picture is continued beyond its border so that Fourier transforms may take it for periodic.

A photograph is not periodic, and what lies just outside of it has been blurred into it. One-shot methods get a margin that
continues the picture into its own opposite side without a step; iterative ones start from that margin and then solve for it,
because only the observed pixels enter their data term (`Forward.complete`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def extend(x: Tensor, before: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A picture `B x C x h x w` on a larger torus `B x C x H x W`, continued by its mirror images.

    In the margin the mirror image at one border fades into the one at the opposite border, so that the torus has no seam.

    Args:
        before: rows above and columns left of the picture. size: H and W.
    """
    for axis, first, length in ((-2, before[0], size[0]), (-1, before[1], size[1])):
        x = _extend(x, axis, first, length)
    return x


def _extend(x: Tensor, axis: int, before: int, length: int) -> Tensor:
    n = x.shape[axis]
    gap = length - n
    if not gap:
        return x
    t = torch.arange(1, gap + 1, device=x.device)
    after = x.index_select(axis, _mirrored(n - 1 + t, n))
    ahead = x.index_select(axis, _mirrored(t - gap - 1, n))
    weight = (0.5 - 0.5 * torch.cos(math.pi * t / (gap + 1))).to(x.dtype)
    margin = torch.lerp(after, ahead, weight if axis == -1 else weight[:, None])
    return torch.cat([x, margin], axis).roll(before, axis)


def _mirrored(i: Tensor, n: int) -> Tensor:
    """Indices reflected about the borders into 0 .. n - 1, as often as it needs."""
    i = i.remainder(2 * n)
    return torch.where(i < n, i, 2 * n - 1 - i)

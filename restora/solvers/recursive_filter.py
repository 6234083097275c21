"""The recursive edge-aware filter.

Gastal and Oliveira, Domain Transform for Edge-Aware Image and Video Processing, SIGGRAPH 2011. The survey, section 2.5:
it takes ringing away after a deconvolution and leaves strong edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from restora.errors import UsageError


def recursive_filter(
    x: Tensor, sigma_s: float = 60.0, sigma_r: float = 0.5, iterations: int = 3, guide: Tensor | None = None
) -> Tensor:
    """Smooths a picture except across edges.

    Args:
        x: `B x C x H x W`, nominally [0, 1].
        sigma_s: reach in pixels. sigma_r: contrast, [0, 1] scale, from which an edge holds. iterations: three are usual.
        guide: whose edges count, `B x C' x H x W` in [0, 1]; by default those of x itself.

    Each iteration is four passes, O(pixels); a pass goes along one axis and does all lines at once.

    Raises:
        UsageError: parameters that are not positive, or a guide of another size.
    """
    if sigma_s <= 0 or sigma_r <= 0 or iterations < 1:
        raise UsageError("A recursive filter's sigma_s and sigma_r are above 0 and its iterations at least 1.")
    guide = x if guide is None else guide
    if guide.shape[0] != x.shape[0] or guide.shape[-2:] != x.shape[-2:]:
        raise UsageError(f"The guide has the shape {tuple(guide.shape)}, the picture {tuple(x.shape)}.")
    # the axis of a pass comes first, so that a line of the recursion is one contiguous piece of memory
    down, across = (_distances(guide, axis, sigma_s / sigma_r) for axis in (-2, -1))
    y = x.detach().permute(3, 0, 1, 2).contiguous()  # W x B x C x H
    for i in range(iterations):
        reach = sigma_s * math.sqrt(3) * 2.0 ** (iterations - i - 1) / math.sqrt(4.0**iterations - 1)
        step = -math.sqrt(2) / reach
        _pass(y, torch.exp(step * across))
        y = y.transpose(0, 3).contiguous()  # H x B x C x W
        _pass(y, torch.exp(step * down))
        y = y.transpose(0, 3).contiguous()
    return y.permute(1, 2, 3, 0).contiguous()


def _distances(guide: Tensor, axis: int, steepness: float) -> Tensor:
    """The transformed distance of each pixel to the one before it, `(N - 1) x B x 1 x M`, N being the length of the axis."""
    d = guide.detach().diff(dim=axis).abs().sum(1, keepdim=True).mul_(steepness).add_(1)
    return d.permute(2, 0, 1, 3).contiguous() if axis == -2 else d.permute(3, 0, 1, 2).contiguous()


def _pass(y: Tensor, feedback: Tensor) -> None:
    """`y[n] += a[n] (y[n - 1] - y[n])` forwards, then the same backwards, in place along the first axis."""
    lines, weights = y.unbind(0), feedback.expand(-1, -1, y.shape[2], -1).contiguous().unbind(0)
    for n in range(1, len(lines)):
        torch.lerp(lines[n], lines[n - 1], weights[n - 1], out=lines[n])
    for n in range(len(lines) - 2, -1, -1):
        torch.lerp(lines[n], lines[n + 1], weights[n], out=lines[n])

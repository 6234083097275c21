"""What the deblurring networks share: normalisation over channels, and the receptive field of nets with strides."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import recorded


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every pixel: `B x C x H x W` -> the same (NAFNet, Restormer)."""

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.weight, self.bias, self.eps)


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The function of `ChannelNorm`.

    Recorded programs get its sums written out: other runtimes turn the tensor around for a normalisation of the last axis, and
    back (OpenVINO spends half of NAFNet's time on that).
    """
    if recorded():
        x = x - x.mean(1, keepdim=True)
        return x / torch.sqrt((x * x).mean(1, keepdim=True) + eps) * weight[:, None, None] + bias[:, None, None]
    y = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps)
    return y.permute(0, 3, 1, 2)


class Reach:
    """Which input pixels the positions of a feature map depend on, along one axis.

    A net with strides or windows sees differently far from different pixels, periodically. `spans` are the first and
    the last input pixel that each position of one period depends on. A network's constructor follows its own layers
    with it to find the radius that it may promise.
    """

    def __init__(self, period: int, spans: list[tuple[int, int]] | None = None) -> None:
        self.period, self.spans = period, spans or [(p, p) for p in range(period)]

    def _at(self, position: int) -> tuple[int, int]:
        turn, p = divmod(position, len(self.spans))
        first, last = self.spans[p]
        return first + turn * self.period, last + turn * self.period

    def _gather(self, count: int, taps: Callable[[int], tuple[int, int]]) -> Reach:
        spans = []
        for first, last in map(taps, range(count)):
            spans.append((self._at(first)[0], self._at(last)[1]))
        return Reach(self.period, spans)

    def conv(self, kernel: int, times: int = 1) -> Reach:
        """`times` convolutions of an odd `kernel`."""
        r = kernel // 2 * times
        return self._gather(len(self.spans), lambda p: (p - r, p + r))

    def down(self, kernel: int, stride: int = 2, padding: int = 0) -> Reach:
        """A strided convolution, or any resizing that reads `kernel` positions from `stride * p - padding` on."""
        return self._gather(
            len(self.spans) // stride, lambda p: (p * stride - padding, p * stride - padding + kernel - 1)
        )

    def up(self, kernel: int = 2, stride: int = 2, padding: int = 0) -> Reach:
        """A transposed convolution; with a kernel of `stride` also a pixel shuffle or nearest-neighbour enlargement."""
        return self._gather(
            len(self.spans) * stride, lambda p: (-((kernel - 1 - padding - p) // stride), (p + padding) // stride)
        )

    def bilinear_up(self) -> Reach:
        """Enlargement by 2 between pixel centres."""
        return self._gather(len(self.spans) * 2, lambda p: ((p - 1) // 2, (p - 1) // 2 + 1))

    def window(self, size: int, shift: int = 0) -> Reach:
        """Attention in windows of `size`, the grid moved by `shift`."""
        return self._gather(
            len(self.spans),
            lambda p: ((p - shift) // size * size + shift, (p - shift) // size * size + shift + size - 1),
        )

    def __or__(self, other: Reach) -> Reach:
        pairs = zip(self.spans, other.spans, strict=True)
        return Reach(self.period, [(min(a, c), max(b, d)) for (a, b), (c, d) in pairs])

    @property
    def radius(self) -> int:
        """The farthest input pixel, for a map of the input's own size."""
        assert len(self.spans) == self.period
        return max(max(p - first, last - p) for p, (first, last) in enumerate(self.spans))


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many of `pattern.format(0)`, `pattern.format(1)`, ... a state dict holds, without a gap."""
    n = 0
    while pattern.format(n) in state:
        n += 1
    return n

"""Attention in windows of the picture, for SwinIR, HAT and Uformer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import recorded

_SCORES = 1 << 22  # bytes of scores that stay in the cache
MASKED = -100.0  # what published networks add to the scores of pairs that may not see one another


class Step(NamedTuple):
    """One layer's reach along an axis: `grow` pixels to each side, or everything in windows (of size `window`, displaced by
    `shift`, seeing `grow` pixels beyond themselves) and, in a parallel branch, `beside` pixels to each side."""

    grow: int = 0
    window: int = 0
    shift: int = 0
    beside: int = 0


def reach(steps: Iterable[Step], window: int) -> int:
    """Receptive field of a chain of layers: the largest distance from an output pixel to an input pixel that it depends on,
    over all places a pixel can have in the window grid. Inputs are counted on the grid of the whole picture, so tiles have
    to begin on multiples of `window`."""
    backwards = list(steps)[::-1]
    largest = 0
    for place in range(window):
        low = high = place
        for step in backwards:
            near = low - step.beside, high + step.beside
            if step.window:
                low = (low - step.shift) // step.window * step.window + step.shift
                high = ((high - step.shift) // step.window + 1) * step.window + step.shift - 1
            low, high = min(near[0], low - step.grow), max(near[1], high + step.grow)
        largest = max(largest, place - low, high - place)
    return largest


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of pixels in a window, `window^2 x window^2`."""
    ys, xs = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    places = torch.stack([ys.flatten(), xs.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + window - 1
    return offsets[0] * (2 * window - 1) + offsets[1]


def shift_masks(window: int, shift: int) -> Tensor:
    """What separates, in windows displaced cyclically, pixels that are no neighbours in the picture.

    `2 x 2 x window^2 x window^2`: first axis 1 for the last row of windows, second axis 1 for the last column; only
    there the picture's two ends meet.
    """
    region = torch.zeros(2, window, dtype=torch.long)
    region[1, window - shift :] = 1
    row, column = region[:, None, :, None], region[None, :, None, :]
    label = (2 * row + column).flatten(2)
    return torch.where(label[..., :, None] == label[..., None, :], 0.0, MASKED)


def published_mask(size: int, window: int) -> Tensor:
    """The mask of a whole picture as published checkpoints hold it, `(size / window)^2 x window^2 x window^2`."""
    last = (torch.arange(size // window) == size // window - 1).long()
    return shift_masks(window, window // 2)[last[:, None], last[None, :]].flatten(0, 1)


def to_windows(x: Tensor, window: int) -> Tensor:
    """`B x H x W x C` -> `N x window x window x C`, the windows of a picture row by row."""
    b, h, w, c = x.shape
    return x.view(b, h // window, window, w // window, window, c).transpose(2, 3).reshape(-1, window, window, c)


def from_windows(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `to_windows`."""
    window, c = x.shape[1], x.shape[3]
    x = x.view(-1, height // window, width // window, window, window, c)
    return x.transpose(2, 3).reshape(-1, height, width, c)


def by_heads(x: Tensor, heads: int) -> Tensor:
    """`N x h x w x C` -> `N x heads x h*w x C/heads`."""
    return x.flatten(1, 2).unflatten(2, (heads, -1)).transpose(1, 2)


def last_ones(batch: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """For each window of a batch, which of the four `shift_masks` it needs: 2 in the last row, and 1 in the last column."""
    row = (torch.arange(rows, device=device) == rows - 1).long()
    column = (torch.arange(columns, device=device) == columns - 1).long()
    return (2 * row[:, None] + column).flatten().repeat(batch)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, masks: Tensor | None = None, which: Tensor | None = None
) -> Tensor:
    """Softmax attention within windows: `N x heads x n x c` -> `N x n x heads*c`.

    On a CPU as many windows at a time as have their scores in its cache: 1.3 to 2.3 times as fast as torch's fused attention,
    which is made for long rows of wide heads.

    Args:
        bias: `heads x n x m`. masks: `4 x n x m`, and `which` of them each of the N windows has, or None.
    """
    if recorded() or not _in_parts(q):
        return _attend(q, k, v, bias, None if masks is None else masks[which])
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1] * q.shape[3])
    part = max(1, _SCORES // (bias.numel() * q.element_size()))
    for n in range(0, len(q), part):
        here = slice(n, n + part)
        own = None if masks is None or which is None else masks[which[here]]
        out[here] = _attend(q[here], k[here], v[here], bias, own)
    return out


def _in_parts(q: Tensor) -> bool:
    return q.device.type == "cpu" and not torch.is_grad_enabled()


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, masks: Tensor | None) -> Tensor:
    if recorded() or _in_parts(q):
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3) + bias.to(q.dtype)
        if masks is not None:
            scores = scores + masks[:, None].to(q.dtype)
        y = scores.softmax(-1) @ v
    else:
        bias = bias if masks is None else bias + masks[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    return y.transpose(1, 2).flatten(2)


class WindowAttention(nn.Module):
    """Multi-head attention in windows with a learned bias for each relative position."""

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.normal_(self.relative_position_bias_table, std=0.02)
        self.qkv, self.proj = linear(dim, 3 * dim), linear(dim, dim)

    def forward(self, x: Tensor, index: Tensor, masks: Tensor | None = None) -> Tensor:
        """`B x H x W x C` with sizes that are multiples of the window; `masks` when the picture has been displaced."""
        b, height, width, _ = x.shape
        windows = to_windows(x, self.window)
        q, k, v = (by_heads(part, self.heads) for part in self.qkv.parts(windows, 3))
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        if masks is None:
            y = attend(q, k, v, bias)
        else:
            which = last_ones(b, height // self.window, width // self.window, x.device)
            y = attend(q, k, v, bias, masks.flatten(0, 1), which)
        return from_windows(self.proj(y.view(windows.shape)), height, width)


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = linear(dim, hidden), linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: in training, leaves out a residual branch for a share `rate` of the batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


def drop_rates(depths: Sequence[int], last: float) -> list[list[float]]:
    """Stochastic depth that grows linearly from 0 at the first block to `last` at the last one, grouped by layer."""
    total = sum(depths)
    rates = iter([last * n / max(1, total - 1) for n in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


class TokenLinear(nn.Linear):
    """A linear layer on `B x H x W x C`. With several threads and in float32, a 1x1 convolution does the same sums up to twice as
    fast on processors for which the library of matrix products is not made."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and _convolves(x):
            return on_channels_first(lambda y: F.conv2d(y, self.weight[:, :, None, None], self.bias), x)
        return super().forward(x)

    def parts(self, x: Tensor, number: int) -> tuple[Tensor, ...]:
        """The output channels in equal parts. A recorded program gets a product for each, which is cheaper than to cut."""
        if not recorded():
            return self(x).chunk(number, dim=-1)
        weights, biases = self.weight.chunk(number), self.bias.chunk(number)
        return tuple(F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))


def _convolves(x: Tensor) -> bool:
    """Only where it was measured to gain, and never in a program that is recorded: that would fix the choice."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() > 1
        and not recorded()
    )


def linear(channels_in: int, channels_out: int) -> TokenLinear:
    """A linear layer as transformers start it: N(0, 0.02), no bias."""
    layer = TokenLinear(channels_in, channels_out)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def on_channels_first(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a convolutional layer to a channels-last tensor."""
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class TokenNorm(nn.Module):
    """A layer norm under the key `norm`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def mirror_to(x: Tensor, height: int, width: int) -> Tensor:
    """Mirrors the bottom and the right until the picture is that large; mirrors again where it is smaller than that."""
    for axis, wanted in ((-2, height), (-1, width)):
        size = x.shape[axis]
        if wanted > size:
            place = torch.arange(wanted, device=x.device) % max(1, 2 * size - 2)
            x = x.index_select(axis, torch.minimum(place, 2 * size - 2 - place).clamp(min=0))
    return x


def reflect_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirrors the bottom and the right until both sizes are multiples."""
    height, width = (-(-size // multiple) * multiple for size in x.shape[-2:])
    return mirror_to(x, height, width)

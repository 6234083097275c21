"""Statistics of the whole picture, which channel attention and instance normalisation use.

Networks take them through the functions here. Run on a whole picture they are plain means. Run on a tile, a `Gathered` can
collect each tile's share first and give every tile the value of the whole picture afterwards: then tiles agree with each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ACTIVE: ContextVar[Gathered | None] = ContextVar("picture_statistics", default=None)

Sums = Callable[[Tensor], Tensor]


class Enough(Exception):
    """Ends the run of a network whose last statistic has been collected; what follows it is not needed."""


class Gathered:
    """What a network's statistics are over a whole picture, found tile by tile.

    A network asks for its statistics in the same order in every run, so that they are known by their number. A round goes over
    the tiles: `collecting(core)` around each run, then `commit()`; `settle()` at its end makes the round's values those that
    runs inside `collecting` and `fixed` get. Statistics depend on earlier ones: after round k the first k are exact.

    Args:
        window: the network pads to multiples of it by itself; 1 if it does not.
    """

    def __init__(self, window: int = 1) -> None:
        self.window = window
        self.values: list[Tensor] = []
        self._core: Tensor | None = None
        self._next = 0
        self._tile: list[tuple[Tensor, float]] = []
        self._round: list[tuple[Tensor, float]] = []
        self._count = 0

    @property
    def count(self) -> int:
        """How many statistics the network takes, 0 before the first `commit`."""
        return self._count

    @contextlib.contextmanager
    def collecting(self, core: Tensor) -> Iterator[None]:
        """Inside, a run of the network leaves its share of the statistics: that of the pixels where `core`, `1 x 1 x H x W`,
        is 1, H and W being those that the network is given. Ends the run early once the last statistic is there."""
        self._tile = []
        with self._running(core), contextlib.suppress(Enough):
            yield

    @contextlib.contextmanager
    def fixed(self) -> Iterator[None]:
        """Inside, the network gets the whole picture's values."""
        with self._running(None):
            yield

    @contextlib.contextmanager
    def _running(self, core: Tensor | None) -> Iterator[None]:
        self._core, self._next = core, 0
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)
            self._core = None

    def share(self) -> Tensor:
        """What the last tile left, as one line of numbers."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), *(sums.flatten() for sums, _ in self._tile)])

    def commit(self) -> None:
        """Counts the last tile's share in."""
        if not self._round:
            self._round, self._count = self._tile, len(self._tile)
        else:
            pairs = zip(self._round, self._tile, strict=True)
            self._round = [(_plus(old, new), area + more) for (old, area), (new, more) in pairs]

    def settle(self) -> float:
        """Ends a round. Returns how much the values changed: the largest of the statistics' changes, each relative to the
        statistic's own size; infinity after the first round."""
        values = [sums / area for sums, area in self._round]
        self._round = []
        change = float("inf")
        if self.values:
            change = max(
                float((new - old).norm() / new.norm().clamp_min(1e-12))
                for new, old in zip(values, self.values, strict=True)
            )
        self.values = values
        return change

    def take(self, own: Callable[[], Tensor], sums: Sums, size: torch.Size) -> Tensor:
        """The next statistic: the whole picture's where it is known, else that of this run, `own()`."""
        number = self._next
        self._next += 1
        if self._core is not None:
            below, right = (-n % self.window for n in self._core.shape[-2:])
            weight = F.adaptive_avg_pool2d(
                F.pad(self._core, (0, right, 0, below), mode="replicate"), (size[0], size[1])
            )
            self._tile.append((sums(weight).cpu().double(), float(weight.sum())))
            if self._count and number + 1 == self._count:
                raise Enough
        return self.values[number] if self.values else own()


def given_values() -> list[Tensor] | None:
    """The whole picture's statistics that a network which runs now gets, in their order; none outside of a `Gathered`, and None
    while statistics are collected, which only torch itself can do."""
    active = _ACTIVE.get()
    if active is None:
        return []
    return None if active._core is not None or not active.values else [v.float() for v in active.values]


@contextlib.contextmanager
def taking(values: Sequence[Tensor]) -> Iterator[None]:
    """Inside, a network gets these statistics of the whole picture: for programs that have them as inputs."""
    statistics = Gathered()
    statistics.values = list(values)
    with statistics.fixed() if values else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def seen(turned: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, networks are run on tiles that were turned or mirrored by `turned`: what is core is turned with them."""
    active = _ACTIVE.get()
    if active is None or active._core is None:
        yield
        return
    core, active._core = active._core, turned(active._core)
    try:
        yield
    finally:
        active._core = core


def gathered(own: Callable[[], Tensor], sums: Sums, size: torch.Size) -> Tensor | None:
    """The next statistic of the network that runs, a mean over all pixels of the picture; None outside of a `Gathered`.

    Args:
        own: the mean over this run's pixels, for the first round. sums: given weights `1 x 1 x H x W`, the weighted sum of what
            is averaged. Its last dimension may grow from tile to tile. size: H and W of the map.
    """
    active = _ACTIVE.get()
    return None if active is None else active.take(own, sums, size)


def _plus(a: Tensor, b: Tensor) -> Tensor:
    """The sum; where one has a shorter last dimension, zeros follow it."""
    length = max(a.shape[-1], b.shape[-1])
    return F.pad(a, (0, length - a.shape[-1])) + F.pad(b, (0, length - b.shape[-1]))


def _sum(x: Tensor) -> Tensor:
    """Over rows, then columns: short sums keep float32 exact enough. `B x C x H x W` -> `B x C x 1 x 1`."""
    return x.sum(3, keepdim=True).sum(2, keepdim=True)


def picture_mean(x: Tensor) -> Tensor:
    """The mean of each map over the picture: `B x C x H x W` -> `B x C x 1 x 1`."""

    def own() -> Tensor:
        return x.mean((2, 3), keepdim=True)

    whole = gathered(own, lambda weight: _sum(x.float() * weight), x.shape[-2:])
    return own() if whole is None else whole.float().to(x)


def picture_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (of the population) of each map over the picture: `B x C x H x W` -> `B x C x 1 x 1` each."""
    mean = x.mean((2, 3), keepdim=True)

    def variance() -> Tensor:
        return (x - mean).square().mean((2, 3), keepdim=True)

    def raw() -> Tensor:
        return torch.cat([mean, variance() + mean.square()], dim=1).cpu().double()

    def sums(weight: Tensor) -> Tensor:
        # of the distance from the tile's own mean, because float32 would lose a small variance beside a large mean
        distance = x.float() - mean.float()
        first, second = (_sum(y * weight).cpu().double() for y in (distance, distance.square()))
        shift, area = mean.cpu().double(), float(weight.sum())
        return torch.cat([first + shift * area, second + shift * (2 * first + shift * area)], dim=1)

    both = gathered(raw, sums, x.shape[-2:])
    if both is None:
        return mean, variance()
    first, second = both.chunk(2, dim=1)
    return first.float().to(x), (second - first.square()).clamp_min(0).float().to(x)


def normalise_by_picture(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Instance normalisation: every map brought to mean 0 and variance 1 over the picture, times `weight` plus `bias` (`C`)."""
    if _ACTIVE.get() is None:
        return F.instance_norm(x, weight=weight, bias=bias, eps=eps)
    mean, variance = picture_moments(x)
    y = (x - mean) * torch.rsqrt(variance + eps)
    if weight is not None:
        y = y * weight[:, None, None]
    return y if bias is None else y + bias[:, None, None]


def channel_similarity(q: Tensor, k: Tensor) -> Tensor:
    """Cosines between maps over the picture, for attention between channels: two `B x heads x C x H x W` ->
    `B x heads x C x C`."""
    size = q.shape[-2:]
    flat_q, flat_k = q.flatten(-2), k.flatten(-2)

    def products(weight: Tensor) -> Tensor:
        """Products of every q with every k, and the squares of both: `B x heads x C x (C + 2)`."""
        a, b = flat_q.float(), flat_k.float()
        w = weight.flatten()
        squares = [(t.square() * w).sum(-1, keepdim=True) for t in (a, b)]
        return torch.cat([(a * w) @ b.transpose(-2, -1), *squares], dim=-1)

    count = size.numel()
    both = gathered(lambda: products(q.new_full(size, 1 / count)).cpu().double(), products, size)
    if both is None:
        return F.normalize(flat_q, dim=-1) @ F.normalize(flat_k, dim=-1).transpose(-2, -1)
    gram, of_q, of_k = both[..., :-2], both[..., -2:-1], both[..., -1:]
    return (gram / (of_q.sqrt() * of_k.sqrt().transpose(-2, -1)).clamp_min(1e-24)).float().to(q)


class PictureMean(nn.Module):
    """`picture_mean` as a layer, without parameters: stands where published programs have a pooling to one pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return picture_mean(x)

"""What a degradation is, and how a random one is drawn, applied, written down and repeated.

A degradation whose fields hold distributions is random. For every picture it first becomes a fixed one: numbers in the
place of distributions, a key in the place of unseeded noise. The fixed one is what is applied, and its dict is what the
manifest keeps: a manifest is a list of degradations with no chance left in them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from restora.degradation.distributions import Distribution
from restora.degradation.spec import Spec, from_dict
from restora.errors import UsageError

if TYPE_CHECKING:
    from restora.degradation.compose import Chain

Size = tuple[int, int]  # height, width
_KEYS = 2**53  # every key is exact in JSON, whatever reads it
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Draw:
    """Where the chance comes from, and the size of the picture before the first step of the chain."""

    rng: np.random.Generator
    origin: Size


class Degraded(NamedTuple):
    """A degraded batch and what was drawn for each of its pictures."""

    picture: Tensor
    manifest: dict[str, Any]


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


class Degradation(Spec):
    """A forward model `y = H(x) + n`. A subclass gives its parameters as fields and `run`; nothing else is needed.

    A field may hold a number or a distribution of numbers. A class that draws arrays (noise, masks) has a last field
    `key: int | None = None`, which is filled in when the degradation is fixed, and uses `self.rng()`.
    """

    over_time: ClassVar[bool] = False  # whether the frames of a clip are not treated one by one
    grows: ClassVar[float] = 1.0  # output side / input side; less than 1 for a degradation that reduces

    def run(self, x: Tensor) -> Tensor:
        """Applies a fixed degradation: `N x C x H x W`, a picture (N = 1) or the frames of a clip."""
        raise NotImplementedError

    def fix(self, draw: Draw, size: Size) -> Degradation:
        """Itself with every distribution replaced by a drawn value, and with a key."""
        values: dict[str, Any] = {}
        for name in _fields(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if isinstance(value, Distribution):
                values[name] = value.draw(draw.rng)
            elif name == "key" and value is None:
                values["key"] = int(draw.rng.integers(_KEYS))
        return dataclasses.replace(self, **values) if values else self  # type: ignore[type-var]

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        """Fixes and applies it to one picture or clip, `N x C x H x W`."""
        fixed = self.fix(draw, _size(x))
        return fixed.run(x), fixed

    @property
    def fixed(self) -> bool:
        """Whether nothing is left to chance."""
        for name in _fields(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if isinstance(value, Distribution) or (name == "key" and value is None):
                return False
        return True

    def parts(self) -> Iterator[Degradation]:
        """Itself and whatever it is made of, depth first."""
        yield self

    def rng(self) -> np.random.Generator:
        """The random stream of this degradation's arrays."""
        return np.random.Generator(np.random.SFC64(getattr(self, "key", 0) or 0))

    def __call__(self, x: Tensor, generator: torch.Generator | int | None = None) -> Tensor:
        """The degraded batch; see `degrade`."""
        return self._apply(x, generator)[0]

    def degrade(self, x: Tensor, generator: torch.Generator | int | None = None) -> Degraded:
        """Degrades every picture of a batch on its own.

        Args:
            x: `B x C x H x W`, or clips `B x T x C x H x W`, floating point, nominally [0, 1], on any device.
            generator: the source of chance, or a seed; what the first pictures get does not depend on how many follow.

        Raises:
            UsageError: chance is needed and no generator was passed, `x` has another shape or type, or the pictures of
                the batch came out at different sizes.
        """
        y, fixed = self._apply(x, generator)
        return Degraded(y, {"version": 1, "recipe": self.to_dict(), "images": [f.to_dict() for f in fixed]})

    def _apply(self, x: Tensor, generator: torch.Generator | int | None) -> tuple[Tensor, list[Degradation]]:
        if x.dim() not in (4, 5) or not x.is_floating_point() or 0 in x.shape:
            raise UsageError(
                f"A degradation takes B x C x H x W or B x T x C x H x W in floating point, not {x.dtype}, {tuple(x.shape)}."
            )
        if x.dim() == 4 and self.over_time:
            raise UsageError(f"{type(self).__name__} needs the frames of a clip: B x T x C x H x W.")
        items = len(x)
        if self.fixed:
            y = _joined(_each(self.run, _items(x)), x)
            return y, [self] * items
        keys = _keys(generator, items, self)

        def one(pair: tuple[Tensor, int]) -> tuple[Tensor, Degradation]:
            return self.perform(pair[0], Draw(np.random.Generator(np.random.PCG64(pair[1])), _size(x)))

        done = _each(one, list(zip(_items(x), keys, strict=True)))
        return _joined([d[0] for d in done], x), [d[1] for d in done]

    def seed(self, seed: int) -> Seeded:
        """This degradation with its source of chance: the same picture gives the same result every time."""
        return Seeded(self, seed)

    def __rshift__(self, other: Degradation) -> Chain:
        from restora.degradation.compose import Chain

        return Chain((self, other))


@dataclass(frozen=True)
class Seeded:
    """A degradation with a seed: `seeded(x)`."""

    degradation: Degradation
    value: int

    def __call__(self, x: Tensor) -> Tensor:
        return self.degradation(x, self.value)

    def degrade(self, x: Tensor) -> Degraded:
        """The degraded batch and its manifest."""
        return self.degradation.degrade(x, self.value)


def replay(manifest: dict[str, Any], x: Tensor) -> Tensor:
    """Repeats what a manifest describes on the same clean batch: the same bytes.

    Raises:
        UsageError: the manifest is of another kind or another number of pictures.
    """
    if not isinstance(manifest, dict) or manifest.get("version") != 1 or "images" not in manifest:
        raise UsageError("This is no manifest of a degradation (version 1).")
    images = manifest["images"]
    if len(images) != len(x):
        raise UsageError(f"The manifest describes {len(images)} pictures, not {len(x)}.")
    if len({repr(i) for i in images}) == 1:
        return from_dict(images[0])(x)
    return _joined(
        _each(lambda pair: pair[0].run(pair[1]), [(from_dict(i), v) for i, v in zip(images, _items(x), strict=True)]), x
    )


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def _items(x: Tensor) -> list[Tensor]:
    """Pictures or clips of a batch, each as `N x C x H x W`."""
    return list(x) if x.dim() == 5 else list(x[:, None])


def _joined(items: Sequence[Tensor], x: Tensor) -> Tensor:
    if len({i.shape for i in items}) > 1:
        shapes = sorted({f"{i.shape[-1]}x{i.shape[-2]}" for i in items})
        raise UsageError(
            f"The pictures of the batch came out at different sizes ({', '.join(shapes)}); end the chain with a fixed size, or "
            "pass them one by one."
        )
    y = torch.stack([i.contiguous() for i in items])
    return y if x.dim() == 5 else y[:, 0]


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """In order; on several threads where torch may use them (the codecs, OpenCV and numpy let go of the interpreter)."""
    allowed = torch.get_num_threads()
    if allowed < 2 or (torch.is_grad_enabled() and any(_needs_grad(i) for i in items)):
        return [work(item) for item in items]
    # Each picture on one thread: torch's own threads inside ours would wait for one another, and sums that several threads
    # share have other last bits, so that a picture's result would depend on how many others came with it.
    try:
        with ThreadPoolExecutor(
            min(allowed, max(1, len(items))), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(allowed)


def _needs_grad(item: Any) -> bool:
    tensor = item[0] if isinstance(item, tuple) else item
    return isinstance(tensor, Tensor) and tensor.requires_grad


def _keys(generator: torch.Generator | int | None, count: int, who: Degradation) -> list[int]:
    if generator is None:
        raise UsageError(f"{type(who).__name__} draws at random: pass a torch.Generator or a seed, or use .seed(n)(x).")
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    return torch.randint(_KEYS, (count,), generator=generator, device=generator.device).tolist()


class Linear(Degradation):
    """A degradation without noise that is linear in the picture: it also has an adjoint, and gradients through it.

    A subclass gives `_forward(x)`, `_adjoint(y, size)` and, where the size changes, `out_size` and `in_size`.
    """

    def run(self, x: Tensor) -> Tensor:
        return _Map.apply(x, self, _size(x), False)

    def adjoint(self, y: Tensor, size: Size | None = None) -> Tensor:
        """The transposed operator: `<Hx, y> = <x, H'y>` for all x and y.

        Args:
            y: `B x C x h x w`, of the output's size.
            size: height and width of x; by default the natural one (the output's times the scale).

        Raises:
            UsageError: something is left to chance, or no picture of that size gives an output of y's.
        """
        if not self.fixed:
            raise UsageError(f"{type(self).__name__} is random; only a fixed degradation has an adjoint.")
        size = self.in_size(_size(y)) if size is None else size
        if self.out_size(size) != _size(y):
            raise UsageError(
                f"A picture of {size[1]}x{size[0]} pixels does not become {y.shape[-1]}x{y.shape[-2]} here."
            )
        if y.dim() == 5:
            flat = _Map.apply(y.flatten(0, 1), self, size, True)
            return flat.unflatten(0, y.shape[:2])
        return _Map.apply(y, self, size, True)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output for those of the input."""
        return size

    def in_size(self, size: Size) -> Size:
        """The natural input size for an output size."""
        return math.ceil(size[0] / self.grows), math.ceil(size[1] / self.grows)

    def transfer_function(self, size: Size) -> Tensor:
        """The factor at every frequency, complex, `H x W` for input size `size`: `Hx = ifft2(transfer * fft2(x))`, followed
        by plain decimation where there is one.

        Raises:
            UsageError: the degradation is no circular convolution.
        """
        raise UsageError(f"{type(self).__name__} has no transfer function: only blur with a circular boundary has one.")

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        raise NotImplementedError


class _Map(torch.autograd.Function):
    """A linear map whose gradient is its adjoint, so that both directions may use code that autograd does not see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Linear, size: Size, transposed: bool) -> Tensor:  # type: ignore[override]
        ctx.operator, ctx.size, ctx.transposed = operator, size, transposed
        work = x if x.dtype in (torch.float32, torch.float64) else x.float()
        y = operator._adjoint(work, size) if transposed else operator._forward(work)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _Map.apply(grads[0], ctx.operator, ctx.size, not ctx.transposed), None, None, None

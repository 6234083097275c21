"""Degradations made of degradations: one after the other, one of several, sometimes, in any order, anew for each frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from restora.degradation.base import Degradation, Draw, Linear, Size
from restora.degradation.distributions import check, check_weights, pick
from restora.errors import UsageError


class Identity(Linear):
    """Leaves the picture as it is."""

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor, size: Size) -> Tensor:
        return y.clone()

    def transfer_function(self, size: Size) -> Tensor:
        return torch.ones(size, dtype=torch.complex64)


class Chain(Linear):
    """One step after the other: `a >> b >> c`. It is linear where all its steps are."""

    steps: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        flat: list[Degradation] = []
        for step in self.steps:
            if not isinstance(step, Degradation):
                raise UsageError(f"A chain is made of degradations, not of {step!r}.")
            flat.extend(step.steps if isinstance(step, Chain) else [step])
        object.__setattr__(self, "steps", tuple(flat))

    @property
    def over_time(self) -> bool:  # type: ignore[override]
        return any(s.over_time for s in self.steps)

    @property
    def fixed(self) -> bool:
        return all(s.fixed for s in self.steps)

    @property
    def grows(self) -> float:  # type: ignore[override]
        product = 1.0
        for s in self.steps:
            product *= s.grows
        return product

    def parts(self) -> Iterator[Degradation]:
        yield self
        for s in self.steps:
            yield from s.parts()

    def run(self, x: Tensor) -> Tensor:
        for s in self.steps:
            x = s.run(x)
        return x

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        done = []
        for s in self.steps:
            x, fixed = s.perform(x, draw)
            done.append(fixed)
        return x, Chain(tuple(done))

    def _linear(self) -> tuple[Linear, ...]:
        for s in self.steps:
            if not isinstance(s, Linear):
                raise UsageError(f"The chain is not linear: {type(s).__name__} has no adjoint.")
        return self.steps  # type: ignore[return-value]

    def adjoint(self, y: Tensor, size: Size | None = None) -> Tensor:
        steps = self._linear()
        sizes = [self.in_size((y.shape[-2], y.shape[-1])) if size is None else size]
        for s in steps[:-1]:
            sizes.append(s.out_size(sizes[-1]))
        for s, before in zip(reversed(steps), reversed(sizes), strict=True):
            y = s.adjoint(y, before)
        return y

    def out_size(self, size: Size) -> Size:
        for s in self._linear():
            size = s.out_size(size)
        return size

    def in_size(self, size: Size) -> Size:
        for s in reversed(self._linear()):
            size = s.in_size(size)
        return size

    def transfer_function(self, size: Size) -> Tensor:
        """The product of the blurs', on the grid before decimation (which may only come last)."""
        from restora.degradation.resampling import Decimate

        steps = self._linear()
        blurs = steps[:-1] if steps and isinstance(steps[-1], Decimate) else steps
        product = torch.ones(size, dtype=torch.complex64)
        for s in blurs:
            product = product * s.transfer_function(size).to(product.device)
        return product


class Choose(Degradation):
    """One of several, drawn for every picture. Weights need not sum to 1."""

    options: tuple[Degradation, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        check_weights(self.weights, len(self.options), "Choose")

    @property
    def over_time(self) -> bool:  # type: ignore[override]
        return any(o.over_time for o in self.options)

    @property
    def fixed(self) -> bool:
        return False

    @property
    def grows(self) -> float:  # type: ignore[override]
        return self.options[0].grows

    def parts(self) -> Iterator[Degradation]:
        yield self
        for o in self.options:
            yield from o.parts()

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        return self.options[pick(draw.rng, len(self.options), self.weights)].perform(x, draw)


class Sometimes(Degradation):
    """With a probability; otherwise the picture is left as it is."""

    probability: float
    step: Degradation

    def __post_init__(self) -> None:
        check("The probability of Sometimes", self.probability, 0, 1)

    @property
    def over_time(self) -> bool:  # type: ignore[override]
        return self.step.over_time

    @property
    def fixed(self) -> bool:
        return False

    def parts(self) -> Iterator[Degradation]:
        yield self
        yield from self.step.parts()

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        return self.step.perform(x, draw) if draw.rng.random() < self.probability else (x, Identity())


class Shuffled(Degradation):
    """All steps, in an order drawn for every picture; the last `keep` of them stay last."""

    steps: tuple[Degradation, ...]
    keep: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        check("The number of steps that Shuffled keeps", self.keep, 0, len(self.steps))

    @property
    def fixed(self) -> bool:
        return False

    @property
    def grows(self) -> float:  # type: ignore[override]
        return Chain(self.steps).grows

    def parts(self) -> Iterator[Degradation]:
        yield self
        for s in self.steps:
            yield from s.parts()

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        movable = len(self.steps) - self.keep
        order = [*draw.rng.permutation(movable).tolist(), *range(movable, len(self.steps))]
        return Chain(tuple(self.steps[i] for i in order)).perform(x, draw)


class EachFrame(Degradation):
    """Drawn anew for every frame of a clip, where a degradation otherwise keeps its parameters over the clip."""

    step: Degradation
    frames: tuple[Degradation, ...] | None = None  # what was drawn

    over_time = True

    @property
    def fixed(self) -> bool:
        return self.frames is not None

    @property
    def grows(self) -> float:  # type: ignore[override]
        return self.step.grows

    def parts(self) -> Iterator[Degradation]:
        yield self
        for s in self.frames or (self.step,):
            yield from s.parts()

    def run(self, x: Tensor) -> Tensor:
        frames = self.frames or ()
        if len(frames) != len(x):
            raise UsageError(f"EachFrame was drawn for {len(frames)} frames, not {len(x)}.")
        return torch.cat([s.run(x[i : i + 1]) for i, s in enumerate(frames)])

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        done = [self.step.perform(x[i : i + 1], draw) for i in range(len(x))]
        return torch.cat([d[0] for d in done]), dataclasses.replace(self, frames=tuple(d[1] for d in done))

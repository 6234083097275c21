"""What a random parameter may be: stated once in a degradation, drawn anew for every picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from restora.degradation.spec import Spec
from restora.errors import UsageError


class Distribution(Spec):
    """Base of all distributions: `draw(rng)` gives a plain Python value between `bounds()`."""

    def draw(self, rng: np.random.Generator) -> Any:
        raise NotImplementedError

    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that can come out (infinite where there is no limit)."""
        raise NotImplementedError


class Uniform(Distribution):
    """Any value in [low, high), each equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self, self.low, self.high)

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class LogUniform(Distribution):
    """Any value in [low, high], each factor equally likely; both positive."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self, self.low, self.high)
        if self.low <= 0:
            raise UsageError("LogUniform needs positive limits.")

    def draw(self, rng: np.random.Generator) -> float:
        drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return min(max(drawn, self.low), self.high)

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class Integers(Distribution):
    """A whole number of low, low + step, ... up to high, the ends included."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        _ordered(self, self.low, self.high)
        if self.step < 1:
            raise UsageError("Integers needs a step of at least 1.")

    def draw(self, rng: np.random.Generator) -> int:
        return self.low + self.step * int(rng.integers((self.high - self.low) // self.step + 1))

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class Normal(Distribution):
    """A Gaussian; values beyond `low` and `high` are drawn again."""

    mean: float
    std: float
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        _ordered(self, self.low, self.high)
        if self.std < 0 or not self.low <= self.mean <= self.high:
            raise UsageError("Normal needs a std of at least 0 and a mean between its limits.")

    def draw(self, rng: np.random.Generator) -> float:
        for _ in range(100):
            value = float(rng.normal(self.mean, self.std))
            if self.low <= value <= self.high:
                return value
        return self.mean  # a window far narrower than the std

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


class Choice(Distribution):
    """One of the values, which may be anything that a description can hold; weights need not sum to 1."""

    values: tuple[Any, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        check_weights(self.weights, len(self.values), "Choice")

    def draw(self, rng: np.random.Generator) -> Any:
        value = self.values[pick(rng, len(self.values), self.weights)]
        return value.draw(rng) if isinstance(value, Distribution) else value

    def bounds(self) -> tuple[float, float]:
        pairs = [bounds(v) for v in self.values]
        return min(p[0] for p in pairs), max(p[1] for p in pairs)


def pick(rng: np.random.Generator, count: int, weights: tuple[float, ...] | None) -> int:
    """An index below `count`, by weight."""
    if weights is None:
        return int(rng.integers(count))
    place = rng.random() * sum(weights)
    for i, weight in enumerate(weights):
        place -= weight
        if place < 0:
            return i
    return count - 1


def check_weights(weights: tuple[float, ...] | None, count: int, who: str) -> None:
    """Raises UsageError unless there is something to choose from and the weights fit it."""
    if not count:
        raise UsageError(f"{who} needs at least one option.")
    if weights is not None and (len(weights) != count or min(weights) < 0 or not 0 < sum(weights) < math.inf):
        raise UsageError(f"{who} needs one weight of at least 0 for each of its {count} options.")


def bounds(value: Any) -> tuple[float, float]:
    """Smallest and largest value of a number or of a distribution; a value that is no number has (nan, nan)."""
    if isinstance(value, Distribution):
        return value.bounds()
    return (float(value), float(value)) if isinstance(value, (int, float)) else (math.nan, math.nan)


def check(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raises UsageError when a number, or anything a distribution can give, is outside [low, high]."""
    smallest, largest = bounds(value)
    if smallest < low or largest > high or (isinstance(value, float) and math.isnan(value)):
        span = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise UsageError(f"{name} must be {span}, not {value!r}.")


def _ordered(who: Distribution, low: float, high: float) -> None:
    if not low <= high:
        raise UsageError(f"{type(who).__name__}: the lower limit {low} is above the upper limit {high}.")

"""Pictures whose regions suffered differently: the SHDD and Flickr-Distortion sets, and any other such arrangement.

A region's distortion is computed on the whole picture and then cut out, so that a blur sees what lies beyond the border
(spec efficient-restoration, 2.7 and 2.8).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from restora.degradation.base import Degradation, Draw, Size
from restora.degradation.blur import GaussianBlur
from restora.degradation.compose import Identity
from restora.degradation.compression import Jpeg
from restora.degradation.distributions import Choice, Integers, Uniform, check, pick
from restora.degradation.noise import Clip, FrequencyNoise, GaussianNoise, Quantise, SaltPepperNoise
from restora.degradation.photometric import Contrast, LowPass, OverSmoothing
from restora.errors import UsageError

Box = tuple[int, int, int, int]  # top, left, bottom, right; the ends are not inside


class Region(Degradation):
    """A degradation inside a box, or inside the disc that fits into it; the rest is left as it is."""

    box: Box
    step: Degradation
    form: Literal["box", "disc"] = "box"

    def __post_init__(self) -> None:
        top, left, bottom, right = self.box
        if not 0 <= top < bottom or not 0 <= left < right:
            raise UsageError(f"A region is (top, left, bottom, right) with something inside, not {self.box}.")
        if self.form not in ("box", "disc"):
            raise UsageError(f"A region is a box or a disc, not '{self.form}'.")

    @property
    def fixed(self) -> bool:
        return self.step.fixed

    def parts(self) -> Iterator[Degradation]:
        yield self
        yield from self.step.parts()

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        y, step = self.step.perform(x, draw)
        return self._inside(x, y), dataclasses.replace(self, step=step)

    def run(self, x: Tensor) -> Tensor:
        return self._inside(x, self.step.run(x))

    def _inside(self, x: Tensor, y: Tensor) -> Tensor:
        if y.shape != x.shape:
            raise UsageError(f"{type(self.step).__name__} changes the size and cannot be kept to a region.")
        top, left, bottom, right = self.box
        out = x.clone()
        here = (..., slice(top, bottom), slice(left, right))
        if self.form == "box":
            out[here] = y[here]
            return out
        v = (torch.arange(bottom - top) + 0.5) * (2 / (bottom - top)) - 1
        h = (torch.arange(right - left) + 0.5) * (2 / (right - left)) - 1
        disc = (v[:, None] ** 2 + h**2 <= 1).to(x.device)[: out[here].shape[-2], : out[here].shape[-1]]
        out[here] = torch.where(disc, y[here], x[here])
        return out


class Regions(Degradation):
    """Several regions, each distorted from the clean picture; a later one covers an earlier one."""

    regions: tuple[Region, ...]

    @property
    def fixed(self) -> bool:
        return all(r.fixed for r in self.regions)

    def parts(self) -> Iterator[Degradation]:
        yield self
        for r in self.regions:
            yield from r.parts()

    def run(self, x: Tensor) -> Tensor:
        return self.perform(x, Draw(np.random.default_rng(0), (x.shape[-2], x.shape[-1])))[0]

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        out, done = x, []
        for region in self.regions:
            y, step = region.step.perform(x, draw)
            drawn = dataclasses.replace(region, step=step)
            out = drawn._inside(out, y)
            done.append(drawn)
        return out, Regions(tuple(done))

    def boxes(self) -> list[dict[str, Any]]:
        """The ground truth: for every region its kind, parameters, form and box."""
        return [
            {"type": type(r.step).__name__, "box": list(r.box), "form": r.form, "degradation": r.step.to_dict()}
            for r in self.regions
        ]


class VarianceNoise(Degradation):
    """Gaussian noise by its variance in [0, 1] units, clipped to [0, 1], as the thesis's sets define it."""

    variance: Any
    key: int | None = None

    def __post_init__(self) -> None:
        check("The variance of a noise", self.variance, 0)

    def run(self, x: Tensor) -> Tensor:
        return GaussianNoise(255 * math.sqrt(self.variance), key=self.key).run(x).clamp(0, 1)


def shdd_pool() -> tuple[Degradation, ...]:
    """The five distortions of SHDD with their ranges (spec efficient-restoration, 2.8)."""
    return (
        VarianceNoise(Uniform(0.005, 0.02)),
        GaussianBlur(Uniform(1.0, 2.5)),
        FrequencyNoise(Uniform(6.0, 10.0)),
        Contrast(Uniform(25.0, 40.0)),
        Identity(),
    )


class Shdd(Degradation):
    """Spatially-heterogeneous distortions: the picture cut into strips, each with one of five distortions or none.

    difficulty: ``easy``, ``moderate``, ``difficult``: 2, 3, 4 regions. layout: ``rows``, ``columns`` or ``grid``; by default
    rows or columns, each equally likely. The thesis's set holds 12 variants of each picture: 12 draws.
    Borders lie within 30 % of where equal parts would have them. All distortions are equally likely.
    """

    difficulty: Any = "moderate"
    layout: Any = Choice(("rows", "columns"))

    def __post_init__(self) -> None:
        if isinstance(self.difficulty, str) and self.difficulty not in _PARTS:
            raise UsageError(f"SHDD is easy, moderate or difficult, not '{self.difficulty}'.")
        if isinstance(self.layout, str) and self.layout not in ("rows", "columns", "grid"):
            raise UsageError(f"The layout of SHDD is rows, columns or grid, not '{self.layout}'.")

    @property
    def fixed(self) -> bool:
        return False

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        drawn = super().fix(draw, draw.origin)
        assert isinstance(drawn, Shdd)
        boxes = _strips(draw.rng, drawn.layout, _PARTS[drawn.difficulty], (x.shape[-2], x.shape[-1]))
        pool = shdd_pool()
        regions = tuple(Region(b, pool[pick(draw.rng, len(pool), None)]) for b in boxes)
        return Regions(regions).perform(x, draw)


_PARTS = {"easy": 2, "moderate": 3, "difficult": 4}


def _strips(rng: np.random.Generator, layout: str, parts: int, size: Size) -> list[Box]:
    height, width = size
    if layout == "grid":  # as square as the number allows: 2 = 1x2, 3 = 1x3, 4 = 2x2
        rows = max(r for r in range(1, int(math.sqrt(parts)) + 1) if parts % r == 0)
        downs, acrosses = _cuts(rng, rows, height), _cuts(rng, parts // rows, width)
    elif layout == "rows":
        downs, acrosses = _cuts(rng, parts, height), [0, width]
    else:
        downs, acrosses = [0, height], _cuts(rng, parts, width)
    return [
        (t, left, b, right) for t, b in pairwise(downs) for left, right in pairwise(acrosses) if b > t and right > left
    ]


def _cuts(rng: np.random.Generator, parts: int, length: int) -> list[int]:
    """Where an axis is cut: each part is even between 70 % and 130 % of an equal share, then all fitted to the length."""
    shares = rng.uniform(0.7, 1.3, parts)
    inner = np.rint(np.cumsum(shares)[:-1] / shares.sum() * length).astype(int)
    return [0, *inner.tolist(), length]


def flickr_pool() -> tuple[Degradation, ...]:
    """The eight distortions of Flickr-Distortion, each between its mildest and its strongest level (spec
    efficient-restoration, 2.7). The levels of quantisation are not published: 4 to 12 here."""
    return (
        VarianceNoise(Uniform(0.0125, 0.05)),
        GaussianBlur(Uniform(1.5, 6.0)),
        SaltPepperNoise(Uniform(0.0125, 0.05)),
        Quantise(Integers(4, 12), "floor"),
        Jpeg(Integers(5, 20)),
        LowPass(Uniform(0.03, 0.3)),
        OverSmoothing(Uniform(0.04, 0.08)),
        FrequencyNoise(Uniform(2.5, 10.0)),
    )


def flickr_levels() -> dict[str, tuple[Degradation, ...]]:
    """The classification set: each type at its three levels, for whole pictures."""
    return {
        "gaussian-noise": tuple(VarianceNoise(v) for v in (0.0125, 0.025, 0.05)),
        "gaussian-blur": tuple(GaussianBlur(s) for s in (1.5, 3.0, 6.0)),
        "salt-pepper": tuple(SaltPepperNoise(a) for a in (0.0125, 0.025, 0.05)),
        "quantisation": tuple(Quantise(n, "floor") for n in (12, 8, 4)),
        "jpeg": tuple(Jpeg(q) for q in (20, 10, 5)),
        "low-pass": tuple(LowPass(s) for s in (0.3, 0.1, 0.03)),
        "denoising": tuple(OverSmoothing(h) for h in (0.04, 0.06, 0.08)),
        "f-noise": tuple(FrequencyNoise(s) >> Clip() for s in (2.5, 5.0, 10.0)),
    }


class FlickrDistortion(Degradation):
    """Boxes or discs, each with one of eight distortions: ``basic`` has 1 to 4 of 0.3 to 0.7 of the picture's side,
    ``difficult`` 5 to 9 of 0.1 to 0.3. The set was made on 300-pixel centre crops, 20 draws a picture.

    The ratio is taken as one of sides, and later regions cover earlier ones: the thesis leaves both open. `Regions.boxes()`
    of what was drawn is the ground truth.
    """

    difficulty: Any = "basic"
    forms: tuple[str, ...] = ("box", "disc")

    def __post_init__(self) -> None:
        if isinstance(self.difficulty, str) and self.difficulty not in _FLICKR:
            raise UsageError(f"Flickr-Distortion is basic or difficult, not '{self.difficulty}'.")
        if not self.forms or set(self.forms) - {"box", "disc"}:
            raise UsageError(f"The forms of a region are box and disc, not {self.forms}.")

    @property
    def fixed(self) -> bool:
        return False

    def perform(self, x: Tensor, draw: Draw) -> tuple[Tensor, Degradation]:
        drawn = super().fix(draw, draw.origin)
        assert isinstance(drawn, FlickrDistortion)
        rng, (height, width) = draw.rng, (x.shape[-2], x.shape[-1])
        fewest, most, smallest, largest = _FLICKR[drawn.difficulty]
        pool, regions = flickr_pool(), []
        for _ in range(int(rng.integers(fewest, most + 1))):
            h, w = (max(1, round(n * rng.uniform(smallest, largest))) for n in (height, width))
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            form = drawn.forms[int(rng.integers(len(drawn.forms)))]
            regions.append(Region((top, left, top + h, left + w), pool[pick(rng, len(pool), None)], form))  # type: ignore[arg-type]
        return Regions(tuple(regions)).perform(x, draw)


_FLICKR = {"basic": (1, 4, 0.3, 0.7), "difficult": (5, 9, 0.1, 0.3)}

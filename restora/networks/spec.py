"""What a network promises to its caller: task, channels, scales, size rule and, above all, how it may be tiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Tiling:
    """The tiling promise. Make one with `exact`, `aligned` or `global_`.

    - ``exact``: an output pixel depends on input pixels at most `radius` away; tiles with that halo give the
      whole image's result up to rounding.
    - ``aligned``: as above, if every tile starts on a multiple of `window` (window attention, strided nets).
    - ``global``: statistics of the whole image enter (pooling over the picture); tiles are an approximation.
    """

    kind: Literal["exact", "aligned", "global"]
    radius: int = 0
    window: int = 1

    def __str__(self) -> str:
        if self.kind == "exact":
            return f"exact(radius={self.radius})"
        if self.kind == "aligned":
            return f"aligned(window={self.window}, radius={self.radius})"
        return f"global(radius={self.radius})"


def exact(radius: int) -> Tiling:
    """A finite receptive field: `radius` input pixels on each side."""
    return Tiling("exact", radius)


def aligned(window: int, radius: int) -> Tiling:
    """Tiles begin on multiples of `window` input pixels and carry a halo of `radius`."""
    return Tiling("aligned", radius, window)


def global_(radius: int, window: int = 1) -> Tiling:
    """Whole-image statistics: tiling changes the result; `radius` bounds what is not global."""
    return Tiling("global", radius, window)


@dataclass(frozen=True)
class NetworkSpec:
    """What a network accepts and returns.

    `colour` says what the channels mean: ``rgb``; ``luma`` (one channel, Y of BT.601 in studio range, as the
    super-resolution papers use it); ``grey`` (one channel, full range). `grid` says where the input lives:
    ``low`` (the network enlarges) or ``output`` (the network expects an input already resized to the
    output's size, as SRCNN does). `multiple_of` and `minimum` are in input pixels; the engine pads to them.
    """

    task: Literal["super-resolution", "denoise", "deblur", "dejpeg", "discriminator"]
    tiling: Tiling
    scales: tuple[int, ...] = (1,)
    channels: int = 3
    colour: Literal["rgb", "luma", "grey"] = "rgb"
    grid: Literal["low", "output"] = "low"
    multiple_of: int = 1
    minimum: int = 1
    half_safe: bool = True
    source: str = ""

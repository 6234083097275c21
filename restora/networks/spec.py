"""What a network promises to its caller: task, channels, scales, size rule and, above all, how it may be tiled."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal["super-resolution", "denoise", "deblur", "dejpeg", "mixed", "deconvolve", "discriminator", "part"]


@dataclass(frozen=True)
class Tiling:
    """The tiling promise. Make one with `exact`, `aligned` or `global_`.

    - ``exact``: an output pixel depends on input pixels at most `radius` away; tiles with that halo give the
      whole image's result up to rounding.
    - ``aligned``: as above, if every tile starts on a multiple of `window` (window attention, strided nets).
    - ``global``: statistics of the whole image enter. Those that a network takes through `picture_statistics` are gathered
      before the tiles are run, and tiles come near the whole; of others (Fourier transforms, non-local attention) tiles are
      an approximation.
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
    """Whole-image statistics: tiling may change the result; `radius` bounds what is not global."""
    return Tiling("global", radius, window)


@dataclass(frozen=True)
class Control:
    """A number or switch that a user may set when the network runs; flags, sliders and Python arguments are made of it.

    `kind`: ``float``, ``int``, ``bool``, ``choice`` (of `choices`), or ``regions``: a map of region numbers, `1 x 1 x H x W`, 0
    for no region. `low` and `high` bound numbers. `spatial` says that a grey picture (a tensor `1 x 1 x H x W`) may stand for
    the number, as a map. A control without a default has to be set, unless it is `optional`: then None has a meaning of its own.
    """

    name: str
    description: str
    kind: Literal["float", "int", "bool", "choice", "regions"] = "float"
    default: float | int | bool | str | None = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    spatial: bool = False
    optional: bool = False


@dataclass(frozen=True)
class NetworkSpec:
    """What a network accepts and returns.

    `colour` says what the channels mean: ``rgb``; ``luma`` (one channel, Y of BT.601 in studio range, as the
    super-resolution papers use it); ``grey`` (one channel, full range). `grid` says where the input lives:
    ``low`` (the network enlarges) or ``output`` (the network expects an input already resized to the
    output's size, as SRCNN does). `tiling`, `multiple_of` and `minimum` are in pixels of the network's input; the engine pads
    to them. A network of several scales whose call has a parameter `scale` is told which.
    `pooling_window` is the side of a window that the network pools over, where it does not pool over the whole picture: in a
    smaller input it takes another path. The task ``part`` marks a piece of a larger system that restores nothing alone.

    `forward` is the published call. A network whose published call is not picture in, picture out (another range, a noise
    map as a channel, several outputs) also has `restore(x, **controls)`, with `x` and the result in [0, 1] and the names of
    `controls` as keywords; that is what the engine runs.
    """

    task: Task
    tiling: Tiling
    scales: tuple[int, ...] = (1,)
    channels: int = 3
    colour: Literal["rgb", "luma", "grey"] = "rgb"
    grid: Literal["low", "output"] = "low"
    multiple_of: int = 1
    minimum: int = 1
    half_safe: bool = True
    pooling_window: int = 0
    controls: tuple[Control, ...] = ()
    source: str = ""


def takes_scale(net: Any) -> bool:
    """Whether a network's call is told the scale: it has several, and a parameter of that name."""
    call = getattr(net, "restore", net.forward)
    return len(net.spec.scales) > 1 and "scale" in inspect.signature(call).parameters

"""What the denoisers share: the noise-level control, its map, and checks of layouts and receptive fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.spec import Control

Step = Literal["down", "up"] | int


def sigma_control(high: float, default: float = 25.0, spatial: bool = True) -> Control:
    """The control `sigma`, from 0 to `high` on the 0-255 scale."""
    return Control(
        "sigma",
        "standard deviation of the noise, on the 0-255 scale",
        default=default,
        low=0.0,
        high=high,
        spatial=spatial,
    )


def noise_map(x: Tensor, sigma: float | Tensor) -> Tensor:
    """The noise level of every pixel as a channel, `B x 1 x H x W`, divided by 255.

    Args:
        x: the picture, `B x C x H x W`.
        sigma: on the 0-255 scale: a number, a tensor with one number or one a picture, or a map `1 x 1 x H x W` or
            `B x 1 x H x W` of the picture's size.

    Raises:
        UsageError: a map of another size than the picture.
    """
    batch, _, height, width = x.shape
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device) / 255
    if level.ndim < 2:
        level = level.reshape(-1, 1, 1, 1)
    elif level.ndim < 4:
        level = level.reshape(1, 1, *level.shape[-2:])
    if level.shape[-2:] not in ((1, 1), (height, width)) or level.shape[0] not in (1, batch) or level.shape[1] != 1:
        if x.is_meta:  # a dry run that asks for memory, at a size of its own
            return x.new_empty(batch, 1, height, width)
        raise UsageError(
            f"A noise-level map has the size of its picture: {batch} x 1 x {height} x {width} was expected, "
            f"{tuple(level.shape)} was given."
        )
    return level.expand(batch, 1, height, width)


def fits(state: Mapping[str, Tensor], build: Callable[..., nn.Module], config: Mapping[str, Any]) -> bool:
    """Whether a configuration has exactly the keys and shapes of a state dict; builds it without memory."""
    with torch.device("meta"):
        own = build(**config).state_dict()
    return own.keys() == state.keys() and all(own[key].shape == value.shape for key, value in state.items())


def convolutions(state: Mapping[str, Tensor], prefix: str = "model.") -> list[Tensor]:
    """The 4-dimensional weights of a sequence called `prefix`, in order; empty when the state holds anything else."""
    found = {}
    for key, value in state.items():
        number, _, rest = key.removeprefix(prefix).partition(".")
        if not key.startswith(prefix) or not number.isdigit() or "." in rest:
            return []
        if value.ndim == 4:
            found[int(number)] = value
    return [found[number] for number in sorted(found)]


def reach(steps: Iterable[Step], period: int) -> int:
    """Largest distance in pixels that a chain of layers looks to either side, over all positions on its grid.

    Args:
        steps: from input to output: a number is a convolution's radius on the grid it works on, "down" a 2x2 convolution of
            stride 2 (or a space-to-depth), "up" its transpose.
        period: the chain's alignment, 2 to the number of "down"s.
    """
    chain = list(steps)[::-1]
    worst = 0
    for pixel in range(period):
        low = high = pixel
        for step in chain:
            if step == "up":
                low, high = low // 2, high // 2
            elif step == "down":
                low, high = 2 * low, 2 * high + 1
            else:
                low, high = low - int(step), high + int(step)
        worst = max(worst, pixel - low, high - pixel)
    return worst

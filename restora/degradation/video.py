"""Motion blur as a camera makes it: the mean of what it saw while the shutter was open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restora.degradation.base import Degradation
from restora.degradation.distributions import check
from restora.degradation.noise import linear_to_srgb, srgb_to_linear
from restora.errors import UsageError


class FrameAverage(Degradation):
    """Blurred frames from sharp ones: `y = g(mean of T frames of light)`, `B x T x C x H x W` -> `B x T' x C x H x W`.

    frames: T, odd, so that there is a middle frame. step: distance between the first frames of two results; T by default, so
    that the shutter intervals do not overlap. response: the curve g from light to pixel values, ``linear`` (the pixel values
    are averaged as they are), ``gamma`` (a power of `gamma`) or ``srgb``. Spec controllable-restoration, 2.1.
    """

    frames: int = 7
    step: int | None = None
    response: Any = "linear"
    gamma: Any = 2.2

    over_time = True

    def __post_init__(self) -> None:
        if self.frames < 1 or self.frames % 2 == 0:
            raise UsageError(f"A mean of frames takes an odd number, so that one is in the middle; not {self.frames}.")
        if self.step is not None:
            check("The step between results", self.step, 1)
        check("The gamma", self.gamma, 1e-3)
        if isinstance(self.response, str) and self.response not in ("linear", "gamma", "srgb"):
            raise UsageError(f"A camera response is linear, gamma or srgb, not '{self.response}'.")

    def starts(self, length: int) -> range:
        """The first frame of every result, for a clip of `length` frames."""
        if length < self.frames:
            raise UsageError(f"A mean of {self.frames} frames cannot be made of a clip of {length}.")
        return range(0, length - self.frames + 1, self.step or self.frames)

    def run(self, x: Tensor) -> Tensor:
        light = self._to_light(x)
        means = torch.stack([light[s : s + self.frames].mean(0) for s in self.starts(len(x))])
        return self._to_pixels(means)

    def _to_light(self, x: Tensor) -> Tensor:
        if self.response == "gamma":
            return x.clamp(min=0) ** self.gamma
        return srgb_to_linear(x) if self.response == "srgb" else x

    def _to_pixels(self, light: Tensor) -> Tensor:
        if self.response == "gamma":
            return light.clamp(min=0) ** (1 / self.gamma)
        return linear_to_srgb(light) if self.response == "srgb" else light

    def targets(self, x: Tensor) -> Tensor:
        """The sharp middle frame of each result: `B x T x C x H x W` -> `B x T' x C x H x W`."""
        return x[:, [s + self.frames // 2 for s in self.starts(x.shape[1])]]

    def sequences(self, x: Tensor) -> Tensor:
        """All sharp frames behind each result: `B x T x C x H x W` -> `B x T' x frames x C x H x W`."""
        return torch.stack([x[:, s : s + self.frames] for s in self.starts(x.shape[1])], dim=1)

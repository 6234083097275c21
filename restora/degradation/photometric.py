"""Changes of brightness and of detail that no blur kernel describes: contrast, fading, low-pass, over-smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from restora.degradation.base import Degradation
from restora.degradation.distributions import check
from restora.degradation.frames import over_frames, to_float, to_uint8
from restora.degradation.resampling import resize_fast
from restora.errors import UsageError


class Contrast(Degradation):
    """More contrast for a positive level, less for a negative one, about mid-grey: on the 0-255 scale
    `F (I - 128) + 128` with `F = 259 (level + 255) / (255 (259 - level))`; level in [-255, 255]. Clipped to [0, 1].

    (The usual formula; the thesis names only the levels 25 to 40. Spec efficient-restoration, 2.8.)
    """

    level: Any

    def __post_init__(self) -> None:
        check("The level of a contrast change", self.level, -255, 255)

    def run(self, x: Tensor) -> Tensor:
        factor = 259 * (self.level + 255) / (255 * (259 - self.level))
        return (factor * (x - 128 / 255) + 128 / 255).clamp(0, 1)


class Brightness(Degradation):
    """A gain and a power: `gain * x^gamma`. Clipped to [0, 1]."""

    gain: Any = 1.0
    gamma: Any = 1.0

    def __post_init__(self) -> None:
        check("The gain", self.gain, 0)
        check("The gamma", self.gamma, 1e-3)

    def run(self, x: Tensor) -> Tensor:
        return (self.gain * x.clamp(min=0) ** self.gamma).clamp(0, 1)


class LowPass(Degradation):
    """Reduced to `scale` of its side and enlarged again, bilinearly: what is finer is gone (levels 0.3, 0.1 and 0.03 in
    Flickr-Distortion; spec efficient-restoration, 2.7)."""

    scale: Any

    def __post_init__(self) -> None:
        check("The scale of a low-pass", self.scale, 1e-3, 1)

    def run(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        small = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        return resize_fast(resize_fast(x, small, "area"), (height, width), "bilinear")


class OverSmoothing(Degradation):
    """Non-local means denoising of what may have no noise: plastic surfaces (h 0.04 to 0.08 in Flickr-Distortion).

    h: filter strength in [0, 1] units; patch: side of the compared patches; distance: how far patches are sought.
    On 8-bit values, by OpenCV, on the processor.
    """

    h: Any
    patch: int = 7
    distance: int = 11

    def __post_init__(self) -> None:
        check("The strength of a smoothing", self.h, 0)
        if self.patch < 1 or self.patch % 2 == 0 or self.distance < 1:
            raise UsageError("Non-local means takes an odd patch and a distance of at least 1.")

    def run(self, x: Tensor) -> Tensor:
        import cv2

        if x.shape[1] not in (1, 3):
            raise UsageError(f"OverSmoothing takes pictures of 1 or 3 channels, not {x.shape[1]}.")

        def work(a: np.ndarray) -> np.ndarray:
            h = max(self.h * 255, 1e-3)
            return to_float(cv2.fastNlMeansDenoising(to_uint8(a), None, h, self.patch, 2 * self.distance + 1))

        return over_frames(x, work, "non-local means")


class Fading(Degradation):
    """What light and time do to prints and film: less contrast towards paper white, less colour, a cast.

    amount: 0 leaves the picture, 1 leaves pale sepia. cast: how much of each channel's ink the paper keeps, by default the
    yellow-brown of old prints. flicker: for clips, standard deviation of the brightness from frame to frame.
    """

    amount: Any
    cast: tuple[float, ...] = (0.94, 0.86, 0.70)
    flicker: Any = 0.0
    key: int | None = None

    def __post_init__(self) -> None:
        check("The amount of fading", self.amount, 0, 1)
        check("The flicker", self.flicker, 0)

    def run(self, x: Tensor) -> Tensor:
        grey = x.mean(1, keepdim=True)
        a = float(self.amount)
        cast = (
            torch.tensor(self.cast if x.shape[1] == 3 else (sum(self.cast) / len(self.cast),)).to(x).view(1, -1, 1, 1)
        )
        pale = x + 0.8 * a * (grey - x)
        pale = (pale * (1 - 0.5 * a) + 0.4 * a) * (1 + a * (cast - 1))
        if self.flicker and len(x) > 1:
            gains = self.rng().normal(1, self.flicker, (len(x), 1, 1, 1)).astype(np.float32)
            pale = pale * torch.from_numpy(gains).to(x)
        return pale.clamp(0, 1)

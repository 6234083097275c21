"""Denoising: Gaussian noise of even or wandering strength, or noise as a camera makes it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import CameraNoise, Choice, GaussianNoise, Uniform, VaryingNoise
from restora.training.batch import Batch
from restora.training.pairs.base import Case, PairMaker, TaskOptions, applied, quantised

_USUAL = (15.0, 25.0, 50.0)


class DenoiseOptions(TaskOptions):
    sigma: tuple[float, float] = Field(
        (0.0, 50.0), description="range of the level on the 0-255 scale; one number: always that"
    )
    noise: Literal["gaussian", "camera"] = Field("gaussian", description="camera: Poisson-Gaussian, on linear light")
    varying: float = Field(0.0, ge=0, le=1, description="part of the pictures whose level wanders over the picture")
    camera: float = Field(
        0.0, ge=0, le=1, description="part of the pictures with camera noise instead of Gaussian noise"
    )
    shot: tuple[float, float] = Field((0.0, 0.02), description="camera: range of the shot noise, variance per light")
    read: tuple[float, float] = Field((0.0, 0.03), description="camera: range of the read noise, in [0, 1] of light")
    mosaic: bool = Field(True, description="camera: half of the pictures through a colour mosaic")
    blind: bool = Field(False, description="the network is not told the level, even if it could be")
    quantise: bool = Field(False, description="clip and round the noisy picture to 8 bits, as files are")
    validate_at: list[float] = Field(
        [], description="levels that are measured; by default those of 15, 25, 50 in the range"
    )

    @field_validator("sigma", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, (int, float)) else value

    @field_validator("sigma", "shot", "read")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("a range goes from low to high, both at least 0")
        return value


class Denoise(PairMaker):
    """Noise of a level drawn for each picture; the controls carry it as `sigma`, a map `B x 1 x H x W`."""

    Options = DenoiseOptions
    options: DenoiseOptions
    task = "denoise"
    protocol = "denoise-rgb"

    def __init__(self, options: DenoiseOptions) -> None:
        super().__init__(options)
        low, high = options.sigma
        self.even = GaussianNoise(Uniform(low, high))
        self.wandering = VaryingNoise(Uniform(low, high), Uniform(low, high), Choice(("patches", "ramp")))
        mosaic = Choice((False, True)) if options.mosaic else False
        self.camera = CameraNoise(Uniform(*options.shot), Uniform(*options.read), mosaic)
        self.camera_share = 1.0 if options.noise == "camera" else options.camera

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        noisy, levels = torch.empty_like(clean), []
        size = (clean.shape[-2], clean.shape[-1])
        for n, seed in enumerate(seeds):
            kind, own = np.random.Generator(np.random.PCG64(seed)).random(2)
            if kind < self.camera_share:
                noise: Any = self.camera
            else:
                noise = self.wandering if own < self.options.varying else self.even
            y, (fixed,) = applied(noise, clean[n : n + 1], [seed])
            noisy[n] = y[0]
            if isinstance(fixed, (GaussianNoise, VaryingNoise)):
                levels.append(fixed.level_map(size))
            else:
                levels.append(torch.full((1, *size), float((y - clean[n : n + 1]).std()) * 255))
        return self._batch(noisy, clean, torch.stack(levels))

    def _batch(self, noisy: Tensor, clean: Tensor, level: Tensor) -> Batch:
        if self.options.quantise:
            noisy = quantised(noisy)
        # what the level was is also said to a blind network's trainer, which may want to teach it
        controls = {} if self.options.blind else {"sigma": level}
        return Batch(noisy, clean, 1, controls, extra={"level": level})

    def cases(self) -> list[Case]:
        low, high = self.options.sigma
        if self.options.noise == "camera":
            return [Case(f"camera {shot:g}", 1, {"shot": shot}) for shot in self._camera_levels()]
        levels = self.options.validate_at or [s for s in _USUAL if low <= s <= high] or [(low + high) / 2]
        return [Case(f"sigma {level:g}", 1, {"sigma": level}) for level in levels]

    def _camera_levels(self) -> list[float]:
        low, high = self.options.shot
        return sorted({round(low + (high - low) * part, 6) for part in (0.25, 0.75)})

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        if "shot" in case.values:
            read = sum(self.options.read) / 2
            noisy = CameraNoise(case.values["shot"], read)(clean, seed)
            level = torch.full_like(clean[:, :1], float((noisy - clean).std()) * 255)
        else:
            noisy = GaussianNoise(case.values["sigma"])(clean, seed)
            level = torch.full_like(clean[:, :1], case.values["sigma"])
        return self._batch(noisy, clean, level)


MAKER = Denoise

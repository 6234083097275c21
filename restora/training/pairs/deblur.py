"""Motion blur on photographs: random paths of a shaken camera, and straight motion."""

from __future__ import annotations

import numpy as np
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import Choose, GaussianNoise, Integers, MotionBlur, TrajectoryBlur, Uniform
from restora.degradation.base import Degradation
from restora.degradation.noise import linear_to_srgb, srgb_to_linear
from restora.training.batch import Batch
from restora.training.pairs.base import Case, PairMaker, TaskOptions, applied, quantised


class DeblurOptions(TaskOptions):
    size: tuple[int, int] = Field((9, 31), description="range of the sides of the kernels, odd pixels")
    straight: float = Field(0.2, ge=0, le=1, description="part of the pictures with straight motion")
    shake: tuple[float, float] = Field((0.2, 1.0), description="range of the paths' unrest, 0 for nearly straight")
    jerks: float = Field(0.02, ge=0, le=1, description="probability of a jerk at a step of a path, of 240")
    light: bool = Field(True, description="blur linear light, as a sensor does, instead of pixel values")
    noise: tuple[float, float] = Field((0.0, 2.0), description="range of the Gaussian noise on top, 0-255 scale")
    sharp: float = Field(0.0, ge=0, le=1, description="part of the pictures that are not blurred at all")
    validate_at: list[int] = Field(
        [], description="kernel sides that are measured; by default a third and two thirds of the range"
    )

    @field_validator("size")
    @classmethod
    def _odd(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 3 <= value[0] <= value[1] or value[0] % 2 == 0 or value[1] % 2 == 0:
            raise ValueError("the sides of kernels are odd, from 3, and go from low to high")
        return value

    @field_validator("noise", "shake")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("a range goes from low to high, both at least 0")
        return value


class Deblur(PairMaker):
    """The crop is larger than the patch by the largest kernel, so that no made-up border is in the pair."""

    Options = DeblurOptions
    options: DeblurOptions
    task = "deblur"
    protocol = "deblur-rgb"

    def __init__(self, options: DeblurOptions) -> None:
        super().__init__(options)
        low, high = options.size
        self.noise = GaussianNoise(Uniform(*options.noise))
        self.blur: Degradation = Choose(
            (
                TrajectoryBlur(Integers(low, high, 2), Uniform(*options.shake), options.jerks),
                MotionBlur(Uniform(float(low) / 2 + 1, float(high)), Uniform(0.0, 180.0)),
            ),
            (1 - options.straight, options.straight),
        )

    @property
    def reach(self) -> int:
        """Pixels around a patch that its blur looks at."""
        return self.options.size[1] // 2

    def side(self, patch: int, scale: int) -> int:
        return patch + 2 * self.reach

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        light = srgb_to_linear(clean) if self.options.light else clean
        blurred, _ = applied(self.blur, light, seeds)
        if self.options.light:
            blurred = linear_to_srgb(blurred.clamp(0, 1))
        for n, seed in enumerate(seeds):
            if self.options.sharp and np.random.Generator(np.random.PCG64(seed + 1)).random() < self.options.sharp:
                blurred[n] = clean[n]
        edge = self.reach
        target = clean[..., edge:-edge, edge:-edge].contiguous()
        noisy, _ = applied(self.noise, blurred[..., edge:-edge, edge:-edge], [s + 2 for s in seeds])
        return Batch(quantised(noisy), target)

    def cases(self) -> list[Case]:
        low, high = self.options.size
        sizes = self.options.validate_at or sorted(
            {low + 2 * round((high - low) * part / 2) for part in (1 / 3, 2 / 3)}
        )
        return [Case(f"blur {size}", 1, {"size": size}) for size in sizes]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        options = self.options
        shake = min(max(options.shake[0], 0.5), options.shake[1])
        blur = TrajectoryBlur(case.values["size"], shake, options.jerks, key=seed + 1)
        light = srgb_to_linear(clean) if options.light else clean
        blurred = blur(light)
        if options.light:
            blurred = linear_to_srgb(blurred.clamp(0, 1))
        return Batch(quantised(GaussianNoise(sum(options.noise) / 2)(blurred, seed)), clean)


MAKER = Deblur

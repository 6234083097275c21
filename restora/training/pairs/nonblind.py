"""Deconvolution with a known kernel: `y = (x * k) down_s + n`, the model behind every non-blind method."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from restora.degradation import Blur, Decimate, GaussianNoise, kernels
from restora.training.batch import Batch
from restora.training.pairs.base import Case, PairMaker, TaskOptions, cut_to_multiple


class NonblindOptions(TaskOptions):
    scale: list[int] = Field([1, 2, 3, 4], min_length=1, description="a scale, or several: one scale a batch, in turn")
    kernel: int = Field(25, ge=3, description="side of the kernels, odd")
    motion: float = Field(
        0.5, ge=0, le=1, description="part of the pictures with a random path; the others have Gaussians"
    )
    width: tuple[float, float] = Field((0.5, 6.0), description="range of the Gaussians' standard deviations, pixels")
    files: list[str] = Field(
        [], description="files of kernels that are drawn from instead (.npy, .mat, .txt, pictures)"
    )
    sigma: tuple[float, float] = Field((0.0, 25.0), description="range of the noise on the 0-255 scale")
    noiseless: float = Field(1 / 9, ge=0, le=1, description="part of the pictures without noise")
    boundary: Literal["circular", "valid"] = Field(
        "circular", description="circular: as the equations have it (USRNet); valid: what a photograph shows"
    )

    @field_validator("scale", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("the side of a kernel is odd")
        return value


class Nonblind(PairMaker):
    """USRNet's training pairs (Zhang et al. 2020; spec deep-restoration-survey, 2.6). `patch` is the side of the target.

    The controls carry `kernel`, `B x 1 x k x k` at the target's resolution, and `sigma`, one number a picture.
    """

    Options = NonblindOptions
    options: NonblindOptions
    task = "deconvolve"
    protocol = "deblur-rgb"

    @property
    def scales(self) -> list[int]:
        return self.options.scale

    def side(self, patch: int, scale: int) -> int:
        # `patch` counts target pixels here, as in the paper, and is cut to a multiple of the scale
        return patch - patch % scale + (self.options.kernel - 1 if self.options.boundary == "valid" else 0)

    @functools.cached_property
    def _given(self) -> list[Tensor]:
        return [k for name in self.options.files for k in kernels.load_all(Path(name))]

    def kernel(self, rng: np.random.Generator) -> Tensor:
        """A random kernel, `k x k`."""
        side = self.options.kernel
        if self._given:
            return _fitted(self._given[int(rng.integers(len(self._given)))], side)
        if rng.random() < self.options.motion:
            return kernels.trajectory(side, int(rng.integers(2**31)), float(rng.uniform(0.2, 1.0)))
        widths = rng.uniform(*self.options.width, 2)
        return kernels.anisotropic(float(widths[0]), float(widths[1]), float(rng.uniform(0, 180)), side)

    def pair(self, clean: Tensor, scale: int, seeds: list[int], rng: np.random.Generator) -> Batch:
        inputs, used, levels = [], [], []
        for n, seed in enumerate(seeds):
            own = np.random.Generator(np.random.PCG64(seed))
            kernel = self.kernel(own)
            sigma = 0.0 if own.random() < self.options.noiseless else float(own.uniform(*self.options.sigma))
            inputs.append(self._forward(clean[n : n + 1], kernel, scale, sigma, seed))
            used.append(kernel)
            levels.append(sigma)
        edge = self.options.kernel // 2 if self.options.boundary == "valid" else 0
        target = clean[..., edge:-edge, edge:-edge].contiguous() if edge else clean
        controls = {"kernel": torch.stack(used)[:, None], "sigma": torch.tensor(levels)}
        return Batch(torch.cat(inputs), target, scale, controls)

    def _forward(self, clean: Tensor, kernel: Tensor, scale: int, sigma: float, seed: int) -> Tensor:
        blurred = Blur(kernel, self.options.boundary)(clean)
        low = Decimate(scale)(blurred) if scale > 1 else blurred
        return GaussianNoise(sigma, key=seed)(low)

    def cases(self) -> list[Case]:
        sigma = sum(self.options.sigma) / 4
        return [Case(f"x{s}", s, {"sigma": sigma}) for s in sorted(set(self.scales))]

    def example(self, clean: Tensor, case: Case, seed: int) -> Batch:
        kernel = self.kernel(np.random.Generator(np.random.PCG64(seed)))
        clean = cut_to_multiple(clean, case.scale)
        edge = self.options.kernel // 2 if self.options.boundary == "valid" else 0
        if edge:
            spare = 2 * edge % case.scale
            clean = clean[..., : clean.shape[-2] - (-spare % case.scale), : clean.shape[-1] - (-spare % case.scale)]
        low = self._forward(clean, kernel, case.scale, case.values["sigma"], seed)
        target = clean[..., edge:-edge, edge:-edge] if edge else clean
        target = target[..., : low.shape[-2] * case.scale, : low.shape[-1] * case.scale]
        low = low[..., : target.shape[-2] // case.scale, : target.shape[-1] // case.scale]
        controls = {"kernel": kernel[None, None], "sigma": torch.tensor([case.values["sigma"]])}
        return Batch(low, target.contiguous(), case.scale, controls)


def _fitted(kernel: Tensor, side: int) -> Tensor:
    """A kernel in the middle of a square of `side` pixels, cut where it is larger; of sum 1."""
    kernel = kernels.repair(kernel)
    for axis in (0, 1):
        spare = side - kernel.shape[axis]
        if spare < 0:
            kernel = kernel.narrow(axis, -spare // 2, side)
    down, across = ((side - n) // 2 for n in kernel.shape)
    kernel = F.pad(kernel, (across, across, down, down))
    return kernel / kernel.sum()


MAKER = Nonblind

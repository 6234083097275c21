"""Pairs without high-resolution pictures: each low-resolution picture is the target, and itself made smaller the input.

Ahn, Yoo, Sohn: SimUSR: A Simple but Strong Baseline for Unsupervised Image Super-resolution, CVPR Workshops 2020; the
efficiency thesis, section 2.6. What is trained so is then given the low-resolution pictures themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from restora.training.pairs.base import as_tensor
from restora.training.pairs.sr import SROptions, SuperResolution


class SimUSROptions(SROptions):
    denoise: str | None = Field(
        None, description="a denoiser (model name or weight file) that cleans the pictures first, where they are noisy"
    )
    sigma: float | Literal["auto"] = Field("auto", description="noise level it is told (0-255), if it takes one")


class SimUSR(SuperResolution):
    """As `sr`, on pictures that need not be sharp, cleaned beforehand where that is asked. `--data` and `--validation` are
    folders of low-resolution pictures; the scores are those of bringing them back from half (or a third ...) of their size."""

    Options = SimUSROptions
    options: SimUSROptions

    def open(self, data: dict[str, Path], rescale: Sequence[float], largest: int, cache: Path | None) -> Any:
        photographs = super().open(data, rescale, largest, cache)
        if self.options.denoise is not None:
            photographs.images = [self._cleaned(image) for image in photographs.images]
            how = f"{photographs.checksum} {self.options.denoise} {self.options.sigma}"
            photographs.checksum = hashlib.sha256(how.encode()).hexdigest()
        return photographs

    def held_out(self, folder: Path, count: int, side: int) -> list[Tensor]:
        pictures = super().held_out(folder, count, side)
        if self.options.denoise is None:
            return pictures
        return [
            as_tensor(self._cleaned((p[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))) for p in pictures
        ]

    def _cleaned(self, image: np.ndarray) -> np.ndarray:
        from restora.restorers import load

        if not hasattr(self, "_denoiser"):
            self._denoiser = load(self.options.denoise)
        told: dict[str, Any] = {"sigma": self.options.sigma} if "sigma" in self._denoiser.controls.model_fields else {}
        return self._denoiser(image, **told).array


MAKER = SimUSR

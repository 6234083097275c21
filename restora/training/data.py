"""Clean photographs in memory, random crops from them, and the pairs that a degradation makes of the crops."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restora.degradation import luma, resize, resize_uint8
from restora.errors import RecipeError, RestoraError
from restora.training.recipe import Recipe

_MARGIN = 3  # low-resolution pixels around a patch: the bicubic kernel reaches 2, and half a pixel more


class Photographs:
    """8-bit RGB photographs, decoded once, each also at reduced sizes.

    Args:
        folder: read recursively, in sorted order.
        rescale: factors in (0, 1]; the reduced copies are made by antialiased bicubic resampling.

    Raises:
        RecipeError: no such folder, or no readable photograph in it.
    """

    def __init__(self, folder: str | Path, rescale: Sequence[float] = (1.0,), smallest: int = 0) -> None:
        from restora import io

        folder = Path(folder)
        if not folder.is_dir():
            raise RecipeError(f"There is no folder of training photographs at '{folder}'.")
        self.images: list[np.ndarray] = []
        digest = hashlib.sha256()
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in io.READABLE)
        for file in files:
            try:
                picture = io.Picture.open(file)
            except RestoraError:
                continue  # a folder of photographs may hold other things; what was used is in the checksum
            if picture.bit_depth != 8 or picture.channels != 3:
                continue
            digest.update(file.name.encode() + hashlib.sha256(picture.pixels.tobytes()).digest())
            for factor in rescale:
                image = picture.pixels
                if factor != 1:
                    planes = torch.from_numpy(image).permute(2, 0, 1).contiguous()
                    image = np.ascontiguousarray(resize_uint8(planes, factor).permute(1, 2, 0).numpy())
                if min(image.shape[:2]) >= smallest:
                    self.images.append(image)
        if not self.images:
            raise RecipeError(
                f"No 8-bit colour photograph of at least {smallest} pixels a side was found in '{folder}'."
            )
        self.checksum = digest.hexdigest()
        self.files = len(files)
        areas = np.array([i.shape[0] * i.shape[1] for i in self.images], dtype=np.float64)
        self._cumulative = np.cumsum(areas / areas.sum())

    def crops(self, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """`count` random crops, flipped and turned: `count x side x side x 3`, uint8. Every pixel is equally likely."""
        out = np.empty((count, side, side, 3), np.uint8)
        for n in range(count):
            index = min(int(np.searchsorted(self._cumulative, rng.random())), len(self.images) - 1)
            image = self.images[index]
            top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
            crop = image[top : top + side, left : left + side]
            turn = int(rng.integers(8))
            crop = np.rot90(crop, turn % 4)
            out[n] = crop[:, ::-1] if turn >= 4 else crop
        return out


class Pairs:
    """Training pairs of a recipe. The pair of a step depends on the recipe's seed and the step only, so that a resumed
    run sees what an undisturbed one would have seen."""

    def __init__(self, photographs: Photographs, recipe: Recipe) -> None:
        self.photographs, self.recipe = photographs, recipe

    @staticmethod
    def smallest(recipe: Recipe) -> int:
        """Side in pixels that a photograph must have to give a crop."""
        return (recipe.data.patch + 2 * _MARGIN) * recipe.degradation.scale

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Input and target of a step: `B x C x p x p` and `B x C x sp x sp` in [0, 1]."""
        data, forward = self.recipe.data, self.recipe.degradation
        rng = np.random.default_rng((self.recipe.seed, step))
        crops = self.photographs.crops(data.batch, self.smallest(self.recipe), rng)
        clean = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)
        low = degrade(clean, forward.scale, forward.quantise)
        edge = _MARGIN * forward.scale
        clean, low = clean[..., edge:-edge, edge:-edge], low[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        if data.colour == "luma":
            clean, low = luma(clean), luma(low)
        return low.contiguous(), clean.contiguous()


def degrade(clean: Tensor, scale: int, quantise: bool) -> Tensor:
    """The classical low-resolution input: antialiased bicubic reduction, rounded to 8 bits where asked."""
    low = resize(clean, 1 / scale)
    return (low.clamp_(0, 1) * 255).round_().div_(255) if quantise else low

"""The two pictures of a test pair as arrays, read or made by the protocol's recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from restora.errors import UsageError
from restora.evaluation.rules import Protocol
from restora.evaluation.testsets import Pair


@dataclass(frozen=True)
class Recipe:
    """How inputs are made where a test set has references only. `sigma`: noise on the 0 to 255 scale; `quality`: of JPEG;
    `seed`: of the noise, set anew for each image."""

    task: str
    scale: int = 1
    sigma: float = 25.0
    quality: int = 10
    seed: int = 0

    @property
    def label(self) -> str:
        """A line for tables."""
        if self.task == "denoise":
            return f"noise sigma {self.sigma:g}, numpy seed {self.seed} for each image, not clipped"
        if self.task == "dejpeg":
            return f"JPEG quality {self.quality} (OpenCV)"
        return f"MATLAB's imresize 1/{self.scale} of 8-bit images"


def read(path: Path) -> np.ndarray:
    """A picture's stored values, `H x W x {1, 3}` uint8; deeper pictures are brought to 8 bits. Alpha is dropped."""
    from restora.io import Picture

    pixels = Picture.open(path).pixels
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.floor(np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def channels(image: np.ndarray, rules: Protocol) -> np.ndarray:
    """The picture with the channels that the protocol feeds to a restorer."""
    if rules.channel == "grey" and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    if rules.grey_files == "as-rgb" and image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image


def pictures(pair: Pair, rules: Protocol, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Input (`h x w x C` float32, nominally [0, 1]; noise is not clipped), reference (`H x W x C` uint8) and notes.

    Raises:
        UsageError: sizes that do not belong together. PictureError: an unreadable file.
    """
    reference = channels(read(pair.reference), rules)
    notes: list[str] = []
    if recipe.task == "super-resolution":
        height, width = (n // recipe.scale * recipe.scale for n in reference.shape[:2])
        if min(height, width) == 0:
            raise UsageError(f"'{pair.reference}' is smaller than the scale {recipe.scale}.")
        if (height, width) != reference.shape[:2]:
            notes.append(f"the reference was cut to a multiple of {recipe.scale}: {width}x{height}")
            reference = reference[:height, :width]
    if pair.degraded is None:
        return make(reference, recipe), reference, notes
    degraded = channels(read(pair.degraded), rules)
    expected = tuple(n // recipe.scale for n in reference.shape[:2])
    if degraded.shape[:2] != expected:
        raise UsageError(
            f"'{pair.degraded.name}' has {degraded.shape[1]}x{degraded.shape[0]} pixels, but its reference asks for "
            f"{expected[1]}x{expected[0]} at scale {recipe.scale}: a wrong pair or a wrong scale."
        )
    if degraded.shape[2] != reference.shape[2]:
        raise UsageError(f"'{pair.degraded.name}' and its reference differ in channels: one of them is grey.")
    return degraded.astype(np.float32) / np.float32(255), reference, notes


def make(reference: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The degraded picture of a reference, float32.

    Noise as the denoising papers' evaluation adds it: `numpy.random.seed`, `normal(0, sigma / 255)` in float64 on the
    clean picture in [0, 1], nothing clipped.
    """
    if recipe.task == "denoise":
        state = np.random.RandomState(recipe.seed)
        clean = reference.astype(np.float32) / np.float32(255)
        return (clean + state.normal(0, recipe.sigma / 255.0, reference.shape)).astype(np.float32)
    if recipe.task == "dejpeg":
        grey = reference.shape[2] == 1
        stored = reference if grey else cv2.cvtColor(reference, cv2.COLOR_RGB2BGR)
        done, code = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, recipe.quality])
        if not done:
            raise UsageError("This OpenCV cannot encode JPEG.")
        back = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED))
        back = back[..., None] if grey else cv2.cvtColor(back, cv2.COLOR_BGR2RGB)
        return back.astype(np.float32) / np.float32(255)
    if recipe.task == "super-resolution":
        import torch

        from restora.degradation import resize_uint8

        planes = torch.from_numpy(np.ascontiguousarray(reference.transpose(2, 0, 1)))
        low = resize_uint8(planes, 1 / recipe.scale).numpy().transpose(1, 2, 0)
        return low.astype(np.float32) / np.float32(255)
    raise UsageError(f"The input of the task '{recipe.task}' cannot be made from a clean picture.")


def enlarged(image: np.ndarray, scale: int, method: str = "bicubic") -> np.ndarray:
    """The input at the reference's size, in [0, 1]; `nearest` shows it as it is."""
    if scale == 1:
        return np.clip(image, 0, 1)
    if method == "nearest":
        return np.clip(image.repeat(scale, axis=0).repeat(scale, axis=1), 0, 1)
    import torch

    from restora.degradation import resize

    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return np.clip(resize(planes, scale).numpy().transpose(1, 2, 0), 0, 1)

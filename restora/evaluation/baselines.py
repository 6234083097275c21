"""Rows that every table needs: the degraded input, a picture of one colour, and a plain method. A model that does not beat
them is broken, or the measurement is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from restora.evaluation.inputs import enlarged
from restora.evaluation.no_reference import noise_level


def constant(image: np.ndarray, scale: int) -> np.ndarray:
    """The mean colour of the input, everywhere."""
    shape = (image.shape[0] * scale, image.shape[1] * scale, image.shape[2])
    return np.clip(np.broadcast_to(image.mean(axis=(0, 1), dtype=np.float64), shape), 0, 1)


def nearest(image: np.ndarray, scale: int) -> np.ndarray:
    """The input as it is; its pixels repeated where the reference is larger."""
    return enlarged(image, scale, "nearest")


def bicubic(image: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's bicubic enlargement."""
    return enlarged(image, scale)


def wiener(image: np.ndarray, scale: int) -> np.ndarray:
    """Lee's local Wiener filter on 5x5 windows; the noise is estimated from the picture."""
    noise = (noise_level(image) / 255) ** 2
    x = image.astype(np.float64)
    if x.shape[0] < 5 or x.shape[1] < 5:
        return np.clip(x, 0, 1)
    mean = cv2.blur(x, (5, 5), borderType=cv2.BORDER_REFLECT).reshape(x.shape)
    power = cv2.blur(x * x, (5, 5), borderType=cv2.BORDER_REFLECT).reshape(x.shape)
    variance = np.maximum(power - mean * mean, 1e-12)
    return np.clip(mean + np.maximum(variance - noise, 0) / variance * (x - mean), 0, 1)


def unsharp(image: np.ndarray, scale: int) -> np.ndarray:
    """Unsharp masking: sigma 2, amount 1."""
    x = image.astype(np.float64)
    return np.clip(2 * x - cv2.GaussianBlur(x, (0, 0), 2.0).reshape(x.shape), 0, 1)


def smoothed(image: np.ndarray, scale: int) -> np.ndarray:
    """A Gaussian of sigma 0.8, which takes the edge off JPEG's blocks."""
    return np.clip(cv2.GaussianBlur(image.astype(np.float64), (0, 0), 0.8).reshape(image.shape), 0, 1)


_PLAIN: dict[str, tuple[str, Callable[[np.ndarray, int], np.ndarray]]] = {
    "super-resolution": ("bicubic", bicubic),
    "denoise": ("local Wiener 5x5", wiener),
    "deblur": ("unsharp mask", unsharp),
    "dejpeg": ("Gaussian 0.8", smoothed),
}


def baselines(task: str) -> list[tuple[str, str, Callable[[np.ndarray, int], np.ndarray]]]:
    """(kind, name, function of input and scale) of a task's rows; functions take and give float images in [0, 1]."""
    plain, function = _PLAIN.get(task, ("unsharp mask", unsharp))
    return [
        ("input", "input (nearest)" if task == "super-resolution" else "input", nearest),
        ("constant", "one colour", constant),
        ("baseline", plain, function),
    ]

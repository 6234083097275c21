"""PSNR, SSIM and MAE on 8-bit images, by the letter of the published protocols.

A number is never given without a protocol: the public functions take its name, and every table carries it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import cv2
import numpy as np

from restora.errors import UsageError
from restora.evaluation.rules import Protocol, protocol
from restora.evaluation.safety import check_reference, warn_range

_BT601 = np.array([65.481, 128.553, 24.966]) / 255  # studio range, + 16
_JPEG = np.array([0.299, 0.587, 0.114])  # full range
WINDOW = 11


def psnr(a: Any, b: Any, protocol: str | Protocol, scale: int | None = None) -> float:
    """Peak signal-to-noise ratio in dB of an image against a reference under a protocol; infinity when they are equal.

    Args:
        a, b: the image and its reference: `H x W`, `H x W x C` uint8 arrays; or floating-point arrays (`H x W x C`) and
            tensors (`C x H x W`, `1 x C x H x W`) in [0, 1], which are clipped and rounded to 8 bits.
        protocol: a name from `protocols()`.
        scale: the scale factor, where the protocol's border depends on it.

    Raises:
        UsageError: unknown protocol, images of different sizes, a border that leaves nothing, or a floating-point reference
            outside [0, 1] (normalised tensors, or values of 0 to 255).
    """
    return psnr_of(mse(a, b, protocol, scale))


def ssim(a: Any, b: Any, protocol: str | Protocol, scale: int | None = None) -> float:
    """Structural similarity (Wang et al. 2004), mean over pixels and channels; arguments as for `psnr`.

    Raises:
        UsageError: as `psnr`, or an image smaller than the 11x11 window.
    """
    x, y = planes(a, b, protocol, scale)
    return ssim_of(x, y)


def mae(a: Any, b: Any, protocol: str | Protocol, scale: int | None = None) -> float:
    """Mean absolute error in grey levels (0 to 255); arguments and errors as for `psnr`."""
    x, y = planes(a, b, protocol, scale)
    return float(np.mean(np.abs(x - y)))


def mse(a: Any, b: Any, protocol: str | Protocol, scale: int | None = None) -> float:
    """Mean squared error in squared grey levels; arguments and errors as for `psnr`."""
    x, y = planes(a, b, protocol, scale)
    return float(np.mean((x - y) ** 2))


def psnr_of(error: float) -> float:
    """PSNR in dB of a mean squared error on the 0 to 255 scale."""
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim_of(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of two `H x W x C` float64 arrays on the 0 to 255 scale; the mean over the channels."""
    if min(x.shape[:2]) < WINDOW:
        raise UsageError(
            f"SSIM needs at least 11x11 pixels after the border is cut; there are {x.shape[1]}x{x.shape[0]}."
        )
    maps = [similarity(x[..., c], y[..., c]) for c in range(x.shape[2])]
    return float(np.mean([np.mean(luminance * structure) for luminance, structure in maps]))


def similarity(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of SSIM at every valid position of a plane: luminance, and contrast with structure."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    kernel, reach = cv2.getGaussianKernel(WINDOW, 1.5), WINDOW // 2

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(z, -1, kernel, kernel)[reach:-reach, reach:-reach]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return (2 * mx * my + c1) / (mx * mx + my * my + c1), (2 * cov + c2) / (vx + vy + c2)


def planes(a: Any, b: Any, name: str | Protocol, scale: int | None) -> tuple[np.ndarray, np.ndarray]:
    """What is compared: both images as `H x W x C` float64 on the 0 to 255 scale, border cut, channels chosen.

    Raises:
        UsageError: as `psnr`.
    """
    rules = protocol(name)
    image, reference = _raw(a), _raw(b)
    check_reference(reference)
    warn_range(image)
    x, y = _levels(image, rules.rounding), _levels(reference, "nearest")
    if x.shape != y.shape:
        raise UsageError(f"The two images differ in shape: {x.shape} and {y.shape} (height, width, channels).")
    border = rules.border_for(scale)
    if min(x.shape[:2]) <= 2 * border:
        raise UsageError(f"A border of {border} pixels leaves nothing of an image of {x.shape[1]}x{x.shape[0]} pixels.")
    cut = slice(border, x.shape[0] - border), slice(border, x.shape[1] - border)
    return _channels(x[cut], rules), _channels(y[cut], rules)


def _channels(x: np.ndarray, rules: Protocol) -> np.ndarray:
    z = x.astype(np.float64)
    if z.shape[2] == 1 or rules.channel == "rgb":
        return z
    if rules.channel == "grey":
        if np.ptp(x, axis=2).any():
            raise UsageError(f"The protocol '{rules.name}' compares grey images; this one is coloured.")
        return z[..., :1]
    if rules.luma == "full-range":
        return (z @ _JPEG)[..., None]
    y = (z @ _BT601 + 16)[..., None]
    return np.floor(y + 0.5) if rules.luma == "rounded" else y


def _levels(array: np.ndarray, rounding: Literal["nearest", "down", "none"]) -> np.ndarray:
    """An image on the 0 to 255 scale."""
    if array.dtype == np.uint8:
        return array
    if rounding == "none":
        return np.clip(array.astype(np.float64), 0, 1) * 255
    levels = np.clip(array, 0, 1) * 255 + (0.5 if rounding == "nearest" else 0)
    return np.floor(levels).astype(np.uint8)


def to_uint8(image: Any) -> np.ndarray:
    """An image as `H x W x C` uint8: floating-point values in [0, 1] are clipped and rounded, tensors are permuted.

    Warns (`evaluation.RangeWarning`) when so much lies outside [0, 1] that the values mean something else.

    Raises:
        UsageError: a shape or type that is no image, NaN or infinity.
    """
    array = _raw(image)
    warn_range(array)
    return _levels(array, "nearest")


def _raw(image: Any) -> np.ndarray:
    """An image as `H x W x C`, uint8 or finite floating point."""
    if hasattr(image, "detach"):
        tensor = image.detach().cpu()
        if tensor.ndim == 4:
            if tensor.shape[0] != 1:
                raise UsageError("Measures take one image at a time; the mean over images is the caller's.")
            tensor = tensor[0]
        image = tensor.permute(1, 2, 0).numpy() if tensor.ndim == 3 else tensor.numpy()
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in (1, 3):
        raise UsageError(f"An image to compare is H x W x 1 or 3 (a tensor: C x H x W), not of shape {array.shape}.")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"Images to compare are uint8 or floating point in [0, 1], not {array.dtype}.")
    if not np.isfinite(array).all():
        raise UsageError("An image to compare holds NaN or infinity.")
    return array

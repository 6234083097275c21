"""Full-reference measures on 8-bit images, by the letter of the published protocols.

A number is never given without a protocol: the public functions take its name, and every table carries it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from restora.errors import UsageError

Channel = Literal["y", "rgb", "grey"]


@dataclass(frozen=True)
class Protocol:
    """How two images are compared.

    Both are rounded to 8 bits first. `channel`: ``y`` is the luminance of BT.601 in studio range, in floating point
    (not rounded again); ``rgb`` all three channels. `border`: pixels cut on each side; ``scale`` means the scale factor.
    Scores are means of per-image values, never pooled. SSIM: 11x11 Gaussian window with sigma 1.5, valid region,
    C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2.
    """

    name: str
    version: int
    channel: Channel
    border: int | Literal["scale"]
    description: str


_PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("sr-y", 1, "y", "scale", "classical super-resolution: Y of BT.601, `scale` pixels cut on each side"),
        Protocol("sr-rgb", 1, "rgb", "scale", "super-resolution on all channels, `scale` pixels cut on each side"),
    )
}


def protocols() -> dict[str, Protocol]:
    """The protocols by name."""
    return dict(_PROTOCOLS)


def protocol(name: str) -> Protocol:
    """One protocol by name.

    Raises:
        UsageError: no such protocol.
    """
    if name not in _PROTOCOLS:
        raise UsageError(f"There is no protocol '{name}'; the protocols are {', '.join(_PROTOCOLS)}.")
    return _PROTOCOLS[name]


def psnr(a: Any, b: Any, protocol: str, scale: int | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two images under a protocol; infinity when they are equal.

    Args:
        a, b: `H x W`, `H x W x C` uint8 arrays; or floating-point arrays (`H x W x C`) and tensors (`C x H x W`,
            `1 x C x H x W`) in [0, 1], which are clipped and rounded to 8 bits.
        protocol: a name from `protocols()`.
        scale: the scale factor, where the protocol's border depends on it.

    Raises:
        UsageError: unknown protocol, images of different sizes, or a border that leaves nothing.
    """
    x, y = _planes(a, b, protocol, scale)
    mse = float(np.mean((x - y) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ssim(a: Any, b: Any, protocol: str, scale: int | None = None) -> float:
    """Structural similarity (Wang et al. 2004), mean over pixels and channels; arguments as for `psnr`.

    Raises:
        UsageError: as `psnr`, or an image smaller than the 11x11 window.
    """
    x, y = _planes(a, b, protocol, scale)
    if min(x.shape[:2]) < 11:
        raise UsageError(
            f"SSIM needs at least 11x11 pixels after the border is cut; there are {x.shape[1]}x{x.shape[0]}."
        )
    return float(np.mean([_ssim_plane(x[..., c], y[..., c]) for c in range(x.shape[2])]))


def _ssim_plane(x: np.ndarray, y: np.ndarray) -> float:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    kernel = cv2.getGaussianKernel(11, 1.5)

    def mean(z: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(z, -1, kernel, kernel)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return float(np.mean(((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))))


def _planes(a: Any, b: Any, name: str, scale: int | None) -> tuple[np.ndarray, np.ndarray]:
    rules = protocol(name)
    x, y = to_uint8(a), to_uint8(b)
    if x.shape != y.shape:
        raise UsageError(f"The two images differ in shape: {x.shape} and {y.shape} (height, width, channels).")
    if rules.border == "scale" and scale is None:
        raise UsageError(f"The protocol '{name}' cuts a border of `scale` pixels: say which scale.")
    border = int(scale or 0) if rules.border == "scale" else int(rules.border)
    if min(x.shape[:2]) <= 2 * border:
        raise UsageError(f"A border of {border} pixels leaves nothing of an image of {x.shape[1]}x{x.shape[0]} pixels.")
    planes = []
    for image in (x, y):
        z = image[border : image.shape[0] - border, border : image.shape[1] - border].astype(np.float64)
        if rules.channel == "y" and z.shape[2] == 3:
            z = (z @ np.array([65.481, 128.553, 24.966]) / 255 + 16)[..., None]
        planes.append(z)
    return planes[0], planes[1]


def to_uint8(image: Any) -> np.ndarray:
    """An image as `H x W x C` uint8: floating-point values in [0, 1] are clipped and rounded, tensors are permuted."""
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
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"Images to compare are uint8 or floating point in [0, 1], not {array.dtype}.")
    if not np.isfinite(array).all():
        raise UsageError("An image to compare holds NaN or infinity.")
    return np.floor(np.clip(array, 0, 1) * 255 + 0.5).astype(np.uint8)

"""What a single score hides: dark regions, drifting colours, results that contradict their input, collapses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from restora.errors import UsageError
from restora.evaluation.metrics import planes, psnr_of, to_uint8
from restora.evaluation.rules import Protocol

_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Band:
    """The pixels whose reference has a brightness in [low, high) on the 0 to 255 scale: their share, and PSNR over them.
    `psnr` is None where there are no such pixels."""

    low: float
    high: float
    share: float
    psnr: float | None


def brightness_bands(
    a: Any, b: Any, protocol: str | Protocol, scale: int | None = None, bands: int = 5
) -> tuple[Band, ...]:
    """PSNR by brightness of the reference: equal bands of its full-range grey value from black to white.

    Args:
        a, b, protocol, scale: as for `psnr`. bands: how many.

    Raises:
        UsageError: as `psnr`.
    """
    x, y = planes(a, b, protocol, scale)
    reference = to_uint8(b).astype(np.float64)
    border = (reference.shape[0] - y.shape[0]) // 2
    grey = reference[..., 0] if reference.shape[2] == 1 else reference @ _GREY
    grey = grey[border : border + y.shape[0], border : border + y.shape[1]]
    error = ((x - y) ** 2).mean(axis=2)
    edges = np.linspace(0, 256, bands + 1)
    found = []
    for low, high in itertools.pairwise(edges):
        inside = (grey >= low) & (grey < high)
        value = psnr_of(float(error[inside].mean())) if inside.any() else None
        found.append(Band(float(low), float(high), float(inside.mean()), value))
    return tuple(found)


@dataclass(frozen=True)
class ColourDrift:
    """How colours moved. `rgb`: mean difference of each channel in grey levels (0 to 255), positive when it rose.
    `delta_e`: mean distance in CIELAB (CIE 1976) of the two pictures after details were smoothed away."""

    rgb: tuple[float, float, float]
    delta_e: float


def colour_drift(a: Any, b: Any, smoothing: float = 4.0) -> ColourDrift:
    """The drift of colours of `a` against `b`, details aside: of a restored picture against its reference or its input.

    Args:
        a, b: images as for `psnr`, of one size, sRGB. smoothing: sigma of the Gaussian in pixels.

    Raises:
        UsageError: images of different sizes.
    """
    x, y = (to_uint8(z).astype(np.float64) for z in (a, b))
    if x.shape[:2] != y.shape[:2]:
        raise UsageError(f"The two images differ in size: {x.shape[:2]} and {y.shape[:2]} (height, width).")
    x, y = (np.repeat(z, 3, axis=2) if z.shape[2] == 1 else z for z in (x, y))
    shift = (x - y).mean(axis=(0, 1))
    soft = [srgb_to_lab(np.clip(cv2.GaussianBlur(z, (0, 0), smoothing) / 255, 0, 1)) for z in (x, y)]
    delta = np.linalg.norm(soft[0] - soft[1], axis=2).mean()
    return ColourDrift((float(shift[0]), float(shift[1]), float(shift[2])), float(delta))


def srgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB in [0, 1], `H x W x 3`."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def consistency(restored: Any, degraded: Any, forward: Callable[[Any], Any]) -> float:
    """Does the forward model turn the result back into the input? PSNR in dB under ``consistency/1``: all channels, no
    border, 8 bits. Low values mean that the result shows what the input excludes.

    Args:
        restored: an image as for `psnr`. degraded: the input it was made from.
        forward: any callable on tensors `1 x C x H x W` in [0, 1], for example a `restora.degradation`.

    Raises:
        UsageError: `forward` returns another size than the input has.
    """
    from restora.engine import load

    x = load(to_uint8(restored))
    again = forward(x)
    return psnr_of(_mse(to_uint8(again), to_uint8(degraded)))


def _mse(x: np.ndarray, y: np.ndarray) -> float:
    if x.shape != y.shape:
        raise UsageError(f"The forward model gives {x.shape}, but the input is {y.shape} (height, width, channels).")
    return float(np.mean((x.astype(np.float64) - y) ** 2))


def collapse_rate(restored: Sequence[float], degraded: Sequence[float], threshold: float = 3.0) -> float:
    """Share of images that the restoration made worse by more than `threshold` dB (the mode collapse rate of SAM-Deblur).

    Args:
        restored, degraded: PSNR of each result and of its input, under one protocol.

    Raises:
        UsageError: no images, or not as many of one as of the other.
    """
    if not restored or len(restored) != len(degraded):
        raise UsageError(f"A collapse rate needs pairs of scores, not {len(restored)} and {len(degraded)}.")
    return float(np.mean([d - r > threshold for r, d in zip(restored, degraded, strict=True)]))

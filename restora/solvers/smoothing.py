"""Filters that smooth without a model of the blur: for noise before a deconvolution and for ringing after it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError
from restora.solvers.denoisers import non_local_means
from restora.solvers.recursive_filter import recursive_filter

_SIZES = (3, 5)  # of the median that OpenCV has in floating point


def median(x: Tensor, size: int = 3) -> Tensor:
    """The median of `size x size` pixels, each channel for itself: for single wrong pixels. `B x C x H x W`.

    Raises:
        UsageError: a size other than 3 and 5.
    """
    if size not in _SIZES:
        raise UsageError(f"The size of a median filter is 3 or 5, not {size}.")
    return _by_channels(x, lambda a: cv2.medianBlur(a, size))


def bilateral(x: Tensor, sigma: float = 10.0, reach: float = 3.0) -> Tensor:
    """Means over pixels that are near and alike; the channels are compared together. `B x C x H x W`, [0, 1].

    Args:
        sigma: difference, on the 0-255 scale, at which a pixel counts e^-1/2 as much. reach: the same for distance, in pixels.

    Source: Tomasi and Manduchi, ICCV 1998. O(reach^2) a pixel.

    Raises:
        UsageError: sigma or reach not above 0.
    """
    if sigma <= 0 or reach <= 0:
        raise UsageError(f"The sigma and reach of a bilateral filter are above 0, not {sigma:g} and {reach:g}.")
    size = 2 * round(2 * reach) + 1
    if x.shape[1] == 3:
        # OpenCV adds the channels' differences up: sqrt(3) sigma for three that are equally wrong would be 3 sigma
        return _by_pictures(x, lambda a: cv2.bilateralFilter(a, size, 3 * sigma / 255, reach))
    return _by_channels(x, lambda a: cv2.bilateralFilter(a, size, sigma / 255, reach))


def _by_pictures(x: Tensor, work: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    pictures = x.detach().permute(0, 2, 3, 1).float().cpu().numpy()
    done = np.stack([work(np.ascontiguousarray(p)) for p in pictures])
    return torch.from_numpy(done).permute(0, 3, 1, 2).contiguous().to(x)


def _by_channels(x: Tensor, work: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    planes = x.detach().flatten(0, 1).float().cpu().numpy()
    return torch.from_numpy(np.stack([work(np.ascontiguousarray(p)) for p in planes])).view_as(x).to(x)


# by name, with the arguments of the functions
FILTERS: dict[str, Callable[..., Tensor]] = {
    "median": median,
    "bilateral": bilateral,
    "non-local-means": non_local_means,
    "recursive": recursive_filter,
}

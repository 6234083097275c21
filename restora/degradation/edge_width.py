"""How wide the sharpest edges of a picture are."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from restora.degradation.estimate import unclipped

_REACH = 4  # pixels on each side of a step within which its contrast is taken; wider edges come out as about 2.6
_CONTRAST, _NOISES = 40.0, 8.0  # least contrast of an edge in grey levels, and in standard deviations of the noise
_ENOUGH = 100  # edges along an axis
_SHARPEST = 90  # percentile of the edges: a picture with a blurred background is a sharp picture


def edge_width(image: Any, sigma: float = 0.0) -> float | None:
    """The standard deviation, in pixels, of the Gaussian whose step response is as steep as the sharpest tenth of the
    picture's edges, of the blurrier of the two axes; None where there are too few edges.

    An edge is a local maximum of the slope; a step of contrast c behind a Gaussian of deviation s has the slope
    c / (s sqrt(2 pi)). Photographs as they are made for the screen have 0.4 to 0.8, blurred ones 0.95 and more; a
    picture of which only a part is out of focus counts as sharp.

    Args:
        image: as for `estimate.noise_level`. sigma: its noise, on the 0 to 255 scale: fainter edges are left out.
    """
    x = unclipped(image)
    grey = np.ascontiguousarray(x.mean(axis=2), np.float32)
    least = max(_CONTRAST, _NOISES * sigma)
    widths = []
    for plane in (grey, np.ascontiguousarray(grey.T)):
        if plane.shape[1] < 4 * _REACH:
            return None
        slope = np.abs(np.diff(plane, axis=1))
        window = np.ones((1, 2 * _REACH + 2), np.uint8)
        contrast = (cv2.dilate(plane, window) - cv2.erode(plane, window))[:, 1:]
        peak = slope >= cv2.dilate(slope, np.ones((1, 2 * _REACH + 1), np.uint8))
        edge = peak & (contrast >= least)
        edge[:, : 2 * _REACH] = edge[:, -2 * _REACH :] = False
        if edge.sum() < _ENOUGH:
            return None
        steepest = float(np.percentile(slope[edge] / contrast[edge], _SHARPEST))
        widths.append(1 / (max(steepest, 1e-3) * math.sqrt(2 * math.pi)))
    return max(widths)

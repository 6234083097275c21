"""Does the picture agree with its kernel? A few neighbours of the kernel are tried; if one explains the picture clearly better,
the kernel is probably wrong in that way.

The measure is what a regularised solution leaves unexplained where the kernel lies wholly within the picture: with the true
kernel it is little more than the noise, with a wrong one the regulariser forbids the ringing that would explain the rest.
`benchmarks/nonblind.py --wrong` measures how often the verdict is right.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from restora import solvers
from restora.degradation import convolution
from restora.solvers.doubt import warped

_TURN, _STRETCH = 5.0, 1.1  # degrees; factor of length
# The share of unexplained power from which on it is called better; docs/deconvolution.md says how often that is right.
_TURNED, _STRETCHED = 0.9, 0.92
_NOTHING = 1e-9  # unexplained power of a picture without anything to tell kernels apart by
_SIDE = 256
_GAUSSIAN = 0.97  # correlation with the Gaussian of the same width, from which on size cannot be told


def disagreement(picture: Tensor, kernel: Tensor, sigma: float) -> str:
    """A sentence about how the kernel is probably wrong; empty when the picture does not say so.

    Args:
        picture: `1 x C x H x W` in [0, 1]. kernel: `kh x kw`, checked. sigma: noise on the 0-255 scale.
    """
    if min(picture.shape[-2:]) < 2 * max(kernel.shape) or max(kernel.shape) < 5:
        return ""
    part = _busiest(picture.mean(1, keepdim=True), _SIDE + max(kernel.shape))
    sigma = max(sigma, 1.0)
    left = {turn: _unexplained(part, warped(kernel, turn, 1.0), sigma) for turn in (-_TURN, _TURN)}
    better, worse = sorted(left, key=lambda turn: left[turn])
    if left[worse] < _NOTHING:
        return ""
    # both turned kernels are blurred a little by turning: they are compared with each other
    sense = "counter-clockwise" if better > 0 else "clockwise"
    found = {f"turned by about {_TURN:g} degrees {sense}": left[better] / left[worse] / _TURNED}
    if _likeness(kernel, _gaussian_of(kernel)) < _GAUSSIAN:
        given = max(_NOTHING, _unexplained(part, kernel, sigma))
        for words, factor in (("about 10 % shorter", 1 / _STRETCH), ("about 10 % longer", _STRETCH)):
            found[words] = _unexplained(part, warped(kernel, 0.0, factor), sigma) / given / _STRETCHED
    best = min(found, key=lambda words: found[words])
    if found[best] > 1:
        return ""
    return (
        f"The kernel does not seem to be this picture's: {best}, it would explain the picture better. --robust makes an "
        "uncertain kernel do less harm; `restora kernel estimate` looks for another."
    )


def _unexplained(picture: Tensor, kernel: Tensor, sigma: float) -> float:
    """Mean square of what the solution does not explain."""
    x = solvers.create("hyper-laplacian", kernel_error=0.0)(picture, kernel, sigma=sigma)
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    inner = picture[..., top : picture.shape[-2] - top, left : picture.shape[-1] - left]
    return float((convolution.convolve(x, kernel, "valid") - inner).square().mean())


def _busiest(picture: Tensor, side: int) -> Tensor:
    """The square with the most contrast, of that side or as large as there is."""
    height, width = (min(side, n) for n in picture.shape[-2:])
    plane = picture[0, 0].numpy()
    gradient = np.abs(np.diff(plane, axis=0, append=plane[-1:])) + np.abs(np.diff(plane, axis=1, append=plane[:, -1:]))
    sums = cv2.integral(gradient)
    total = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(total.argmax()), total.shape)
    return picture[..., top : top + height, left : left + width]


def _gaussian_of(kernel: Tensor) -> Tensor:
    """The Gaussian with the kernel's covariance, on its grid."""
    k = kernel.double()
    y = torch.arange(k.shape[0], dtype=torch.float64)[:, None] - (k.shape[0] - 1) / 2
    x = torch.arange(k.shape[1], dtype=torch.float64) - (k.shape[1] - 1) / 2
    y, x = y - (k * y).sum(), x - (k * x).sum()
    yy, xx, xy = (k * y * y).sum() + 0.02, (k * x * x).sum() + 0.02, (k * x * y).sum()
    power = (xx * y * y - 2 * xy * x * y + yy * x * x) / (xx * yy - xy * xy).clamp_min(1e-6)
    return torch.exp(-0.5 * power)


def _likeness(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float((a * b).sum() / (a.norm() * b.norm()))

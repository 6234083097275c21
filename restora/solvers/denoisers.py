"""Denoisers without weights, as the plug-and-play solvers call them: picture and sigma in, picture out.

Each takes `B x C x H x W` (nominally [0, 1], any number of channels) and the noise's standard deviation on the 0-255 scale, works
in floating point (an 8-bit denoiser would end the late, fine iterations), and is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.errors import UsageError
from restora.solvers.base import Denoiser
from restora.solvers.block_matching import BLOCK, block_matching, cosines, decorrelation, mirror_pad

_THRESHOLD = 2.7  # in standard deviations, as in BM3D's first step
_TV_WEIGHT = 0.28  # measured: the best weight for photographs from sigma 2 to 50 is this, within a tenth of a dB


def dct(x: Tensor, sigma: float, stride: int = 2) -> Tensor:
    """Thresholds the cosine transform of overlapping 8x8 blocks, then repeats it as a Wiener filter guided by that result.

    Source: Yu and Sapiro, DCT image denoising, IPOL 2011 (blocks, decorrelated colours); the Wiener step as in Dabov et al.,
    IEEE TIP 2007, without the grouping of blocks. Costs 4 x 64 x 64 / stride^2 multiplications a pixel and channel, and
    memory for 64 / stride^2 copies of a channel.

    Args:
        stride: distance of the blocks; 1 is four times slower than 2 and about 0.1 dB better.
    """
    if sigma <= 0:
        return x
    height, width = x.shape[-2:]
    level = sigma / 255
    colours = decorrelation(x.shape[1]).to(x)
    # a whole number of strides, so that every pixel is covered by as many blocks as any other
    pads = (BLOCK, BLOCK + -width % stride, BLOCK, BLOCK + -height % stride)
    planes = torch.einsum("ij,bjhw->bihw", colours, mirror_pad(x, pads))
    shape = planes.shape
    clean = torch.cat([_blocks(p[None, None], level, stride) for p in planes.flatten(0, 1)])
    y = torch.einsum("ij,bihw->bjhw", colours, clean.reshape(shape))
    return y[..., BLOCK : BLOCK + height, BLOCK : BLOCK + width]


def _blocks(plane: Tensor, level: float, stride: int) -> Tensor:
    """One plane `1 x 1 x H x W` in both steps."""
    basis = cosines().to(plane)
    noisy = basis @ F.unfold(plane, BLOCK, stride=stride)
    kept = noisy.abs() > _THRESHOLD * level
    kept[:, 0] = True
    pilot = _aggregate(noisy * kept, 1 / kept.sum(1, keepdim=True), plane, stride)
    guide = (basis @ F.unfold(pilot, BLOCK, stride=stride)).square_()
    gain = guide / (guide + level * level)
    return _aggregate(noisy * gain, 1 / gain.square().sum(1, keepdim=True).clamp_min(1e-3), plane, stride)


def _aggregate(coefficients: Tensor, weights: Tensor, plane: Tensor, stride: int) -> Tensor:
    """The weighted mean of overlapping blocks `1 x 64 x L`; a block that needed few coefficients counts more."""
    size = (plane.shape[-2], plane.shape[-1])
    blocks = cosines().to(plane).T @ (coefficients * weights)
    total = F.fold(blocks, size, BLOCK, stride=stride)
    cover = F.fold(weights.to(blocks).expand_as(blocks), size, BLOCK, stride=stride)
    return torch.where(cover > 0, total / cover, plane)


def total_variation(x: Tensor, sigma: float, iterations: int = 40) -> Tensor:
    """The minimum of `|u - x|^2 / (2 w) + TV(u)` with w = 0.28 sigma^(5/4) sqrt(channels) on the 0-255 scale; the gradients of
    all channels are one vector, so that edges of different colour fall together.

    Source: Chambolle, An Algorithm for Total Variation Minimization and Applications, 2004 (the dual problem), with the
    acceleration of Beck and Teboulle, IEEE TIP 2009. O(pixels) an iteration.
    """
    if sigma <= 0:
        return x
    weight = _TV_WEIGHT * sigma**1.25 * math.sqrt(x.shape[1]) / 255
    p = x.new_zeros(2, *x.shape)
    ahead, momentum = p, 1.0
    for _ in range(iterations):
        step = ahead - _gradient(_transposed_gradient(ahead) * weight - x) / (8 * weight)
        new = step / step.square().sum((0, 2), keepdim=True).sqrt().clamp_min(1)
        following = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead, p, momentum = new + (momentum - 1) / following * (new - p), new, following
    return x - weight * _transposed_gradient(p)


def _gradient(x: Tensor) -> Tensor:
    """Forward differences down and across, 0 at the last row and column: `... -> 2 x ...`."""
    down = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    across = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    return torch.stack([down, across])


def _transposed_gradient(p: Tensor) -> Tensor:
    down, across = p[0][..., :-1, :], p[1][..., :, :-1]
    return F.pad(down, (0, 0, 1, 0)) - F.pad(down, (0, 0, 0, 1)) + F.pad(across, (1, 0)) - F.pad(across, (0, 1))


def non_local_means(x: Tensor, sigma: float, search: int = 13, patch: int = 5) -> Tensor:
    """Every pixel becomes the mean of pixels whose surroundings look alike.

    Source: Buades, Coll, Morel, Non-Local Means Denoising, IPOL 2011: weights `exp(-max(d^2 - 2 sigma^2, 0) / h^2)` of the mean
    squared distance of patches, the pixel itself with the largest weight of the others. O(search^2) a pixel.

    Args:
        search: width of the window in which pixels are compared. patch: width of what is compared.
    """
    if sigma <= 0:
        return x
    planes = x.detach().permute(0, 2, 3, 1).cpu().float().numpy()
    clean = np.stack([_non_local_means(np.ascontiguousarray(p), sigma / 255, search, patch) for p in planes])
    return torch.from_numpy(clean).permute(0, 3, 1, 2).to(x)


def _non_local_means(picture: np.ndarray, level: float, search: int, patch: int) -> np.ndarray:
    reach = search // 2
    height, width, channels = picture.shape
    wide = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), "symmetric")
    strength = (0.55 if channels > 1 else 0.4) * level
    total = np.zeros_like(picture)
    cover = np.zeros((height, width), np.float32)
    best = np.full((height, width), 1e-6, np.float32)
    for row in range(search):
        for column in range(search):
            if row == column == reach:
                continue
            other = wide[row : row + height, column : column + width]
            distance = np.square(picture - other).mean(-1)
            distance = cv2.blur(distance, (patch, patch), borderType=cv2.BORDER_REFLECT_101)
            weight = np.exp(-np.maximum(distance - 2 * level * level, 0) / (strength * strength))
            total += weight[..., None] * other
            cover += weight
            np.maximum(best, weight, out=best)
    clean: np.ndarray = (total + best[..., None] * picture) / (cover + best)[..., None]
    return clean


def bm3d(x: Tensor, sigma: float) -> Tensor:
    """Block matching and three-dimensional filtering, by the package `bm3d` (Dabov et al., IEEE TIP 2007).

    Raises:
        UsageError: the package is not installed.
    """
    if sigma <= 0:
        return x
    try:
        import bm3d as package
    except ImportError as error:
        raise UsageError(
            "BM3D needs a package that is not installed: `pip install bm3d`. The denoiser 'block_matching' is our own "
            "of the same kind and needs none."
        ) from error
    pictures = x.detach().permute(0, 2, 3, 1).cpu().double().numpy()
    work = package.bm3d_rgb if x.shape[1] == 3 else package.bm3d
    clean = np.stack([work(p, sigma / 255).reshape(p.shape) for p in pictures])
    return torch.from_numpy(clean).permute(0, 3, 1, 2).to(x)


DENOISERS: dict[str, Callable[..., Tensor]] = {
    "dct": dct,
    "tv": total_variation,
    "nlm": non_local_means,
    "block_matching": block_matching,
    "bm3d": bm3d,
}


def denoiser(which: str | Denoiser) -> Denoiser:
    """A denoiser by name; one that is a function already is returned as it is.

    Raises:
        UsageError: no such denoiser.
    """
    if not isinstance(which, str):
        return which
    if which not in DENOISERS:
        raise UsageError(f"There is no denoiser '{which}' that needs no weights; there are {', '.join(DENOISERS)}.")
    return DENOISERS[which]

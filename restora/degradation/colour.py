"""Luminance and chroma of BT.601 in studio range, as MATLAB's `rgb2ycbcr` and the super-resolution papers use them."""

from __future__ import annotations

import torch
from torch import Tensor

# rows: Y, Cb, Cr; on values in [0, 1], result in [16/255, 235/255] for Y
_FORWARD = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
_OFFSET = (16.0, 128.0, 128.0)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """`B x C x H x W` by a `K x C` matrix, channel by channel: faster than a 1x1 convolution for three channels."""
    rows = [sum(float(m) * x[:, i : i + 1] for i, m in enumerate(row)) for row in matrix]
    return torch.cat(rows, dim=1)  # type: ignore[arg-type]


def luma(rgb: Tensor) -> Tensor:
    """Y / 255 of RGB in [0, 1]: `B x 3 x H x W` -> `B x 1 x H x W`, in [16/255, 235/255]. Nothing is rounded."""
    return (_mix(rgb, torch.tensor(_FORWARD[:1])) + _OFFSET[0]) / 255


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """Y, Cb, Cr / 255 of RGB in [0, 1]: `B x 3 x H x W` -> the same shape."""
    return (_mix(rgb, torch.tensor(_FORWARD)) + torch.tensor(_OFFSET).to(rgb).view(1, 3, 1, 1)) / 255


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; the result is not clipped."""
    inverse = torch.linalg.inv(torch.tensor(_FORWARD, dtype=torch.float64))
    return _mix(ycbcr * 255 - torch.tensor(_OFFSET).to(ycbcr).view(1, 3, 1, 1), inverse)


def grey_to_luma(grey: Tensor) -> Tensor:
    """A full-range grey picture in [0, 1] as Y / 255: what `luma` gives for three equal channels."""
    return (grey * 219 + 16) / 255


def luma_to_grey(y: Tensor) -> Tensor:
    """The inverse of `grey_to_luma`."""
    return (y * 255 - 16) / 219

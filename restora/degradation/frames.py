"""From tensors to the arrays that OpenCV and the codecs work on, and back. Always on the processor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError

Array = np.ndarray


def over_frames(x: Tensor, work: Callable[[Array], Array], who: str) -> Tensor:
    """Applies `work` to each frame, `H x W x C` float32, and gives `N x C x h x w` of x's type and device.

    The result lies in memory as the arrays do (channels last), so that a chain of such steps copies nothing.

    Raises:
        UsageError: a gradient is wanted through code that has none.
    """
    if x.requires_grad and torch.is_grad_enabled():
        raise UsageError(f"No gradient passes through {who}; detach the picture, or use a differentiable degradation.")
    arrays = x.detach().to("cpu", torch.float32).permute(0, 2, 3, 1).contiguous().numpy()
    done = [work(a) for a in arrays]
    flat = [d if d.ndim == 3 else d[..., None] for d in done]  # OpenCV drops a single channel's axis
    y = flat[0][None] if len(flat) == 1 else np.stack(flat)
    return torch.from_numpy(np.ascontiguousarray(y)).permute(0, 3, 1, 2).to(x.device, x.dtype)


def to_uint8(a: Array) -> Array:
    """[0, 1] to 0..255, rounded and clipped."""
    scaled = a * np.float32(255)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def to_float(a: Array) -> Array:
    """0..255 to [0, 1], float32."""
    return a.astype(np.float32) * np.float32(1 / 255)


def added(x: Tensor, noise: Array) -> Tensor:
    """`x` plus an array drawn on the processor."""
    return x + torch.from_numpy(noise).to(x.device, x.dtype)

"""Losses that look at one pixel at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from restora.training.losses import base


class L1(base.Loss):
    """Mean absolute error, `mean |y - x|`."""

    name = "l1"

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        return base.mean((output - target).abs(), mask)


class L2(base.Loss):
    """Mean squared error, `mean (y - x)^2`."""

    name = "l2"

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        return base.mean((output - target) ** 2, mask)


class SmoothL1(base.Loss):
    """Squared below `beta`, absolute above (Huber's loss over beta): `d^2 / (2 beta)` or `|d| - beta / 2`."""

    name = "smooth_l1"

    class Options(base.Options):
        beta: float = Field(1.0, gt=0)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        return base.mean(F.smooth_l1_loss(output, target, reduction="none", beta=self.options.beta), mask)


class Charbonnier(base.Loss):
    """`mean sqrt((y - x)^2 + eps^2)`, a differentiable L1 (Lai et al., LapSRN, CVPR 2017; eps 1e-3)."""

    name = "charbonnier"

    class Options(base.Options):
        eps: float = Field(1e-3, gt=0)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        return base.mean(charbonnier(output - target, self.options.eps), mask)


def charbonnier(difference: Tensor, eps: float) -> Tensor:
    """`sqrt(d^2 + eps^2)`, element by element."""
    return torch.sqrt(difference**2 + eps**2)


class PSNR(base.Loss):
    """Minus the PSNR in dB of values in [0, 1], mean over the images: `10 / ln 10 * mean_b ln(MSE_b + eps)`.

    Chen et al., HINet (CVPR workshops 2021) and NAFNet (ECCV 2022), eps 1e-8; the restoration report, section 2.4. Its
    gradient is that of the MSE over the MSE, so an image that is nearly right weighs as much as one that is not.
    """

    name = "psnr"

    class Options(base.Options):
        eps: float = Field(1e-8, gt=0)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        squares = (output - target) ** 2
        if mask is None:
            errors = squares.mean(dim=(1, 2, 3))
        else:
            mask = mask.expand_as(squares)
            errors = (squares * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp_min(1)
        return 10 / math.log(10) * torch.log(errors + self.options.eps).mean()

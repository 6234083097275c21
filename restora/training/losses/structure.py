"""Losses that look at neighbourhoods: SSIM, edges, the spectrum, total variation."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from restora.errors import UsageError
from restora.training.losses import base
from restora.training.losses.pixel import charbonnier


def window(size: int, sigma: float) -> Tensor:
    """A normalised Gaussian of `size` values."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    g = torch.exp(-(x**2) / (2 * sigma**2))
    return g / g.sum()


def filtered(x: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """`... x H x W` filtered (as correlation) down the columns and along the rows, where the n weights of each fit entirely:
    `... x (H-n+1) x (W-n+1)`."""
    # every channel as a picture of its own is several times faster than groups
    y = x.reshape(-1, 1, *x.shape[-2:])
    y = F.conv2d(F.conv2d(y, down.to(x)[None, None, :, None]), along.to(x)[None, None, None, :])
    return y.view(*x.shape[:-2], *y.shape[-2:])


def ssim_map(x: Tensor, y: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    """SSIM at every position where the window fits, differentiable.

    Shapes: two tensors `B x C x H x W` in [0, 1] -> `B x C x (H-size+1) x (W-size+1)`, at most 1. The window, the constants
    (0.01 and 0.03) and the population variances are those of `evaluation.ssim`, whose value on unrounded images is the mean.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004.

    Raises:
        UsageError: pictures smaller than the window.
    """
    if min(x.shape[-2:]) < size:
        raise UsageError(
            f"SSIM looks through {size}x{size} pixels; these pictures are {x.shape[-1]}x{x.shape[-2]} pixels."
        )
    c1, c2 = 0.01**2, 0.03**2
    weights = window(size, sigma)
    mx, my, xx, yy, xy = filtered(torch.stack([x, y, x * x, y * y, x * y]), weights, weights)
    # rounding may leave a variance a little below zero
    vx, vy, cov = (xx - mx * mx).clamp_min(0), (yy - my * my).clamp_min(0), xy - mx * my
    return (2 * mx * my + c1) / (mx * mx + my * my + c1) * (2 * cov + c2) / (vx + vy + c2)


class SSIM(base.Loss):
    """`1 - SSIM`, mean over positions, channels and images (Wang et al., IEEE TIP 2004); in [0, 2], 0 for equal images."""

    name = "ssim"

    class Options(base.Options):
        window: int = Field(11, ge=3, description="side of the Gaussian window; odd")
        sigma: float = Field(1.5, gt=0)

        @model_validator(mode="after")
        def _odd(self) -> Any:
            if self.window % 2 == 0:
                raise ValueError("the window is odd")
            return self

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        similarity = ssim_map(output, target, self.options.window, self.options.sigma)
        if mask is not None:  # positions whose window sees nothing that is judged say nothing
            mask = F.max_pool2d(mask, self.options.window, stride=1)
        return base.mean(1 - similarity, mask)

    def map(self, output: Tensor, target: Tensor) -> Tensor:
        """`1 - SSIM` at every pixel, mean over the channels, `B x 1 x H x W`; borders are mirrored."""
        reach = 4 * (self.options.window // 2,)
        y, x = (F.pad(z, reach, mode="reflect") for z in (output, target))
        return 1 - ssim_map(y, x, self.options.window, self.options.sigma).mean(dim=1, keepdim=True)


_SPREAD = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05], dtype=torch.float64)


def laplacian(x: Tensor) -> Tensor:
    """What a Gaussian pyramid's next level, enlarged again, lacks of the picture: `B x C x H x W` -> the same.

    Both the reduction and the enlargement (with zeros between, times 4) use the weights (1, 5, 8, 5, 1) / 20 along each
    axis. Borders are mirrored, which keeps the grid of zeros regular; MPRNet's code replicates them and so sees edges along
    the border of a constant picture.

    Source: Burt, Adelson, IEEE Transactions on Communications 1983; in this form Zamir et al., MPRNet, CVPR 2021.
    """

    def smooth(z: Tensor) -> Tensor:
        return filtered(F.pad(z, (2, 2, 2, 2), mode="reflect"), _SPREAD, _SPREAD)

    keep = torch.zeros(x.shape[-2:], dtype=x.dtype, device=x.device)
    keep[::2, ::2] = 4
    return x - smooth(smooth(x) * keep)


class Edge(base.Loss):
    """Charbonnier distance of the Laplacians: `mean sqrt((lap(y) - lap(x))^2 + eps^2)`.

    Zamir et al., MPRNet, CVPR 2021 (weight 0.05 there, beside a Charbonnier loss; eps 1e-3).
    """

    name = "edge"

    class Options(base.Options):
        eps: float = Field(1e-3, gt=0)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        # the Laplacian is linear, so that of the difference will do
        return base.mean(charbonnier(laplacian(output - target), self.options.eps), mask)


class Sobel(base.Loss):
    """Mean absolute difference of the Sobel gradients, `mean |S(y) - S(x)|` over both directions; a gradient of slope 1 a pixel
    counts as 1 (kernels over 8), borders replicated. Controllable-restoration specification, losses of its image networks.
    """

    name = "sobel"

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        difference = F.pad(output - target, (1, 1, 1, 1), mode="replicate")
        along, across = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([0.25, 0.5, 0.25])
        gradients = [filtered(difference, across, along), filtered(difference, along, across)]
        return base.mean(torch.stack(gradients).abs().mean(dim=0), mask)


class Grid(base.Loss):
    """The part of the output's fine detail that repeats every `period` pixels: `mean |m - mean m|`, where `m` is the mean of `y`
    less its Gaussian blur over pixels that are whole periods apart, within windows that overlap by half. The target only lends
    its values where a mask is 0.

    An input that is `period` times smaller holds nothing that could determine such a pattern. Networks draw it nevertheless when
    losses on features or an adversary ask for texture: one that depends on the place within a stride alone is the cheapest.
    Texture that does not repeat averages out and stays free. No source has this loss; it is our own.
    """

    name = "grid"

    class Options(base.Options):
        period: int = Field(4, ge=2, description="in pixels of the output: the scale factor, or the largest stride")
        window: int = Field(48, ge=4, description="side of a window in pixels; at least two periods are looked at")
        sigma: float = Field(1.0, gt=0, description="of the blur that fine detail is what lies above of, in pixels")

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        period, reach = self.options.period, math.ceil(3 * self.options.sigma)
        height, width = (n // period * period for n in output.shape[-2:])
        if min(height, width) < max(2 * period, reach + 1):
            raise UsageError(
                f"A pattern of {period} pixels needs larger pictures than {output.shape[-1]}x{output.shape[-2]}."
            )
        weights = window(2 * reach + 1, self.options.sigma)
        fine = output - filtered(F.pad(output, 4 * (reach,), mode="reflect"), weights, weights)
        parts = F.pixel_unshuffle(fine[..., :height, :width], period)  # B x C*period^2 x cells
        side = min(max(2, self.options.window // period), *parts.shape[-2:])
        means = F.avg_pool2d(parts, side, stride=max(1, side // 2)).unflatten(1, (-1, period**2))
        return (means - means.mean(dim=2, keepdim=True)).abs().mean()


class Frequency(base.Loss):
    """Mean absolute difference of the Fourier transforms `d = F(y - x)`.

    ``parts``: `mean (|Re d| + |Im d|) / 2` (Cho et al., MIMO-UNet, ICCV 2021, multi-scale frequency reconstruction loss, weight
    0.1 beside L1). ``magnitude``: `mean |d|` (Mao et al., DeepRFT, AAAI 2023; survey specification, weight 0.01). The transform
    is not normalised, as in both papers' code; `norm="ortho"` makes the value independent of the patch size.
    """

    name = "frequency"

    class Options(base.Options):
        form: Literal["parts", "magnitude"] = "parts"
        norm: Literal["backward", "ortho"] = "backward"

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        difference = output - target
        if difference.dtype in (torch.float16, torch.bfloat16):  # which have no transforms
            difference = difference.float()
        spectrum = torch.fft.rfft2(difference, norm=self.options.norm)
        # the half that rfft2 leaves out mirrors all columns but the first and, for an even width, the last
        times = torch.full((spectrum.shape[-1],), 2.0, device=output.device)
        times[0] = 1
        if output.shape[-1] % 2 == 0:
            times[-1] = 1
        parts = self.options.form == "parts"
        size = (spectrum.real.abs() + spectrum.imag.abs()) / 2 if parts else spectrum.abs()
        return (size * times).sum() / output.numel()


class TotalVariation(base.Loss):
    """Total variation of the output alone (Rudin, Osher, Fatemi 1992); the target only lends its values where a mask is 0.

    ``isotropic``: `mean sqrt(dx^2 + dy^2 + eps^2) - eps`, the restoration report's form (section 2.3, weight 2e-8 there on a
    sum over pixels): differences across the far borders are 0. ``anisotropic``: `mean |dx| + mean |dy|` over the positions
    that have a neighbour.
    """

    name = "tv"

    class Options(base.Options):
        form: Literal["isotropic", "anisotropic"] = "isotropic"
        eps: float = Field(1e-4, gt=0, description="keeps the root differentiable where the picture is flat")

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        dx, dy = output.diff(dim=-1), output.diff(dim=-2)
        if self.options.form == "anisotropic":
            return dx.abs().mean() + dy.abs().mean()
        dx, dy = F.pad(dx, (0, 1)), F.pad(dy, (0, 0, 0, 1))
        return base.mean(torch.sqrt(dx**2 + dy**2 + self.options.eps**2) - self.options.eps, mask)

"""USRNet: deconvolution and super-resolution with a known kernel by unfolded half-quadratic splitting.

Zhang, Van Gool, Timofte: Deep Unfolding Network for Image Super-Resolution, CVPR 2020; the survey, section 2.6. Every
iteration solves the data equation in closed form by Fourier transforms and hands the result to a denoising U-Net; a small
network chooses both steps' parameters from noise level and scale. Trained for scales 1 to 4 and sigma up to 25.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.drunet import WIDTHS, ResUNet, unet_config, unet_steps
from restora.networks.noise_levels import fits, reach, sigma_control
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact, global_

_LARGEST_SCALE = 16  # of the survey's experiments; the equations have no limit
_MARGIN = 8


def transfer(kernel: Tensor, size: Sequence[int]) -> Tensor:
    """The Fourier transform of centred kernels `B x 1 x kh x kw` on a grid of `size`, complex `B x 1 x H x W`; an even kernel's
    centre is the later of its two middle taps.

    Raises:
        UsageError: a kernel larger than the grid.
    """
    height, width = kernel.shape[-2:]
    if height > size[0] or width > size[1]:
        raise UsageError(
            f"A {height}x{width} kernel does not fit a picture of {size[0]}x{size[1]} pixels (after enlargement)."
        )
    field = F.pad(kernel, (0, size[1] - width, 0, size[0] - height))
    return torch.fft.fft2(field.roll((-(height // 2), -(width // 2)), (-2, -1)))


def spread(y: Tensor, scale: int) -> Tensor:
    """The adjoint of keeping the upper left pixel of every `scale x scale` block: pixels apart, zeros between."""
    z = y.new_zeros(*y.shape[:2], y.shape[2], scale, y.shape[3], scale)
    z[:, :, :, 0, :, 0] = y
    return z.flatten(4, 5).flatten(2, 3)


def data_step(x: Tensor, otf: Tensor, back: Tensor, alpha: Tensor | float, scale: int) -> Tensor:
    """The picture z that minimises `|y - (k * z) down|^2 + alpha |z - x|^2`, circular boundaries, in closed form.

    Args:
        x: the current estimate, `B x C x sH x sW`.
        otf: the kernel's `transfer` on that grid. back: `conj(otf) * fft2(spread(y, scale))`.
        alpha: weight of the estimate, positive; `B x 1 x 1 x 1` or a number. scale: any integer from 1.
    """

    def fold(spectrum: Tensor) -> Tensor:
        """The mean over the s x s blocks of a spectrum, which all become one when the picture is decimated."""
        b, c, h, w = spectrum.shape
        return spectrum.reshape(b, c, scale, h // scale, scale, w // scale).mean((2, 4))

    right = back + torch.fft.fft2(alpha * x)
    power = otf.real.square() + otf.imag.square()
    inner = fold(otf * right) / (fold(power) + alpha)
    return torch.fft.ifft2((right - otf.conj() * inner.repeat(1, 1, scale, scale)) / alpha).real


class HyperParameters(nn.Module):
    """The network that turns noise level and scale into the iterations' parameters.

    Shapes: `B x 2 x 1 x 1` (sigma / 255 and the scale as it is) -> `B x 2n x 1 x 1`, positive: n times alpha, n times beta.

    Args:
        iterations: n. features: width of the two hidden layers.
    """

    def __init__(self, iterations: int = 8, features: int = 64) -> None:
        super().__init__()
        self.spec = NetworkSpec(task="part", tiling=exact(0), channels=2, source="Zhang et al., CVPR 2020")
        self.mlp = nn.Sequential(
            nn.Conv2d(2, features, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, 2 * iterations, 1),
            nn.Softplus(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) + 1e-6


class _Prior(ResUNet):
    """The U-Net on any size: replicated to multiples of 8 at the right and at the bottom, and cropped."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return super().forward(F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate"))[..., :height, :width]


class USRNet(nn.Module):
    """USRNet.

    The published call is `net(y, kernel, scale, sigma)`: `y` is `B x 3 x H x W` in [0, 1], made as circular blur, the upper left
    pixel of each `scale x scale` block, noise; `kernel` is `B x 1 x kh x kw` with sum 1; `sigma` is `B x 1 x 1 x 1`, divided by
    255. The result is `B x 3 x sH x sW`. `restore` is the same for photographs, which are not periodic.

    Args:
        channels: of the picture. iterations: of the unfolding. widths, blocks: of the prior (`ResUNet`).
        features: width of the hyper-parameter network.
    """

    def __init__(
        self,
        channels: int = 3,
        iterations: int = 8,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 2,
        features: int = 64,
    ) -> None:
        super().__init__()
        self.iterations = iterations
        self.spec = NetworkSpec(
            task="deconvolve",
            channels=channels,
            colour="grey" if channels == 1 else "rgb",
            scales=tuple(range(1, _LARGEST_SCALE + 1)),
            tiling=global_(reach(unet_steps(blocks), 8), 8),
            half_safe=False,  # Fourier transforms, and quotients of their small values
            controls=(sigma_control(75, default=0.0, spatial=False),),
            source="Zhang et al., CVPR 2020",
        )
        self.p = _Prior(channels + 1, channels, widths, blocks)
        self.h = HyperParameters(iterations, features)

    def forward(self, y: Tensor, kernel: Tensor, scale: int, sigma: Tensor) -> Tensor:
        size = (y.shape[-2] * scale, y.shape[-1] * scale)
        otf = transfer(kernel, size)
        back = otf.conj() * torch.fft.fft2(spread(y, scale))
        x = F.interpolate(y, scale_factor=scale, mode="nearest")
        parameters = self.h(torch.cat([sigma, torch.full_like(sigma, scale)], dim=1))
        alphas, betas = parameters.unflatten(1, (2, self.iterations, 1)).unbind(1)
        for alpha, beta in zip(alphas.unbind(1), betas.unbind(1), strict=True):
            x = data_step(x, otf, back, alpha, scale)
            x = self.p(torch.cat([x, beta.expand(x.shape[0], 1, *size)], dim=1))
        return x

    def restore(self, x: Tensor, kernel: Tensor | None = None, scale: int = 1, sigma: float | Tensor = 0.0) -> Tensor:
        """Deconvolves a photograph.

        Args:
            x: `B x C x H x W` in [0, 1].
            kernel: `kh x kw` or `B x 1 x kh x kw` at the output's resolution, sum 1; None is no blur.
            scale: enlargement. sigma: noise on the 0-255 scale, a number or one a picture.
        """
        kernel = x.new_ones(1, 1, 1, 1) if kernel is None else kernel.to(x)
        kernel = kernel.reshape(-1, 1, *kernel.shape[-2:])
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1).expand(x.shape[0], 1, 1, 1)
        height, width = x.shape[-2:]
        margin = max(_MARGIN, math.ceil(max(kernel.shape[-2:]) / scale))
        y = self(_wrapped(_wrapped(x, margin, -1), margin, -2), kernel, scale, level / 255)
        first = margin * scale
        return y[..., first : first + height * scale, first : first + width * scale]


def _wrapped(x: Tensor, margin: int, dim: int) -> Tensor:
    """The picture with `margin` pixels more at both ends of a dimension, so that it continues into itself without a step."""
    t = torch.arange(1, 2 * margin + 1, dtype=x.dtype, device=x.device) / (2 * margin + 1)
    t = t if dim == -1 else t[:, None]
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([x, last + t * (first - last)], dim).roll(margin, dim)


def _build(part: str = "", **config: Any) -> nn.Module:
    return HyperParameters(**config) if part == "hypa" else USRNet(**config)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    whole = "p.m_head.weight" in state
    last, first = (state.get(f"{'h.' if whole else ''}mlp.{n}.weight") for n in (4, 0))
    if last is None or first is None or last.ndim != 4:
        return None
    config: dict[str, Any] = {"iterations": last.shape[0] // 2, "features": first.shape[0]}
    if whole:
        unet = unet_config(state, "p.")
        if unet is None:
            return None
        config |= {"channels": state["p.m_tail.weight"].shape[0], "widths": unet[0], "blocks": unet[1]}
    config["part"] = "" if whole else "hypa"
    return config if fits(state, _build, config) else None


FAMILY = Family(
    name="usrnet",
    build=_build,
    variants={
        "usrnet": {"part": "", "channels": 3, "iterations": 8, "widths": WIDTHS, "blocks": 2, "features": 64},
        "usrnet_tiny": {
            "part": "",
            "channels": 3,
            "iterations": 6,
            "widths": (16, 32, 64, 64),
            "blocks": 2,
            "features": 64,
        },
        "usrnet_hypa_8": {"part": "hypa", "iterations": 8, "features": 64},
        "usrnet_hypa_6": {"part": "hypa", "iterations": 6, "features": 64},
    },
    identify=_identify,
    paper="Deep Unfolding Network for Image Super-Resolution (CVPR 2020)",
)

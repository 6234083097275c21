"""What the networks for a known blur share: the data equation in closed form, the start, sizes and borders.

The model is `y = (x * k) down_s + n`: circular convolution, then the upper left pixel of every s x s block, then noise (Zhang,
Van Gool, Timofte: Deep Unfolding Network for Image Super-Resolution, CVPR 2020, eq. 1). The closed form is that of Zhao et
al., Fast Single Image Super-Resolution, IEEE TIP 2016. The plug-and-play solvers use the same data step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.drunet import ResUNet
from restora.networks.noise_levels import sigma_control
from restora.networks.spec import NetworkSpec, Tiling

LARGEST_SCALE = 16  # of the survey's experiments; the equations have no limit
_MARGIN = 8
_CONTINUED = 0.01  # weight of the smooth continuation when the margin is solved for
_STEPS = 12


def transfer(kernel: Tensor, size: Sequence[int]) -> Tensor:
    """The real Fourier transform of centred kernels `B x 1 x kh x kw` on a grid of `size`, complex `B x 1 x H x (W // 2 + 1)`;
    an even kernel's centre is the later of its two middle taps.

    Raises:
        UsageError: a kernel larger than the grid.
    """
    height, width = kernel.shape[-2:]
    if height > size[0] or width > size[1]:
        raise UsageError(
            f"A {height}x{width} kernel does not fit a picture of {size[0]}x{size[1]} pixels (after enlargement)."
        )
    field = F.pad(kernel, (0, size[1] - width, 0, size[0] - height))
    return torch.fft.rfft2(field.roll((-(height // 2), -(width // 2)), (-2, -1)))


def _whole(half: Tensor, width: int) -> Tensor:
    """All `width` columns of the spectrum of a real picture, from the first `width // 2 + 1`."""
    rest = half[..., 1 : width - half.shape[-1] + 1].conj().flip(-2, -1).roll(1, -2)
    return torch.cat([half, rest], -1)


class DataStep:
    """The data equation of one observation, ready to be solved again and again.

    `step(x, alpha)` is the picture z that minimises `|y - (k * z) down|^2 + alpha |z - x|^2`, in closed form; at s = 1 that is
    Wiener's division `(conj(K) Y + alpha X) / (|K|^2 + alpha)`. Two real Fourier transforms on the fine grid, whatever the size
    of the kernel and whatever the scale. Everything is differentiable, and every picture of a batch may have its own kernel.

    Args:
        y: the observation `B x C x h x w`.
        otf: the kernel's `transfer` on the fine grid, `B x 1 x sh x (sw // 2 + 1)` or one for all.
        scale: s, any integer from 1.
        mask: 1 where y was observed and 0 where it was not (beyond a photograph's border), `h x w`; the unobserved pixels
            then have no say, and the equation is solved by conjugate gradients whose preconditioner is the closed form.
        steps: conjugate gradient steps at most, each of four transforms on the coarse grid; the smaller alpha is, the more are
            needed. tolerance: they end when the equation's residual has fallen to this part.
    """

    def __init__(
        self,
        y: Tensor,
        otf: Tensor,
        scale: int = 1,
        mask: Tensor | None = None,
        steps: int = _STEPS,
        tolerance: float = 1e-3,
    ) -> None:
        self.y, self.otf, self.scale, self.mask, self.steps, self.tolerance = y, otf, scale, mask, steps, tolerance
        self.size = (y.shape[-2], y.shape[-1])
        self.fine = (self.size[0] * scale, self.size[1] * scale)
        # the spectrum of K K', sampled: what the s x s aliases of |otf|^2 have in common
        self.power = self._fold((otf.real.square() + otf.imag.square()).to(otf.dtype)).real

    def _fold(self, spectrum: Tensor) -> Tensor:
        """The half spectrum of every s-th pixel: the mean over the s x s blocks that become one by decimation."""
        if self.scale == 1:
            return spectrum
        rows = spectrum.unflatten(-2, (self.scale, self.size[0])).mean(-3)
        columns = _whole(rows, self.fine[1]).unflatten(-1, (self.scale, self.size[1])).mean(-2)
        return columns[..., : self.size[1] // 2 + 1]

    def _tile(self, spectrum: Tensor) -> Tensor:
        """The adjoint but for a factor: the half spectrum of the pixels set apart with zeros between."""
        if self.scale == 1:
            return spectrum
        columns = torch.arange(self.fine[1] // 2 + 1, device=spectrum.device).remainder(self.size[1])
        rows = _whole(spectrum, self.size[1]).index_select(-1, columns)
        return torch.cat([rows] * self.scale, -2)

    def _on_coarse(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft2(spectrum, s=self.size)

    def apply(self, x: Tensor) -> Tensor:
        """`(x * k) down`, and nothing where nothing was observed: `B x C x sh x sw` -> `B x C x h x w`."""
        v = self._on_coarse(self._fold(self.otf * torch.fft.rfft2(x)))
        return v if self.mask is None else v * self.mask

    def adjoint(self, v: Tensor) -> Tensor:
        """The adjoint of `apply`: `<apply(x), v> = <x, adjoint(v)>`."""
        v = v if self.mask is None else v * self.mask
        return torch.fft.irfft2(self.otf.conj() * self._tile(torch.fft.rfft2(v)), s=self.fine)

    def residual(self, x: Tensor) -> Tensor:
        """`(x * k) down - y` where y was observed, elsewhere 0."""
        return self.apply(x) - (self.y if self.mask is None else self.y * self.mask)

    def __call__(self, x: Tensor, alpha: Tensor | float) -> Tensor:
        """The z of the class's description.

        Args:
            x: the current estimate, `B x C x sh x sw`.
            alpha: its weight, positive: a number, `B x 1 x 1 x 1`, or `L x B x 1 x 1 x 1` for L solutions at once.
        """
        # the matrix inversion lemma in the form z = x + H' (H H' + alpha)^-1 (y - H x), where H H' is a circular filter
        # on the coarse grid: nothing is divided by a small alpha alone
        if self.mask is None:
            inner = torch.fft.rfft2(self.y) - self._fold(self.otf * torch.fft.rfft2(x))
            inner = inner / (self.power + alpha)
        else:
            inner = torch.fft.rfft2(self._masked(-self.residual(x), alpha))
        return x + torch.fft.irfft2(self.otf.conj() * self._tile(inner), s=self.fine)

    def _masked(self, right: Tensor, alpha: Tensor | float) -> Tensor:
        """`(M H H' M + alpha)^-1 right` on the observed pixels."""

        mask = torch.ones(()) if self.mask is None else self.mask

        def filtered(v: Tensor, transfer: Tensor) -> Tensor:
            return self._on_coarse(transfer * torch.fft.rfft2(v)) * mask

        def product(a: Tensor, b: Tensor) -> Tensor:
            return (a * b).sum((-2, -1), keepdim=True)

        tiny = torch.finfo(right.dtype).tiny
        inverse = 1 / (self.power + alpha)
        solution, rest = torch.zeros_like(right), right
        better = filtered(rest, inverse)
        direction = better
        first = gain = product(rest, better)
        for _ in range(self.steps):
            image = filtered(direction, self.power) + alpha * direction
            length = gain / product(direction, image).clamp_min(tiny)
            solution, rest = solution + length * direction, rest - length * image
            better = filtered(rest, inverse)
            last, gain = gain, product(rest, better)
            if not gain.is_meta and bool((gain <= self.tolerance**2 * first).all()):  # a dry run has no numbers
                break
            direction = better + gain / last.clamp_min(tiny) * direction
        return solution


def enlarge(y: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement for decimation by the upper left pixel: pixel (i, j) of y lies at (s i, s j) of the result, so that
    no half-pixel shift is left to undo. `B x C x h x w` -> `B x C x sh x sw`."""
    if scale == 1:
        return y
    size = [(n - 1) * scale + 1 for n in y.shape[-2:]]
    between = F.interpolate(y, size=size, mode="bicubic", align_corners=True)
    return F.pad(between, (0, scale - 1, 0, scale - 1), mode="replicate")


class AnySizeUNet(ResUNet):
    """The U-Net on any size: replicated to multiples of 8 at the right and at the bottom, and cropped."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return super().forward(F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate"))[..., :height, :width]


def kernel_spec(channels: int, tiling: Tiling, source: str) -> NetworkSpec:
    """The promise of a network that takes a kernel, whole scales up to 16 and sigma up to 75 (0-255 scale)."""
    return NetworkSpec(
        task="deconvolve",
        channels=channels,
        colour="grey" if channels == 1 else "rgb",
        scales=tuple(range(1, LARGEST_SCALE + 1)),
        tiling=tiling,
        half_safe=False,  # Fourier transforms, and quotients of their small values
        controls=(sigma_control(75, default=0.0, spatial=False),),
        source=source,
    )


class KernelNetwork(nn.Module):
    """Base of the networks that are told the kernel, the scale and the noise level. A subclass sets `spec` and has `forward`.

    The call is the papers' `net(y, kernel, scale, sigma)`: `y` is `B x C x H x W` in [0, 1], made by circular blur, the upper
    left pixel of each `scale x scale` block, and noise; `kernel` is `B x 1 x kh x kw` (one for all, or one a picture) with sum 1;
    `sigma` is `B x 1 x 1 x 1`, divided by 255. The result is `B x C x sH x sW`. `restore` is the same for photographs.
    """

    spec: NetworkSpec

    def restore(self, x: Tensor, kernel: Tensor | None = None, scale: int = 1, sigma: float | Tensor = 0.0) -> Tensor:
        """Deconvolves a photograph, which is not periodic: it gets a margin that the blur of a periodic picture explains.

        Args:
            x: `B x C x H x W` in [0, 1].
            kernel: `kh x kw`, `B x kh x kw` or `B x 1 x kh x kw` at the output's resolution, sum 1; None is no blur.
            scale: enlargement. sigma: noise on the 0-255 scale, a number or one a picture.
        """
        kernel = x.new_ones(1, 1, 1, 1) if kernel is None else kernel.to(x)
        kernel = kernel.reshape(-1, 1, *kernel.shape[-2:])
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1).expand(x.shape[0], 1, 1, 1)
        y, (top, left) = continued(x, kernel, scale)
        height, width = (n * scale for n in x.shape[-2:])
        return self(y, kernel, scale, level / 255)[..., top : top + height, left : left + width]


def continued(x: Tensor, kernel: Tensor, scale: int) -> tuple[Tensor, tuple[int, int]]:
    """A photograph on a larger periodic grid, and the row and column on the fine grid where it begins.

    The margin is what the blur of one periodic picture has there: the picture that explains the photograph's own pixels best.
    So a method that takes the blur for circular finds no contradiction at the border, and does not ring.

    Args:
        x: `B x C x h x w`. kernel: `B x 1 x kh x kw`. scale: s.
    """
    margins = [max(_MARGIN, math.ceil(side / scale)) for side in kernel.shape[-2:]]
    y = _wrapped(_wrapped(x, margins[0], -2), margins[1], -1)
    mask = x.new_zeros(y.shape[-2:])
    inside = (
        slice(margins[0], margins[0] + x.shape[-2]),
        slice(margins[1], margins[1] + x.shape[-1]),
    )
    mask[inside] = 1
    otf = transfer(kernel, [n * scale for n in y.shape[-2:]])
    picture = DataStep(y, otf, scale, mask)(enlarge(y, scale), _CONTINUED)
    y = torch.where(mask > 0, y, DataStep(y, otf, scale).apply(picture))
    return y, (margins[0] * scale, margins[1] * scale)


def _wrapped(x: Tensor, margin: int, dim: int) -> Tensor:
    """The picture with `margin` pixels more at both ends of a dimension, so that it continues into itself without a step."""
    import cv2

    total = cv2.getOptimalDFTSize(x.shape[dim] + 2 * margin)  # a length that is quick to transform
    gap = total - x.shape[dim]
    t = torch.arange(1, gap + 1, dtype=x.dtype, device=x.device) / (gap + 1)
    t = t if dim == -1 else t[:, None]
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([x, last + t * (first - last)], dim).roll(margin, dim)

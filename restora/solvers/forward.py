"""The forward model of all solvers, `H x = (x * k) down_s`, by Fourier transforms on one grid.

For a photograph the grid is larger than the picture by the reach of the kernel: the pixels beyond the border are unknowns like
the others, and only the observed pixels are compared. For a circular problem the grid is the picture.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math

import cv2
import torch
from torch import Tensor

from restora.solvers import boundary as borders
from restora.solvers.base import Boundary, Problem

_CACHED = 1 << 22  # transfer functions of more values than this are not kept between calls


def transfer(kernels: Tensor, size: tuple[int, int]) -> Tensor:
    """The real Fourier transform of centred kernels on a torus: `B x kh x kw` -> complex `B x 1 x H x (W // 2 + 1)`.

    Differentiable; a kernel larger than the torus wraps round.
    """
    (b, kh, kw), (height, width) = kernels.shape, size
    rows = (torch.arange(kh, device=kernels.device) - kh // 2).remainder(height)
    columns = (torch.arange(kw, device=kernels.device) - kw // 2).remainder(width)
    places = (torch.arange(b, device=kernels.device)[:, None, None], rows[:, None], columns)
    field = kernels.new_zeros(b, *size).index_put(places, kernels, accumulate=True)
    return torch.fft.rfft2(field)[:, None]


def _roughness(size: tuple[int, int], columns: int) -> Tensor:
    rows, across = (2 - 2 * torch.cos(2 * math.pi * torch.arange(n) / n) for n in size)
    return rows[:, None] + across[None, :columns]


class _Kept(dict[tuple[object, ...], Tensor]):
    """The last few transfer functions: tiles of one picture and frames of one film share theirs."""

    limit = 4

    def get_or_make(self, kernels: Tensor, size: tuple[int, int]) -> Tensor:
        if kernels.requires_grad or size[0] * size[1] * len(kernels) > _CACHED:
            return transfer(kernels, size)
        digest = hashlib.blake2b(kernels.detach().cpu().contiguous().numpy().tobytes()).digest()
        key = (digest, kernels.shape, kernels.dtype, str(kernels.device), size)
        found = self.pop(key, None)
        found = transfer(kernels, size) if found is None else found
        while len(self) >= self.limit:
            self.pop(next(iter(self)), None)
        self[key] = found
        return found


_kept = _Kept()


class Forward:
    """`H x = (x * k) down_s` between a grid `B x C x sH' x sW'` and the observed `B x C x h x w`, and what solvers need of it.

    Args:
        kernel: `kh x kw`, or `B x kh x kw`; centred, odd, convolution. scale: s; the first of every s pixels is kept.
        size: h and w of the observed picture.
        boundary: ``photograph`` (the grid has a margin, 5-smooth sides) or ``circular`` (the grid is the picture).
        margin: least margin at each side in pixels of the solution; by default the kernel's radius.

    Attributes:
        otf: the kernel's `transfer` on the grid. size, scale: as given. grid: H' and W', in observed pixels.
        before: grid rows above and columns left of the observed picture, in observed pixels.

    Every Fourier transform costs O(n log n) for n pixels of the grid, whatever the kernel's size.
    """

    def __init__(
        self,
        kernel: Tensor,
        size: tuple[int, int],
        scale: int = 1,
        boundary: Boundary = "photograph",
        margin: int | None = None,
    ) -> None:
        kernels = kernel if kernel.ndim == 3 else kernel[None]
        self.size, self.scale, self.boundary = (int(size[0]), int(size[1])), scale, boundary
        if boundary == "circular":
            self.before, self.grid = (0, 0), self.size
        else:
            reach = [max(side // 2, margin or 0) for side in kernels.shape[-2:]]
            before = [-(-r // scale) for r in reach]
            # the last observed pixel needs what lies r beyond it; of the s - 1 pixels after it the picture itself has need
            grid = [cv2.getOptimalDFTSize(n + 2 * b + (scale > 1)) for n, b in zip(self.size, before, strict=True)]
            self.before, self.grid = (before[0], before[1]), (grid[0], grid[1])
        self.otf = _kept.get_or_make(kernels, self.fine)

    @classmethod
    def of(cls, problem: Problem, margin: int | None = None) -> Forward:
        """The forward model of a problem, in the data type and on the device of its picture."""
        return cls(
            problem.kernels.to(problem.observed),
            (problem.observed.shape[-2], problem.observed.shape[-1]),
            problem.scale,
            problem.boundary,
            margin,
        )

    def with_kernel(self, kernels: Tensor) -> Forward:
        """The same grid with other kernels `B x kh x kw` of the same size; differentiable in them."""
        other = copy.copy(self)
        other.__dict__.pop("power", None)
        other.otf = transfer(kernels, self.fine)
        return other

    @property
    def fine(self) -> tuple[int, int]:
        """Height and width of the grid on which the solution lives."""
        return self.grid[0] * self.scale, self.grid[1] * self.scale

    @functools.cached_property
    def power(self) -> Tensor:
        """|otf|^2."""
        return self.otf.real.square() + self.otf.imag.square()

    @functools.cached_property
    def roughness(self) -> Tensor:
        """|d_x|^2 + |d_y|^2 of the forward differences on the grid, `H x (W // 2 + 1)`; photographs have spectra
        near one over this."""
        return _roughness(self.fine, self.fine[1] // 2 + 1).to(self.power)

    @functools.cached_property
    def observed_roughness(self) -> Tensor:
        """The same, per pixel of the solution, at the frequencies of the sampled grid, as `normal` and `back` take their noise;
        above 0 everywhere, the mean taking the smallest other value."""
        columns = self.fine[1] // 2 + 1 if self.scale == 1 else self.grid[1]
        rough = _roughness(self.grid, columns)
        rough[0, 0] = rough.flatten()[1:].min() if rough.numel() > 1 else 1.0
        return rough.to(self.power) / self.scale**2

    # between spaces

    def spectrum(self, x: Tensor) -> Tensor:
        """The real Fourier transform of a picture on the grid."""
        return torch.fft.rfft2(x)

    def picture(self, spectrum: Tensor) -> Tensor:
        """The picture on the grid of a real Fourier transform."""
        return torch.fft.irfft2(spectrum, s=self.fine)

    def crop(self, x: Tensor) -> Tensor:
        """The part of the grid that is the solution, `B x C x sh x sw`."""
        (top, left), (h, w), s = self.before, self.size, self.scale
        return x[..., top * s : (top + h) * s, left * s : (left + w) * s]

    def window(self, v: Tensor) -> Tensor:
        """The observed part of what is sampled on the whole grid: `B x C x H' x W'` -> `B x C x h x w`."""
        (top, left), (h, w) = self.before, self.size
        return v[..., top : top + h, left : left + w]

    def extend(self, x: Tensor) -> Tensor:
        """A solution `B x C x sh x sw` on the grid, or an observation on the sampled one, its margin filled smoothly."""
        s = self.scale if (x.shape[-2], x.shape[-1]) != self.size else 1
        return borders.extend(x, (self.before[0] * s, self.before[1] * s), (self.grid[0] * s, self.grid[1] * s))

    # the model

    def blur(self, x: Tensor) -> Tensor:
        """`x * k` on the grid."""
        return self.picture(self.otf * self.spectrum(x))

    def sample(self, x: Tensor) -> Tensor:
        """Every s-th pixel of the grid, beginning with the first."""
        return x[..., :: self.scale, :: self.scale] if self.scale > 1 else x

    def spread(self, v: Tensor) -> Tensor:
        """The adjoint of `sample`: zeros between the pixels."""
        if self.scale == 1:
            return v
        x = v.new_zeros(*v.shape[:-2], *self.fine)
        x[..., :: self.scale, :: self.scale] = v
        return x

    def apply(self, x: Tensor) -> Tensor:
        """H: from the grid to the observed picture."""
        return self.window(self.sample(self.blur(x)))

    def adjoint(self, y: Tensor) -> Tensor:
        """The adjoint of `apply`: <H x, y> = <x, H' y>."""
        v = y.new_zeros(*y.shape[:-2], *self.grid)
        self.window(v).copy_(y)
        return self.picture(self.back(v))

    def back(self, v: Tensor, noise: Tensor | float = 1.0) -> Tensor:
        """The spectrum of `K' S' N^-1 v` for v on the sampled grid; for N see `normal`."""
        return self.otf.conj() * self._tile(self._coarse(v) / noise)

    def complete(self, blurred: Tensor, observed: Tensor) -> Tensor:
        """What is known on the sampled grid: the observed pixels where there are such, elsewhere the model's prediction.

        Args:
            blurred: `blur` of the present estimate. Minimising |completed - S K x|^2 anew brings the masked data term down
            (majorise and minimise), so that the margin needs no equation of its own.
        """
        v = self.sample(blurred).clone()
        self.window(v).copy_(observed)
        return v

    def normal(self, right: Tensor, q: Tensor | float, noise: Tensor | float = 1.0) -> Tensor:
        """The spectrum x that solves `(K' S' N^-1 S K + Q) x = right`, in closed form.

        Args:
            right: spectrum on the grid.
            q: Q, diagonal in Fourier space, positive (for s = 1 zero is allowed where |k| > 0).
            noise: N, the noise's spectrum at the frequencies of the sampled grid (those of `observed_roughness`) in any unit.

        Source: the matrix inversion lemma on the s x s aliases (Zhao et al., TIP 2016; USRNet eq. 9 is the case of constant q).
        """
        if self.scale == 1:
            return right / (self.power / noise + q)
        q = torch.as_tensor(q, dtype=self.power.dtype, device=self.power.device)
        right = right / q
        inner = self._fold(self.otf * right) / (noise + self._fold(self.power / q).real)
        return right - self.otf.conj() * self._tile(inner) / q

    def energy(self, v: Tensor, noise: Tensor | float) -> float:
        """`<v, N^-1 v>` of what is sampled on the grid, all pictures together."""
        spectrum = torch.fft.fft2(v)
        power = spectrum.real.square() + spectrum.imag.square()
        if self.scale == 1 and isinstance(noise, Tensor):  # the half spectrum's noise is that of the other half too
            columns = torch.arange(self.grid[1], device=v.device)
            rows = -torch.arange(self.grid[0], device=v.device) % self.grid[0]
            mirrored = noise.index_select(-2, rows).index_select(-1, (-columns[noise.shape[-1] :]) % self.grid[1])
            noise = torch.cat([noise, mirrored], -1)
        return ((power / noise).sum() / (self.grid[0] * self.grid[1])).item()

    def _fold(self, spectrum: Tensor) -> Tensor:
        """The spectrum of every s-th pixel: the mean over the aliases."""
        return self._coarse(self.sample(self.picture(spectrum.to(self.otf.dtype))))

    def _coarse(self, v: Tensor) -> Tensor:
        """A spectrum on the sampled grid: the half one for s = 1, otherwise the full one, which is simpler to repeat."""
        return self.spectrum(v) if self.scale == 1 else torch.fft.fft2(v)

    def _tile(self, spectrum: Tensor) -> Tensor:
        """The half spectrum of `spread(v)`: the spectrum of v again and again."""
        if self.scale == 1:
            return spectrum
        columns = torch.arange(self.fine[1] // 2 + 1, device=spectrum.device).remainder(self.grid[1])
        return spectrum.index_select(-1, columns).repeat(1, 1, self.scale, 1)

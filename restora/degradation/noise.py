"""Noise: what sensors, film, transmission and rounding add. Levels are on the 0-255 scale; nothing is clipped unless said.

Arrays are drawn on the processor, so that a seed gives the same noise on every device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restora.degradation.base import Degradation, Size
from restora.degradation.distributions import check
from restora.degradation.frames import added
from restora.errors import UsageError

_NORMAL_FROM = 32.0  # expected counts from which a corrected Gaussian stands for the Poisson law: much faster to draw


def normals(rng: np.random.Generator, x: Tensor, channels: int | None = None) -> Tensor:
    """Standard normal noise of x's shape (or with other channels), on the processor, channels last in memory."""
    n, c, height, width = x.shape
    return _standard(rng, (n, height, width, channels or c)).permute(0, 3, 1, 2)


def _standard(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal values; torch draws them twice as fast as numpy."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(int(rng.integers(2**63))))


class _Noise(Degradation):
    """Base of additive noise with a level: a subclass has a field `sigma`, which may be a map."""

    def level_map(self, size: Size) -> Tensor:
        """The standard deviation at every pixel on the 0-255 scale, `1 x H x W`: what a denoiser with a noise map is told."""
        sigma = self.sigma  # type: ignore[attr-defined]
        if isinstance(sigma, Tensor):
            if tuple(sigma.shape[-2:]) != size:
                raise UsageError(
                    f"The level map has {sigma.shape[-1]}x{sigma.shape[-2]} pixels, the picture {size[1]}x{size[0]}."
                )
            return sigma.reshape(1, *size)
        return torch.full((1, *size), float(sigma))


class GaussianNoise(_Noise):
    """Additive Gaussian noise.

    sigma: a number on the 0-255 scale, or a map of numbers `H x W`. colour: ``independent`` channels, one ``grey`` plane for
    all, or ``correlated`` channels by a random covariance with the same mean variance (as in BSRGAN). grain: width in pixels
    of a Gaussian that the noise is smoothed with, its level kept: film grain, or noise that was resized.
    """

    sigma: Any
    colour: Any = "independent"
    grain: Any = 0.0
    key: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sigma, Tensor):
            if self.sigma.dim() not in (2, 3) or not bool((self.sigma >= 0).all()):
                raise UsageError("A level map is H x W and nowhere negative.")
        else:
            check("The sigma of a noise", self.sigma, 0)
        check("The grain of a noise", self.grain, 0)
        if isinstance(self.colour, str) and self.colour not in ("independent", "grey", "correlated"):
            raise UsageError(f"The colour of a noise is independent, grey or correlated, not '{self.colour}'.")

    def run(self, x: Tensor) -> Tensor:
        rng = self.rng()
        channels = x.shape[1]
        n = normals(rng, x, 1 if self.colour == "grey" else None)
        if self.colour == "correlated" and channels > 1:
            mixing = _mixing(rng, channels)
            n = torch.einsum("nchw,dc->ndhw", n, mixing)
        if self.grain:
            n = _grained(n, self.grain)
        if isinstance(self.sigma, Tensor):
            n = n * (self.level_map((x.shape[-2], x.shape[-1])).to(n) / 255)
        else:
            n *= self.sigma / 255
        return x + n.to(x.device, x.dtype)


def _mixing(rng: np.random.Generator, channels: int) -> Tensor:
    """A matrix that gives white noise a random covariance whose mean variance is 1."""
    basis, _ = np.linalg.qr(rng.standard_normal((channels, channels)))
    share = rng.random(channels) + 1e-3
    return torch.from_numpy((basis * np.sqrt(share * channels / share.sum())).astype(np.float32))


def _grained(n: Tensor, width: float) -> Tensor:
    from restora.degradation import convolution, kernels

    kernel = kernels.gaussian(width)
    return convolution.convolve(n, kernel / kernel.square().sum().sqrt(), "circular")


class VaryingNoise(_Noise):
    """Gaussian noise whose level wanders over the picture between `low` and `high` in soft patches, or along a ramp.

    pattern: ``patches``, about `patch` of the picture's side each, or ``ramp`` in a random direction.
    """

    low: Any
    high: Any
    pattern: Any = "patches"
    patch: float = 0.25
    key: int | None = None

    def __post_init__(self) -> None:
        check("The lower level of a noise", self.low, 0)
        check("The upper level of a noise", self.high, 0)
        if isinstance(self.pattern, str) and self.pattern not in ("patches", "ramp"):
            raise UsageError(f"The pattern of a level map is patches or ramp, not '{self.pattern}'.")

    def level_map(self, size: Size) -> Tensor:
        from restora.degradation.resize import resize

        rng = np.random.Generator(np.random.SFC64([self.key or 0, 1]))
        if self.pattern == "ramp":
            turn = rng.uniform(0, 2 * math.pi)
            y, x = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])
            field = torch.from_numpy((x * math.cos(turn) + y * math.sin(turn)).astype(np.float32))
        else:
            count = max(2, round(1 / self.patch))
            field = resize(torch.from_numpy(rng.random((count, count), dtype=np.float32)), size=size)
        field = (field - field.min()) / (field.max() - field.min()).clamp(min=1e-6)
        return (self.low + (self.high - self.low) * field)[None]

    def run(self, x: Tensor) -> Tensor:
        n = normals(self.rng(), x) * (self.level_map((x.shape[-2], x.shape[-1])) / 255)
        return x + n.to(x.device, x.dtype)


class PoissonNoise(Degradation):
    """Photon noise: counts of mean `x * peak`, divided by `peak`. Fewer photons at white, more noise.

    strength scales the noise (1 is the physical law); grey draws one noise, from the mean of the channels, for all.
    Negative values of x have no photons. From 32 expected photons on the count is a rounded normal variable with the skew of
    the Poisson law: its mean is exact, its variance too large by 0.15 counts.
    """

    peak: Any = 255.0
    strength: Any = 1.0
    grey: Any = False
    key: int | None = None

    def __post_init__(self) -> None:
        check("The peak of a Poisson noise", self.peak, 1e-3)
        check("The strength of a noise", self.strength, 0)

    def run(self, x: Tensor) -> Tensor:
        source = x.mean(1, keepdim=True) if self.grey else x
        mean = source.detach().to("cpu", torch.float32).permute(0, 2, 3, 1).contiguous().numpy() * np.float32(self.peak)
        np.maximum(mean, 0, out=mean)
        noise = poisson(self.rng(), mean)
        noise -= mean
        noise *= np.float32(self.strength / self.peak)
        return added(x, noise.transpose(0, 3, 1, 2))


def poisson(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    """Counts of the given means, float32; see `PoissonNoise` for how exact."""
    z = _standard(rng, mean.shape).numpy()
    # Cornish-Fisher: the normal quantile corrected for skewness, and for the rounding to whole counts
    root = np.sqrt(mean)
    counts = z * root
    counts += mean
    z *= z
    z -= 1
    z *= np.float32(1 / 6)
    counts += z
    np.rint(counts, out=counts)
    few = mean < _NORMAL_FROM
    if few.any():
        counts[few] = rng.poisson(mean[few])
    return counts


class SpeckleNoise(Degradation):
    """Noise proportional to the brightness, `x + x n`: sigma on the 0-255 scale at white."""

    sigma: Any
    key: int | None = None

    def __post_init__(self) -> None:
        check("The sigma of a noise", self.sigma, 0)

    def run(self, x: Tensor) -> Tensor:
        n = normals(self.rng(), x) * (self.sigma / 255)
        return x * (1 + n.to(x.device, x.dtype))


class SaltPepperNoise(Degradation):
    """Single values replaced by 1 or 0: a part `amount` of them, of which `salt` are white. By channel, or whole pixels."""

    amount: Any
    salt: Any = 0.5
    pixels: bool = False
    key: int | None = None

    def __post_init__(self) -> None:
        check("The amount of salt and pepper", self.amount, 0, 1)
        check("The part of salt", self.salt, 0, 1)

    def run(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        drawn = self.rng().random((n, height, width, 1 if self.pixels else c), dtype=np.float32)
        u = torch.from_numpy(drawn).permute(0, 3, 1, 2).to(x.device)
        y = torch.where(u < self.amount * self.salt, torch.ones((), dtype=x.dtype, device=x.device), x)
        return torch.where(
            (u >= self.amount * self.salt) & (u < self.amount), torch.zeros((), dtype=x.dtype, device=x.device), y
        )


class FrequencyNoise(Degradation):
    """f-noise: random phases with the spectrum `(u^2 + v^2 + 1e-5)^(beta/4)`, u and v in cycles a pixel; beta -2 is 1/f.

    scale multiplies it, in [0, 1] units: `x + scale * Re(ifft2(sqrt(S) exp(2 pi j phi)))` for each channel (the recipe of the
    Flickr-Distortion and SHDD sets; spec efficient-restoration, 2.7). Clipped to [0, 1], as there.
    """

    scale: Any
    beta: Any = -2.0
    key: int | None = None

    def __post_init__(self) -> None:
        check("The scale of f-noise", self.scale, 0)

    def run(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        u = np.fft.fftfreq(width).astype(np.float32)
        v = np.fft.fftfreq(height).astype(np.float32)[:, None]
        amplitude = (u**2 + v**2 + np.float32(1e-5)) ** np.float32(self.beta / 4)
        phase = self.rng().random((n, c, height, width), dtype=np.float32) * np.float32(2 * math.pi)
        field = torch.fft.ifft2(
            torch.polar(torch.from_numpy(amplitude).expand(n, c, -1, -1).contiguous(), torch.from_numpy(phase))
        )
        return (x + self.scale * field.real.to(x.device, x.dtype)).clamp(0, 1)


class Quantise(Degradation):
    """[0, 1] in `levels` even bins, each value taken to the bottom of its bin (`floor`) or to the nearest of evenly spaced
    values with both ends (`round`): 256 with `round` is what an 8-bit file does. Clips."""

    levels: Any = 256
    how: Any = "round"

    def __post_init__(self) -> None:
        check("The number of levels", self.levels, 2)
        if isinstance(self.how, str) and self.how not in ("round", "floor"):
            raise UsageError(f"Quantise rounds or floors; there is no '{self.how}'.")

    def run(self, x: Tensor) -> Tensor:
        x = x.clamp(0, 1)
        if self.how == "round":
            return (x * (self.levels - 1)).round() / (self.levels - 1)
        return (x * self.levels).floor().clamp(max=self.levels - 1) / self.levels


class Clip(Degradation):
    """Values below 0 and above 1 are cut off."""

    def run(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1)


class CameraNoise(Degradation):
    """Noise as a camera makes it: on linear light, growing with the signal, and where wanted through a colour mosaic.

    The picture is taken back to linear light by the sRGB curve, gets Gaussian noise of variance `shot * light + read^2` (the
    usual model of raw noise, light in [0, 1]), and goes through the curve again. With `mosaic`, only one colour a pixel was
    measured (RGGB) and the others are interpolated: noise in blotches, colour fringes. Clipped to [0, 1].
    """

    shot: Any = 0.01
    read: Any = 0.01
    mosaic: Any = False
    key: int | None = None

    def __post_init__(self) -> None:
        check("The shot noise", self.shot, 0)
        check("The read noise", self.read, 0)

    def run(self, x: Tensor) -> Tensor:
        light = srgb_to_linear(x.clamp(0, 1))
        n = normals(self.rng(), x).to(x.device, x.dtype)
        light = light + n * (self.shot * light + self.read**2).sqrt()
        if self.mosaic and x.shape[1] == 3:
            light = _demosaiced(light)
        return linear_to_srgb(light.clamp(0, 1))


def srgb_to_linear(x: Tensor) -> Tensor:
    """The sRGB curve backwards: display values in [0, 1] to light."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Light in [0, 1] to display values."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _demosaiced(x: Tensor) -> Tensor:
    """RGB sampled through an RGGB mosaic and interpolated linearly: each colour by a normalised 3x3 tent."""
    from restora.degradation.convolution import convolve

    height, width = x.shape[-2:]
    y, z = torch.arange(height, device=x.device)[:, None] % 2, torch.arange(width, device=x.device) % 2
    masks = torch.stack([(y == 0) & (z == 0), y != z, (y == 1) & (z == 1)]).to(x)
    tent = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    # the mask is filtered with the picture: the quotient is right at the borders too
    weight = convolve(masks[None], tent, "reflect").clamp(min=1e-6)
    return convolve(x * masks, tent, "reflect") / weight

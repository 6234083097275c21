"""DeepRFT: MIMO-UNet's pyramid with a Fourier stream in every residual block, and over-parameterised convolutions.

Mao, Liu, Liu, Li, Shen, Wang: Intriguing Findings of Frequency Selection for Image Deblurring, AAAI 2023 (DeepRFT);
Cao et al.: DO-Conv, IEEE TIP 2022. Deep restoration survey, section 2.1. (The survey takes a 1x1 convolution of the
spectrum for one factor a channel; it mixes all channels, real and imaginary parts too.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deblur_layers import count
from restora.networks.mimo_unet import Conv, Pyramid, reach
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned, global_


class DOConv2d(nn.Module):
    """DO-Conv: a convolution whose kernel is the product of `W` (out x in x k*k) and `D + D_diag` (in x k*k x k*k).

    `D` begins at zero and `D_diag` is the identity, so that it starts as the convolution with kernel `W`. A 1x1
    convolution has no `D`. What `D` multiplies is no spatial size but the number of products that make a weight.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride, taps = kernel, stride, kernel * kernel
        self.W = nn.Parameter(torch.empty(channels_out, channels_in, taps))
        nn.init.kaiming_uniform_(self.W, a=5**0.5)
        if taps > 1:
            self.D = nn.Parameter(torch.zeros(channels_in, taps, taps))
            self.register_buffer("D_diag", _identities(channels_in, taps))

    def weight(self) -> Tensor:
        """The kernel, out x in x k x k."""
        return fold(self.W, self.D, self.D_diag) if self.kernel > 1 else self.W[..., None]  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight(), stride=self.stride, padding=self.kernel // 2)


def _identities(number: int, size: int) -> Tensor:
    return torch.eye(size).repeat(number, 1, 1)


def fold(w: Tensor, d: Tensor, diagonal: Tensor) -> Tensor:
    """The kernel that DO-Conv's factors make."""
    kernel = torch.einsum("ims,ois->oim", d + diagonal, w)
    return kernel.unflatten(2, (round(kernel.shape[2] ** 0.5),) * 2)


class _FoldedConv(nn.Conv2d):
    """The same for inference, its kernel called `W` as in the published inference layout."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
        self.W = self.weight
        del self.weight

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.W, None)


class _Unfolded(Conv):
    bias = False

    def make(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Module:
        return DOConv2d(channels_in, channels_out, kernel, stride)


class _Folded(Conv):
    bias = False

    def make(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Module:
        return _FoldedConv(channels_in, channels_out, kernel, stride)


class _SpectralMLP(nn.Module):
    """The survey's idea (section 5): the spectrum is brought to a fixed size, and a perceptron on its frequencies lets
    each see all others; then it is brought back. Zero frequency in the middle row of the small spectrum."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size, size // 2 + 1
        frequencies = self.size[0] * self.size[1]
        self.mlp = nn.Sequential(nn.Linear(frequencies, frequencies), nn.ReLU(), nn.Linear(frequencies, frequencies))

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(torch.fft.fftshift(x, dim=2), self.size)
        y = self.mlp(y.flatten(2)).unflatten(2, self.size)
        y = F.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=False)
        return torch.fft.ifftshift(y, dim=2)


def _stacked(spectrum: Tensor) -> Tensor:
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def _waves(length: int, frequencies: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of a transform, `frequencies x length`."""
    turns = torch.arange(frequencies)[:, None] * torch.arange(length) % length
    angles = turns.double() * (2 * math.pi / length)
    return angles.cos().float(), angles.sin().float()


def _as_products(x: Tensor) -> Tensor:
    """`rfft2`, real and imaginary part stacked, as matrix products: exported files know no complex numbers."""
    height, width = x.shape[-2:]
    (c, s), (rows_c, rows_s) = _waves(width, width // 2 + 1), _waves(height, height)
    real, imaginary = x @ c.T, -(x @ s.T)
    return torch.cat([rows_c @ real + rows_s @ imaginary, rows_c @ imaginary - rows_s @ real], dim=1)


def _back_by_products(real: Tensor, imaginary: Tensor, width: int) -> Tensor:
    """`irfft2` as matrix products. All but the first and, of an even width, the last frequency stand for two."""
    height = real.shape[-2]
    (c, s), (rows_c, rows_s) = _waves(width, width // 2 + 1), _waves(height, height)
    real, imaginary = rows_c @ real - rows_s @ imaginary, rows_c @ imaginary + rows_s @ real
    count = torch.full((width // 2 + 1, 1), 2.0)
    count[0] = 1
    if width % 2 == 0:
        count[-1] = 1
    return (real @ (c * count) - imaginary @ (s * count)) / (height * width)


class _ResFFTBlock(nn.Module):
    """`x + conv(relu(conv(x))) + inverse transform of g(transform of x)`; `g` is two 1x1 convolutions with a ReLU on
    real and imaginary parts, stacked as channels."""

    def __init__(self, channels: int, conv: type[Conv], spectral_size: int | None) -> None:
        super().__init__()
        self.main = nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 3, relu=False))
        c = channels * 2
        self.main_fft = (
            nn.Sequential(conv(c, c, 1), conv(c, c, 1, relu=False))
            if spectral_size is None
            else _SpectralMLP(spectral_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        exporting = torch.compiler.is_exporting()
        spectrum = _as_products(x.float()) if exporting else _stacked(torch.fft.rfft2(x.float()))
        real, imaginary = self.main_fft(spectrum).float().chunk(2, dim=1)
        if exporting:
            y = _back_by_products(real, imaginary, x.shape[-1])
        else:
            y = torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:])
        return x + self.main(x) + y.to(x.dtype)


class DeepRFT(Pyramid):
    """DeepRFT: small (4 residual blocks a level), base (8) and + (20).

    Shapes: `B x 3 x H x W` in [0, 1], sides multiples of 4 -> the pictures of the whole, half and a quarter of the size,
    in this order; the folded network gives the first alone. `restore` gives the whole picture, made in windows.

    The Fourier stream depends on the size of what it transforms, so the published programs cut a picture into windows
    of the training size: side by side from the top left, those of the last row and column flush with the border, where
    they give only what the others leave.

    Args:
        blocks, dropout, width: see `mimo_unet.Pyramid`.
        window: side of these windows in pixels; None transforms the picture as a whole.
        folded: plain convolutions instead of DO-Conv (the published inference layout). `fold()` makes such a network.
        spectral: ``conv`` as published, or ``mlp``, the survey's perceptron on a spectrum resized to `spectral_size`
            rows and half as many columns, plus one.
    """

    def __init__(
        self,
        blocks: int = 8,
        dropout: float = 0.0,
        width: int = 32,
        window: int | None = 256,
        folded: bool = False,
        spectral: Literal["conv", "mlp"] = "conv",
        spectral_size: int = 16,
    ) -> None:
        conv: type[Conv] = _Folded if folded else _Unfolded
        size = spectral_size if spectral == "mlp" else None
        super().__init__(blocks, dropout, width, conv, lambda channels: _ResFFTBlock(channels, conv, size))
        self.config = {
            "blocks": blocks,
            "dropout": dropout,
            "width": width,
            "window": window,
            "folded": folded,
            "spectral": spectral,
            "spectral_size": spectral_size,
        }
        self.window, self.folded = window, folded
        self.spec = NetworkSpec(
            task="deblur",
            multiple_of=4,
            # windows lie alike in a tile and in the picture when the tile begins on one and has one more around it
            tiling=aligned(window, window) if window else global_(reach(blocks), 4),
            half_safe=False,  # the zero frequency of a window is beyond float16
            source="Mao et al., AAAI 2023",
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        results = self.pyramid(x)[::-1]
        return results[0] if self.folded else results

    def restore(self, x: Tensor) -> Tensor:
        """The picture at its own size, in windows of the training size: `B x 3 x H x W` in [0, 1] -> the same."""
        height, width = x.shape[-2:]
        rows, columns = (_window_starts(n, self.window) for n in (height, width))
        y = torch.empty_like(x)
        for top, bottom, first_row in rows:
            for left, right, first_column in columns:
                piece = self.pyramid(x[..., top:bottom, left:right].contiguous())[-1]
                y[..., first_row:bottom, first_column:right] = piece[..., first_row - top :, first_column - left :]
        return y

    def fold(self) -> DeepRFT:
        """The same network with plain convolutions, on the same device; for inference."""
        net = DeepRFT(**{**self.config, "folded": True})  # type: ignore[arg-type]
        net.load_state_dict(net.convert_state(self.state_dict()))
        return net.to(next(self.parameters()).device).train(self.training)

    def convert_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Brings a state dict of either published layout, DO-Conv or folded, into this network's."""
        result = {}
        for key, value in state.items():
            stem, _, name = key.rpartition(".")
            if name == "W" and self.folded and value.ndim == 3:
                d = state.get(f"{stem}.D")
                if d is None:
                    result[key] = value[..., None]
                else:
                    result[key] = fold(value, d, state.get(f"{stem}.D_diag", _identities(*d.shape[:2]).to(d)))
            elif name == "W" and not self.folded and value.ndim == 4:
                result[key], taps = value.flatten(2), value.shape[2] * value.shape[3]
                if taps > 1:
                    result[f"{stem}.D"] = value.new_zeros(value.shape[1], taps, taps)
                    result[f"{stem}.D_diag"] = _identities(value.shape[1], taps)
            elif name == "D" and not self.folded:  # the identity is no weight, so it need not be there
                result |= {key: value, f"{stem}.D_diag": state.get(f"{stem}.D_diag", _identities(*value.shape[:2]))}
            elif not (self.folded and name in ("D", "D_diag")):
                result[key] = value
        return result


def _window_starts(length: int, window: int | None) -> list[tuple[int, int, int]]:
    """Begin and end of the windows along an axis, and from where on each one's result is used.

    >>> _window_starts(600, 256)
    [(0, 256, 0), (256, 512, 256), (344, 600, 512)]
    """
    if window is None or length <= window:
        return [(0, length, 0)]
    starts = [(n, n + window, n) for n in range(0, length - window + 1, window)]
    if length % window:
        starts.append((length - window, length, length - length % window))
    return starts


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = "Encoder.0.layers.0."
    needed = {first + "main.0.main.0.W", "SCM1.conv.main.0.W", "AFFs.1.conv.1.main.0.W", "feat_extract.3.main.0.weight"}
    if not needed <= state.keys():
        return None
    config: dict[str, Any] = {
        "blocks": count(state, "Encoder.0.layers.{}.main.0.main.0.W"),
        "width": state[first + "main.0.main.0.W"].shape[0],
        "spectral": "conv" if first + "main_fft.0.main.0.W" in state else "mlp",
    }
    if config["spectral"] == "mlp":
        perceptron = state.get(first + "main_fft.mlp.0.weight")
        if perceptron is None:
            return None
        sizes = (n for n in range(1, 513) if n * (n // 2 + 1) == perceptron.shape[0])
        config["spectral_size"] = next(sizes, None)
    return config


FAMILY = Family(
    name="deeprft",
    build=DeepRFT,
    variants={
        "deeprft_small": {"blocks": 4},
        "deeprft": {"blocks": 8},
        "deeprft_plus": {"blocks": 20, "dropout": 0.1},
    },
    identify=_identify,
    paper="Intriguing Findings of Frequency Selection for Image Deblurring (AAAI 2023)",
)

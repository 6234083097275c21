"""Blocks that several networks share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
CascadeForm = Literal["published", "equation"]


def recorded() -> bool:
    """Whether this call is being written down as a program (traced, exported, compiled): what is chosen now would be fixed."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


class MeanShift(nn.Module):
    """Adds `sign` times the mean colour of the training set: a frozen 1x1 convolution, because published state dicts
    hold it as one."""

    def __init__(self, mean: Sequence[float], sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.shifter.weight.copy_(torch.eye(3)[:, :, None, None])
            self.shifter.bias.copy_(sign * torch.tensor(mean))  # type: ignore[union-attr]
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.shifter(x)


class PixelShuffleUpsampler(nn.Module):
    """Enlarges by 2, 3 or 4 (two stages of 2): 3x3 convolution, ReLU, pixel shuffle."""

    def __init__(self, channels: int, scale: int, groups: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in upsampling_steps(scale):
            layers += [
                nn.Conv2d(channels, channels * step * step, 3, padding=1, groups=groups),
                nn.ReLU(inplace=True),
                nn.PixelShuffle(step),
            ]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class MultiScaleUpsampler(nn.Module):
    """One upsampler a scale (`up2`, `up3`, `up4`), or a single one (`up`) when `scale` is given."""

    def __init__(self, channels: int, scale: int | None, groups: int = 1) -> None:
        super().__init__()
        self.scales = (2, 3, 4) if scale is None else (scale,)
        for s in self.scales:
            self.add_module(f"up{s}" if scale is None else "up", PixelShuffleUpsampler(channels, s, groups))
        self._single = scale is not None

    def forward(self, x: Tensor, scale: int | None = None) -> Tensor:
        if scale is None and self._single:
            scale = self.scales[0]
        if scale not in self.scales:
            raise UsageError(f"This network enlarges by {', '.join(map(str, self.scales))}; scale={scale} was asked.")
        return self.get_submodule("up" if self._single else f"up{scale}")(x)


class SubpixelDeconvolution(nn.ConvTranspose2d):
    """A transposed convolution whose output is exactly `stride` times its input, computed as an ordinary convolution at
    low resolution and a pixel shuffle: the same sums, several times faster on a CPU.

    Output pixel `stride * q + p` is the sum of `w[p + padding - stride * j]` times input pixel `q + j`: each of the
    `stride^2` phases is a small convolution of its own. Parameters and state-dict keys are those of the parent class.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=kernel // 2, output_padding=stride - 1)
        before, after = -math.ceil((kernel // 2 + 1 - kernel) / stride), (stride - 1 + kernel // 2) // stride
        self.margins = before, after
        phase, offset = torch.arange(stride)[:, None], torch.arange(-before, after + 1)
        tap = phase + kernel // 2 - stride * offset
        # taps outside the kernel point at a zero that `forward` appends to it
        self.register_buffer("taps", torch.where((tap >= 0) & (tap < kernel), tap, kernel), persistent=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        stride = self.stride[0]
        kernel = F.pad(self.weight, (0, 1, 0, 1))
        taps: Tensor = self.taps  # type: ignore[assignment]
        kernel = kernel[:, :, taps[:, None, :, None], taps[None, :, None, :]]  # in, out, phase y, phase x, tap y, tap x
        kernel = kernel.permute(1, 2, 3, 0, 4, 5).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(stride * stride)
        before, after = self.margins
        if before == after:
            y = F.conv2d(x, kernel, bias, padding=before)
        else:
            y = F.conv2d(F.pad(x, (before, after, before, after)), kernel, bias)
        return F.pixel_shuffle(y, stride)


def upsampling_steps(scale: int) -> list[int]:
    """Pixel-shuffle stages of a scale: powers of two go by twos, 3 in one.

    >>> upsampling_steps(4)
    [2, 2]
    """
    if scale in (1, 3):
        return [scale] if scale == 3 else []
    if scale < 1 or scale & (scale - 1):
        raise UsageError(f"Pixel-shuffle upsamplers exist for powers of two and for 3, not for {scale}.")
    return [2] * int(math.log2(scale))


def upsampled_radius(scale: int) -> float:
    """Reach in low-resolution pixels of the upsampler's 3x3 convolutions and of one 3x3 convolution behind it."""
    radius, size = 0.0, 1
    for step in upsampling_steps(scale):
        radius += 1 / size
        size *= step
    return radius + 1 / size


def cascade(x: Tensor, units: Iterable[nn.Module], fusions: Iterable[nn.Module], form: CascadeForm) -> Tensor:
    """Cascading connections: after each unit, everything so far is concatenated and fused by a 1x1 convolution.

    ``published`` concatenates what the units returned, as the authors' code does; ``equation`` concatenates the
    fused results, as equations 2.1 to 2.3 of the efficiency thesis say. Shapes and parameters are the same.
    """
    parts, fused = [x], x
    for unit, fusion in zip(units, fusions, strict=True):
        result = unit(fused)
        fused = fusion(torch.cat([*parts, result], dim=1))
        parts.append(result if form == "published" else fused)
    return fused


class AddRelu(nn.Module):
    """`relu(x + f(x))` for the residual blocks whose layers are a `Sequential` called body."""

    body: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))

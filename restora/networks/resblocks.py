"""Pieces of the residual super-resolution networks (EDSR, SRResNet, RCAN, RRDBNet, SRVGG): blocks, initialisation, and what
their identification has in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import DIV2K_MEAN, upsampling_steps

DIV2K_RANGE = 255.0


class Normalised(nn.Module):
    """A network that computes on `(x - mean colour) * 255`, with a mean that no state dict holds."""

    mean: Tensor

    def __init__(self, mean: Sequence[float] = DIV2K_MEAN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)

    def normalise(self, x: Tensor) -> Tensor:
        return (x - self.mean) * DIV2K_RANGE

    def denormalise(self, y: Tensor) -> Tensor:
        return y / DIV2K_RANGE + self.mean


class FrozenMeanShift(nn.Conv2d):
    """Adds `sign` times the mean colour of DIV2K on the 0..255 scale; the frozen 1x1 convolution of published state dicts."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias.copy_(sign * DIV2K_RANGE * torch.tensor(DIV2K_MEAN))  # type: ignore[union-attr]
        self.requires_grad_(False)


class ResidualBlock(nn.Module):
    """`x + factor * conv(relu(conv(x)))`, without batch normalisation."""

    def __init__(self, channels: int, factor: float = 1.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x + self.factor * self.conv2(F.relu(self.conv1(x)))


class LinearUpsampler(nn.Sequential):
    """3x3 convolution and pixel shuffle for each stage of the scale, with no activation between. Scale 1 is nothing."""

    def __init__(self, channels: int, scale: int) -> None:
        layers: list[nn.Module] = []
        for step in upsampling_steps(scale):
            layers += [nn.Conv2d(channels, channels * step * step, 3, padding=1), nn.PixelShuffle(step)]
        super().__init__(*layers)


def damp(module: nn.Module, factor: float = 0.1) -> None:
    """He initialisation of every convolution in `module`, times `factor`, and no biases: deep residual stacks without
    normalisation start near the identity so."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            with torch.no_grad():
                layer.weight.mul_(factor)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def scale_of(state: Mapping[str, Tensor], prefix: str) -> int:
    """The scale of a `LinearUpsampler` in a state dict: nine times the channels is 3, each fourfold stage is 2."""
    scale, stage = 1, 0
    while (weight := state.get(f"{prefix}.{stage}.weight")) is not None:
        scale *= round((weight.shape[0] / weight.shape[1]) ** 0.5)
        stage += 2
    return scale


def count_blocks(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many of `pattern.format(0)`, `pattern.format(1)`, ... are in the state dict, without a gap."""
    n = 0
    while pattern.format(n) in state:
        n += 1
    return n


def rename(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The state dict with each key rewritten by the first regular expression that matches it whole. A key whose
    replacement is empty is left out; a key that none matches stays."""
    renamed = {}
    for key, value in state.items():
        new = next((re.sub(pattern, to, key) for pattern, to in rules if re.fullmatch(pattern, key)), key)
        if new:
            renamed[new] = value
    return renamed


# The mean shifts that authors' layouts hold as frozen convolutions; the mean is the same in all checkpoints published so.
MEAN_SHIFT_RULE = (r"(sub|add)_mean\.(weight|bias)", "")

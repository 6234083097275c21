"""NAFNet: a U-Net whose blocks multiply halves of their channels instead of using activation functions.

Chen, Chu, Zhang, Sun: Simple Baselines for Image Restoration, ECCV 2022; its windowed pooling: Chu, Chen, Chen, Lu:
Improving Image Restoration by Revisiting Global Information Aggregation, ECCV 2022. RestoraVision report, section on
NAFNet (2.4); deblurring thesis, section 2.10 (it puts a GELU into NAFNet's block, which belongs to the Baseline).

The ablation from PlainNet over the Baseline to NAFNet is a matter of `activation`, `attention` and `norm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deblur_layers import ChannelNorm, Reach, count
from restora.networks.picture_statistics import picture_mean
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

Activation = Literal["gate", "gelu", "relu"]
Attention = Literal["sca", "ca"]


class SimpleGate(nn.Module):
    """The product of the two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return a * b


class WindowMean(nn.Module):
    """The mean over the map, or over a window around every pixel.

    Near the border the window is pushed inwards, so that it always holds as many pixels. A window as large as the map
    gives one number a channel.
    """

    def __init__(self, window: tuple[int, int] | None) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        if self.window is None:
            return picture_mean(x)
        if torch.compiler.is_exporting():
            return _moving_mean_of_any(_moving_mean_of_any(x, 2, self.window[0]), 3, self.window[1])
        height, width = x.shape[-2:]
        if self.window[0] >= height and self.window[1] >= width:
            return x.mean(dim=(2, 3), keepdim=True)
        # sums along one axis after the other: short sums keep float32 exact enough
        y = x.float()
        for dim, size in ((2, min(self.window[0], height)), (3, min(self.window[1], width))):
            y = _moving_mean(y, dim, size)
        return y.to(x.dtype)


def _moving_mean(x: Tensor, dim: int, size: int) -> Tensor:
    """Means of `size` neighbours along `dim` at every valid offset, its ends repeated to the original length."""
    length = x.shape[dim]
    sums = x.cumsum(dim)
    head = sums.narrow(dim, size - 1, 1)
    rest = sums.narrow(dim, size, length - size) - sums.narrow(dim, 0, length - size)
    means = torch.cat([head, rest], dim) / size
    missing = size - 1
    before, after = missing // 2, missing - missing // 2
    padding = (0, 0, before, after) if dim == 2 else (before, after, 0, 0)
    return F.pad(means, padding, mode="replicate")


def _moving_mean_of_any(x: Tensor, dim: int, size: int) -> Tensor:
    """The same without a decision by the length, so that one exported program holds for all; it takes twice as long."""
    length = x.shape[dim]
    places = torch.arange(length, device=x.device)
    start = (places - (size - 1) // 2).clamp(min=0).minimum((places[-1] + 1 - size).clamp(min=0))
    end = (start + size).minimum(places[-1] + 1)
    sums = F.pad(x.cumsum(dim), (0, 0, 1, 0) if dim == 2 else (1, 0))
    count = (end - start).view(-1, 1) if dim == 2 else end - start
    return (sums.index_select(dim, end) - sums.index_select(dim, start)) / count


class _Block(nn.Module):
    """Depthwise part and pointwise part, each a residual scaled by a learnt number a channel that starts at zero."""

    def __init__(
        self,
        channels: int,
        activation: Activation,
        attention: Attention | None,
        norm: bool,
        window: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        gated = activation == "gate"
        inner = channels * 2 if gated else channels  # the gate halves them again
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.conv1 = nn.Conv2d(channels, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        if attention == "sca":
            self.sca = nn.Sequential(WindowMean(window), nn.Conv2d(channels, channels, 1))
        elif attention == "ca":
            self.se = nn.Sequential(
                WindowMean(window),
                nn.Conv2d(channels, channels // 2, 1),
                nn.ReLU(),
                nn.Conv2d(channels // 2, channels, 1),
                nn.Sigmoid(),
            )
        self.attention = attention
        self.act = {"gate": SimpleGate, "gelu": nn.GELU, "relu": nn.ReLU}[activation]()
        self.conv4 = nn.Conv2d(channels, channels * 2, 1)
        self.conv5 = nn.Conv2d(channels if gated else channels * 2, channels, 1)
        self.norm1 = ChannelNorm(channels, eps=1e-6) if norm else nn.Identity()
        self.norm2 = ChannelNorm(channels, eps=1e-6) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv2(self.conv1(self.norm1(x))))
        if self.attention is not None:
            y = y * (self.sca if self.attention == "sca" else self.se)(y)
        x = x + self.conv3(y) * self.beta
        return x + self.conv5(self.act(self.conv4(self.norm2(x)))) * self.gamma


class NAFNet(nn.Module):
    """NAFNet, and by its switches PlainNet, the Baseline and everything between.

    Shapes: `B x channels x H x W` in [0, 1] -> the same, any size: the picture is padded with zeros at the bottom and
    right to a multiple of 2 to the number of levels, and cropped again. The net adds its result to its input.

    Args:
        width: channels at full resolution; doubled at every level.
        enc_blk_nums, middle_blk_num, dec_blk_nums: blocks a level.
        activation: ``gate`` (NAFNet), ``gelu`` (Baseline) or ``relu`` (PlainNet).
        attention: ``sca`` (NAFNet), ``ca`` (Baseline; reduction 2) or None (PlainNet).
        norm: layer normalisation in the blocks (all but PlainNet).
        train_size: side of the training crops, when attention shall pool over windows of one and a half times that
            size instead of the whole picture ("local" form, TLC); the parameters are the same.
        channels: of the picture.
        task: for `spec`.
    """

    def __init__(
        self,
        width: int = 32,
        enc_blk_nums: Sequence[int] = (1, 1, 1, 28),
        middle_blk_num: int = 1,
        dec_blk_nums: Sequence[int] = (1, 1, 1, 1),
        activation: Activation = "gate",
        attention: Attention | None = "sca",
        norm: bool = True,
        train_size: int | None = None,
        channels: int = 3,
        task: Literal["deblur", "denoise"] = "deblur",
    ) -> None:
        super().__init__()
        levels = len(enc_blk_nums)
        self.stride = 2**levels
        reach = _reach(enc_blk_nums, middle_blk_num, dec_blk_nums)
        pooling = 0
        if train_size is not None:
            reach += int(1.5 * train_size) // 2
            pooling = math.ceil(train_size / self.stride) * self.stride * int(1.5 * train_size) // train_size
        self.spec = NetworkSpec(
            task=task,
            channels=channels,
            colour="rgb" if channels == 3 else "grey",
            multiple_of=self.stride,  # `forward` would pad with zeros, as published; the engine's mirror leaves no dark border
            tiling=global_(reach, self.stride),
            pooling_window=pooling,
            source="Chen et al., ECCV 2022",
        )

        def blocks(number: int, level: int) -> nn.Sequential:
            window = None
            if train_size is not None:
                window = (pooling >> level,) * 2
            width_here = width << level
            return nn.Sequential(*(_Block(width_here, activation, attention, norm, window) for _ in range(number)))

        self.intro = nn.Conv2d(channels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, channels, 3, padding=1)
        self.encoders = nn.ModuleList(blocks(n, level) for level, n in enumerate(enc_blk_nums))
        self.decoders = nn.ModuleList(blocks(n, levels - 1 - i) for i, n in enumerate(dec_blk_nums))
        self.middle_blks = blocks(middle_blk_num, levels)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width << level, width << level + 1, 1, bias=False), nn.PixelShuffle(2))
            for level in range(levels, 0, -1)
        )
        self.downs = nn.ModuleList(nn.Conv2d(width << level, width << level + 1, 2, 2) for level in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        y = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            y = decoder(up(y) + skips.pop())
        return (self.ending(y) + x)[..., :height, :width]


def _reach(encoder: Sequence[int], middle: int, decoder: Sequence[int]) -> int:
    """How far the convolutions reach; the pooling reaches over the whole picture, or over its windows."""
    reach, skips = Reach(2 ** len(encoder)).conv(3), []
    for n in encoder:
        reach = reach.conv(3, n)
        skips.append(reach)
        reach = reach.down(2)
    reach = reach.conv(3, middle)
    for n in decoder:
        reach = (reach.up() | skips.pop()).conv(3, n)
    return reach.conv(3).radius


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = "middle_blks.0."
    needed = {"intro.weight", "ending.weight", "downs.0.weight", "ups.0.0.weight", first + "conv5.weight"}
    if not needed <= state.keys() or first + "beta" not in state or "pre_seg.weight" in state:
        return None
    levels = count(state, "downs.{}.weight")
    gated = state[first + "conv4.weight"].shape[0] == 2 * state[first + "conv5.weight"].shape[1]
    norm = first + "norm1.weight" in state
    return {
        "width": state["intro.weight"].shape[0],
        "channels": state["intro.weight"].shape[1],
        "enc_blk_nums": tuple(count(state, f"encoders.{n}.{{}}.conv1.weight") for n in range(levels)),
        "middle_blk_num": count(state, "middle_blks.{}.conv1.weight"),
        "dec_blk_nums": tuple(count(state, f"decoders.{n}.{{}}.conv1.weight") for n in range(levels)),
        # ReLU and GELU leave no trace in the shapes; PlainNet, which has no normalisation, is the one with ReLU
        "activation": "gate" if gated else "gelu" if norm else "relu",
        "attention": "sca" if first + "sca.1.weight" in state else "ca" if first + "se.1.weight" in state else None,
        "norm": norm,
    }


_SIDD: dict[str, Any] = {
    "enc_blk_nums": (2, 2, 4, 8),
    "middle_blk_num": 12,
    "dec_blk_nums": (2, 2, 2, 2),
    "task": "denoise",
}
_BASELINE: dict[str, Any] = {"activation": "gelu", "attention": "ca"}

FAMILY = Family(
    name="nafnet",
    build=NAFNet,
    variants={
        "nafnet_gopro_width32": {"width": 32},
        "nafnet_gopro_width64": {"width": 64},
        "nafnet_sidd_width32": {"width": 32, **_SIDD},
        "nafnet_sidd_width64": {"width": 64, **_SIDD},
        # the published options train on crops of 256; the reference run of the first had windows for crops of 64
        "nafnet_local_gopro_width32": {"width": 32, "train_size": 64},
        "nafnet_local256_gopro_width32": {"width": 32, "train_size": 256},
        "nafnet_local256_gopro_width64": {"width": 64, "train_size": 256},
        "nafnet_baseline_gopro_width32": {"width": 32, **_BASELINE},
        "nafnet_plain_gopro_width32": {"width": 32, "activation": "relu", "attention": None, "norm": False},
    },
    identify=_identify,
    first_will_do=True,
    paper="Simple Baselines for Image Restoration (ECCV 2022)",
)

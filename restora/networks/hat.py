"""HAT: super-resolution by window attention beside channel attention, and attention across overlapping windows.

Chen, Wang, Zhou, Qiao, Dong: Activating More Pixels in Image Super-Resolution Transformer, CVPR 2023.
Source document: the survey thesis on deep restoration, section on HAT.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import DIV2K_MEAN, upsampled_radius
from restora.networks.picture_statistics import PictureMean
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_
from restora.networks.swinir import identify_trunk, shuffle_scale, shuffle_upsampler
from restora.networks.window_attention import (
    DropPath,
    Mlp,
    Step,
    TokenNorm,
    WindowAttention,
    attend,
    by_heads,
    drop_rates,
    from_windows,
    linear,
    on_channels_first,
    reach,
    reflect_to_multiple,
    relative_position_index,
    shift_masks,
    to_windows,
)

_DERIVED = ("relative_position_index_SA", "relative_position_index_OCA")


def overlap_position_index(window: int, extended: int) -> Tensor:
    """Row of the bias table for each pixel of a window and each of the larger window around it, `window^2 x extended^2`.

    Published checkpoints count offsets from a place that makes some rows negative: they mean rows from the table's end.
    """
    own = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    wide = torch.stack(torch.meshgrid(torch.arange(extended), torch.arange(extended), indexing="ij")).flatten(1)
    offsets = wide[:, None, :] - own[:, :, None] + window - extended + 1
    return offsets[0] * (window + extended - 1) + offsets[1]


class _ChannelAttention(nn.Module):
    """Gates each channel by a number from its mean over the picture."""

    def __init__(self, dim: int, squeeze: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            PictureMean(),
            nn.Conv2d(dim, dim // squeeze, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim // squeeze, dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class _ConvolutionBranch(nn.Module):
    """Two 3x3 convolutions through a narrow middle, then channel attention."""

    def __init__(self, dim: int, compress: int, squeeze: int) -> None:
        super().__init__()
        self.cab = nn.Sequential(
            nn.Conv2d(dim, dim // compress, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(dim // compress, dim, 3, padding=1),
            _ChannelAttention(dim, squeeze),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.cab(x)


class _HybridBlock(nn.Module):
    """Window attention and, beside it, `conv_scale` times the convolution branch; then a perceptron. Channels last."""

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        displaced: bool,
        compress: int,
        squeeze: int,
        conv_scale: float,
        mlp_ratio: float,
        drop: float,
    ) -> None:
        super().__init__()
        self.shift, self.conv_scale = window // 2 if displaced else 0, conv_scale
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.conv_block = _ConvolutionBranch(dim, compress, squeeze)
        self.drop_path = DropPath(drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, index: Tensor, masks: Tensor) -> Tensor:
        normed = self.norm1(x)
        if self.shift:
            y = normed.roll((-self.shift, -self.shift), dims=(1, 2))
            y = self.attn(y, index, masks).roll((self.shift, self.shift), dims=(1, 2))
        else:
            y = self.attn(normed, index)
        x = x + self.drop_path(y) + self.conv_scale * on_channels_first(self.conv_block, normed)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _OverlappingAttention(nn.Module):
    """Queries from windows, keys and values from larger windows around them (zeros beyond the picture's border)."""

    def __init__(self, dim: int, window: int, extended: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window, self.extended, self.heads = window, extended, heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = linear(dim, 3 * dim)
        self.relative_position_bias_table = nn.Parameter(torch.empty((window + extended - 1) ** 2, heads))
        nn.init.normal_(self.relative_position_bias_table, std=0.02)
        self.proj = linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        height, width, dim = x.shape[1:]
        window, extended = self.window, self.extended
        q, kv = self.qkv(self.norm1(x)).split((dim, 2 * dim), dim=3)
        q = to_windows(q.contiguous(), window)
        margin = (extended - window) // 2
        kv = F.pad(kv, (0, 0, margin, margin, margin, margin))
        kv = kv.unfold(1, extended, window).unfold(2, extended, window)  # B, rows, columns, 2C, y, x
        kv = kv.permute(0, 1, 2, 4, 5, 3).flatten(0, 2)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        q, k, v = (by_heads(part, self.heads) for part in (q, *kv.chunk(2, dim=3)))
        y = attend(q, k, v, bias).view(-1, window, window, dim)
        x = x + from_windows(self.proj(y), height, width)
        return x + self.mlp(self.norm2(x))


class _Group(nn.Module):
    def __init__(self, blocks: list[_HybridBlock], overlap: _OverlappingAttention) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.overlap_attn = overlap

    def forward(self, x: Tensor, index: Tensor, overlap_index: Tensor, masks: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, index, masks)
        return self.overlap_attn(x, overlap_index)


class _ResidualGroup(nn.Module):
    def __init__(self, blocks: list[_HybridBlock], overlap: _OverlappingAttention, dim: int) -> None:
        super().__init__()
        self.residual_group = _Group(blocks, overlap)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, index: Tensor, overlap_index: Tensor, masks: Tensor) -> Tensor:
        return x + on_channels_first(self.conv, self.residual_group(x, index, overlap_index, masks))


class HAT(nn.Module):
    """Hybrid attention transformer.

    Shapes: `B x C x H x W` in [0, 1] -> `B x C x scale*H x scale*W`; any size (mirrored to a multiple of the window inside,
    as the authors' test program does outside, and cropped).

    Tiling: channel attention takes means over the whole picture; it enters with the factor
    `conv_scale`, which makes what tiles leave of a difference small. Everything else sees at most the promise's radius.

    Args:
        scale: 2, 3 or 4.
        channels: 3 (RGB) or 1 (grey).
        dim, depths, heads: width; hybrid blocks and attention heads of each residual group.
        window: side of the attention windows; keys and values of the overlapping attention come from windows larger by
            the share `overlap`.
        compress, squeeze: how much narrower the middle of the convolution branch and of its channel attention is.
        conv_scale: weight of the convolution branch.
        mlp_ratio: hidden width of the perceptrons over `dim`.
        drop_path: stochastic depth of the last block, in training only.

    Source: Chen et al., CVPR 2023, section 3; deep restoration specification, section 2.3.
    """

    mean: Tensor
    masks: Tensor

    def __init__(
        self,
        scale: int = 4,
        channels: int = 3,
        dim: int = 180,
        depths: Sequence[int] = (6,) * 6,
        heads: Sequence[int] = (6,) * 6,
        window: int = 16,
        overlap: float = 0.5,
        compress: int = 3,
        squeeze: int = 30,
        conv_scale: float = 0.01,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        extended = window + int(window * overlap)
        self.scale, self.window = scale, window
        steps = [Step(1)]
        for depth in depths:
            steps += [Step(0, window, window // 2 if n % 2 else 0, beside=2) for n in range(depth)]
            steps += [Step((extended - window) // 2, window), Step(1)]
        steps += [Step(1), Step(math.ceil(1 + upsampled_radius(scale)))]
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(scale,),
            channels=channels,
            colour="rgb" if channels == 3 else "grey",
            tiling=global_(reach(steps, window), window),
            multiple_of=window,
            half_safe=False,
            source="Chen et al., CVPR 2023",
        )
        mean = torch.tensor(DIV2K_MEAN if channels == 3 else (0.0,) * channels)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("masks", shift_masks(window, window // 2), persistent=False)
        self.register_buffer("relative_position_index_SA", relative_position_index(window))
        self.register_buffer("relative_position_index_OCA", overlap_position_index(window, extended))
        self.conv_first = nn.Conv2d(channels, dim, 3, padding=1)
        self.patch_embed = TokenNorm(dim)
        self.layers = nn.ModuleList()
        for h, rates in zip(heads, drop_rates(depths, drop_path), strict=True):
            blocks = [
                _HybridBlock(dim, h, window, n % 2 == 1, compress, squeeze, conv_scale, mlp_ratio, rate)
                for n, rate in enumerate(rates)
            ]
            overlapping = _OverlappingAttention(dim, window, extended, h, mlp_ratio)
            self.layers.append(_ResidualGroup(blocks, overlapping, dim))
        self.norm = nn.LayerNorm(dim)
        self.conv_after_body = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(dim, 64, 3, padding=1), nn.LeakyReLU(0.01))
        self.upsample = shuffle_upsampler(64, scale)
        self.conv_last = nn.Conv2d(64, channels, 3, padding=1)

    def convert_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Puts this network's position indices, which hold nothing learned, in the place of a checkpoint's."""
        return {**state, **{key: self.get_buffer(key) for key in _DERIVED}}

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        first = self.conv_first(reflect_to_multiple(x, self.window) - self.mean)
        y = self.patch_embed(first.permute(0, 2, 3, 1))
        index, overlap_index = (self.get_buffer(key) for key in _DERIVED)
        for layer in self.layers:
            y = layer(y, index, overlap_index, self.masks)
        y = self.conv_after_body(self.norm(y).permute(0, 3, 1, 2)) + first
        y = self.conv_last(self.upsample(self.conv_before_upsample(y))) + self.mean
        return y[..., : height * self.scale, : width * self.scale]


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    group = "layers.0.residual_group."
    table, cab = group + "overlap_attn.relative_position_bias_table", group + "blocks.0.conv_block.cab."
    needed = {"conv_first.weight", "conv_before_upsample.0.weight", "upsample.0.weight", table, "norm.weight"}
    needed |= {cab + "0.weight", cab + "3.attention.1.weight", group + "blocks.0.attn.relative_position_bias_table"}
    if not needed <= state.keys() or "absolute_pos_embed" in state or "layers.0.conv.weight" not in state:
        return None
    config = identify_trunk(state)
    extended = math.isqrt(state[table].shape[0]) + 1 - config["window"]
    return {
        **config,
        "scale": shuffle_scale(state, state["conv_before_upsample.0.weight"].shape[0]),
        "overlap": extended / config["window"] - 1,
        "compress": config["dim"] // state[cab + "0.weight"].shape[0],
        "squeeze": config["dim"] // state[cab + "3.attention.1.weight"].shape[0],
    }


_SMALL = {"dim": 144, "compress": 24, "squeeze": 24}
_LARGE = {"depths": (6,) * 12, "heads": (6,) * 12}

FAMILY = Family(
    name="hat",
    build=HAT,
    variants={
        **{f"hat_s_x{s}": {"scale": s, **_SMALL} for s in (2, 3, 4)},
        **{f"hat_x{s}": {"scale": s} for s in (2, 3, 4)},
        **{f"hat_l_x{s}": {"scale": s, **_LARGE} for s in (2, 3, 4)},
    },
    identify=_identify,
    paper="Activating More Pixels in Image Super-Resolution Transformer (CVPR 2023)",
)

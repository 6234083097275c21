"""Restormer: a U-Net of transformer blocks whose attention goes over channels instead of pixels.

Zamir, Arora, Khan, Hayat, Khan, Yang: Restormer: Efficient Transformer for High-Resolution Image Restoration, CVPR 2022.
Deblurring thesis, section 2.8. (The thesis calls the 1x1 convolutions depthwise and the 3x3 plain; it is the reverse.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deblur_layers import ChannelNorm, Reach, count
from restora.networks.picture_statistics import channel_similarity
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_


class _ScaleNorm(nn.Module):
    """Divides every pixel by the deviation of its channels, without removing their mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.float().var(dim=1, keepdim=True, unbiased=False)
        return (x * torch.rsqrt(variance + 1e-5).to(x.dtype)) * self.weight[:, None, None]


class _Norm(nn.Module):
    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.body = ChannelNorm(channels, eps=1e-5) if bias else _ScaleNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _ChannelAttention(nn.Module):
    """MDTA: attention between channels, their pixels being the vectors that are compared."""

    def __init__(self, channels: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, channels * 3, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(channels * 3, channels * 3, 3, padding=1, groups=channels * 3, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        q, k, v = self.qkv_dwconv(self.qkv(x)).unflatten(1, (3, self.heads, -1)).unbind(1)
        weights = (channel_similarity(q, k) * self.temperature).softmax(dim=-1)
        return self.project_out((weights @ v.flatten(-2)).reshape(batch, channels, height, width))


class _GatedFeedForward(nn.Module):
    """GDFN: half of the expanded channels, through a GELU, gates the other half."""

    def __init__(self, channels: int, expansion: float, bias: bool) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, hidden * 2, 1, bias=bias)
        self.dwconv = nn.Conv2d(hidden * 2, hidden * 2, 3, padding=1, groups=hidden * 2, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(a) * b)


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int, expansion: float, bias: bool, norm_bias: bool) -> None:
        super().__init__()
        self.norm1 = _Norm(channels, norm_bias)
        self.attn = _ChannelAttention(channels, heads, bias)
        self.norm2 = _Norm(channels, norm_bias)
        self.ffn = _GatedFeedForward(channels, expansion, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class _Resample(nn.Module):
    """3x3 convolution, then pixels into channels (`up=False`: half the size) or channels into pixels."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        out = channels * 2 if up else channels // 2
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.PixelShuffle(2) if up else nn.PixelUnshuffle(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _Embedding(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Restormer(nn.Module):
    """Restormer with four levels.

    Shapes: `B x channels x H x W` in [0, 1], sides multiples of 8 -> the same. The net adds its result to its input.

    Args:
        dim: channels at full size; doubled at every level. The decoder's top level and the refinement keep `2 * dim`.
        num_blocks: blocks of the four levels; num_refinement_blocks: behind the decoder.
        heads: attention heads of the four levels.
        expansion: hidden channels of the feed-forward part, as a multiple.
        bias: of the convolutions.
        norm_bias: normalisation removes the mean and has a bias (deblurring); without it only the deviation counts
            (denoising).
        channels: of the picture.
        task: for `spec`.
    """

    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        bias: bool = False,
        norm_bias: bool = True,
        channels: int = 3,
        task: Literal["deblur", "denoise"] = "deblur",
    ) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task=task,
            channels=channels,
            colour="rgb" if channels == 3 else "grey",
            multiple_of=8,
            tiling=global_(_reach(num_blocks, num_refinement_blocks), 8),
            source="Zamir et al., CVPR 2022",
        )

        def level(width: int, number: int, head: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(width, head, expansion, bias, norm_bias) for _ in range(number)))

        one, two, three, four = (dim << n for n in range(4))
        self.patch_embed = _Embedding(channels, dim, bias)
        self.encoder_level1 = level(one, num_blocks[0], heads[0])
        self.down1_2 = _Resample(one, up=False)
        self.encoder_level2 = level(two, num_blocks[1], heads[1])
        self.down2_3 = _Resample(two, up=False)
        self.encoder_level3 = level(three, num_blocks[2], heads[2])
        self.down3_4 = _Resample(three, up=False)
        self.latent = level(four, num_blocks[3], heads[3])
        self.up4_3 = _Resample(four, up=True)
        self.reduce_chan_level3 = nn.Conv2d(four, three, 1, bias=bias)
        self.decoder_level3 = level(three, num_blocks[2], heads[2])
        self.up3_2 = _Resample(three, up=True)
        self.reduce_chan_level2 = nn.Conv2d(three, two, 1, bias=bias)
        self.decoder_level2 = level(two, num_blocks[1], heads[1])
        self.up2_1 = _Resample(two, up=True)
        self.decoder_level1 = level(two, num_blocks[0], heads[0])
        self.refinement = level(two, num_refinement_blocks, heads[0])
        self.output = nn.Conv2d(two, channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        one = self.encoder_level1(self.patch_embed(x))
        two = self.encoder_level2(self.down1_2(one))
        three = self.encoder_level3(self.down2_3(two))
        y = self.latent(self.down3_4(three))
        y = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(y), three], dim=1)))
        y = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(y), two], dim=1)))
        y = self.decoder_level1(torch.cat([self.up2_1(y), one], dim=1))
        return self.output(self.refinement(y)) + x


def _reach(blocks: Sequence[int], refinement: int) -> int:
    """How far the convolutions reach (two a block); the attention's weights are of the whole picture."""
    reach, skips = Reach(8).conv(3), []
    for n in blocks[:3]:
        reach = reach.conv(3, 2 * n)
        skips.append(reach)
        reach = reach.conv(3).down(2)
    reach = reach.conv(3, 2 * blocks[3])
    for n in blocks[2::-1]:
        reach = (reach.conv(3).up() | skips.pop()).conv(3, 2 * n)
    return reach.conv(3, 2 * refinement).conv(3).radius


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = "encoder_level1.0."
    needed = {
        "patch_embed.proj.weight",
        "down1_2.body.0.weight",
        "latent.0.attn.temperature",
        "refinement.0.ffn.dwconv.weight",
    }
    norm = first + "norm1.body.weight"
    if not needed <= state.keys() or norm not in state or "reduce_chan_level1.weight" in state:
        return None
    embedding = state["patch_embed.proj.weight"]
    dim = embedding.shape[0]
    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    # the hidden width is a rounded product: the published factor when it fits, else the quotient
    hidden = state[first + "ffn.project_out.weight"].shape[1]
    bottom = state["latent.0.ffn.project_out.weight"].shape[1]
    return {
        "dim": dim,
        "num_blocks": tuple(count(state, f"{name}.{{}}.attn.temperature") for name in levels),
        "num_refinement_blocks": count(state, "refinement.{}.attn.temperature"),
        "heads": tuple(state[f"{name}.0.attn.temperature"].shape[0] for name in levels),
        "expansion": 2.66 if (int(dim * 2.66), int(dim * 8 * 2.66)) == (hidden, bottom) else (bottom + 0.5) / (8 * dim),
        "bias": "output.bias" in state,
        "norm_bias": first + "norm1.body.bias" in state,
        "channels": embedding.shape[1],
    }


FAMILY = Family(
    name="restormer",
    build=Restormer,
    variants={
        "restormer_deblur": {},
        "restormer_denoise": {"norm_bias": False, "task": "denoise"},
        "restormer_denoise_gray": {"norm_bias": False, "task": "denoise", "channels": 1},
    },
    identify=_identify,
    paper="Restormer: Efficient Transformer for High-Resolution Image Restoration (CVPR 2022)",
)

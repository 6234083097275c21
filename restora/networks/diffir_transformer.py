"""The U-Net of DiffIR: transformer blocks whose inputs a prior vector scales and shifts. The rest is in `diffir`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deblur_layers import channel_norm
from restora.networks.picture_statistics import channel_similarity
from restora.networks.swinir import shuffle_upsampler

PRIOR = 256


class _Affine(nn.Module):
    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


class _Norm(nn.Module):
    """Layer norm over the channels of each pixel; without a bias it does not subtract the mean from its input."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.body = _Affine(channels, bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.body.weight, self.body.bias
        if bias is not None:
            return channel_norm(x, weight, bias, 1e-5)
        variance = x.var(dim=1, keepdim=True, unbiased=False)
        return x * torch.rsqrt(variance + 1e-5) * weight.view(-1, 1, 1)


class _Modulated(nn.Module):
    """Scales and shifts each channel by linear maps of the prior."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(nn.Linear(PRIOR, 2 * channels, bias=False))

    def modulate(self, x: Tensor, prior: Tensor) -> Tensor:
        scale, shift = self.kernel(prior)[:, :, None, None].chunk(2, dim=1)
        return x * scale + shift


class _Attention(_Modulated):
    """Attention between channels (DMTA): its map is `C/heads x C/heads`, whatever the picture's size."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels)
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv_dwconv(self.qkv(self.modulate(x, prior)))
        q, k, v = qkv.reshape(b, 3, self.heads, c // self.heads, h, w).unbind(1)
        scores = channel_similarity(q, k) * self.temperature
        return self.project_out((scores.softmax(dim=-1) @ v.flatten(-2)).view(b, c, h, w))


class _FeedForward(_Modulated):
    """Gated feed-forward layer with depthwise convolutions (DGFN)."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__(channels)
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(self.modulate(x, prior))).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class _Block(nn.Module):
    def __init__(self, channels: int, heads: int, expansion: float, norm_bias: bool) -> None:
        super().__init__()
        self.norm1 = _Norm(channels, norm_bias)
        self.attn = _Attention(channels, heads)
        self.norm2 = _Norm(channels, norm_bias)
        self.ffn = _FeedForward(channels, expansion)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), prior)
        return x + self.ffn(self.norm2(x), prior)


class _Level(nn.ModuleList):
    """Blocks, one after the other."""

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        for block in self:
            x = block(x, prior)
        return x


def _resampler(channels_in: int, channels_out: int, shuffle: nn.Module) -> nn.Module:
    module = nn.Module()
    module.body = nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), shuffle)
    return module


class ModulatedTransformer(nn.Module):
    """The U-Net of four levels (DIRformer); its first level's decoder keeps the doubled width of the concatenation."""

    def __init__(
        self,
        scale: int,
        dim: int,
        blocks: Sequence[int],
        refinement: int,
        heads: Sequence[int],
        expansion: float,
        norm_bias: bool,
    ) -> None:
        super().__init__()
        self.scale = scale

        def level(depth: int, factor: int, n: int) -> _Level:
            return _Level(_Block(dim * factor, heads[depth], expansion, norm_bias) for _ in range(n))

        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 3, padding=1, bias=False)
        for n in (1, 2, 3):
            width = dim * 2 ** (n - 1)
            self.add_module(f"encoder_level{n}", level(n - 1, 2 ** (n - 1), blocks[n - 1]))
            self.add_module(f"down{n}_{n + 1}", _resampler(width, width // 2, nn.PixelUnshuffle(2)))
        self.latent = level(3, 8, blocks[3])
        for n in (3, 2, 1):
            width = dim * 2 ** (n - 1)
            self.add_module(f"up{n + 1}_{n}", _resampler(2 * width, 4 * width, nn.PixelShuffle(2)))
            if n > 1:
                self.add_module(f"reduce_chan_level{n}", nn.Conv2d(2 * width, width, 1, bias=False))
            self.add_module(f"decoder_level{n}", level(n - 1, max(2, 2 ** (n - 1)), blocks[n - 1]))
        self.refinement = level(0, 2, refinement)
        if scale == 1:
            self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=False)
        else:
            self.tail = nn.Sequential(shuffle_upsampler(2 * dim, scale), nn.Conv2d(2 * dim, 3, 3, padding=1))

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        y, skips = self.patch_embed.proj(x), []  # type: ignore[operator]
        for n in (1, 2, 3):
            y = self.get_submodule(f"encoder_level{n}")(y, prior)
            skips.append(y)
            y = self.get_submodule(f"down{n}_{n + 1}.body")(y)
        y = self.latent(y, prior)
        for n in (3, 2, 1):
            y = torch.cat([self.get_submodule(f"up{n + 1}_{n}.body")(y), skips.pop()], dim=1)
            if n > 1:
                y = self.get_submodule(f"reduce_chan_level{n}")(y)
            y = self.get_submodule(f"decoder_level{n}")(y, prior)
        y = self.refinement(y, prior)
        if self.scale == 1:
            return self.output(y) + x
        return self.tail(y) + F.interpolate(x, scale_factor=float(self.scale), mode="nearest")

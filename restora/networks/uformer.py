"""Uformer: a U-Net of window-attention blocks for deblurring and denoising.

Wang, Cun, Bao, Zhou, Liu, Li: Uformer: A General U-Shaped Transformer for Image Restoration, CVPR 2022. Deep
restoration survey, section 2.2; deblurring thesis, section 2.9. (The thesis makes the modulator as large as the
picture; it is as large as a window.) The survey's own idea, section 5: a residual Uformer without modulators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.deblur_layers import Reach, count
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned
from restora.networks.window_attention import (
    TokenLinear,
    attend,
    by_heads,
    from_windows,
    last_ones,
    relative_position_index,
    shift_masks,
    to_windows,
)

_WINDOW = 8
_LEVELS = 4  # halvings; the window at the bottom spans 8 * 16 input pixels


class _Projection(nn.Module):
    """Queries from one linear layer, keys and values from another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = TokenLinear(channels, channels)
        self.to_kv = TokenLinear(channels, channels * 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (self.to_q(x), *self.to_kv.parts(x, 2))


class _WindowAttention(nn.Module):
    """Multi-head attention within windows `N x 8 x 8 x C`, with a learnt bias for every relative position."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * _WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(_WINDOW))
        self.qkv = _Projection(channels)
        self.proj = TokenLinear(channels, channels)

    def forward(self, x: Tensor, masks: Tensor | None = None, which: Tensor | None = None) -> Tensor:
        """`masks` and `which` of them each window has, where the picture has been displaced (see `attend`)."""
        q, k, v = (by_heads(part, self.heads) for part in self.qkv(x))
        index: Tensor = self.relative_position_index  # type: ignore[assignment]
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        return self.proj(attend(q, k, v, bias, masks, which).view(x.shape))


class _FeedForward(nn.Module):
    """LeFF: linear, depthwise 3x3, linear, with GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Sequential(TokenLinear(channels, hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(TokenLinear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(self.linear1(x).permute(0, 3, 1, 2))
        return self.linear2(y.permute(0, 2, 3, 1))


class _Block(nn.Module):
    """LeWin block on `B x H x W x C`."""

    def __init__(
        self, channels: int, heads: int, shifted: bool, drop: float, modulator: bool, unshifted_to: int
    ) -> None:
        super().__init__()
        self.shifted, self.drop, self.unshifted_to = shifted, drop, unshifted_to
        self.modulator = nn.Embedding(_WINDOW**2, channels) if modulator else None
        self.norm1 = nn.LayerNorm(channels)
        self.attn = _WindowAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _FeedForward(channels, channels * 4)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        shift = _WINDOW // 2 if self.shifted and min(height, width) > self.unshifted_to else 0
        y = self.norm1(x)
        y = to_windows(y.roll((-shift, -shift), (1, 2)) if shift else y, _WINDOW)
        if self.modulator is not None:
            y = y + self.modulator.weight.view(_WINDOW, _WINDOW, -1)
        if shift:
            which = last_ones(len(x), height // _WINDOW, width // _WINDOW, x.device)
            y = self.attn(y, shift_masks(_WINDOW, shift).to(x.device).flatten(0, 1), which)
        else:
            y = self.attn(y)
        y = from_windows(y, height, width)
        x = x + self._dropped(y.roll((shift, shift), (1, 2)) if shift else y)
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, y: Tensor) -> Tensor:
        """Stochastic depth: in training the branch is left out for some pictures of the batch."""
        if not self.training or self.drop == 0:
            return y
        keep = 1 - self.drop
        return y * y.new_empty(len(y), 1, 1, 1).bernoulli_(keep) / keep


class _Stage(nn.Module):
    def __init__(self, blocks: list[_Block], residual: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(x)
        return x + y if self.residual else y


class _Conv(nn.Module):
    """A convolution under the name that published state dicts have for it, on `B x H x W x C`."""

    def __init__(self, name: str, *layers: nn.Module) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        (layers,) = self.children()
        return layers(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Uformer(nn.Module):
    """Uformer: T (width 16), S and B (width 32, B deeper).

    Shapes: `B x 3 x H x W` in [0, 1], sides multiples of 128 (they need not be equal) -> the same. The net adds its
    result to its input.

    Args:
        embed_dim: channels at full size; doubled at every level, and again in the decoder, where skips are appended.
        depths: blocks of the four encoder levels, the bottom and the four decoder levels.
        heads: attention heads of the same.
        modulator: learnt windows, added in the decoder before attention; None leaves them out if `residual`.
        residual: the survey's residual Uformer: bottom and decoder levels add their input to their output, as DRUNet's
            do with the encoder's features.
        img_size: side of the training crops. Blocks at a level where the crop is one window or less are never shifted
            (at 128: those of the bottom). None decides by the size of the picture at hand, which is what a network
            built for that size would do.
        drop_path: share of skipped branches in training, rising with depth.
    """

    def __init__(
        self,
        embed_dim: int = 32,
        depths: Sequence[int] = (2,) * 9,
        heads: Sequence[int] = (1, 2, 4, 8, 16, 16, 8, 4, 2),
        modulator: bool | None = None,
        residual: bool = False,
        img_size: int | None = None,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        modulator = not residual if modulator is None else modulator
        # narrow pictures have an unshifted bottom, where a convolution alone carries on from window to window
        forms = (False, True) if img_size is None else (img_size >> _LEVELS > _WINDOW,)
        self.spec = NetworkSpec(
            task="deblur",
            multiple_of=_WINDOW << _LEVELS,
            minimum=_WINDOW << _LEVELS,
            tiling=aligned(_WINDOW << _LEVELS, max(_reach(depths, form) for form in forms)),
            source="Wang et al., CVPR 2022",
        )
        falling = sum(depths[:_LEVELS])
        rates = [drop_path * n / max(1, falling - 1) for n in range(falling)]
        rates += [drop_path] * depths[_LEVELS]
        rates += [drop_path * n / max(1, falling - 1) for n in range(sum(depths[_LEVELS + 1 :]))][::-1]
        position = iter(rates)

        def stage(n: int, channels: int, level: int) -> _Stage:
            limit = _WINDOW
            if img_size is not None:  # shifted never, or always
                limit = 1 << 30 if img_size >> level <= _WINDOW else 0
            decoder = n > _LEVELS
            blocks = [
                _Block(channels, heads[n], i % 2 == 1, next(position), modulator and decoder, limit)
                for i in range(depths[n])
            ]
            return _Stage(blocks, residual and n >= _LEVELS)

        c = embed_dim
        self.input_proj = _Conv("proj", nn.Conv2d(3, c, 3, padding=1), nn.LeakyReLU())
        self.output_proj = _Conv("proj", nn.Conv2d(2 * c, 3, 3, padding=1))
        for n in range(_LEVELS):
            self.add_module(f"encoderlayer_{n}", stage(n, c << n, n))
            # the published name lacks its n
            self.add_module(f"dowsample_{n}", _Conv("conv", nn.Conv2d(c << n, c << n + 1, 4, 2, 1)))
        self.conv = stage(_LEVELS, c << _LEVELS, _LEVELS)
        for n in range(_LEVELS):
            level = _LEVELS - 1 - n
            below = c << level + (1 if n == 0 else 2)
            self.add_module(f"upsample_{n}", _Conv("deconv", nn.ConvTranspose2d(below, c << level, 2, 2)))
            self.add_module(f"decoderlayer_{n}", stage(_LEVELS + 1 + n, c << level + 1, level))

    def forward(self, x: Tensor) -> Tensor:
        y = self.input_proj(x.permute(0, 2, 3, 1))
        skips = []
        for n in range(_LEVELS):
            y = self.get_submodule(f"encoderlayer_{n}")(y)
            skips.append(y)
            y = self.get_submodule(f"dowsample_{n}")(y)
        y = self.conv(y)
        for n in range(_LEVELS):
            y = torch.cat([self.get_submodule(f"upsample_{n}")(y), skips.pop()], dim=-1)
            y = self.get_submodule(f"decoderlayer_{n}")(y)
        return x + self.output_proj(y).permute(0, 3, 1, 2)

    @staticmethod
    def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict with the table of relative positions, which is no weight, as it has to be."""
        index = relative_position_index(_WINDOW)
        return {key: index if key.endswith(".relative_position_index") else value for key, value in state.items()}


def _reach(depths: Sequence[int], bottom_shifted: bool) -> int:
    """The farthest pixel that windows, their shifts and the convolutions together can bring in."""

    def stage(reach: Reach, blocks: int, shifted: bool = True) -> Reach:
        for i in range(blocks):
            reach = reach.window(_WINDOW, _WINDOW // 2 if shifted and i % 2 else 0).conv(3)
        return reach

    reach, skips = Reach(_WINDOW << _LEVELS).conv(3), []
    for n in range(_LEVELS):
        reach = stage(reach, depths[n])
        skips.append(reach)
        reach = reach.down(4, padding=1)
    reach = stage(reach, depths[_LEVELS], bottom_shifted)
    for n in range(_LEVELS):
        reach = stage(reach.up() | skips.pop(), depths[_LEVELS + 1 + n])
    return reach.conv(3).radius


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    bias = "encoderlayer_0.blocks.0.attn.relative_position_bias_table"
    needed = {"input_proj.proj.0.weight", "output_proj.proj.0.weight", "dowsample_3.conv.0.weight", bias}
    needed |= {"encoderlayer_0.blocks.0.mlp.dwconv.0.weight", "encoderlayer_0.blocks.0.attn.qkv.to_kv.weight"}
    if not needed <= state.keys() or state[bias].shape[0] != (2 * _WINDOW - 1) ** 2:
        return None
    stages = [f"encoderlayer_{n}" for n in range(_LEVELS)] + ["conv"] + [f"decoderlayer_{n}" for n in range(_LEVELS)]
    table = "attn.relative_position_bias_table"
    config: dict[str, Any] = {
        "embed_dim": state["input_proj.proj.0.weight"].shape[0],
        "depths": tuple(count(state, f"{name}.blocks.{{}}.{table}") for name in stages),
        "heads": tuple(state[f"{name}.blocks.0.{table}"].shape[1] for name in stages),
    }
    if "decoderlayer_0.blocks.0.modulator.weight" not in state:
        config["modulator"] = False
    return config


FAMILY = Family(
    name="uformer",
    build=Uformer,
    variants={
        "uformer_t": {"embed_dim": 16},
        "uformer_s": {"embed_dim": 32},
        "uformer_b": {"embed_dim": 32, "depths": (1, 2, 8, 8, 2, 8, 8, 2, 1)},
    },
    identify=_identify,
    paper="Uformer: A General U-Shaped Transformer for Image Restoration (CVPR 2022)",
)

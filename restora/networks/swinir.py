"""SwinIR: restoration by residual groups of shifted-window transformer layers.

Liang, Cao, Sun, Zhang, Van Gool, Timofte: SwinIR: Image Restoration Using Swin Transformer, ICCVW 2021.
Source document: the RestoraVision report, section on SwinIR. Its attention equation ends at the softmax; the product with V,
which must follow, is here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.layers import DIV2K_MEAN, upsampled_radius, upsampling_steps
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned
from restora.networks.window_attention import (
    DropPath,
    Mlp,
    Step,
    TokenNorm,
    WindowAttention,
    drop_rates,
    on_channels_first,
    published_mask,
    reach,
    reflect_to_multiple,
    relative_position_index,
    shift_masks,
)

Upsampler = Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""]
Residual = Literal["1conv", "3conv"]
# buffers of the published layout that hold geometry, nothing learned
_DERIVED = (".attn_mask", ".relative_position_index")


class _Attention(WindowAttention):
    """Window attention whose published layout repeats the index of relative positions."""

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "relative_position_index"] = relative_position_index(self.window)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "relative_position_index", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Block(nn.Module):
    """Swin transformer layer: attention in (displaced) windows, then a two-layer perceptron, each on a layer norm and with
    a residual connection. Channels last."""

    def __init__(
        self, dim: int, heads: int, window: int, displaced: bool, mlp_ratio: float, drop: float, img_size: int
    ) -> None:
        super().__init__()
        self.window, self.shift, self.img_size = window, window // 2 if displaced else 0, img_size
        self.norm1 = nn.LayerNorm(dim)
        self.attn = _Attention(dim, window, heads)
        self.drop_path = DropPath(drop)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.shift:
            destination[prefix + "attn_mask"] = published_mask(self.img_size, self.window)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "attn_mask", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor, index: Tensor, masks: Tensor) -> Tensor:
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), dims=(1, 2))
            y = self.attn(y, index, masks).roll((self.shift, self.shift), dims=(1, 2))
        else:
            y = self.attn(y, index)
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _Group(nn.Module):
    """The transformer layers of a residual group, under the published key `residual_group`."""

    def __init__(self, blocks: list[_Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, index: Tensor, masks: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, index, masks)
        return x


def residual_convolution(dim: int, form: Residual) -> nn.Module:
    """The convolution at a group's end: one 3x3, or a bottleneck of three (3x3, 1x1, 3x3 on a quarter of the channels)."""
    if form == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim, 3, padding=1),
    )


class _ResidualGroup(nn.Module):
    def __init__(self, blocks: list[_Block], dim: int, form: Residual) -> None:
        super().__init__()
        self.residual_group = _Group(blocks)
        self.conv = residual_convolution(dim, form)

    def forward(self, x: Tensor, index: Tensor, masks: Tensor) -> Tensor:
        return x + on_channels_first(self.conv, self.residual_group(x, index, masks))


def shuffle_upsampler(channels: int, scale: int) -> nn.Sequential:
    """3x3 convolutions and pixel shuffles without activations between them."""
    layers: list[nn.Module] = []
    for step in upsampling_steps(scale):
        layers += [nn.Conv2d(channels, channels * step * step, 3, padding=1), nn.PixelShuffle(step)]
    return nn.Sequential(*layers)


class SwinIR(nn.Module):
    """SwinIR in all its published forms.

    Shapes: `B x C x H x W` in [0, 1] -> `B x C x scale*H x scale*W`; any size (mirrored to a multiple of the window inside,
    as in the authors' later code, and cropped).

    The checkpoint layout has masks of the training size (`img_size`) and position indices. They hold nothing learned: they are
    made when a state dict is asked for, and those of a checkpoint of another training size are accepted.

    Tiling: attention never looks beyond its window, so tiles that begin on the window grid and see `radius` further pixels
    agree with the whole picture up to rounding; a tile off the grid would see other windows and differ visibly.

    Args:
        scale: 1 (denoising, JPEG), 2, 3, 4, 8.
        channels: 3 (RGB) or 1 (grey).
        dim, depths, heads: width; layers and attention heads of each residual group.
        window: side of the attention windows (8; 7 for JPEG, so that windows and 8x8 blocks of the codec do not coincide).
        mlp_ratio: hidden width of the perceptrons over `dim`.
        upsampler: reconstruction head; "" adds the result to the input.
        residual: convolution at the end of each group, "1conv" or "3conv".
        img_range: the network works on pixels times this (255 for JPEG).
        img_size: training patch, which fixes the sizes of the masks in the layout.
        task: what the weights are for, where the scale does not say.
        drop_path: stochastic depth of the last layer, in training only.

    Source: Liang et al., ICCVW 2021, section 3; RestoraVision specification, section 2.1.
    """

    mean: Tensor
    index: Tensor
    masks: Tensor

    def __init__(
        self,
        scale: int = 1,
        channels: int = 3,
        dim: int = 180,
        depths: Sequence[int] = (6,) * 6,
        heads: Sequence[int] = (6,) * 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        upsampler: Upsampler = "",
        residual: Residual = "1conv",
        img_range: float = 1.0,
        img_size: int = 48,
        task: Literal["super-resolution", "denoise", "dejpeg"] | None = None,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if (upsampler == "") != (scale == 1) or (upsampler == "nearest+conv" and scale not in (2, 4)):
            raise UsageError(f"SwinIR has no head '{upsampler}' for scale {scale}.")
        if task is None:
            task = "super-resolution" if scale > 1 else "denoise"
        self.scale, self.window, self.upsampler, self.img_range = scale, window, upsampler, img_range
        self.spec = NetworkSpec(
            task=task,
            scales=(scale,),
            channels=channels,
            colour="rgb" if channels == 3 else "grey",
            tiling=aligned(window, reach(self._steps(depths, residual), window)),
            multiple_of=window,
            half_safe=False,
            source="Liang et al., ICCVW 2021",
        )
        mean = torch.tensor(DIV2K_MEAN if channels == 3 else (0.0,) * channels)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("index", relative_position_index(window), persistent=False)
        self.register_buffer("masks", shift_masks(window, window // 2), persistent=False)
        self.conv_first = nn.Conv2d(channels, dim, 3, padding=1)
        self.patch_embed = TokenNorm(dim)
        self.layers = nn.ModuleList(
            _ResidualGroup(
                [_Block(dim, h, window, n % 2 == 1, mlp_ratio, rate, img_size) for n, rate in enumerate(rates)],
                dim,
                residual,
            )
            for h, rates in zip(heads, drop_rates(depths, drop_path), strict=True)
        )
        self.norm = nn.LayerNorm(dim)
        self.conv_after_body = residual_convolution(dim, residual)
        self._add_head(dim, channels)

    def _add_head(self, dim: int, channels: int, width: int = 64) -> None:
        if self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(
                nn.Conv2d(dim, channels * self.scale**2, 3, padding=1), nn.PixelShuffle(self.scale)
            )
            return
        if self.upsampler:
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(dim, width, 3, padding=1), nn.LeakyReLU(0.01))
        if self.upsampler == "pixelshuffle":
            self.upsample = shuffle_upsampler(width, self.scale)
        if self.upsampler == "nearest+conv":
            self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
            if self.scale == 4:
                self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
            self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width if self.upsampler else dim, channels, 3, padding=1)

    def _steps(self, depths: Sequence[int], residual: Residual) -> list[Step]:
        head = {
            "": 1,
            "pixelshuffledirect": 1,
            "pixelshuffle": math.ceil(1 + upsampled_radius(self.scale)),
            "nearest+conv": 3,  # 3x3 at low resolution, at twice and at four times its size; rounded up
        }
        tail = Step(1 if residual == "1conv" else 2)
        steps = [Step(1)]
        for depth in depths:
            for n in range(depth):
                steps.append(Step(0, self.window, self.window // 2 if n % 2 else 0))
            steps.append(tail)
        return [*steps, tail, Step(head[self.upsampler])]

    def convert_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Puts this network's masks and indices in the place of a checkpoint's, whose sizes follow the training patch."""
        derived = {key: value for key, value in self.state_dict().items() if key.endswith(_DERIVED)}
        return {**{key: value for key, value in state.items() if not key.endswith(_DERIVED)}, **derived}

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = (reflect_to_multiple(x, self.window) - self.mean) * self.img_range
        first = self.conv_first(x)
        y = self.patch_embed(first.permute(0, 2, 3, 1))
        for layer in self.layers:
            y = layer(y, self.index, self.masks)
        y = self.conv_after_body(self.norm(y).permute(0, 3, 1, 2)) + first
        y = self._head(y) if self.upsampler else x + self.conv_last(y)
        return (y / self.img_range + self.mean)[..., : height * self.scale, : width * self.scale]

    def _head(self, y: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(y)
        y = self.conv_before_upsample(y)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(y))
        for up in (self.conv_up1, self.conv_up2) if self.scale == 4 else (self.conv_up1,):
            y = F.leaky_relu(up(F.interpolate(y, scale_factor=2.0, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))


def count_layers(state: Mapping[str, Tensor], pattern: str, start: int = 0) -> int:
    """How many of `pattern.format(start)`, `pattern.format(start + 1)`, ... are in the state dict, without a gap."""
    n = start
    while pattern.format(n) in state:
        n += 1
    return n - start


def identify_trunk(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What SwinIR and HAT have in common: width, depths, heads, window."""
    block = "layers.{}.residual_group.blocks.{}."
    groups = count_layers(state, block.format("{}", 0) + "norm1.weight")
    dim = state["conv_first.weight"].shape[0]
    table = block.format("{}", 0) + "attn.relative_position_bias_table"
    return {
        "channels": state["conv_first.weight"].shape[1],
        "dim": dim,
        "depths": tuple(count_layers(state, block.format(n, "{}") + "norm1.weight") for n in range(groups)),
        "heads": tuple(state[table.format(n)].shape[1] for n in range(groups)),
        "window": (math.isqrt(state[table.format(0)].shape[0]) + 1) // 2,
        "mlp_ratio": state[block.format(0, 0) + "mlp.fc1.weight"].shape[0] / dim,
    }


def shuffle_scale(state: Mapping[str, Tensor], width: int) -> int:
    """Scale of a `shuffle_upsampler` with the key `upsample`."""
    if state["upsample.0.weight"].shape[0] == 9 * width:
        return 3
    return int(2 ** sum(f"upsample.{n}.weight" in state for n in (0, 2, 4, 6)))


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = "layers.0.residual_group.blocks.0."
    needed = {"conv_first.weight", "patch_embed.norm.weight", "norm.weight", first + "attn.qkv.weight"}
    needed |= {first + "attn.relative_position_bias_table", first + "mlp.fc1.weight"}
    if not needed <= state.keys() or "absolute_pos_embed" in state:
        return None
    if first + "conv_block.cab.0.weight" in state or state["conv_first.weight"].ndim != 4:
        return None
    config = identify_trunk(state)
    upsampler: Upsampler
    if "conv_up1.weight" in state:
        upsampler, scale = "nearest+conv", 4 if "conv_up2.weight" in state else 2
    elif "conv_before_upsample.0.weight" in state and "upsample.0.weight" in state:
        upsampler, scale = "pixelshuffle", shuffle_scale(state, state["conv_before_upsample.0.weight"].shape[0])
    elif "upsample.0.weight" in state:
        upsampler = "pixelshuffledirect"
        scale = math.isqrt(state["upsample.0.weight"].shape[0] // config["channels"])
    elif "conv_last.weight" in state:
        upsampler, scale = "", 1
    else:
        return None
    residual = "3conv" if "layers.0.conv.0.weight" in state else "1conv"
    return {**config, "scale": scale, "upsampler": upsampler, "residual": residual}


_LIGHT = {
    "dim": 60,
    "depths": (6,) * 4,
    "heads": (6,) * 4,
    "upsampler": "pixelshuffledirect",
    "img_size": 64,
}
_REAL = {"scale": 4, "upsampler": "nearest+conv", "img_size": 64}
_JPEG = {"window": 7, "img_range": 255.0, "img_size": 126, "task": "dejpeg"}

FAMILY = Family(
    name="swinir",
    build=SwinIR,
    variants={
        **{f"swinir_classical_x{s}": {"scale": s, "upsampler": "pixelshuffle"} for s in (2, 3, 4, 8)},
        **{f"swinir_lightweight_x{s}": {"scale": s, **_LIGHT} for s in (2, 3, 4)},
        "swinir_real_x4": _REAL,
        "swinir_real_large_x4": {**_REAL, "dim": 240, "depths": (6,) * 9, "heads": (8,) * 9, "residual": "3conv"},
        "swinir_color_dn": {"img_size": 128},
        "swinir_gray_dn": {"channels": 1, "img_size": 128},
        "swinir_jpeg_color": _JPEG,
        "swinir_jpeg_gray": {**_JPEG, "channels": 1},
    },
    identify=_identify,
    paper="SwinIR: Image Restoration Using Swin Transformer (ICCVW 2021)",
)

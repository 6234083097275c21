"""The super-resolution networks of CutBlur: EDSR, RCAN and CARN for an input that has the size of the output already.

Yoo, Ahn, Sohn: Rethinking Data Augmentation for Image Super-resolution: A Comprehensive Analysis and a New Strategy, CVPR 2020;
the efficiency thesis, chapter 4. CutBlur pastes sharp pixels into the enlarged input, so a network must take that size; a
pixel-unshuffle in front of the first convolution brings it back to the low resolution, at no loss of accuracy or speed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from restora.degradation import resize
from restora.networks.layers import cascade, upsampled_radius
from restora.networks.picture_statistics import picture_mean
from restora.networks.registry import Family
from restora.networks.resblocks import DIV2K_RANGE, FrozenMeanShift, LinearUpsampler, count_blocks, scale_of
from restora.networks.spec import NetworkSpec, Tiling, exact, global_

_BICUBIC_REACH = 2


class _Unshuffle(nn.Module):
    """Blocks of `scale x scale` pixels become channels in the order block row, block column, colour (PyTorch's pixel
    unshuffle puts the colour first)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 1:
            return x
        planes = F.pixel_unshuffle(x, self.scale).unflatten(1, (x.shape[1], self.scale**2))
        return planes.transpose(1, 2).flatten(1, 2)


class _Block(nn.Module):
    """`x + factor * body(x)`, the body being conv, ReLU, conv and what else is given."""

    def __init__(self, channels: int, factor: float, *more: nn.Module) -> None:
        super().__init__()
        self.factor = factor
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            *more,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.factor * self.body(x)


class _ChannelAttention(nn.Module):
    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // squeeze, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // squeeze, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(picture_mean(x))


class _Group(nn.Module):
    def __init__(self, channels: int, blocks: int, squeeze: int, factor: float) -> None:
        super().__init__()
        stack = [_Block(channels, factor, _ChannelAttention(channels, squeeze)) for _ in range(blocks)]
        self.body = nn.Sequential(*stack, nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Cascade(nn.Module):
    def __init__(self, channels: int, blocks: int, factor: float) -> None:
        super().__init__()
        self.blocks = blocks
        for n in range(1, blocks + 1):
            self.add_module(f"b{n}", _Block(channels, factor))
            self.add_module(f"c{n}", nn.Conv2d((n + 1) * channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return run_cascade(self, x, self.blocks)


def run_cascade(module: nn.Module, x: Tensor, units: int) -> Tensor:
    """The cascade over `b1`, `c1`, `b2`, `c2`, ... of a module."""
    numbers = range(1, units + 1)
    blocks, fusions = ([module.get_submodule(f"{letter}{n}") for n in numbers] for letter in "bc")
    return cascade(x, blocks, fusions, "published")


class CutBlurNetwork(nn.Module):
    """What the three have in common: mean shift, unshuffling head, a body with a global residual, upsampling tail.

    Shapes: `forward` is the published call, `B x 3 x H x W` RGB in 0..255 at the output's size -> the same shape and range; H
    and W are multiples of the scale. `restore` is picture to picture, `B x 3 x H x W` in [0, 1] -> `B x 3 x scale*H x scale*W`.

    Args:
        scale: 1 (restoration), 2, 3, 4 or 8.
        channels: width.
        enlarge: how `restore` brings the picture to the output's size: ``nearest`` as the published code does, ``bicubic`` as
            the paper says.
    """

    def __init__(self, scale: int, channels: int, enlarge: Literal["nearest", "bicubic"]) -> None:
        super().__init__()
        self.scale, self.enlarge = scale, enlarge
        self.sub_mean, self.add_mean = FrozenMeanShift(-1), FrozenMeanShift(1)
        self.head = nn.Sequential(_Unshuffle(scale), nn.Conv2d(3 * scale * scale, channels, 3, padding=1))
        self.tail = nn.Sequential(LinearUpsampler(channels, scale), nn.Conv2d(channels, 3, 3, padding=1))

    def _promise(self, body_radius: int, pools: bool = False) -> None:
        radius = math.ceil(1 + body_radius + upsampled_radius(self.scale))
        radius += _BICUBIC_REACH if self.enlarge == "bicubic" and self.scale > 1 else 0
        tiling: Tiling = global_(radius) if pools else exact(radius)
        self.spec = NetworkSpec(
            task="super-resolution" if self.scale > 1 else "mixed",
            scales=(self.scale,),
            tiling=tiling,
            source="Yoo et al., CVPR 2020",
        )

    def _features(self, x: Tensor) -> Tensor:
        return self.get_submodule("body")(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(x + self._features(x)))

    def restore(self, x: Tensor) -> Tensor:
        """Picture in [0, 1] -> picture `scale` times as large, in [0, 1]."""
        if self.scale > 1 and self.enlarge == "nearest":
            x = F.interpolate(x, scale_factor=float(self.scale), mode="nearest")
        elif self.scale > 1:
            x = resize(x, self.scale)
        return self(x * DIV2K_RANGE) / DIV2K_RANGE


class CutBlurEDSR(CutBlurNetwork):
    """EDSR: `blocks` residual blocks whose branch is multiplied by `residual_factor`."""

    def __init__(self, scale: int, channels: int, blocks: int, residual_factor: float, enlarge: Any) -> None:
        super().__init__(scale, channels, enlarge)
        stack = [_Block(channels, residual_factor) for _ in range(blocks)]
        self.body = nn.Sequential(*stack, nn.Conv2d(channels, channels, 3, padding=1))
        self._promise(2 * blocks + 1)


class CutBlurRCAN(CutBlurNetwork):
    """RCAN: `groups` groups of `blocks` blocks with channel attention (means over the whole picture)."""

    def __init__(
        self, scale: int, channels: int, groups: int, blocks: int, squeeze: int, residual_factor: float, enlarge: Any
    ) -> None:
        super().__init__(scale, channels, enlarge)
        stack = [_Group(channels, blocks, squeeze, residual_factor) for _ in range(groups)]
        self.body = nn.Sequential(*stack, nn.Conv2d(channels, channels, 3, padding=1))
        self._promise(groups * (2 * blocks + 1) + 1, pools=True)


class CutBlurCARN(CutBlurNetwork):
    """CARN with a global residual and without the activations behind fusions and residual sums."""

    def __init__(
        self, scale: int, channels: int, groups: int, blocks: int, residual_factor: float, enlarge: Any
    ) -> None:
        super().__init__(scale, channels, enlarge)
        self.groups = groups
        for n in range(1, groups + 1):
            self.add_module(f"c{n}", nn.Conv2d((n + 1) * channels, channels, 1))
            self.add_module(f"b{n}", _Cascade(channels, blocks, residual_factor))
        self._promise(2 * groups * blocks)

    def _features(self, x: Tensor) -> Tensor:
        return run_cascade(self, x, self.groups)


def _build(
    body: Literal["edsr", "rcan", "carn"],
    scale: int,
    channels: int = 64,
    groups: int = 10,
    blocks: int = 20,
    squeeze: int = 16,
    residual_factor: float = 1.0,
    enlarge: Literal["nearest", "bicubic"] = "nearest",
) -> nn.Module:
    if body == "edsr":
        return CutBlurEDSR(scale, channels, blocks, residual_factor, enlarge)
    if body == "rcan":
        return CutBlurRCAN(scale, channels, groups, blocks, squeeze, residual_factor, enlarge)
    return CutBlurCARN(scale, channels, groups, blocks, residual_factor, enlarge)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    head = state.get("head.1.weight")
    if head is None or not {"sub_mean.weight", "tail.1.weight"} <= state.keys() or tuple(head.shape[2:]) != (3, 3):
        return None
    scale, channels = math.isqrt(head.shape[1] // 3), head.shape[0]
    if head.shape[1] != 3 * scale * scale or scale_of(state, "tail.0") != scale:
        return None
    known = {"scale": scale, "channels": channels}
    if "b1.c1.weight" in state and "c1.weight" in state:
        units = sum(f"b1.c{n}.weight" in state for n in range(1, len(state)))
        groups = sum(f"c{n}.weight" in state for n in range(1, len(state)))
        return {"body": "carn", **known, "groups": groups, "blocks": units}
    squeezed = state.get("body.0.body.0.body.3.conv_du.0.weight")
    if squeezed is not None:
        groups = count_blocks(state, "body.{}.body.0.body.0.weight")
        blocks = count_blocks(state, "body.0.body.{}.body.0.weight")
        return {"body": "rcan", **known, "groups": groups, "blocks": blocks, "squeeze": channels // squeezed.shape[0]}
    blocks = count_blocks(state, "body.{}.body.2.weight")
    if blocks and len(state) == 4 * blocks + 10 + sum(key.startswith("tail.0.") for key in state):
        return {"body": "edsr", **known, "blocks": blocks}
    return None


_EDSR = {"body": "edsr", "channels": 256, "blocks": 32, "residual_factor": 0.1}

FAMILY = Family(
    name="cutblur",
    build=_build,
    variants={
        **{f"cutblur_carn_x{s}": {"body": "carn", "scale": s, "groups": 3, "blocks": 3} for s in (1, 2, 4)},
        **{f"cutblur_edsr_x{s}": {"scale": s, **_EDSR} for s in (1, 2, 4)},
        **{f"cutblur_rcan_x{s}": {"body": "rcan", "scale": s} for s in (1, 2, 4)},
    },
    identify=_identify,
    paper="Rethinking Data Augmentation for Image Super-resolution (CVPR 2020)",
)

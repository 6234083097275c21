"""SPAN: plain convolutions whose own outputs, squashed to an odd function, serve as attention without parameters.

Wan, Yu, Wu, Zou, Wang, Wang, Yin: Swift Parameter-free Attention Network for Efficient Super-Resolution, CVPR Workshops 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import DIV2K_MEAN
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact

_RANGE = 255.0  # the published network takes grey levels less their mean, and gives [0, 1]


def _folded(state: Mapping[str, Tensor], stem: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one 3x3 convolution that 1x1, 3x3 and 1x1 ones and a parallel 1x1 one amount to (section 3.3)."""
    (a, p), (b, q), (c, r), (skip, s) = (
        (state[f"{stem}.{name}.weight"], state[f"{stem}.{name}.bias"]) for name in ("conv.0", "conv.1", "conv.2", "sk")
    )
    inner = torch.einsum("nmhw,mi->nihw", b, a[..., 0, 0])
    weight = torch.einsum("on,nihw->oihw", c[..., 0, 0], inner) + F.pad(skip, (1, 1, 1, 1))
    bias = c[..., 0, 0] @ (b.sum((2, 3)) @ p + q) + r + s
    return weight, bias


class _Conv(nn.Module):
    """A 3x3 convolution; with an expansion it is trained as the product of wider ones, computed as the one they amount to.

    The border is padded with zeros in front of that one convolution, as the published network does once it is folded.
    """

    def __init__(self, channels_in: int, channels_out: int, expansion: int) -> None:
        super().__init__()
        self.expanded = expansion > 0
        if not self.expanded:
            self.eval_conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
            return
        wide_in, wide_out = channels_in * expansion, channels_out * expansion
        self.sk = nn.Conv2d(channels_in, channels_out, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(channels_in, wide_in, 1), nn.Conv2d(wide_in, wide_out, 3), nn.Conv2d(wide_out, channels_out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.expanded:
            return self.eval_conv(x)
        with torch.autocast(x.device.type, enabled=False):  # products of weights lose too much in half precision
            weight, bias = _folded({f"0.{k}": v.float() for k, v in self.named_parameters()}, "0")
        return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=1)


class _Block(nn.Module):
    """Three convolutions; their result o is weighed by `sigmoid(o) - 1/2` together with the input (equations 2 to 4)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (_Conv(channels, channels, expansion) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.c1_r(x), inplace=True)
        out = self.c3_r(F.silu(self.c2_r(first), inplace=True))
        return (out + x) * (torch.sigmoid(out) - 0.5), first


class SPAN(nn.Module):
    """SPAN.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`.

    Args:
        scale: 1 or more. channels: width. blocks: 6 as published.
        expansion: 2 to train with convolutions of twice the width that are folded afterwards (as published), 0 for the folded
            network. `fold()` makes the second from the first.
        normalised: whether the mean of DIV2K is taken off and the rest multiplied by 255, as in the published networks without
            a key `no_norm`.
    """

    def __init__(
        self, scale: int = 4, channels: int = 48, blocks: int = 6, expansion: int = 0, normalised: bool = True
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "scale": scale,
            "channels": channels,
            "blocks": blocks,
            "normalised": normalised,
        }
        self.blocks = blocks
        self.mean: Tensor
        self.spec = NetworkSpec(
            task="super-resolution" if scale > 1 else "mixed",
            scales=(scale,),
            tiling=exact(3 * blocks + 3),
            source="Wan et al., CVPRW 2024",
        )
        if normalised:
            self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        else:
            self.register_buffer("no_norm", torch.zeros(1))
        self.conv_1 = _Conv(3, channels, expansion)
        for n in range(1, blocks + 1):
            self.add_module(f"block_{n}", _Block(channels, expansion))
        self.conv_cat = nn.Conv2d(4 * channels, channels, 1)
        self.conv_2 = _Conv(channels, channels, expansion)
        self.upsampler = nn.Sequential(nn.Conv2d(channels, 3 * scale * scale, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        if self.config["normalised"]:
            x = (x - self.mean) * _RANGE
        first = y = self.conv_1(x)
        outputs = []
        inner = y
        for n in range(1, self.blocks + 1):
            y, inner = self.get_submodule(f"block_{n}")(y)
            outputs.append(y)
        return self.upsampler(self.conv_cat(torch.cat([first, self.conv_2(y), outputs[0], inner], dim=1)))

    def fold(self) -> SPAN:
        """The same network with one convolution in the place of four, on the same device; for inference."""
        net = SPAN(**self.config)
        net.load_state_dict(net.convert_state(self.state_dict()))
        return net.to(next(self.parameters()).device).train(self.training)

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of a multiple of this scale as one to begin training with: its result, reduced by averaging."""
        own, parts = self.config["scale"], dict(state)
        for name in ("upsampler.0.weight", "upsampler.0.bias"):
            rows = parts[name].shape[0] if name in parts else 0  # none in another family's weights
            times = math.isqrt(rows // 3) // own
            if times > 1 and rows == 3 * (own * times) ** 2:
                split = parts[name].reshape(3, own, times, own, times, *parts[name].shape[1:])
                parts[name] = split.mean(dim=(2, 4)).flatten(0, 2)
        return parts

    def convert_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Folds the expanded convolutions of a published state dict if this network has none.

        What it holds in `eval_conv` beside them may be out of date: the authors' code computes it anew as well.
        """
        if self.conv_1.expanded:
            return {key: value for key, value in state.items() if ".eval_conv." not in key}
        result = dict(state)
        for key in state:
            if key.endswith(".sk.weight"):
                stem = key.removesuffix(".sk.weight")
                weight, bias = _folded({k: v.double() for k, v in state.items() if k.startswith(f"{stem}.")}, stem)
                result = {k: v for k, v in result.items() if not k.startswith((f"{stem}.sk.", f"{stem}.conv."))}
                result |= {
                    f"{stem}.eval_conv.weight": weight.to(state[key].dtype),
                    f"{stem}.eval_conv.bias": bias.to(state[key].dtype),
                }
        return result


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    cat, last = state.get("conv_cat.weight"), state.get("upsampler.0.weight")
    if cat is None or last is None or not {"conv_1.eval_conv.weight", "conv_1.sk.weight"} & state.keys():
        return None
    blocks = 0
    while {f"block_{blocks + 1}.c3_r.{name}.weight" for name in ("eval_conv", "sk")} & state.keys():
        blocks += 1
    scale = math.isqrt(last.shape[0] // 3)
    if blocks == 0 or last.shape[0] != 3 * scale * scale or cat.shape[1] != 4 * cat.shape[0]:
        return None
    return {"scale": scale, "channels": cat.shape[0], "blocks": blocks, "normalised": "no_norm" not in state}


FAMILY = Family(
    name="span",
    build=SPAN,
    variants={f"span_x{s}": {"scale": s} for s in (2, 3, 4)},
    identify=_identify,
    paper="Swift Parameter-free Attention Network for Efficient Super-Resolution (CVPRW 2024)",
)

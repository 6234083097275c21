"""DASR: blind super-resolution that adapts to a degradation representation learnt without labels.

Wang, Wang, Dong, Xu, Yang, An, Guo: Unsupervised Degradation Representation Learning for Blind Super-Resolution, CVPR 2021; the
controllable-restoration source, chapter 6, takes its degradation-aware block and its encoder from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.layers import upsampled_radius
from restora.networks.picture_statistics import picture_mean
from restora.networks.registry import Family
from restora.networks.resblocks import DIV2K_RANGE, FrozenMeanShift, LinearUpsampler, count_blocks, scale_of
from restora.networks.spec import NetworkSpec, exact, global_

_SLOPE = 0.1
_REPRESENTATION = 256
_SOURCE = "Wang et al., CVPR 2021"
# maps and stride of the encoder's convolutions
_ENCODER = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1))
_ENCODER_REACH = 11


class DegradationEncoder(nn.Module):
    """Six 3x3 convolutions with batch normalisation and the mean over the picture: `B x 3 x H x W` -> the representation,
    `B x 256`, and its projection for contrastive learning, `B x 256`."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for maps, stride in _ENCODER:
            layers += [
                nn.Conv2d(channels, maps, 3, stride=stride, padding=1),
                nn.BatchNorm2d(maps),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
            channels = maps
        self.E = nn.Sequential(*layers)
        self.mlp = nn.Sequential(
            nn.Linear(channels, _REPRESENTATION),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Linear(_REPRESENTATION, _REPRESENTATION),
        )
        self.spec = NetworkSpec(task="part", tiling=global_(0, window=4), source=_SOURCE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        representation = picture_mean(self.E(x)).flatten(1)
        return representation, self.mlp(representation)


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return x * self.conv_du(v[:, :, None, None])


class DegradationAwareConv(nn.Module):
    """A depthwise convolution whose kernels the representation predicts for each picture and channel, a 1x1 convolution, plus
    the input with its channels weighted by the same representation."""

    def __init__(self, channels: int, kernel: int = 3, reduction: int = 8) -> None:
        super().__init__()
        self.size = kernel
        self.kernel = nn.Sequential(
            nn.Linear(channels, channels, bias=False),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Linear(channels, channels * kernel * kernel, bias=False),
        )
        self.conv = nn.Conv2d(channels, channels, 1)
        self.ca = _ChannelGate(channels, reduction)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        kernels = self.kernel(v).view(batch * channels, 1, self.size, self.size)
        # one group for each channel of each picture
        y = F.conv2d(
            x.reshape(1, batch * channels, height, width), kernels, padding=self.size // 2, groups=batch * channels
        )
        return self.conv(F.leaky_relu(y.view(batch, channels, height, width), _SLOPE)) + self.ca(x, v)


class DegradationAwareBlock(nn.Module):
    """Twice a degradation-aware and a plain 3x3 convolution, with a shortcut.

    `forward` takes the features `B x C x H x W` and the squeezed representation `B x C` as one sequence.
    """

    def __init__(self, channels: int = 64, kernel: int = 3, reduction: int = 8) -> None:
        super().__init__()
        self.da_conv1 = DegradationAwareConv(channels, kernel, reduction)
        self.da_conv2 = DegradationAwareConv(channels, kernel, reduction)
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.spec = NetworkSpec(task="part", tiling=exact(4 * (kernel // 2)), channels=channels, source=_SOURCE)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        x, v = inputs
        y = F.leaky_relu(self.da_conv1(x, v), _SLOPE)
        y = F.leaky_relu(self.conv1(y), _SLOPE)
        y = F.leaky_relu(self.da_conv2(y, v), _SLOPE)
        return x + self.conv2(y)


class _Group(nn.Module):
    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(DegradationAwareBlock(channels, 3, reduction) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        *blocks, last = self.body
        y = x
        for block in blocks:
            y = block((y, v))
        return x + last(y)


class _Restorer(nn.Module):
    def __init__(self, scale: int, channels: int, groups: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = FrozenMeanShift(-1), FrozenMeanShift(1)
        self.head = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1))
        self.compress = nn.Sequential(
            nn.Linear(_REPRESENTATION, channels, bias=False), nn.LeakyReLU(_SLOPE, inplace=True)
        )
        self.body = nn.Sequential(
            *(_Group(channels, blocks, reduction) for _ in range(groups)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.tail = nn.Sequential(LinearUpsampler(channels, scale), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        v = self.compress(representation)
        x = y = self.head(self.sub_mean(x))
        *groups, last = self.body
        for group in groups:
            y = group(y, v)
        return self.add_mean(self.tail(x + last(y)))


class _Contrast(nn.Module):
    """What momentum-contrast training leaves in a checkpoint: query encoder (the one in use), key encoder, queue."""

    queue: Tensor

    def __init__(self, queue: int) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = DegradationEncoder(), DegradationEncoder()
        self.register_buffer("queue", F.normalize(torch.randn(_REPRESENTATION, queue), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder_q(x)[0]


class DASR(nn.Module):
    """The encoder `E` looks at the picture, the restorer `G` enlarges it with kernels that the representation predicts.

    Shapes: `forward` is the published call, `B x 3 x H x W` RGB in 0..255 -> `B x 3 x scale*H x scale*W` in 0..255; `restore` is
    the same in [0, 1]. The representation is a mean over the whole picture.

    Args:
        scale: 2, 3 or 4. channels, groups, blocks, reduction: of the restorer.
        queue: length of the queue of negatives that training keeps.
    """

    def __init__(
        self, scale: int, channels: int = 64, groups: int = 5, blocks: int = 5, reduction: int = 8, queue: int = 8192
    ) -> None:
        super().__init__()
        self.G = _Restorer(scale, channels, groups, blocks, reduction)
        self.E = _Contrast(queue)
        radius = max(_ENCODER_REACH, math.ceil(2 + groups * (4 * blocks + 1) + upsampled_radius(scale)))
        self.spec = NetworkSpec(
            task="super-resolution", scales=(scale,), tiling=global_(radius, window=4), half_safe=False, source=_SOURCE
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.G(x, self.E(x))

    def restore(self, x: Tensor) -> Tensor:
        """Picture in [0, 1] -> picture `scale` times as large, in [0, 1]."""
        return self(x * DIV2K_RANGE) / DIV2K_RANGE


_USUAL = {"channels": 64, "groups": 5, "blocks": 5}


def _build(kind: Literal["network", "encoder", "block"] = "network", scale: int = 4, **others: Any) -> nn.Module:
    if kind == "encoder":
        return DegradationEncoder()
    return DegradationAwareBlock(**others) if kind == "block" else DASR(scale, **others)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if {"G.compress.0.weight", "E.encoder_q.E.0.weight", "G.body.0.body.0.da_conv1.kernel.0.weight"} <= state.keys():
        groups = count_blocks(state, "G.body.{}.body.0.conv1.weight")
        blocks = count_blocks(state, "G.body.0.body.{}.conv1.weight")
        shape = {"channels": state["G.head.0.weight"].shape[0], "groups": groups, "blocks": blocks}
        # what is as usual is not listed: the variants leave it out too
        unusual = {key: value for key, value in shape.items() if value != _USUAL[key]}
        return {"kind": "network", "scale": scale_of(state, "G.tail.0"), **unusual}
    if "da_conv1.kernel.0.weight" in state and "conv2.weight" in state:
        return {"kind": "block"} if state["conv2.weight"].shape[0] == 64 else None
    first, last = state.get("E.0.weight"), state.get("mlp.2.weight")
    if first is None or last is None or "E.16.running_var" not in state or "E.18.weight" in state:
        return None
    fits = tuple(first.shape) == (64, 3, 3, 3) and tuple(last.shape) == (_REPRESENTATION, _REPRESENTATION)
    return {"kind": "encoder"} if fits else None


FAMILY = Family(
    name="dasr",
    build=_build,
    variants={
        **{f"dasr_x{s}": {"kind": "network", "scale": s} for s in (2, 3, 4)},
        "dasr_encoder": {"kind": "encoder"},
        "dasr_dab": {"kind": "block"},
    },
    identify=_identify,
    paper="Unsupervised Degradation Representation Learning for Blind Super-Resolution (CVPR 2021)",
)

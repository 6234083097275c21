"""DeblurGAN-v2: a feature pyramid over an ImageNet backbone, trained with two relativistic critics.

Kupyn, Martyniuk, Wu, Wang: DeblurGAN-v2, ICCV 2019; the ViTDeblur document, section 2.4 of its specification. The critics
are in `deblurgan_critic`, the backbones in `classifier_backbones`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.classifier_backbones import InceptionResNetV2, mobilenet_v2_features
from restora.networks.picture_norms import InstanceNorm, own_statistics
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

Backbone = Literal["mobilenet", "inception"]


def _double(x: Tensor, factor: int = 2) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest")


class _Merge(nn.Sequential):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(nn.Conv2d(channels_in, channels, 3, padding=1), InstanceNorm(channels), nn.ReLU())


class _Head(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.block0 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.block1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.block1(F.relu(self.block0(x))))


class _Pyramid(nn.Module):
    """Five maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size; the backbone appears twice in the state, whole (with the
    stages that are never run) and as the five encoders that are."""

    enc0: nn.Module
    enc1: nn.Module
    enc2: nn.Module
    enc3: nn.Module
    enc4: nn.Module

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.td1, self.td2, self.td3 = (_Merge(channels, channels) for _ in range(3))
        for n in (4, 3, 2, 1, 0):
            wide = channels if n else channels // 2
            self.add_module(f"lateral{n}", nn.Conv2d(widths[n], wide, 1, bias=False))

    def fit(self, level: int, x: Tensor) -> Tensor:
        """Brings what an encoder gives to its share of the picture's size."""
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for n, encoder in enumerate((self.enc0, self.enc1, self.enc2, self.enc3, self.enc4)):
            x = encoder(x)
            maps.append(self.fit(n, self.get_submodule(f"lateral{n}")(x)))
        for n, merge in ((3, self.td1), (2, self.td2), (1, self.td3)):
            maps[n] = merge(maps[n] + _double(maps[n + 1]))
        return maps


class _MobilePyramid(_Pyramid):
    def __init__(self, channels: int) -> None:
        features = mobilenet_v2_features()
        super().__init__((16, 24, 32, 64, 160), channels)
        self.features = features
        for n, (first, end) in enumerate(((0, 2), (2, 4), (4, 7), (7, 11), (11, 16))):
            self.add_module(f"enc{n}", nn.Sequential(*list(features)[first:end]))


class _InceptionPyramid(_Pyramid):
    """The backbone's unpadded convolutions lose borders, which reflection brings back after the 1x1 convolutions."""

    _margins = ((0, 1, 0, 1), (1, 1, 1, 1), (1, 2, 1, 2), (1, 1, 1, 1), (1, 1, 1, 1))

    def __init__(self, channels: int) -> None:
        super().__init__((32, 64, 192, 1088, 2080), channels)
        net = InceptionResNetV2()
        self.inception = net
        self.enc0 = net.conv2d_1a
        self.enc1 = nn.Sequential(net.conv2d_2a, net.conv2d_2b, nn.MaxPool2d(3, stride=2))
        self.enc2 = nn.Sequential(net.conv2d_3b, net.conv2d_4a, nn.MaxPool2d(3, stride=2))
        self.enc3 = nn.Sequential(net.mixed_5b, net.repeat, net.mixed_6a)
        self.enc4 = nn.Sequential(net.repeat_1, net.mixed_7a)

    def fit(self, level: int, x: Tensor) -> Tensor:
        return F.pad(x, self._margins[level], mode="reflect")


class DeblurGANv2(nn.Module):
    """The pyramid generator.

    Shapes: `B x 3 x H x W` -> the same, RGB in [-1, 1]; `restore` takes and gives [0, 1]. H and W are multiples of 32, at
    least 64 (MobileNet) or 128 (Inception). The published program pads with grey to a multiple of 32, always by at least
    one block; here the engine pads by reflection, only when it must.

    All normalisations keep running statistics, but the published program never leaves the training mode and so normalises
    each picture by its own. `forward` follows the mode; `restore` does as the program does.

    Args:
        backbone: ``mobilenet`` (MobileNet v2, depthwise separable convolutions) or ``inception`` (Inception-ResNet-v2).
    """

    def __init__(self, backbone: Backbone = "mobilenet") -> None:
        super().__init__()
        mobile = backbone == "mobilenet"
        channels = 64 if mobile else 128
        self.spec = NetworkSpec(
            task="deblur",
            tiling=global_(_RADIUS[backbone], window=32),
            multiple_of=32,
            minimum=64 if mobile else 128,
            half_safe=False,  # statistics of a picture's few pixels at 1/32 of its size enlarge rounding
            source="Kupyn et al., ICCV 2019",
        )
        self.fpn = _MobilePyramid(2 * channels) if mobile else _InceptionPyramid(2 * channels)
        self.head1, self.head2, self.head3, self.head4 = (_Head(2 * channels, channels) for _ in range(4))
        self.smooth = _Merge(4 * channels, channels)
        self.smooth2 = _Merge(channels, channels // 2)
        self.final = nn.Conv2d(channels // 2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        finest, *maps = self.fpn(x)
        heads = (self.head1, self.head2, self.head3, self.head4)
        stacked = [_double(head(y), 2**n) for n, (head, y) in enumerate(zip(heads, maps, strict=True))]
        y = _double(self.smooth(torch.cat(stacked[::-1], dim=1)))
        y = _double(self.smooth2(y + finest))
        return (self.final(y).tanh() + x).clamp(-1, 1)

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture, both in [0, 1], normalised by its own statistics."""
        with own_statistics(self):
            return (self.forward(2 * x - 1) + 1) / 2


# the reach of the convolutions, measured by perturbing single columns and rounded up to the grid; the statistics are
# those of the whole picture
_RADIUS: dict[str, int] = {"mobilenet": 288, "inception": 1312}


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not {"fpn.td1.0.weight", "fpn.lateral4.weight", "head4.block1.weight", "final.weight"} <= state.keys():
        return None
    widths = {
        160: ("mobilenet", "fpn.features.18.0.weight"),
        2080: ("inception", "fpn.inception.conv2d_1a.conv.weight"),
    }
    backbone, key = widths.get(state["fpn.lateral4.weight"].shape[1], ("", ""))
    return {"backbone": backbone} if key in state else None


FAMILY = Family(
    name="deblurgan_v2",
    build=DeblurGANv2,
    variants={f"deblurganv2_{name}": {"backbone": name} for name in ("inception", "mobilenet")},
    identify=_identify,
    paper="DeblurGAN-v2: Deblurring (Orders-of-Magnitude) Faster and Better (ICCV 2019)",
)

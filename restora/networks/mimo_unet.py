"""MIMO-UNet: a deblurring U-Net that reads the picture in three sizes and returns it in three sizes.

Cho, Ji, Hong, Jung, Ko: Rethinking Coarse-to-Fine Approach in Single Image Deblurring, ICCV 2021. Deep restoration
survey, section 2.1 (it describes DeepRFT's backbone, which is this one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deblur_layers import Reach, count
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned


class Conv(nn.Module):
    """A convolution (`stride` 2 halves the picture) or, when `transposed`, one that doubles it; then ReLU when asked.

    DeepRFT overrides `make`, which builds the convolution.
    """

    bias = True

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        relu: bool = True,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module]
        if transposed:
            padding = kernel // 2 - 1
            layers = [nn.ConvTranspose2d(channels_in, channels_out, kernel, stride, padding, bias=self.bias)]
        else:
            layers = [self.make(channels_in, channels_out, kernel, stride)]
        if relu:
            layers.append(nn.ReLU())
        self.main = nn.Sequential(*layers)

    def make(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Module:
        return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class ResBlock(nn.Module):
    """`x + conv(relu(conv(x)))`, 3x3."""

    def __init__(self, channels: int, conv: type[Conv]) -> None:
        super().__init__()
        self.main = nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 3, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class _Blocks(nn.Module):
    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _ShallowFeatures(nn.Module):
    """SCM: features of the smaller picture, which itself stays among them."""

    def __init__(self, channels: int, conv: type[Conv]) -> None:
        super().__init__()
        c = channels
        self.main = nn.Sequential(
            conv(3, c // 4, 3), conv(c // 4, c // 2, 1), conv(c // 2, c // 2, 3), conv(c // 2, c - 3, 1)
        )
        self.conv = conv(c, c, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x, self.main(x)], dim=1))


class _Attention(nn.Module):
    """FAM: lets what the smaller picture shows choose among the features."""

    def __init__(self, channels: int, conv: type[Conv]) -> None:
        super().__init__()
        self.merge = conv(channels, channels, 3, relu=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + self.merge(a * b)


class _Fusion(nn.Module):
    """AFF: the three levels together, brought to one size."""

    def __init__(self, channels_in: int, channels_out: int, conv: type[Conv]) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(channels_in, channels_out, 1), conv(channels_out, channels_out, 3, relu=False))

    def forward(self, *levels: Tensor) -> Tensor:
        return self.conv(torch.cat(levels, dim=1))


def half(x: Tensor) -> Tensor:
    """Every second pixel, from the first: nearest-neighbour resizing as the published code has it."""
    return x[..., ::2, ::2]


def double(x: Tensor) -> Tensor:
    """Every pixel twice."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Pyramid(nn.Module):
    """The U-Net of MIMO-UNet and DeepRFT: three sizes in, three sizes out.

    Args:
        blocks: residual blocks of every encoder and decoder level.
        dropout: probability of losing a channel of the skips in training.
        width: channels at full size.
        conv: what makes a convolution. block: what makes a residual block, of its channels.
    """

    def __init__(
        self, blocks: int, dropout: float, width: int, conv: type[Conv], block: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        a, b, c = width, width * 2, width * 4
        self.Encoder = nn.ModuleList(_Blocks([block(n) for _ in range(blocks)]) for n in (a, b, c))
        self.feat_extract = nn.ModuleList(
            [
                conv(3, a, 3),
                conv(a, b, 3, stride=2),
                conv(b, c, 3, stride=2),
                conv(c, b, 4, stride=2, transposed=True),
                conv(b, a, 4, stride=2, transposed=True),
                conv(a, 3, 3, relu=False),
            ]
        )
        self.Decoder = nn.ModuleList(_Blocks([block(n) for _ in range(blocks)]) for n in (c, b, a))
        self.Convs = nn.ModuleList([conv(c, b, 1), conv(b, a, 1)])
        self.ConvsOut = nn.ModuleList([conv(c, 3, 3, relu=False), conv(b, 3, 3, relu=False)])
        self.AFFs = nn.ModuleList([_Fusion(a + b + c, a, conv), _Fusion(a + b + c, b, conv)])
        self.FAM1, self.SCM1 = _Attention(c, conv), _ShallowFeatures(c, conv)
        self.FAM2, self.SCM2 = _Attention(b, conv), _ShallowFeatures(b, conv)
        self.drop = nn.Dropout2d(dropout)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The results of a quarter, half and the whole size, each a residual added to the picture of that size."""
        x2 = half(x)
        x4 = half(x2)
        level1 = self.Encoder[0](self.feat_extract[0](x))
        level2 = self.Encoder[1](self.FAM2(self.feat_extract[1](level1), self.SCM2(x2)))
        z = self.Encoder[2](self.FAM1(self.feat_extract[2](level2), self.SCM1(x4)))

        z2 = double(z)
        skip2 = self.drop(self.AFFs[1](half(level1), level2, z2))
        skip1 = self.drop(self.AFFs[0](level1, double(level2), double(z2)))

        z = self.Decoder[0](z)
        quarter = self.ConvsOut[0](z) + x4
        z = self.Convs[0](torch.cat([self.feat_extract[3](z), skip2], dim=1))
        z = self.Decoder[1](z)
        middle = self.ConvsOut[1](z) + x2
        z = self.Convs[1](torch.cat([self.feat_extract[4](z), skip1], dim=1))
        return [quarter, middle, self.feat_extract[5](self.Decoder[2](z)) + x]


class MIMOUNet(Pyramid):
    """MIMO-UNet (8 residual blocks a level) and MIMO-UNet+ (20).

    Shapes: `B x 3 x H x W` in [0, 1], sides multiples of 4 -> the pictures of a quarter, half and the whole size, in
    this order, for the losses of training. `restore` gives the last alone.

    Args:
        blocks, dropout, width: see `Pyramid`; MIMO-UNet+ has 20 and 0.1.
    """

    def __init__(self, blocks: int = 8, dropout: float = 0.0, width: int = 32) -> None:
        super().__init__(blocks, dropout, width, Conv, lambda channels: ResBlock(channels, Conv))
        self.spec = NetworkSpec(
            task="deblur", multiple_of=4, tiling=aligned(4, reach(blocks)), source="Cho et al., ICCV 2021"
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.pyramid(x)

    def restore(self, x: Tensor) -> Tensor:
        """The picture at its own size: `B x 3 x H x W` in [0, 1] -> the same."""
        return self.pyramid(x)[-1]


def reach(blocks: int) -> int:
    """Input pixels that the convolutions of the whole U-Net see on each side, for that many blocks a level."""
    x = Reach(4)
    x2 = x.down(1)
    x4 = x2.down(1)
    level1 = x.conv(3).conv(3, 2 * blocks)
    level2 = (level1.down(3, padding=1) | x2.conv(3, 2)).conv(3).conv(3, 2 * blocks)
    z = (level2.down(3, padding=1) | x4.conv(3, 2)).conv(3).conv(3, 2 * blocks)
    skip2 = (level1.down(1) | level2 | z.up()).conv(3)
    skip1 = (level1 | level2.up() | z.up().up()).conv(3)
    z = z.conv(3, 2 * blocks)
    z = (z.up(4, padding=1) | skip2).conv(3, 2 * blocks)
    z = (z.up(4, padding=1) | skip1).conv(3, 2 * blocks)
    return z.conv(3).radius


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = "Encoder.0.layers.0.main.0.main.0.weight"
    if (
        not {first, "SCM1.conv.main.0.weight", "AFFs.1.conv.1.main.0.weight", "ConvsOut.1.main.0.weight"}
        <= state.keys()
    ):
        return None
    if "Encoder.0.layers.0.main.0.main.0.bias" not in state:
        return None
    return {"blocks": count(state, "Encoder.0.layers.{}.main.0.main.0.weight"), "width": state[first].shape[0]}


FAMILY = Family(
    name="mimo_unet",
    build=MIMOUNet,
    variants={"mimo_unet": {"blocks": 8}, "mimo_unet_plus": {"blocks": 20, "dropout": 0.1}},
    identify=_identify,
    paper="Rethinking Coarse-to-Fine Approach in Single Image Deblurring (ICCV 2021)",
)

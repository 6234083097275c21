"""SROOE: super-resolution whose perceptual objective is chosen for each pixel, and by the user.

Park, Moon, Cho: Perception-Oriented Single Image Super-Resolution using Optimal Objective Estimation, CVPR 2023.
Source document: the survey thesis on deep restoration, section on SROOE. It counts four SFT layers a dense block and 18 executed
3x3 convolutions in the predictor; the published code has five and executes 14 (the deepest level is built and in the checkpoint,
but never called), which is what is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.noise_levels import fits, reach
from restora.networks.registry import Family
from restora.networks.spec import Control, NetworkSpec, aligned, exact, global_
from restora.networks.srooe_estimator import FEATURE_WIDTHS, MAP_STEPS, SOURCE, FeatureStages, ObjectiveEstimator
from restora.networks.swinir import count_layers
from restora.networks.window_attention import mirror_to

_CONDITION = 32
_T = Control(
    "t",
    "objective: 0 is nearest to the true pixels, 1 looks most like a photograph",
    default=1.0,
    low=0.0,
    high=1.0,
    spatial=True,
)


class _Modulation(nn.Module):
    """Spatial feature transform: scale and shift of every value, from the condition by two 1x1 convolutions each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.SFT_scale_conv0, self.SFT_scale_conv1 = nn.Conv2d(32, 32, 1), nn.Conv2d(32, channels, 1)
        self.SFT_shift_conv0, self.SFT_shift_conv1 = nn.Conv2d(32, 32, 1), nn.Conv2d(32, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale = self.SFT_scale_conv1(F.leaky_relu(self.SFT_scale_conv0(condition), 0.1))
        shift = self.SFT_shift_conv1(F.leaky_relu(self.SFT_shift_conv0(condition), 0.1))
        return x * (scale + 1) + shift


class _DenseBlock(nn.Module):
    """Five convolutions, each on everything before it. What is passed on is modulated; the input is, for the first
    convolution only."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for n in range(5):
            self.add_module(f"sft{n}", _Modulation(growth if n else channels))
        for n in range(5):
            self.add_module(
                f"conv{n + 1}", nn.Conv2d(channels + n * growth, growth if n < 4 else channels, 3, padding=1)
            )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        parts = [x]
        for n in range(4):
            given = self.get_submodule("sft0")(x, condition) if n == 0 else torch.cat(parts, dim=1)
            y = F.leaky_relu(self.get_submodule(f"conv{n + 1}")(given), 0.2)
            parts.append(self.get_submodule(f"sft{n + 1}")(y, condition))
        return x + 0.2 * self.get_submodule("conv5")(torch.cat(parts, dim=1))


class _ResidualInResidual(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (_DenseBlock(channels, growth) for _ in range(3))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + 0.2 * self.RDB3(self.RDB2(self.RDB1(x, condition), condition), condition)


class SROOEGenerator(nn.Module):
    """ESRGAN's generator with spatial feature transforms driven by an objective map; four times the size.

    Shapes: `B x 3 x H x W` RGB in [0, 1] and a map `B x 1 x H x W` -> `B x 3 x 4H x 4W`. Alone it is the first training stage:
    one objective `t` for the whole picture.

    Args:
        channels, blocks, growth: nf, nb and growth of the dense blocks.
    """

    def __init__(self, channels: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(4,),
            tiling=exact(sum(generator_steps(blocks))),
            half_safe=False,
            controls=(_T,),
            source=SOURCE,
        )
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.RRDB_trunk = nn.ModuleList(_ResidualInResidual(channels, growth) for _ in range(blocks))
        for name in ("trunk_conv", "upconv1", "upconv2", "HRconv"):
            self.add_module(name, nn.Conv2d(channels, channels, 3, padding=1))
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)
        self.CondNet = nn.Sequential(nn.Conv2d(1, 1, 1), nn.LeakyReLU(0.1), nn.Conv2d(1, _CONDITION, 1))

    def forward(self, x: Tensor | tuple[Tensor, Tensor], t: float | Tensor = 1.0) -> Tensor:
        """`net((picture, map))` is the published call; `net(picture, t)` takes a number or a map."""
        x, t = x if isinstance(x, tuple) else (x, t)
        objective = t if isinstance(t, Tensor) else x.new_full((1, 1, 1, 1), t)
        condition = self.CondNet(objective.expand(x.shape[0], 1, *x.shape[-2:]))
        first = self.conv_first(x)
        y = first
        for block in self.RRDB_trunk:
            y = block(y, condition)
        y = first + self.get_submodule("trunk_conv")(y)
        for name in ("upconv1", "upconv2"):
            y = F.leaky_relu(self.get_submodule(name)(F.interpolate(y, scale_factor=2.0, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.get_submodule("HRconv")(y), 0.2))


def generator_steps(blocks: int) -> list[int]:
    """Reach of the generator's parts in input pixels; what lies behind the enlargement reaches 1.25, rounded up."""
    return [1, 15 * blocks, 1, 2]


class SROOE(nn.Module):
    """The whole chain: VGG features of the picture, the predicted objective map times the user's `t`, the generator.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `net(x, t)`: the picture `B x 3 x 4H x 4W` and the map `B x 1 x H x W` as it was
    predicted, before `t`; `restore(x, t)`: the picture alone. Sides below 16 are mirrored up to 16.

    Args:
        channels, blocks, growth: of the generator.
        width: of the objective estimator. vgg_width: of the features' first stage (64 is VGG-19).
        resize: how features are brought to the picture's size: "bicubic", as the authors test, or "nearest", as they train.

    Source: Park et al., CVPR 2023; deep restoration specification, section 2.4.
    """

    def __init__(
        self,
        channels: int = 64,
        blocks: int = 23,
        growth: int = 32,
        width: int = 64,
        vgg_width: int = 64,
        resize: Literal["bicubic", "nearest"] = "bicubic",
    ) -> None:
        super().__init__()
        self.resize = resize
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(4,),
            tiling=aligned(16, reach([*MAP_STEPS, *generator_steps(blocks)], 16)),
            multiple_of=16,
            half_safe=False,
            controls=(_T,),
            source=SOURCE,
        )
        self.vgg = FeatureStages(vgg_width)
        self.ooe = ObjectiveEstimator(3 + FEATURE_WIDTHS * vgg_width, width)
        self.generator = SROOEGenerator(channels, blocks, growth)

    def objective(self, x: Tensor) -> Tensor:
        """The map `B x 1 x H x W` that says which objective suits which place."""
        size, parts = x.shape[-2:], [x]
        for feature in self.vgg(x):
            if feature.shape[-2:] != size:
                corners = None if self.resize == "nearest" else False
                feature = F.interpolate(feature, size=size, mode=self.resize, align_corners=corners)
            parts.append(feature)
        return self.ooe(torch.cat(parts, dim=1))

    def forward(self, x: Tensor, t: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        height, width = x.shape[-2:]
        x = mirror_to(x, 16, 16)  # the features are pooled four times
        if isinstance(t, Tensor) and t.numel() > 1:
            t = mirror_to(t, 16, 16)
        predicted = self.objective(x)
        y = self.generator((x, predicted * t))
        return y[..., : 4 * height, : 4 * width], predicted[..., :height, :width]

    def restore(self, x: Tensor, t: float | Tensor = 1.0) -> Tensor:
        """The picture, with the predicted map times `t`: a number in [0, 1], or a map of the picture's size."""
        return self(x, t)[0]


class SROOEDiscriminator(nn.Module):
    """The discriminator of its training: VGG style, ends in fully connected layers, so that 128 x 128 is its only size.

    Shapes: `B x 3 x 128 x 128` -> `B x 1`, logits (compared between true and restored pictures: relativistic).

    Args:
        channels: features of the first stage, doubled up to eight times that.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.spec = NetworkSpec(task="discriminator", tiling=global_(0), multiple_of=128, minimum=128, source=SOURCE)
        widths = [channels * factor for factor in (1, 2, 4, 8, 8)]
        before = 3
        for n, wide in enumerate(widths):
            self.add_module(f"conv{n}_0", nn.Conv2d(before, wide, 3, padding=1, bias=n == 0))
            if n:
                self.add_module(f"bn{n}_0", nn.BatchNorm2d(wide))
            self.add_module(f"conv{n}_1", nn.Conv2d(wide, wide, 4, stride=2, padding=1, bias=False))
            self.add_module(f"bn{n}_1", nn.BatchNorm2d(wide))
            before = wide
        self.linear1, self.linear2 = nn.Linear(16 * before, 100), nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (128, 128):
            raise UsageError(f"This discriminator sees pictures of 128 x 128, not {x.shape[-1]} x {x.shape[-2]}.")
        for name, layer in self.named_children():
            if name.startswith("linear"):
                break
            x = layer(x)
            if name == "conv0_0" or name.startswith("bn"):
                x = F.leaky_relu(x, 0.2)
        return self.linear2(F.leaky_relu(self.linear1(x.flatten(1)), 0.2))


_PARTS: dict[str, type[nn.Module]] = {
    "chain": SROOE,
    "generator": SROOEGenerator,
    "estimator": ObjectiveEstimator,
    "discriminator": SROOEDiscriminator,
}


def _build(part: str = "chain", **sizes: Any) -> nn.Module:
    return _PARTS[part](**sizes)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    inner, outer = "generator.RRDB_trunk", "RRDB_trunk"
    config: dict[str, Any]
    if "conv0_1.weight" in state and "linear1.weight" in state and "conv0_0.weight" in state:
        config = {"part": "discriminator", "channels": state["conv0_0.weight"].shape[0]}
    elif "inc.double_conv.0.weight" in state and "up4.up.weight" in state:
        width, channels = state["inc.double_conv.0.weight"].shape[:2]
        config = {"part": "estimator", "channels": channels, "width": width}
    elif f"{outer}.0.RDB1.sft0.SFT_scale_conv0.weight" in state:
        config = {"part": "generator", **_generator_sizes(state, outer)}
    elif f"{inner}.0.RDB1.sft0.SFT_scale_conv0.weight" in state and "vgg.features.0.weight" in state:
        config = {"part": "chain", **_generator_sizes(state, inner)}
        config["vgg_width"] = state["vgg.features.0.weight"].shape[0]
        config["width"] = state["ooe.outc.conv.weight"].shape[1] if "ooe.outc.conv.weight" in state else 0
    else:
        return None
    return config if fits(state, _build, config) else None


def _generator_sizes(state: Mapping[str, Tensor], trunk: str) -> dict[str, int]:
    growth, channels = state[f"{trunk}.0.RDB1.conv1.weight"].shape[:2]
    return {"channels": channels, "growth": growth, "blocks": count_layers(state, trunk + ".{}.RDB1.conv1.weight")}


_GENERATOR = {"channels": 64, "blocks": 23, "growth": 32}

FAMILY = Family(
    name="srooe",
    build=_build,
    variants={
        "srooe": {"part": "chain", **_GENERATOR, "width": 64, "vgg_width": 64},
        "srooe_generator": {"part": "generator", **_GENERATOR},
        "srooe_ooe": {"part": "estimator", "channels": 1475, "width": 64},
        "srooe_discriminator": {"part": "discriminator", "channels": 64},
    },
    identify=_identify,
    paper="Perception-Oriented Single Image Super-Resolution using Optimal Objective Estimation (CVPR 2023)",
)

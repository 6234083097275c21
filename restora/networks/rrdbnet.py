"""RRDBNet: the generator of ESRGAN, BSRGAN and Real-ESRGAN, residual-in-residual dense blocks.

Wang et al.: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, ECCV Workshops 2018; for scales 1 and 2 with a
pixel-unshuffled input, Wang et al.: Real-ESRGAN, ICCV Workshops 2021.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.registry import Family
from restora.networks.resblocks import count_blocks, damp, rename
from restora.networks.spec import NetworkSpec, aligned, exact

_SLOPE = 0.2
_RESIDUAL = 0.2


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each fed with the input and all results before it; a fifth of the last is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for n in range(5):
            self.add_module(
                f"conv{n + 1}", nn.Conv2d(channels + n * growth, growth if n < 4 else channels, 3, padding=1)
            )

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for n in range(1, 5):
            parts.append(F.leaky_relu(self.get_submodule(f"conv{n}")(torch.cat(parts, dim=1)), _SLOPE))
        return x + _RESIDUAL * self.get_submodule("conv5")(torch.cat(parts, dim=1))


class RRDB(nn.Module):
    """Three dense blocks in a row; a fifth of their result is added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth)
        self.rdb2 = DenseBlock(channels, growth)
        self.rdb3 = DenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        return x + _RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """`blocks` RRDBs with a long shortcut, then nearest enlargement by 2 and a convolution for each stage.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`. H and W are multiples of `unshuffle`.

    Args:
        scale: 1, 2, 4 or 8.
        channels, blocks, growth: width, number of RRDBs (23; 6 in the small animation model), maps that a convolution adds.
        unshuffle: pixel-unshuffle of the input; None takes 4 for scale 1, 2 for scale 2 and 1 otherwise, as Real-ESRGAN
            does. The first ESRGAN models of scales 1 and 2 have 1.
    """

    def __init__(
        self, scale: int = 4, channels: int = 64, blocks: int = 23, growth: int = 32, unshuffle: int | None = None
    ) -> None:
        super().__init__()
        if unshuffle is None:
            unshuffle = max(1, 4 // scale)
        if scale not in (1, 2, 4, 8) or unshuffle not in (1, 2, 4):
            raise UsageError(f"RRDBNet enlarges by 1, 2, 4 or 8, not by {scale} (unshuffle {unshuffle}).")
        self.unshuffle = unshuffle
        self.stages = int(math.log2(scale * unshuffle))
        # at the body's resolution: its own convolutions, one a stage, two behind the last stage
        reach = math.ceil(2 + 15 * blocks + sum(0.5**n for n in range(1, self.stages + 1)) + 2 * 0.5**self.stages)
        self.spec = NetworkSpec(
            task="super-resolution" if scale > 1 else "mixed",
            scales=(scale,),
            multiple_of=unshuffle,
            minimum=unshuffle,
            tiling=exact(reach) if unshuffle == 1 else aligned(unshuffle, unshuffle * reach),
            source="Wang et al., ECCVW 2018 and ICCVW 2021",
        )
        self.conv_first = nn.Conv2d(3 * unshuffle**2, channels, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(channels, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1)
        for n in range(1, self.stages + 1):
            self.add_module(f"conv_up{n}", nn.Conv2d(channels, channels, 3, padding=1))
        self.conv_hr = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)
        damp(self.body)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x)
        x = x + self.conv_body(self.body(x))
        for n in range(1, self.stages + 1):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(self.get_submodule(f"conv_up{n}")(x), _SLOPE)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE))

    @staticmethod
    def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The names of this class for a state dict in ESRGAN's two earlier layouts: numbered (`model.0`, `model.1.sub.0`)
        and named (`RRDB_trunk.0`, `trunk_conv`). Any other comes back as it is."""
        if "model.0.weight" in state and "model.1.sub.0.RDB1.conv1.0.weight" in state:
            return _from_numbers(state)
        if "RRDB_trunk.0.RDB1.conv1.weight" not in state:
            return dict(state)
        return rename(
            state,
            (
                (r"RRDB_trunk\.(\d+)\.RDB(\d)\.(conv\d)\.(\w+)", r"body.\1.rdb\2.\3.\4"),
                (r"trunk_conv\.(\w+)", r"conv_body.\1"),
                (r"upconv(\d)\.(\w+)", r"conv_up\1.\2"),
                (r"HRconv\.(\w+)", r"conv_hr.\1"),
            ),
        )


def _from_numbers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbered layout: 0 first convolution, 1 body, then the upsampling convolutions, and the two last."""
    behind = sorted(int(found[1]) for key in state if (found := re.fullmatch(r"model\.(\d+)\.weight", key)))[1:]
    *stages, high, last = behind
    names = {0: "conv_first", high: "conv_hr", last: "conv_last"}
    names |= {index: f"conv_up{n}" for n, index in enumerate(stages, start=1)}
    return rename(
        state,
        (
            (r"model\.1\.sub\.(\d+)\.RDB(\d)\.(conv\d)\.0\.(\w+)", r"body.\1.rdb\2.\3.\4"),
            (r"model\.1\.sub\.\d+\.(weight|bias)", r"conv_body.\1"),
            *((rf"model\.{index}\.(\w+)", rf"{name}.\1") for index, name in names.items()),
        ),
    )


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not ("body.0.rdb1.conv1.weight" in state or any(".RDB1." in key for key in state)):
        return None
    state = RRDBNet.convert_state(state)
    first, dense = state.get("conv_first.weight"), state.get("body.0.rdb1.conv1.weight")
    if first is None or dense is None or not {"conv_body.weight", "conv_hr.weight", "conv_last.weight"} <= state.keys():
        return None
    unshuffle = math.isqrt(first.shape[1] // 3)
    blocks = count_blocks(state, "body.{}.rdb3.conv5.weight")
    stages = 0
    while f"conv_up{stages + 1}.weight" in state:
        stages += 1
    convolutions = 15 * blocks + stages + 4
    if first.shape[1] != 3 * unshuffle**2 or state["conv_last.weight"].shape[0] != 3 or 2**stages < unshuffle:
        return None
    if len(state) != 2 * convolutions:  # dense blocks with further layers are another network
        return None
    return {
        "scale": 2**stages // unshuffle,
        "channels": first.shape[0],
        "blocks": blocks,
        "growth": dense.shape[0],
        "unshuffle": unshuffle,
    }


FAMILY = Family(
    name="rrdbnet",
    build=RRDBNet,
    variants={
        **{f"rrdbnet_x{s}": {"scale": s, "unshuffle": 4 // s} for s in (1, 2, 4)},
        **{f"esrgan_x{s}": {"scale": s, "unshuffle": 1} for s in (1, 2, 8)},
        "rrdbnet_6b_x4": {"scale": 4, "blocks": 6, "unshuffle": 1},
    },
    identify=_identify,
    paper="ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks (ECCVW 2018)",
)

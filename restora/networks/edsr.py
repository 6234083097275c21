"""EDSR: a wide residual network without batch normalisation that enlarges at its end.

Lim, Son, Kim, Nah, Lee: Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPR Workshops 2017; the
efficiency thesis, chapters 3 to 5 (x8 of table 3.1; the form without upsampler for restoration, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.layers import upsampled_radius
from restora.networks.registry import Family
from restora.networks.resblocks import (
    MEAN_SHIFT_RULE,
    LinearUpsampler,
    Normalised,
    ResidualBlock,
    count_blocks,
    damp,
    rename,
    scale_of,
)
from restora.networks.spec import NetworkSpec, exact


class EDSR(Normalised):
    """A 3x3 convolution, `blocks` residual blocks, a 3x3 convolution with a global residual, pixel-shuffle upsampling, and
    a 3x3 convolution to colour.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`. Inside, pictures are (x - mean colour of DIV2K)
    times 255.

    Args:
        scale: 1, 2, 3, 4 or 8; 1 has no upsampler and is the form for denoising and artefact removal.
        channels, blocks: 64 and 16 in the baseline, 256 and 32 in the large network.
        residual_factor: factor of each block's residual branch; 0.1 keeps the large network's training stable.
    """

    def __init__(self, scale: int, channels: int = 64, blocks: int = 16, residual_factor: float = 1.0) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="super-resolution" if scale > 1 else "mixed",
            scales=(scale,),
            tiling=exact(math.ceil(2 + 2 * blocks + upsampled_radius(scale))),
            source="Lim et al., CVPRW 2017",
        )
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels, residual_factor) for _ in range(blocks)))
        self.conv_after_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsample = LinearUpsampler(channels, scale)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)
        if residual_factor == 1:
            damp(self.body)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(self.normalise(x))
        x = x + self.conv_after_body(self.body(x))
        return self.denormalise(self.conv_last(self.upsample(x)))

    @staticmethod
    def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The names of this class for a state dict in the layout of the authors' own program (`head`, `body`, `tail`,
        frozen mean shifts); any other comes back as it is."""
        if "head.0.weight" not in state or "body.0.body.2.weight" not in state:
            return dict(state)
        return rename(
            state,
            (
                MEAN_SHIFT_RULE,
                (r"head\.0\.(\w+)", r"conv_first.\1"),
                (r"body\.(\d+)\.body\.0\.(\w+)", r"body.\1.conv1.\2"),
                (r"body\.(\d+)\.body\.2\.(\w+)", r"body.\1.conv2.\2"),
                (r"body\.\d+\.(weight|bias)", r"conv_after_body.\1"),
                (r"tail\.0\.(\d+)\.(\w+)", r"upsample.\1.\2"),
                (r"tail\.1\.(\w+)", r"conv_last.\1"),
            ),
        )


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    state = EDSR.convert_state(state)
    first = state.get("conv_first.weight")
    if first is None or not {"body.0.conv2.weight", "conv_after_body.weight", "conv_last.weight"} <= state.keys():
        return None
    if tuple(first.shape[1:]) != (3, 3, 3) or state["conv_last.weight"].shape[0] != 3:
        return None
    blocks, scale = count_blocks(state, "body.{}.conv1.weight"), scale_of(state, "upsample")
    if len(state) != 2 * (2 * blocks + 3) + sum(key.startswith("upsample.") for key in state):
        return None
    # the factor of the residual branch leaves no trace in the shapes
    return {"scale": scale, "channels": first.shape[0], "blocks": blocks}


_LARGE = {"channels": 256, "blocks": 32, "residual_factor": 0.1}

FAMILY = Family(
    name="edsr",
    build=EDSR,
    variants={
        **{f"edsr_baseline_x{s}": {"scale": s} for s in (2, 3, 4)},
        **{f"edsr_x{s}": {"scale": s, **_LARGE} for s in (2, 3, 4, 8)},
    },
    identify=_identify,
    paper="Enhanced Deep Residual Networks for Single Image Super-Resolution (CVPRW 2017)",
)

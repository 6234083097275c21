"""SRRUNet: one network for every enlargement up to 16, a DRUNet whose extra channel says how much the picture was enlarged.

Source document: the survey thesis on deep restoration, section on its own non-blind method (specification section 2.5,
equations 5.4 and 5.5). No weights were published; those of a colour DRUNet, from which the thesis starts, load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.networks.drunet import WIDTHS, ResUNet, unet_config, unet_steps
from restora.networks.noise_levels import fits, reach
from restora.networks.registry import Family
from restora.networks.spec import Control, NetworkSpec, aligned
from restora.networks.window_attention import reflect_to_multiple


class SRRUNet(ResUNet):
    """Sharpens a picture that was enlarged, at its size; the engine enlarges one that was not (bicubic) and tells the scale.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> the same; any size (mirrored to a multiple of 8 inside).

    The level that the network sees is `(factor - 1) / 16`, the same everywhere: 0 for a picture at its own size, 0.9375 for one
    enlarged sixteen times.

    Args:
        widths, blocks: of the U-Net, as `DRUNet`.
        largest: the factor that would give the level 1 (sf_max).
    """

    largest_factor: Tensor

    def __init__(self, widths: Sequence[int] = WIDTHS, blocks: int = 4, largest: int = 16) -> None:
        super().__init__(4, 3, widths, blocks)
        factor = Control(
            "factor",
            "how many times the picture was enlarged before, if not by this scale alone",
            low=1.0,
            high=float(largest),
            optional=True,
        )
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(*range(2, largest + 1), 1),
            grid="output",
            tiling=aligned(8, reach(unet_steps(blocks), 8)),
            multiple_of=8,
            controls=(factor,),
            source="the survey thesis, equations 5.4 and 5.5",
        )
        # the only difference to a DRUNet's layout, so that weights are not taken for a denoiser's
        self.register_buffer("largest_factor", torch.tensor(float(largest)))

    def convert_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Accepts the weights of a colour DRUNet."""
        return {"largest_factor": self.largest_factor, **state}

    def level(self, factor: float) -> float:
        """Equation 5.4, for a factor from 1 to the largest.

        Raises:
            UsageError: a factor outside.
        """
        largest = self.spec.scales[-2]
        if not 1 <= factor <= largest:
            raise UsageError(f"SRRUNet knows enlargements from 1 to {largest}; {factor:g} was asked.")
        return (factor - 1) / largest

    def forward(self, x: Tensor, scale: int = 1, factor: float | None = None) -> Tensor:
        """Sharpens what was enlarged `factor` times (None: `scale`)."""
        level = self.level(scale if factor is None else factor)
        height, width = x.shape[-2:]
        x = reflect_to_multiple(x, 8)
        x = torch.cat([x, x.new_full((x.shape[0], 1, *x.shape[-2:]), level)], dim=1)
        return super().forward(x)[..., :height, :width]


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    unet = unet_config(state) if "largest_factor" in state else None
    if unet is None:
        return None
    config = {"widths": unet[0], "blocks": unet[1]}
    return config if fits(state, SRRUNet, config) else None


FAMILY = Family(
    name="srrunet",
    build=SRRUNet,
    variants={"srrunet": {"widths": WIDTHS, "blocks": 4}},
    identify=_identify,
    paper="the survey thesis on deep restoration, section 5",
)

"""The U-Net discriminator with spectral normalisation that trains Real-ESRGAN.

Wang, Xie, Dong, Shan: Real-ESRGAN, ICCV workshops 2021, section 3.3 and figure 6; after Schönfeld, Schiele, Khoreva, CVPR 2020.
DiffIR's adversarial stage uses the same. Keys are those of the published discriminators (`weight_orig`, `weight_u`, `weight_v`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from restora.networks.noise_levels import Step, reach
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned


class UNetDiscriminator(nn.Module):
    """A score for every pixel: `B x channels x H x W` -> logits `B x 1 x H x W`; H and W are multiples of 8.

    Args:
        channels: of the pictures. width: of the first layer, doubled three times.
        skips: add the encoder's maps to the decoder's.
    """

    def __init__(self, channels: int = 3, width: int = 64, skips: bool = True) -> None:
        super().__init__()
        self.skips = skips
        self.conv0 = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width, 2 * width, 4 * width, 8 * width]
        for n in (1, 2, 3):
            strided = nn.Conv2d(widths[n - 1], widths[n], 4, stride=2, padding=1, bias=False)
            self.add_module(f"conv{n}", spectral_norm(strided))
        for n, (wide, narrow) in enumerate([(8, 4), (4, 2), (2, 1), (1, 1), (1, 1)], start=4):
            self.add_module(
                f"conv{n}", spectral_norm(nn.Conv2d(wide * width, narrow * width, 3, padding=1, bias=False))
            )
        self.conv9 = nn.Conv2d(width, 1, 3, padding=1)
        # a 4x4 convolution of stride 2 reaches a pixel beyond the 2x2 of a "down", bilinear enlargement a pixel beyond an "up"
        down: list[Step] = [1, "down"]
        up: list[Step] = [1, "up", 1]
        tiling = aligned(8, reach([1, *3 * down, *3 * up, 3], 8))
        self.spec = NetworkSpec(
            task="discriminator",
            tiling=tiling,
            channels=channels,
            multiple_of=8,
            minimum=8,
            source="Wang et al., ICCV workshops 2021",
        )

    def forward(self, x: Tensor) -> Tensor:
        levels = [F.leaky_relu(self.conv0(x), 0.2)]
        for n in (1, 2, 3):
            levels.append(F.leaky_relu(self.get_submodule(f"conv{n}")(levels[-1]), 0.2))
        y = levels.pop()
        for n in (4, 5, 6):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = F.leaky_relu(self.get_submodule(f"conv{n}")(y), 0.2)
            skip = levels.pop()
            y = y + skip if self.skips else y
        for n in (7, 8):
            y = F.leaky_relu(self.get_submodule(f"conv{n}")(y), 0.2)
        return self.conv9(y)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, deepest = state.get("conv0.weight"), state.get("conv3.weight_orig")
    if first is None or deepest is None or "conv8.weight_u" not in state or "conv9.bias" not in state:
        return None
    width, channels = first.shape[:2]
    # whether maps are added leaves no trace in the weights
    return {"channels": channels, "width": width} if tuple(deepest.shape) == (8 * width, 4 * width, 4, 4) else None


FAMILY = Family(
    name="unet_discriminator",
    build=UNetDiscriminator,
    variants={"unet_discriminator": {"channels": 3, "width": 64}},
    identify=_identify,
    paper="Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCV workshops 2021)",
)

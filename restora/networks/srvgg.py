"""SRVGGNetCompact: the small networks of Real-ESRGAN, a plain stack of convolutions at low resolution.

Wang, Xie, Dong, Shan: Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, ICCV Workshops 2021, and
the models that its authors published later (general, animation video).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact

_SLOPE = 0.25  # of a PReLU below zero, before training


class SRVGGNetCompact(nn.Module):
    """A 3x3 convolution, `convolutions` more of the same width, one to `3 * scale^2` maps, a PReLU between any two; the pixel
    shuffle of the result is added to the nearest enlargement of the input.

    Shapes: `B x 3 x H x W` RGB in [0, 1] -> `B x 3 x scale*H x scale*W`.

    Args:
        scale: any whole number.
        channels, convolutions: 64 and 32 in the general model, 64 and 16 in those for animation.
    """

    def __init__(self, scale: int = 4, channels: int = 64, convolutions: int = 16) -> None:
        super().__init__()
        self.scale = scale
        self.spec = NetworkSpec(
            task="super-resolution" if scale > 1 else "mixed",
            scales=(scale,),
            tiling=exact(convolutions + 2),
            source="Wang et al., ICCVW 2021",
        )
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
        layers.append(nn.Conv2d(channels, 3 * scale * scale, 3, padding=1))
        self.body = nn.Sequential(*layers)
        # torch's own start shrinks the signal at every layer: 16 of them leave a millionth, and nothing to learn from
        for layer in layers[:-1:2]:
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            layers[-1].weight.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.body(x), self.scale)
        return y + F.interpolate(x, scale_factor=float(self.scale), mode="nearest")


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, slopes = state.get("body.0.weight"), state.get("body.1.weight")
    if first is None or slopes is None or first.ndim != 4 or slopes.ndim != 1 or tuple(first.shape[1:]) != (3, 3, 3):
        return None
    if not all(re.fullmatch(r"body\.\d+\.(weight|bias)", key) for key in state):
        return None
    layers = [w for k, w in state.items() if k.endswith("weight")]
    convolutions = [w for w in layers if w.ndim == 4]
    last = state.get(f"body.{len(layers) - 1}.weight")
    # convolutions (with bias) and PReLUs (without) take turns
    if last is None or len(layers) != 2 * len(convolutions) - 1 or len(state) != 3 * len(convolutions) - 1:
        return None
    scale = math.isqrt(last.shape[0] // 3)
    if last.ndim != 4 or tuple(last.shape) != (3 * scale * scale, first.shape[0], 3, 3):
        return None
    return {"scale": scale, "channels": first.shape[0], "convolutions": len(convolutions) - 2}


FAMILY = Family(
    name="srvgg",
    build=SRVGGNetCompact,
    variants={
        "srvgg_general_x4": {"scale": 4, "convolutions": 32},
        "srvgg_anime_x4": {"scale": 4, "convolutions": 16},
        "srvgg_anime_x2": {"scale": 2, "convolutions": 16},
    },
    identify=_identify,
    paper="Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data (ICCVW 2021)",
)

"""DnCNN and FDnCNN: plain stacks of 3x3 convolutions that predict the noise, or with a noise-level map the clean picture.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising, IEEE TIP 2017.
Source document: the efficiency report, section 3.6 (comparison on spatially heterogeneous distortions). The published weights
have batch normalisation merged into the convolutions; the form with it is what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.noise_levels import convolutions, fits, noise_map, sigma_control
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact

_IRCNN_DEPTH = 7  # the depth of a dilated denoiser with the same keys, see ircnn.py


class DnCNN(nn.Module):
    """DnCNN, and FDnCNN when `noise_map` is set.

    Shapes: `B x C x H x W` in [0, 1] -> the same. The published call of FDnCNN takes `B x (C + 1) x H x W`, whose last channel
    is sigma / 255; `restore` builds it.

    Args:
        channels: 1 for grey pictures, 3 for RGB.
        depth: convolutions (17; 20 in the blind and in the flexible networks). features: their width.
        norm: batch normalisation between the inner convolutions and their ReLUs (eps 1e-4, as published).
        noise_map: FDnCNN: sigma in 0..75 is a control, and the network returns the picture instead of the noise.
    """

    def __init__(
        self, channels: int = 1, depth: int = 17, features: int = 64, norm: bool = False, noise_map: bool = False
    ) -> None:
        super().__init__()
        self.noise_map = noise_map
        self.spec = NetworkSpec(
            task="denoise",
            channels=channels,
            colour="grey" if channels == 1 else "rgb",
            tiling=exact(depth),
            controls=(sigma_control(75),) if noise_map else (),
            source="Zhang et al., IEEE TIP 2017",
        )
        layers: list[nn.Module] = [nn.Conv2d(channels + noise_map, features, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(features, features, 3, padding=1))
            if norm:
                layers.append(nn.BatchNorm2d(features, eps=1e-4, momentum=0.9))
            layers.append(nn.ReLU(inplace=True))
        self.model = nn.Sequential(*layers, nn.Conv2d(features, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.noise_map else x - self.model(x)

    def restore(self, x: Tensor, sigma: float | Tensor = 25.0) -> Tensor:
        """Removes noise; only FDnCNN looks at `sigma` (0-255 scale, a number or a map of the picture's size)."""
        return self(torch.cat([x, noise_map(x, sigma)], dim=1) if self.noise_map else x)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    weights = convolutions(state)
    if len(weights) < 3 or len(weights) == _IRCNN_DEPTH:
        return None
    channels = weights[-1].shape[0]
    config = {
        "channels": channels,
        "depth": len(weights),
        "features": weights[0].shape[0],
        "norm": any(key.endswith("running_var") for key in state),
        "noise_map": weights[0].shape[1] == channels + 1,
    }
    return config if channels in (1, 3) and fits(state, DnCNN, config) else None


FAMILY = Family(
    name="dncnn",
    build=DnCNN,
    variants={
        "dncnn_gray": {"norm": True},
        "dncnn_gray_r": {},
        "dncnn_gray_blind": {"depth": 20},
        "dncnn_color_blind": {"channels": 3, "depth": 20},
        "fdncnn_gray": {"depth": 20, "noise_map": True},
        "fdncnn_color": {"channels": 3, "depth": 20, "noise_map": True},
    },
    identify=_identify,
    paper="Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising (IEEE TIP 2017)",
)

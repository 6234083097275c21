"""USRNet: deconvolution and super-resolution with a known kernel by unfolded half-quadratic splitting.

Zhang, Van Gool, Timofte: Deep Unfolding Network for Image Super-Resolution, CVPR 2020; the survey, section 2.6. Every
iteration solves the data equation in closed form by Fourier transforms and hands the result to a denoising U-Net; a small
network chooses both steps' parameters from noise level and scale. Trained for scales 1 to 4 and sigma up to 25.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.deconvolution import AnySizeUNet, DataStep, KernelNetwork, kernel_spec, transfer
from restora.networks.drunet import WIDTHS, unet_config, unet_steps
from restora.networks.noise_levels import fits, reach
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact, global_


class HyperParameters(nn.Module):
    """The network that turns noise level and scale into the iterations' parameters.

    Shapes: `B x 2 x 1 x 1` (sigma / 255 and the scale as it is) -> `B x 2n x 1 x 1`, positive: n times alpha, n times beta.

    Args:
        iterations: n. features: width of the two hidden layers.
    """

    def __init__(self, iterations: int = 8, features: int = 64) -> None:
        super().__init__()
        self.spec = NetworkSpec(task="part", tiling=exact(0), channels=2, source="Zhang et al., CVPR 2020")
        self.mlp = nn.Sequential(
            nn.Conv2d(2, features, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, 2 * iterations, 1),
            nn.Softplus(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) + 1e-6


class USRNet(KernelNetwork):
    """USRNet; see `KernelNetwork` for its call.

    Args:
        channels: of the picture. iterations: of the unfolding. widths, blocks: of the prior (`ResUNet`).
        features: width of the hyper-parameter network.
    """

    def __init__(
        self,
        channels: int = 3,
        iterations: int = 8,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 2,
        features: int = 64,
    ) -> None:
        super().__init__()
        self.iterations = iterations
        self.spec = kernel_spec(channels, global_(reach(unet_steps(blocks), 8), 8), "Zhang et al., CVPR 2020")
        self.p = AnySizeUNet(channels + 1, channels, widths, blocks)
        self.h = HyperParameters(iterations, features)

    def forward(self, y: Tensor, kernel: Tensor, scale: int, sigma: Tensor) -> Tensor:
        size = (y.shape[-2] * scale, y.shape[-1] * scale)
        step = DataStep(y, transfer(kernel, size), scale)
        x = F.interpolate(y, scale_factor=scale, mode="nearest")
        parameters = self.h(torch.cat([sigma, torch.full_like(sigma, scale)], dim=1))
        alphas, betas = parameters.unflatten(1, (2, self.iterations, 1)).unbind(1)
        for alpha, beta in zip(alphas.unbind(1), betas.unbind(1), strict=True):
            x = step(x, alpha)
            x = self.p(torch.cat([x, beta.expand(x.shape[0], 1, *size)], dim=1))
        return x


def _build(part: str = "", **config: Any) -> nn.Module:
    return HyperParameters(**config) if part == "hypa" else USRNet(**config)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    whole = "p.m_head.weight" in state
    last, first = (state.get(f"{'h.' if whole else ''}mlp.{n}.weight") for n in (4, 0))
    if last is None or first is None or last.ndim != 4:
        return None
    config: dict[str, Any] = {"iterations": last.shape[0] // 2, "features": first.shape[0]}
    if whole:
        unet = unet_config(state, "p.")
        if unet is None:
            return None
        config |= {"channels": state["p.m_tail.weight"].shape[0], "widths": unet[0], "blocks": unet[1]}
    config["part"] = "" if whole else "hypa"
    return config if fits(state, _build, config) else None


FAMILY = Family(
    name="usrnet",
    build=_build,
    variants={
        "usrnet": {"part": "", "channels": 3, "iterations": 8, "widths": WIDTHS, "blocks": 2, "features": 64},
        "usrnet_tiny": {
            "part": "",
            "channels": 3,
            "iterations": 6,
            "widths": (16, 32, 64, 64),
            "blocks": 2,
            "features": 64,
        },
        "usrnet_s": {
            "part": "",
            "channels": 3,
            "iterations": 5,
            "widths": (16, 32, 64, 96),
            "blocks": 2,
            "features": 64,
        },
        "usrnet_hypa_8": {"part": "hypa", "iterations": 8, "features": 64},
        "usrnet_hypa_6": {"part": "hypa", "iterations": 6, "features": 64},
    },
    identify=_identify,
    paper="Deep Unfolding Network for Image Super-Resolution (CVPR 2020)",
)

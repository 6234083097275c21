"""The one-pass network: denoiser, data equation in closed form, artefact remover, resolution module; jointly trainable.

The survey thesis on deep restoration proposes it as future work (specification section 5, item 7) and nobody has published it:
the data equation of USRNet is solved once, and what USRNet's one network does eight times over, three specialised ones do once
each. They can be trained apart (the denoiser is a DRUNet and the resolution module a SRRUNet, whose published weights fit) and
then together. An optional network chooses the parameters, as in USRNet; without it they follow DPIR's formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.deconvolution import (
    LARGEST_SCALE,
    AnySizeUNet,
    DataStep,
    KernelNetwork,
    enlarge,
    kernel_spec,
    transfer,
)
from restora.networks.drunet import WIDTHS, unet_config, unet_steps
from restora.networks.noise_levels import fits, reach
from restora.networks.registry import Family
from restora.networks.spec import global_

_LEAST_SIGMA, _WEIGHT = 0.255 / 255, 0.23  # of DPIR
_FIRST, _LAST = 49 / 255, 2 / 255
_START = 0.1  # of the deep features' part in a fresh U-Net's output


class Levels(nn.Module):
    """The weights of the estimate in the data equations, and the level map of the artefact remover.

    `alpha_j = 0.23 sigma^2 / sigma_j^2` with sigma_j spaced logarithmically from 49 to 2 on the 0-255 scale (DPIR), times a
    factor that the network learns from sigma and scale. A fresh network's factors are 1.

    Args:
        levels: how many alphas. features: width of the hidden layers; 0 leaves the network out.
    """

    def __init__(self, levels: int, features: int) -> None:
        super().__init__()
        self.levels = levels
        t = torch.linspace(0, 1, levels) if levels > 1 else torch.tensor([0.5])
        self.register_buffer("spacing", _FIRST * (_LAST / _FIRST) ** t, persistent=False)
        self.mlp = None
        if features:
            last = nn.Linear(features, levels + 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.mlp = nn.Sequential(nn.Linear(2, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU(), last)

    def forward(self, sigma: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """`B x 1 x 1 x 1` (divided by 255) -> alphas `levels x B x 1 x 1 x 1`, level `B x 1 x 1 x 1`."""
        known = sigma.reshape(-1, 1).clamp_min(_LEAST_SIGMA)
        # in logarithms, since sigma matters over three decades
        inputs = torch.cat([known.log10() + 2, torch.full_like(known, scale / 4)], 1)
        alphas = _WEIGHT * (known / self.spacing).square()  # type: ignore[operator]
        level = known
        if self.mlp is not None:
            factors = self.mlp(inputs).exp()
            alphas, level = alphas * factors[:, :-1], level * factors[:, -1:]
        return alphas.T[..., None, None, None], level[..., None, None]


class OnePass(KernelNetwork):
    """The one-pass network; see `KernelNetwork` for its call.

    Args:
        channels: of the picture.
        denoiser, artefacts, resolution: widths and residual blocks of the three U-Nets.
        levels: solutions of the data equation, from strongly to weakly regularised, that the artefact remover sees side by side
            (they share their transforms); 1 is the proposal to the letter.
        features: width of the network of parameters; 0 for none.
    """

    def __init__(
        self,
        channels: int = 3,
        denoiser: tuple[Sequence[int], int] = (WIDTHS, 4),
        artefacts: tuple[Sequence[int], int] = (WIDTHS, 2),
        resolution: tuple[Sequence[int], int] = (WIDTHS, 4),
        levels: int = 3,
        features: int = 64,
    ) -> None:
        super().__init__()
        radius = sum(reach(unet_steps(blocks), 8) for _, blocks in (denoiser, artefacts, resolution))
        self.spec = kernel_spec(channels, global_(radius, 8), "the survey thesis, future work; one-pass network")
        self.denoiser = AnySizeUNet(channels + 1, channels, *denoiser)
        self.hyper = Levels(levels, features)
        self.artefacts = AnySizeUNet(channels * (levels + 1) + 1, channels, *artefacts)
        self.resolution = AnySizeUNet(channels + 1, channels, *resolution)
        middle = channels * (levels // 2)
        for net, first in ((self.denoiser, 0), (self.artefacts, middle), (self.resolution, 0)):
            _begin_with_identity(net, first, channels)

    def forward(self, y: Tensor, kernel: Tensor, scale: int, sigma: Tensor) -> Tensor:
        return self.stages(y, kernel, scale, sigma)["resolution"]

    def stages(self, y: Tensor, kernel: Tensor, scale: int, sigma: Tensor) -> dict[str, Tensor]:
        """The result of every part by its name, for training them apart and for looking at: ``denoiser`` `B x C x H x W`;
        ``data`` (the solutions, `levels` times C channels), ``artefacts`` and ``resolution`` at sH x sW."""
        size = (y.shape[-2] * scale, y.shape[-1] * scale)

        def plane(level: Tensor | float, like: Tensor) -> Tensor:
            level = torch.as_tensor(level, dtype=y.dtype, device=y.device)
            return level.expand(len(y), 1, *like.shape[-2:])

        clean = self.denoiser(torch.cat([y, plane(sigma, y)], 1))
        start = enlarge(clean, scale)
        alphas, level = self.hyper(sigma.expand(len(y), 1, 1, 1), scale)
        solutions = DataStep(clean, transfer(kernel, size), scale)(start, alphas)
        data = solutions.transpose(0, 1).flatten(1, 2)
        smooth = self.artefacts(torch.cat([data, start, plane(level, start)], 1))
        factor = (scale - 1) / LARGEST_SCALE  # SRRUNet's level, equation 5.4
        sharp = self.resolution(torch.cat([smooth, plane(factor, smooth)], 1))
        return {"denoiser": clean, "data": data, "artefacts": smooth, "resolution": sharp}


def _begin_with_identity(net: AnySizeUNet, first: int, channels: int) -> None:
    """A fresh U-Net passes `channels` of its inputs, from `first` on, nearly unchanged: training begins where the others'
    results are of use already. The deep part adds little at first."""
    with torch.no_grad():
        for i in range(channels):
            net.m_head.weight[i] = 0
            net.m_head.weight[i, first + i, 1, 1] = 1
        net.m_tail.weight.mul_(_START)
        net.m_tail.weight[:, :channels] = 0
        for i in range(channels):
            net.m_tail.weight[i, i, 1, 1] = 1
        net.m_up1[0].weight.mul_(_START)  # type: ignore[union-attr, operator]


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    parts = {name: unet_config(state, f"{name}.") for name in ("denoiser", "artefacts", "resolution")}
    if None in parts.values():
        return None
    channels = state["resolution.m_tail.weight"].shape[0]
    hidden = state.get("hyper.mlp.0.weight")
    config: dict[str, Any] = {
        "channels": channels,
        **parts,
        "levels": (state["artefacts.m_head.weight"].shape[1] - 1) // channels - 1,
        "features": 0 if hidden is None else hidden.shape[0],
    }
    return config if fits(state, OnePass, config) else None


FAMILY = Family(
    name="onepass",
    build=OnePass,
    variants={
        "onepass": {
            "channels": 3,
            "denoiser": (WIDTHS, 4),
            "artefacts": (WIDTHS, 2),
            "resolution": (WIDTHS, 4),
            "levels": 3,
            "features": 64,
        },
        "onepass_s": {
            "channels": 3,
            "denoiser": ((16, 28, 48, 64), 1),
            "artefacts": ((20, 36, 56, 72), 2),
            "resolution": ((16, 28, 48, 64), 1),
            "levels": 3,
            "features": 32,
        },
    },
    identify=_identify,
    paper="the survey thesis on deep restoration, future work: a one-pass non-blind network",
)

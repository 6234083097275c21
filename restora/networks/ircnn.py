"""IRCNN: seven dilated convolutions that predict the noise, one small network for each of 25 noise levels.

Zhang, Zuo, Gu, Zhang: Learning Deep CNN Denoiser Prior for Image Restoration, CVPR 2017. Made as the prior of plug-and-play
methods, which ask for a falling sequence of noise levels. A published file holds 25 state dicts under the names "0" to "24";
number n was trained for sigma 2n + 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.noise_levels import convolutions, fits, sigma_control
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact

DILATIONS = (1, 2, 3, 4, 3, 2, 1)
LEVELS = 25


class IRCNN(nn.Module):
    """The denoiser of one noise level.

    Shapes: `B x C x H x W` in [0, 1] -> the same.

    Args:
        channels: 1 for grey pictures, 3 for RGB. features: width.
    """

    def __init__(self, channels: int = 1, features: int = 64) -> None:
        super().__init__()
        self.spec = _spec(channels)
        widths = [channels, *[features] * (len(DILATIONS) - 1), channels]
        layers: list[nn.Module] = []
        for number, dilation in enumerate(DILATIONS):
            layers.append(nn.Conv2d(widths[number], widths[number + 1], 3, padding=dilation, dilation=dilation))
            layers.append(nn.ReLU(inplace=True))
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x - self.model(x)


class IRCNNBank(nn.Module):
    """The 25 denoisers together; `sigma` chooses one.

    Shapes: as `IRCNN`. The state dict has the keys of the 25, each behind its number and a point (`0.model.0.weight`);
    `convert_state` takes the published dict of dicts too.
    """

    def __init__(self, channels: int = 1, features: int = 64, levels: int = LEVELS) -> None:
        super().__init__()
        self.levels = levels
        self.spec = _spec(channels, 2.0 * levels)
        for number in range(levels):
            self.add_module(str(number), IRCNN(channels, features))

    def denoiser(self, sigma: float) -> nn.Module:
        """The network for a noise level on the 0-255 scale: number ceil(sigma / 2) - 1, within those there are."""
        # levels that come from sigma / 255 * 255 may stand a rounding error above an even number
        return self.get_submodule(str(min(max(math.ceil(float(sigma) / 2 - 1e-6) - 1, 0), self.levels - 1)))

    def forward(self, x: Tensor, sigma: float = 25.0) -> Tensor:
        return self.denoiser(sigma)(x)

    @staticmethod
    def convert_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
        """The bank's own keys for a dict of 25 state dicts; its own are left as they are."""
        flat: dict[str, Tensor] = {}
        for key, value in state.items():
            flat.update(
                {f"{key}.{name}": t for name, t in value.items()} if isinstance(value, Mapping) else {key: value}
            )
        return flat


def _spec(channels: int, sigma_max: float | None = None) -> NetworkSpec:
    return NetworkSpec(
        task="denoise",
        channels=channels,
        colour="grey" if channels == 1 else "rgb",
        tiling=exact(sum(DILATIONS)),
        controls=() if sigma_max is None else (sigma_control(sigma_max, spatial=False),),
        source="Zhang et al., CVPR 2017",
    )


def _build(bank: bool = False, **config: Any) -> nn.Module:
    return IRCNNBank(**config) if bank else IRCNN(**config)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    bank = "0.model.0.weight" in state
    part = {key[2:]: value for key, value in state.items() if key.startswith("0.")} if bank else state
    weights = convolutions(part)
    if len(weights) != len(DILATIONS):
        return None
    config: dict[str, Any] = {"bank": bank, "channels": weights[-1].shape[0], "features": weights[0].shape[0]}
    if bank and (levels := len({key.partition(".")[0] for key in state})) != LEVELS:
        config["levels"] = levels
    return config if config["channels"] in (1, 3) and fits(state, _build, config) else None


FAMILY = Family(
    name="ircnn",
    build=_build,
    variants={
        "ircnn_gray": {"channels": 1, "features": 64},
        "ircnn_color": {"channels": 3, "features": 64},
        "ircnn_gray_bank": {"bank": True, "channels": 1, "features": 64},
        "ircnn_color_bank": {"bank": True, "channels": 3, "features": 64},
    },
    identify=_identify,
    paper="Learning Deep CNN Denoiser Prior for Image Restoration (CVPR 2017)",
)

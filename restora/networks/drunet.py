"""DRUNet: a residual U-Net without biases that denoises by a noise-level map, and a blind form that predicts the map.

Zhang, Li, Zuo, Zhang, Van Gool, Timofte: Plug-and-Play Image Restoration with Deep Denoiser Prior, IEEE TPAMI 2021; the survey,
sections 2.5 and 2.7. The blind form is the survey's future work (section 5, item 4): a second network predicts the noise level
of every pixel; its shape (five 3x3 convolutions of 32 features) is that of the estimator in Guo et al., CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.noise_levels import Step, fits, noise_map, reach, sigma_control
from restora.networks.registry import Family
from restora.networks.spec import Control, NetworkSpec, Task, aligned

WIDTHS = (64, 128, 256, 512)


class ResidualBlock(nn.Module):
    """`x + conv(relu(conv(x)))`, 3x3, without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res(x)


class ResUNet(nn.Module):
    """The U-Net of DRUNet and USRNet: four resolutions, residual blocks, 2x2 convolutions down and up, skips by addition.

    Shapes: `B x inputs x H x W` -> `B x outputs x H x W`; H and W are multiples of 8.

    Args:
        inputs, outputs: channels. widths: features at the four resolutions. blocks: residual blocks a stage.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int] = WIDTHS, blocks: int = 4) -> None:
        super().__init__()
        a, b, c, d = widths

        def stage(width: int) -> list[nn.Module]:
            return [ResidualBlock(width) for _ in range(blocks)]

        def down(narrow: int, wide: int) -> nn.Sequential:
            return nn.Sequential(*stage(narrow), nn.Conv2d(narrow, wide, 2, stride=2, bias=False))

        def up(wide: int, narrow: int) -> nn.Sequential:
            return nn.Sequential(nn.ConvTranspose2d(wide, narrow, 2, stride=2, bias=False), *stage(narrow))

        self.m_head = nn.Conv2d(inputs, a, 3, padding=1, bias=False)
        self.m_down1, self.m_down2, self.m_down3 = down(a, b), down(b, c), down(c, d)
        self.m_body = nn.Sequential(*stage(d))
        self.m_up3, self.m_up2, self.m_up1 = up(d, c), up(c, b), up(b, a)
        self.m_tail = nn.Conv2d(a, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.m_head(x)
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        x = self.m_up3(self.m_body(x4) + x4)
        x = self.m_up1(self.m_up2(x + x3) + x2)
        return self.m_tail(x + x1)


def unet_steps(blocks: int) -> list[Step]:
    """The layers of a `ResUNet` along its longest path, for `reach`."""
    stage = 2 * blocks
    down, up = [stage, "down"] * 3, ["up", stage] * 3
    return [1, *down, stage, *up, 1]  # type: ignore[list-item]


class DRUNet(ResUNet):
    """DRUNet: the published call takes the picture and sigma / 255 as a last channel, `B x (C + 1) x H x W` in [0, 1].

    Shapes: `restore` takes `B x C x H x W`; H and W are multiples of 8. It cleans noise up to sigma 200, though it was trained
    up to 50 (survey, section 2.5).

    Args:
        channels: 1 for grey pictures, 3 for RGB. widths, blocks: of the U-Net.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = WIDTHS, blocks: int = 4) -> None:
        super().__init__(channels + 1, channels, widths, blocks)
        self.spec = _spec(channels, reach(unet_steps(blocks), 8), sigma_control(255))

    def restore(self, x: Tensor, sigma: float | Tensor = 25.0) -> Tensor:
        """Removes noise of standard deviation `sigma` (0-255 scale; a number or a map of the picture's size)."""
        return self(torch.cat([x, noise_map(x, sigma)], dim=1))


class BlindDRUNet(nn.Module):
    """DRUNet behind a small network that predicts the noise level of every pixel.

    Shapes: `B x C x H x W` in [0, 1] -> the same; H and W are multiples of 8. The weights of a DRUNet load into `denoiser`.

    Args:
        channels, widths, blocks: as `DRUNet`.
        estimator_depth, estimator_features: 3x3 convolutions of the predictor and their width.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 4,
        estimator_depth: int = 5,
        estimator_features: int = 32,
    ) -> None:
        super().__init__()
        radius = reach([estimator_depth, *unet_steps(blocks)], 8)
        factor = Control(
            "factor", "factor on the predicted noise level: below 1 keeps grain", default=1.0, low=0.0, high=3.0
        )
        self.spec = _spec(channels, radius, factor)
        width = estimator_features
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        for _ in range(estimator_depth - 2):
            layers += [nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)]
        self.estimator = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Conv2d(width, 1, 3, padding=1))
        self.denoiser = ResUNet(channels + 1, channels, widths, blocks)

    def estimate(self, x: Tensor) -> Tensor:
        """The predicted noise level, `B x 1 x H x W`, positive, divided by 255. Its training target is the true map."""
        # softplus, because a ReLU that starts out negative everywhere would never learn; 0.1 is the scale of noise
        return 0.1 * F.softplus(self.estimator(x))

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """Denoises by the predicted level, or by `level` (`B x 1 x H x W`, divided by 255) if that is given."""
        return self.denoiser(torch.cat([x, self.estimate(x) if level is None else level], dim=1))

    def restore(self, x: Tensor, factor: float = 1.0) -> Tensor:
        """Removes noise of unknown and varying strength; `factor` scales what was predicted."""
        return self(x, self.estimate(x) * factor)


class UnconditionedDRUNet(ResUNet):
    """The U-Net of DRUNet without a map, added to its input: our small network against JPEG, which sees the quality by itself.

    Shapes: `B x C x H x W` in [0, 1] -> the same; H and W are multiples of 8.

    Args:
        channels, widths, blocks: as `DRUNet`.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = WIDTHS, blocks: int = 4) -> None:
        super().__init__(channels, channels, widths, blocks)
        self.spec = _spec(channels, reach(unet_steps(blocks), 8), task="dejpeg")

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _spec(channels: int, radius: int, *controls: Control, task: Task = "denoise") -> NetworkSpec:
    return NetworkSpec(
        task=task,
        channels=channels,
        colour="grey" if channels == 1 else "rgb",
        tiling=aligned(8, radius),
        multiple_of=8,
        controls=controls,
        source="Zhang et al., IEEE TPAMI 2021",
    )


def _build(blind: bool = False, conditioned: bool = True, **config: Any) -> nn.Module:
    if not conditioned:
        return UnconditionedDRUNet(**config)
    return BlindDRUNet(**config) if blind else DRUNet(**config)


def unet_config(state: Mapping[str, Tensor], prefix: str = "") -> tuple[tuple[int, ...], int] | None:
    """Widths and blocks of the `ResUNet` behind a prefix; None when there is none."""
    names = [f"{prefix}{name}.weight" for name in ("m_head", "m_tail")]
    names += [f"{prefix}m_body.0.res.{n}.weight" for n in (0, 2)]
    blocks = sum(key.startswith(f"{prefix}m_body.") and key.endswith(".res.0.weight") for key in state)
    downs = [f"{prefix}m_down{n}.{blocks}.weight" for n in (1, 2, 3)]
    if not {*names, *downs} <= state.keys():
        return None
    return (state[names[0]].shape[0], *(state[key].shape[0] for key in downs)), blocks


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    blind = "estimator.0.weight" in state
    unet = unet_config(state, "denoiser." if blind else "")
    if unet is None:
        return None
    channels = state["denoiser.m_tail.weight" if blind else "m_tail.weight"].shape[0]
    conditioned = blind or state["m_head.weight"].shape[1] > channels
    config: dict[str, Any] = {"blind": blind, "conditioned": conditioned, "channels": channels}
    config |= {"widths": unet[0], "blocks": unet[1]}
    if blind:
        config["estimator_depth"] = sum(key.startswith("estimator.") and key.endswith("weight") for key in state)
        config["estimator_features"] = state["estimator.0.weight"].shape[0]
    return config if channels in (1, 3) and fits(state, _build, config) else None


_PUBLISHED: dict[str, Any] = {"conditioned": True, "widths": WIDTHS, "blocks": 4}
_SMALL: dict[str, Any] = {"widths": (32, 48, 64, 96), "blocks": 2}
_ESTIMATOR = {"blind": True, "estimator_depth": 5, "estimator_features": 32}

FAMILY = Family(
    name="drunet",
    build=_build,
    variants={
        "drunet_color": {"channels": 3, **_PUBLISHED},
        "drunet_gray": {"channels": 1, **_PUBLISHED},
        "drunet_s": {"conditioned": True, "channels": 3, **_SMALL},
        "dejpeg_s": {"conditioned": False, "channels": 3, **_SMALL},
        "drunet_blind_color": {"channels": 3, **_PUBLISHED, **_ESTIMATOR},
        "drunet_blind_gray": {"channels": 1, **_PUBLISHED, **_ESTIMATOR},
    },
    identify=_identify,
    paper="Plug-and-Play Image Restoration with Deep Denoiser Prior (IEEE TPAMI 2021)",
)

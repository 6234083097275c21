"""RNAN: residual non-local attention network for denoising and JPEG repair.

Zhang, Li, Li, Zhong, Fu: Residual Non-local Attention Networks for Image Restoration, ICLR 2019; the efficiency thesis, section
3.3 (a backbone of the data-augmentation study, 9.0M parameters). The paper's equation normalises the non-local weights over the
positions that are looked at; the published code normalises them over the positions that look. The code's is the default,
because the weights were trained with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.noise_levels import Step, fits, reach
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

Form = Literal["published", "equation"]
_CHUNK = 1 << 24  # attention weights in memory at once

# one module: residual block; mask branch (residual block, down, two of them, up by a 6x6 kernel that reaches one pixel further,
# one more); two residual blocks and a convolution
_MODULE: list[Step] = [2, 2, 1, "down", 4, 1, "up", 2, 4, 1]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _NonLocal(nn.Module):
    """Embedded-Gaussian non-local block over all positions; it starts as the identity."""

    def __init__(self, channels: int, inner: int, form: Form) -> None:
        super().__init__()
        self.form = form
        self.g, self.theta, self.phi = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.W = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.W.weight)
        nn.init.zeros_(self.W.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (conv(x).flatten(2).mT for conv in (self.theta, self.phi, self.g))
        if self.form == "equation":
            y = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
        else:
            # every key's weights sum to one over the queries: any part of the keys can be finished by itself
            step = max(1, _CHUNK // query.shape[1]) if not query.is_meta else query.shape[1]
            parts = zip(key.split(step, 1), value.split(step, 1), strict=True)
            y = torch.zeros_like(query)
            for k, v in parts:
                y = y + (query @ k.mT).softmax(dim=1) @ v
        return x + self.W(y.mT.unflatten(2, x.shape[-2:]))


class _Trunk(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_Residual(channels), _Residual(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class _Mask(nn.Module):
    """Weights in (0, 1) for the trunk's features, from half resolution; with `non_local`, from the whole picture."""

    def __init__(self, channels: int, non_local: Form | None) -> None:
        super().__init__()
        first: list[nn.Module] = [_Residual(channels)]
        if non_local is not None:
            first.insert(0, _NonLocal(channels, channels // 2, non_local))
        self.MB_RB1 = nn.Sequential(*first)
        self.MB_Down = nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
        self.MB_RB2 = nn.Sequential(_Residual(channels), _Residual(channels))
        self.MB_Up = nn.Sequential(nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2))
        self.MB_RB3 = nn.Sequential(_Residual(channels))
        self.MB_1x1conv = nn.Sequential(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.MB_RB1(x)
        x = self.MB_RB3(x + self.MB_Up(self.MB_RB2(self.MB_Down(x))))
        return self.MB_1x1conv(x).sigmoid()


class _Attention(nn.Module):
    def __init__(self, channels: int, non_local: Form | None) -> None:
        super().__init__()
        self.RA_RB1 = nn.Sequential(_Residual(channels))
        self.RA_TB = nn.Sequential(_Trunk(channels))
        self.RA_MB = nn.Sequential(_Mask(channels, non_local))
        self.RA_tail = nn.Sequential(_Residual(channels), _Residual(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.RA_RB1(x)
        return self.RA_tail(x + self.RA_TB(x) * self.RA_MB(x))


class _Group(nn.Module):
    def __init__(self, channels: int, non_local: Form | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(_Attention(channels, non_local), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class RNAN(nn.Module):
    """RNAN for pictures that keep their size.

    Shapes: `B x channels x H x W` -> the same; H and W are even. The published call works on 0..255 (`rgb_range`), `restore` on
    [0, 1]. The two non-local blocks compare all pixels: time grows with the square of their number, memory does not.

    Args:
        channels: 1 or 3. task: "denoise", or "dejpeg" on luminance (studio range, as published).
        groups: attention modules, the first and the last of them non-local. features: width.
        form: what the non-local weights sum to one over: ``published`` the looking positions, ``equation`` those looked at.
        rgb_range: 255 as published.
    """

    def __init__(
        self,
        channels: int = 3,
        task: Literal["denoise", "dejpeg"] = "denoise",
        groups: int = 10,
        features: int = 64,
        form: Form = "published",
        rgb_range: float = 255.0,
    ) -> None:
        super().__init__()
        self.rgb_range = rgb_range
        one = "luma" if task == "dejpeg" else "grey"
        self.spec = NetworkSpec(
            task=task,
            channels=channels,
            colour=one if channels == 1 else "rgb",  # type: ignore[arg-type]
            multiple_of=2,
            minimum=2,
            tiling=global_(reach([1, *_MODULE * groups, 1, 1], 2), 2),
            half_safe=False,  # dot products of features on the 0-255 scale
            source="Zhang et al., ICLR 2019",
        )
        self.head = nn.Sequential(nn.Conv2d(channels, features, 3, padding=1))
        self.body_nl_low = nn.Sequential(_Group(features, form))
        plain = [_Group(features) for _ in range(groups - 2)]
        self.body = nn.Sequential(*plain, nn.Conv2d(features, features, 3, padding=1))
        self.body_nl_high = nn.Sequential(_Group(features, form))
        self.tail = nn.Sequential(nn.Conv2d(features, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.tail(self.body_nl_high(self.body(self.body_nl_low(self.head(x)))))

    def restore(self, x: Tensor) -> Tensor:
        """The network on pictures in [0, 1]."""
        return self(x * self.rgb_range) / self.rgb_range


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    head = state.get("head.0.weight")
    if head is None or "body_nl_low.0.body.0.RA_MB.0.MB_RB1.0.theta.weight" not in state:
        return None
    plain = sum(key.startswith("body.") and key.endswith(".RA_MB.0.MB_Down.0.weight") for key in state)
    config = {"channels": head.shape[1], "groups": plain + 2, "features": head.shape[0]}
    return config if config["channels"] in (1, 3) and fits(state, RNAN, config) else None


FAMILY = Family(
    name="rnan",
    build=RNAN,
    variants={
        "rnan_color_dn": {},
        "rnan_gray_dn": {"channels": 1},
        "rnan_jpeg_gray": {"channels": 1, "task": "dejpeg"},
    },
    identify=_identify,
    paper="Residual Non-local Attention Networks for Image Restoration (ICLR 2019)",
)

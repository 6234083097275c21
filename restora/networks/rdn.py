"""RDN: residual dense network, as a denoiser and JPEG repairer without upsampler, and for super-resolution.

Zhang, Tian, Kong, Zhong, Fu: Residual Dense Network for Image Super-Resolution, CVPR 2018, and for Image Restoration, IEEE TPAMI
2020; the efficiency thesis, section 3.3 (a backbone of the data-augmentation study, 22.0M parameters). Keys are those of the
PyTorch port in EDSR-PyTorch. No PyTorch layout of the restoration form was published: it has the same keys, with a single
convolution as `UPNet`, and adds the input back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restora.networks.layers import upsampled_radius, upsampling_steps
from restora.networks.noise_levels import fits
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, exact


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(channels, growth, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], dim=1)


class _ResidualDenseBlock(nn.Module):
    """Densely connected convolutions, a 1x1 fusion (LFF), plus the input."""

    def __init__(self, features: int, growth: int, layers: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(_DenseLayer(features + n * growth, growth) for n in range(layers)))
        self.LFF = nn.Conv2d(features + layers * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.LFF(self.convs(x)) + x


class RDN(nn.Module):
    """RDN with D blocks of C layers that add G features each.

    Shapes: `B x channels x H x W` -> `B x channels x sH x sW`. The published call of the super-resolution form works on 0..255
    (`rgb_range`); `restore` works on [0, 1].

    Args:
        scale: 2, 3 or 4; 1 is the restoration form.
        channels: 1 or 3. task: of the restoration form: "denoise", or "dejpeg" on luminance (studio range, as published).
        blocks, layers, growth: D, C and G (16, 8, 64: configuration B). features: G0.
        rgb_range: what white is in the published call: 255 for super-resolution, 1 for restoration when None.
    """

    def __init__(
        self,
        scale: int = 1,
        channels: int = 3,
        task: Literal["denoise", "dejpeg"] = "denoise",
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
        features: int = 64,
        rgb_range: float | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.rgb_range = rgb_range if rgb_range is not None else 255.0 if scale > 1 else 1.0
        one = "luma" if task == "dejpeg" or scale > 1 else "grey"
        self.spec = NetworkSpec(
            task="super-resolution" if scale > 1 else task,
            scales=(scale,),
            channels=channels,
            colour=one if channels == 1 else "rgb",  # type: ignore[arg-type]
            tiling=exact(math.ceil(3 + blocks * layers + upsampled_radius(scale))),
            source="Zhang et al., CVPR 2018 and IEEE TPAMI 2020",
        )
        self.SFENet1 = nn.Conv2d(channels, features, 3, padding=1)
        self.SFENet2 = nn.Conv2d(features, features, 3, padding=1)
        self.RDBs = nn.ModuleList(_ResidualDenseBlock(features, growth, layers) for _ in range(blocks))
        self.GFF = nn.Sequential(nn.Conv2d(blocks * features, features, 1), nn.Conv2d(features, features, 3, padding=1))
        width, tail = features, []
        for step in upsampling_steps(scale):
            tail += [nn.Conv2d(width, growth * step * step, 3, padding=1), nn.PixelShuffle(step)]
            width = growth
        self.UPNet = nn.Sequential(*tail, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.SFENet1(x)
        y, parts = self.SFENet2(shallow), []
        for block in self.RDBs:
            y = block(y)
            parts.append(y)
        y = self.UPNet(self.GFF(torch.cat(parts, dim=1)) + shallow)
        return y if self.scale > 1 else y + x

    def restore(self, x: Tensor) -> Tensor:
        """The network on pictures in [0, 1]."""
        return self(x * self.rgb_range) / self.rgb_range


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first, grown, up = (state.get(f"{name}.weight") for name in ("SFENet1", "RDBs.0.convs.0.conv.0", "UPNet.0"))
    if first is None or grown is None or up is None or up.ndim != 4:
        return None
    growth = grown.shape[0]
    last = max(int(key.split(".")[1]) for key in state if key.startswith("UPNet."))
    config = {
        "scale": 1 if last == 0 else 4 if last == 4 else math.isqrt(up.shape[0] // growth),
        "channels": first.shape[1],
        "blocks": sum(key.endswith(".LFF.weight") for key in state),
        "layers": sum(key.startswith("RDBs.0.convs.") and key.endswith("weight") for key in state),
        "growth": growth,
        "features": first.shape[0],
    }
    if config["scale"] not in (1, 2, 3, 4):
        return None
    return config if config["channels"] in (1, 3) and fits(state, RDN, config) else None


FAMILY = Family(
    name="rdn",
    build=RDN,
    variants={
        "rdn_color_dn": {},
        "rdn_gray_dn": {"channels": 1},
        "rdn_jpeg_gray": {"channels": 1, "task": "dejpeg"},
        **{f"rdn_x{s}": {"scale": s} for s in (2, 3, 4)},
    },
    identify=_identify,
    paper="Residual Dense Network for Image Restoration (IEEE TPAMI 2020)",
)

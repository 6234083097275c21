"""The 70x70 patch discriminator, and several of them on an image pyramid.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, appendix 6.1.2; Wang, Liu,
Zhu, Tao, Kautz, Catanzaro: High-Resolution Image Synthesis, CVPR 2018, section 3.2 (three of them, on pictures reduced by 1, 2
and 4). DeblurGAN's critics (`deblurgan_critic`) and PCARN's pyramid (`pcarn_discriminator`) are of this kind
with the details of their papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned, global_
from restora.networks.swinir import count_layers

Normalisation = Literal["batch", "instance", "spectral", "none"]


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches: `B x channels x H x W` -> logits `B x 1 x h x w`, h about `H / 2^layers - 2`.

    Args:
        channels: of the pictures; 6 where a condition is concatenated.
        width: of the first layer, doubled up to eight times that.
        layers: 4x4 convolutions of stride 2, two of stride 1 follow; 3 see 70 x 70 pixels, 1 sees 16 x 16.
        normalisation: of all layers but the first and the last. ``instance`` suits batches of one, ``spectral`` normalises the
            weights of every layer instead.
        reduce: average pooling before the first layer.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        layers: int = 3,
        normalisation: Normalisation = "instance",
        reduce: int = 1,
    ) -> None:
        super().__init__()
        self.reduce = reduce
        self.layers = nn.ModuleList()
        before = channels
        for n in range(layers + 2):
            after = 1 if n == layers + 1 else width * min(2**n, 8)
            inner = 0 < n <= layers
            # batch normalisation has an offset of its own
            bias, stride = not inner or normalisation != "batch", 2 if n < layers else 1
            conv: nn.Module = nn.Conv2d(before, after, 4, stride, 1, bias=bias)
            parts = [spectral_norm(conv) if normalisation == "spectral" else conv]
            if inner and normalisation == "batch":
                parts.append(nn.BatchNorm2d(after))
            elif inner and normalisation == "instance":
                parts.append(nn.InstanceNorm2d(after))
            if n <= layers:
                parts.append(nn.LeakyReLU(0.2))
            self.layers.append(nn.Sequential(*parts))
            before = after
        radius, window = patch_side(layers) * reduce, 2**layers * reduce
        self.spec = NetworkSpec(
            task="discriminator",
            tiling=global_(radius, window) if normalisation in ("batch", "instance") else aligned(window, radius),
            channels=channels,
            minimum=3 * window,  # below, the two last convolutions find nothing
            half_safe=normalisation not in ("batch", "instance"),
            source="Isola et al., CVPR 2017",
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, self.reduce) if self.reduce > 1 else x
        for layer in self.layers:
            y = layer(y)
        return y


def patch_side(layers: int) -> int:
    """Side in pixels of what one score sees.

    >>> [patch_side(n) for n in (1, 2, 3)]
    [16, 34, 70]
    """
    side = 1
    for n in reversed(range(layers + 2)):
        side = (side - 1) * (2 if n < layers else 1) + 4
    return side


class PatchPyramid(nn.Module):
    """Patch discriminators on the picture and on its 2 x 2 averages; returns the list of their logits, finest first.

    Args:
        scales: how many. others: of each `PatchDiscriminator`.
    """

    def __init__(self, scales: int = 3, **others: Any) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PatchDiscriminator(reduce=2**n, **others) for n in range(scales))
        self.spec = self.discriminators[-1].spec

    def forward(self, x: Tensor) -> list[Tensor]:
        return [discriminator(x) for discriminator in self.discriminators]


def _build(scales: int = 1, **others: Any) -> nn.Module:
    return PatchPyramid(scales, **others) if scales > 1 else PatchDiscriminator(**others)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    scales = count_layers(state, "discriminators.{}.layers.0.0.bias")
    prefix = "discriminators.0." if scales else ""
    spectral = f"{prefix}layers.0.0.weight_orig" in state
    weight = f"{prefix}layers.{{}}.0.weight{'_orig' if spectral else ''}"
    first, count = state.get(weight.format(0)), count_layers(state, weight)
    if first is None or count < 3 or first.shape[2:] != (4, 4) or state[weight.format(count - 1)].shape[0] != 1:
        return None
    config: dict[str, Any] = {"scales": max(1, scales), "layers": count - 2}
    config |= {"width": first.shape[0], "channels": first.shape[1]}
    if spectral:
        config["normalisation"] = "spectral"
    elif f"{prefix}layers.1.1.running_mean" in state:
        config["normalisation"] = "batch"
    # instance normalisation and none have no tensors, and so are not told apart
    return config


_SIZES = {"channels": 3, "width": 64, "layers": 3}

FAMILY = Family(
    name="patch_discriminator",
    build=_build,
    variants={
        "patch_discriminator": {"scales": 1, **_SIZES, "normalisation": "instance"},
        "patch_discriminator_sn": {"scales": 1, **_SIZES, "normalisation": "spectral"},
        "patch_discriminator_x3": {"scales": 3, **_SIZES, "normalisation": "instance"},
    },
    identify=_identify,
    paper="Image-to-Image Translation with Conditional Adversarial Networks (CVPR 2017)",
)

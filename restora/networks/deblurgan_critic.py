"""The critics of DeblurGAN and DeblurGAN-v2: patch discriminators, on one scale or two.

Kupyn et al.: DeblurGAN, CVPR 2018, and DeblurGAN-v2, ICCV 2019; the ViTDeblur document, sections 2.3 and 2.4 of its
specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from restora.networks.picture_norms import InstanceNorm
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_


def _spec(layers: int) -> NetworkSpec:
    # each 4x4 convolution reaches over 3 positions of its input; strides of 2 but for the last two
    reach = sum(3 * 2**n for n in range(layers)) + 6 * 2**layers
    return NetworkSpec(
        task="discriminator",
        tiling=global_(reach, window=2**layers),
        minimum=2**layers,
        source="Kupyn et al., CVPR 2018 and ICCV 2019",
    )


class Critic(nn.Module):
    """A patch discriminator: `layers` 4x4 convolutions of stride 2 and two of stride 1, LeakyReLU 0.2, instance
    normalisation but in the first and the last.

    Shapes: `B x 3 x H x W`, RGB in [-1, 1] -> `B x 1 x h x w` scores without a sigmoid (Wasserstein in DeblurGAN,
    relativistic least squares in v2). Padding is 2 everywhere, so maps grow by one at each layer.

    The specification gives this layout for DeblurGAN; v2 uses 3 layers on patches and 5 on the whole picture.
    """

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.spec = _spec(layers)
        body: list[nn.Module] = [nn.Conv2d(3, 64, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
        channels = 64
        for n in range(1, layers + 1):
            wider = 64 * min(2**n, 8)
            stride = 2 if n < layers else 1
            body += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=2),
                InstanceNorm(wider),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        body.append(nn.Conv2d(channels, 1, 4, padding=2))
        self.model = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class DoubleScaleDiscriminator(nn.Module):
    """DeblurGAN-v2's two critics: `patch` looks at random crops (local), `full` at whole pictures (global).

    Shapes: `B x 3 x H x W` -> the list of both maps; `crops` gives `patch` another input than `full`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.full = Critic(3), Critic(5)
        self.spec = self.full.spec

    def forward(self, x: Tensor, crops: Tensor | None = None) -> list[Tensor]:
        return [self.patch(x if crops is None else crops), self.full(x)]


def _build(layers: int | None = 3) -> nn.Module:
    """A critic of so many layers; None is the double-scale one."""
    return DoubleScaleDiscriminator() if layers is None else Critic(layers)


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    keys = ("patch.model.0.weight", "full.model.14.weight", "patch.model.11.weight", "full.model.17.weight")
    if all(key in state for key in keys):
        return {"layers": None}
    first, layers = state.get("model.0.weight"), 1
    if first is None or tuple(first.shape) != (64, 3, 4, 4) or "model.3.running_mean" not in state:
        return None
    while f"model.{3 * layers + 2}.weight" in state and f"model.{3 * layers + 3}.running_mean" in state:
        layers += 1
    last = state.get(f"model.{3 * layers + 2}.weight")
    if last is None or tuple(last.shape[2:]) != (4, 4) or last.shape[0] != 1:
        return None
    return {"layers": layers}


FAMILY = Family(
    name="deblurgan_critic",
    build=_build,
    variants={
        "deblurgan_critic": {"layers": 3},
        "deblurganv2_critic_full": {"layers": 5},
        "deblurganv2_discriminator": {"layers": None},
    },
    identify=_identify,
    paper="DeblurGAN (CVPR 2018) and DeblurGAN-v2 (ICCV 2019)",
)

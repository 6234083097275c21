"""DeblurGAN: the residual generator of a conditional Wasserstein GAN for blind motion deblurring.

Kupyn, Budzan, Mykhailych, Mishkin, Matas: DeblurGAN, CVPR 2018; the ViTDeblur document, section 2.3 of its specification.
The critic is in `deblurgan_critic`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.picture_norms import InstanceNorm, own_statistics
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_

Activation = Literal["auto", "always", "never"]


class _OneConvTail(nn.Module):
    """What follows the only convolution of a block in the one-convolution form, see `DeblurGAN`."""

    own_statistics = False

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        trained = self.training or self.own_statistics
        active = self.activation == "always" or (self.activation == "auto" and not trained)
        return torch.relu(x) if active else x


class _Block(nn.Module):
    def __init__(self, channels: int, convolutions: int, dropout: float, activation: Activation) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels),
            nn.ReLU() if convolutions == 2 else _OneConvTail(activation),
            nn.Dropout(dropout),
        ]
        if convolutions == 2:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), InstanceNorm(channels)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class DeblurGAN(nn.Module):
    """The generator: 7x7 convolution, two strided ones, residual blocks at a quarter of the size, two transposed
    convolutions, 7x7 convolution, tanh, added to the input and clipped.

    Shapes: `B x 3 x H x W` -> the same, RGB in [-1, 1]; `restore` takes and gives [0, 1]. H and W are multiples of 4.

    The instance normalisations keep running statistics, so `eval` differs from what the papers ran: the released test code
    never leaves the training mode, which normalises each picture by its own statistics. `restore` does that too.

    Args:
        blocks: residual blocks. convolutions: in each block; 2 is the paper's and DeblurGAN-v2's copy, 1 is the last
            published commit of DeblurGAN, where a slip leaves one.
        dropout: probability in each block while training. The authors train with 0.5, and their test code keeps it active
            unless told otherwise; here it is off unless asked for. A checkpoint trained without the dropout layer numbers
            the second convolution 5 instead of 6; both are loaded.
        activation: the ReLU after the only convolution of the one-convolution form. The slip makes it part of the dropout
            option, under the same keys either way: with dropout ``always``, without ``never``. ``auto`` is what the
            published programs do by default: there while evaluating, not there while training and in `restore`.
            With two convolutions the ReLU is always there.
    """

    def __init__(
        self, blocks: int = 9, convolutions: int = 2, dropout: float = 0.0, activation: Activation = "auto"
    ) -> None:
        super().__init__()
        if convolutions not in (1, 2):
            raise UsageError(f"A DeblurGAN block has one or two convolutions, not {convolutions}.")
        self.spec = NetworkSpec(
            task="deblur",
            # the convolutions' reach; the statistics are those of the whole picture
            tiling=global_(12 + 4 * blocks * convolutions, window=4),
            multiple_of=4,
            minimum=8,
            half_safe=False,  # normalisation by a small picture's own statistics enlarges rounding
            source="Kupyn et al., CVPR 2018",
        )
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7), InstanceNorm(64), nn.ReLU()]
        for channels in (64, 128):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
                InstanceNorm(2 * channels),
                nn.ReLU(),
            ]
        layers += [_Block(256, convolutions, dropout, activation) for _ in range(blocks)]
        for channels in (256, 128):
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1),
                InstanceNorm(channels // 2),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    @staticmethod
    def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of a network without dropout layers -> names of one with them. Checkpoints older than PyTorch 0.4.1 lack
        the normalisations' counters, which are added."""
        moved = {"5": "6", "6": "7"} if any(".conv_block.5." in key for key in state) else {}
        named = {
            re.sub(r"(\.conv_block\.)(\d)(\.)", lambda m: m[1] + moved.get(m[2], m[2]) + m[3], key): value
            for key, value in state.items()
        }
        for key in [k for k in named if k.endswith(".running_mean")]:
            named.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
        return named

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.model(x)).clamp(-1, 1)

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture, both in [0, 1], normalised by its own statistics."""
        with own_statistics(self):
            return (self.forward(2 * x - 1) + 1) / 2


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = state.get("model.1.weight")
    if first is None or tuple(first.shape) != (64, 3, 7, 7) or "model.2.running_mean" not in state:
        return None
    blocks = 0
    while f"model.{10 + blocks}.conv_block.1.weight" in state:
        blocks += 1
    last = state.get(f"model.{17 + blocks}.weight")
    if not blocks or "model.2.weight" in state or last is None or tuple(last.shape) != (3, 64, 7, 7):
        return None
    second = any(f"model.10.conv_block.{n}.weight" in state for n in (5, 6))
    return {"blocks": blocks, "convolutions": 2 if second else 1}


FAMILY = Family(
    name="deblurgan",
    build=DeblurGAN,
    variants={"deblurgan": {}, "deblurgan_oneconv": {"convolutions": 1}},
    identify=_identify,
    paper="DeblurGAN: Blind Motion Deblurring Using Conditional Adversarial Networks (CVPR 2018)",
)

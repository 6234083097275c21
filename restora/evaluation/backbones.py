"""The classification networks that perceptual measures look through: convolutions only, in torchvision's key layout, so that
its checkpoints load as they are. No weights come with Restora; `perceptual.import_weights` takes what a user has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import StateMismatch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Fire(nn.Module):
    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


class Backbone(nn.Module):
    """Layers called `features`, and after which of them a feature map is taken.

    Shapes: `B x 3 x H x W`, RGB normalised by ImageNet's mean and deviation -> a list of feature maps.
    """

    def __init__(self, name: str, features: nn.Sequential, taps: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.name, self.features, self.taps, self.channels = name, features, tuple(taps), tuple(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                maps.append(x)
        return maps


def alexnet() -> Backbone:
    """AlexNet in torchvision's form (Krizhevsky 2014)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
    return Backbone("alex", nn.Sequential(*layers), (1, 4, 7, 9, 11), (64, 192, 384, 256, 256))


def vgg16(pool: type[nn.Module] | None = None) -> Backbone:
    """VGG-16 up to relu5_3 (Simonyan, Zisserman 2015). `pool`, made with the channels, replaces max pooling (DISTS)."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage, (count, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))):
        if stage:
            layers.append(nn.MaxPool2d(2) if pool is None else pool(inputs))
        for _ in range(count):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
            inputs = channels
    return Backbone("vgg", nn.Sequential(*layers), (3, 8, 15, 22, 29), (64, 128, 256, 512, 512))


def squeezenet() -> Backbone:
    """SqueezeNet 1.1 in torchvision's form (Iandola et al. 2016)."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), _Fire(64, 16, 64), _Fire(128, 16, 64), pool()]
    layers += [_Fire(128, 32, 128), _Fire(256, 32, 128), pool(), _Fire(256, 48, 192), _Fire(384, 48, 192)]
    layers += [_Fire(384, 64, 256), _Fire(512, 64, 256)]
    taps, channels = (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)
    return Backbone("squeeze", nn.Sequential(*layers), taps, channels)


BACKBONES = {"squeeze": squeezenet, "alex": alexnet, "vgg": vgg16}


def load(net: Backbone, state: Mapping[str, Tensor]) -> Backbone:
    """Loads the convolutions of a classification checkpoint; its classifier is left out.

    Raises:
        StateMismatch: a tensor is missing or has another shape.
    """
    own = {k: v for k, v in net.state_dict().items() if not k.endswith(".window")}
    wrong = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise StateMismatch(f"The checkpoint is no {net.name} backbone: {len(wrong)} tensors do not fit ({wrong[0]}).")
    net.load_state_dict({k: state[k].float() for k in own}, strict=False)
    return net.eval().requires_grad_(False)


def identify(state: Mapping[str, Tensor]) -> str:
    """Which backbone a state dict belongs to, "" for none."""
    for name, build in BACKBONES.items():
        own = build().state_dict()
        if all(k in state and state[k].shape == v.shape for k, v in own.items()):
            return name
    return ""

"""Losses that look through the feature maps of a classification network, with whichever weights the user has.

Restora carries no such weights. A loss of this file is given a path: torchvision's checkpoint of VGG-19, VGG-16, AlexNet or
SqueezeNet 1.1 (.pth, .safetensors), or a SqueezeNet 1.1 as ONNX with Caffe's layer names.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError, UsageError, WeightsError
from restora.evaluation import backbones, perceptual
from restora.training.losses import base

BackboneName = Literal["vgg19", "vgg16", "squeeze", "alex"]
_VGG_STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_WEIGHTS_FILES = {
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg16": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
    "alex": "alexnet-owt-7be5be79.pth",
}


def _features(name: BackboneName) -> tuple[nn.Sequential, dict[str, int]]:
    """The layers of a backbone in torchvision's numbering, and the number of each named layer."""
    if name in _VGG_STAGES:
        layers: list[nn.Module] = []
        named: dict[str, int] = {}
        channels = 3
        for stage, count in enumerate(_VGG_STAGES[name], start=1):
            wide = min(64 * 2 ** (stage - 1), 512)
            for n in range(1, count + 1):
                named |= {f"conv{stage}_{n}": len(layers), f"relu{stage}_{n}": len(layers) + 1}
                layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
                channels = wide
            named[f"pool{stage}"] = len(layers)
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers), named
    net = backbones.BACKBONES[name]()
    named, counts = {}, {"conv": 0, "relu": 0, "pool": 0, "fire": 1}  # the paper counts its fire modules from 2
    kinds = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool"}
    for number, layer in enumerate(net.features):
        kind = kinds.get(type(layer), "fire")
        counts[kind] += 1
        named[f"{kind}{counts[kind]}"] = number
    return net.features, named


def layer_names(backbone: BackboneName) -> list[str]:
    """The layers whose results a loss may take, first to last: ``conv1_1``, ``relu1_1``, ..., ``pool5`` of a VGG; ``fire2`` to
    ``fire9`` of SqueezeNet; ``conv1`` to ``relu5`` of AlexNet.

    >>> layer_names("squeeze")[:4]
    ['conv1', 'relu1', 'pool1', 'fire2']
    """
    return list(_features(backbone)[1])


def load_backbone(name: BackboneName, layers: Mapping[str, float], weights: str | Path | None) -> backbones.Backbone:
    """A frozen backbone that ends with the last layer asked for and gives the named ones.

    Args:
        layers: names from `layer_names`; the keys' order in the result is the network's.
        weights: the file. None looks for it in the folder RESTORA_METRICS and among what
            `restora.evaluation.import_weights` took.

    Raises:
        RecipeError: a layer that the backbone does not have. WeightsError: no file, or one of another network.
    """
    features, named = _features(name)
    if unknown := [layer for layer in layers if layer not in named]:
        raise RecipeError(f"The backbone '{name}' has no layer '{unknown[0]}'; its layers are {', '.join(named)}.")
    if not layers:
        raise RecipeError(f"At least one layer of the backbone '{name}' must be named, out of {', '.join(named)}.")
    state = _read(name, weights)
    taps = sorted(named[layer] for layer in layers)
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # a tap before it must stay what it was
    net = backbones.Backbone(name, nn.Sequential(*list(features)[: taps[-1] + 1]), taps, ())
    return backbones.load(net, state)


def _read(name: BackboneName, weights: str | Path | None) -> Mapping[str, Tensor]:
    path = Path(weights).expanduser() if weights is not None else find_backbone(name)
    if path is None:
        raise WeightsError(
            f"This loss looks through {name}, whose weights do not come with Restora. Name the file in the recipe, for example "
            f"weights: /path/to/{_WEIGHTS_FILES[name]} (torchvision's checkpoint), or use a loss that needs none "
            "(edge, frequency, ssim)."
        )
    if path.suffix.lower() == ".onnx":
        if name != "squeeze":
            raise WeightsError(f"Of ONNX files only a SqueezeNet is read; '{path}' was given for {name}.")
        return perceptual.from_caffe(path)
    from restora.networks import unwrap
    from restora.zoo.checkpoint import read_checkpoint

    return unwrap(read_checkpoint(path)[0])


def find_backbone(name: BackboneName) -> Path | None:
    """The file of a backbone in the folder RESTORA_METRICS or among what `restora.evaluation.import_weights` took; None for none.
    A VGG-19 is told by its name, `vgg19-....pth`."""
    stem = "vgg" if name == "vgg16" else name  # the metrics know one VGG only
    folders = [Path(f) for f in [os.environ.get("RESTORA_METRICS")] if f] + [perceptual.metrics_folder()]
    for folder in folders:
        found = sorted(p for p in folder.glob("*") if p.stem == stem or p.stem.startswith(f"{name}-"))
        if found:
            return found[0]
    return None


class _Features(base.Loss):
    """A loss on feature maps: reads the backbone, brings pictures into its range, sums over the layers."""

    class Options(base.Options):
        backbone: BackboneName = "vgg19"
        weights: Path | None = Field(None, description="file of the backbone; never part of a recipe that is bundled")
        layers: dict[str, float] = Field({}, description="layer -> weight; empty means the paper's")
        normalise: bool = Field(True, description="by ImageNet's mean and deviation, as the backbones were trained")
        shift: int = Field(
            1,
            ge=1,
            description="both pictures are moved by one random number of pixels below this; a backbone's strides otherwise meet "
            "an enlarged picture in one phase for ever and teach it a grid",
        )

    _layers: Mapping[str, Mapping[str, float]]
    mean: Tensor
    deviation: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        o = self.options
        self.layers = dict(o.layers or self._layers[o.backbone])
        self.net = load_backbone(o.backbone, self.layers, o.weights)
        order = layer_names(o.backbone)
        self.weights = [self.layers[name] for name in sorted(self.layers, key=order.index)]
        strides = [m.stride for m in self.net.features if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
        self.smallest = math.prod(s if isinstance(s, int) else s[0] for s in strides)
        self.register_buffer("mean", torch.tensor(backbones.MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(backbones.STD).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> _Features:
        """Stays in eval mode: the backbone is no part of what is trained."""
        return super().train(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The feature maps of `B x 3 x H x W` (or one channel, repeated), RGB in [0, 1]."""
        if min(x.shape[-2:]) < self.smallest:
            raise UsageError(
                f"The layers {', '.join(self.layers)} of {self.options.backbone} need pictures of {self.smallest} pixels a side; "
                f"these are {x.shape[-1]}x{x.shape[-2]}."
            )
        x = x.expand(-1, 3, -1, -1)
        return self.net((x - self.mean) / self.deviation if self.options.normalise else x)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        if self.options.shift > 1:
            top, left = torch.randint(self.options.shift, (2,)).tolist()
            output, target = output[..., top:, left:], target[..., top:, left:]
        with torch.no_grad():
            wanted = self.features(target)
        total = output.new_zeros(())
        for weight, y, x in zip(self.weights, self.features(output), wanted, strict=True):
            total = total + weight * self.distance(y, x)
        return total

    def distance(self, y: Tensor, x: Tensor) -> Tensor:
        """The distance of two `B x C x h x w` maps."""
        raise NotImplementedError


class VGG(_Features):
    """Distance of feature maps, `sum_l w_l mean |phi_l(y) - phi_l(x)|^p`, p = 2 (``l2``) or 1 (``l1``), features times `scale`.

    Ledig et al., SRGAN, CVPR 2017, equation 5: VGG-19, conv5_4 after its activation, squared, scale 1 / 12.75; the efficiency
    thesis, equation 2.5. ESRGAN and Real-ESRGAN take l1 of several layers before their activations. Without `layers` it is
    relu5_4 of VGG-19, relu5_3 of VGG-16, fire9 of SqueezeNet, relu5 of AlexNet.
    """

    name = "vgg"
    _layers = {"vgg19": {"relu5_4": 1.0}, "vgg16": {"relu5_3": 1.0}, "squeeze": {"fire9": 1.0}, "alex": {"relu5": 1.0}}

    class Options(_Features.Options):
        criterion: Literal["l1", "l2"] = "l2"
        scale: float = Field(1.0, gt=0, description="factor on the features; SRGAN's is 1 / 12.75 = 0.0784")

    def distance(self, y: Tensor, x: Tensor) -> Tensor:
        d = self.options.scale * (y - x)
        return d.abs().mean() if self.options.criterion == "l1" else (d * d).mean()


def gram(x: Tensor) -> Tensor:
    """Gram matrices `B x C x C` of `B x C x h x w` maps: `G = F F' / (C h w)`."""
    f = x.flatten(2)
    return f @ f.transpose(1, 2) / f[0].numel()


class Style(_Features):
    """Distance of Gram matrices, `sum_l w_l mean_b ||G_l(y) - G_l(x)||_F^2`.

    Gatys, Ecker, Bethge, CVPR 2016; Johnson, Alahi, Fei-Fei, ECCV 2016, equations 3 and 4 (whose normalisation it is) with
    relu1_2, relu2_2, relu3_3, relu4_3 of VGG-16; the ViTDeblur document, section 2.3 of its specification.
    """

    name = "style"
    _layers = {
        "vgg19": {f"relu{n}_1": 1.0 for n in range(1, 6)},
        "vgg16": {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0, "relu4_3": 1.0},
        "squeeze": {"relu1": 1.0, "fire3": 1.0, "fire5": 1.0, "fire9": 1.0},
        "alex": {f"relu{n}": 1.0 for n in range(1, 6)},
    }

    def distance(self, y: Tensor, x: Tensor) -> Tensor:
        return ((gram(y) - gram(x)) ** 2).sum(dim=(1, 2)).mean()


class _Measure(base.Loss):
    """A perceptual measure of `restora.evaluation` as a loss."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # a copy: the measure's own network is shared by everybody and stays where it is
        self.net = copy.deepcopy(self.measure()).requires_grad_(False)

    def measure(self) -> nn.Module:
        raise NotImplementedError

    def train(self, mode: bool = True) -> _Measure:
        """Stays in eval mode: nothing of it is trained."""
        return super().train(False)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        return self.net(output.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1)).mean()


class LPIPS(_Measure):
    """LPIPS 0.1, mean over the images (Zhang et al., CVPR 2018), through `evaluation.lpips_model`.

    Shapes: at least 32 pixels a side. The weights are those of the measure: a folder with `v0.1_alex.pth` (or vgg, squeeze) and
    the backbone's checkpoint, by `weights`, RESTORA_METRICS or `restora.evaluation.import_weights`.

    Raises:
        WeightsError: heads or backbone are missing; the sentence says what to import.
    """

    name = "lpips"

    class Options(base.Options):
        net: Literal["alex", "vgg", "squeeze"] | None = None
        weights: Path | None = Field(None, description="folder with the heads and the backbone")

    def measure(self) -> nn.Module:
        return perceptual.lpips_model(self.options.net, self.options.weights)

    def map(self, output: Tensor, target: Tensor) -> Tensor:
        """LPIPS at every pixel, `B x 1 x H x W`: each layer's weighted distances enlarged bilinearly, added."""
        return lpips_map(self.net, output, target)  # type: ignore[arg-type]


def lpips_map(model: perceptual.LPIPS, a: Tensor, b: Tensor) -> Tensor:
    """The LPIPS distance before its mean over positions: `B x 3 x H x W` twice, RGB in [0, 1] -> `B x 1 x H x W`."""
    total = a.new_zeros(a.shape[0], 1, *a.shape[-2:])
    first, second = (model.backbone(perceptual.normalised(z)) for z in (a, b))
    for x, y, w in zip(first, second, model.heads, strict=True):
        x, y = (z / (z.norm(dim=1, keepdim=True) + 1e-10) for z in (x, y))
        distance = ((x - y) ** 2 * w).sum(dim=1, keepdim=True)
        total = total + F.interpolate(distance, size=a.shape[-2:], mode="bilinear", align_corners=False)
    return total


class DISTS(_Measure):
    """DISTS, mean over the images (Ding et al., TPAMI 2020), through `evaluation.dists_model`; weights as `LPIPS`, with
    `DISTS_pytorch_weights.pt` and torchvision's VGG-16."""

    name = "dists"

    class Options(base.Options):
        weights: Path | None = Field(None, description="folder with the parameters and VGG-16")

    def measure(self) -> nn.Module:
        return perceptual.dists_model(self.options.weights)

"""ViTDeblur: a Vision Transformer's features and a small decoder, as its author describes it and as it can work.

Ilyassov: Exploring Image Restoration Techniques: The Application of ViTDeblur, dissertation, 2024; its specification,
sections 0 and 2.1. The text leaves the decoder's shapes out; both published parameter counts, 86,250,900 and 87,156,316,
close exactly with the reading built here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, global_
from restora.networks.vit import ViT, identify_vit

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which the backbone expects
_GRID, _STAGES = 14, 5


class _Normalised(nn.Module):
    """A network on pictures normalised by ImageNet's mean and deviation; `restore` goes there and back."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def normalise(self, x: Tensor) -> Tensor:
        """[0, 1] -> the network's range."""
        return (x - self.mean) / self.deviation

    def restore(self, x: Tensor) -> Tensor:
        """The deblurred picture, both in [0, 1]."""
        return self(self.normalise(x)) * self.deviation + self.mean


class ViTDeblur(_Normalised):
    """ViTDeblur as written. It cannot sharpen: only 1x1 convolutions and bilinear enlargements stand between the picture
    and the result, so it is a colour map for each pixel plus one smooth field of 14 x 14. It is here as the baseline that
    the document measured; `ViTDeblurCorrected` is the usable form.

    Shapes: `B x 3 x H x W` -> the same, RGB normalised by ImageNet's mean and deviation; `restore` takes and gives [0, 1].
    The document's full scale is 448 x 448 (14 doubled five times); for other sizes the field is resized to the picture.

    The picture, resized to the transformer's size, gives one vector (the class token, or the logits of ImageNet's classes).
    A linear layer makes 3 x 14 x 14 of it, to which the picture's reduction to 14 x 14 is added; five times a bilinear
    doubling and a 1x1 convolution; the picture is added; a 1x1 convolution and GELU.

    Args:
        classes: 1000 takes the logits (the document's Adam model), None the class token (its SGD model).
        linear_output: leaves out the last GELU, below whose least value (-0.17) no normalised pixel can come: the darker
            half of the range.
        vit: arguments of the transformer other than `classes`, for smaller ones.
    """

    def __init__(
        self, classes: int | None = None, linear_output: bool = False, vit: dict[str, int] | None = None
    ) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="deblur", tiling=global_(32), source="Ilyassov, Exploring Image Restoration Techniques, 2024"
        )
        self.linear_output = linear_output
        self.vit = ViT(**(vit or {}), classes=classes)  # type: ignore[arg-type]
        features = self.vit.class_token.shape[2] if classes is None else classes
        self.project = nn.Linear(features, 3 * _GRID * _GRID)
        self.upsampling = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(_STAGES))
        self.decoding = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        side = self.vit.image
        # in single precision: the antialiasing resize has no other
        small = F.interpolate(x.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        y = self.project(self.vit(small.to(x.dtype))).unflatten(1, (3, _GRID, _GRID))
        y = y + F.adaptive_avg_pool2d(x, _GRID)
        for conv in self.upsampling:
            y = conv(F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False))
        if y.shape != x.shape:
            y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
        y = self.decoding(y + x)
        return y if self.linear_output else F.gelu(y)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ViTDeblurCorrected(_Normalised):
    """ViTDeblur with what it lacks: the tokens of the patches instead of the class token, 3x3 convolutions at every size
    from 1/8 to full, and a linear residual output.

    Shapes: `B x 3 x H x W` -> the same, RGB normalised by ImageNet's mean and deviation; `restore` takes and gives [0, 1].
    H and W are multiples of 16. The table of positions is interpolated to the picture's patches.

    A fresh network returns its input: the last convolution starts at zero.

    Args:
        widths: channels of the convolutional path at full size, 1/2, 1/4 and 1/8. blocks: residual blocks at each size, on
            the way down and on the way up. vit: arguments of the transformer, for smaller ones.
    """

    def __init__(
        self, widths: tuple[int, ...] = (32, 64, 96, 128), blocks: int = 2, vit: dict[str, int] | None = None
    ) -> None:
        super().__init__()
        self.vit = ViT(**(vit or {}), classes=None)
        patch = self.vit.patch
        # blocks of two 3x3 convolutions and one before or after, at each size and in both directions; the resizings
        reach = sum(2 * (2 * blocks + 1) * 2**n + 2**n for n in range(len(widths)))
        self.spec = NetworkSpec(
            task="deblur",
            tiling=global_(reach + patch, window=patch),
            multiple_of=patch,
            minimum=2 * patch,
            source="specification of the ViTDeblur document, sections 0 and 6",
        )

        def level(channels: int, first: nn.Module) -> nn.Sequential:
            return nn.Sequential(first, nn.GELU(), *(_Residual(channels) for _ in range(blocks)))

        self.down = nn.ModuleList()
        channels = 3
        for n, width in enumerate(widths):
            self.down.append(level(width, nn.Conv2d(channels, width, 3, stride=2 if n else 1, padding=1)))
            channels = width
        self.embed = nn.Conv2d(self.vit.class_token.shape[2], widths[-1], 1)
        self.up = nn.ModuleList()
        for width in reversed(widths):
            self.up.append(level(width, nn.Conv2d(channels + width, width, 3, padding=1)))
            channels = width
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        patch, y = self.vit.patch, x
        skips = []
        for level in self.down:
            y = level(y)
            skips.append(y)
        tokens = self.vit.tokens(x)[:, 1:].transpose(1, 2)
        y = self.embed(tokens.unflatten(2, (x.shape[2] // patch, x.shape[3] // patch)))
        for level, skip in zip(self.up, reversed(skips), strict=True):
            y = F.interpolate(y, size=skip.shape[2:], mode="bilinear", align_corners=False)
            y = level(torch.cat([y, skip], dim=1))
        return x + self.last(y)


def _build(corrected: bool = False, **options: Any) -> nn.Module:
    return ViTDeblurCorrected(**options) if corrected else ViTDeblur(**options)


_VIT_B_16 = {"image": 224, "patch": 16, "width": 768, "depth": 12}
_WIDTHS, _BLOCKS = (32, 64, 96, 128), 2


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    vit = identify_vit(state, "vit.")
    if vit is None:
        return None
    classes = vit.pop("classes")
    if "embed.weight" in state and "last.weight" in state and classes is None:
        widths: list[int] = []
        blocks = 0
        while (first := state.get(f"down.{len(widths)}.0.weight")) is not None:
            widths.append(first.shape[0])
        while f"down.0.{blocks + 2}.body.0.weight" in state:
            blocks += 1
        return {"corrected": True, "vit": vit, "widths": tuple(widths), "blocks": blocks}
    projection = state.get("project.weight")
    if projection is None or projection.shape[0] != 3 * _GRID * _GRID or "decoding.weight" not in state:
        return None
    return {"corrected": False, "vit": vit, "classes": classes}


FAMILY = Family(
    name="vitdeblur",
    build=_build,
    variants={
        "vitdeblur_adam": {"corrected": False, "vit": _VIT_B_16, "classes": 1000},
        "vitdeblur_sgd": {"corrected": False, "vit": _VIT_B_16, "classes": None},
        "vitdeblur_corrected": {"corrected": True, "vit": _VIT_B_16, "widths": _WIDTHS, "blocks": _BLOCKS},
    },
    identify=_identify,
    paper="Exploring Image Restoration Techniques: The Application of ViTDeblur (dissertation, 2024)",
)

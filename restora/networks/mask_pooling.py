"""SAM-Deblur: a segmentation's regions, each filled with its mean, shown to a deblurring network beside the picture.

Li, Liu, Zhang, Chen, Li, Dou, Chen: SAM-Deblur: Let Segment Anything Boost Image Deblurring, ICASSP 2024; the ViTDeblur
document, section 2.10 of its specification. The masks come from outside, by Segment Anything or any other segmenter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UnknownArchitecture, UsageError
from restora.networks import registry
from restora.networks.nafnet import NAFNet
from restora.networks.picture_statistics import gathered
from restora.networks.registry import Family
from restora.networks.spec import Control, global_

_SOURCE = "Li et al., ICASSP 2024"
_MASK = Control("mask", "regions of the picture, by any segmenter; none is one region", "regions", optional=True)


def masks_from_labels(labels: Tensor) -> Tensor:
    """A map of region numbers, `B x H x W` integers, 0 for no region -> masks `B x M x H x W` of 0 and 1."""
    regions = torch.arange(1, int(labels.max()) + 1, device=labels.device)
    return (labels[:, None] == regions[:, None, None]).float()


def average_in_masks(x: Tensor, masks: Tensor) -> Tensor:
    """Replaces every pixel by the mean over its mask.

    Args:
        x: `B x C x H x W`. masks: `B x M x H x W` of 0 and 1; empty ones do nothing. What no mask covers is one more
            region; where masks overlap their means are summed, as published.
    """
    rest = 1 - masks.sum(1, keepdim=True).clamp(0, 1)
    regions = torch.cat([masks, rest], dim=1).flatten(2)
    means = regions @ x.flatten(2).transpose(1, 2) / (regions.sum(2, keepdim=True) + 1e-8)
    return (means.transpose(1, 2) @ regions).unflatten(2, x.shape[2:])


def average_in_regions(x: Tensor, regions: Tensor) -> Tensor:
    """`average_in_masks` for regions that do not overlap, whatever their number: `x`, `B x C x H x W`, and a map of region
    numbers from 0, `B x H x W`."""
    place = regions.long().flatten(1)[:, None]
    pixels, count = x.flatten(2), int(place.max()) + 1
    places = place.expand(-1, x.shape[1] + 1, -1)

    def totals(weight: Tensor) -> Tensor:
        """Sums and, last, sizes of the regions, each pixel counted with its weight."""
        weighted = torch.cat([pixels * weight.flatten(2), weight.flatten(2).expand_as(place)], dim=1)
        return weighted.new_zeros(*weighted.shape[:2], count).scatter_add_(2, places, weighted)

    found = totals(torch.ones_like(x[:1, :1]))
    whole = gathered(lambda: found.cpu().double(), totals, x.shape[2:])
    if whole is not None:
        whole = F.pad(whole.float().to(x), (0, max(0, count - whole.shape[2])))[..., :count]
        found = torch.where(whole[:, -1:] > 0, whole, found)  # a region may lie where no statistics were gathered
    means = found[:, :-1] / found[:, -1:].clamp_min(1e-12)
    return means.gather(2, places[:, :-1]).unflatten(2, x.shape[2:])


class _MaskPooling(nn.Module):
    """The layers of mask average pooling under their published names, for classes that build upon it."""

    pre_seg: nn.Conv2d
    pre_seg_in: nn.Conv2d
    mask_dropout: float

    def add_pooling(self, mask_dropout: float) -> None:
        self.mask_dropout = mask_dropout
        self.pre_seg = nn.Conv2d(3, 3, 3, padding=1)
        self.pre_seg_in = nn.Conv2d(3, 3, 1)

    def pool(self, x: Tensor, masks: Tensor | None, regions: Tensor | None = None) -> Tensor:
        """`B x 3 x H x W` and masks `B x M x H x W` -> the pooled features, `B x 3 x H x W`; or, outside training, with a map
        of region numbers `B x 1 x H x W` in place of the masks."""
        if regions is not None:
            return average_in_regions(self.pre_seg_in(self.pre_seg(x)), regions[:, 0])
        if masks is None:
            masks = x.new_zeros(len(x), 1, *x.shape[2:])
        if masks.ndim != 4 or len(masks) != len(x) or masks.shape[2:] != x.shape[2:]:
            raise UsageError(
                f"Masks are a tensor B x M x H x W beside a picture B x 3 x H x W; these are {tuple(masks.shape)} beside "
                f"{tuple(x.shape)}."
            )
        masks = masks.to(x)
        if self.training:
            count = masks.shape[1]
            kept = torch.ones(len(x), count, device=x.device)
            for row in kept:
                row[torch.randperm(count, device=x.device)[: int(self.mask_dropout * count)]] = 0
            masks = masks * kept[:, :, None, None]
        return average_in_masks(self.pre_seg_in(self.pre_seg(x)), masks)


class SAMDeblur(NAFNet, _MaskPooling):
    """NAFNet whose first convolution sees the picture and its pooled features: the published network and layout.

    Shapes: `forward(x, masks)` takes `B x 3 x H x W` RGB in [0, 1] and masks `B x M x H x W` of 0 and 1 (None: one region),
    any size -> `B x 3 x H x W`. The picture is padded with zeros to NAFNet's multiple before the pooling; the padding counts
    as uncovered, as published. In training mode `mask_dropout` of the masks, chosen by torch's generator, are left out.

    Args:
        mask_dropout: share of masks dropped in training. options: of NAFNet.
    """

    def __init__(self, mask_dropout: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.spec = dataclasses.replace(self.spec, source=_SOURCE, controls=(_MASK,))
        self.add_pooling(mask_dropout)
        width = self.intro.out_channels
        self.intro = nn.Conv2d(6, width, 3, padding=1)

    def forward(self, x: Tensor, masks: Tensor | None = None, regions: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:]
        margins = (0, -width % self.stride, 0, -height % self.stride)
        x = F.pad(x, margins)
        masks, regions = (None if part is None else F.pad(part, margins) for part in (masks, regions))
        y = self.intro(torch.cat([x, self.pool(x, masks, regions)], dim=1))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            y = decoder(up(y) + skips.pop())
        return (self.ending(y) + x)[..., :height, :width]

    def restore(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`forward` with a map of region numbers, `B x 1 x H x W`, 0 for no region."""
        return self(x, regions=mask)


class MaskedDeblurrer(_MaskPooling):
    """Mask average pooling in front of any network that restores RGB pictures at their size.

    A 1x1 convolution makes three channels of picture and pooled features; it starts as the picture alone, so a trained
    deblurrer keeps its result until training goes on.

    Shapes: as `SAMDeblur`; the size rule is the deblurrer's.

    Args:
        deblurrer: the network; its `restore` is called if it has one. mask_dropout: as in `SAMDeblur`.
    """

    def __init__(self, deblurrer: nn.Module, mask_dropout: float = 0.5) -> None:
        super().__init__()
        spec: Any = deblurrer.spec
        if spec.channels != 3 or spec.scales != (1,):
            raise UsageError("Mask pooling goes in front of a network that restores RGB pictures at their own size.")
        self.spec = dataclasses.replace(
            spec,
            tiling=global_(spec.tiling.radius + 1, spec.tiling.window),
            controls=(*spec.controls, _MASK),
            source=f"{_SOURCE}; {spec.source}",
        )
        self.add_pooling(mask_dropout)
        self.fuse = nn.Conv2d(6, 3, 1)
        with torch.no_grad():
            self.fuse.weight.copy_(torch.eye(3, 6)[:, :, None, None])
            self.fuse.bias.zero_()  # type: ignore[union-attr]
        self.deblurrer = deblurrer

    def forward(self, x: Tensor, masks: Tensor | None = None, regions: Tensor | None = None, **controls: Any) -> Tensor:
        x = self.fuse(torch.cat([x, self.pool(x, masks, regions)], dim=1))
        return getattr(self.deblurrer, "restore", self.deblurrer)(x, **controls)

    def restore(self, x: Tensor, mask: Tensor | None = None, **controls: Any) -> Tensor:
        """`forward` with a map of region numbers, `B x 1 x H x W`, 0 for no region."""
        return self(x, regions=mask, **controls)


def _build(
    deblurrer: str | None = None,
    width: int = 32,
    enc_blk_nums: tuple[int, ...] = (1, 1, 1, 28),
    middle_blk_num: int = 1,
    dec_blk_nums: tuple[int, ...] = (1, 1, 1, 1),
    train_size: int | None = None,
    mask_dropout: float = 0.5,
) -> nn.Module:
    """The published network; with a variant's name as `deblurrer`, the pooling in front of that one."""
    if deblurrer is not None:
        return MaskedDeblurrer(registry.create(deblurrer), mask_dropout)
    return SAMDeblur(
        mask_dropout,
        width=width,
        enc_blk_nums=enc_blk_nums,
        middle_blk_num=middle_blk_num,
        dec_blk_nums=dec_blk_nums,
        train_size=train_size,
    )


def _blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    n = 0
    while f"{prefix}{n}.conv1.weight" in state:
        n += 1
    return n


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    if not {"pre_seg.weight", "pre_seg_in.weight"} <= state.keys():
        return None
    if "fuse.weight" in state:
        inner = {k.removeprefix("deblurrer."): v for k, v in state.items() if k.startswith("deblurrer.")}
        try:
            return {"deblurrer": registry.identify(inner).variant}
        except UnknownArchitecture:
            return None
    if "intro.weight" not in state or state["intro.weight"].shape[1] != 6:
        return None
    levels = 0
    while f"downs.{levels}.weight" in state:
        levels += 1
    return {
        "deblurrer": None,
        "width": state["intro.weight"].shape[0],
        "enc_blk_nums": tuple(_blocks(state, f"encoders.{n}.") for n in range(levels)),
        "middle_blk_num": _blocks(state, "middle_blks."),
        "dec_blk_nums": tuple(_blocks(state, f"decoders.{n}.") for n in range(levels)),
    }


FAMILY = Family(
    name="sam_deblur",
    build=_build,
    variants={"sam_deblur": {}},
    identify=_identify,
    paper="SAM-Deblur: Let Segment Anything Boost Image Deblurring (ICASSP 2024)",
)

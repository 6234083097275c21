"""Photographs that precision and speed are measured on: one that comes with the package, or a folder of the user's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError
from restora.io import READABLE, Picture
from restora.networks.spec import NetworkSpec

_OWN = Path(__file__).parent / "data" / "photograph.jpg"
_NOISE = 15.0  # on the 0-255 scale, for networks that remove noise


@functools.cache
def own_photograph() -> Tensor:
    """A photograph with fine detail on one half and none on the other: `1 x 3 x 256 x 512` in [0, 1]."""
    return _tensor(_OWN)


def _tensor(path: Path) -> Tensor:
    pixels = Picture.open(path).filled()
    top = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None].astype(np.float32) / np.float32(top))
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def crops(spec: NetworkSpec, side: int, count: int, folder: Path | None = None) -> Iterator[Tensor]:
    """Up to `count` squares of photographs as a network of that task sees them, `1 x 3 x side x side`.

    Args:
        folder: of photographs; those with fewer than `side` pixels are left out. None takes the package's own, repeated by
            mirroring where it is too small.

    Raises:
        UsageError: a folder without a photograph of that size.
    """
    generator = torch.Generator().manual_seed(0)
    for number, x in enumerate(_from(folder, side, count) if folder is not None else _from_own(side, count)):
        if spec.task == "denoise":
            x = (x + torch.randn(x.shape, generator=generator) * _NOISE / 255).clamp(0, 1)
            x = (x * 255).round() / 255
        yield x
        if number + 1 == count:
            return


def _from_own(side: int, count: int) -> Iterator[Tensor]:
    x = own_photograph()
    while min(x.shape[-2:]) < side:
        x = torch.cat([x, x.flip(-2)], dim=-2)
        x = torch.cat([x, x.flip(-1)], dim=-1)
    height, width = x.shape[-2:]
    for n in range(count):  # the first where detail meets none
        left = (width - side) * ((2 * n + 1) % (2 * count)) // (2 * count) if count > 1 else (width - side) // 2
        top = (height - side) * n // max(1, count - 1) if count > 1 else (height - side) // 2
        yield x[..., top : top + side, left : left + side]


def _from(folder: Path, side: int, count: int) -> Iterator[Tensor]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE)
    found = 0
    for path in files:
        x = _tensor(path)
        height, width = x.shape[-2:]
        if min(height, width) < side:
            continue
        top, left = (height - side) // 2, (width - side) // 2
        yield x[..., top : top + side, left : left + side]
        found += 1
        if found == count:
            return
    if not found:
        raise UsageError(f"'{folder}' holds no photograph of at least {side}x{side} pixels.")

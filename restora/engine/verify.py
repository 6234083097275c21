"""Measures what a network's tiling promise is worth: tiled against whole, on the same picture."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from restora.engine import tiles
from restora.engine.operator import Operator
from restora.engine.run import USUAL_ROUNDS, Settings, run
from restora.networks.spec import Tiling


@dataclass(frozen=True)
class TilingError:
    """Largest and root-mean-square difference, in units of the range [0, 1], of `tiles` tiles from one piece. `tested` is
    False where every tile saw the whole picture, so that nothing could differ."""

    tiling: Tiling
    height: int
    width: int
    tile: int
    tiles: int
    largest: float
    rms: float
    tested: bool = True

    @property
    def kept(self) -> bool:
        """Whether the promise holds: 1e-5 for `exact`, 2/255 for the others."""
        return self.largest <= (1e-5 if self.tiling.kind == "exact" else 2 / 255)


def verify_tiling(
    operator: Operator, picture: np.ndarray, tile: int, settings: Settings = Settings(device="cpu", precision="float32")
) -> TilingError:
    """Runs `operator` on a float32 picture `H x W x C` in one piece and in tiles, and compares."""
    height, width = picture.shape[:2]
    whole, _ = run(operator, picture, settings=_with(settings, 0))
    tiled, report = run(operator, picture, settings=_with(settings, tile))
    # relative to the output's own range: weights that were never trained need not stay in [0, 1]
    difference = np.abs(tiled.astype(np.float64) - whole) / max(1.0, float(np.abs(whole).max()))
    return TilingError(
        operator.tiling,
        height,
        width,
        tile,
        report.tiles,
        float(difference.max()),
        float(np.sqrt(np.mean(difference**2))),
        any(_read(t) < height * width for t in _plan(operator, height, width, tile)),
    )


def enliven(net: nn.Module, seed: int = 0) -> nn.Module:
    """Gives a network random weights that pass signals on at their strength: a fresh one may be nearly silent, and silence
    hides errors. Returns it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
    return net


def _read(tile: tiles.Tile) -> int:
    """Pixels that the network sees for a tile."""
    return (tile.read_bottom - tile.read_top) * (tile.read_right - tile.read_left)


def _plan(operator: Operator, height: int, width: int, tile: int) -> list[tiles.Tile]:
    return tiles.plan(height, width, tile, operator.tiling.window, tiles.halo(operator.tiling))


def seconds_of(operator: Operator, height: int, width: int, tile: int) -> float:
    """Estimate of what `verify_tiling` takes, from one run on a small picture."""
    side = max(2 * operator.multiple_of, operator.minimum, 32)
    sample = np.zeros((side, side, 3), np.float32)
    run(operator, sample[: side // 2], settings=Settings("cpu", "float32", 0))  # the first run of all is a slow one
    started = time.perf_counter()
    run(operator, sample, settings=Settings("cpu", "float32", 0))
    rate = (time.perf_counter() - started) / side**2
    plan = _plan(operator, height, width, tile)
    read = sum(map(_read, plan))
    if operator.tiling.kind == "global" and len(plan) > 1:
        read *= 1 + USUAL_ROUNDS  # the statistics of the picture are gathered first
    return rate * (height * width + read)


def _with(settings: Settings, tile: int) -> Settings:
    return replace(settings, tile=tile)

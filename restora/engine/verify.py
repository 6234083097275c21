"""Measures what a network's tiling promise is worth: tiled against whole, on the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restora.engine.operator import Operator
from restora.engine.run import Settings, run
from restora.networks.spec import Tiling


@dataclass(frozen=True)
class TilingError:
    """Largest and root-mean-square difference, in units of the range [0, 1], of `tiles` tiles from one piece."""

    tiling: Tiling
    height: int
    width: int
    tile: int
    tiles: int
    largest: float
    rms: float

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
    )


def _with(settings: Settings, tile: int) -> Settings:
    return Settings(settings.device, settings.precision, tile, settings.ensemble, settings.threads)

"""Where results of tiles go: straight into the picture, or faded into each other where neighbours may differ a little."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from restora.engine.tiles import Tile, cuts, plan

Write = Callable[[Tensor, slice, slice], None]


class Direct:
    """Every tile owns its pixels.

    Args:
        height, width: of the input. size, window, reach: as `tiles.plan`. scale: of the output.
        write: puts `1 x C x h x w` into rows and columns of the output.
    """

    def __init__(self, height: int, width: int, size: int, window: int, reach: int, scale: int, write: Write) -> None:
        self.scale, self.write = scale, write
        self.tiles = plan(height, width, size, window, reach)

    def put(self, tile: Tile, result: Tensor) -> None:
        """Takes the result of a tile, or of a part of it."""
        s = self.scale
        self.write(result, slice(tile.top * s, tile.bottom * s), slice(tile.left * s, tile.right * s))

    def finish(self) -> None:
        """Writes what is still held."""


class Faded(Direct):
    """Neighbours overlap by twice `fade` pixels, and there one passes linearly into the other.

    The weights of all tiles at a pixel sum to 1. Only the present row of tiles is held, in float32: tiles come row by row.
    """

    def __init__(
        self, height: int, width: int, size: int, window: int, reach: int, scale: int, write: Write, fade: int
    ) -> None:
        super().__init__(height, width, size, window, reach, scale, write)
        self.rows, self.columns = cuts(height, size, window), cuts(width, size, window)
        shortest = min(b - a for line in (self.rows, self.columns) for a, b in itertools.pairwise(line))
        self.fade = min(fade, reach, shortest // 2)
        self.size = height, width
        self.tiles = [self._widened(tile) for tile in self.tiles]
        self.row, self.first = -1, 0
        self.band: np.ndarray | None = None

    def _widened(self, tile: Tile) -> Tile:
        return replace(
            tile,
            top=max(0, tile.top - self.fade),
            left=max(0, tile.left - self.fade),
            bottom=min(self.size[0], tile.bottom + self.fade),
            right=min(self.size[1], tile.right + self.fade),
        )

    def _weights(self, line: list[int], cell: int, begin: int, end: int) -> np.ndarray:
        """Of a cell of the grid, at the output's pixels from `begin` to `end` of the input."""
        s, f = self.scale, self.fade
        place = (np.arange(begin * s, end * s, dtype=np.float32) + 0.5) / s
        weight = np.ones_like(place)
        if f and cell > 0:
            weight *= np.clip((place - line[cell] + f) / (2 * f), 0, 1)
        if f and cell < len(line) - 2:
            weight *= np.clip((line[cell + 1] + f - place) / (2 * f), 0, 1)
        return weight

    def put(self, tile: Tile, result: Tensor) -> None:
        if tile.row != self.row:
            self._next_row(tile.row, result.shape[1])
        assert self.band is not None
        s = self.scale
        down = self._weights(self.rows, tile.row, tile.top, tile.bottom)
        across = self._weights(self.columns, tile.column, tile.left, tile.right)
        part = result[0].numpy() * down[:, None] * across
        top = tile.top * s - self.first
        self.band[:, top : top + part.shape[1], tile.left * s : tile.right * s] += part

    def _next_row(self, row: int, channels: int) -> None:
        """Writes the rows that no further tile reaches, and makes room for those of the next row of tiles."""
        import torch

        first = (
            max(0, self.rows[row] - self.fade) * self.scale if row < len(self.rows) - 1 else self.size[0] * self.scale
        )
        end = min(self.size[0], self.rows[row + 1] + self.fade) * self.scale if row < len(self.rows) - 1 else first
        band = np.zeros((channels, end - first, self.size[1] * self.scale), np.float32)
        if self.band is not None:
            ready = first - self.first
            if ready:
                finished = torch.from_numpy(self.band[None, :, :ready])
                self.write(finished, slice(self.first, first), slice(0, self.size[1] * self.scale))
            carried = self.band[:, ready:]
            band[:, : carried.shape[1]] = carried
        self.band, self.first, self.row = band, first, row

    def finish(self) -> None:
        if self.band is not None:
            self._next_row(len(self.rows) - 1, self.band.shape[0])

"""Where tiles lie: pure geometry, derived from a network's promise. Nobody types a pad."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from restora.networks.spec import Tiling


@dataclass(frozen=True)
class Tile:
    """A rectangle of the input that one call of the network is responsible for (`top`, `left`, `bottom`, `right`), and
    the larger one that the network has to see for it. Both lie inside the picture: where the picture ends, the network
    pads as it would for the whole picture. `row` and `column`: where in the grid of tiles it lies."""

    top: int
    left: int
    bottom: int
    right: int
    read_top: int
    read_left: int
    read_bottom: int
    read_right: int
    row: int = 0
    column: int = 0

    @property
    def pixels(self) -> int:
        """Input pixels that the tile contributes."""
        return (self.bottom - self.top) * (self.right - self.left)


def halo(tiling: Tiling) -> int:
    """Input pixels around a tile that influence it: the promise's radius, on the window grid."""
    return math.ceil(tiling.radius / tiling.window) * tiling.window


def tile_at(top: int, left: int, bottom: int, right: int, height: int, width: int, reach: int) -> Tile:
    """The tile with that core in a picture of that size."""
    return Tile(
        top,
        left,
        bottom,
        right,
        max(0, top - reach),
        max(0, left - reach),
        min(height, bottom + reach),
        min(width, right + reach),
    )


def plan(height: int, width: int, size: int, window: int, reach: int) -> list[Tile]:
    """Tiles of about `size` pixels a side, with a halo of `reach`, that cover a picture, row by row.

    The picture is divided evenly, so that no sliver is left at its end; cores begin on multiples of `window`.
    """
    rows, columns = (cuts(length, size, window) for length in (height, width))
    return [
        replace(tile_at(top, left, bottom, right, height, width, reach), row=row, column=column)
        for row, (top, bottom) in enumerate(itertools.pairwise(rows))
        for column, (left, right) in enumerate(itertools.pairwise(columns))
    ]


def cuts(length: int, size: int, window: int) -> list[int]:
    """The borders of tiles of about `size` along an axis, from 0 to `length`."""
    size = max(window, size // window * window)
    count = max(1, math.ceil(length / size))
    step = math.ceil(length / count / window) * window
    return [*range(0, length, step), length]


def share(tiles: list[Tile], number: int, count: int) -> list[Tile]:
    """The tiles of one of `count` groups of rows of tiles that follow each other; `number` from 0."""
    rows = sorted({tile.row for tile in tiles})
    own = set(rows[len(rows) * number // count : len(rows) * (number + 1) // count])
    return [tile for tile in tiles if tile.row in own]


def halves(tile: Tile, height: int, width: int, window: int, reach: int) -> list[Tile]:
    """The tile cut in two along its longer side, on the window grid; the tile itself when it cannot be cut."""
    tall, wide = tile.bottom - tile.top, tile.right - tile.left
    middle = math.ceil(max(tall, wide) / 2 / window) * window
    if middle >= max(tall, wide):
        return [tile]
    if tall >= wide:
        boxes = [
            (tile.top, tile.left, tile.top + middle, tile.right),
            (tile.top + middle, tile.left, tile.bottom, tile.right),
        ]
    else:
        boxes = [
            (tile.top, tile.left, tile.bottom, tile.left + middle),
            (tile.top, tile.left + middle, tile.bottom, tile.right),
        ]
    parts = [tile_at(*box, height, width, reach) for box in boxes]
    return [replace(part, row=tile.row, column=tile.column) for part in parts]

"""Tiles that all read windows of one size, for backends that make a program for each size."""

from __future__ import annotations

from dataclasses import replace

from restora.engine.tiles import Tile


def of_one_size(plan: list[Tile], height: int, width: int, window: int) -> list[Tile]:
    """The same tiles, but those at the picture's borders read further inwards, as much as the largest of them reads.

    What a tile is responsible for stays; more than its halo changes nothing of it. Reading begins on multiples of `window`, so
    that the last row and column may read up to a window more.
    """
    tall = max(t.read_bottom - t.read_top for t in plan)
    wide = max(t.read_right - t.read_left for t in plan)

    def moved(begin: int, end: int, size: int, length: int) -> tuple[int, int]:
        begin = min(begin, max(0, length - size)) // window * window
        return begin, max(min(length, begin + size), end)

    evened = []
    for tile in plan:
        top, bottom = moved(tile.read_top, tile.read_bottom, tall, height)
        left, right = moved(tile.read_left, tile.read_right, wide, width)
        evened.append(replace(tile, read_top=top, read_bottom=bottom, read_left=left, read_right=right))
    return evened

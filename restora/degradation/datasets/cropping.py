"""Sub-images: large pictures cut into overlapping squares, which load faster and shuffle better."""

from __future__ import annotations

from dataclasses import dataclass

from restora.errors import UsageError

Box = tuple[int, int, int, int]  # top, left, height, width


def windows(size: tuple[int, int], side: int, step: int, least: int = 0) -> list[tuple[int, int]]:
    """The top left corners of squares of `side` pixels, every `step` pixels, row by row.

    The last square of an axis ends at the picture's edge; it is left out where it would add no more than `least` pixels.
    Empty where the picture is smaller than a square.

    >>> windows((100, 60), 60, 30)
    [(0, 0), (30, 0), (40, 0)]
    """
    if side < 1 or step < 1:
        raise UsageError("Sub-images need a side and a step of at least 1.")
    rows, columns = (_starts(n, side, step, least) for n in size)
    return [(top, left) for top in rows for left in columns]


def _starts(length: int, side: int, step: int, least: int) -> list[int]:
    if length < side:
        return []
    starts = list(range(0, length - side + 1, step))
    if length - side - starts[-1] > least:
        starts.append(length - side)
    return starts


@dataclass(frozen=True)
class Cutting:
    """How the clean pictures are cut before anything else.

    centre: side of a centre crop. side, step: sub-images of `side` pixels every `step` pixels. multiple: the sides are
    reduced to multiples of this.
    """

    centre: int | None = None
    side: int | None = None
    step: int | None = None
    multiple: int = 1

    def boxes(self, height: int, width: int) -> list[Box]:
        """The parts of a picture, as (top, left, height, width)."""
        top = left = 0
        if self.centre is not None:
            cut_h, cut_w = min(self.centre, height), min(self.centre, width)
            top, left, height, width = (height - cut_h) // 2, (width - cut_w) // 2, cut_h, cut_w
        if self.side is None:
            m = self.multiple
            if height < m or width < m:
                raise UsageError(f"A picture of {width}x{height} pixels is too small for a scale of {m}.")
            return [(top, left, height - height % m, width - width % m)]
        side = self.side - self.side % self.multiple
        return [(top + t, left + w, side, side) for t, w in windows((height, width), side, self.step or side)]

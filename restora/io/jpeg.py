"""JPEG written from rows as they come: strips that Pillow codes one by one, joined to one scan by restart markers.

A whole picture in Pillow's hands takes four bytes a pixel besides its own; so a large one takes a strip's. The coefficients, and
with them the pixels, are those of one piece: only where the coder starts counting anew differs (ITU-T T.81, E.1 and F.1).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

from restora.io.pixels import Array, map_ahead

_BLOCK = 8  # pixels a side; colour is not reduced
_INTERVAL = 65535  # blocks between two markers, at most
_STRIP = 1 << 22  # pixels
_START_OF_SCAN, _START_OF_FRAME = 0xDA, 0xC0


class Writer:
    """Writes a baseline JPEG from rows as they come.

    Args:
        shape: H x W x {1, 3} of the whole picture. save: writes a Pillow image as JPEG without reducing the colours, with what
            stands before the pixels.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], save: Callable[[BinaryIO, Image.Image], None]) -> None:
        self.file, self.shape, self.save = file, shape, save
        self.across = -(-shape[1] // _BLOCK)
        down = max(1, min(_INTERVAL // self.across, _STRIP // (_BLOCK * shape[1])))
        self.rows = _BLOCK * down  # of a strip; `append` takes multiples of it
        self.interval, self.count = down * self.across, 0

    def append(self, pixels: Array) -> None:
        """Adds rows: whole strips, but for the picture's last ones."""

        def code(first: int) -> bytes:
            strip = np.ascontiguousarray(pixels[first : first + self.rows])
            coded = io.BytesIO()
            self.save(coded, Image.fromarray(strip[..., 0] if strip.shape[2] == 1 else strip))
            return coded.getvalue()

        for data in map_ahead(code, range(0, len(pixels), self.rows)):
            scan = _scan(data)
            if self.count:
                self.file.write(bytes((0xFF, 0xD0 + (self.count - 1) % 8)))
            else:
                self.file.write(self._head(data, scan))
            self.file.write(data[scan + _length(data, scan) : -2])
            self.count += 1

    def finish(self) -> None:
        """Writes the end."""
        self.file.write(b"\xff\xd9")

    def _head(self, data: bytes, scan: int) -> bytes:
        """The first strip's segments with the whole picture's height and the interval of the markers."""
        head = bytearray(data[: scan + _length(data, scan)])
        frame = _segment(data, _START_OF_FRAME)
        struct.pack_into(">H", head, frame + 5, self.shape[0])
        head[scan:scan] = struct.pack(">BBHH", 0xFF, 0xDD, 4, self.interval)
        return bytes(head)


def _length(data: bytes, at: int) -> int:
    """Of a segment, with its marker."""
    return 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _segment(data: bytes, marker: int) -> int:
    """Where the first segment of a kind begins."""
    at = 2
    while data[at + 1] != marker:
        at += _length(data, at)
    return at


def _scan(data: bytes) -> int:
    return _segment(data, _START_OF_SCAN)

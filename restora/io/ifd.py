"""The tag directories that TIFF files and EXIF blocks are made of: parsed, and put together again.

Values are held little-endian whatever the file's order. Only what lies inside the buffer is believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

Buffer = bytes | bytearray | memoryview
_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNIT = {
    3: "u2",
    4: "u4",
    5: "u4",
    8: "i2",
    9: "i4",
    10: "i4",
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
SHORT, LONG, LONG8, RATIONAL, ASCII, BYTE, UNDEFINED = 3, 4, 16, 5, 2, 1, 7
EXIF, GPS, INTEROP = 34665, 34853, 40965  # tags whose value is the place of a further directory


@dataclass(frozen=True)
class Entry:
    """One tag's value: TIFF type, number of items, little-endian bytes, and where its record stands in the buffer."""

    type: int
    count: int
    raw: bytes
    record: int = 0  # offset of the directory record, for edits in place
    value: int = 0  # offset of the value itself

    def numbers(self) -> tuple[int | float, ...]:
        """The value as numbers; rationals as quotients, bytes as integers."""
        if self.type not in _UNIT:
            return tuple(self.raw)
        items = np.frombuffer(self.raw, "<" + _UNIT[self.type]).tolist()
        if self.type in (5, 10):
            return tuple(a / b if b else 0.0 for a, b in zip(items[::2], items[1::2], strict=True))
        return tuple(items)


def entry(type: int, *values: int | float | bytes) -> Entry:
    """An entry made of numbers (SHORT, LONG; RATIONAL from floats) or of one bytes value."""
    if values and isinstance(values[0], bytes):
        return Entry(type, len(values[0]), values[0])
    numbers = [float(v) for v in values]
    if type == RATIONAL:
        pairs = [part for v in numbers for part in (round(v * 1000), 1000)]
        return Entry(type, len(numbers), np.asarray(pairs, "<u4").tobytes())
    return Entry(type, len(numbers), np.asarray(numbers, np.float64).astype("<" + _UNIT[type]).tobytes())


@dataclass
class Directory:
    """Tags and the directories that hang on some of them."""

    entries: dict[int, Entry] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    next: int = 0  # offset of the next directory of the chain, 0 for none
    next_record: int = 0  # offset of that offset


def byte_order(buffer: Buffer) -> tuple[str, bool, int]:
    """``"<"`` or ``">"``, whether it is a BigTIFF, and the first directory's offset. ValueError if it is neither."""
    mark = bytes(buffer[:4])
    order = {b"II": "<", b"MM": ">"}.get(mark[:2])
    if order is None or len(buffer) < 8:
        raise ValueError("no TIFF byte order mark")
    version = struct.unpack(order + "H", mark[2:4])[0]
    if version == 43:
        return order, True, struct.unpack(order + "Q", bytes(buffer[8:16]))[0]
    if version != 42:
        raise ValueError("no TIFF version mark")
    return order, False, struct.unpack(order + "I", bytes(buffer[4:8]))[0]


def read_directory(buffer: Buffer, offset: int, order: str, big: bool = False) -> Directory:
    """One directory; entries whose value lies outside the buffer are left out. ValueError if the directory itself does."""
    head, record, word = (8, 20, "Q") if big else (2, 12, "I")
    width = struct.calcsize(word)
    if offset < 8 or offset + head > len(buffer):
        raise ValueError("a directory lies outside the file")
    count = struct.unpack(order + ("Q" if big else "H"), bytes(buffer[offset : offset + head]))[0]
    end = offset + head + count * record
    if end + width > len(buffer):  # some writers leave out the last link
        if end > len(buffer):
            raise ValueError("a directory is cut short")
        directory = Directory()
    else:
        directory = Directory(next=struct.unpack(order + word, bytes(buffer[end : end + width]))[0], next_record=end)
    for at in range(offset + head, end, record):
        tag, type, items = struct.unpack(order + "HH" + word, bytes(buffer[at : at + 4 + width]))
        size = _SIZE.get(type, 0) * items
        place = at + 4 + width
        if size > width:
            place = struct.unpack(order + word, bytes(buffer[place : place + width]))[0]
        if type not in _SIZE or place + size > len(buffer):
            continue
        raw = bytes(buffer[place : place + size])
        if order == ">" and type in _UNIT:
            raw = np.frombuffer(raw, ">" + _UNIT[type]).astype("<" + _UNIT[type]).tobytes()
        directory.entries[tag] = Entry(type, items, raw, at, place)
    return directory


def read_tree(buffer: Buffer) -> Directory:
    """The first directory with its EXIF, GPS and interoperability directories. ValueError if the first is unreadable."""
    order, big, offset = byte_order(buffer)
    root = read_directory(buffer, offset, order, big)
    for parent, tags in ((root, (EXIF, GPS)), (None, (INTEROP,))):
        parent = parent or root.children.get(EXIF)
        for tag in tags if parent else ():
            assert parent is not None
            link = parent.entries.pop(tag, None)
            if link is not None and link.numbers():
                try:
                    parent.children[tag] = read_directory(buffer, int(link.numbers()[0]), order, big)
                except ValueError:
                    continue  # a broken branch is left out, the rest is good
    return root


def pack(tree: Directory, base: int, big: bool = False) -> bytes:
    """The directory, its values and its children as little-endian bytes that will stand at offset `base`, as a classic TIFF
    or a BigTIFF has them."""
    head, record, word = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    inline = struct.calcsize(word)
    tags = sorted({*tree.entries, *tree.children})
    values = base + struct.calcsize(head) + (struct.calcsize(record) + inline) * len(tags) + inline
    tail = b""
    blocks: dict[int, Entry] = dict(tree.entries)
    # values first, children behind them: their offsets need the length of the values
    length = sum(len(e.raw) + len(e.raw) % 2 for e in tree.entries.values() if len(e.raw) > inline)
    place = values + length
    children = b""
    for tag, child in sorted(tree.children.items()):
        block = pack(child, place + len(children), big)
        blocks[tag] = entry(LONG8 if big else LONG, place + len(children))
        children += block + b"\0" * (len(block) % 2)
    records = b""
    for tag in tags:
        item = blocks[tag]
        records += struct.pack(record, tag, item.type, item.count)
        if len(item.raw) <= inline:
            records += item.raw.ljust(inline, b"\0")
        else:
            records += struct.pack(word, values + len(tail))
            tail += item.raw + b"\0" * (len(item.raw) % 2)
    return struct.pack(head, len(tags)) + records + b"\0" * inline + tail + children

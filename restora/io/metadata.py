"""What travels with the pixels: EXIF, ICC, XMP, resolution, captions. EXIF is patched in place, so that every tag that is
not ours to change, maker notes included, keeps its bytes and its offset."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from restora.io import ifd

ORIENTATION, SOFTWARE = 274, 305
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
# of a TIFF's first directory, only what describes the photograph is metadata; the rest describes the file
DESCRIPTIVE = frozenset(
    {269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, 33723, *range(40091, 40096)}
    | {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}
)


@dataclass
class Metadata:
    """Everything beside the pixels.

    exif: a TIFF-structured block (``II*\\0...`` or ``MM\\0*...``, no ``Exif\\0\\0`` in front), orientation 1.
    icc, xmp: the profile's and the packet's bytes. dpi: across, down. iptc: the payload of a JPEG's APP13 segment.
    comment: a JPEG's or GIF's. chunks: a PNG's text and colour chunks as (name, data), written back to PNG only.
    quantisation: the tables that a JPEG was read with, 64 steps each in rows, luminance first; never written back.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    chunks: tuple[tuple[str, bytes], ...] = field(default=())
    quantisation: tuple[tuple[int, ...], ...] = field(default=(), compare=False, repr=False)


def clean_dpi(value: object) -> tuple[float, float] | None:
    """A pair of finite positive numbers, else None; PNG's whole dots a metre come back as the 300 that they were."""
    try:
        x, y = (round(float(v), 2) for v in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def strip_exif_mark(exif: bytes | None) -> bytes | None:
    """Without the ``Exif\\0\\0`` that JPEG and some WebP writers put in front."""
    if exif and exif[:6] in (b"Exif\0\0", b"Exif\0\xff"):
        exif = exif[6:]
    return exif or None


def exif_orientation(exif: bytes | None) -> int:
    """1 to 8; 1 where there is none or it is nonsense."""
    try:
        order, big, offset = ifd.byte_order(exif or b"")
        found = ifd.read_directory(exif or b"", offset, order, big).entries.get(ORIENTATION)
        value = int(found.numbers()[0]) if found is not None and found.numbers() else 1
    except (ValueError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """The resolution that EXIF's first directory gives, in dots an inch."""
    try:
        entries = ifd.read_tree(exif or b"").entries
    except (ValueError, struct.error):
        return None
    return directory_dpi(entries)


def directory_dpi(entries: dict[int, ifd.Entry]) -> tuple[float, float] | None:
    """The resolution in TIFF tags; None where the unit says that it is only an aspect ratio."""
    if X_RESOLUTION not in entries:
        return None
    unit = entries[RESOLUTION_UNIT].numbers() if RESOLUTION_UNIT in entries else (2,)
    if not unit or unit[0] not in (2, 3):
        return None
    scale = 2.54 if unit[0] == 3 else 1.0
    x = entries[X_RESOLUTION].numbers()
    y = entries[Y_RESOLUTION].numbers() if Y_RESOLUTION in entries else x
    return clean_dpi([x[0] * scale, y[0] * scale]) if x and y else None


def usable_exif(exif: bytes | None) -> bool:
    """Whether the block's first directory can be parsed at all."""
    try:
        order, big, offset = ifd.byte_order(exif or b"")
        ifd.read_directory(exif or b"", offset, order, big)
    except (ValueError, struct.error):
        return False
    return not big


def upright_exif(exif: bytes) -> bytes:
    """Orientation 1, and no embedded thumbnail: it would show the picture turned, or unrestored."""
    blob = bytearray(exif)
    order, _, offset = ifd.byte_order(blob)
    root = ifd.read_directory(blob, offset, order)
    if ORIENTATION in root.entries:
        _set_number(blob, order, root.entries[ORIENTATION], 1)
    if root.next:
        try:
            thumbnail = ifd.read_directory(blob, root.next, order).entries
        except ValueError:
            thumbnail = {}
        blob[root.next_record : root.next_record + 4] = bytes(4)
        if 513 in thumbnail and 514 in thumbnail:
            start, length = (int((thumbnail[tag].numbers() or (0,))[0]) for tag in (513, 514))
            if start >= 8 and start + length == len(blob):
                del blob[start:]
            elif start >= 8 and start + length < len(blob):
                blob[start : start + length] = bytes(length)
    return bytes(blob)


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """The packet with tiff:Orientation 1, as attribute or element; its length does not change."""
    if xmp is None:
        return None
    xmp = re.sub(rb"(tiff:Orientation\s*=\s*[\"'])[2-8]([\"'])", rb"\g<1>1\g<2>", xmp)
    return re.sub(rb"(<tiff:Orientation\s*>\s*)[2-8](\s*<)", rb"\g<1>1\g<2>", xmp)


def sized_exif(exif: bytes, width: int, height: int) -> bytes:
    """The tags that state the picture's size brought up to date, where they are present."""
    blob = bytearray(exif)
    order, _, offset = ifd.byte_order(blob)
    root = ifd.read_directory(blob, offset, order)
    places = [(root.entries, 256, width), (root.entries, 257, height)]
    link = root.entries.get(ifd.EXIF)
    if link is not None and link.numbers():
        try:
            photo = ifd.read_directory(blob, int(link.numbers()[0]), order).entries
        except ValueError:
            photo = {}
        places += [(photo, 0xA002, width), (photo, 0xA003, height)]
    for entries, tag, value in places:
        if tag in entries:
            _set_number(blob, order, entries[tag], value)
    return bytes(blob)


def _set_number(blob: bytearray, order: str, found: ifd.Entry, value: int) -> None:
    """One number into a record; it stays a SHORT where it was one and fits."""
    short = found.type == ifd.SHORT and value < 65536
    record = struct.pack(order + "HI", ifd.SHORT if short else ifd.LONG, 1)
    record += struct.pack(order + "HH", value, 0) if short else struct.pack(order + "I", value)
    blob[found.record + 2 : found.record + 12] = record


def tagged_exif(exif: bytes | None, tags: dict[int, ifd.Entry]) -> bytes:
    """EXIF with tags of the first directory added or replaced. That directory moves to the end of the block, with the new
    values; nothing else moves. Values are to be bytes, ASCII, SHORT, LONG or RATIONAL."""
    blob = bytearray(exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0")
    order, _, offset = ifd.byte_order(blob)
    root = ifd.read_directory(blob, offset, order)
    records = {tag: bytes(blob[e.record : e.record + 12]) for tag, e in root.entries.items()}
    if len(blob) % 2:
        blob += b"\0"
    for tag, new in tags.items():
        raw = new.raw
        if order == ">" and new.type in (ifd.SHORT, ifd.LONG, ifd.RATIONAL):
            width = 2 if new.type == ifd.SHORT else 4
            raw = b"".join(raw[i : i + width][::-1] for i in range(0, len(raw), width))
        head = struct.pack(order + "HHI", tag, new.type, new.count)
        if len(raw) > 4:
            records[tag] = head + struct.pack(order + "I", len(blob))
            blob += raw + b"\0" * (len(raw) % 2)
        else:
            records[tag] = head + raw.ljust(4, b"\0")
    blob[4:8] = struct.pack(order + "I", len(blob))
    blob += struct.pack(order + "H", len(records)) + b"".join(records[tag] for tag in sorted(records))
    blob += struct.pack(order + "I", root.next)
    return bytes(blob)


def exif_of_directory(tree: ifd.Directory) -> bytes | None:
    """The descriptive part of a TIFF file's tags as an EXIF block; None if there is nothing but the resolution."""
    kept = {tag: e for tag, e in tree.entries.items() if tag in DESCRIPTIVE}
    children = {tag: child for tag, child in tree.children.items() if child.entries}
    if not children and not set(kept) - {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}:
        return None
    return b"II*\0\x08\0\0\0" + ifd.pack(ifd.Directory(kept, children), 8)

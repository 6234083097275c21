"""PNG. Chunks are walked here, with every checksum; pixels of 8 bits and fewer are Pillow's to decode and those of
16 bits OpenCV's, because Pillow cuts them to 8. Writing is done here, strip by strip, from any array or memory map."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import PngImagePlugin

from restora.errors import CorruptPicture
from restora.io.metadata import Metadata, clean_dpi, exif_orientation, strip_exif_mark, usable_exif
from restora.io.pillow import from_image
from restora.io.pixels import Array, deflated, map_ahead, strips
from restora.io.source import Decoded, Header, Source

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"mDCv", b"cLLi"}
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_UNZIPPED = 1 << 26  # no honest profile or text is larger
_XMP = b"XML:com.adobe.xmp"


def _chunks(source: Source) -> Iterator[tuple[bytes, memoryview, int]]:
    """(name, data, stored checksum) from behind the signature to IEND. CorruptPicture if the file ends before that."""
    data, at = source.data, 8
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if end > len(data):
            break
        yield name, data[at + 8 : end - 4], int.from_bytes(data[end - 4 : end], "big")
        if name == b"IEND":
            return
        at = end
    raise CorruptPicture(f"'{source.name}' is cut short: a PNG without its end.")


def read_header(source: Source) -> Header:
    """The header of a PNG, metadata included wherever in the file it stands."""
    metadata, key, frames = Metadata(), b"", 1
    width = height = depth = kind = 0
    kept: list[tuple[str, bytes]] = []
    for name, data, _ in _chunks(source):
        if name == b"IHDR" and len(data) >= 13:
            width, height, depth, kind = struct.unpack(">IIBB", data[:10])
        elif name == b"tRNS":
            key = bytes(data)
        elif name == b"acTL" and len(data) >= 4:
            frames = max(1, int.from_bytes(data[:4], "big"))
        elif name == b"eXIf":
            metadata.exif = strip_exif_mark(bytes(data))
        elif name == b"iCCP":
            metadata.icc = _unzip(bytes(data).partition(b"\0")[2][1:])
        elif name == b"pHYs" and len(data) == 9 and data[8] == 1:
            metadata.dpi = clean_dpi([n * 0.0254 for n in struct.unpack(">II", data[:8])])
        elif name in _KEPT:
            word, _, rest = bytes(data).partition(b"\0")
            if name == b"iTXt" and word == _XMP:
                metadata.xmp = _international_text(rest)
            elif name != b"iTXt" and word in (b"Raw profile type exif", b"Raw profile type APP1") and not metadata.exif:
                metadata.exif = _raw_profile(rest if name == b"tEXt" else _unzip(rest[1:]) or b"")
            else:
                kept.append((name.decode("ascii"), bytes(data)))
    if kind not in _CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise CorruptPicture(f"'{source.name}' has a damaged PNG header.")
    metadata.chunks = tuple(kept)
    if not usable_exif(metadata.exif):
        metadata.exif = None
    return Header(
        width=width,
        height=height,
        channels=_CHANNELS[kind],
        bit_depth=16 if depth == 16 else 8,
        has_alpha=kind >= 4 or bool(key),
        decode=lambda: _decode(source, kind, depth, key),
        metadata=metadata,
        orientation=exif_orientation(metadata.exif),
        frames=frames,
    )


def _unzip(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, _UNZIPPED) or None
    except zlib.error:
        return None


def _international_text(rest: bytes) -> bytes | None:
    """What stands behind an iTXt's keyword: flag, method, language, translated keyword, text."""
    body = rest[2:].split(b"\0", 2)
    if len(rest) < 2 or len(body) < 3:
        return None
    return _unzip(body[2]) if rest[0] else body[2]


def _raw_profile(text: bytes) -> bytes | None:
    """ImageMagick's way of keeping EXIF in a text: a name, a length, lines of hexadecimal digits."""
    try:
        return strip_exif_mark(bytes.fromhex("".join(text.decode("latin-1").split()[2:])))
    except ValueError:
        return None


def _decode(source: Source, kind: int, depth: int, key: bytes) -> Decoded:
    for name, data, checksum in _chunks(source):
        if zlib.crc32(data, zlib.crc32(name)) != checksum:
            raise CorruptPicture(f"'{source.name}' is damaged: a checksum in it is wrong.")
    if depth == 16:
        pixels, alpha = _decode16(source, kind)
    else:
        source.file.seek(0)
        with PngImagePlugin.PngImageFile(source.file) as image:
            image.load()
            if kind != 3:  # Pillow does not scale the key of 1, 2 and 4 bits as it scales the pixels
                image.info.pop("transparency", None)
            pixels, alpha, _ = from_image(image)
        # Pillow leaves rows black, without a word, where the compressed stream ends early
        if any((row == row[0]).all() for row in pixels[-2:]) and not _is_complete(source):
            raise CorruptPicture(f"'{source.name}' is cut short: rows of its pixels are missing.")
    if kind in (0, 2) and key:
        scale = 1 if depth >= 8 else 255 // ((1 << depth) - 1)
        # only the low bits of a key count; a palette index beyond them is the same grey
        colour = [
            (v & ((1 << depth) - 1)) * scale for v in struct.unpack(f">{_CHANNELS[kind]}H", key[: 2 * _CHANNELS[kind]])
        ]
        seen = (pixels != np.array(colour, pixels.dtype)).any(axis=2)
        alpha = seen.astype(pixels.dtype) * np.iinfo(pixels.dtype).max
    return pixels, alpha, []


def _is_complete(source: Source) -> bool:
    """Whether the compressed stream is as long as the header makes it."""
    coder, length, expected = zlib.decompressobj(), 0, 0
    for name, data, _ in _chunks(source):
        if name == b"IHDR":
            width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[:13])
            bits = depth * (1 if kind == 3 else {0: 1, 2: 3, 4: 2, 6: 4}[kind])
            for y, x, down, across in _ADAM7 if interlaced else ((0, 0, 1, 1),):
                columns, rows = -(-(width - x) // across), -(-(height - y) // down)
                expected += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
        elif name == b"IDAT":
            rest: bytes | memoryview = data
            while rest and not coder.eof and length < expected:
                length += len(coder.decompress(rest, 1 << 20))
                rest = coder.unconsumed_tail
    return length + len(coder.flush()) >= expected


def _decode16(source: Source, kind: int) -> tuple[Array, Array | None]:
    import cv2

    found = cv2.imdecode(np.frombuffer(source.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16:
        raise CorruptPicture(f"'{source.name}' is damaged or cut short; its 16-bit pixels cannot be decoded.")
    planes = found.reshape(*found.shape[:2], -1)
    if kind in (0, 4):  # OpenCV spreads grey with alpha over four channels
        pixels = np.ascontiguousarray(planes[..., :1])
    else:
        pixels = cv2.cvtColor(planes, cv2.COLOR_BGR2RGB if planes.shape[2] == 3 else cv2.COLOR_BGRA2RGB)
    return pixels, np.ascontiguousarray(planes[..., -1]) if kind >= 4 else None


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def _ancillary(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    for name, data in metadata.chunks:
        # a profile overrules the other statements about colour, and PNG forbids sRGB beside it
        if name in ("tEXt", "zTXt", "iTXt") or not metadata.icc:
            yield _chunk(name.encode("ascii"), data)
    if metadata.dpi:
        yield _chunk(b"pHYs", struct.pack(">IIB", *(max(1, round(n / 0.0254)) for n in metadata.dpi), 1))
    if metadata.xmp:
        yield _chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.exif:
        yield _chunk(b"eXIf", metadata.exif)


class Writer:
    """Writes a PNG from rows as they come. Every strip is filtered and compressed by itself on a thread, and the deflate blocks
    are strung together.

    Args:
        shape: H x W x {1, 3} of the whole picture, uint8 or uint16. alpha: whether rows come with one.
    """

    def __init__(
        self, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, alpha: bool, metadata: Metadata
    ) -> None:
        self.file, self.shape, self.dtype = file, shape, dtype.newbyteorder(">")
        self.samples, size = shape[2] + alpha, dtype.itemsize
        self.step, row_bytes = self.samples * size, shape[1] * self.samples * size
        self.rows = strips(shape[0], row_bytes)[0][1]  # of a strip; `append` takes multiples of it
        self.above, self.lead, self.total = np.zeros((1, row_bytes), np.uint8), b"\x78\x01", 1
        kind = (2 if shape[2] == 3 else 0) + (4 if alpha else 0)
        file.write(_SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", shape[1], shape[0], size * 8, kind, 0, 0, 0)))
        for block in _ancillary(metadata):
            file.write(block)

    def append(self, pixels: Array, alpha: Array | None = None) -> None:
        """Adds rows: whole strips, but for the picture's last ones."""

        def rows(first: int, end: int) -> Array:
            block = np.empty((end - first, self.shape[1], self.samples), self.dtype)
            block[..., : self.shape[2]] = pixels[first:end]
            if alpha is not None:
                block[..., self.shape[2]] = alpha[first:end]
            return block.view(np.uint8).reshape(end - first, -1)

        before = self.above

        def compress(run: tuple[int, int]) -> tuple[bytes, int, int]:
            first, end = run
            block = rows(max(0, first - 1), end)
            above = block[:-1] if first else np.concatenate([before, block[:-1]])
            filtered = _filtered(block[1:] if first else block, above, self.step)
            return deflated(filtered, -15, finish=False), zlib.adler32(filtered.data), filtered.size

        runs = [(y, min(len(pixels), y + self.rows)) for y in range(0, len(pixels), self.rows)]
        for packed, checksum, length in map_ahead(compress, runs):
            self.file.write(_chunk(b"IDAT", self.lead + packed))
            self.lead, self.total = b"", _adler_of_both(self.total, checksum, length)
        self.above = rows(len(pixels) - 1, len(pixels))

    def finish(self) -> None:
        """Writes the checksum and the end."""
        self.file.write(_chunk(b"IDAT", b"\x03\x00" + struct.pack(">I", self.total)) + _chunk(b"IEND", b""))


def write(file: BinaryIO, pixels: Array, alpha: Array | None, metadata: Metadata) -> None:
    """Writes uint8 or uint16 pixels (H x W x {1, 3}, alpha H x W) with bounded memory."""
    writer = Writer(file, pixels.shape, pixels.dtype, alpha is not None, metadata)
    writer.append(pixels, alpha)
    writer.finish()


def _filtered(block: Array, above: Array, step: int) -> Array:
    """Rows of bytes behind their filter number: Paeth's prediction, the best single one for photographs."""
    height, width = block.shape
    out = np.empty((height, width + 1), np.uint8)
    out[:, 0] = 4
    left = np.zeros((height, width), np.int16)
    left[:, step:] = block[:, :-step] if width > step else 0
    up = above.astype(np.int16)
    corner = np.zeros_like(left)
    corner[:, step:] = up[:, :-step] if width > step else 0
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    prediction = np.where(to_up <= to_corner, up, corner)
    np.copyto(prediction, left, where=(to_left <= to_up) & (to_left <= to_corner))
    np.subtract(block, prediction.astype(np.uint8), out=out[:, 1:])
    return out


def _adler_of_both(first: int, second: int, length: int) -> int:
    """Adler-32 of two runs of bytes from that of each and the second one's length."""
    a, b = first & 0xFFFF, first >> 16
    c, d = second & 0xFFFF, second >> 16
    return (b + d + length * (a - 1)) % 65521 << 16 | (a + c - 1) % 65521

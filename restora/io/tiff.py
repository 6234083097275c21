"""TIFF, read and written here for grey and RGB of 8, 16 and 32-bit float samples, with or without alpha: Pillow cuts RGB to
8 bits and OpenCV knows neither planes nor tags. Palette, CMYK, JPEG-in-TIFF and the like are handed to Pillow (8 bits)."""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from restora.errors import CorruptPicture, PictureTooLarge, UnsupportedPicture
from restora.io import ifd
from restora.io.metadata import (
    DESCRIPTIVE,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Metadata,
    clean_dpi,
    directory_dpi,
    exif_of_directory,
)
from restora.io.pillow import from_image, libtiff_strip
from restora.io.pixels import Array, deflated, map_ahead, strips, unpremultiplied
from restora.io.source import Decoded, Header, Source, guarded

_NONE, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_UNPACKED = {_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS, 34925, 50000}
_DTYPES = {(1, 8): "u1", (1, 16): "u2", (3, 16): "f2", (3, 32): "f4", (3, 64): "f8"}
_MOST_SAMPLES = 32
_PIECE, _LARGEST_PIECE = 1 << 24, 1 << 28
_CLASSIC = 0xF0000000  # bytes of pixels: packed they may be a little more, and a classic TIFF addresses 4 GiB


@dataclass
class _Layout:
    """How the samples lie in the file."""

    order: str
    width: int
    height: int
    samples: int
    dtype: np.dtype
    compression: int
    predictor: int
    planar: bool
    tile: tuple[int, int]  # width, height; strips are tiles as wide as the picture, and their last one is short
    tiled: bool
    offsets: list[int]
    counts: list[int]


def _first(tree: ifd.Directory, tag: int, default: int) -> int:
    found = tree.entries.get(tag)
    return int(found.numbers()[0]) if found is not None and found.count else default


def _all(tree: ifd.Directory, tag: int) -> list[int]:
    found = tree.entries.get(tag)
    return [int(n) for n in found.numbers()] if found is not None else []


def read_header(source: Source) -> Header:
    """The header of a TIFF's first page."""
    data = source.data
    order, big, _ = ifd.byte_order(data)
    tree = ifd.read_tree(data)
    width, height = _first(tree, 256, 0), _first(tree, 257, 0)
    if 50706 in tree.entries or (_first(tree, 254, 0) & 1 and 330 in tree.entries) or bytes(data[8:10]) == b"CR":
        raise UnsupportedPicture(f"'{source.name}' is a camera's raw file; develop it to TIFF or PNG first.")
    bits = set(_all(tree, 258) or [1])
    kinds = set(_all(tree, 339) or [1])
    samples, photometric = _first(tree, 277, 1), _first(tree, 262, 1)
    if samples > _MOST_SAMPLES:
        raise UnsupportedPicture(f"'{source.name}' has {samples} channels a pixel; a photograph has up to 4.")
    depth, colours = max(bits), 3 if photometric == 2 else 1
    dtype = _DTYPES.get((min(kinds), depth)) if len(bits) == len(kinds) == 1 else None
    compression, predictor = _first(tree, 259, 1), _first(tree, 317, 1)
    own = (
        dtype is not None
        and photometric in (0, 1, 2)
        and samples >= colours
        and compression in _UNPACKED
        and predictor in (1, 2, 3)
        and _first(tree, 266, 1) == 1
    )
    if not own and (depth > 8 or kinds != {1}):
        raise UnsupportedPicture(
            f"'{source.name}' is a TIFF of a kind that cannot be read here ({depth} bits, photometric {photometric}, "
            f"compression {compression}); save it as 8- or 16-bit RGB first."
        )
    xmp, icc = tree.entries.get(700), tree.entries.get(34675)
    metadata = Metadata(
        exif=exif_of_directory(tree),
        icc=icc.raw if icc is not None and photometric != 5 else None,
        xmp=xmp.raw if xmp is not None else None,
        dpi=directory_dpi(tree.entries),
    )
    extras = _all(tree, 338)
    has_alpha = samples > colours and (extras[0] in (1, 2) if extras else samples == colours + 1)
    orientation = _first(tree, 274, 1)
    header = Header(
        width=width,
        height=height,
        channels=1 if photometric in (0, 1) else 3,
        bit_depth={8: 8, 16: 16}.get(depth, 8 if depth < 8 else 32) if kinds == {1} else 32,
        has_alpha=has_alpha,
        decode=lambda: _decode_by_pillow(source),
        metadata=metadata,
        orientation=orientation if own and 1 <= orientation <= 8 else 1,  # Pillow turns a TIFF by itself
        frames=_pages(data, order, big),
    )
    if 34377 in tree.entries or 37724 in tree.entries:
        header.notes.append("Photoshop's own data in the TIFF (layers, paths, previews) were not kept.")
    if not own:
        if orientation >= 5:
            header.width, header.height = height, width
        return header
    notes = []
    if samples > colours + has_alpha:
        notes.append("A further channel of the TIFF, which is not marked as alpha, was left out.")
    tiled = 324 in tree.entries
    side = (_first(tree, 322, 0), _first(tree, 323, 0)) if tiled else (width, min(height, _first(tree, 278, height)))
    layout = _Layout(
        order=order,
        width=width,
        height=height,
        samples=samples,
        dtype=np.dtype(dtype),
        compression=compression,
        predictor=predictor,
        planar=_first(tree, 284, 1) == 2 and samples > 1,
        tile=side,
        tiled=tiled,
        offsets=_all(tree, 324 if tiled else 273),
        counts=_all(tree, 325 if tiled else 279),
    )
    premultiplied = bool(extras) and extras[0] == 1
    header.decode = lambda: _decode(source, layout, colours, has_alpha, premultiplied, photometric == 0, notes)
    if not has_alpha and header.orientation == 1:
        header.rows = lambda: Rows(source, layout, colours, photometric == 0)
    return header


def _pages(data: memoryview, order: str, big: bool) -> int:
    """Pages that are pictures of their own; 2 stands for more than one."""
    seen: set[int] = set()
    following = ifd.read_directory(data, ifd.byte_order(data)[2], order, big).next
    while following and following not in seen and len(seen) < 1000:
        seen.add(following)
        try:
            page = ifd.read_directory(data, following, order, big)
        except ValueError:
            break
        if not _first(page, 254, 0) & 5:  # neither a smaller version nor a mask of another page
            return 2
        following = page.next
    return 1


def _decode_by_pillow(source: Source) -> Decoded:
    source.file.seek(0)
    with TiffImagePlugin.TiffImageFile(source.file) as image:
        image.load()
        return from_image(image)


def _decode(
    source: Source,
    layout: _Layout,
    colours: int,
    has_alpha: bool,
    premultiplied: bool,
    inverted: bool,
    notes: list[str],
) -> Decoded:
    dtype = layout.dtype if layout.dtype.kind == "u" else np.dtype(np.float32)
    pixels = np.empty((layout.height, layout.width, colours), dtype)
    alpha = np.empty((layout.height, layout.width), dtype) if has_alpha else None
    for plane, y, x, block in _blocks(source, layout):
        here = slice(y, y + block.shape[0]), slice(x, x + block.shape[1])
        with np.errstate(over="ignore"):
            if not layout.planar:
                pixels[here] = block[..., :colours]
                if alpha is not None:
                    alpha[here] = block[..., colours]
            elif plane < colours:
                pixels[(*here, plane)] = block[..., 0]
            elif plane == colours and alpha is not None:
                alpha[here] = block[..., 0]
    if layout.dtype == np.float64:
        notes.append("64-bit floating-point pixels were read as 32-bit.")
    if dtype.kind == "f":
        notes += _repair(pixels, source.name)
        if alpha is not None:
            notes += _repair(alpha, source.name)
    if inverted:
        white = {1: 255, 2: 65535, 4: 1}[dtype.itemsize]
        np.subtract(dtype.type(white), pixels, out=pixels)
    if premultiplied and alpha is not None:
        pixels = unpremultiplied(pixels, alpha)
        notes.append("Colour that was stored multiplied by alpha was made straight.")
    return pixels, alpha, list(dict.fromkeys(notes))


def _repair(values: Array, name: str) -> list[str]:
    """Replaces what is not a number, in place: one NaN would otherwise spread over all that a network sees around it."""
    finite = np.isfinite(values)
    if finite.all():
        return []
    if not finite.any():
        raise CorruptPicture(f"'{name}' holds no finite number; there is no picture in it.")
    low, high = float(values[finite].min()), float(values[finite].max())
    np.nan_to_num(values, copy=False, nan=0.0, posinf=high, neginf=low)
    bad = finite.size - int(np.count_nonzero(finite))
    return [f"{bad} values that were NaN or infinite were replaced (by 0, or by the largest or smallest finite value)."]


def _blocks(source: Source, layout: _Layout) -> Iterator[tuple[int, int, int, Array]]:
    """Every strip or tile as (plane, y, x, rows x columns x samples), cut to the picture."""
    across, down, planes, counts = _grid(source, layout)
    for number in range(across * down * planes):
        plane, place = divmod(number, across * down)
        y, x = place // across * layout.tile[1], place % across * layout.tile[0]
        yield plane, y, x, _block(source, layout, counts, number, y, x)


def _grid(source: Source, layout: _Layout) -> tuple[int, int, int, list[int]]:
    """How many strips or tiles lie across and down, how many planes there are, and the bytes of each strip or tile."""
    width, height = layout.tile
    if width < 1 or height < 1 or width * height > 4 * layout.width * layout.height + (1 << 24):
        raise CorruptPicture(f"'{source.name}' has strips or tiles of an impossible size.")
    across, down = -(-layout.width // width), -(-layout.height // height)
    planes = layout.samples if layout.planar else 1
    counts = layout.counts
    if not counts and layout.compression == _NONE and len(layout.offsets) == across * down * planes == 1:
        counts = [width * (layout.samples // planes) * layout.dtype.itemsize * layout.height]
    if min(len(layout.offsets), len(counts)) < across * down * planes:
        raise CorruptPicture(f"'{source.name}' lacks strips or tiles of its picture.")
    return across, down, planes, counts


def _block(source: Source, layout: _Layout, counts: list[int], number: int, y: int, x: int) -> Array:
    """A strip or tile that begins at (y, x)."""
    width, height = layout.tile
    samples = 1 if layout.planar else layout.samples
    row_bytes = width * samples * layout.dtype.itemsize
    rows = height if layout.tiled else min(height, layout.height - y)
    start, count = layout.offsets[number], counts[number]
    packed = source.data[start : start + count]
    if len(packed) < count or not count:
        raise CorruptPicture(f"'{source.name}' is cut short: a part of its picture lies behind the end of the file.")
    raw = _unpack(layout.compression, packed, row_bytes, rows)
    if len(raw) < row_bytes * rows:
        raise CorruptPicture(f"'{source.name}' is damaged: a strip of its picture is too short.")
    block = _unpredict(np.frombuffer(raw, np.uint8, row_bytes * rows).reshape(rows, row_bytes), layout, samples)
    return block[: layout.height - y, : layout.width - x]


class Rows:
    """A TIFF as an array `H x W x {1, 3}` of which some rows at a time are in memory: `rows[first:end, left:right]`.

    What was read last is kept, so that tiles that overlap decode it once. Not for several threads.

    Raises:
        PictureTooLarge: the file is packed in pieces of which a single one needs more memory than there should be.
    """

    def __init__(self, source: Source, layout: _Layout, colours: int, inverted: bool) -> None:
        if layout.compression == _NONE and not layout.tiled and not layout.planar:
            layout = _finer(source, layout)
        self.source, self.layout, self.inverted = source, layout, inverted
        self.dtype = layout.dtype if layout.dtype.kind == "u" else np.dtype(np.float32)
        self.shape = (layout.height, layout.width, colours)
        self._across, self._down, planes, self._counts = _grid(source, layout)
        self._planes = min(planes, colours)
        # the next piece of rows, and as many before it as a tile may reach back to
        piece = layout.tile[1] * layout.width * layout.samples * max(self.dtype.itemsize, layout.dtype.itemsize)
        if piece > _LARGEST_PIECE:
            raise PictureTooLarge(
                f"'{source.name}' is packed in pieces of {piece / 1e9:.1f} GB, which cannot be read row by row; save it as a "
                "tiled TIFF, or with fewer rows per strip."
            )
        self._held: dict[int, Array] = {}

    def __getitem__(self, window: tuple[slice, slice]) -> Array:
        rows, columns = window
        first, end, _ = rows.indices(self.shape[0])
        height = self.layout.tile[1]
        wanted = range(first // height, -(-end // height))
        for number in [n for n in self._held if n not in wanted]:
            del self._held[number]
        for number in wanted:
            if number not in self._held:
                with guarded(self.source.name):
                    self._held[number] = self._piece(number)
        parts = [self._held[n][max(0, first - n * height) : end - n * height, columns] for n in wanted]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _piece(self, number: int) -> Array:
        """A strip, or a row of tiles."""
        layout, y = self.layout, number * self.layout.tile[1]
        piece = np.empty((min(layout.tile[1], layout.height - y), *self.shape[1:]), self.dtype)
        used = []
        for plane in range(self._planes):
            for column in range(self._across):
                x = column * layout.tile[0]
                place = (plane * self._down + number) * self._across + column
                block = _block(self.source, layout, self._counts, place, y, x)
                used.append((layout.offsets[place], self._counts[place]))
                channels = slice(None) if not layout.planar else slice(plane, plane + 1)
                with np.errstate(over="ignore"):
                    piece[:, x : x + block.shape[1], channels] = block[..., : self.shape[2]]
        if self.dtype.kind == "f":
            np.nan_to_num(piece, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        if self.inverted:
            np.subtract(self.dtype.type({1: 255, 2: 65535, 4: 1}[self.dtype.itemsize]), piece, out=piece)
        self._forget(used)
        return piece

    def _forget(self, used: list[tuple[int, int]]) -> None:
        """Lets go of the pages of the file that were read: they would count as this program's memory."""
        mapped = getattr(self.source.data, "obj", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            for start, count in used:
                page = start - start % mmap.PAGESIZE
                mapped.madvise(mmap.MADV_DONTNEED, page, min(start + count, len(mapped)) - page)


def _finer(source: Source, layout: _Layout) -> _Layout:
    """Strips that are not packed, cut into smaller ones: any rows of them can be read."""
    row_bytes = layout.width * layout.samples * layout.dtype.itemsize
    if layout.tile[1] * row_bytes <= _PIECE:
        return layout
    _grid(source, layout)  # a damaged layout is refused before it is cut
    most = max(1, _PIECE // row_bytes)
    # a divisor of the strip's rows, so that no piece lies in two strips
    step = next(n for n in range(most, 0, -1) if layout.tile[1] % n == 0 or len(layout.offsets) == 1)
    offsets, counts = [], []
    for y in range(0, layout.height, step):
        strip, row = divmod(y, layout.tile[1])
        offsets.append(layout.offsets[strip] + row * row_bytes)
        counts.append(min(step, layout.height - y) * row_bytes)
    return replace(layout, tile=(layout.width, step), offsets=offsets, counts=counts)


def _unpack(compression: int, data: memoryview, row_bytes: int, rows: int) -> bytes | memoryview:
    if compression == _NONE:
        return data
    if compression in (_DEFLATE, _OLD_DEFLATE):
        # a little more than is wanted, so that the stream's own checksum is reached and tested
        return zlib.decompressobj().decompress(data, row_bytes * rows + 64)
    return libtiff_strip(compression, bytes(data), row_bytes, rows)


def _unpredict(raw: Array, layout: _Layout, samples: int) -> Array:
    rows = len(raw)
    size = layout.dtype.itemsize
    if layout.predictor == 3 and layout.dtype.kind == "f":
        summed = np.cumsum(raw.reshape(rows, -1, samples), axis=1, dtype=np.uint8).reshape(rows, size, -1)
        words = np.ascontiguousarray(summed.transpose(0, 2, 1))  # the planes go from the highest byte down
        return words.view(f">f{size}").reshape(rows, -1, samples)
    if layout.predictor == 2:
        words = raw.view(f"{layout.order}u{size}").astype(f"u{size}").reshape(rows, -1, samples)
        summed = np.cumsum(words, axis=1, dtype=words.dtype)
        return summed if layout.dtype.kind == "u" else summed.view(layout.dtype)
    return raw.view(np.dtype(layout.order + layout.dtype.str[1:])).reshape(rows, -1, samples)


def write(file: BinaryIO, pixels: Array, alpha: Array | None, metadata: Metadata) -> None:
    """Writes uint8, uint16 or float32 pixels (H x W x {1, 3}, alpha H x W straight) as a deflated little-endian TIFF."""
    writer = Writer(file, pixels.shape, pixels.dtype, alpha is not None, metadata)
    writer.append(pixels, alpha)
    writer.finish()


class Writer:
    """Writes a deflated little-endian TIFF from rows as they come; above 4 GiB of pixels as a BigTIFF.

    Args:
        shape: H x W x {1, 3} of the whole picture. alpha: whether rows come with one.
    """

    def __init__(
        self, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, alpha: bool, metadata: Metadata
    ) -> None:
        self.file, self.shape, self.alpha, self.metadata = file, shape, alpha, metadata
        self.samples, self.dtype = shape[2] + alpha, dtype.newbyteorder("<")
        row_bytes = shape[1] * self.samples * dtype.itemsize
        self.rows = strips(shape[0], row_bytes)[0][1]  # of a strip; `append` takes multiples of it
        self.big = row_bytes * shape[0] > _CLASSIC
        self.offsets: list[int] = []
        self.counts: list[int] = []
        head = b"II+\0\x08\0\0\0" + bytes(8) if self.big else b"II*\0" + bytes(4)
        file.write(head)
        self.place = len(head)

    def append(self, pixels: Array, alpha: Array | None = None) -> None:
        """Adds rows: whole strips, but for the picture's last ones."""

        def compress(run: tuple[int, int]) -> bytes:
            first, end = run
            block = np.empty((end - first, self.shape[1], self.samples), self.dtype)
            block[..., : self.shape[2]] = pixels[first:end]
            if alpha is not None:
                block[..., self.shape[2]] = alpha[first:end]
            return deflated(_predicted(block))

        runs = [(y, min(len(pixels), y + self.rows)) for y in range(0, len(pixels), self.rows)]
        for packed in map_ahead(compress, runs):
            self.file.write(packed + b"\0" * (len(packed) % 2))
            self.offsets.append(self.place)
            self.counts.append(len(packed))
            self.place += len(packed) + len(packed) % 2

    def finish(self) -> None:
        """Writes the directory."""
        tree = _description(self.metadata)
        bits, kind = self.dtype.itemsize * 8, 3 if self.dtype.kind == "f" else 1
        wide = ifd.LONG8 if self.big else ifd.LONG
        tags: dict[int, ifd.Entry] = {
            256: ifd.entry(ifd.LONG, self.shape[1]),
            257: ifd.entry(ifd.LONG, self.shape[0]),
            258: ifd.entry(ifd.SHORT, *[bits] * self.samples),
            259: ifd.entry(ifd.SHORT, _DEFLATE),
            262: ifd.entry(ifd.SHORT, 2 if self.shape[2] == 3 else 1),
            273: ifd.entry(wide, *self.offsets),
            277: ifd.entry(ifd.SHORT, self.samples),
            278: ifd.entry(ifd.LONG, self.rows),
            279: ifd.entry(wide, *self.counts),
            284: ifd.entry(ifd.SHORT, 1),
            317: ifd.entry(ifd.SHORT, 1 if kind == 3 else 2),
            339: ifd.entry(ifd.SHORT, *[kind] * self.samples),
        }
        if self.alpha:
            tags[338] = ifd.entry(ifd.SHORT, 2)
        if self.metadata.xmp:
            tags[700] = ifd.entry(ifd.BYTE, self.metadata.xmp)
        if self.metadata.icc:
            tags[34675] = ifd.entry(ifd.UNDEFINED, self.metadata.icc)
        tree.entries.update(tags)
        self.file.write(ifd.pack(tree, self.place, self.big))
        self.file.seek(8 if self.big else 4)
        self.file.write(struct.pack("<Q" if self.big else "<I", self.place))


def _description(metadata: Metadata) -> ifd.Directory:
    """The EXIF block's directories as a TIFF holds them, with the resolution."""
    tree = ifd.Directory()
    if metadata.exif:
        tree = ifd.read_tree(metadata.exif)
        tree.entries = {tag: e for tag, e in tree.entries.items() if tag in DESCRIPTIVE}
    dpi = clean_dpi(metadata.dpi)
    if dpi is not None:
        tree.entries[X_RESOLUTION], tree.entries[Y_RESOLUTION] = (ifd.entry(ifd.RATIONAL, n) for n in dpi)
        tree.entries[RESOLUTION_UNIT] = ifd.entry(ifd.SHORT, 2)
    return tree


def _predicted(block: Array) -> Array:
    """Horizontal differences, which deflate packs better; floats as they are, for readers that know no predictor of them."""
    if block.dtype.kind == "f":
        return block
    difference = block.copy()
    difference[:, 1:] -= block[:, :-1]
    return difference

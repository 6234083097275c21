"""From pixels to a file, whole or not at all; and what a format cannot hold, said beforehand."""

from __future__ import annotations

import dataclasses
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from PIL import Image

from restora.errors import PictureWriteError, RestoraError, UsageError
from restora.io import ifd, jpeg, png, tiff
from restora.io.atomic import atomic_path
from restora.io.formats import LOSSLESS, format_of, known_format
from restora.io.metadata import (
    RESOLUTION_UNIT,
    SOFTWARE,
    X_RESOLUTION,
    Y_RESOLUTION,
    Metadata,
    sized_exif,
    tagged_exif,
)
from restora.io.pixels import Array, over_white, to_depth

if TYPE_CHECKING:
    from restora.io.picture import Picture

_DEPTHS = {"png": (8, 16), "tiff": (8, 16, 32)}  # all others: 8
_SIDES = {"jpeg": 65535, "webp": 16383, "avif": 65535}
_QUALITY = {"jpeg": 95, "webp": 95, "avif": 90}
_MARKER = 65533  # bytes that a JPEG segment can hold
_IN_STRIPS = 1 << 26  # pixels from which a JPEG is coded in strips: Pillow needs four bytes for each
BY_ROWS = ("png", "tiff", "jpeg")  # what `row_writer` writes
_HOLDS: dict[str, tuple[str, ...]] = {
    "png": ("exif", "icc", "xmp", "dpi", "chunks"),
    "tiff": ("exif", "icc", "xmp", "dpi"),
    "jpeg": ("exif", "icc", "xmp", "dpi", "iptc", "comment"),
    "webp": ("exif", "icc", "xmp", "dpi"),
    "avif": ("exif", "icc", "xmp", "dpi"),
    "bmp": ("dpi",),
}
_NAMES = {
    "exif": "EXIF",
    "icc": "the colour profile",
    "xmp": "XMP",
    "dpi": "the resolution",
    "iptc": "IPTC captions",
    "comment": "the comment",
    "chunks": "PNG text and colour chunks",
}


def held_depth(bit_depth: int, format: str) -> int:
    """The depth at which the format can hold a picture best: 16 bits for floats in a PNG, 8 in most others."""
    return max((d for d in _DEPTHS.get(format, (8,)) if d <= bit_depth), default=8)


def _misfits(metadata: Metadata, format: str, channels: int) -> list[str]:
    """The names of the metadata fields that would be lost."""
    lost = [name for name in _NAMES if getattr(metadata, name) and name not in _HOLDS[format]]
    if format == "jpeg":  # the segments of 64 KB: EXIF and XMP must fit into one
        reserve = {"exif": 6 + 96, "xmp": 29, "iptc": 0, "comment": 0}
        lost += [name for name, extra in reserve.items() if len(getattr(metadata, name) or b"") + extra > _MARKER]
    space = (metadata.icc or b"")[16:20]
    if channels == 3 and space and space != b"RGB ":
        lost.append("icc")  # a profile of grey or of inks says nothing about RGB
    return list(dict.fromkeys(lost))


def losses(picture: Picture, format: str) -> list[str]:
    """Sentences about what `format` (a name or a suffix) cannot hold of this picture; empty if nothing is lost.

    The coder's own loss (JPEG, WebP, AVIF below lossless) is not listed.
    """
    format = known_format(format)
    said = []
    depth = held_depth(picture.bit_depth, format)
    if depth < picture.bit_depth:
        said.append(
            f"{picture.bit_depth}-bit{' float' * (picture.bit_depth == 32)} pixels are rounded to {depth} bits."
        )
        if picture.bit_depth == 32 and (np.nanmin(picture.pixels) < 0 or np.nanmax(picture.pixels) > 1):
            said.append("Values outside 0 to 1 are clipped.")
    if picture.alpha is not None and format in ("jpeg", "bmp"):
        said.append("Transparency is replaced by a white background.")
    lost = [_NAMES[name] for name in _misfits(picture.metadata, format, picture.channels)]
    if lost:
        said.append(f"Not kept in {format.upper()}: {', '.join(lost)}.")
    return said


def final_metadata(picture: Any, format: str, keep: bool, software: str | None) -> Metadata:
    """What is to be written of a picture (`metadata`, `channels`, `width` and `height` are looked at): nothing that does not
    fit, the size up to date, the resolution where the format has no field of its own for it. Without `keep`, only the
    profile, on which the colours depend."""
    given = picture.metadata if keep else Metadata(icc=picture.metadata.icc)
    metadata = dataclasses.replace(given)
    for name in _misfits(given, format, picture.channels):
        setattr(metadata, name, () if name == "chunks" else None)
    if metadata.exif:
        metadata.exif = sized_exif(metadata.exif, picture.width, picture.height)
    tags: dict[int, ifd.Entry] = {}
    if software and "exif" in _HOLDS[format]:
        tags[SOFTWARE] = ifd.entry(ifd.ASCII, software.encode("utf-8") + b"\0")
    if metadata.dpi and format in ("webp", "avif"):
        tags[X_RESOLUTION], tags[Y_RESOLUTION] = (ifd.entry(ifd.RATIONAL, n) for n in metadata.dpi)
        tags[RESOLUTION_UNIT] = ifd.entry(ifd.SHORT, 2)
    if tags:
        metadata.exif = tagged_exif(metadata.exif, tags)
    return metadata


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _write_by_pillow(
    file: BinaryIO, image: Image.Image, format: str, metadata: Metadata, quality: int, lossless: bool
) -> None:
    options: dict[str, Any] = {}
    if metadata.dpi and format in ("jpeg", "bmp"):
        options["dpi"] = metadata.dpi
    if format != "bmp":
        options["icc_profile"] = metadata.icc or b""
        options["exif"] = b"Exif\0\0" + metadata.exif if metadata.exif else b""
    if format == "jpeg":
        extra = _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp) if metadata.xmp else b""
        extra += _segment(0xED, metadata.iptc) if metadata.iptc else b""
        options |= {"quality": quality, "subsampling": 0, "extra": extra, "comment": metadata.comment or b""}
    elif format == "webp":
        options |= {"lossless": lossless, "quality": 30 if lossless else quality, "method": 2 if lossless else 4}
        options |= {"exact": True, "xmp": metadata.xmp or b""}
    elif format == "avif":
        options |= {"quality": quality, "subsampling": "4:4:4", "xmp": metadata.xmp or b""}
    image.save(file, format.upper(), **options)


class RowWriter(Protocol):
    """Writes a picture from rows as they come: whole multiples of `rows`, but for the last ones."""

    rows: int

    def append(self, pixels: Array) -> None: ...

    def finish(self) -> None: ...


def row_writer(
    file: BinaryIO, format: str, shape: tuple[int, ...], dtype: np.dtype, metadata: Metadata, quality: int | None = None
) -> RowWriter:
    """A writer of one of `BY_ROWS` for H x W x {1, 3} pixels of a type that the format holds. metadata: of `final_metadata`."""
    if format != "jpeg":
        return (png if format == "png" else tiff).Writer(file, shape, dtype, False, metadata)

    def save(strip: BinaryIO, image: Image.Image) -> None:
        _write_by_pillow(strip, image, "jpeg", metadata, quality or _QUALITY["jpeg"], False)

    return jpeg.Writer(file, shape, save)


def check_request(path: Path, format: str, width: int, height: int, quality: int | None, lossless: bool | None) -> None:
    """UsageError for a quality that there is not, PictureWriteError if the format cannot hold a picture of this size."""
    if quality is not None and not (isinstance(quality, (int, np.integer)) and 1 <= quality <= 100):
        raise UsageError(f"The quality is a whole number from 1 to 100, not {quality}.")
    if lossless and format in ("jpeg", "avif"):
        raise UsageError(f"{format.upper()} is not lossless here; write PNG, TIFF or WebP.")
    if max(width, height) > _SIDES.get(format, 2**31 - 1):
        raise PictureWriteError(
            f"'{path}' cannot be written: {format.upper()} holds at most {_SIDES[format]} pixels a side and the picture is "
            f"{width}x{height}; write PNG or TIFF."
        )


def encode(
    picture: Picture,
    path: str | os.PathLike[str],
    format: str | None = None,
    quality: int | None = None,
    lossless: bool | None = None,
    metadata: bool = True,
    software: str | None = None,
    hold: bool = False,
) -> Path:
    """Writes the picture atomically. Arguments and errors: see `Picture.save`."""
    path = Path(path)
    format = known_format(format) if format is not None else format_of(path)
    check_request(path, format, picture.width, picture.height, quality, lossless)
    lossless = picture.format in LOSSLESS and quality is None if lossless is None else lossless
    kept = final_metadata(picture, format, metadata, software)
    pixels, alpha, depth = picture.pixels, picture.alpha, held_depth(picture.bit_depth, format)
    try:
        if alpha is not None and format in ("jpeg", "bmp"):
            pixels, alpha = over_white(pixels, alpha), None
        pixels = to_depth(pixels, depth)
        alpha = to_depth(alpha, depth) if alpha is not None else None
        with atomic_path(path, hold) as temporary, temporary.open("xb") as file:
            if format in ("png", "tiff"):
                (png if format == "png" else tiff).write(file, pixels, alpha, kept)
            elif format == "jpeg" and picture.width * picture.height > _IN_STRIPS:
                writer = row_writer(file, format, pixels.shape, pixels.dtype, kept, quality)
                writer.append(pixels)
                writer.finish()
            else:
                planes = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
                if planes.shape[2] == 2:  # neither WebP nor AVIF has grey with alpha
                    planes = planes[..., [0, 0, 0, 1]]
                image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
                _write_by_pillow(file, image, format, kept, quality or _QUALITY.get(format, 95), lossless)
    except RestoraError:
        raise
    except MemoryError as error:
        raise PictureWriteError(f"'{path}' cannot be written: there is not enough memory.") from error
    except Exception as error:
        raise PictureWriteError(f"'{path}' cannot be written: {error or type(error).__name__}.") from error
    return temporary if hold else path

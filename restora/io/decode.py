"""From a file to pixels: the content chooses the reader, the header is judged before anything is decoded, the orientation
is applied once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from restora.errors import CorruptPicture
from restora.io import pillow, png, tiff
from restora.io.formats import check_size, pixel_limit, sniff
from restora.io.metadata import Metadata, upright_exif, upright_xmp
from restora.io.pixels import Array, upright
from restora.io.source import Header, Source, guarded, opened
from restora.io.tiff import Rows

_READERS: dict[str, Callable[[Source], Header]] = {
    "png": png.read_header,
    "jpeg": pillow.read_jpeg,
    "webp": pillow.read_webp,
    "tiff": tiff.read_header,
    "bmp": pillow.read_bmp,
    "gif": pillow.read_gif,
    "avif": pillow.read_avif,
}


_FIRST_ONLY = "The file holds several {}; only the first was read."
_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class PictureInfo:
    """What a picture's header says; width and height as a viewer shows it (orientation applied)."""

    width: int
    height: int
    channels: int  # 1 or 3, alpha not counted
    bit_depth: int  # 8, 16 or 32 (float): what `Picture.open` would give
    format: str
    has_alpha: bool
    has_icc: bool
    orientation: int  # of the pixels in the file; 1 is upright
    animated: bool  # or of several pages; only the first picture is read
    file_size: int  # bytes

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1e6


@contextlib.contextmanager
def _judged(path: str | os.PathLike[str], max_pixels: int | None) -> Iterator[tuple[Source, Header]]:
    limit = pixel_limit(max_pixels)
    with opened(path) as source:
        source.format = sniff(bytes(source.data[:64]), source.name)
        with guarded(source.name):
            if source.format == "webp":  # its decoder allocates as soon as it sees the header
                check_size(*pillow.webp_size(source), limit, source.name)
            header = _READERS[source.format](source)
            check_size(header.width, header.height, limit, source.name)
            yield source, header


def probe(path: str | os.PathLike[str], max_pixels: int | None = None) -> PictureInfo:
    """Reads a picture's header and no pixels.

    Raises:
        PictureError and its subclasses, as `Picture.open` does, as far as the header shows it.
    """
    with _judged(path, max_pixels) as (source, header):
        width, height = header.width, header.height
        if header.orientation >= 5:
            width, height = height, width
        return PictureInfo(
            width=width,
            height=height,
            channels=header.channels,
            bit_depth=header.bit_depth,
            format=source.format,
            has_alpha=header.has_alpha,
            has_icc=header.metadata.icc is not None,
            orientation=header.orientation,
            animated=header.frames > 1,
            file_size=len(source.data),
        )


def decode(
    path: str | os.PathLike[str], max_pixels: int | None = None
) -> tuple[Array, Array | None, Metadata, str, list[str]]:
    """Pixels and alpha upright, metadata made to agree with that, the format, notes. Errors: see `Picture.open`."""
    with _judged(path, max_pixels) as (source, header):
        pixels, alpha, notes = header.decode()
        if pixels.shape[:2] != (header.height, header.width):
            raise CorruptPicture(
                f"'{source.name}' is damaged: its pixels are not of the size that its header announces."
            )
        notes = header.notes + notes
        if header.frames > 1:
            notes.append(_FIRST_ONLY.format("pages" if source.format == "tiff" else "pictures (an animation)"))
        pixels = upright(pixels, header.orientation)
        if alpha is not None:
            alpha = upright(alpha, header.orientation)
        metadata = header.metadata
        if metadata.exif:
            metadata.exif = upright_exif(metadata.exif)
        metadata.xmp = upright_xmp(metadata.xmp)
        return pixels, alpha, metadata, source.format, notes


def open_rows(path: str | os.PathLike[str]) -> tuple[Rows, Metadata, tuple[str, ...]] | None:
    """A reader of some rows at a time, metadata and notes; None where the file cannot be read so. Errors: see `Picture.open`;
    the size has no limit."""
    with _judged(path, _NO_LIMIT) as (_, header):
        if header.rows is None:
            return None
        notes = list(header.notes)
        if header.frames > 1:
            notes.append(_FIRST_ONLY.format("pages"))
        metadata = header.metadata
        metadata.xmp = upright_xmp(metadata.xmp)
        if metadata.exif:
            metadata.exif = upright_exif(metadata.exif)
        return header.rows(), metadata, tuple(notes)

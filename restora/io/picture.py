"""The picture: pixels, alpha and all that travels with them. What was read is what is written back."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restora.errors import UsageError
from restora.io import pixels as arrays
from restora.io.decode import decode
from restora.io.encode import encode, losses
from restora.io.icc import ColourTransform, transform_of
from restora.io.metadata import Metadata, upright_exif, upright_xmp
from restora.io.pillow import as_array

if TYPE_CHECKING:
    from PIL.Image import Image

_KEEP = np.empty(0)  # "no new value given"; None is a value for alpha


@dataclass(eq=False, repr=False)  # arrays know neither == nor a short repr
class Picture:
    """A still picture in memory.

    pixels: H x W x {1, 3}, grey or RGB, uint8, uint16 or float32 (nominally [0, 1]), upright, in the space of the
        file's own profile. alpha: H x W of the same type, straight, or None. format: what it was read from ("png", "jpeg",
        ...), "" if it was no file. notes: sentences about what was converted or could not be kept in reading.
    origin: the file that holds just this picture, None for arrays and for whatever was changed since.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)
    format: str = ""
    notes: tuple[str, ...] = ()
    origin: Path | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape or dtype not in (np.uint8, np.uint16, np.float32):
            raise UsageError(
                f"A picture holds H x W x 1 or 3 pixels of uint8, uint16 or float32, not {dtype} of shape {shape}."
            )
        if self.alpha is not None and (self.alpha.shape != shape[:2] or self.alpha.dtype != dtype):
            raise UsageError(
                f"Alpha must be {shape[0]}x{shape[1]} of {dtype} like the pixels, not of shape {self.alpha.shape}, "
                f"{self.alpha.dtype}."
            )

    def __repr__(self) -> str:
        kind = f"{'grey' if self.channels == 1 else 'RGB'}{'+alpha' if self.alpha is not None else ''}"
        return f"<Picture {self.width}x{self.height} {kind} {self.pixels.dtype}{f' from {self.format}' if self.format else ''}>"

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB); alpha is not counted."""
        return self.pixels.shape[2]

    @property
    def bit_depth(self) -> int:
        """8, 16, or 32 for floating point."""
        return self.pixels.dtype.itemsize * 8

    @classmethod
    def open(cls, path: str | os.PathLike[str], max_pixels: int | None = None) -> Picture:
        """Reads PNG, JPEG, WebP, TIFF, BMP, GIF, or AVIF where Pillow has the codec; the content decides which.

        Of animations and multi-page files the first picture is read, and `notes` says so. NaN and infinities of a float
        TIFF are replaced, with a note.

        Args:
            max_pixels: the largest width x height that is decoded; by default RESTORA_MAX_PIXELS of the environment, or
                `MAX_PIXELS`. It is held against the header, before anything is decoded.

        Raises:
            PictureError: the file is missing, a folder, or may not be read. Its subclasses: EmptyFile; NotAPicture, by its
            first bytes; CorruptPicture, damaged or cut short; PictureTooLarge; UnsupportedPicture, a kind of picture that
            has no honest counterpart here (32-bit integers, 16-bit CMYK, camera raw...).
        """
        pixels, alpha, metadata, format, notes = decode(path, max_pixels)
        return cls(pixels, alpha, metadata, format, tuple(notes), Path(path))

    @classmethod
    def from_array(
        cls, array: np.ndarray, alpha: np.ndarray | None = None, metadata: Metadata | None = None
    ) -> Picture:
        """Of H x W or H x W x {1, 2, 3, 4} uint8, uint16, bool or float ([0, 1]) pixels, RGB order, alpha last and straight.

        The array is not copied where its type and layout fit.

        Raises:
            UsageError: another shape or type, or alpha both in the array and beside it.
        """
        colour, own = arrays.split(array)
        if alpha is not None:
            if own is not None:
                raise UsageError("The array has an alpha channel of its own; give either that or alpha=, not both.")
            shape = np.shape(alpha)
            own = arrays.split(alpha)[0][..., 0] if len(shape) == 2 or shape[2:] == (1,) else alpha
        return cls(colour, own, metadata or Metadata())

    @classmethod
    def from_pil(cls, image: Image) -> Picture:
        """Of a Pillow image of any mode, with its EXIF, profile and resolution; its EXIF orientation is applied.

        Raises:
            UnsupportedPicture: LAB, 32-bit integers beyond 65535.
        """
        pixels, alpha, notes, metadata, orientation = as_array(image)
        if metadata.exif:
            metadata.exif = upright_exif(metadata.exif)
        metadata.xmp = upright_xmp(metadata.xmp)
        pixels = arrays.upright(pixels, orientation)
        return cls(pixels, None if alpha is None else arrays.upright(alpha, orientation), metadata, "", tuple(notes))

    def replace(self, pixels: np.ndarray = _KEEP, alpha: np.ndarray | None = _KEEP) -> Picture:
        """The same picture with other pixels, of another size and depth if need be; metadata, format and notes stay.

        H x W pixels are taken as grey. UsageError if pixels and alpha do not fit each other: whoever resizes one has to
        give both.
        """
        new = self.pixels if pixels is _KEEP else pixels
        new = new[..., None] if new.ndim == 2 else new
        return Picture(
            new, self.alpha if alpha is _KEEP else alpha, dataclasses.replace(self.metadata), self.format, self.notes
        )

    def colour_transform(self) -> ColourTransform:
        """From the picture's own RGB to sRGB and back, by its profile; the identity for grey, sRGB and unusable profiles."""
        return transform_of(self.metadata.icc, self.channels)

    def filled(self) -> np.ndarray:
        """The pixels with the colour under (nearly) full transparency replaced by the nearest visible one, so that filters
        draw no dark fringes; `self.pixels` itself without alpha."""
        return self.pixels if self.alpha is None else arrays.filled(self.pixels, self.alpha)

    def fits(self, format: str) -> list[str]:
        """Sentences about what a format (or suffix) cannot hold of this picture; empty where nothing is lost.

        More than 8 bits are rounded for all but PNG (16) and TIFF (16, float); alpha is put on white for JPEG and BMP.
        A lossy coder's own loss is not listed. UsageError: the format cannot be written.
        """
        return losses(self, format)

    def save(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        quality: int | None = None,
        lossless: bool | None = None,
        metadata: bool = True,
        software: str | None = None,
        hold: bool = False,
    ) -> Path:
        """Writes the picture, whole or not at all: under a temporary name beside `path`, then renamed.

        What the format cannot hold is converted as `fits` says beforehand.

        Args:
            format: name or suffix; by default the path's suffix decides.
            quality: 1 to 100, for JPEG (95, without chroma subsampling), WebP (95) and AVIF (90).
            lossless: for WebP; by default, where no quality is given, if the picture was read from a lossless format.
            metadata: False leaves out all but the colour profile, without which the colours would be others.
            software: written as EXIF's Software tag.
            hold: leave the file under its temporary name, which is returned; `restora.io.settle` renames it.

        Raises:
            UsageError: unknown suffix or format, quality out of range, a lossless JPEG or AVIF.
            PictureWriteError: no such folder, no permission, no space, too large for the format. What stood at `path`
            before is untouched.
        """
        return encode(self, path, format, quality, lossless, metadata, software, hold)


def read(path: str | os.PathLike[str], max_pixels: int | None = None) -> Picture:
    """`Picture.open`, as a function."""
    return Picture.open(path, max_pixels)

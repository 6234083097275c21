"""Pictures that Pillow decodes: JPEG, WebP, BMP, GIF, AVIF, and the less usual TIFFs; every one of its modes as arrays.

The plug-ins are called by name: nothing here tries a file with decoders that were not asked for.
"""

from __future__ import annotations

import importlib
import io
import struct
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageCms, JpegImagePlugin, WebPImagePlugin

from restora.errors import CorruptPicture, UnsupportedPicture
from restora.io.metadata import Metadata, clean_dpi, exif_dpi, exif_orientation, strip_exif_mark, usable_exif
from restora.io.pixels import Array, strips
from restora.io.source import Decoded, Header, Source

_PLAIN = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "LA": "LA", "F": "F"}
_CONVERTED = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "CMYK": "RGB",
}
_CMYK = "CMYK was converted to sRGB"


def from_image(image: Image.Image) -> Decoded:
    """A loaded Pillow image of any mode -> (pixels, alpha, notes), strip by strip: never a second whole copy.

    A transparent colour in `image.info` becomes alpha. UnsupportedPicture for modes without an honest counterpart.
    """
    mode, key, notes = image.mode, image.info.get("transparency"), []
    if mode == "P":
        target = "RGB" if key is None else "RGBA"
    elif mode.startswith("I"):
        target = mode
    elif mode in _PLAIN or mode in _CONVERTED:
        target = _PLAIN.get(mode) or _CONVERTED[mode]
    else:
        raise UnsupportedPicture(f"Pictures of the kind '{mode}' cannot be read here; convert the file to RGB first.")
    transform = None
    if mode == "CMYK":
        transform = _cmyk_transform(image.info.get("icc_profile"))
        notes.append(f"{_CMYK}{'' if transform else ' without a profile'}.")
    width, height = image.size
    dtype: type = {"F": np.float32}.get(target, np.uint8) if not target.startswith("I") else np.uint16
    colours = 3 if target[:3] == "RGB" else 1
    pixels: Array = np.empty((height, width, colours), dtype)
    alpha: Array | None = None
    if target in ("LA", "RGBA"):
        alpha = np.empty((height, width), dtype)
    for first, end in strips(height, width * 4, 1 << 24):
        strip = image.crop((0, first, width, end))
        if transform is not None:
            strip = ImageCms.applyTransform(strip, transform)  # type: ignore[assignment]
        elif mode == "P" or mode in _CONVERTED:
            strip = strip.convert(target)
        values = np.asarray(strip)
        if target.startswith("I") and values.size and (values.min() < 0 or values.max() > 65535):
            raise UnsupportedPicture(
                "Pictures of 32-bit integers cannot be read here; convert the file to 16 bits first."
            )
        values = values.reshape(end - first, width, -1)
        pixels[first:end] = values[..., :colours]
        if alpha is not None:
            alpha[first:end] = values[..., colours]
    if key is not None and mode in ("1", "L", "RGB"):
        seen = (pixels != np.asarray(key).reshape(-1)).any(axis=2)
        alpha = seen.astype(np.uint8) * np.uint8(255)
    return pixels, alpha, notes


def _cmyk_transform(profile: bytes | None) -> Any:
    """To sRGB by the embedded profile, relative colorimetric; None where there is none that can be used."""
    if not profile or profile[16:20] != b"CMYK":
        return None
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "CMYK",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def image_metadata(image: Image.Image) -> Metadata:
    """What Pillow found beside the pixels, in this room's terms."""
    info = image.info

    def block(name: str) -> bytes | None:
        value = info.get(name)
        return bytes(value) or None if isinstance(value, (bytes, bytearray)) else None

    metadata = Metadata(exif=strip_exif_mark(block("exif")), icc=block("icc_profile"), xmp=block("xmp"))
    if not usable_exif(metadata.exif):
        metadata.exif = None
    comment = info.get("comment")
    metadata.comment = comment.encode("utf-8", "replace") if isinstance(comment, str) else block("comment")
    metadata.dpi = clean_dpi(info.get("dpi")) or exif_dpi(metadata.exif)
    metadata.iptc = next((data for name, data in getattr(image, "applist", ()) if name == "APP13"), None)
    tables = getattr(image, "quantization", None) or {}
    metadata.quantisation = tuple(tuple(tables[n]) for n in sorted(tables))
    return metadata


def _header(image: Image.Image, source: Source, notes: list[str], **more: Any) -> Header:
    metadata = image_metadata(image)

    def decode() -> Decoded:
        with image:
            image.load()
            return from_image(image)

    mode = image.mode
    grey = mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")
    if mode == "CMYK":  # its profile speaks of inks that are no longer there
        metadata.icc = None
    return Header(
        width=image.size[0],
        height=image.size[1],
        channels=1 if grey else 3,
        bit_depth=32 if mode == "F" else 16 if mode.startswith("I") else 8,
        has_alpha=mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        decode=decode,
        metadata=metadata,
        orientation=exif_orientation(metadata.exif),
        notes=notes,
        **more,
    )


def read_jpeg(source: Source) -> Header:
    image = JpegImagePlugin.JpegImageFile(source.file)
    notes = []
    if "mp" in image.info:
        notes.append(
            "The file holds further pictures (a gain map, a depth map or a stereo partner); they are not kept."
        )
    return _header(image, source, notes)


def read_bmp(source: Source) -> Header:
    return _header(BmpImagePlugin.BmpImageFile(source.file), source, [])


def read_gif(source: Source) -> Header:
    image = GifImagePlugin.GifImageFile(source.file)
    return _header(image, source, [], frames=2 if image.is_animated else 1)


def read_avif(source: Source) -> Header:
    plugin = importlib.import_module("PIL.AvifImagePlugin")
    image = plugin.AvifImageFile(source.file)
    head = bytes(source.data[:4096])
    at = head.find(b"pixi")  # version and flags, number of channels, bits of each
    notes = []
    if 0 <= at < len(head) - 10 and head[at + 9] > 8:
        notes.append(f"The {head[at + 9]}-bit picture was read as 8 bits a channel.")
    return _header(image, source, notes, frames=getattr(image, "n_frames", 1))


def webp_size(source: Source) -> tuple[int, int]:
    """Width and height by a WebP's first chunk, before its decoder allocates a canvas of that size."""
    head = bytes(source.data[12:30])
    if len(head) == 18:
        if head[:4] == b"VP8X":
            return 1 + int.from_bytes(head[12:15], "little"), 1 + int.from_bytes(head[15:18], "little")
        if head[:4] == b"VP8L":
            bits = int.from_bytes(head[9:13], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if head[:4] == b"VP8 ":
            width, height = struct.unpack("<HH", head[14:18])
            return width & 0x3FFF, height & 0x3FFF
    raise CorruptPicture(f"'{source.name}' is damaged or cut short: a WebP without a picture in it.")


def read_webp(source: Source) -> Header:
    if int.from_bytes(source.data[4:8], "little") + 8 > len(source.data):
        raise CorruptPicture(f"'{source.name}' is cut short: a WebP that announces more bytes than there are.")
    image = WebPImagePlugin.WebPImageFile(source.file)
    return _header(image, source, [], frames=getattr(image, "n_frames", 1))


def libtiff_strip(compression: int, data: bytes, row_bytes: int, rows: int) -> bytes:
    """One compressed TIFF strip unpacked to bytes by Pillow's libtiff, which is told that it is an 8-bit grey picture."""
    from PIL import TiffImagePlugin

    from restora.io import ifd

    numbers = {256: row_bytes, 257: rows, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1, 278: rows, 279: len(data)}
    tags = {tag: ifd.entry(ifd.LONG, number) for tag, number in numbers.items()}
    place = 8 + len(data) + len(data) % 2
    file = b"II*\0" + struct.pack("<I", place) + data + b"\0" * (len(data) % 2) + ifd.pack(ifd.Directory(tags), place)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
        image.load()
        return image.tobytes()


def as_array(image: Image.Image) -> tuple[Array, Array | None, list[str], Metadata, int]:
    """A Pillow image from elsewhere: pixels, alpha, notes, metadata and the orientation still to be applied."""
    image.load()
    pixels, alpha, notes = from_image(image)
    metadata = image_metadata(image)
    exif = image.getexif()
    if metadata.exif is None and exif:
        metadata.exif = strip_exif_mark(exif.tobytes())
    if image.mode == "CMYK":
        metadata.icc = None
    return pixels, alpha, notes, metadata, exif_orientation(metadata.exif)

"""Which picture formats there are, how their files begin, and how large a picture may be."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from restora.errors import CorruptPicture, NotAPicture, PictureTooLarge, UsageError


def _avif() -> bool:
    try:
        return bool(importlib.import_module("PIL.AvifImagePlugin").SUPPORTED)
    except (ImportError, AttributeError):  # Pillow before 11.3, or built without the codec
        return False


FORMATS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),  # read only: its first picture
    **({"avif": (".avif",)} if _avif() else {}),
}
READABLE: tuple[str, ...] = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
WRITABLE: tuple[str, ...] = tuple(suffix for suffix in READABLE if suffix not in FORMATS["gif"])

LOSSLESS = frozenset({"png", "tiff", "bmp", "gif"})  # sources that no lossy coder has touched
MAX_PIXELS = 300_000_000  # a 100-megapixel scan passes, and a 250-megapixel one; a forged header does not
MAX_SIDE = 1_000_000


def pixel_limit(max_pixels: int | None) -> int:
    """The limit in force: the argument, else the environment's RESTORA_MAX_PIXELS, else MAX_PIXELS."""
    if max_pixels is None:
        text = os.environ.get("RESTORA_MAX_PIXELS", "").replace("_", "")
        if text and not text.isdecimal():
            raise UsageError(f"RESTORA_MAX_PIXELS must be a whole number of pixels, not '{text}'.")
        max_pixels = int(text) if text else MAX_PIXELS
    if max_pixels < 1:
        raise UsageError(f"The largest number of pixels must be positive, not {max_pixels}.")
    return max_pixels


def check_size(width: int, height: int, limit: int, name: str) -> None:
    """Refuses what a header announces before anything of that size is allocated."""
    if width < 1 or height < 1:
        raise CorruptPicture(f"'{name}' announces {width}x{height} pixels; it is damaged.")
    if width * height > limit or max(width, height) > MAX_SIDE:
        raise PictureTooLarge(
            f"'{name}' announces {width}x{height} pixels; the limit is {limit} pixels and {MAX_SIDE} a side. "
            "If the file can be trusted, raise the limit with max_pixels or RESTORA_MAX_PIXELS."
        )


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file name's suffix stands for (for writing; reading goes by content).

    Raises:
        UsageError: the suffix is of no format that can be written.
    """
    return known_format(Path(path).suffix or str(path))


def known_format(name: str) -> str:
    """``"jpg"``, ``".JPG"`` and ``"jpeg"`` are all ``"jpeg"``; UsageError for what cannot be written."""
    suffix = "." + name.lower().lstrip(".")
    for format, suffixes in FORMATS.items():
        if suffix in WRITABLE and (suffix in suffixes or suffix == f".{format}"):
            return format
    raise UsageError(f"No picture format that can be written is called '{name}'; choose one of {', '.join(WRITABLE)}.")


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
)
_STRANGERS = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document; export it as TIFF or PNG"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture; convert it to PNG first"),
    (b"\xff\x0a", "a JPEG XL picture; convert it to PNG first"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture; convert it to PNG first"),
    (b"\x1a\x45\xdf\xa3", "a video"),
)


def sniff(head: bytes, name: str) -> str:
    """The format of a file by its first bytes (64 are enough), whatever its name says.

    Raises:
        NotAPicture: they begin no picture that can be read; the sentence says what they look like.
    """
    for magic, format in _MAGIC:
        if head.startswith(magic):
            return format
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    guess = next((what for magic, what in _STRANGERS if head.startswith(magic)), "")
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(size, len(head) - 3), 4))}
        if brands & {b"avif", b"avis"}:
            if "avif" in FORMATS:
                return "avif"
            guess = "an AVIF picture, and this Pillow has no AVIF codec; update Pillow"
        else:
            heic = brands & {b"heic", b"heix", b"mif1", b"hevc", b"msf1"}
            guess = "a HEIC picture; convert it to JPEG or PNG first" if heic else "a video"
    elif not guess and head.lstrip()[:1] == b"<":
        guess = "a web page or an XML document"
    elif not guess and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        guess = "plain text"
    raise NotAPicture(f"'{name}' is no picture that can be read here{f'; it looks like {guess}' if guess else ''}.")

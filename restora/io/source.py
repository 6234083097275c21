"""An opened picture file, what its header says, and the guard that turns every decoder's complaint into one of ours."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageFile

from restora.errors import CorruptPicture, EmptyFile, PictureError, PictureTooLarge, RestoraError, UnsupportedPicture
from restora.io.metadata import Metadata
from restora.io.pixels import Array

Decoded = tuple[Array, Array | None, list[str]]  # H x W x {1, 3}, alpha H x W, notes


@dataclass
class Source:
    """A file open for reading: as a stream, and as bytes without a copy."""

    name: str
    file: BinaryIO
    data: memoryview
    format: str = ""


@dataclass
class Header:
    """What a format's reader knows before it decodes; sizes as stored, metadata as found.

    orientation is what remains to be applied to what `decode` returns.
    """

    width: int
    height: int
    channels: int
    bit_depth: int
    has_alpha: bool
    decode: Callable[[], Decoded]
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int = 1
    frames: int = 1
    notes: list[str] = field(default_factory=list)
    rows: Callable[[], Any] | None = None  # a reader of some rows at a time, where the format has one


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Source]:
    """The file as a `Source`.

    Raises:
        PictureError: it is missing, a folder, or may not be read. EmptyFile: it has no bytes.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise PictureError(f"'{path}' is a folder, not a picture.")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                # not closed by hand: arrays may still look into it, and it goes with the last of them
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            else:
                data = memoryview(file.read())  # a pipe has no size either
                if not data:
                    raise EmptyFile(f"'{path}' is empty.")
            yield Source(str(path), file, data)
    except RestoraError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"'{path}' does not exist.") from error
    except PermissionError as error:
        raise PictureError(f"'{path}' may not be read: permission denied.") from error
    except (OSError, ValueError) as error:
        raise PictureError(f"'{path}' cannot be read: {error}.") from error


_REFUSALS = (
    "cannot handle",
    "unsupported",
    "not supported",
    "unknown compression",
    "unknown pixel mode",
    "not implemented",
)


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
    """Decoders fail in every way that Python knows; the caller hears of damage, of size, or of an unsupported kind."""
    with _pillow_rules():
        try:
            yield
        except RestoraError:
            raise
        except (MemoryError, Image.DecompressionBombError) as error:
            raise PictureTooLarge(f"'{name}' needs more memory than there is.") from error
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            if any(word in reason.lower() for word in _REFUSALS):
                raise UnsupportedPicture(f"'{name}' is of a kind that cannot be read here ({reason}).") from error
            raise CorruptPicture(f"'{name}' is damaged or cut short ({reason}).") from error


_lock = threading.Lock()
_users = 0
_saved: tuple[Any, bool] = (None, False)
_silence = warnings.catch_warnings()


@contextlib.contextmanager
def _pillow_rules() -> Iterator[None]:
    """Pillow's two global switches as this room needs them, and afterwards as they were: its own bomb limit off (ours has
    already judged the header), and cut files an error, although some other library may have made them grey.
    Its warnings about damaged tags are not for the user: what matters becomes a note or an error."""
    global _users, _saved, _silence
    with _lock:
        if not _users:
            _saved = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
            _silence = warnings.catch_warnings()
            _silence.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = _saved
                _silence.__exit__(None, None, None)

"""Pictures larger than the memory: read some rows at a time (TIFF), written as they are finished (TIFF, PNG, JPEG)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from restora.errors import PictureWriteError, RestoraError
from restora.io import encode
from restora.io.atomic import atomic_path
from restora.io.decode import decode, open_rows, probe
from restora.io.formats import format_of
from restora.io.metadata import Metadata
from restora.io.pixels import Array, to_depth
from restora.io.tiff import Rows


@dataclass
class RowPicture:
    """A picture of which windows can be taken: on the disk, or in memory where the file cannot be read by rows. `rows`: as an
    array; the rest as `Picture` has it."""

    rows: Rows | Array
    metadata: Metadata
    notes: tuple[str, ...]
    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RowPicture | None:
        """Any picture without transparency, None for others. On the disk is a TIFF that is upright and of a kind that this
        program reads by itself.

        Raises:
            PictureError: as `Picture.open`; of what is read by rows the size has no limit.
        """
        if (found := open_rows(path)) is not None:
            return cls(*found, Path(path))
        if probe(path).has_alpha:
            return None
        pixels, alpha, metadata, _, notes = decode(path)
        return cls(pixels, metadata, tuple(notes), Path(path)) if alpha is None else None

    def again(self) -> RowPicture:
        """The same picture, for a reader that is at another place."""
        if isinstance(self.rows, np.ndarray):
            return self
        found = RowPicture.open(self.path)
        assert found is not None
        return found


class RowSink:
    """Where tiles of a picture go: `sink[rows, columns] = pixels`, in any order that finishes rows from the top down.

    Args:
        shape, dtype: of the whole picture. write: called with the first row's number and finished rows, in order.
        step: rows are handed on in multiples of this, but for the last. first: the row that comes first; None for that of
            the first pixels.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        write: Callable[[int, Array], None],
        step: int,
        first: int | None = 0,
    ) -> None:
        self.shape, self.dtype, self.write, self.step = shape, np.dtype(dtype), write, step
        self.first = first
        self.band = np.empty((0, *shape[1:]), dtype)
        self.left = np.empty(0, np.int64)  # pixels that each row of the band still lacks

    def __setitem__(self, window: tuple[slice, slice], pixels: Array) -> None:
        rows, columns = window
        if self.first is None:
            self.first = int(rows.start)
        top, end = rows.start - self.first, rows.stop - self.first
        if end > len(self.band):
            more = end - len(self.band)
            self.band = np.concatenate([self.band, np.empty((more, *self.shape[1:]), self.dtype)])
            self.left = np.concatenate([self.left, np.full(more, self.shape[1], np.int64)])
        self.band[top:end, columns] = pixels
        self.left[top:end] -= pixels.shape[1]
        unfinished = np.flatnonzero(self.left)
        ready = int(unfinished[0]) if len(unfinished) else len(self.left)
        if self.first + ready < self.shape[0]:
            ready -= ready % self.step
        if ready:
            self.write(self.first, self.band[:ready])
            self.first, self.band, self.left = self.first + ready, self.band[ready:].copy(), self.left[ready:].copy()


@contextlib.contextmanager
def row_writer(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    metadata: Metadata,
    software: str | None = None,
    keep: bool = True,
    blend: Callable[[int, Array], Array] | None = None,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool | None = None,
) -> Iterator[tuple[RowSink, Path]]:
    """A sink that writes a picture under a temporary name beside `path`, which is left there when the block ends well, and the
    name; see `atomic_path`, whose errors these are.

    Args:
        dtype: of the rows that come; they are written as the format can hold them. metadata, keep, software, quality, lossless:
            as `Picture.save`. blend: what is made of finished rows before they are written. format: one of
            `encode.BY_ROWS`; by default that of the suffix.
    """
    format = format or format_of(path)
    size = SimpleNamespace(metadata=metadata, channels=shape[2], width=shape[1], height=shape[0])
    described = encode.final_metadata(size, format, keep, software)
    encode.check_request(path, format, size.width, size.height, quality, lossless)
    depth = encode.held_depth(8 * np.dtype(dtype).itemsize, format)
    held = np.dtype({8: np.uint8, 16: np.uint16, 32: np.float32}[depth])
    try:
        with atomic_path(path, hold=True) as temporary, temporary.open("xb") as file:
            writer = encode.row_writer(file, format, shape, held, described, quality)

            def write(first: int, rows: Array) -> None:
                writer.append(to_depth(blend(first, rows) if blend is not None else rows, depth))

            yield RowSink(shape, dtype, write, writer.rows), temporary
            writer.finish()
    except (RestoraError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise PictureWriteError(f"'{path}' cannot be written: {error.strerror or error}.") from error

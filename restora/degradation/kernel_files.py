"""Kernels out of files and into them: numpy, text, pictures, and MATLAB's two formats (of the older one, a small reader of our
own; those two are read only). A file that we write says where its kernel is from, see `Provenance`."""

from __future__ import annotations

import dataclasses
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restora.errors import MissingExtra, UsageError

Array = np.ndarray
WRITABLE = (".npy", ".npz", ".png", ".txt")
_KEY = "restora-kernel"  # of the text chunk, the field, the comment line
_SMALLEST = 2  # a kernel's side; what is smaller is a scalar or a label


def read(path: str | Path) -> list[Array]:
    """The arrays of two dimensions in a file, as they stand; see `kernels.load_all`."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"There is no kernel file '{path}'.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            found = list(_planes(np.load(path, allow_pickle=False)))
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as fields:
                found = [plane for name in fields.files for plane in _planes(fields[name])]
        elif suffix in (".txt", ".csv"):
            text = path.read_text(encoding="utf-8").replace(",", " ").replace(";", " ")
            found = list(_planes(np.loadtxt(text.splitlines(), ndmin=2))) if text.strip() else []
        elif suffix == ".mat":
            found = _mat(path)
        else:
            from restora.io import Picture

            picture = Picture.open(path)
            brightness = picture.pixels.astype(np.float64).mean(axis=2)
            found = [brightness if picture.alpha is None else brightness * (picture.alpha > 0)]  # drawn on nothing
    except (ValueError, EOFError, struct.error, zlib.error, zipfile.BadZipFile, IndexError) as error:
        raise UsageError(f"'{path}' cannot be read as a kernel: {error}.") from error
    if not found:
        raise UsageError(f"'{path}' holds no array of two dimensions that could be a kernel.")
    return found


@dataclass(frozen=True)
class Provenance:
    """Where a kernel is from. estimated: from a blurred picture, so that it is uncertain; confidence: of the estimate, 0 to 1.
    source: the picture or the formula."""

    estimated: bool = False
    confidence: float | None = None
    source: str = ""


def write(path: str | Path, kernel: Array, provenance: Provenance | None = None) -> None:
    """Writes a kernel, by the suffix: .npy (exact; the provenance stands beside it in `NAME.npy.json`), .npz, .txt, or .png (16
    bits, brightest value white).

    Raises:
        UsageError: another suffix, or negative values for a picture. PictureWriteError: it cannot be written.
    """
    from restora.io import atomic_path

    path = Path(path)
    suffix = path.suffix.lower()
    said = "" if provenance is None else json.dumps(dataclasses.asdict(provenance), ensure_ascii=True)
    if suffix not in WRITABLE:
        raise UsageError(f"A kernel is written as {', '.join(WRITABLE)}, not as '{path.name}'.")
    if suffix == ".png" and (kernel.min() < 0 or kernel.max() <= 0):
        raise UsageError("A picture cannot hold a kernel with negative or only zero values; write .npy instead.")
    if suffix == ".npy":
        _write_beside(path, said)
    with atomic_path(path) as temporary:
        if suffix == ".npy":
            np.save(temporary, kernel)
        elif suffix == ".npz":
            fields: dict[str, Any] = {"kernel": kernel, **({_KEY: np.array(said)} if said else {})}
            np.savez(temporary, **fields)
        elif suffix == ".txt":
            np.savetxt(temporary, kernel, fmt="%.9g", header=f"{_KEY} {said}" if said else "")
        else:
            from PIL import Image, PngImagePlugin

            text = PngImagePlugin.PngInfo()
            if said:
                text.add_text(_KEY, said)
            Image.fromarray(np.round(kernel / kernel.max() * 65535).astype(np.uint16)).save(temporary, pnginfo=text)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_beside(path: Path, said: str) -> None:
    """What is known of an .npy file, or nothing: what an older kernel of that name left must not speak for the new one."""
    from restora.io import atomic_path

    if not said:
        _beside(path).unlink(missing_ok=True)
        return
    with atomic_path(_beside(path)) as temporary:
        temporary.write_text(json.dumps({_KEY: json.loads(said)}) + "\n", encoding="utf-8")


def provenance(path: str | Path) -> Provenance | None:
    """What a file says of where its kernel is from; None when it says nothing, is no such file, or is damaged."""
    path = Path(path)
    try:
        data = json.loads(_said(path))
        confidence = data.get("confidence")
        return Provenance(
            bool(data.get("estimated")),
            None if confidence is None else float(confidence),
            str(data.get("source", "")),
        )
    except (OSError, ValueError, AttributeError, TypeError, KeyError, SyntaxError, zipfile.BadZipFile):
        return None


def _said(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return json.dumps(json.loads(_beside(path).read_text(encoding="utf-8"))[_KEY])
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as fields:
            return str(fields[_KEY])
    if suffix == ".txt":
        with path.open(encoding="utf-8") as lines:
            return lines.readline().partition(_KEY)[2]
    if suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            return str(image.info.get(_KEY, ""))
    return ""


def _planes(array: Array) -> Iterator[Array]:
    """The kernels in an array of two or three dimensions."""
    array = np.squeeze(array) if array.ndim > 2 else array
    if array.dtype.kind not in "fiub" or array.ndim not in (2, 3) or min(array.shape[-2:]) < _SMALLEST:
        return
    yield from (array if array.ndim == 3 else array[None]).astype(np.float64)


def _mat(path: Path) -> list[Array]:
    data = path.read_bytes()
    if data[:10] == b"MATLAB 7.3":
        return _mat73(path)
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("it is no MATLAB file of version 5 or 7.3")
    order = "<" if data[126:128] == b"IM" else ">"
    return [p for value in _elements(data[128:], order) for a in _flat(value) for p in _planes(a)]


def _flat(value: Any) -> Iterator[Array]:
    if isinstance(value, list):
        for v in value:
            yield from _flat(v)
    elif isinstance(value, np.ndarray):
        yield value


# MAT-file level 5: a list of elements, each a type, a length and data; an array is an element made of elements
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED, _CELL = 14, 15, 1
_NUMERIC = range(6, 16)  # array classes double to uint64


def _elements(data: bytes, order: str) -> Iterator[Any]:
    """The values of a run of elements: numbers as flat arrays, matrices as arrays, cells as lists, the rest as None."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # the small form: both in one word, the data in the next
            kind, length, body, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        else:
            body, step = at + 8, 8 + (length if kind == _COMPRESSED else -(-length // 8) * 8)
        if body + length > len(data):
            raise ValueError("the file is cut short")
        part = data[body : body + length]
        if kind == _COMPRESSED:
            yield from _elements(zlib.decompress(part), order)
        elif kind == _MATRIX:
            yield _matrix(part, order)
        else:
            yield np.frombuffer(part, order + _NUMBERS[kind]) if kind in _NUMBERS else None
        at += step


def _matrix(data: bytes, order: str) -> Any:
    parts = list(_elements(data, order))
    if len(parts) < 3:
        return None
    kind, shape = int(parts[0][0]) & 0xFF, tuple(int(n) for n in parts[1])
    if kind == _CELL:
        return parts[3:]
    if kind in _NUMERIC and len(parts) > 3 and parts[3] is not None and parts[3].size == np.prod(shape):
        array = parts[3].reshape(shape, order="F")
        return np.moveaxis(array, 2, 0) if array.ndim == 3 else array  # MATLAB stacks along the last axis
    return None


def _mat73(path: Path) -> list[Array]:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra(
            f"'{path}' is a MATLAB 7.3 file, which needs h5py: pip install 'restora[matlab]'."
        ) from error
    found: list[Array] = []

    def visit(item: Any) -> None:
        if isinstance(item, h5py.Group):
            for name in item:
                if not name.startswith("#"):
                    visit(item[name])
        elif item.dtype == h5py.ref_dtype:  # a cell array
            for reference in np.asarray(item).ravel(order="F"):
                visit(item.file[reference])
        else:
            array = np.asarray(item)
            found.extend(k.T for k in _planes(array))  # HDF5 holds MATLAB's columns as rows

    with h5py.File(path, "r") as file:
        visit(file)
    return found

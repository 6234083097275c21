"""The weights inside an ONNX file, read without the onnx package: enough of the format for initialisers of plain networks.

ONNX is a protocol buffer: ModelProto.graph (7) -> GraphProto.initializer (5) -> TensorProto with dims (1), data_type (2),
float_data (4), name (8), raw_data (9).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from restora.errors import WeightsError

_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
}


def read_initialisers(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name.

    Raises:
        WeightsError: not an ONNX file, or data in a form that is not read here.
    """
    try:
        content = Path(path).read_bytes()
        graphs = [value for number, value in _fields(content) if number == 7 and isinstance(value, bytes)]
        tensors = [v for g in graphs for number, v in _fields(g) if number == 5 and isinstance(v, bytes)]
        return dict(_tensor(t) for t in tensors)
    except (IndexError, ValueError, KeyError, UnicodeDecodeError, OSError) as error:
        raise WeightsError(f"'{path}' is no ONNX file that can be read here: {error}.") from error


def _tensor(data: bytes) -> tuple[str, np.ndarray]:
    dims: list[int] = []
    kind, name, raw = 0, "", b""
    for number, value in _fields(data):
        if number == 1:
            dims += [value] if isinstance(value, int) else list(_numbers(value))
        elif number == 2:
            kind = value
        elif number == 8:
            name = value.decode()
        elif number in (4, 9):
            raw = value
    if kind not in _TYPES or len(raw) != math.prod(dims) * _TYPES[kind].itemsize:
        raise ValueError(f"tensor '{name}' of type {kind} keeps its data elsewhere")
    return name, np.frombuffer(raw, _TYPES[kind]).reshape(dims)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: whole numbers and byte strings."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(data, at)
            yield key >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"wire type {kind}")
        length = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            length, at = _number(data, at)
        if at + length > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[at : at + length]
        at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number without end")


def _numbers(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _number(data, at)
        yield value

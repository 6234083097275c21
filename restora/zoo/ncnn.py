"""Weights of ncnn: a text file that lists the layers (`.param`) and a file with their numbers (`.bin`).

Read for networks that are a plain row of convolutions and PReLUs (SRVGGNetCompact, the Real-ESRGAN "general" and video
models). The layout: a convolution has its weights behind a tag of four bytes that names their type, then its bias in
float32; a PReLU has its slopes in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restora.errors import UnknownArchitecture, WeightsError

_MAGIC = "7767517"
_HALF, _SINGLE = 0x01306B47, 0
_WITHOUT_WEIGHTS = {"Input", "Split", "PixelShuffle", "Interp", "BinaryOp"}


def read_ncnn(path: str | Path) -> dict[str, Tensor]:
    """The weights as a state dict `body.0.weight`, `body.0.bias`, `body.1.weight` ... in the order of the layers.

    Args:
        path: the `.param` file or the `.bin` file; the other lies beside it under the same name.

    Raises:
        WeightsError: one of the two is missing or damaged. UnknownArchitecture: another kind of layer in it.
    """
    param, numbers = Path(path).with_suffix(".param"), Path(path).with_suffix(".bin")
    try:
        lines = param.read_text(encoding="utf-8").splitlines()
        data = numbers.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"An ncnn model is two files, '{param.name}' and '{numbers.name}'; one cannot be read: {error}."
        ) from error
    if not lines or lines[0].strip() != _MAGIC:
        raise WeightsError(f"'{param}' is no ncnn file.")
    state: dict[str, Tensor] = {}
    place, index = 0, 0

    def take(count: int, dtype: type) -> np.ndarray:
        nonlocal place
        size = count * np.dtype(dtype).itemsize
        if place + size > len(data):
            raise WeightsError(f"'{numbers}' is shorter than '{param.name}' says.")
        values = np.frombuffer(data, dtype, count, place).astype(np.float32)
        place += -(-size // 4) * 4
        return values

    channels = 3
    for line in lines[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        options = dict(part.split("=") for part in rest[int(inputs) + int(outputs) :])
        if kind in _WITHOUT_WEIGHTS:
            continue
        if kind == "PReLU":
            state[f"body.{index}.weight"] = torch.from_numpy(take(int(options["0"]), np.float32))
        elif kind == "Convolution":
            maps, side, size = int(options["0"]), int(options["1"]), int(options["6"])
            tag = int(np.frombuffer(data, np.uint32, 1, place)[0]) if place + 4 <= len(data) else -1
            place += 4
            if tag not in (_HALF, _SINGLE):
                raise WeightsError(f"'{numbers}' holds weights of an unknown type ({tag:#x}); fp16 and fp32 are read.")
            weight = take(size, np.float16 if tag == _HALF else np.float32)
            channels = size // (maps * side * side)
            state[f"body.{index}.weight"] = torch.from_numpy(weight.reshape(maps, channels, side, side))
            if options.get("5") == "1":
                state[f"body.{index}.bias"] = torch.from_numpy(take(maps, np.float32))
        else:
            raise UnknownArchitecture(
                f"'{param}' has a layer of the kind {kind}; only rows of convolutions and PReLUs are read."
            )
        index += 1
    if place != len(data):
        raise WeightsError(f"'{numbers}' is longer than '{param.name}' says.")
    return state

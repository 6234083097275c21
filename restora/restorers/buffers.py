"""Room for results: main memory while they are small, a file mapped into memory when they are not."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import torch

from restora.degradation.resize import Strips
from restora.engine import free_memory, load, store
from restora.errors import Cancelled, EngineError

_IN_MEMORY = 512 << 20


def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array for a result: a memory map on a temporary file (folder RESTORA_SCRATCH, else the system's) when it is
    larger than 512 MiB or a quarter of the free memory. The file vanishes with the array.

    Raises:
        EngineError: not enough room on the disk.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= min(_IN_MEMORY, free_memory(torch.device("cpu")) // 4):
        return np.empty(shape, dtype)
    folder = os.environ.get("RESTORA_SCRATCH") or tempfile.gettempdir()
    try:
        room = shutil.disk_usage(folder).free
        if room < size:
            raise EngineError(
                f"The result needs {size / 1e9:.1f} GB of scratch space, but '{folder}' has {room / 1e9:.1f} GB free. "
                "Point RESTORA_SCRATCH at a larger disk."
            )
        with tempfile.TemporaryFile(dir=folder) as file:  # the map keeps the file alive after it is unlinked
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
    except OSError as error:
        raise EngineError(
            f"No scratch file can be made in '{folder}' ({error.strerror}). Set RESTORA_SCRATCH to another folder."
        ) from error


def resample(
    source: np.ndarray,
    scale: float,
    dtype: np.dtype,
    decode: Callable | None = None,
    encode: Callable | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> np.ndarray:
    """MATLAB-like bicubic resampling of `H x W x C`, strip by strip, so that only a strip is in floating point."""
    strips = Strips(source.shape[0], source.shape[1], scale)
    target = allocate((*strips.size, source.shape[2]), dtype)
    for strip in strips:
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")
        result = strip.apply(load(source[strip.read_top : strip.read_bottom], decode))
        target[strip.top : strip.bottom] = store(result, dtype, encode)
    return target

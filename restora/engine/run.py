"""Runs an operator over a picture of any size: tile by tile, from an array to an array, in bounded memory.

The picture stays where it is (main memory or a file mapped into it); only a tile at a time is on the device. Running out
of memory makes the tiles smaller, never the picture wrong.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.engine import tiles
from restora.engine.device import choose_device, choose_precision, free_memory
from restora.engine.operator import EnsembleOperator, Operator
from restora.engine.process import keep_freed_memory, set_threads
from restora.errors import Cancelled, EngineError, NumericalError

_SMALLEST_TILE = 16
_WHOLE = 1 << 30
# A tile of 80 halos computes 5 % too much; larger ones gain nothing and fall out of the cache.
_TILE_IN_HALOS, _LEAST_CAP, _LARGEST_AUTO_TILE = 80, 256, 1024
_SMALLEST_AUTO_TILE = 128
_CPU_BUDGET = 1 << 30

Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Settings:
    """How to run. `tile` is the side of a tile in input pixels: None finds one that fits the memory, 0 takes the whole
    picture in one piece. `ensemble` averages over the eight flips and turns."""

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    ensemble: bool = False
    threads: int | None = None


@dataclass
class RunReport:
    """What happened: device and precision used, number and size of tiles, seconds, and sentences worth telling."""

    device: str = ""
    precision: str = ""
    tile: int = 0
    tiles: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """`done` of `total` input pixels after `seconds`."""

    done: int
    total: int
    seconds: float

    @property
    def remaining(self) -> float:
        """Estimated seconds to go."""
        return self.seconds / self.done * (self.total - self.done) if self.done else math.inf


def run(
    operator: Operator,
    source: np.ndarray,
    target: np.ndarray | None = None,
    settings: Settings = Settings(),
    decode: Convert | None = None,
    encode: Convert | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, RunReport]:
    """Applies `operator` to a picture.

    Args:
        source: `H x W x C`, uint8, uint16 or floating point in [0, 1]; may be a memory map.
        target: where the result goes, `s*H x s*W x C` of the same type; made here when None.
        decode, encode: per-pixel conversions of a float32 tile from and to the space of `source` (an ICC profile).
        progress: called after each tile. cancelled: asked before each tile.

    Returns:
        The target and a report.

    Raises:
        Cancelled: `cancelled()` said so. EngineError: not enough memory for the smallest tile.
        NumericalError: the network returns NaN or infinity in float32.
    """
    keep_freed_memory()
    if settings.threads is not None:
        set_threads(settings.threads)
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, operator.half_safe)
    if settings.ensemble:
        operator = EnsembleOperator(operator)
    operator = operator.to(device)
    height, width, channels = source.shape
    scale = operator.scale
    if target is None:
        target = np.empty((height * scale, width * scale, channels), source.dtype)
    size, reach = layout(operator, device, settings.tile)
    report = RunReport(str(device), str(dtype).removeprefix("torch."), min(size, max(height, width)))
    pending = tiles.plan(height, width, size, operator.tiling.window, reach)[::-1]
    if operator.tiling.kind == "global" and len(pending) > 1:
        report.notes.append("This network uses statistics of the whole picture; tiles are an approximation of it.")
    elif reach < tiles.halo(operator.tiling) and len(pending) > 1:
        report.notes.append(
            f"This network sees {operator.tiling.radius} pixels far; to fit the memory, tiles overlap by {reach}. "
            "--tile N keeps the whole reach."
        )
    started, done = time.monotonic(), 0
    while pending:
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")
        tile = pending.pop()
        result = _attempt(operator, source, tile, device, dtype, decode)
        if result is None:
            parts = tiles.halves(tile, height, width, operator.tiling.window, reach)
            if len(parts) == 1 or max(tile.bottom - tile.top, tile.right - tile.left) <= _SMALLEST_TILE:
                raise EngineError(
                    f"There is not enough memory on {device} for this network, even for a tile of "
                    f"{tile.right - tile.left}x{tile.bottom - tile.top} pixels. Close other programs, or use --device cpu."
                )
            _release(device)
            if not any(note.startswith("Memory ran out") for note in report.notes):
                report.notes.append("Memory ran out; smaller tiles were used, with the same result.")
            pending.extend(parts[::-1])
            continue
        if not bool(torch.isfinite(result).all()):
            if dtype == torch.float32:
                raise NumericalError(
                    f"The network returns NaN or infinity in float32 (tile at {tile.left}, {tile.top}); its weights are damaged."
                )
            message = f"{report.precision} gave NaN or infinity; the computation goes on in float32."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            report.notes.append(message)
            dtype, report.precision = torch.float32, "float32"
            pending.append(tile)
            continue
        _store(result, target, tile, scale, encode)
        report.tiles += 1
        done += tile.pixels
        if progress is not None:
            progress(Progress(done, height * width, time.monotonic() - started))
    report.seconds = time.monotonic() - started
    return target, report


def layout(operator: Operator, device: torch.device, wanted: int | None = None) -> tuple[int, int]:
    """Side of a tile and halo around it, in input pixels.

    A tile that was asked for has the promise's whole halo, and 0 means the whole picture. Else the tile is the largest that
    a share of the memory holds. A network may see so far (hundreds of pixels) that tiles with its whole halo do not fit: then
    the halo takes half of what fits, and the result is an approximation, which `run` says.
    """
    reach = tiles.halo(operator.tiling)
    if wanted is not None:
        return (wanted if wanted > 0 else _WHOLE), reach
    budget = free_memory(device) * (0.6 if device.type == "cuda" else 0.25)
    if device.type == "cpu":
        budget = min(budget, _CPU_BUDGET)
    window = max(operator.tiling.window, operator.multiple_of)
    fits = max(_SMALLEST_AUTO_TILE, int(math.sqrt(budget / operator.bytes_per_pixel())))
    if reach > fits // 4:
        reach = fits // 4 // window * window
    side = min(fits - 2 * reach, max(_LEAST_CAP, _TILE_IN_HALOS * reach), _LARGEST_AUTO_TILE)
    return max(side // window * window, window), reach


def tile_size(operator: Operator, device: torch.device, wanted: int | None = None) -> int:
    """Side of a tile in input pixels; see `layout`."""
    return layout(operator, device, wanted)[0]


def _attempt(
    operator: Operator,
    source: np.ndarray,
    tile: tiles.Tile,
    device: torch.device,
    dtype: torch.dtype,
    decode: Convert | None,
) -> Tensor | None:
    """The operator's result on what the tile reads, or None when memory ran out."""
    try:
        x = load(source[tile.read_top : tile.read_bottom, tile.read_left : tile.read_right], decode).to(device)
        height, width = x.shape[-2:]
        x = _pad(x, operator.multiple_of, operator.minimum)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            y = operator(x)
        y = y[..., : height * operator.scale, : width * operator.scale]
        top, left = (tile.top - tile.read_top) * operator.scale, (tile.left - tile.read_left) * operator.scale
        bottom, right = (
            top + (tile.bottom - tile.top) * operator.scale,
            left + (tile.right - tile.left) * operator.scale,
        )
        return y[..., top:bottom, left:right].float().cpu()
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:
        if _out_of_memory(error):
            return None
        raise


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text


def _release(device: torch.device) -> None:
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def load(window: np.ndarray, decode: Convert | None = None) -> Tensor:
    """A window of a picture as `1 x C x H x W` float32 in [0, 1]."""
    x = window.astype(np.float32)
    if window.dtype == np.uint8:
        x /= 255
    elif window.dtype == np.uint16:
        x /= 65535
    if decode is not None:
        x = decode(x)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None]


def store(y: Tensor, dtype: Any, encode: Convert | None = None) -> np.ndarray:
    """`1 x C x H x W` float32 as `H x W x C` of an array type: integers are clipped and rounded, floats kept as they are."""
    array = y[0].permute(1, 2, 0).numpy()
    if encode is not None:
        array = encode(np.ascontiguousarray(array))
    if np.issubdtype(dtype, np.floating):
        return array.astype(dtype, copy=False)
    top = np.iinfo(dtype).max
    return np.floor(np.clip(array, 0, 1) * np.float32(top) + np.float32(0.5)).astype(dtype)


def _store(result: Tensor, target: np.ndarray, tile: tiles.Tile, scale: int, encode: Convert | None) -> None:
    target[tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale] = store(
        result, target.dtype, encode
    )


def _pad(x: Tensor, multiple_of: int, minimum: int) -> Tensor:
    """Pads right and bottom to the network's size rule: mirrored where the picture is large enough, else repeated."""
    height, width = (max(minimum, math.ceil(n / multiple_of) * multiple_of) for n in x.shape[-2:])
    below, right = height - x.shape[-2], width - x.shape[-1]
    if not (below or right):
        return x
    mirror = below < x.shape[-2] and right < x.shape[-1]
    return F.pad(x, (0, right, 0, below), mode="reflect" if mirror else "replicate")

"""Runs an operator over a picture of any size: tile by tile, from an array to an array, in bounded memory.

The picture stays where it is (main memory or a file mapped into it); only a tile at a time is on the device. Running out
of memory makes the tiles smaller, never the picture wrong.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.engine import tiles
from restora.engine.blending import Direct, Faded
from restora.engine.device import choose_device, free_memory
from restora.engine.operator import EnsembleOperator, Operator
from restora.engine.process import keep_freed_memory, set_threads
from restora.engine.selection import choose_way, network_of
from restora.engine.uniform import of_one_size
from restora.errors import Cancelled, EngineError, NumericalError
from restora.networks.picture_statistics import Gathered

_SMALLEST_TILE = 16
_WHOLE = 1 << 30
# A tile of 80 halos computes 5 % too much; larger ones gain nothing and fall out of the cache.
_TILE_IN_HALOS, _LEAST_CAP, _LARGEST_AUTO_TILE = 80, 256, 1024
_SMALLEST_AUTO_TILE = 128
# Bytes for a tile on a CPU; and for a picture in one piece, which is worth more: nothing is computed twice, and a network that
# uses statistics of the whole picture needs no second pass.
_CPU_BUDGET, _CPU_WHOLE = 1 << 30, 2 << 30
# Statistics of a picture: so many rounds at most over so many tiles, fewer once they change by less than this share.
_ROUNDS, _SAMPLED_TILES, _STILL = 12, 64, 0.05
USUAL_ROUNDS = 2

Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Settings:
    """How to run. `tile` is the side of a tile in input pixels: None finds one that fits the memory, 0 takes the whole
    picture in one piece. `ensemble` averages over the eight flips and turns. `backend` is one of `engine.BACKENDS`."""

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    ensemble: bool = False
    threads: int | None = None
    backend: str = "auto"


@dataclass
class RunReport:
    """What happened: device and precision used, number and size of tiles, seconds, and sentences worth telling."""

    device: str = ""
    precision: str = ""
    tile: int = 0
    tiles: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    backend: str = "torch"


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
    part: tuple[int, int] | None = None,
) -> tuple[np.ndarray, RunReport]:
    """Applies `operator` to a picture.

    Args:
        source: `H x W x C`, uint8, uint16 or floating point in [0, 1]; may be a memory map.
        target: where the result goes, `s*H x s*W x C` of the same type; made here when None.
        decode, encode: per-pixel conversions of a float32 tile from and to the space of `source` (an ICC profile).
        progress: called after each tile. cancelled: asked before each tile.
        part: (k, n), k from 0: only the k-th of n groups of rows of tiles, which are the whole run's. Of operators whose
            tiles are not faded into each other.

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
    operator = operator.to(device)
    way = choose_way(operator, settings, device, source.dtype)
    if (network := network_of(operator)) is not None:
        network.use(way.backend, way.precision)
    if settings.threads is None and way.threads is not None:
        set_threads(way.threads)
    if settings.ensemble:
        operator = EnsembleOperator(operator)
    height, width, channels = source.shape
    scale = operator.scale
    if target is None:
        target = np.empty((height * scale, width * scale, channels), source.dtype)
    size, reach = layout(operator, device, way.tile if settings.tile is None else settings.tile, (height, width))
    precision = "int8" if way.precision == "int8" else str(way.dtype).removeprefix("torch.")
    report = RunReport(str(device), precision, min(size, max(height, width)), backend=way.backend)

    work = _Work(operator, source, device, way.dtype, decode, cancelled, reach, report)

    def write(result: Tensor, rows: slice, columns: slice) -> None:
        target[rows, columns] = store(result, target.dtype, encode)

    shape = (height, width, size, operator.tiling.window, reach, scale, write)
    fade = getattr(operator, "fade", 0)
    sink = Faded(*shape, fade) if fade else Direct(*shape)
    if way.backend != "torch":
        sink.tiles = of_one_size(sink.tiles, height, width, operator.tiling.window)
    if part is not None:
        sink.tiles = tiles.share(sink.tiles, *part)
    area = max(1, sum(tile.pixels for tile in sink.tiles))
    meter = _Meter(progress, height * width, area)
    call: Call = work.restored
    if operator.tiling.kind == "global" and len(sink.tiles) > 1:
        call = _with_statistics(work, tiles.plan(height, width, size, operator.tiling.window, reach), meter)
    if reach < tiles.halo(operator.tiling) and len(sink.tiles) > 1:
        report.notes.append(
            f"This method sees {operator.tiling.radius} pixels far; to fit the memory, tiles overlap by {reach}. "
            "--tile N keeps the whole reach."
        )
    for tile, result in work.over(sink.tiles, call):
        sink.put(tile, result)
        report.tiles += 1
        meter.add(tile.pixels)
    sink.finish()
    report.seconds = meter.seconds
    return target, report


class _Meter:
    """Tells the caller how far the work has come. What goes before the tiles themselves counts as so many tiles' work."""

    def __init__(self, progress: Callable[[Progress], None] | None, pixels: int, work: int) -> None:
        self.progress, self.pixels, self.work = progress, pixels, work
        self.done, self.shown, self.started = 0, 0, time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def add(self, work: int) -> None:
        self.done += work
        # the work may turn out to be more than it seemed, but what was shown is not taken back
        self.shown = max(self.shown, self.done * self.pixels // self.work)
        if self.progress is not None:
            self.progress(Progress(self.shown, self.pixels, self.seconds))


Call = Callable[[Tensor, tiles.Tile], Tensor]


@dataclass
class _Work:
    """An operator and the picture that it runs on, tile by tile."""

    operator: Operator
    source: np.ndarray
    device: torch.device
    dtype: torch.dtype
    decode: Convert | None
    cancelled: Callable[[], bool] | None
    reach: int
    report: RunReport

    def over(self, plan: list[tiles.Tile], call: Call) -> Iterator[tuple[tiles.Tile, Tensor]]:
        """Each tile with what `call` makes of its pixels. Where memory runs out a tile is cut in two; where half precision
        gives no number, the work goes on in float32.

        Raises:
            as `run`.
        """
        height, width = self.source.shape[:2]
        pending = plan[::-1]
        while pending:
            if self.cancelled is not None and self.cancelled():
                raise Cancelled("Stopped on request; finished pictures are kept.")
            tile = pending.pop()
            result = self._attempt(tile, call)
            if result is None:
                parts = tiles.halves(tile, height, width, self.operator.tiling.window, self.reach)
                if len(parts) == 1 or max(tile.bottom - tile.top, tile.right - tile.left) <= _SMALLEST_TILE:
                    raise EngineError(
                        f"There is not enough memory on {self.device} for this network, even for a tile of "
                        f"{tile.right - tile.left}x{tile.bottom - tile.top} pixels. Close other programs, or use --device cpu."
                    )
                _release(self.device)
                self._note("Memory ran out; smaller tiles were used, with the same result.")
                pending.extend(parts[::-1])
                continue
            if not math.isfinite(
                float(result.sum())
            ):  # one that is no number makes the sum none, at a pass over the tile
                if self.dtype == torch.float32:
                    raise NumericalError(
                        f"The network returns NaN or infinity in float32 (tile at {tile.left}, {tile.top}); its weights are "
                        "damaged."
                    )
                message = f"{self.report.precision} gave NaN or infinity; the computation goes on in float32."
                warnings.warn(message, RuntimeWarning, stacklevel=3)
                self._note(message)
                self.dtype, self.report.precision = torch.float32, "float32"
                pending.append(tile)
                continue
            yield tile, result

    def _note(self, sentence: str) -> None:
        if sentence not in self.report.notes:
            self.report.notes.append(sentence)

    def _attempt(self, tile: tiles.Tile, call: Call) -> Tensor | None:
        """What `call` makes of what the tile reads, or None when memory ran out."""
        try:
            window = self.source[tile.read_top : tile.read_bottom, tile.read_left : tile.read_right]
            x = _pad(load(window, self.decode).to(self.device), self.operator.multiple_of, self.operator.minimum)
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32),
            ):
                return call(x, tile)
        except (torch.OutOfMemoryError, MemoryError):
            return None
        except RuntimeError as error:
            if _out_of_memory(error):
                return None
            raise

    def restored(self, x: Tensor, tile: tiles.Tile) -> Tensor:
        """The operator's result for the tile's own pixels, as float32 in main memory."""
        y, s = self.operator(x), self.operator.scale
        top, left = (tile.top - tile.read_top) * s, (tile.left - tile.read_left) * s
        bottom, right = top + (tile.bottom - tile.top) * s, left + (tile.right - tile.left) * s
        return y[..., top:bottom, left:right].float().cpu()


def _with_statistics(work: _Work, plan: list[tiles.Tile], meter: _Meter) -> Call:
    """Gathers the statistics that the network takes of the whole picture, in rounds over the tiles, until they stand still;
    returns what restores a tile with them. What was done, and what it cost, is noted in the report."""
    statistics = Gathered(work.operator.tiling.window)
    # evenly spread over the picture where there are many
    step = max(1.0, len(plan) / _SAMPLED_TILES)
    sample = [plan[int(n * step)] for n in range(math.ceil(len(plan) / step))]

    def share(x: Tensor, tile: tiles.Tile) -> Tensor:
        with statistics.collecting(_core(tile, x)):
            work.operator(x)
        return statistics.share()

    rounds, change = 0, math.inf
    area, tiles_alone = sum(tile.pixels for tile in sample), meter.work
    while rounds < _ROUNDS and change > _STILL:
        meter.work = tiles_alone + area * max(rounds + 1, USUAL_ROUNDS)
        for tile, _ in work.over(sample, share):
            statistics.commit()
            if not statistics.count:
                meter.work = tiles_alone
                work.report.notes.append(
                    "This network sees the whole picture at once; tiles are an approximation of it. --tile 0 takes one piece."
                )
                return work.restored
            meter.add(tile.pixels)
        change, rounds = statistics.settle(), rounds + 1
        if rounds == statistics.count:
            change = 0.0  # the round has made the last one exact
    meter.work = tiles_alone + area * rounds
    passes = "1 pass" if rounds == 1 else f"{rounds} passes"
    over = f"all {len(plan)} tiles" if len(sample) == len(plan) else f"{len(sample)} of the {len(plan)} tiles"
    work.report.notes.append(
        f"This network uses statistics of the whole picture; they were gathered beforehand in {passes} over {over}."
        + (
            " They did not stand still: tiles are an approximation; --tile 0 takes one piece."
            if change > _STILL
            else ""
        )
    )

    def restored(x: Tensor, tile: tiles.Tile) -> Tensor:
        with statistics.fixed():
            return work.restored(x, tile)

    return restored


def _core(tile: tiles.Tile, x: Tensor) -> Tensor:
    """1 where a tile's own pixels are in what the network is given, `1 x 1 x H x W`, 0 in the halo. The padding belongs to
    the pixels that it continues, as in a run on the whole picture."""
    core = torch.zeros(1, 1, tile.read_bottom - tile.read_top, tile.read_right - tile.read_left, device=x.device)
    core[
        ...,
        tile.top - tile.read_top : tile.bottom - tile.read_top,
        tile.left - tile.read_left : tile.right - tile.read_left,
    ] = 1
    return F.pad(core, (0, x.shape[-1] - core.shape[-1], 0, x.shape[-2] - core.shape[-2]), mode="replicate")


def layout(
    operator: Operator, device: torch.device, wanted: int | None = None, picture: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Side of a tile and halo around it, in input pixels.

    A tile that was asked for has the promise's whole halo, and 0 means the whole picture. Else a `picture` (height, width) that
    a share of the memory holds is one tile, and of a larger one a tile is the largest that a smaller share holds. A network may
    see so far (hundreds of pixels) that tiles with its whole halo do not fit: then the halo takes half of what fits, and the
    result is an approximation, which `run` says.
    """
    reach = tiles.halo(operator.tiling)
    if wanted is not None:
        return (wanted if wanted > 0 else _WHOLE), reach
    budget = whole = free_memory(device) * (0.6 if device.type == "cuda" else 0.25)
    if device.type == "cpu":
        budget, whole = min(budget, _CPU_BUDGET), min(budget, _CPU_WHOLE)
    if picture is not None and picture[0] * picture[1] * operator.bytes_per_pixel() <= whole:
        return _WHOLE, reach
    window = max(operator.tiling.window, operator.multiple_of)
    fits = max(_SMALLEST_AUTO_TILE, int(math.sqrt(budget / operator.bytes_per_pixel())))
    if reach > fits // 4:
        reach = fits // 4 // window * window
    side = min(fits - 2 * reach, max(_LEAST_CAP, _TILE_IN_HALOS * reach), _LARGEST_AUTO_TILE)
    return max(side // window * window, window), reach


def tile_size(operator: Operator, device: torch.device, wanted: int | None = None) -> int:
    """Side of a tile in input pixels; see `layout`."""
    return layout(operator, device, wanted)[0]


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
    if encode is None and dtype == np.uint8:
        return y[0].mul(255).add_(0.5).clamp_(0, 255.5).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    array = y[0].permute(1, 2, 0).numpy()
    if encode is not None:
        array = encode(np.ascontiguousarray(array))
    if np.issubdtype(dtype, np.floating):
        return array.astype(dtype, copy=False)
    top = np.iinfo(dtype).max
    return np.floor(np.clip(array, 0, 1) * np.float32(top) + np.float32(0.5)).astype(dtype)


def _pad(x: Tensor, multiple_of: int, minimum: int) -> Tensor:
    """Pads right and bottom to the network's size rule: mirrored where the picture is large enough, else repeated."""
    height, width = (max(minimum, math.ceil(n / multiple_of) * multiple_of) for n in x.shape[-2:])
    below, right = height - x.shape[-2], width - x.shape[-1]
    if not (below or right):
        return x
    mirror = below < x.shape[-2] and right < x.shape[-1]
    return F.pad(x, (0, right, 0, below), mode="reflect" if mirror else "replicate")

"""Finds the fastest way to run a network on this machine that stays faithful to float32, and keeps it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from restora.engine import backends, tiles
from restora.engine.backends import Unsupported
from restora.engine.device import free_memory
from restora.engine.operator import NetworkOperator
from restora.engine.photographs import crops
from restora.engine.process import keep_freed_memory, set_threads
from restora.engine.selection import Measured, Record, Way, best_of, psnr, recall, remember
from restora.errors import Cancelled, MissingExtra

_BASE, _SIDES = 192, (96, 128, 256, 384, 512, 768)
_LONGEST, _LONGEST_QUICK = 20.0, 4.0  # seconds for a single run that is still worth waiting for
_ROUNDS, _PHOTOGRAPHS, _SHARE = 3, 3, 0.25  # of the free memory, for one tile


@dataclass(frozen=True)
class Failed:
    """A way that was tried and cannot be had, and why."""

    backend: str
    precision: str
    reason: str


Told = Callable[[Measured | Failed], None]


def tune(
    network: NetworkOperator,
    device: torch.device,
    *,
    quick: bool = False,
    photographs: Path | None = None,
    threads: int | None = None,
    model: str = "",
    tell: Told = lambda result: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Record:
    """Measures backends and precisions at one tile size, the better ones at others and with fewer threads.

    Args:
        network: at its scale and controls. device: where.
        quick: leaves out torch.compile, ONNX Runtime and int8, which are seldom the fastest, and long runs.
        photographs: folder of photographs that precisions are judged on, and int8 is calibrated on; None takes the one that
            comes with the package.
        threads: at most so many; None for all cores. model: its name, for lists.
        tell: called with each result. cancelled: asked before each measurement.

    Returns:
        The record, which has been kept; `choose_way` takes the best of it from now on.

    Raises:
        Cancelled: `cancelled()` said so; nothing is kept. UsageError: no photographs in the folder.
    """
    keep_freed_memory()
    bench = _Bench(network, device, photographs, set_threads(threads), _LONGEST_QUICK if quick else _LONGEST, cancelled)
    plain = Way()
    seconds = bench.seconds(plain, _SIDES[0])
    base = _BASE if seconds * (_BASE / _SIDES[0]) ** 2 <= bench.longest else _SIDES[0]
    ways = [Way(b, p) for b, p in backends.candidates(device, quick)]
    rows: list[Measured] = []
    for way in ways:
        try:
            row = bench.measured(way, base)
        except (Unsupported, MissingExtra, RuntimeError) as error:
            if isinstance(error, Cancelled):
                raise
            tell(Failed(way.backend, way.precision, str(error)))
            continue
        rows.append(row)
        tell(row)
    for row in _finalists(rows):
        for side in _SIDES:
            if side == base or not bench.fits(side) or row.seconds * side**2 / 1e6 > bench.longest:
                continue
            rows.append(bench.again(row, side))
            tell(rows[-1])
        if (fewer := bench.threads // 2) >= 1 and not quick:
            rows.append(bench.again(min((r for r in rows if _same(r, row)), key=_seconds), 0, fewer))
            tell(rows[-1])
    set_threads(bench.threads)
    record = Record(recall(network, device).checks, rows, model)
    return remember(network, device, record)


def _seconds(row: Measured) -> float:
    return row.seconds


def _same(a: Measured, b: Measured) -> bool:
    return (a.backend, a.precision) == (b.backend, b.precision)


def _finalists(rows: list[Measured]) -> list[Measured]:
    """The best of all, and the best in float32, which pictures with more than 8 bits are computed in."""
    found = [best_of(rows, None), best_of([r for r in rows if r.precision == "float32"], None)]
    kept = [row for row in found if row is not None]
    return kept[:1] if len(kept) == 2 and _same(kept[0], kept[1]) else kept


class _Bench:
    """Measures ways to run one network."""

    def __init__(
        self,
        network: NetworkOperator,
        device: torch.device,
        photographs: Path | None,
        threads: int,
        longest: float,
        cancelled: Callable[[], bool],
    ) -> None:
        self.network, self.device, self.photographs = network.to(device), device, photographs
        self.threads, self.longest, self.cancelled = threads, longest, cancelled
        self.rule = math.lcm(network.multiple_of, network.tiling.window)
        self.reach = tiles.halo(network.tiling)
        self.wanted: dict[int, list[Tensor]] = {}

    def read_side(self, side: int) -> int:
        """What a tile with a core of that side reads: its halo too, unless that is most of it (see `engine.layout`)."""
        halo = 2 * self.reach if self.reach <= side // 4 else 0
        return -(-max(side + halo, self.network.minimum) // self.rule) * self.rule

    def fits(self, side: int) -> bool:
        """Whether a tile of that side has room in a share of the free memory."""
        return self.network.bytes_per_pixel() * self.read_side(side) ** 2 < _SHARE * free_memory(self.device)

    def pictures(self, side: int, count: int) -> list[Tensor]:
        """Crops of photographs of what a tile reads."""
        return [x.to(self.device) for x in crops(self.network.spec, self.read_side(side), count, self.photographs)]

    @contextmanager
    def running(self, way: Way) -> Iterator[NetworkOperator]:
        """The network, run in that way."""
        if self.cancelled():
            raise Cancelled("Stopped on request; nothing was kept.")
        network = self.network.use(way.backend, way.precision, self.photographs)
        half = way.dtype != torch.float32
        try:
            with (
                torch.random.fork_rng([self.device] if self.device.type == "cuda" else []),
                torch.inference_mode(),
                torch.autocast(self.device.type, way.dtype, enabled=half),
            ):
                yield network
        finally:
            self.network.use("torch", "float32")

    def seconds(self, way: Way, side: int) -> float:
        """The least of some runs; long ones are run less often."""
        (x,) = self.pictures(side, 1)
        best = math.inf
        with self.running(way) as network:
            for n in range(1 + _ROUNDS):
                started = time.perf_counter()
                network(x).cpu()
                took = time.perf_counter() - started
                best = min(best, took)
                if n and took > self.longest / 4:
                    break
        return best

    def measured(self, way: Way, side: int) -> Measured:
        """Speed at a size, time until ready, and the least PSNR of the difference from float32 over photographs.

        Raises:
            Unsupported: the backend cannot run the network.
        """
        pictures = self.pictures(side, _PHOTOGRAPHS)
        if side not in self.wanted:
            with self.running(Way()) as network:
                self.wanted[side] = [network(x).cpu() for x in pictures]
        started = time.perf_counter()
        with self.running(way) as network:
            first = network(pictures[0]).cpu()
            ready = time.perf_counter() - started
            if way.backend in ("openvino", "onnxruntime"):  # from now on the converted network lies in the cache folder
                backends.forget(network.net)
                started = time.perf_counter()
                network(pictures[0])
                ready = min(ready, time.perf_counter() - started)
            results = [first, *(network(x).cpu() for x in pictures[1:])]
        faithful = min(psnr(a, b) for a, b in zip(self.wanted[side], results, strict=True))
        took = self.seconds(way, side)
        return Measured(
            way.backend,
            way.precision,
            self._tile(side),
            self.threads,
            took / side**2 * 1e6,
            faithful,
            max(0.0, ready - took),
        )

    def again(self, row: Measured, side: int, threads: int | None = None) -> Measured:
        """The same way at another size (0: the same), or with other threads."""
        side = side or row.tile or _BASE
        set_threads(threads or self.threads)
        took = self.seconds(Way(row.backend, row.precision), side)
        set_threads(self.threads)
        return Measured(
            row.backend,
            row.precision,
            self._tile(side),
            threads or self.threads,
            took / side**2 * 1e6,
            row.psnr,
            row.ready,
        )

    def _tile(self, side: int) -> int:
        """0 where the halo is not the whole one, so that the tile has to be found by the memory."""
        return side if self.reach <= side // 4 else 0

"""Which backend, precision and tile a network is run with on this machine.

What the user names is taken. Else what `restora tune` measured, if it did. Else torch, in bf16 where the CPU multiplies it
natively and a check on a photograph shows that the result stays the same to 50 dB and comes sooner. Pictures with more than
8 bits are computed in float32 unless another precision is named: 50 dB is less than they hold.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from restora import __version__
from restora.engine import backends
from restora.engine.backends.base import kept_file
from restora.engine.device import choose_device, choose_precision, cpu_has_bf16
from restora.engine.operator import NetworkOperator, Operator
from restora.engine.photographs import crops
from restora.errors import UsageError

if TYPE_CHECKING:
    from restora.engine.run import Settings

FAITHFUL = 50.0  # dB of the difference from float32 that a precision must reach to be taken by itself
_PATIENCE = 30.0  # seconds until the first tile: compiling takes longer, and is for those who ask for it
_WORTH = 1.1  # times as fast as float32, or it is not worth a rounding
_CHECK_SIDE = 128
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
_NAMES = {torch.float32: "float32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class Way:
    """How a network is run. `tile` and `threads` are those that were measured best, None without a measurement."""

    backend: str = "torch"
    precision: str = "float32"
    tile: int | None = None
    threads: int | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the computation; what is 8-bit is so inside the backend."""
        return DTYPES[self.precision]


@dataclass(frozen=True)
class Measured:
    """One way that was measured: seconds a megapixel of input, and how far its result is from float32 in dB."""

    backend: str
    precision: str
    tile: int
    threads: int
    seconds: float
    psnr: float
    ready: float = 0.0  # seconds until the first tile could begin

    @property
    def faithful(self) -> bool:
        return self.psnr >= FAITHFUL


@dataclass
class Record:
    """What is known of a network on this machine. `checks`: precision of torch -> whether it is taken without tuning."""

    checks: dict[str, bool] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    model: str = ""
    machine: tuple[str, ...] = ()


def check_settings(settings: Settings) -> None:
    """Raises UsageError or MissingExtra where a name is wrong or not to be had here, before any work is done."""
    device = choose_device(settings.device)
    choose_precision(settings.precision, device, half_safe=True)
    if settings.backend != "auto":
        known = backends.PRECISIONS.get(settings.backend, ("",))
        backends.check(settings.backend, known[0] if settings.precision == "auto" else settings.precision, device)


def network_of(operator: Any) -> NetworkOperator | None:
    """The network that an operator runs in the end, or None where it is a method without one."""
    while not isinstance(operator, NetworkOperator):
        operator = getattr(operator, "operator", None)
        if operator is None:
            return None
    return operator


def choose_way(operator: Operator, settings: Settings, device: torch.device, kind: Any) -> Way:
    """How to run `operator` for a picture of the array type `kind`.

    Raises:
        UsageError: no such backend or precision, or not together or on this device. MissingExtra: not installed.
    """
    check_settings(settings)
    backend, precision = settings.backend, settings.precision
    network = network_of(operator)
    if network is None:
        if backend not in ("auto", "torch"):
            raise UsageError(
                f"This method is not a network, so the backend {backend} cannot run it; leave --backend out."
            )
        return Way(precision=_NAMES[choose_precision(precision, device, operator.half_safe)])
    exact = np.dtype(kind) != np.uint8 if precision == "auto" else precision == "float32"
    allowed = ("float32",) if exact else tuple(DTYPES) if precision == "auto" else (precision,)
    known = recall(network, device)
    rows = [row for row in known.measured if row.precision in allowed and backend in ("auto", row.backend)]
    best = best_of(rows, settings)
    if best is not None:
        return Way(best.backend, best.precision, best.tile or None, best.threads)
    if backend == "auto":
        backend = "torch" if precision != "int8" else "openvino" if backends.installed("openvino") else "onnxruntime"
        if precision == "int8":
            backends.check(backend, precision, device)
    if precision != "auto":
        return Way(backend, precision)
    if device.type != "cpu":
        return Way(backend, _NAMES[choose_precision("auto", device, network.half_safe)] if not exact else "float32")
    half = not exact and cpu_has_bf16() and "bf16" in backends.PRECISIONS[backend] and _checked(network, known, backend)
    return Way(backend, "bf16" if half else "float32")


def best_of(rows: list[Measured], settings: Settings | None) -> Measured | None:
    """The fastest that is faithful and ready soon; what the settings name need be neither."""
    any_precision = settings is not None and settings.precision != "auto"
    any_time = settings is not None and settings.backend != "auto"
    good = [
        row
        for row in rows
        if (row.faithful or any_precision) and (row.ready <= _PATIENCE or any_time) and backends.installed(row.backend)
    ]
    return min(good, key=lambda row: row.seconds, default=None)


def _checked(network: NetworkOperator, known: Record, backend: str) -> bool:
    """Whether bf16 is taken: looked up, or found out on a crop of a photograph and kept."""
    if backend not in known.checks:
        plain, seconds = sample(network, Way(backend))
        half, sooner = sample(network, Way(backend, "bf16"))
        known.checks[backend] = psnr(plain, half) >= FAITHFUL and seconds > _WORTH * sooner
        known.checks.update(remember(network, torch.device("cpu"), known, replace=False).checks)
    return known.checks[backend]


def sample(network: NetworkOperator, way: Way, side: int = _CHECK_SIDE) -> tuple[Tensor, float]:
    """The result for a crop of a photograph, and the seconds that it took (the better of two runs)."""
    trial = NetworkOperator(network.net, network.scale, {k: v for k, v in network.controls.items() if k != "scale"})
    trial.use(way.backend, way.precision)
    rule = math.lcm(network.multiple_of, network.spec.tiling.window)
    side = -(-max(side, network.minimum) // rule) * rule
    place = next((p.device for p in network.net.parameters()), torch.device("cpu"))
    (x,) = crops(network.spec, side, 1)
    x = x.to(place)
    y, best = torch.empty(0), math.inf
    half = way.dtype != torch.float32
    with (
        torch.random.fork_rng([place] if place.type == "cuda" else []),
        torch.inference_mode(),
        torch.autocast(place.type, way.dtype, enabled=half),
    ):
        for _ in range(3):  # the first makes ready
            started = time.perf_counter()
            y = trial(x).cpu()
            best = min(best, time.perf_counter() - started)
    return y, best


def psnr(a: Tensor, b: Tensor) -> float:
    """Of the difference of two results in the range that is kept of them, [0, 1]; infinity where they are equal."""
    error = float((a.clamp(0, 1).double() - b.clamp(0, 1).double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error) if math.isfinite(error) else -math.inf


def _key(network: NetworkOperator, device: torch.device) -> str:
    """Of what is known: the weights, what is fixed in the call, the machine and the versions."""
    fixed = {k: v for k, v in network.controls.items() if isinstance(v, (str, bool)) or k == "scale"}
    facts = (backends.weights_checksum(network.net), repr(network.spec), network.scale, sorted(fixed.items()))
    return hashlib.sha256(repr((facts, device.type, machine(device))).encode()).hexdigest()


def machine(device: torch.device) -> tuple[str, ...]:
    """What a measurement holds for: the processor or card, and the versions of what computes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return name, str(os.cpu_count()), __version__, *_versions()


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def _versions() -> tuple[str, ...]:
    found = []
    for name in ("torch", "openvino", "onnxruntime"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return tuple(found)


_MEMORY: dict[str, Record] = {}  # where the cache folder cannot be written


def recall(network: NetworkOperator, device: torch.device) -> Record:
    """What is known of a network on a device of this machine."""
    return _read(_path(network, device))


def _path(network: NetworkOperator, device: torch.device) -> Path:
    return kept_file("tuning", f"{_key(network, device)}.json")


def _read(path: Path) -> Record:
    try:
        data = json.loads(path.read_text())
        return Record(
            data["checks"], [Measured(**row) for row in data["measured"]], data["model"], tuple(data["machine"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return _MEMORY.get(str(path), Record())


def records() -> list[Record]:
    """All that was measured, on whatever machine shares this cache."""
    folder = kept_file("tuning", "x").parent
    return [_read(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []


def remember(network: NetworkOperator, device: torch.device, record: Record, replace: bool = True) -> Record:
    """Keeps a record. Without `replace`, one that another process has written meanwhile stands: returns what holds, so that all
    processes of a job decide alike."""
    path = _path(network, device)
    record.machine = machine(device)
    _MEMORY[str(path)] = record
    put: Callable[[str, Path], Any] = os.replace if replace or path.exists() else _put_first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not replace and path.exists() and (there := _read(path)).checks.keys() >= record.checks.keys():
            return there
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            json.dump(asdict(record), file)
        put(file.name, path)
    except OSError:
        return record
    return _read(path)


def _put_first(temporary: str, path: Path) -> None:
    """Gives a file its name unless there is one of that name."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        Path(temporary).unlink(missing_ok=True)

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
from collections.abc import Iterable
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
_CHECK_SIDE, _CHECK_TURNS, _CHECK_SECONDS = 128, 6, 1.0
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
    backend = _for_int8() if settings.backend == "auto" and settings.precision == "int8" else settings.backend
    if backend != "auto":
        known = backends.PRECISIONS.get(backend, ("",))
        backends.check(backend, known[0] if settings.precision == "auto" else settings.precision, device)


def _for_int8() -> str:
    return "openvino" if backends.installed("openvino") else "onnxruntime"


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
        backend = _for_int8() if precision == "int8" else "torch"
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
        (plain, seconds), (half, sooner) = sample(network, [Way(backend), Way(backend, "bf16")])
        known.checks[backend] = psnr(plain, half) >= FAITHFUL and seconds > _WORTH * sooner
        known.checks.update(remember(network, torch.device("cpu"), known, replace=False).checks)
    return known.checks[backend]


def sample(network: NetworkOperator, ways: list[Way], side: int = _CHECK_SIDE) -> list[tuple[Tensor, float]]:
    """The result for a crop of a photograph, and the seconds that it took, each way: the least of some runs, taken in turn. On a
    CPU they are its own seconds, so that what is found while other work goes on holds afterwards."""
    trial = NetworkOperator(network.net, network.scale, {k: v for k, v in network.controls.items() if k != "scale"})
    rule = math.lcm(network.multiple_of, network.tiling.window)
    side = -(-max(side, network.minimum) // rule) * rule
    place = next((p.device for p in network.net.parameters()), torch.device("cpu"))
    (x,) = crops(network.spec, side, 1)
    x = x.to(place)
    clock = time.process_time if place.type == "cpu" else time.perf_counter
    results, best, spent = [torch.empty(0)] * len(ways), [math.inf] * len(ways), 0.0
    with torch.random.fork_rng([place] if place.type == "cuda" else []), torch.inference_mode():
        for turn in range(_CHECK_TURNS):  # the first makes ready
            if turn > 2 and spent > _CHECK_SECONDS:
                break
            for n, way in enumerate(ways):
                trial.use(way.backend, way.precision)
                with torch.autocast(place.type, way.dtype, enabled=way.dtype != torch.float32):
                    started = clock()
                    results[n] = trial(x).cpu()
                    took = clock() - started
                best[n], spent = min(best[n], took), spent + took
    return list(zip(results, best, strict=True))


def psnr(a: Tensor, b: Tensor) -> float:
    """Of the difference of two results in the range that is kept of them, [0, 1]; infinity where they are equal."""
    error = float((a.clamp(0, 1).double() - b.clamp(0, 1).double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error) if math.isfinite(error) else -math.inf


def _identity(network: NetworkOperator, device: torch.device) -> str:
    """What a network is wherever it is run: its weights, and what is fixed in the call."""
    fixed = {k: v for k, v in network.controls.items() if isinstance(v, (str, bool)) or k == "scale"}
    facts = (backends.weights_checksum(network.net), repr(network.spec), network.scale, sorted(fixed.items()))
    return repr((facts, device.type))


def _key(network: NetworkOperator, device: torch.device) -> str:
    """Of what is known: the network, the machine and the versions."""
    return hashlib.sha256(repr((_identity(network, device), machine(device))).encode()).hexdigest()


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
_DICTATED: dict[str, Record] = {}  # by the program that this process works for


def recall(network: NetworkOperator, device: torch.device) -> Record:
    """What is known of a network on a device of this machine."""
    if (dictated := _DICTATED.get(_identity(network, device))) is not None:
        return dictated
    path = _path(network, device)
    return _read(path) or _MEMORY.get(str(path)) or Record()


def _path(network: NetworkOperator, device: torch.device) -> Path:
    return kept_file("tuning", f"{_key(network, device)}.json")


def _read(path: Path) -> Record | None:
    """A record, or None where there is none, or a damaged one."""
    try:
        data = json.loads(path.read_text())
        return Record(
            data["checks"], [Measured(**row) for row in data["measured"]], data["model"], tuple(data["machine"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def records() -> list[Record]:
    """All that was measured, on whatever machine shares this cache."""
    folder = kept_file("tuning", "x").parent
    found = map(_read, sorted(folder.glob("*.json"))) if folder.is_dir() else ()
    return [record for record in found if record is not None]


def remember(network: NetworkOperator, device: torch.device, record: Record, replace: bool = True) -> Record:
    """Keeps a record. Without `replace`, what another process has decided meanwhile stands: returns what holds, so that all
    processes of a machine decide alike."""
    path = _path(network, device)
    record.machine = machine(device)
    _MEMORY[str(path)] = record
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not replace and (there := _read(path)) is not None:
            if there.checks.keys() >= record.checks.keys():
                return there
            record.checks, replace = {**record.checks, **there.checks}, True
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            temporary = file.name
            json.dump(asdict(record), file)
        if replace or (path.exists() and _read(path) is None):  # a damaged one must not stand in the way
            Path(temporary).replace(path)
        else:
            _put_first(Path(temporary), path)
    except OSError:
        return _read(path) or record
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return _read(path) or record


def _put_first(temporary: Path, path: Path) -> None:
    """Gives a file its name, unless another process has written one of that name meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        temporary.replace(path)


def decisions(operators: Iterable[Operator], settings: Settings, kind: Any) -> dict[str, Record]:
    """How networks are run here on pictures of an array type, decided now where it was not: for other processes, which `obey`."""
    device, found = choose_device(settings.device), {}
    for operator in operators:
        network = network_of(operator)
        if network is not None:
            network = network.to(device)
            choose_way(network, settings, device, kind)
            found[_identity(network, device)] = recall(network, device)
    return found


def obey(decided: dict[str, Record]) -> None:
    """Takes what another process has decided, instead of what was measured on this machine: the results are then the same."""
    _DICTATED.update(decided)

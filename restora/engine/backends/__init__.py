"""Ways to run a network: torch as it is, torch compiled, OpenVINO, ONNX Runtime. All look alike to the engine."""

from __future__ import annotations

import math
import threading
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restora.engine.backends import compiled, ort, vino
from restora.engine.backends.base import Call, Session, Unsupported, code_checksum, weights_checksum
from restora.engine.backends.int8 import check_quantiser
from restora.engine.backends.onnx_file import check_exporter
from restora.engine.device import cpu_has_bf16
from restora.errors import MissingExtra, UsageError

BACKENDS = ("torch", "compile", "openvino", "onnxruntime")
PRECISIONS = {
    "torch": ("float32", "bf16", "fp16"),
    "compile": ("float32", "bf16"),
    "openvino": ("float32", "bf16", "int8"),
    "onnxruntime": ("float32", "int8"),
}
_EXAMPLE = 64  # side of what a program is first traced with
_MISSING = {
    "openvino": "OpenVINO is not installed: pip install 'restora[fast]'.",
    "onnxruntime": "ONNX Runtime is not installed: pip install 'restora[onnx]'.",
    "compile": "torch.compile needs a C++ compiler (g++ or clang++).",
}
_SESSIONS: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Session]] = weakref.WeakKeyDictionary()
_LOCK = threading.RLock()


def installed(backend: str) -> bool:
    """Whether a backend can be used on this machine."""
    return {"torch": lambda: True, "compile": compiled.installed, "openvino": vino.installed, "onnxruntime": ort.installed}[
        backend
    ]()  # fmt: skip


def check(backend: str, precision: str, device: torch.device) -> None:
    """Raises UsageError or MissingExtra where a backend, or a precision of it, is not to be had on a device."""
    if backend not in BACKENDS:
        raise UsageError(f"'{backend}' is no backend; use auto, {', '.join(BACKENDS)}.")
    if precision not in PRECISIONS[backend]:
        able = ", ".join(name for name, has in PRECISIONS.items() if precision in has)
        raise UsageError(
            f"The backend {backend} computes in {', '.join(PRECISIONS[backend])}, not in {precision}"
            + (f"; {able} would." if able else ".")
        )
    if backend in ("openvino", "onnxruntime") and device.type != "cpu":
        raise UsageError(f"The backend {backend} runs on the CPU here; add --device cpu, or leave it to torch.")
    if backend == "openvino" and precision == "bf16" and not cpu_has_bf16():  # it would quietly take float32
        raise UsageError("OpenVINO has no bf16 on this CPU, which lacks the instructions; use --precision float32.")
    if not installed(backend):
        raise MissingExtra(_MISSING[backend])
    if precision == "int8":
        check_quantiser()
    elif backend == "onnxruntime":
        check_exporter()


def candidates(device: torch.device, quick: bool = False) -> list[tuple[str, str]]:
    """Backends with their precisions that are worth measuring on a device."""
    if device.type != "cpu":
        half = "fp16" if device.type in ("cuda", "mps") else "bf16"
        pairs = [("torch", "float32"), ("torch", half)]
        return pairs + ([("compile", "float32"), ("compile", "bf16")] if device.type == "cuda" and not quick else [])
    pairs = [(b, p) for p in ("float32", "bf16", "int8") for b in BACKENDS if p in PRECISIONS[b] and installed(b)]
    return [
        (b, p)
        for b, p in pairs
        if (p != "bf16" or cpu_has_bf16()) and not (quick and (p == "int8" or b in ("compile", "onnxruntime")))
    ]


def session(
    call: Call, backend: str, precision: str, inputs: tuple[Tensor, ...], photographs: Path | None = None
) -> Session:
    """The network made ready by a backend; made once for a network, kept as long as the network.

    Args:
        inputs: a tile and its maps, as the session will be given them.

    Raises:
        Unsupported: the backend cannot run this network. MissingExtra: it lacks a package.
    """
    channels = inputs[0].shape[1]
    shape = tuple(inputs[0].shape) if backend == "compile" else ()
    with _LOCK:
        known = _SESSIONS.setdefault(call.net, {})
        key = (backend, precision, call.checksum, channels, shape)
        if key not in known:
            spec: Any = call.net.spec
            rule = math.lcm(spec.multiple_of, spec.tiling.window)
            side = -(-max(_EXAMPLE, spec.minimum) // rule) * rule
            if backend == "openvino":
                known[key] = vino.VinoSession(call, precision, channels, side, rule, photographs)
            elif backend == "onnxruntime":
                known[key] = ort.OrtSession(call, precision, channels, side, rule, photographs)
            else:
                known[key] = compiled.CompiledSession(call, precision, shape)
        return known[key]


def forget(net: nn.Module) -> None:
    """Drops what backends hold for a network; what they keep on disk stays."""
    with _LOCK:
        _SESSIONS.pop(net, None)


__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Call",
    "Session",
    "Unsupported",
    "candidates",
    "check",
    "code_checksum",
    "forget",
    "installed",
    "session",
    "weights_checksum",
]

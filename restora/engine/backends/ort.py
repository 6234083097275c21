"""ONNX Runtime: on most machines and for most devices, where OpenVINO or a compiler is not at hand."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restora.engine.backends.base import (
    Call,
    Unsupported,
    check_sizes,
    close,
    code_checksum,
    example,
    first_line,
    keep,
    kept_file,
)
from restora.engine.backends.onnx_file import check_exporter, write_onnx

_TROUBLE = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


def installed() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None


class OrtSession:
    """A network by ONNX Runtime, for tiles of any size.

    Raises:
        Unsupported: the network cannot be exported, or for one size only, or its file gives another result.
        MissingExtra: no exporter.
    """

    def __init__(
        self, call: Call, precision: str, channels: int, side: int, multiple: int, photographs: Path | None = None
    ) -> None:
        self.lock = threading.Lock()
        if precision == "int8":
            from restora.engine.backends.int8 import quantised

            self.file = quantised(call, channels, side, multiple, photographs)
        else:
            self.file = exported(call, channels, side, multiple)
        self.program: Any = None
        self.threads = 0

    def __call__(self, *tensors: Tensor) -> Tensor:
        with self.lock:
            if self.program is None or self.threads != torch.get_num_threads():
                self.threads = torch.get_num_threads()
                self.program = open_session(self.file, self.threads)
            return _run(self.program, tensors)


def open_session(path: Path, threads: int) -> Any:
    """A session whose threads rest between runs: spinning ones slow torch, which works in the same process, up to 1.8 times."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised, and told by us
    wanted = ["CUDAExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider"]
    present = onnxruntime.get_available_providers()
    providers = [*(p for p in wanted if p in present), "CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:  # its exceptions have no common base but this
        raise Unsupported(
            f"ONNX Runtime cannot load this network ({first_line(error)}); use --backend torch."
        ) from error


def _run(session: Any, tensors: tuple[Tensor, ...]) -> Tensor:
    names = [port.name for port in session.get_inputs()]
    feeds = {name: t.contiguous().numpy() for name, t in zip(names, tensors, strict=True)}
    try:
        return torch.from_numpy(session.run(None, feeds)[0])
    except Exception as error:
        raise Unsupported(
            f"ONNX Runtime cannot run this network ({first_line(error)}); use --backend torch."
        ) from error


def exported(call: Call, channels: int, side: int, multiple: int) -> Path:
    """The network as a checked ONNX file of the cache, height and width free: tiles at borders have sizes of their own.

    Raises:
        Unsupported, MissingExtra: as `OrtSession`.
    """
    check_exporter()
    spec: Any = call.net.spec
    file = kept_file("onnx", f"{call.checksum}-{code_checksum()[:16]}.onnx")
    if file.exists():
        return file
    keep(file, lambda to: _write(call, channels, side, multiple, Path(to)))
    if not file.exists():
        raise Unsupported(
            "This network cannot be written as an ONNX file that holds for every size; use --backend torch."
        )
    try:
        session = open_session(file, torch.get_num_threads())
        for size in check_sizes(spec, side, multiple):
            inputs = example(call, channels, *size)
            with torch.inference_mode():
                if not close(_run(session, inputs), call(*inputs)):
                    raise Unsupported(
                        f"The exported file differs from torch at {size[1]}x{size[0]}; use --backend torch."
                    )
    except Unsupported:
        file.unlink()
        raise
    return file


def _write(call: Call, channels: int, side: int, multiple: int, path: Path) -> None:
    inputs = example(call, channels, side, side)
    try:
        with torch.inference_mode(False), torch.no_grad():
            names = [f"x{n}" for n in range(len(inputs))]
            write_onnx(call, inputs, path, multiple, names, free=1 + len(call.inputs))
    except _TROUBLE:
        path.unlink(missing_ok=True)

"""Post-training quantisation to 8 bits: weights by channel, activations by their range on photographs."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from restora.engine.backends.base import Call, Unsupported, code_checksum, first_line, keep, kept_file
from restora.engine.backends.onnx_file import check_exporter
from restora.engine.device import cpu_saturates_int8
from restora.engine.photographs import crops
from restora.errors import MissingExtra

_CALIBRATION = 12  # crops; the 0.1 % outermost activations are clipped


def check_quantiser() -> None:
    """Raises MissingExtra where the packages that quantise are not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtra("Quantising to int8 needs ONNX Runtime: pip install 'restora[onnx]'.")
    check_exporter()


def quantised(call: Call, channels: int, side: int, multiple: int, folder: Path | None = None) -> Path:
    """An ONNX file of the network with 8-bit convolutions and matrix products; weights have 7 bits where 8 would overflow.

    Args:
        folder: photographs to calibrate on; None takes the package's own.

    Raises:
        MissingExtra: onnxruntime or an exporter is absent. Unsupported: the network cannot be exported or quantised.
    """
    from restora.engine.backends.ort import exported

    check_quantiser()
    plain = exported(call, channels, side, multiple)
    where = hashlib.sha256(str(folder.resolve() if folder else "").encode()).hexdigest()[:8]
    bits = 7 if cpu_saturates_int8() else 8
    file = kept_file("int8", f"{call.checksum}-{code_checksum()[:16]}-{where}-{bits}.onnx")
    if not file.exists():
        keep(file, lambda to: _quantise(call, channels, side, folder, plain, Path(to)))
    if not file.exists():
        raise Unsupported("its int8 form cannot be written to the cache folder")
    return file


def _quantise(call: Call, channels: int, side: int, folder: Path | None, plain: Path, to: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Photographs:
        def __init__(self) -> None:
            self.feeds = _feeds(call, channels, side, folder)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantize_static(
            str(plain),
            str(to),
            Photographs(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=cpu_saturates_int8(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        )
    except Exception as error:  # the quantiser raises whatever the graph makes it raise
        raise Unsupported(f"ONNX Runtime cannot quantise it ({first_line(error)})") from error
    finally:
        logging.root.setLevel(level)


def _feeds(call: Call, channels: int, side: int, folder: Path | None) -> Iterator[dict[str, np.ndarray]]:
    spec: Any = call.net.spec
    for x in crops(spec, side, _CALIBRATION, folder):
        x = network_input(x, channels, spec.colour)
        maps = [torch.full((1, 1, side, side), 15.0) for _ in call.inputs]
        yield {f"x{n}": t.numpy() for n, t in enumerate((x, *maps))}


def network_input(x: torch.Tensor, channels: int, colour: str) -> torch.Tensor:
    """An RGB crop as the network's channels."""
    from restora.degradation import luma

    if channels == 3:
        return x
    if channels == 1:
        return luma(x) if colour == "luma" else x.mean(dim=1, keepdim=True)
    return F.pad(x, (0, 0, 0, 0, 0, channels - 3))

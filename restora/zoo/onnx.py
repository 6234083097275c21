"""Export to ONNX, checked against torch in the same breath."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from restora.engine.backends.base import check_sizes, first_line
from restora.engine.backends.onnx_file import check_exporter, write_onnx
from restora.errors import WeightsError
from restora.io import atomic_path


@dataclass(frozen=True)
class Exported:
    """What came out: the file, whether height and width are free and why not, and the largest difference from torch (relative
    to the output's range; None without ONNX Runtime) over the sizes that were tried."""

    path: Path
    dynamic: bool
    difference: float | None
    sizes: tuple[tuple[int, int], ...]
    why_fixed: str = ""


class _Picture(nn.Module):
    """A network as picture in, picture out, with its scale and controls fixed."""

    def __init__(self, net: nn.Module, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.net, self.arguments = net, arguments

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.net, "restore", self.net)(x, **self.arguments)


def export_onnx(net: nn.Module, path: str | Path, arguments: dict[str, Any] | None = None, size: int = 64) -> Exported:
    """Writes a network as ONNX: input `x`, `1 x C x H x W` in [0, 1]; output `y`.

    Height and width are free where the operators allow it; else they are `size` and the report says so.

    Args:
        arguments: scale and controls, fixed in the file. size: of the example, a multiple of the network's rule.

    Raises:
        MissingExtra: onnx or onnxscript is not installed. WeightsError: the network cannot be expressed, or the file gives
            another result than torch.
    """
    check_exporter()
    spec: Any = net.spec
    multiple = spec.multiple_of
    size = -(-max(size, spec.minimum) // multiple) * multiple
    model = _Picture(net.eval(), dict(arguments or {}))
    example = torch.rand(1, spec.channels, size, size)
    problems = []
    for dynamic in (True, False):
        try:
            with atomic_path(path) as temporary, torch.no_grad():
                write_onnx(model, (example,), temporary, multiple if dynamic else 0, ["x"])
                sizes = check_sizes(spec, size, multiple) if dynamic else ((size, size),)
                difference = _difference(model, temporary, spec.channels, sizes)
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            problems.append(first_line(error))
            continue
        if difference is not None and difference > 1e-4:
            problems.append(f"the file differs from torch by {difference:.2g} of the range")
            continue
        return Exported(Path(path), dynamic, difference, sizes, " ".join(problems))
    Path(path).unlink(missing_ok=True)
    raise WeightsError(f"{type(net).__name__} cannot be exported: {problems[-1]}.")


def _difference(model: nn.Module, path: Path, channels: int, sizes: Iterable[tuple[int, int]]) -> float | None:
    """Largest difference from torch, relative to the output's range; None without ONNX Runtime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised, and told by us
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base but this
        raise RuntimeError(f"ONNX Runtime cannot load the file ({first_line(error)})") from error
    worst = 0.0
    for height, width in sizes:
        x = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
        ours = model(x).numpy()
        try:
            (theirs,) = session.run(None, {"x": x.numpy()})
        except Exception as error:
            raise RuntimeError(f"ONNX Runtime cannot run the file at {width}x{height} ({first_line(error)})") from error
        if theirs.shape != ours.shape:
            raise WeightsError(f"The ONNX file gives the shape {theirs.shape} instead of {ours.shape}.")
        worst = max(worst, float(np.abs(theirs - ours).max() / max(1.0, np.abs(ours).max())))
    return worst

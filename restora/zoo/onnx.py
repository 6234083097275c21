"""Export to ONNX, checked against torch in the same breath."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from restora.errors import MissingExtra, WeightsError
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
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtra("Exporting to ONNX needs onnx and onnxscript: pip install 'restora[onnx]'.")
    spec: Any = net.spec
    multiple = spec.multiple_of
    size = -(-max(size, spec.minimum) // multiple) * multiple
    model = _Picture(net.eval(), dict(arguments or {}))
    example = torch.rand(1, spec.channels, size, size)
    problems = []
    for dynamic in (True, False):
        try:
            with atomic_path(path) as temporary, torch.no_grad():
                _export(model, example, temporary, multiple if dynamic else 0)
                sizes = [(size, size), (size + multiple, size + 3 * multiple)] if dynamic else [(size, size)]
                difference = _difference(model, temporary, spec.channels, sizes)
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            problems.append(_first_line(error))
            continue
        if difference is not None and difference > 1e-4:
            problems.append(f"the file differs from torch by {difference:.2g} of the range")
            continue
        return Exported(Path(path), dynamic, difference, tuple(sizes), " ".join(problems))
    Path(path).unlink(missing_ok=True)
    raise WeightsError(f"{type(net).__name__} cannot be exported: {problems[-1]}.")


def _first_line(error: BaseException) -> str:
    """The first line of what went wrong in the first place, without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__


def _export(model: nn.Module, example: Tensor, path: Path, multiple: int) -> None:
    import logging
    import warnings

    shapes = None
    if multiple:
        unit = {2: torch.export.Dim("h", min=2, max=2048), 3: torch.export.Dim("w", min=2, max=2048)}
        shapes = {"x": {axis: multiple * dim if multiple > 1 else dim for axis, dim in unit.items()}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), str(path), input_names=["x"], output_names=["y"], dynamo=True, dynamic_shapes=shapes,
            external_data=False, verbose=False,
        )  # fmt: skip


def _difference(model: nn.Module, path: Path, channels: int, sizes: list[tuple[int, int]]) -> float | None:
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
        raise RuntimeError(f"ONNX Runtime cannot load the file ({_first_line(error)})") from error
    worst = 0.0
    for height, width in sizes:
        x = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
        ours = model(x).numpy()
        try:
            (theirs,) = session.run(None, {"x": x.numpy()})
        except Exception as error:
            raise RuntimeError(
                f"ONNX Runtime cannot run the file at {width}x{height} ({_first_line(error)})"
            ) from error
        if theirs.shape != ours.shape:
            raise WeightsError(f"The ONNX file gives the shape {theirs.shape} instead of {ours.shape}.")
        worst = max(worst, float(np.abs(theirs - ours).max() / max(1.0, np.abs(ours).max())))
    return worst

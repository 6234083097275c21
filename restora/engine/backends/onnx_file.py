"""A network as an ONNX file."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restora.errors import MissingExtra


def check_exporter() -> None:
    """Raises MissingExtra where the packages that write ONNX are not installed."""
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtra("Exporting to ONNX needs onnx and onnxscript: pip install 'restora[onnx]'.")


def write_onnx(
    model: nn.Module, inputs: tuple[Tensor, ...], path: Path, multiple: int, names: list[str], free: int = 1
) -> None:
    """Writes `model` as ONNX with the inputs `names` and the output `y`.

    Args:
        multiple: height and width are free multiples of it; 0 fixes them to those of `inputs`.
        free: so many of the inputs have the picture's height and width; the shapes of the others are fixed.

    Raises:
        RuntimeError, ValueError, TypeError, AttributeError, KeyError: torch cannot express it.
    """
    shapes: Any = None
    if multiple:
        unit = {2: torch.export.Dim("h", min=2, max=2048), 3: torch.export.Dim("w", min=2, max=2048)}
        sides = {axis: multiple * dim if multiple > 1 else dim for axis, dim in unit.items()}
        shapes = tuple(sides if n < free else {} for n in range(len(inputs)))
        if _is_variadic(model) and len(inputs) > 1:
            shapes = (shapes[0], shapes[1:])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, inputs, str(path), input_names=names, output_names=["y"], dynamo=True, dynamic_shapes=shapes,
            external_data=False, verbose=False,
        )  # fmt: skip


def _is_variadic(model: nn.Module) -> bool:
    import inspect

    return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(model.forward).parameters.values())

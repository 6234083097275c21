"""How long a job will take and how much memory it needs, before it is run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restora.errors import RestoraError
from restora.io import probe
from restora.jobs import streaming
from restora.jobs.inputs import Item
from restora.jobs.worker import in_memory
from restora.restorers import Restorer

_SAMPLE, _TILE, _LARGEST_TILE = 192, 1024, 4096


@dataclass(frozen=True)
class Estimate:
    """For one file: size in and out (height, width), seconds, peak memory in bytes above the program's own; or an error."""

    source: Path
    target: Path
    size: tuple[int, int] = (0, 0)
    output_size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    memory: int = 0
    error: str = ""


def estimate(restorer: Restorer, items: Sequence[Item], controls: dict[str, Any]) -> list[Estimate]:
    """Reads only the headers; the speed is measured on a small synthetic picture, once, unless the restorer knows it."""
    checked = restorer.check_controls(controls)
    operators = _operators(restorer, checked)
    rate: float | None = None
    found = []
    for item in items:
        try:
            info = probe(item.source, 1 << 62)
            whole = in_memory(restorer, checked, item.source)
            streamed = streaming.suits(restorer, item.source, item.target, whole)
            if not streamed:
                probe(item.source)  # which has a limit
        except RestoraError as error:
            found.append(Estimate(item.source, item.target, error=str(error)))
            continue
        size = (info.height, info.width)
        out = restorer.output_size(*size, checked)
        pixel = (info.channels + info.has_alpha) * info.bit_depth // 8
        working = max((_working_memory(o, restorer.settings, size) for o in operators), default=0)
        # the input, a copy while it is decoded, the output and its encoded form
        memory = size[0] * size[1] * pixel * 2 + int(out[0] * out[1] * pixel * 1.5) + working
        if streamed:  # two rows of the largest tiles, before and after
            given = 0 if item.source.suffix.lower() in (".tif", ".tiff") else 2 * size[0] * size[1] * pixel
            memory = given + 2 * _TILE * (size[1] + out[1] * out[0] // size[0]) * pixel + working
        seconds = restorer.expected_seconds(*size, checked)
        if seconds is None:
            rate = _speed(restorer, controls) if rate is None else rate
            seconds = rate * size[0] * size[1]
        found.append(Estimate(item.source, item.target, size, out, seconds, memory))
    return found


def _speed(restorer: Restorer, controls: dict[str, Any]) -> float:
    """Seconds for an input pixel, after one run to warm up."""
    sample = np.random.default_rng(0).integers(0, 256, (_SAMPLE, _SAMPLE, 3), dtype=np.uint8)
    restorer(sample[:32, :32], **controls)
    started = time.perf_counter()
    restorer(sample, **controls)
    return (time.perf_counter() - started) / _SAMPLE**2


def _operators(restorer: Restorer, checked: Any) -> list[Any]:
    """What the engine will run; of other restorers nothing is known but what the picture takes."""
    from restora.restorers import Deconvolver, Upscaler

    if isinstance(restorer, Upscaler):
        return [restorer.operator(n) for n in restorer.plan(checked).passes[:1]]
    return restorer.operators(checked) if isinstance(restorer, Deconvolver) else []


def _working_memory(operator: Any, settings: Any, size: tuple[int, int]) -> int:
    """Bytes that the largest tile of a picture takes."""
    from restora.engine import choose_device, layout

    side, _ = layout(operator, choose_device(settings.device), settings.tile, size)
    return int(operator.bytes_per_pixel() * min(side**2, size[0] * size[1], _LARGEST_TILE**2))

"""Several restorers, one after the other, as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import create_model

from restora.engine import Progress, Settings
from restora.errors import UsageError
from restora.io import Picture
from restora.restorers.base import Controls, Report, Restorer


class Chain(Restorer):
    """Runs `steps` in order, each on the result of the one before. Between steps at least 16 bits are kept.

    The controls of a step are named `step.control`, for example `denoise.sigma`; a step is called by its task.

    Args:
        steps: name -> restorer, in order.

    Raises:
        UsageError: no step at all.
    """

    task = "chain"

    def __init__(self, steps: Sequence[tuple[str, Restorer]]) -> None:
        if not steps:
            raise UsageError("A chain needs at least one step.")
        names: list[str] = []
        for name, _ in steps:  # the same task twice: denoise, denoise2
            count = sum(n.rstrip("0123456789") == name for n in names)
            names.append(name if not count else f"{name}{count + 1}")
        self.steps = list(zip(names, (restorer for _, restorer in steps), strict=True))
        self.name = " + ".join(restorer.name for _, restorer in self.steps)
        self.settings = self.steps[0][1].settings
        fields: dict[str, Any] = {
            f"{name}.{control}": (field.annotation, field)
            for name, restorer in self.steps
            for control, field in restorer.controls.model_fields.items()
        }
        self.controls = create_model("ChainControls", __base__=Controls, **fields)  # type: ignore[misc]

    @property
    def fingerprint(self) -> str:
        return "+".join(restorer.fingerprint for _, restorer in self.steps)

    def _own(self, name: str, controls: Any) -> dict[str, Any]:
        return {key.removeprefix(f"{name}."): value for key, value in controls if key.startswith(f"{name}.")}

    def output_size(self, height: int, width: int, controls: Any) -> tuple[int, int]:
        for name, restorer in self.steps:
            height, width = restorer.output_size(height, width, restorer.check_controls(self._own(name, controls)))
        return height, width

    def restore(
        self,
        picture: Picture,
        controls: Any,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        current = _deepened(picture)
        total = Report(self.name, self.fingerprint, input_size=(picture.height, picture.width))
        for number, (name, restorer) in enumerate(self.steps):

            def part(p: Progress, number: int = number) -> None:
                # every step counts alike: how long the later ones take is not known before
                share = round(1e6 * (number + p.done / p.total))
                progress(Progress(share, len(self.steps) * 10**6, time.monotonic() - started))  # type: ignore[misc]

            chosen = restorer.check_controls(self._own(name, controls))
            current, report = restorer.restore(current, chosen, part if progress else None, cancelled, settings)
            total.scale *= report.scale
            total.passes += report.passes
            total.device, total.precision, total.tile = report.device, report.precision, max(total.tile, report.tile)
            total.tiles += report.tiles
            total.controls |= {f"{name}.{k}": v for k, v in report.controls.items()}
            total.notes += [note for note in report.notes if note not in total.notes]
        result = _as_before(current, picture)
        total.output_size, total.seconds = (result.height, result.width), time.monotonic() - started
        return result, total


def _deepened(picture: Picture) -> Picture:
    """An 8-bit picture with 16 bits, others as they are."""
    if picture.pixels.dtype != np.uint8:
        return picture
    alpha = None if picture.alpha is None else picture.alpha.astype(np.uint16) * np.uint16(257)
    return picture.replace(pixels=picture.pixels.astype(np.uint16) * np.uint16(257), alpha=alpha)


def _as_before(result: Picture, picture: Picture) -> Picture:
    """The result in the depth of the picture that came in."""
    if result.pixels.dtype == picture.pixels.dtype:
        return result

    def reduced(array: np.ndarray) -> np.ndarray:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)

    return result.replace(pixels=reduced(result.pixels), alpha=None if result.alpha is None else reduced(result.alpha))

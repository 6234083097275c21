"""Pictures that do not fit into memory: from disk to disk, some rows at a time."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from restora import __version__
from restora.degradation.resize import Strips
from restora.engine import Progress, Settings, load, run, store
from restora.errors import Cancelled, EngineError, UsageError
from restora.io import Picture, atomic_path, probe
from restora.io.decode import open_rows
from restora.io.encode import BY_ROWS, losses
from restora.io.formats import format_of
from restora.io.icc import transform_of
from restora.io.rows import RowPicture, RowSink, row_writer
from restora.restorers import Enhancer, Report, Restorer, Upscaler, ZeroShot
from restora.restorers.controls import split, told
from restora.restorers.enhance import blended

# Bytes of input and result in memory above which a picture is streamed where it can be.
ABOVE = 1 << 30
_JOINED = 256  # rows that are copied at a time
_LOOK = 2048  # side of the part that noise and the like are estimated from

Stage = tuple[int | None, float]  # a pass of a network, by its scale; or None and a factor of resampling


def suits(restorer: Restorer, source: Path, target: Path, size: int) -> bool:
    """Whether a picture is to be streamed: `size` bytes of it and its result are more than `ABOVE`, the result's format is
    written by rows, and the restorer works on tiles. A TIFF is read by rows where it can be; other files are only enlarged
    so, since what keeps its size takes no more memory than its input.

    Raises:
        PictureError: the file cannot be read.
    """
    able = isinstance(restorer, (Upscaler, Enhancer)) and not isinstance(restorer, ZeroShot)
    if size <= ABOVE or not able or format_of(target) not in BY_ROWS:
        return False
    if open_rows(source) is not None:
        return format_of(target) == "tiff" or probe(source, 1 << 62).bit_depth <= 16
    return isinstance(restorer, Upscaler) and not (info := probe(source)).has_alpha and info.bit_depth <= 16


def stream(
    restorer: Restorer,
    picture: RowPicture,
    target: Path,
    controls: dict[str, Any],
    settings: Settings,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    encoding: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Path, Report]:
    """Restores a picture from disk to disk. The pixels are those of `restorer(picture)`; `encoding` as `jobs.Output.encoding`.

    Returns:
        The result under its temporary name, and what was done.

    Raises:
        as `Restorer.__call__`; UsageError for controls that are maps.
    """
    started = time.monotonic()
    checked = restorer.check_controls(controls)
    height, width, _ = picture.rows.shape
    settings = dataclasses.replace(settings, ensemble=checked.ensemble or settings.ensemble)
    report = _report(restorer, checked, picture)
    if isinstance(restorer, Enhancer):
        checked, found = _settled(restorer, checked, picture)
        report.notes += found
        stages: list[Stage] = [(1, 1.0)]
        strength = checked.strength
    else:
        assert isinstance(restorer, Upscaler)
        plan = restorer.plan(checked)
        report.scale, report.passes = plan.wanted, plan.passes
        report.notes += [plan.sentence] if plan.sentence else []
        stages = [(p, 1.0) for p in plan.passes] + ([(None, plan.factor)] if plan.factor != 1 else [])
        strength = 1.0
    report.notes += picture.notes
    report.notes += _fits(picture, target)
    work = _Work(restorer, checked, settings, stages, target, encoding, strength, progress, cancelled, report)
    held = work.done(picture)
    report.output_size, report.seconds = restorer.output_size(height, width, checked), time.monotonic() - started
    return held, report


def divisible(restorer: Restorer, controls: dict[str, Any]) -> bool:
    """Whether parts of a streamed picture can be made apart: one pass of a network whose tiles know nothing of each other."""
    checked = restorer.check_controls(controls)
    if isinstance(restorer, Enhancer):
        return checked.strength == 1 and restorer.spec.tiling.kind != "global"
    if not isinstance(restorer, Upscaler):
        return False
    plan = restorer.plan(checked)
    once = len(plan.passes) == 1 and plan.factor == 1
    return once and restorer.operator(plan.passes[0]).tiling.kind != "global"


def band(
    restorer: Restorer,
    picture: RowPicture,
    target: Path,
    controls: dict[str, Any],
    settings: Settings,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
    part: tuple[int, int],
) -> tuple[Path, dict[str, Any]]:
    """A part of what `stream` makes of a `divisible` picture: rows as they lie in memory, in a temporary file beside
    `target`, and what `joined` has to know of them."""
    checked = restorer.check_controls(controls)
    height, width, channels = picture.rows.shape
    settings = dataclasses.replace(settings, ensemble=checked.ensemble or settings.ensemble)
    notes: list[str] = []
    scale = 1
    if isinstance(restorer, Enhancer):
        checked, notes = _settled(restorer, checked, picture)
    else:
        assert isinstance(restorer, Upscaler)
        scale = restorer.plan(checked).passes[0]
    transform = transform_of(picture.metadata.icc, channels)
    decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
    shape = (height * scale, width * scale, channels)
    count = 0
    with atomic_path(target, hold=True) as temporary, temporary.open("xb") as file:

        def write(_: int, rows: np.ndarray) -> None:
            nonlocal count
            file.write(np.ascontiguousarray(rows).data)
            count += len(rows)

        sink: Any = RowSink(shape, picture.rows.dtype, write, 1, None)
        source: Any = picture.rows
        operator = _operator(restorer, checked, scale)
        _, ran = run(operator, source, sink, settings, decode, encode, progress, cancelled, part)
    top = (sink.first or 0) - count
    return temporary, {"top": top, "rows": count, "notes": notes, "ran": dataclasses.asdict(ran)}


def joined(
    restorer: Restorer,
    picture: RowPicture,
    target: Path,
    controls: dict[str, Any],
    bands: list[tuple[Path, dict[str, Any]]],
    seconds: float,
    encoding: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Path, Report]:
    """The parts of a picture, in order, as one file under a temporary name, which is that of `stream`, byte for byte.

    Raises:
        EngineError: they do not fit together.
    """
    checked = restorer.check_controls(controls)
    height, width, channels = picture.rows.shape
    size = restorer.output_size(height, width, checked)
    dtype, report = picture.rows.dtype, _report(restorer, checked, picture)
    report.scale, report.passes = (
        size[0] / height,
        restorer.plan(checked).passes if isinstance(restorer, Upscaler) else (),
    )
    report.notes += [
        f"Divided into {len(bands)} parts.",
        *bands[0][1]["notes"],
        *picture.notes,
        *_fits(picture, target),
    ]
    software = f"Restora {__version__} ({report.model})"
    made = row_writer(target, (*size, channels), dtype, picture.metadata, software, **_written(encoding))
    with made as (sink, temporary):
        row = 0
        for path, details in bands:
            ran = details["ran"]
            if details["rows"] and details["top"] != row:
                raise EngineError(
                    "The machines chose tiles of different sizes, so that the parts of the picture do not fit; name a --tile."
                )
            shape = (details["rows"], size[1], channels)
            rows = np.memmap(path, dtype, "r", shape=shape) if details["rows"] else np.empty(shape, dtype)
            for top in range(0, details["rows"], _JOINED):
                block = np.asarray(rows[top : top + _JOINED])
                sink[row : row + len(block), 0 : size[1]] = block
                row += len(block)
            report.device, report.precision, report.tile = ran["device"], ran["precision"], ran["tile"]
            report.backend, report.tiles = ran["backend"], report.tiles + ran["tiles"]
            report.notes += [note for note in ran["notes"] if note not in report.notes]
        if row != size[0]:
            raise EngineError("The machines chose tiles of different sizes, so that rows are missing; name a --tile.")
    report.output_size, report.seconds = size, seconds
    return temporary, report


def _report(restorer: Restorer, checked: Any, picture: RowPicture) -> Report:
    return Report(
        restorer.used(checked),
        restorer.fingerprint,
        input_size=picture.rows.shape[:2],
        controls=told(checked),
        notes=["Streamed to the disk, because of its size."],
    )


def _written(encoding: Mapping[str, Any]) -> dict[str, Any]:
    return {"keep" if key == "metadata" else key: value for key, value in encoding.items()}


def _fits(picture: RowPicture, target: Path) -> list[str]:
    """What the result's format cannot hold, in sentences."""
    channels, bits = picture.rows.shape[2], 8 * picture.rows.dtype.itemsize
    known: Any = SimpleNamespace(metadata=picture.metadata, channels=channels, bit_depth=bits, alpha=None)
    return losses(known, format_of(target))


def _operator(restorer: Restorer, checked: Any, scale: int) -> Any:
    if isinstance(restorer, Enhancer):
        operator, maps = restorer.operator(checked)
    else:
        assert isinstance(restorer, Upscaler)
        values, maps = split(restorer.operator(scale).spec, checked)
        operator = restorer.operator(scale, values)
    if maps:
        raise UsageError(f"A picture of this size is streamed, and takes no map for {', '.join(maps)}; give a number.")
    return operator


def _settled(restorer: Enhancer, checked: Any, picture: RowPicture) -> tuple[Any, list[str]]:
    """Controls that are to be estimated, from the middle of the picture."""
    height, width, _ = picture.rows.shape
    top, left = max(0, height - _LOOK) // 2, max(0, width - _LOOK) // 2
    window = np.ascontiguousarray(picture.rows[top : top + _LOOK, left : left + _LOOK])
    return restorer.settled(checked, Picture(window, None, picture.metadata))


class _Work:
    """The stages of a restoration, each from a file to a file; between them 16 bits are kept."""

    def __init__(
        self,
        restorer: Restorer,
        checked: Any,
        settings: Settings,
        stages: list[Stage],
        target: Path,
        encoding: Mapping[str, Any],
        strength: float,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
        report: Report,
    ) -> None:
        self.restorer, self.checked, self.settings, self.stages = restorer, checked, settings, stages
        self.target, self.encoding, self.strength = target, encoding, strength
        self.progress, self.cancelled, self.report = progress, cancelled, report
        self.started = time.monotonic()

    def done(self, picture: RowPicture) -> Path:
        """Runs all stages; the last one's file."""
        size, dtype = picture.rows.shape, picture.rows.dtype
        final = self.restorer.output_size(size[0], size[1], self.checked)
        transform = transform_of(picture.metadata.icc, size[2])
        decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
        weights = [1]
        for scale, _ in self.stages[:-1]:
            weights.append(weights[-1] * (scale or 1) ** 2)
        before, held = picture, None
        for number, (scale, factor) in enumerate(self.stages):
            last = number == len(self.stages) - 1
            shape = before.rows.shape
            grown = final if last else (shape[0] * (scale or 1), shape[1] * (scale or 1))
            depth = dtype if last or dtype != np.uint8 else np.dtype(np.uint16)
            passed, whole = sum(weights[:number]), sum(weights)

            def part(p: Progress, number: int = number, passed: int = passed, whole: int = whole) -> None:
                share = (passed + weights[number] * p.done / p.total) / whole
                total = size[0] * size[1]
                self.progress(Progress(int(share * total), total, time.monotonic() - self.started))

            blend = self._blend(before) if self.strength < 1 else None
            software = f"Restora {__version__} ({self.report.model})"
            how = _written(self.encoding) if last else {"format": "tiff"}
            made = row_writer(self.target, (*grown, shape[2]), depth, picture.metadata, software, blend=blend, **how)
            try:
                with made as (sink, temporary):
                    if scale is None:
                        self._resample(before, sink, factor, decode, encode, part)
                    else:
                        self._pass(before, sink, scale, decode, encode, part)
            finally:
                if held is not None:
                    held.unlink(missing_ok=True)
            held = temporary
            if not last:
                following = RowPicture.open(held)
                assert following is not None
                before = following
        assert held is not None
        return held

    def _pass(self, before: RowPicture, sink: Any, scale: int, decode: Any, encode: Any, part: Any) -> None:
        operator = _operator(self.restorer, self.checked, scale)
        source: Any = before.rows
        _, ran = run(operator, source, sink, self.settings, decode, encode, part, self.cancelled)
        report = self.report
        report.device, report.precision, report.tile = ran.device, ran.precision, max(report.tile, ran.tile)
        report.backend, report.tiles = ran.backend, report.tiles + ran.tiles
        report.notes += [note for note in ran.notes if note not in report.notes]

    def _resample(self, before: RowPicture, sink: Any, factor: float, decode: Any, encode: Any, part: Any) -> None:
        height, width, _ = before.rows.shape
        began = time.monotonic()
        for strip in Strips(height, width, factor):
            if self.cancelled():
                raise Cancelled("Stopped on request; finished pictures are kept.")
            with torch.inference_mode():
                result = strip.apply(load(before.rows[strip.read_top : strip.read_bottom, :], decode))
            pixels = store(result, sink.dtype, encode)
            sink[strip.top : strip.bottom, 0 : pixels.shape[1]] = pixels
            done = math.ceil(height * strip.bottom / sink.shape[0])
            part(Progress(done * width, height * width, time.monotonic() - began))

    def _blend(self, before: RowPicture) -> Callable[[int, np.ndarray], np.ndarray]:
        """Mixes finished rows with those of the input, which are read once more."""
        again = before.again()

        def mixed(first: int, rows: np.ndarray) -> np.ndarray:
            return blended(again.rows[first : first + len(rows), :], rows, self.strength)

        return mixed

"""One file of a job: read, restored, and written under a temporary name, within a share of the machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restora.engine import Progress, choose_device, free_memory, set_threads, usable_cores
from restora.errors import Cancelled, PictureError, PictureWriteError, RestoraError
from restora.io import Picture, coding_threads, probe, synced
from restora.io.rows import RowPicture
from restora.jobs import streaming
from restora.jobs.manifest import file_sha256
from restora.jobs.share import Share
from restora.restorers import Bicubic, Enhancer, Restorer, Upscaler

# Pictures up to this many pixels get one core each, side by side; larger ones get all cores, one after the other: a
# network's layers are then long enough to be divided, and the memory is that of one picture.
SMALL = 1 << 19
_ROOM = 2 << 30
# Restorers whose parts hold nothing that two pictures at a time would disturb. Others take one after the other.
_SIDE_BY_SIDE = (Upscaler, Bicubic, Enhancer)

# event name, index of the file, data
Tell = Callable[[str, int, dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """An input, by its place in the job, and where its result goes. `band`: (k, n) for the k-th of n parts of a picture that
    is divided, k from 0."""

    index: int
    source: Path
    target: Path
    band: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[int, tuple[int, int] | None]:
        """What no other task of the job has."""
        return self.index, self.band


@dataclass
class Outcome:
    """What became of a task: the result's temporary file `held`, its checksum, and details; or an error; or neither, when
    the job was stopped."""

    index: int
    held: Path | None = None
    sha256: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0
    band: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[int, tuple[int, int] | None]:
        """That of its task."""
        return self.index, self.band


def sentence(error: Exception, source: Path) -> str:
    """What the user is told about a file that failed."""
    if isinstance(error, RestoraError):
        return str(error)
    if isinstance(error, (MemoryError, OSError)):
        return f"'{source}': {error or type(error).__name__}."
    # a defect of ours must not cost the user the other files
    if os.environ.get("RESTORA_DEBUG"):
        traceback.print_exc()
    return f"'{source}': unexpected {type(error).__name__}: {error} (a defect; RESTORA_DEBUG=1 shows where)."


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureWriteError(f"The folder '{folder}' cannot be made: {error.strerror}.") from error


def in_memory(restorer: Restorer, checked: Any, source: Path) -> int:
    """Bytes of a picture and its result in memory; 0 where the file cannot be read, which is told later."""
    try:
        info = probe(source, 1 << 62)
        out = restorer.output_size(info.height, info.width, checked)
    except (RestoraError, OSError):
        return 0
    pixel = (info.channels + info.has_alpha) * info.bit_depth // 8
    return (info.height * info.width + out[0] * out[1]) * pixel


def side_by_side(restorer: Restorer) -> bool:
    """Whether `restorer` can work on several pictures at a time in one process."""
    return type(restorer) in _SIDE_BY_SIDE


class Worker:
    """Restores files, as many at a time as there are callers, with never more busy threads than `threads`.

    A caller holds as many cores as it keeps busy, and none while it waits for the disk: so one picture is read and another
    written while others are computed. How many threads work on a picture depends on its size alone.

    Args:
        restorer: see `side_by_side`. controls: checked. encoding: as `Output.encoding`.
        threads: None for all cores. alone: there is one caller only, to whom everything belongs.
    """

    def __init__(
        self,
        restorer: Restorer,
        controls: dict[str, Any],
        encoding: dict[str, Any],
        threads: int | None = None,
        alone: bool = False,
    ) -> None:
        self.restorer, self.controls, self.encoding, self.alone = restorer, controls, encoding, alone
        self.checked = restorer.check_controls(controls)
        self.threads = threads or usable_cores()
        device = choose_device(restorer.settings.device)
        self.on_cpu = device.type == "cpu"
        self._cores = Share(self.threads)
        # other backends than torch, and other devices than the CPU, take one picture at a time and divide it by themselves
        self._engine, self._many = Share(1), self.on_cpu
        self._room = Share(1 if alone else max(1, min(_ROOM, free_memory(choose_device("cpu")) // 4)))
        self._first, self._warm = threading.Lock(), False

    @property
    def callers(self) -> int:
        """So many keep the cores busy: one more than there are cores, since one of them waits for the disk."""
        return 1 if self.alone else self.threads + 1

    def do(self, task: Task, tell: Tell, cancelled: Callable[[], bool]) -> Outcome:
        """Restores one file. Events: ``file``, ``progress`` (done, total, remaining), ``writing``."""
        started = time.monotonic()
        tell("file", task.index, {})
        try:
            size = in_memory(self.restorer, self.checked, task.source)
            if task.band is not None:
                outcome = self._banded(task, task.band, tell, cancelled)
            elif streaming.suits(self.restorer, task.source, task.target, size):
                outcome = self._streamed(task, tell, cancelled)
            else:
                with self._room.taken(0 if self.alone else 2 * size):
                    outcome = self._done(task, tell, cancelled)
        except Cancelled:
            outcome = Outcome(task.index)
        except Exception as error:  # noqa: BLE001 - told to the user, file by file
            outcome = Outcome(task.index, error=sentence(error, task.source))
        outcome.seconds, outcome.band = time.monotonic() - started, task.band
        return outcome

    def _done(self, task: Task, tell: Tell, cancelled: Callable[[], bool]) -> Outcome:
        with self._busy(1):
            picture = Picture.open(task.source)
        if cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")

        result = self._restored(picture, self._meter(task, tell), cancelled)
        _make_folder(task.target.parent)
        notes = result.report.notes + result.picture.fits(task.target.suffix)
        tell("writing", task.index, {})
        # of the formats only these are coded by several threads
        with self._busy(self._share_of(picture) if task.target.suffix.lower() in (".png", ".tif", ".tiff") else 1):
            held = result.save(task.target, hold=True, **self.encoding)
        return self._outcome(task, held, {**dataclasses.asdict(result.report), "notes": notes})

    def _opened(self, task: Task) -> RowPicture:
        picture = RowPicture.open(task.source)
        if picture is None:
            raise PictureError(f"'{task.source}' has changed while it was restored.")
        return picture

    def _streamed(self, task: Task, tell: Tell, cancelled: Callable[[], bool]) -> Outcome:
        """One whose result is larger than the memory should hold: it has all cores, from beginning to end."""
        picture = self._opened(task)
        _make_folder(task.target.parent)
        with self._engine.taken(1), self._busy(self.threads, self.threads):
            settings = dataclasses.replace(self.restorer.settings, threads=self.threads)
            meter = self._meter(task, tell)
            held, report = streaming.stream(
                self.restorer, picture, task.target, self.controls, settings, meter, cancelled, self.encoding
            )
        tell("writing", task.index, {})
        return self._outcome(task, held, dataclasses.asdict(report))

    def _banded(self, task: Task, band: tuple[int, int], tell: Tell, cancelled: Callable[[], bool]) -> Outcome:
        """A part of one that is divided, as raw rows."""
        picture = self._opened(task)
        _make_folder(task.target.parent)
        with self._engine.taken(1), self._busy(self.threads, self.threads):
            settings = dataclasses.replace(self.restorer.settings, threads=self.threads)
            meter = self._meter(task, tell)
            held, details = streaming.band(
                self.restorer, picture, task.target, self.controls, settings, meter, cancelled, band
            )
        return Outcome(task.index, held, "", details)

    def _meter(self, task: Task, tell: Tell) -> Callable[[Progress], None]:
        def on_progress(p: Progress) -> None:
            data = {"done": p.done, "total": p.total, "remaining": round(p.remaining, 2)}
            tell("progress", task.index, {**data, "band": task.band} if task.band else data)

        return on_progress

    def _outcome(self, task: Task, held: Path, details: dict[str, Any]) -> Outcome:
        """Of a result that has been written: its checksum, once it is safely on the disk."""
        try:
            sha256 = file_sha256(held)
            synced(held)
        except OSError as error:
            held.unlink(missing_ok=True)
            raise PictureWriteError(f"'{task.target}' cannot be written: {error.strerror or error}.") from error
        return Outcome(task.index, held, sha256, details)

    def _restored(self, picture: Picture, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Any:
        if self.alone:
            return self.restorer(picture, progress=progress, cancelled=cancelled, **self.controls)
        with self._first_alone() as first, contextlib.ExitStack() as held:
            threads = self._share_of(picture) if self._many else self.threads
            if not self._many:
                held.enter_context(self._engine.taken(1))
            # what is computed elsewhere keeps one core busy
            cores = 1 if not self.on_cpu else self.threads if first else threads
            held.enter_context(self._busy(cores, threads))
            settings = dataclasses.replace(self.restorer.settings, threads=threads)
            result = self.restorer(picture, progress=progress, cancelled=cancelled, settings=settings, **self.controls)
            if first:
                self._warm = True
                self._many &= result.report.backend in ("", "torch")
        return result

    @contextlib.contextmanager
    def _first_alone(self) -> Iterator[bool]:
        """Until one picture is done the others wait: networks are loaded, and the cost of their layers is found, by then."""
        with self._first:
            if not self._warm:
                yield True
                return
        yield False

    def _share_of(self, picture: Picture) -> int:
        """The threads that a picture gets."""
        return 1 if picture.width * picture.height <= SMALL else self.threads

    @contextlib.contextmanager
    def _busy(self, cores: int, threads: int | None = None) -> Iterator[None]:
        """Holds cores, and lets this thread's work use so many."""
        if self.alone:
            with coding_threads(self.threads):
                yield
            return
        with self._cores.taken(cores), coding_threads(threads or cores):
            if threads:
                set_threads(threads)
            yield

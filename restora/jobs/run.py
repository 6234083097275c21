"""Files in, files out: every file on its own, done ones skipped, bad ones named, nothing half-written."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restora.engine import usable_cores
from restora.errors import Cancelled, PictureWriteError, RestoraError, UsageError
from restora.io import Picture, coding_threads, remove_stale, settle, synced
from restora.io.rows import RowPicture
from restora.jobs import streaming
from restora.jobs.inputs import Item
from restora.jobs.manifest import Manifest, Record, file_sha256, settings_sha256
from restora.jobs.parcel import pack
from restora.jobs.processes import Processes
from restora.jobs.team import Alone, Crew, Team, Threads, discard
from restora.jobs.worker import Outcome, Task, Worker, in_memory, sentence, side_by_side
from restora.restorers import Restorer

_BANDS = 4  # parts of a huge picture for each worker: what a lost one costs is small, and none waits long for the last
_WORKERS = 4  # that a cluster is taken to have where their number was not said

# event name, then its data; see `run_job`
Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Output:
    """How results are written. `quality` and `lossless` as `Picture.save`; `overwrite` replaces files that no job made."""

    folder: Path
    quality: int | None = None
    lossless: bool | None = None
    overwrite: bool = False
    metadata: bool = True

    @property
    def encoding(self) -> dict[str, Any]:
        """The options that change a file's bytes."""
        return {"quality": self.quality, "lossless": self.lossless, "metadata": self.metadata}


@dataclass
class Summary:
    """What became of the inputs."""

    done: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    cancelled: bool = False
    seconds: float = 0.0


def run_job(
    restorer: Restorer,
    items: Sequence[Item],
    output: Output,
    controls: dict[str, Any],
    report: Report,
    cancelled: Callable[[], bool] = lambda: False,
    crew: Crew | None = None,
    shard: tuple[int, int] | None = None,
) -> Summary:
    """Restores files: several small pictures side by side where the restorer allows it, while others are read and written.

    Events: ``start`` (files, model), ``file`` (source, target, index), ``progress`` (source, done, total, remaining),
    ``writing`` (source, target), ``done`` / ``skipped`` / ``failed`` (source, target, ...), ``end`` (counts, seconds).
    Files may end in another order than they began. Everything is reported from the calling thread; `cancelled` may be
    asked from others.

    Args:
        crew: who does the work. shard: (i, n), i from 1: only every n-th input from the i-th on, with a manifest of its
            own, so that n runs may share one folder.

    Raises:
        UsageError: controls that the restorer does not have; nothing was done then. What goes wrong with a single
        file is in the summary.
    """
    return _Job(restorer, items, output, controls, report, cancelled, crew or Crew(), shard).run()


class _Job:
    """A run of `run_job`: decides what is to be done, hands it out, and records what comes back."""

    def __init__(
        self,
        restorer: Restorer,
        items: Sequence[Item],
        output: Output,
        controls: dict[str, Any],
        report: Report,
        cancelled: Callable[[], bool],
        crew: Crew,
        shard: tuple[int, int] | None,
    ) -> None:
        self.restorer, self.output, self.controls, self.crew = restorer, output, controls, crew
        self.report, self.cancelled = report, cancelled
        self.items = list(items) if shard is None else part(items, *shard)
        checked = restorer.check_controls(controls)
        self.settings = settings_sha256(
            {
                "controls": checked.model_dump(mode="json"),
                "encoding": output.encoding,
                "precision": restorer.settings.precision,
                **({} if restorer.settings.backend == "auto" else {"backend": restorer.settings.backend}),
            }
        )
        self.manifest = Manifest(output.folder, shard)
        self.summary = Summary()
        self.sources: dict[int, str] = {}  # checksums of the inputs in hand
        self.parts: dict[int, list[Outcome]] = {}  # of pictures that are divided
        self.begun: set[int] = set()
        self.shares: dict[int, list[float]] = {}  # of their parts, how far each is

    def run(self) -> Summary:
        started = time.monotonic()
        for folder in {item.target.parent for item in self.items}:
            remove_stale(folder)
        self.report("start", {"files": len(self.items), "model": self.restorer.name})
        ended: dict[int, tuple[str, str]] = {}
        with contextlib.closing(self._results()) as results:
            for index, outcome, details in results:
                item = self.items[index]
                ended[index] = outcome, details.get("error", "")
                self.report(outcome, {"source": str(item.source), "target": str(item.target), **details})
        for index, (outcome, error) in sorted(ended.items()):
            if outcome == "failed":
                self.summary.failed[self.items[index].source] = error
            else:
                getattr(self.summary, outcome).append(self.items[index].target)
        self.summary.seconds = time.monotonic() - started
        counts = {name: len(getattr(self.summary, name)) for name in ("done", "skipped", "failed")}
        self.report("end", {**counts, "cancelled": self.summary.cancelled, "seconds": round(self.summary.seconds, 3)})
        return self.summary

    def _results(self) -> Generator[tuple[int, str, dict[str, Any]], None, None]:
        """Every file with its outcome (``done``, ``skipped``, ``failed``) and details, as they end."""
        team: Team | None = None
        under_way = 0
        waiting = self._tasks()
        try:
            while True:
                while team is None or under_way < team.places:
                    if self.cancelled():
                        self.summary.cancelled = True
                    found = None if self.summary.cancelled else next(waiting, None)
                    if found is None:
                        break
                    if not isinstance(found, Task):
                        yield found
                        continue
                    try:
                        team = team or self._hired()
                    except Cancelled:
                        self.summary.cancelled = True
                        break
                    team.give(found)
                    under_way += 1
                if not under_way or team is None:
                    return
                outcome = self._whole(team.receive())
                under_way -= 1
                if outcome is None:
                    continue
                if outcome.held is None and not outcome.error:
                    self.summary.cancelled = True
                    continue
                yield outcome.index, *self._recorded(outcome)
        finally:
            for parts in self.parts.values():
                for outcome in parts:
                    discard(outcome)
            if team is not None:
                team.close()

    def _tasks(self) -> Iterator[Task | tuple[int, str, dict[str, Any]]]:
        """What is to be done, and the results of what need not or cannot be done."""
        for index, item in enumerate(self.items):
            tick = time.monotonic()
            verdict = self._looked_at(index, item)
            if verdict is not None:
                self._tell("file", index, {})
                yield index, verdict[0], {"seconds": round(time.monotonic() - tick, 3), **verdict[1]}
                continue
            count = self._bands(item)
            for number in range(count):
                yield Task(index, item.source, item.target, (number, count) if count > 1 else None)

    def _bands(self, item: Item) -> int:
        """Into how many parts a picture is divided: only a huge one, and where there are several workers for it."""
        workers = self.crew.workers or (1 if self.crew.executor == "local" else _WORKERS)
        if workers == 1 or not self.divisible:
            return 1
        try:
            size = in_memory(self.restorer, self.restorer.check_controls(self.controls), item.source)
            streamed = streaming.suits(self.restorer, item.source, item.target, size)
        except RestoraError:
            return 1  # it is told when the file is restored
        return _BANDS * workers if streamed else 1

    @functools.cached_property
    def divisible(self) -> bool:
        return streaming.divisible(self.restorer, self.controls)

    def _whole(self, outcome: Outcome) -> Outcome | None:
        """The outcome of a file, joined from its parts where it was divided; None until all are there."""
        if outcome.band is None:
            return outcome
        index, count = outcome.index, outcome.band[1]
        parts = self.parts.setdefault(index, [])
        parts.append(outcome)
        if len(parts) < count:
            return None
        item = self.items[index]
        parts.sort(key=lambda part: part.band or (0, 0))
        seconds = max(part.seconds for part in parts)
        whole = Outcome(index, seconds=seconds)
        try:
            if bad := next((part for part in parts if part.held is None), None):
                whole.error = next((part.error for part in parts if part.error), bad.error)
                return whole
            picture = RowPicture.open(item.source)
            assert picture is not None
            bands = [(part.held, part.details) for part in parts if part.held is not None]
            with coding_threads(self.restorer.settings.threads):
                held, report = streaming.joined(
                    self.restorer, picture, item.target, self.controls, bands, seconds, self.output.encoding
                )
            whole.held, whole.sha256, whole.details = held, file_sha256(held), dataclasses.asdict(report)
            synced(held)
        except Exception as error:  # noqa: BLE001 - told to the user, file by file
            discard(whole)
            whole.held, whole.error = None, sentence(error, item.source)
        finally:
            for part in self.parts.pop(index):
                discard(part)
        return whole

    def _hired(self) -> Team:
        """Who does the work; made when there is work."""
        threads = self.restorer.settings.threads
        rest = (self._tell, self.cancelled)
        if self.crew.executor == "ray":
            from restora.jobs.cluster import Cluster

            return Cluster(self.restorer, self.controls, self.output.encoding, self.crew, *rest)
        workers = self.crew.workers or 1
        if workers > len(self.items) and not any(self._bands(item) > 1 for item in self.items):
            workers = len(self.items)
        if workers > 1:
            parcel = pack(self.restorer, self.controls)
            return Processes(parcel, self.output.encoding, workers, threads or usable_cores(), *rest)
        alone = len(self.items) == 1 or not side_by_side(self.restorer)
        worker = Worker(self.restorer, self.controls, self.output.encoding, threads, alone)
        return (Alone if alone else Threads)(worker, *rest)

    def _tell(self, event: str, index: int, data: dict[str, Any]) -> None:
        item = self.items[index]
        if event == "file":
            if index in self.begun:  # another part of the same picture
                return
            self.begun.add(index)
            data = {"index": index}
        if (band := data.pop("band", None)) is not None:
            shares = self.shares.setdefault(index, [0.0] * band[1])
            shares[band[0]] = data["done"] / data["total"]
            data["done"] = int(data["total"] * sum(shares) / len(shares))
        self.report(event, {"source": str(item.source), "target": str(item.target), **data})

    def _looked_at(self, index: int, item: Item) -> tuple[str, dict[str, Any]] | None:
        """``skipped`` or ``failed`` and why, or None when the file has to be restored."""
        try:
            # opening first: a file that is no picture has a better sentence than one that cannot be hashed
            if not item.source.is_file():
                Picture.open(item.source)
            source_sha256 = self.sources[index] = file_sha256(item.source)
            if self.manifest.done(item.target, source_sha256, self.restorer.fingerprint, self.settings):
                return "skipped", {"reason": "done before"}
            if item.target.exists() and not self.output.overwrite and not self.manifest.made(item.target):
                raise PictureWriteError(
                    f"'{item.target}' exists and was not made by this job, so it was kept; --overwrite replaces it."
                )
        except Exception as error:  # noqa: BLE001 - told to the user, file by file
            return "failed", {"error": sentence(error, item.source)}
        return None

    def _recorded(self, outcome: Outcome) -> tuple[str, dict[str, Any]]:
        """Gives a result its name, between two records in the manifest."""
        item, seconds = self.items[outcome.index], round(outcome.seconds, 3)
        source_sha256 = self.sources.pop(outcome.index)
        if outcome.held is None:
            return "failed", {"seconds": seconds, "error": outcome.error}
        record = Record(
            self.manifest.key(item.target),
            str(item.source),
            source_sha256,
            self.restorer.name,
            self.restorer.fingerprint,
            self.settings,
            "writing",
            seconds=outcome.details["seconds"],
            report=outcome.details,
        )
        try:
            try:
                self.manifest.add(record)  # a crash between the file and its record must not make the file a stranger's
            except BaseException:
                discard(outcome)
                raise
            try:
                settle(outcome.held, item.target)
            except BaseException:
                with contextlib.suppress(PictureWriteError):
                    self.manifest.add(dataclasses.replace(record, status="failed"))
                raise
            self.manifest.add(dataclasses.replace(record, status="done", target_sha256=outcome.sha256))
        except Exception as error:  # noqa: BLE001 - told to the user, file by file
            return "failed", {"seconds": seconds, "error": sentence(error, item.source)}
        return "done", {**outcome.details, "seconds": seconds}


def part(items: Sequence[Item], number: int, count: int) -> list[Item]:
    """The inputs of shard `number` (from 1) of `count`: every `count`-th, so that large and small ones are spread.

    Raises:
        UsageError: no such shard.
    """
    if not 1 <= number <= count:
        raise UsageError(f"A shard is i/n with i from 1 to n, such as 3/8; {number}/{count} was given.")
    return list(items[number - 1 :: count])

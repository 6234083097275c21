"""The queue: jobs on disk, restored one after the other, whatever happens to the page or the server in between.

    jobs/j-ID/job.json        what is to be done and its state, written whole at every change
    jobs/j-ID/input           the picture, so that the job does not depend on what becomes of the upload
    jobs/j-ID/result.png      the result, and `.restora.jsonl`, the manifest of `restora.jobs` about it

A job that was running when the server was killed is queued again; the manifest tells whether its result was already made.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from restora.errors import PictureTooLarge, RestoraError, UsageError
from restora.io import WRITABLE, Picture, probe
from restora.studio import lines
from restora.studio.catalogue import Catalogue, loads_by_name
from restora.studio.events import Events
from restora.studio.settings import Limits
from restora.studio.store import NotFound, Store, new_id, read_json, write_json

_ATTEMPTS = 3  # times that a server may end in the middle of a job before the job is blamed
_HELD = 2  # paused jobs that keep what they have in memory; others begin again
_NEWS = 0.2  # seconds between messages about a job's progress
_KEPT = ("file", "name", "model", "task", "controls", "mask", "blend", "format", "method", "by_name", "scale", "state",
         "created", "attempts", "error", "report", "result")  # fmt: skip


@dataclasses.dataclass
class Job:
    """A job and what is known of it while it runs. `wish` is what the user asked of a running one."""

    id: str
    file: str
    name: str
    model: str
    task: str
    controls: dict[str, Any]
    mask: str | None = None
    blend: float = 1.0
    format: str = "auto"
    method: bool = False
    by_name: bool = True
    scale: float = 1.0
    state: str = "queued"
    created: float = 0.0
    attempts: int = 0
    error: str = ""
    report: dict[str, Any] = dataclasses.field(default_factory=dict)
    result: dict[str, Any] | None = None
    progress: float = 0.0
    seconds_left: float | None = None
    wish: str = ""
    holds: bool = False
    told: float = 0.0


class Queue:
    """All jobs of a studio, and the threads that work on them.

    Args:
        store: where pictures, masks, kernels and jobs lie. workers: jobs that run at once.
    """

    def __init__(self, store: Store, catalogue: Catalogue, events: Events, limits: Limits, workers: int = 1) -> None:
        self.store, self.catalogue, self.events, self.limits, self.workers = store, catalogue, events, limits, workers
        self.folder = store.folder / "jobs"
        self.jobs: dict[str, Job] = {}
        self.paused = bool((read_json(store.folder / "queue.json") or {}).get("paused"))
        self.stopping = False
        self._active: set[str] = set()
        self._changed = threading.Condition(threading.RLock())
        self._tick = itertools.count()
        self._threads: list[threading.Thread] = []
        self._restore()

    # life

    def _restore(self) -> None:
        """Takes up the jobs that an earlier server left."""
        found = []
        for folder in self.folder.iterdir():
            data = read_json(folder / "job.json")
            if not isinstance(data, dict) or not folder.name.startswith("j-"):
                shutil.rmtree(folder, ignore_errors=True)  # killed before the job was wholly there
                continue
            known = {f.name for f in dataclasses.fields(Job)}
            job = Job(id=folder.name, **{k: v for k, v in data.items() if k in known and k != "id"})
            if job.state == "running":
                job.state = "queued"
                if job.attempts >= _ATTEMPTS:
                    job.state = "failed"
                    job.error = (
                        f"The server ended {job.attempts} times while it worked on '{job.name}', probably for lack of memory. "
                        "Retry it with a smaller scale or picture."
                    )
                self._save(job)
            if job.state == "done":
                job.progress = 1.0
            found.append(job)
        self.jobs = {job.id: job for job in sorted(found, key=lambda j: j.created)}

    def start(self) -> None:
        """Begins to work."""
        thread = threading.Thread(target=self._dispatch, name="studio-queue", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, patience: float = 10.0) -> None:
        """Ends the work at the next tile; running jobs are queued again for the next start."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                job = None
                while not self.stopping:
                    job = self._next()
                    if job is not None:
                        break
                    self._changed.wait()
                if self.stopping or job is None:
                    return
                self._active.add(job.id)
                job.state, job.wish, job.error, job.progress = "running", "", "", 0.0
                job.attempts += 1
                self._save(job)
                self._threads = [t for t in self._threads if t.is_alive()]
                thread = threading.Thread(target=self._work, args=(job,), name=f"studio-{job.id}", daemon=True)
                self._threads.append(thread)
            self._tell(job)
            thread.start()

    def _next(self) -> Job | None:
        if self.paused or len(self._active) >= self.workers:
            return None
        return next((job for job in self.jobs.values() if job.state == "queued"), None)

    # what clients ask

    def add(
        self,
        files: Sequence[str],
        model: Mapping[str, Any],
        variants: Sequence[Mapping[str, Any]],
        mask: str | None,
        blend: float,
        format: str,
        check: Callable[[Mapping[str, Any]], tuple[Any, Any]],
    ) -> list[Job]:
        """Queues a job for each file and each variant of the controls; all or none.

        Args:
            check: controls -> restorer and its checked controls; raises what is wrong with them.

        Raises:
            UsageError: limits, controls, a format that cannot be written. NotFound: a file or mask that is not here.
        """
        with self._changed:
            waiting = sum(job.state in ("queued", "paused", "running") for job in self.jobs.values())
        if len(files) > self.limits.files_a_job or waiting + len(files) * len(variants) > self.limits.queued_jobs:
            raise UsageError(
                f"A request may name {self.limits.files_a_job} pictures, and {self.limits.queued_jobs} jobs may wait; "
                f"{waiting} do already."
            )
        if format != "auto" and f".{format.lstrip('.').lower()}" not in WRITABLE:
            raise UsageError(f"Pictures cannot be written as '{format}'; choose auto, png, jpg, webp, tif or bmp.")
        if mask is not None:
            self.store.mask_path(mask)
        checked = [(dict(v), *check(v)) for v in variants]
        jobs: list[Job] = []
        by_name = model["task"] != "denoise" or bool(model["parameters"]) or loads_by_name(model["name"])
        for id in files:
            meta = self.store.meta(id)
            for controls, restorer, values in checked:
                height, width = restorer.output_size(meta["height"], meta["width"], values)
                if height * width > self.limits.result_pixels:
                    raise UsageError(
                        f"The result of '{meta['name']}' would have {width}x{height} pixels; this studio makes at most "
                        f"{self.limits.result_pixels / 1e6:.0f} megapixels."
                    )
                jobs.append(
                    Job(
                        new_id("j"),
                        id,
                        meta["name"],
                        model["name"],
                        model["task"],
                        controls,
                        mask,
                        blend,
                        format,
                        bool(model["needs_kernel"]),
                        by_name,
                        width / meta["width"],
                        created=time.time() + next(self._tick) * 1e-6,
                    )
                )
        made: list[Path] = []
        try:
            for job in jobs:
                folder = self.folder / job.id
                folder.mkdir()
                made.append(folder)
                _copy(self.store.path(job.file), folder / "input")
                self._save(job)  # last: a folder without it is no job
        except BaseException:
            for folder in made:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._changed:
            self.jobs |= {job.id: job for job in jobs}
            self._changed.notify_all()
        for job in jobs:
            self._tell(job)
        return jobs

    def get(self, id: str) -> Job:
        """A job.

        Raises:
            NotFound: none of that id.
        """
        job = self.jobs.get(id)
        if job is None:
            raise NotFound("There is no such job here; it may have been removed.")
        return job

    def pause(self, id: str) -> Job:
        """A waiting job is left out; a running one stops after its tile and keeps what it has, while there is room for that."""
        with self._changed:
            job = self.get(id)
            self._only(job, ("queued", "running", "paused"), "paused")
            if job.state == "running":
                job.wish = "pause"
            job.state = "paused"
            self._save(job)
            self._changed.notify_all()
        self._tell(job)
        return job

    def resume(self, id: str) -> Job:
        """A paused job goes on, or waits for its turn."""
        with self._changed:
            job = self.get(id)
            self._only(job, ("queued", "running", "paused"), "resumed")
            if job.state == "paused":
                # one that still holds its work, or has not noticed the pause yet, just goes on
                working = job.wish == "pause"
                job.wish, job.state = "", "running" if working else "queued"
                self._save(job)
            self._changed.notify_all()
        self._tell(job)
        return job

    def cancel(self, id: str) -> Job:
        """A waiting job is not done; a running one stops after its tile."""
        with self._changed:
            job = self.get(id)
            self._only(job, ("queued", "running", "paused", "cancelled"), "cancelled")
            if job.state == "running" or job.wish:
                job.wish = "cancel"
            job.state = "cancelled"
            self._save(job)
            self._changed.notify_all()
        self._tell(job)
        return job

    def retry(self, id: str) -> Job:
        """A failed or cancelled job is queued once more, at the end."""
        with self._changed:
            job = self.get(id)
            self._only(job, ("failed", "cancelled"), "retried")
            if job.wish:
                raise UsageError(f"'{job.name}' is still being stopped; retry it in a moment.")
            job.state, job.error, job.progress, job.attempts, job.seconds_left = "queued", "", 0.0, 0, None
            self.jobs[id] = self.jobs.pop(id)
            job.created = time.time()
            self._save(job)
            self._changed.notify_all()
        self._tell(job)
        return job

    def remove(self, id: str) -> None:
        """Forgets a job and its result; a running one is stopped first."""
        with self._changed:
            job = self.get(id)
            del self.jobs[id]
            working = job.state == "running" or bool(job.wish)
            if working:
                job.wish = "remove"
                self._changed.notify_all()
        self.store.forget(self.folder / id / "input")
        if not working:
            self._erase(job)
        self.events.publish("removed", {"id": id})
        self._tell_queue()

    def hold(self, paused: bool) -> None:
        """Pauses or resumes the whole queue: nothing begins, and what runs waits after its tile."""
        with self._changed:
            self.paused = paused
            write_json(self.store.folder / "queue.json", {"paused": paused})
            self._changed.notify_all()
        for job in list(self.jobs.values()):
            if job.state == "running":
                self._tell(job)
        self._tell_queue()

    def _only(self, job: Job, states: tuple[str, ...], done: str) -> None:
        if job.state not in states:
            raise UsageError(f"'{job.name}' is {job.state} and cannot be {done}.")

    # what they are shown

    def shown(self, job: Job, position: int | None = None) -> dict[str, Any]:
        """The fields of `schemas.JobShown`."""
        target = job.result["name"] if job.result else lines.target_name(
            job.name, job.task, job.controls, job.scale, self._suffix(job)
        )  # fmt: skip
        facts = dataclasses.asdict(job)
        state = "paused" if job.state == "running" and self.paused else job.state
        return {
            **{
                k: facts[k]
                for k in ("id", "file", "name", "model", "task", "controls", "mask", "blend", "created", "error")
            },
            "state": state,
            "progress": round(job.progress, 4),
            "seconds_left": job.seconds_left if state == "running" else None,
            "position": position,
            "report": facts["report"],
            "result": facts["result"],
            "command": lines.command(facts, target),
            "python": lines.python(facts, target),
        }

    def listed(self) -> list[dict[str, Any]]:
        """All jobs, oldest first."""
        with self._changed:
            jobs = list(self.jobs.values())
        waiting = itertools.count(1)
        return [self.shown(job, next(waiting) if job.state == "queued" else None) for job in jobs]

    def summary(self) -> dict[str, Any]:
        """The fields of `schemas.QueueShown`."""
        states = [job.state for job in list(self.jobs.values())]
        return {"paused": self.paused, "queued": states.count("queued"), "running": states.count("running")}

    def result_path(self, job: Job) -> Path:
        """Where the result of a finished job lies.

        Raises:
            UsageError: it is not done.
        """
        path = self._target(job)
        if job.state != "done" or not path.is_file():
            raise UsageError(f"'{job.name}' has no result: it is {job.state}.")
        return path

    def input_path(self, job: Job) -> Path:
        """Where the job's own copy of its picture lies."""
        return self.folder / job.id / "input"

    def picture(self, job: Job) -> Picture:
        """The result, decoded."""
        return self.store.open(self.result_path(job), job.name)

    def _suffix(self, job: Job) -> str:
        suffix = Path(job.name).suffix.lower() if job.format == "auto" else f".{job.format.lstrip('.').lower()}"
        return suffix if suffix in WRITABLE else ".png"

    def _target(self, job: Job) -> Path:
        return self.folder / job.id / f"result{self._suffix(job)}"

    # the work

    def _work(self, job: Job) -> None:
        started = time.monotonic()
        outcome, error = "failed", ""
        try:
            outcome, error = self._restored(job, lambda: self._asked_to_stop(job, started))
        except RestoraError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001 - a defect of ours must not end the queue
            error = f"Unexpected {type(failure).__name__}: {failure} (a defect; please report it)."
        with self._changed:
            if job.wish == "remove":
                outcome = "removed"
            elif outcome == "cancelled" and job.wish == "pause":
                outcome = "paused"
            elif outcome == "cancelled" and job.wish != "cancel":
                late = self.limits.job_seconds is not None and time.monotonic() - started > self.limits.job_seconds
                outcome = "failed" if late else "queued"
                if late:
                    error = f"It took longer than the {self.limits.job_seconds} seconds that this studio gives a job."
                else:
                    job.attempts -= 1  # the server's end, not the job's fault
            job.wish, job.seconds_left = "", None
            self._active.discard(job.id)
            if outcome == "removed":
                self._erase(job)
            else:
                job.state = outcome
                job.error = self.store.scrub(error.replace(str(self.input_path(job)), job.name))
                job.progress = 1.0 if outcome == "done" else 0.0
                self._save(job)
            self._changed.notify_all()
        if outcome != "removed":
            self._tell(job)

    def _restored(self, job: Job, cancelled: Callable[[], bool]) -> tuple[str, str]:
        """``done``, ``failed`` or ``cancelled``, and what went wrong."""
        from restora.jobs import Item, Manifest, Output, run_job
        from restora.studio.steering import Steered, resolve

        model = self.catalogue.model(job.model)
        restorer = self.catalogue.load(job.model)
        mask = None if job.mask is None else self.store.mask(job.mask)
        values = resolve(model, job.controls, self.store)
        source, target = self.input_path(job), self._target(job)
        said: dict[str, dict[str, Any]] = {}

        def report(event: str, data: dict[str, Any]) -> None:
            said[event] = data
            if event == "progress":
                job.progress = min(1.0, data["done"] / max(1, data["total"]))
                job.seconds_left = data["remaining"]
                if time.monotonic() - job.told > _NEWS:
                    self._tell(job)

        summary = run_job(
            Steered(restorer, job.blend, mask),
            [Item(source, target)],
            Output(target.parent, overwrite=True),
            values,
            report,
            cancelled,
        )
        if summary.cancelled:
            return "cancelled", ""
        if summary.failed:
            return "failed", next(iter(summary.failed.values()))
        self.store.forget(target)
        record = Manifest(target.parent).records.get(target.name)
        facts = record.report if record is not None else {}
        info = probe(target)
        job.report = self.store.scrubbed(
            {k: v for k, v in facts.items() if k not in ("controls",)}
            | {"controls": {k: str(v) for k, v in facts.get("controls", {}).items()}}
        )
        name = lines.target_name(
            job.name, job.task, job.controls, info.width / max(1, facts.get("input_size", [0, 1])[1]), target.suffix
        )
        job.result = {
            "width": info.width, "height": info.height, "bytes": info.file_size, "name": name, "format": info.format,
        }  # fmt: skip
        if "done" in said:
            height, width = facts["input_size"]
            self.catalogue.ran(job.model, facts["seconds"], height * width)
        return "done", ""

    def _asked_to_stop(self, job: Job, started: float) -> bool:
        """Asked before each tile: whether to stop; while the job is paused, it waits here."""
        limit = self.limits.job_seconds
        with self._changed:
            if job.wish in ("cancel", "remove") or self.stopping:
                return True
            if limit is not None and time.monotonic() - started > limit:
                return True
            if job.wish != "pause" and not self.paused:
                return False
            if job.wish == "pause" and sum(j.holds for j in self.jobs.values()) >= _HELD:
                return True
            job.holds = True
            self._active.discard(job.id)  # others may work meanwhile
            self._changed.notify_all()
            try:
                while True:
                    if job.wish in ("cancel", "remove") or self.stopping:
                        return True
                    if job.wish != "pause" and not self.paused and len(self._active) < self.workers:
                        return False
                    self._changed.wait()
            finally:
                job.holds = False
                self._active.add(job.id)

    # keeping and telling

    def _save(self, job: Job) -> None:
        folder = self.folder / job.id
        if folder.is_dir():
            write_json(folder / "job.json", {name: getattr(job, name) for name in _KEPT})

    def _erase(self, job: Job) -> None:
        self.store.forget(self._target(job))
        shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def _tell(self, job: Job) -> None:
        job.told = time.monotonic()
        self.events.publish("job", self.shown(job))
        if job.state != "running" or job.progress == 0:
            self._tell_queue()

    def _tell_queue(self) -> None:
        self.events.publish("queue", self.summary())


def _copy(source: Path, target: Path) -> None:
    """A second name for the same bytes where the file system can do that, else a copy."""
    try:
        if source.name != "original":
            raise OSError  # a file of the shared folder may be written over in place
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise PictureTooLarge(f"The picture cannot be taken into the queue: {error.strerror or error}.") from error

"""Files in, files out: every file on its own, done ones skipped, bad ones named, nothing half-written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restora.engine import Progress
from restora.errors import Cancelled, PictureWriteError, RestoraError
from restora.io import remove_stale
from restora.jobs.inputs import Item
from restora.jobs.manifest import Manifest, Record, file_sha256, settings_sha256
from restora.restorers import Restorer

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
) -> Summary:
    """Restores files.

    Events: ``start`` (files, model), ``file`` (source, target, index), ``progress`` (done, total, remaining), ``writing``
    (target), ``done`` / ``skipped`` / ``failed`` (source, target, ...), ``end`` (counts, seconds).

    Raises:
        UsageError: controls that the restorer does not have; nothing was done then. What goes wrong with a single
        file is in the summary.
    """
    checked = restorer.check_controls(controls)
    manifest = Manifest(output.folder)
    summary = Summary()
    started = time.monotonic()
    settings = settings_sha256(
        {
            "controls": checked.model_dump(mode="json"),
            "encoding": output.encoding,
            "precision": restorer.settings.precision,
        }
    )
    for folder in {item.target.parent for item in items}:
        remove_stale(folder)
    report("start", {"files": len(items), "model": restorer.name})
    for index, item in enumerate(items):
        if cancelled():
            summary.cancelled = True
            break
        report("file", {"source": str(item.source), "target": str(item.target), "index": index})
        tick = time.monotonic()
        try:
            outcome, details = _one(restorer, item, output, controls, settings, manifest, report, cancelled)
        except Cancelled:
            summary.cancelled = True
            break
        except RestoraError as error:
            outcome, details = "failed", {"error": str(error)}
        except (MemoryError, OSError) as error:
            outcome, details = "failed", {"error": f"'{item.source}': {error or type(error).__name__}."}
        except Exception as error:  # noqa: BLE001 - a defect of ours must not cost the user the other files
            if os.environ.get("RESTORA_DEBUG"):
                traceback.print_exc()
            details = {
                "error": f"'{item.source}': unexpected {type(error).__name__}: {error} (a defect; RESTORA_DEBUG=1 shows where)."
            }
            outcome = "failed"
        seconds = time.monotonic() - tick
        if outcome == "failed":
            summary.failed[item.source] = details["error"]
        else:
            getattr(summary, outcome).append(item.target)
        report(
            outcome, {"source": str(item.source), "target": str(item.target), "seconds": round(seconds, 3), **details}
        )
    summary.seconds = time.monotonic() - started
    report(
        "end",
        {
            "done": len(summary.done),
            "skipped": len(summary.skipped),
            "failed": len(summary.failed),
            "cancelled": summary.cancelled,
            "seconds": round(summary.seconds, 3),
        },
    )
    return summary


def _one(
    restorer: Restorer,
    item: Item,
    output: Output,
    controls: dict[str, Any],
    settings: str,
    manifest: Manifest,
    report: Report,
    cancelled: Callable[[], bool],
) -> tuple[str, dict[str, Any]]:
    """One file: ``done`` or ``skipped`` and details; raises what went wrong."""
    from restora.io import Picture

    # opening first: a file that is no picture has a better sentence than one that cannot be hashed
    if not item.source.is_file():
        Picture.open(item.source)
    source_sha256 = file_sha256(item.source)
    if manifest.done(item.target, source_sha256, restorer.fingerprint, settings):
        return "skipped", {"reason": "done before"}
    if item.target.exists() and not output.overwrite and not manifest.made(item.target):
        raise PictureWriteError(
            f"'{item.target}' exists and was not made by this job, so it was kept; --overwrite replaces it."
        )
    picture = Picture.open(item.source)

    def on_progress(progress: Progress) -> None:
        report("progress", {"done": progress.done, "total": progress.total, "remaining": round(progress.remaining, 2)})

    result = restorer(picture, progress=on_progress, cancelled=cancelled, **controls)
    try:
        item.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureWriteError(f"The folder '{item.target.parent}' cannot be made: {error.strerror}.") from error
    notes = result.report.notes + result.picture.fits(item.target.suffix)
    details = {**dataclasses.asdict(result.report), "notes": notes}
    record = Record(
        manifest.key(item.target),
        str(item.source),
        source_sha256,
        restorer.name,
        restorer.fingerprint,
        settings,
        "writing",
        seconds=result.report.seconds,
        report=details,
    )
    report("writing", {"target": str(item.target)})
    manifest.add(record)  # a crash between the file and its record must not make the file a stranger's
    try:
        result.save(item.target, **output.encoding)
    except BaseException:
        with contextlib.suppress(PictureWriteError):
            manifest.add(dataclasses.replace(record, status="failed"))
        raise
    manifest.add(dataclasses.replace(record, status="done", target_sha256=file_sha256(item.target)))
    return "done", details

"""What a job has done: one JSON line a result, appended the moment it is safely on the disk."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restora.errors import PictureWriteError

_STEM = ".restora"
NAME = f"{_STEM}.jsonl"


@dataclass
class Record:
    """A result: ``writing`` before its file appears, then ``done`` or ``failed``.

    `target` is relative to the manifest's folder; `settings_sha256` covers the controls and everything else that changes
    the pixels or the file.
    """

    target: str
    source: str
    source_sha256: str
    model: str
    model_sha256: str
    settings_sha256: str
    status: str
    target_sha256: str = ""
    error: str = ""
    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    version: int = 1


class Manifest:
    """The manifest of an output folder. A line cut short by a crash is ignored: its result counts as not done.

    Runs that share a folder (shards) append to files of their own and read those of all.

    Args:
        shard: (i, n), whose manifest this is; None for a run that has the folder to itself.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] | None = None) -> None:
        self.folder = folder
        self.path = folder / (NAME if shard is None else f"{_STEM}.{shard[0]}of{shard[1]}.jsonl")
        self.records: dict[str, Record] = {}
        self._others: dict[str, list[Record]] = {}
        for other in sorted(folder.glob(f"{_STEM}*.jsonl")):
            if other != self.path:
                for target, record in _read(other)[0].items():
                    self._others.setdefault(target, []).append(record)
        own, self._torn = _read(self.path)  # the next record must not be glued to half a line
        self.records |= {target: found[-1] for target, found in self._others.items()} | own

    def _known(self, target: Path) -> list[Record]:
        """What this run and others say of a result."""
        key = self.key(target)
        own = self.records.get(key)
        return [*([own] if own is not None else []), *self._others.get(key, [])]

    def key(self, target: Path) -> str:
        """How a result is called in the manifest."""
        return target.relative_to(self.folder).as_posix()

    def done(self, target: Path, source_sha256: str, model_sha256: str, settings_sha256: str) -> Record | None:
        """The record of a result that need not be made again: same input, model and settings, and the file is still
        what was written."""
        wanted = ("done", source_sha256, model_sha256, settings_sha256)
        found = [
            r for r in self._known(target) if (r.status, r.source_sha256, r.model_sha256, r.settings_sha256) == wanted
        ]
        if not found or not target.is_file():
            return None
        actual = file_sha256(target)
        return next((r for r in found if r.target_sha256 == actual), None)

    def made(self, target: Path) -> bool:
        """Whether the file at `target` is, unchanged, one that a job made: only then may it be replaced unasked."""
        known = self._known(target)
        # a crash may have come between the file and the record that it is done
        if any(record.status == "writing" for record in known):
            return True
        made = {record.target_sha256 for record in known if record.status == "done"}
        return bool(made) and file_sha256(target) in made

    def add(self, record: Record) -> None:
        """Appends a record and waits until it is on the disk.

        Raises:
            PictureWriteError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._torn else "") + json.dumps(asdict(record), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PictureWriteError(
                f"'{self.folder / record.target}' was not made: its folder cannot be written ({error.strerror or error})."
            ) from error
        self._torn = False
        self.records[record.target] = record


def _read(path: Path) -> tuple[dict[str, Record], bool]:
    """The last record of each result, and whether the file ends in the middle of a line."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, False
    records = {}
    for line in text.splitlines():
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            continue
        records[record.target] = record
    return records, bool(text) and not text.endswith("\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_sha256(settings: dict[str, Any]) -> str:
    """A checksum of plain settings, independent of their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

"""What a job has done: one JSON line a result, appended the moment it is safely on the disk."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restora.errors import PictureWriteError

NAME = ".restora.jsonl"


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
    """The manifest of an output folder. A line cut short by a crash is ignored: its result counts as not done."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.folder = folder
        self.records: dict[str, Record] = {}
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        self._torn = bool(text) and not text.endswith("\n")  # the next record must not be glued to half a line
        for line in text.splitlines():
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self.records[record.target] = record

    def key(self, target: Path) -> str:
        """How a result is called in the manifest."""
        return target.relative_to(self.folder).as_posix()

    def done(self, target: Path, source_sha256: str, model_sha256: str, settings_sha256: str) -> Record | None:
        """The record of a result that need not be made again: same input, model and settings, and the file is still
        what was written."""
        record = self.records.get(self.key(target))
        if record is None or record.status != "done":
            return None
        if (record.source_sha256, record.model_sha256, record.settings_sha256) != (
            source_sha256,
            model_sha256,
            settings_sha256,
        ):
            return None
        return record if target.is_file() and file_sha256(target) == record.target_sha256 else None

    def made(self, target: Path) -> bool:
        """Whether the file at `target` is, unchanged, one that a job made: only then may it be replaced unasked."""
        record = self.records.get(self.key(target))
        if record is None or record.status == "failed":
            return False
        # a crash may have come between the file and the record that it is done
        return record.status == "writing" or file_sha256(target) == record.target_sha256

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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_sha256(settings: dict[str, Any]) -> str:
    """A checksum of plain settings, independent of their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

"""Files on their way out: under their names, several in one archive that is made while it is sent."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi.responses import FileResponse


def named(name: str) -> dict[str, str]:
    """The header that makes a browser keep a file under its name."""
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"}


def download(path: Path, name: str) -> FileResponse:
    """A file that is saved, not shown."""
    return FileResponse(path, media_type="application/octet-stream", headers=named(name))


class _Pipe(io.RawIOBase):
    """What a writer wrote since one looked last."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        data, self.parts = b"".join(self.parts), []
        return data


def zipped(files: list[tuple[Path, str]]) -> Iterator[bytes]:
    """An archive of files under their names, piece by piece; pictures are compressed already."""
    pipe, used = _Pipe(), set()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for path, name in files:
            stem, suffix = Path(name).stem, Path(name).suffix
            number, unique = 2, name
            while unique.lower() in used:
                unique, number = f"{stem}_{number}{suffix}", number + 1
            used.add(unique.lower())
            with (
                path.open("rb") as source,
                archive.open(zipfile.ZipInfo.from_file(path, unique), "w", force_zip64=True) as target,
            ):
                while chunk := source.read(1 << 20):
                    target.write(chunk)
                    yield pipe.taken()
            yield pipe.taken()
    yield pipe.taken()

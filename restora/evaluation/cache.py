"""What a benchmark has measured already: a file for each picture and row, named by all that its score depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from restora.evaluation.metrics import to_uint8
from restora.evaluation.results import ImageScore, Row

VERSION = 1  # raise it when scores of the same pictures change: cached ones are then measured again


class Cache:
    """Scores and restored pictures in a folder; with None, nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._checksums: dict[Path, str] = {}
        if folder is not None:
            (folder / "cache").mkdir(parents=True, exist_ok=True)

    def checksum(self, path: Path | None) -> str:
        """SHA-256 of a test picture, computed once; "" for None."""
        if path is None or self.folder is None:
            return ""
        if path not in self._checksums:
            from restora.zoo.checkpoint import file_sha256

            self._checksums[path] = file_sha256(path)
        return self._checksums[path]

    def key(self, **facts: Any) -> str:
        """The name of a score: a checksum over everything that it depends on."""
        text = json.dumps({"version": VERSION, **facts}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def get(self, key: str, row: Row, name: str, group: str, complete: bool) -> ImageScore | None:
        """The score of that key, if its picture is there too. Device and precision are set on the row.

        Args:
            complete: SSIM under the neighbouring protocols is needed as well.
        """
        if self.folder is None:
            return None
        try:
            data = json.loads((self.folder / "cache" / f"{key}.json").read_text(encoding="utf-8"))
            score = ImageScore(**data["score"])
        except (OSError, ValueError, KeyError, TypeError):  # absent, or of a version before
            return None
        if row.kind != "constant" and not picture_path(self.folder, row, name).is_file():
            return None
        if complete and any(n[1] is None for n in score.nearby.values()):
            return None
        row.device, row.precision = data["device"], data["precision"]
        score.image, score.group = name, group
        score.bands = [(b[0], b[1]) for b in score.bands]
        score.nearby = {k: (n[0], n[1], n[2]) for k, n in score.nearby.items()}
        return score

    def put(self, key: str, row: Row, score: ImageScore, output: np.ndarray) -> None:
        """Keeps a score and, but for the picture of one colour, the result (`H x W x C`, float, clipped to [0, 1])."""
        if self.folder is None:
            return
        from restora.io import Picture, atomic_path

        if row.kind != "constant":
            picture = picture_path(self.folder, row, score.image)
            picture.parent.mkdir(parents=True, exist_ok=True)
            Picture.from_array(to_uint8(np.clip(output, 0, 1))).save(picture)
        data = {"score": asdict(score), "device": row.device, "precision": row.precision}
        with atomic_path(self.folder / "cache" / f"{key}.json") as temporary:
            temporary.write_text(json.dumps(data), encoding="utf-8")


def picture_path(folder: Path, row: Row, name: str) -> Path:
    """Where a row's restored picture lies in the output folder."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in row.name)
    mark = f"-{row.fingerprint[:8]}" if row.kind == "model" else ""
    return folder / "images" / f"{safe}{mark}" / f"{name}.png"

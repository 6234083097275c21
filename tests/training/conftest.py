"""Photographs and tiny recipes for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from restora import training
from tests.conftest import make_photo

TINY: dict[str, Any] = {
    "name": "tiny",
    "network": {"variant": "fsrcnn_s_x2"},
    "task": {"kind": "sr", "scale": 2},
    "data": {"patch": 12, "batch": 4, "rescale": [1.0, 0.8]},
    "optimiser": {"lr": 0.003, "lr_factors": {"last_part": 0.5}},
    "steps": 12,
    "validation": {"every": 6},
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, and two files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    for n in range(3):
        Image.fromarray(make_photo(80, 100, n)).save(folder / f"{n}.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


@pytest.fixture
def tiny(photos: Path, tmp_path: Path) -> Callable[..., training.Trainer]:
    """A trainer of the tiny recipe with changed keys, in a folder (by default the test's own)."""

    def make(folder: Path = tmp_path, **changes: Any) -> training.Trainer:
        return training.Trainer(training.parse_recipe({**TINY, **changes}), photos, photos, folder, threads=1)

    return make

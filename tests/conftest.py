"""What several test files need: photographs made on the spot, networks with lively weights, an isolated cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes the cache of whoever runs it."""
    monkeypatch.setenv("RESTORA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def photo() -> np.ndarray:
    """A small colour picture with edges, texture and gradients: `60 x 84 x 3`, uint8."""
    return make_photo(60, 84)


def make_photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A synthetic photograph: smooth colours, discs with sharp edges, a little texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([128 + 60 * np.sin(x / 17 + c) + 40 * np.cos(y / 13 - c) for c in range(3)], axis=-1)
    for _ in range(6):
        cy, cx, r = rng.random() * height, rng.random() * width, 4 + rng.random() * max(height, width) / 6
        image[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.random(3) * 255
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def data_folder() -> Path:
    """The folder with benchmark pictures and published weights, for the checks that need them (RESTORA_DATA)."""
    folder = os.environ.get("RESTORA_DATA")
    if not folder:
        pytest.skip("set RESTORA_DATA to the folder with bench/ and weights/ to run this check")
    return Path(folder)

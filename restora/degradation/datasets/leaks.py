"""Leaks: test pictures that are also in the training set, resized, recompressed or mirrored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restora.errors import RestoraError

Array = np.ndarray
_SIDE, _KEPT = 32, 8


@dataclass(frozen=True)
class Leak:
    """Two files that show (nearly) the same picture; distance counts differing bits of 64."""

    first: Path
    second: Path
    distance: int
    mirrored: bool


def perceptual_hash(pixels: Array) -> int:
    """64 bits that survive resizing, recompression and small changes: the signs of the lowest cosine coefficients of the
    32x32 luminance against their median.

    Args:
        pixels: `H x W x C`, any depth.
    """
    return _hash(_small(pixels))


def _small(pixels: Array) -> Array:
    import cv2

    grey = pixels.astype(np.float32).mean(2)
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _hash(small: Array) -> int:
    i = np.arange(_SIDE)
    basis = np.cos(math.pi / _SIDE * (i + 0.5) * np.arange(_KEPT)[:, None])
    low = (basis @ small.astype(np.float64) @ basis.T).ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes())


def hash_pictures(files: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """The hashes of each file as it is and mirrored; what cannot be read is left out."""
    from restora.io import Picture

    hashes = {}
    for file in files:
        try:
            small = _small(Picture.open(file).pixels)
        except RestoraError:
            continue
        hashes[file] = _hash(small), _hash(small[:, ::-1])
    return hashes


def leaks(train: Sequence[Path], test: Sequence[Path], limit: int = 8) -> list[Leak]:
    """Pairs of a training and a test file with at most `limit` different bits, nearest first.

    It finds copies that were resized, recompressed, recoloured or mirrored; it does not find small crops.
    """
    first, second = hash_pictures(train), hash_pictures(test)
    if not first or not second:
        return []
    known = np.array([h for h, _ in first.values()], np.uint64)
    files, found = list(first), []
    for file, hashes in second.items():
        for mirrored, value in enumerate(hashes):
            distance = (
                np.bitwise_count(known ^ np.uint64(value))
                if hasattr(np, "bitwise_count")
                else _bits(known ^ np.uint64(value))
            )
            found += [Leak(files[i], file, int(distance[i]), bool(mirrored)) for i in np.flatnonzero(distance <= limit)]
    best: dict[tuple[Path, Path], Leak] = {}
    for leak in found:
        pair = leak.first, leak.second
        if pair not in best or leak.distance < best[pair].distance:
            best[pair] = leak
    return sorted(best.values(), key=lambda leak: (leak.distance, str(leak.first), str(leak.second)))


def _bits(values: Array) -> Array:
    """Ones in each 64-bit number, for numpy before 2.0."""
    return np.unpackbits(values[:, None].view(np.uint8), axis=1).sum(1)

"""Training pictures: decoded once into memory-mapped bytes, and drawn from as crops, windows of frames or pairs."""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restora.degradation import resize_uint8
from restora.errors import RecipeError, RestoraError
from restora.io import atomic_path

_CACHE_VERSION = 1


class Photographs:
    """8-bit RGB photographs, decoded once, each also at reduced sizes.

    Args:
        folder: read recursively, in sorted order.
        rescale: factors in (0, 1]; the reduced copies are made by antialiased bicubic resampling.
        smallest: pictures with a shorter side (in pixels, after the reduction) are left out.
        cache: folder for the decoded bytes, which are then mapped into memory instead of held there, and found again by the
            next run; None keeps them in memory. A file belongs to the names, sizes and times of the photographs.

    Attributes:
        images: `H x W x 3` uint8. checksum: over the names and pixels of the photographs used. files: picture files found.

    Raises:
        RecipeError: no such folder, or no readable photograph in it.
    """

    def __init__(
        self,
        folder: str | Path,
        rescale: Sequence[float] = (1.0,),
        smallest: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        found = _found(self.folder, "training photographs")
        self.files = len(found)
        store = _Store.open(self.folder, found, list(rescale), Path(cache) if cache is not None else None)
        self.checksum = store.checksum
        self.images = [i for i in store.images if min(i.shape[:2]) >= smallest]
        if not self.images:
            raise RecipeError(
                f"No 8-bit colour photograph of at least {smallest} pixels a side was found in '{folder}'."
            )
        areas = np.array([i.shape[0] * i.shape[1] for i in self.images], dtype=np.float64)
        self._cumulative = np.cumsum(areas / areas.sum())

    def crops(self, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """`count` random crops, flipped and turned: `count x side x side x 3`, uint8. Every pixel is equally likely."""
        out = np.empty((count, side, side, 3), np.uint8)
        for n in range(count):
            index = min(int(np.searchsorted(self._cumulative, rng.random())), len(self.images) - 1)
            image = self.images[index]
            top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
            out[n] = turned(image[top : top + side, left : left + side], int(rng.integers(8)))
        return out


class Clips:
    """Frames of clips in sorted order; a folder that holds frames is a clip. 8-bit RGB, all frames of a clip of one size.

    Raises:
        RecipeError: no clip of at least `shortest` frames of at least `smallest` pixels.
    """

    def __init__(
        self, folder: str | Path, shortest: int = 2, smallest: int = 0, cache: str | Path | None = None
    ) -> None:
        self.folder = Path(folder)
        found = _found(self.folder, "clips")
        self.files = len(found)
        store = _Store.open(self.folder, found, [1.0], Path(cache) if cache is not None else None)
        self.checksum = store.checksum
        groups: dict[tuple[str, tuple[int, ...]], list[np.ndarray]] = {}
        for name, image in zip(store.names, store.images, strict=True):
            groups.setdefault((str(Path(name).parent), image.shape), []).append(image)
        self.clips = [c for c in groups.values() if len(c) >= shortest and min(c[0].shape[:2]) >= smallest]
        if not self.clips:
            raise RecipeError(
                f"No clip of at least {shortest} frames of {smallest} pixels was found in '{folder}': it holds folders of "
                "consecutive frames."
            )
        lengths = np.array([len(c) for c in self.clips], dtype=np.float64)
        self._cumulative = np.cumsum(lengths / lengths.sum())

    def window(self, length: int, side: int, rng: np.random.Generator) -> np.ndarray:
        """A random crop through `length` consecutive frames, flipped, turned and in either order of time:
        `length x side x side x 3`, uint8."""
        clip = self.clips[min(int(np.searchsorted(self._cumulative, rng.random())), len(self.clips) - 1)]
        if len(clip) < length:
            raise RecipeError(f"A window of {length} frames was asked of a clip of {len(clip)} in '{self.folder}'.")
        first = int(rng.integers(len(clip) - length + 1))
        top, left = (int(rng.integers(0, n - side + 1)) for n in clip[0].shape[:2])
        turn, back = int(rng.integers(8)), bool(rng.integers(2))
        frames = [turned(f[top : top + side, left : left + side], turn) for f in clip[first : first + length]]
        return np.stack(frames[::-1] if back else frames)


class PairedFolders:
    """Pairs from two folders, `input/` and `target/`, with the same names (suffixes may differ).

    Attributes:
        pairs: input and target, uint8. scale: the whole number that their sizes differ by.

    Raises:
        RecipeError: a folder is missing, a file has no partner, or the sizes have no common whole ratio.
    """

    def __init__(self, folder: str | Path, smallest: int = 0, cache: str | Path | None = None) -> None:
        self.folder = Path(folder)
        stores = []
        for part in ("input", "target"):
            found = _found(self.folder / part, f"paired pictures (as '{part}')")
            stores.append(_Store.open(self.folder / part, found, [1.0], Path(cache) if cache is not None else None))
        named = [{str(Path(n).with_suffix("")): i for n, i in zip(s.names, s.images, strict=True)} for s in stores]
        if lonely := sorted(named[0].keys() ^ named[1].keys()):
            raise RecipeError(
                f"'{self.folder}': {len(lonely)} pictures have no partner, '{lonely[0]}' for one; input/ and target/ hold "
                "the same names."
            )
        self.files = sum(len(s.names) for s in stores)
        self.checksum = hashlib.sha256("".join(s.checksum for s in stores).encode()).hexdigest()
        self.pairs = [(named[0][name], named[1][name]) for name in sorted(named[0])]
        ratios = {(t.shape[0] / i.shape[0], t.shape[1] / i.shape[1]) for i, t in self.pairs}
        self.scale = round(next(iter(ratios))[0])
        if self.scale < 1 or ratios != {(self.scale, self.scale)}:
            raise RecipeError(
                f"'{self.folder}': targets are 1, 2, 3 ... times as large as their inputs, the same for all."
            )
        self.pairs = [p for p in self.pairs if min(p[0].shape[:2]) >= smallest]
        if not self.pairs:
            raise RecipeError(f"'{self.folder}' holds no pair whose input has {smallest} pixels a side.")
        areas = np.array([i.shape[0] * i.shape[1] for i, _ in self.pairs], dtype=np.float64)
        self._cumulative = np.cumsum(areas / areas.sum())

    def crops(self, count: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `count x side x side x 3` and the same places of their targets, flipped and turned alike."""
        s = self.scale
        inputs = np.empty((count, side, side, 3), np.uint8)
        targets = np.empty((count, s * side, s * side, 3), np.uint8)
        for n in range(count):
            given, wanted = self.pairs[min(int(np.searchsorted(self._cumulative, rng.random())), len(self.pairs) - 1)]
            top, left = (int(rng.integers(0, length - side + 1)) for length in given.shape[:2])
            turn = int(rng.integers(8))
            inputs[n] = turned(given[top : top + side, left : left + side], turn)
            targets[n] = turned(wanted[s * top : s * (top + side), s * left : s * (left + side)], turn)
        return inputs, targets


def centres(folder: str | Path, count: int, side: int) -> list[np.ndarray]:
    """Squares from the middle of the first `count` usable pictures of a folder, or what there is of them: `h x w x 3` uint8.

    Raises:
        RecipeError: no such folder, or no 8-bit colour picture in it.
    """
    decoded = _decoded(Path(folder), _found(Path(folder), "held-out photographs"), [1.0], lambda _: None)
    found = [centre(image, side).copy() for _, image in itertools.islice(decoded, count)]
    if not found:
        raise RecipeError(f"No 8-bit colour photograph was found in '{folder}'.")
    return found


def turned(crop: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight flips and quarter turns of `H x W x C`: `turn % 4` quarters, mirrored from 4 on."""
    crop = np.rot90(crop, turn % 4)
    return crop[:, ::-1] if turn >= 4 else crop


def centre(image: np.ndarray, side: int) -> np.ndarray:
    """The square of `side` pixels in the middle; less where the picture is smaller."""
    top, left = (max(0, (n - side) // 2) for n in image.shape[:2])
    return image[top : top + side, left : left + side]


def _found(folder: Path, what: str) -> list[Path]:
    from restora import io

    if not folder.is_dir():
        raise RecipeError(f"There is no folder of {what} at '{folder}'.")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in io.READABLE and p.is_file())


class _Store:
    """Decoded pictures: names, arrays and the checksum over them."""

    def __init__(self, names: list[str], images: list[np.ndarray], checksum: str) -> None:
        self.names, self.images, self.checksum = names, images, checksum

    @classmethod
    def open(cls, folder: Path, files: list[Path], rescale: list[float], cache: Path | None) -> _Store:
        if cache is None:
            names, images, digest = [], [], hashlib.sha256()
            for name, image in _decoded(folder, files, rescale, digest.update):
                names.append(name)
                images.append(image)
            return cls(names, images, digest.hexdigest())
        cache.mkdir(parents=True, exist_ok=True)
        facts = [(str(f.relative_to(folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        what = json.dumps([_CACHE_VERSION, str(folder.resolve()), facts, rescale])
        key = hashlib.sha256(what.encode()).hexdigest()[:24]
        index, pixels = cache / f"{key}.json", cache / f"{key}.rgb"
        if not _whole(index, pixels):
            cls._write(index, pixels, folder, files, rescale)
        described = json.loads(index.read_text(encoding="utf-8"))
        mapped = _mapped(pixels)
        names, images, start = [], [], 0
        for name, height, width in described["images"]:
            size = height * width * 3
            names.append(name)
            images.append(mapped[start : start + size].reshape(height, width, 3))
            start += size
        return cls(names, images, described["checksum"])

    @staticmethod
    def _write(index: Path, pixels: Path, folder: Path, files: list[Path], rescale: list[float]) -> None:
        described, digest = [], hashlib.sha256()
        with atomic_path(pixels) as temporary, temporary.open("wb") as out:
            for name, image in _decoded(folder, files, rescale, digest.update):
                out.write(np.ascontiguousarray(image).tobytes())
                described.append([name, *image.shape[:2]])
        # the index comes last: a cache without one is no cache
        with atomic_path(index) as temporary:
            content = {"folder": str(folder), "checksum": digest.hexdigest(), "images": described}
            temporary.write_text(json.dumps(content), encoding="utf-8")


def _whole(index: Path, pixels: Path) -> bool:
    """Whether a cache is there and has the length that its index says."""
    try:
        described = json.loads(index.read_text(encoding="utf-8"))
        return pixels.stat().st_size == sum(3 * height * width for _, height, width in described["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mapped(path: Path) -> np.ndarray:
    if not path.is_file() or path.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _decoded(
    folder: Path, files: list[Path], rescale: list[float], digest: Callable[[bytes], Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels of every usable picture at every size. A folder of photographs may hold other things; what was used
    is in the checksum."""
    from restora import io

    for file in files:
        try:
            picture = io.Picture.open(file)
        except RestoraError:
            continue
        if picture.bit_depth != 8 or picture.channels != 3:
            continue
        digest(file.name.encode() + hashlib.sha256(picture.pixels.tobytes()).digest())
        for factor in rescale:
            image = picture.pixels
            if factor != 1:
                planes = torch.from_numpy(image).permute(2, 0, 1).contiguous()
                image = np.ascontiguousarray(resize_uint8(planes, factor).permute(1, 2, 0).numpy())
            yield str(file.relative_to(folder)), image

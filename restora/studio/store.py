"""What the user gave, on disk and by id: pictures, masks, kernels. No request names a path.

files/f-ID/original       the bytes as they came
files/f-ID/file.json      name, header, what the look found
masks/m-ID.png            grey
kernels/k-ID.npy, .json   weights, where they are from
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from restora.errors import PictureTooLarge, RestoraError, UsageError
from restora.io import READABLE, Picture, PictureInfo, atomic_path, probe
from restora.studio.settings import Limits

if TYPE_CHECKING:
    import numpy as np

    from restora.restorers.blur_kernel import BlurKernel

_CHUNK = 1 << 20
_RESCAN = 2.0  # seconds
_SHARED = 2000  # pictures of a shared folder that are listed
_MASK_PIXELS = 50_000_000


class NotFound(RestoraError):
    """Nothing of that id is here."""


def new_id(kind: str) -> str:
    """An id that cannot be guessed: the kind's letter and 64 random bits."""
    return f"{kind}-{secrets.token_hex(8)}"


def read_json(path: Path) -> Any:
    """The content of a state file; None when it is missing or was cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, data: Any) -> None:
    """Writes a state file so that after a crash the old or the new one is there, whole."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def plain_name(text: str | None) -> str:
    """A file name without folders, control characters or what some system cannot hold."""
    name = re.sub(
        r"[\x00-\x1f\x7f<>:\"|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]", "_", (text or "").replace("\\", "/")
    )
    name = name.rsplit("/", 1)[-1].strip().lstrip(".").strip()
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return (stem[: 120 - len(suffix[:16])] + suffix[:16]) or "picture"


class Cache:
    """Things by key, the least used going first when their bytes go beyond a limit; each is made once, however many ask."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Any, threading.Lock] = {}

    def get(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The thing, made by `make() -> (thing, bytes)` when it is not here."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key][0]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._items:
                    return self._items[key][0]
            try:
                thing, size = make()
                self.put(key, thing, size)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return thing

    def put(self, key: Any, thing: Any, size: int) -> None:
        """Keeps a thing, and lets others go for it."""
        with self._lock:
            self._drop(key)
            if size > self.limit:
                return
            self._items[key] = (thing, size)
            self.used += size
            while self.used > self.limit:
                self._drop(next(iter(self._items)))

    def forget(self, of: Callable[[Any], bool]) -> None:
        """Lets go what has a key of which `of` is true."""
        with self._lock:
            for key in [k for k in self._items if of(k)]:
                self._drop(key)

    def _drop(self, key: Any) -> None:
        if key in self._items:
            self.used -= self._items.pop(key)[1]


class Store:
    """The state folder of a studio, and the pictures of the shared folder."""

    def __init__(self, folder: Path, limits: Limits, share: Path | None = None) -> None:
        self.folder, self.limits, self.share = folder, limits, share
        for name in ("files", "masks", "kernels", "jobs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.pictures = Cache(limits.memory_bytes)
        self._decoding = threading.BoundedSemaphore(2)  # large pictures at once: the peak of memory
        self._shared: dict[str, Path] = {}
        self._scanned = 0.0
        self._lock = threading.Lock()

    # sentences of other rooms name paths; whoever asks over the network has no use for them

    def scrub(self, text: str) -> str:
        """A sentence without the paths of this machine's folders."""
        for folder in filter(None, (self.folder, self.share)):
            text = re.sub(re.escape(str(folder)) + r"[^\s'\",:)]*/", "", text)
            text = text.replace(str(folder), "the studio's folder")
        return text

    def scrubbed(self, data: Any) -> Any:
        """The same for everything in a JSON value."""
        if isinstance(data, str):
            return self.scrub(data)
        if isinstance(data, dict):
            return {k: self.scrubbed(v) for k, v in data.items()}
        return [self.scrubbed(v) for v in data] if isinstance(data, (list, tuple)) else data

    # pictures

    def add(self, stream: BinaryIO, name: str | None) -> str:
        """Takes a picture; what is none, or is larger than allowed, leaves nothing behind. Returns its id.

        Raises:
            PictureError: it cannot be read. PictureTooLarge: a limit; the sentence names it.
        """
        self._check_room()
        id, shown = new_id("f"), plain_name(name)
        folder = self.folder / "files" / id
        folder.mkdir()
        try:
            # the suffix stays: sentences about the file name it
            path = folder / "original"
            with path.open("wb") as file:
                shutil.copyfileobj(stream, file, _CHUNK)
            with self.named(path, shown):
                info = probe(path, self.limits.picture_pixels)
            picture = self._decoded(path, shown)
            write_json(folder / "file.json", {"name": shown, "added": time.time(), **_header(info, picture)})
            self.pictures.put(path, picture, _bytes_of(picture))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return id

    def _check_room(self) -> None:
        used = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file() and not f.is_symlink())
        if used > self.limits.disk_bytes:
            raise PictureTooLarge(
                f"The studio's folder holds {used / 1e9:.1f} GB, its limit; remove pictures or results first."
            )

    def ids(self) -> list[str]:
        """All pictures, the shared ones behind the uploaded."""
        own = []
        for folder in (self.folder / "files").iterdir():
            with contextlib.suppress(OSError):  # removed in this moment, or not there yet
                own.append(((folder / "original").stat().st_mtime_ns, folder.name))
        self._scan()
        return [name for _, name in sorted(own)] + list(self._shared)

    def meta(self, id: str) -> dict[str, Any]:
        """What is known of a picture."""
        if id.startswith("s-"):
            path = self.path(id)
            key = ("shared", path, path.stat().st_mtime_ns)

            def make() -> tuple[dict[str, Any], int]:
                with self.named(path, path.name):
                    return {"name": path.name, **_header(probe(path, self.limits.picture_pixels))}, 1000

            return self.pictures.get(key, make)
        data = read_json(self.folder / "files" / id / "file.json")
        if data is None:
            raise NotFound("There is no such picture here; it may have been removed.")
        return data

    def update(self, id: str, **facts: Any) -> None:
        """Adds to what is known of an uploaded picture."""
        with self._lock:
            path = self.folder / "files" / id / "file.json"
            data = read_json(path)
            if data is not None:
                write_json(path, {**data, **facts})

    def path(self, id: str) -> Path:
        """Where a picture lies."""
        if id.startswith("s-"):
            self._scan()
            found = self._shared.get(id)
            if found is None or not self._within(found):
                raise NotFound("There is no such picture in the shared folder; it may have been moved.")
            return found
        path = self.folder / "files" / id / "original"
        if not path.is_file():
            raise NotFound("There is no such picture here; it may have been removed.")
        return path

    def picture(self, id: str) -> Picture:
        """A picture, decoded; not to be changed."""
        return self.open(self.path(id), self.meta(id)["name"])

    def open(self, path: Path, name: str) -> Picture:
        """The picture of a file of ours, decoded; not to be changed."""

        def make() -> tuple[Picture, int]:
            picture = self._decoded(path, name)
            return picture, _bytes_of(picture)

        return self.pictures.get(path, make)

    def _decoded(self, path: Path, name: str) -> Picture:
        with self._decoding, self.named(path, name):
            return Picture.open(path, max(self.limits.picture_pixels, self.limits.result_pixels))

    def remove(self, id: str) -> None:
        """Forgets an uploaded picture.

        Raises:
            UsageError: one of the shared folder, which is read only.
        """
        if id.startswith("s-"):
            raise UsageError("The pictures of the shared folder are read only.")
        path = self.path(id)
        self.forget(path)
        shutil.rmtree(path.parent, ignore_errors=True)

    def forget(self, path: Path) -> None:
        """Lets the decoded picture of a file go."""
        self.pictures.forget(lambda key: key == path or (isinstance(key, tuple) and path in key))

    @contextlib.contextmanager
    def named(self, path: Path, name: str) -> Iterator[None]:
        """Errors about a file speak of it by the name that its owner knows."""
        try:
            yield
        except RestoraError as error:
            raise type(error)(str(error).replace(str(path), name)) from error

    def _scan(self) -> None:
        if self.share is None:
            return
        with self._lock:
            if time.monotonic() - self._scanned < _RESCAN and self._scanned:
                return
            found: dict[str, Path] = {}
            for path in sorted(self.share.rglob("*")):
                inside = path.relative_to(self.share)
                hidden = any(part.startswith(".") for part in inside.parts)
                if path.suffix.lower() in READABLE and not hidden and path.is_file() and self._within(path):
                    found[f"s-{hashlib.sha256(inside.as_posix().encode()).hexdigest()[:16]}"] = path
                if len(found) == _SHARED:
                    break
            self._shared, self._scanned = found, time.monotonic()

    def _within(self, path: Path) -> bool:
        """Whether a path, links followed, is in the shared folder."""
        return self.share is not None and path.resolve().is_relative_to(self.share)

    # masks

    def add_mask(self, stream: BinaryIO) -> tuple[str, int, int]:
        """Takes a grey picture; returns its id, width and height."""
        import cv2
        import numpy as np

        self._check_room()
        id = new_id("m")
        given = self.folder / "masks" / f"{id}.given"
        try:
            with given.open("wb") as file:
                shutil.copyfileobj(stream, file, _CHUNK)
            with self.named(given, "the mask"):
                picture = Picture.open(given, min(_MASK_PIXELS, self.limits.picture_pixels))
        finally:
            given.unlink(missing_ok=True)
        grey = picture.pixels.mean(axis=2)
        if picture.alpha is not None:  # drawn on nothing: where nothing is, is no mask
            grey *= picture.alpha / np.float64(
                255 if picture.bit_depth == 8 else 65535 if picture.bit_depth == 16 else 1
            )
        top = {8: 1.0, 16: 1 / 257, 32: 255.0}[picture.bit_depth]
        plane = np.clip(np.rint(grey * top), 0, 255).astype(np.uint8)
        with atomic_path(self.folder / "masks" / f"{id}.png") as temporary:
            temporary.write_bytes(cv2.imencode(".png", plane)[1].tobytes())
        return id, picture.width, picture.height

    def mask_path(self, id: str) -> Path:
        """Where a mask lies."""
        path = self.folder / "masks" / f"{id}.png"
        if not re.fullmatch(r"m-[0-9a-f]{16}", id) or not path.is_file():
            raise NotFound("There is no such mask here; send it again.")
        return path

    def mask(self, id: str) -> np.ndarray:
        """A mask, `H x W` uint8."""
        path = self.mask_path(id)
        return self.open(path, "the mask").pixels[..., 0]

    # kernels

    def add_kernel(self, kernel: BlurKernel, text: str) -> str:
        """Keeps a kernel; returns its id."""
        import numpy as np

        self._check_room()
        id = new_id("k")
        path = self.folder / "kernels" / f"{id}.npy"
        with atomic_path(path) as temporary:
            np.save(temporary, kernel.weights.numpy())
        write_json(
            path.with_suffix(".json"), {"text": text, "estimated": kernel.estimated, "notes": list(kernel.notes)}
        )
        return id

    def kernel(self, id: str) -> BlurKernel:
        """A kernel, as the restorers take it."""
        import dataclasses

        import numpy as np

        from restora.restorers.blur_kernel import BlurKernel

        path = self.folder / "kernels" / f"{id}.npy"
        facts = read_json(path.with_suffix(".json"))
        if not re.fullmatch(r"k-[0-9a-f]{16}", id) or facts is None or not path.is_file():
            raise NotFound("There is no such kernel here; make it again.")
        kernel = BlurKernel.of(np.load(path, allow_pickle=False))
        return dataclasses.replace(
            kernel, label=facts["text"], estimated=facts["estimated"], notes=tuple(facts["notes"])
        )


def _header(info: PictureInfo, picture: Picture | None = None) -> dict[str, Any]:
    from restora.io.icc import description_of

    profile = "" if picture is None or not picture.metadata.icc else description_of(picture.metadata.icc)
    return {
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "bit_depth": info.bit_depth,
        "channels": info.channels,
        "alpha": info.has_alpha,
        "profile": profile or ("a profile of its own" if info.has_icc else "sRGB"),
        "bytes": info.file_size,
        "notes": [] if picture is None else list(picture.notes),
    }


def _bytes_of(picture: Picture) -> int:
    return picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)

"""Files degraded: pairs, kernels and a manifest on the disk, and the same bytes again from the manifest.

    OUT/clean/...     what went in, cut to the recipe's multiple
    OUT/degraded/...  what came out, under the same names
    OUT/kernels/...   every blur kernel that was used, NAME_0.npy ...
    OUT/manifest.json the recipe, the seed, and for each pair the fixed degradation

The chance of a picture depends on the seed and on its relative name only: not on the other pictures, their order, or the
number of processes. Each picture is computed on one thread, because sums on several threads are not the same to the bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restora.degradation.base import Degradation
from restora.degradation.blur import Convolution
from restora.degradation.datasets.cropping import Cutting
from restora.degradation.regions import Regions
from restora.degradation.spec import from_dict
from restora.degradation.video import FrameAverage
from restora.errors import PictureError, RestoraError, UsageError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Task:
    """A picture, or the frames of a clip, to degrade: files, their places, their names in the output (without suffix), and
    how often and how it is done.

    fixed: pairs of a manifest to repeat; otherwise the recipe is drawn.
    """

    sources: tuple[str, ...]
    places: tuple[str, ...]
    names: tuple[str, ...]
    clip: bool
    recipe: dict[str, Any]
    seed: int
    variants: int
    cutting: Cutting
    output: str
    fixed: tuple[dict[str, Any], ...] | None = None


@dataclass
class Outcome:
    """What became of a picture or clip: its pairs' entries of the manifest, or a sentence."""

    source: str
    pairs: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


@dataclass
class Report:
    """What became of all."""

    pairs: list[dict[str, Any]]
    failed: dict[str, str]


def key_of(seed: int, name: str) -> int:
    """The source of chance of a name under a seed: 53 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) >> 11


def degrade_files(
    files: Sequence[tuple[Path, Path]],
    output: Path,
    recipe: Degradation,
    seed: int,
    *,
    variants: int = 1,
    cutting: Cutting | None = None,
    clips: bool = False,
    workers: int = 1,
    done: Callable[[Outcome], None] = lambda _: None,
) -> Report:
    """Degrades files and writes pairs, kernels and the manifest.

    Args:
        files: (file, place below the folder that was named) pairs; the place decides the output's name.
        variants: how often each picture is drawn. cutting: by default to multiples of the recipe's scale.
        clips: the pictures of a folder are the frames of one clip, in the order of their names: parameters are drawn once
            for all of them, film damage lasts, frames can be averaged. A clip is held in memory as a whole.
        workers: processes. done: called for every picture, in order.

    Returns:
        the manifest's pairs and the failures, each with a sentence; what could be done is done.
    """
    if recipe.over_time and not clips:
        raise UsageError("This recipe needs clips: say that the pictures of a folder are the frames of one (--clips).")
    cutting = cutting or Cutting(multiple=multiple_of(recipe))
    data = recipe.to_dict()
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for (file, place), name in zip(files, _names([p for _, p in files]), strict=True):
        group = place.parent.as_posix() if clips else name
        groups.setdefault(group, []).append((str(file), place.as_posix(), name))
    tasks = []
    for members in groups.values():
        sources, places, names = zip(*(sorted(members, key=lambda m: m[1]) if clips else members), strict=True)
        tasks.append(Task(sources, places, names, clips, data, seed, variants, cutting, str(output)))
    report = _run(tasks, workers, done)
    _write(
        output,
        {
            "version": 1,
            "recipe": data,
            "seed": seed,
            "variants": variants,
            "clips": clips,
            "cutting": asdict(cutting),
            "pairs": report.pairs,
        },
    )
    return report


def replay_files(
    manifest: Path,
    files: Sequence[tuple[Path, Path]],
    output: Path,
    workers: int = 1,
    done: Callable[[Outcome], None] = lambda _: None,
) -> Report:
    """Makes the files of a manifest again, from the same clean pictures.

    Raises:
        UsageError: the manifest cannot be read, or asks for a picture that is not among `files`. A picture whose content
        is not what it was is a failure of that picture.
    """
    data = read_manifest(manifest)
    given = {place.as_posix(): str(file) for file, place in files}
    wanted: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    try:
        for pair in data["pairs"]:
            wanted.setdefault(tuple(pair["sources"]), []).append(pair)
        recipe, seed, clips = data["recipe"], data["seed"], data["clips"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"The manifest '{manifest}' is damaged: {error!r}.") from error
    absent = sorted({place for places in wanted for place in places} - set(given))
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UsageError(f"The manifest needs '{absent[0]}'{more}, which was not given.")
    tasks = [
        Task(tuple(given[p] for p in places), places, (), clips, recipe, seed, 1, Cutting(), str(output), tuple(pairs))
        for places, pairs in wanted.items()
    ]
    report = _run(tasks, workers, done)
    _write(output, data | {"pairs": report.pairs})
    return report


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest of `degrade_files`; UsageError if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The manifest '{path}' cannot be read: {error}.") from error
    if not isinstance(data, dict) or data.get("version") != 1 or not isinstance(data.get("pairs"), list):
        raise UsageError(f"'{path}' is no manifest of degraded files (version 1).")
    return data


def multiple_of(recipe: Degradation) -> int:
    """What the sides of a clean picture must be multiples of, so that pairs have the recipe's exact scale."""
    factor = 1 / recipe.grows
    return round(factor) if factor > 1 and abs(factor - round(factor)) < 1e-6 else 1


def _names(places: Sequence[Path]) -> list[str]:
    """Output names without suffix, different from one another (a.png and a.jpg become a and a_2)."""
    taken: set[str] = set()
    names = []
    for place in places:
        name = base = place.with_suffix("").as_posix()
        number = 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        names.append(name)
    return names


def _run(tasks: Sequence[Task], workers: int, done: Callable[[Outcome], None]) -> Report:
    report = Report([], {})

    def take(outcomes: Iterator[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.error:
                report.failed[outcome.source] = outcome.error
            report.pairs.extend(outcome.pairs)
            done(outcome)

    workers = min(workers, len(tasks))
    if workers > 1:
        context = _context()
        with ProcessPoolExecutor(workers, context, initializer=_single_threaded) as pool:
            take(pool.map(_task, tasks))
    else:
        with _one_thread():
            take(map(_task, tasks))
    return report


def _context() -> Any:
    """How processes are started: never by forking this one, whose torch threads would be left in an unknown state."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once, not by every worker
    return context


def _single_threaded() -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    _single_threaded()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _task(task: Task) -> Outcome:
    """One picture or clip, all its pairs. Runs in whatever process."""
    outcome = Outcome(task.sources[0])
    try:
        _degrade(task, outcome.pairs)
    except RestoraError as error:
        outcome.error = str(error) if task.sources[0] in str(error) else f"'{task.sources[0]}': {error}"
    except (OSError, MemoryError) as error:
        outcome.error = f"'{task.sources[0]}': {error or type(error).__name__}."
    return outcome


def _degrade(task: Task, pairs: list[dict[str, Any]]) -> None:
    from restora.io import Picture

    pictures = [Picture.open(source) for source in task.sources]
    if len({(p.pixels.shape, p.pixels.dtype) for p in pictures}) > 1:
        raise UsageError(f"The frames in the folder of '{task.sources[0]}' differ in size or depth: they are no clip.")
    digests = [hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in task.sources]
    first = pictures[0]
    top = {"uint8": 255, "uint16": 65535}.get(str(first.pixels.dtype), 1)
    for plan in _plans(task, first.height, first.width):
        if plan.get("sha256", digests) != digests:
            raise PictureError(f"'{task.sources[0]}' is not the file that the manifest describes.")
        y0, x0, height, width = plan["box"]
        if y0 + height > first.height or x0 + width > first.width:
            raise PictureError(f"'{task.sources[0]}' is smaller than the manifest says.")
        cut = np.stack([p.pixels[y0 : y0 + height, x0 : x0 + width] for p in pictures])
        x = torch.from_numpy(cut.astype(np.float32) / np.float32(top)).permute(0, 3, 1, 2).contiguous()
        batch = x[None] if task.clip else x
        if "degradation" in plan:
            fixed = from_dict(plan["degradation"])
            y = fixed(batch)
        else:
            y, manifest = from_dict(task.recipe).degrade(batch, plan["key"])
            fixed = from_dict(manifest["images"][0])
        averages = [part for part in fixed.parts() if isinstance(part, FrameAverage)]
        if averages:  # a blurred frame's pair is the sharp frame in the middle
            batch = averages[0].targets(batch)
        clean, degraded = batch.flatten(0, -4), y.flatten(0, -4)
        names = plan["names"] if len(plan["names"]) == len(degraded) else _middles(plan["names"], averages[0])
        for name, before, after in zip(names, clean, degraded, strict=True):
            _save(first, after, Path(task.output) / "degraded" / f"{name}.png")
            _save(first, before, Path(task.output) / "clean" / f"{name}.png")
        entry = {
            "names": names,
            "sources": list(task.places),
            "sha256": digests,
            "box": list(plan["box"]),
            "key": plan["key"],
        }
        boxes = [b for part in fixed.parts() if isinstance(part, Regions) for b in part.boxes()]
        if boxes:
            entry["regions"] = [{k: b[k] for k in ("type", "box", "form")} for b in boxes]
        entry["kernels"] = _save_kernels(fixed, Path(task.output), names[0])
        pairs.append(entry | {"degradation": fixed.to_dict()})


def _middles(names: Sequence[str], average: FrameAverage) -> list[str]:
    return [names[s + average.frames // 2] for s in average.starts(len(names))]


def _plans(task: Task, height: int, width: int) -> Iterator[dict[str, Any]]:
    """Every pair that a picture or clip becomes: names, box, key; in a replay with what was drawn."""
    if task.fixed is not None:
        yield from task.fixed
        return
    boxes = task.cutting.boxes(height, width)
    if not boxes:
        raise UsageError(f"'{task.sources[0]}' is too small for sub-images of {task.cutting.side} pixels.")
    for i, box in enumerate(boxes):
        part = f"_s{i + 1:03d}" if task.cutting.side is not None else ""
        for v in range(task.variants):
            ending = f"{part}_v{v + 1:02d}" if task.variants > 1 else part
            names = [f"{name}{ending}" for name in task.names]
            yield {"names": names, "box": box, "key": key_of(task.seed, names[0])}


def _save(picture: Any, x: torch.Tensor, path: Path) -> None:
    """`C x H x W` as PNG with the source's colour profile: 8 bits where the source had 8, else 16."""
    from restora.io.pixels import to_depth

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = to_depth(x.permute(1, 2, 0).contiguous().numpy(), 8 if picture.bit_depth == 8 else 16)
    picture.replace(pixels=np.ascontiguousarray(pixels), alpha=None).save(path, metadata=False)


def _save_kernels(fixed: Degradation, output: Path, name: str) -> list[str]:
    from restora.io import atomic_path

    written = []
    for i, kernel in enumerate(kernels_of(fixed)):
        path = output / "kernels" / f"{name}_{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, kernel.numpy())
        written.append(path.relative_to(output).as_posix())
    return written


def kernels_of(fixed: Degradation) -> list[torch.Tensor]:
    """The kernels of all blurs in a fixed degradation, in the order of their use."""
    return [p.psf for p in fixed.parts() if isinstance(p, Convolution)]


def _write(output: Path, data: dict[str, Any]) -> None:
    from restora.io import atomic_path

    output.mkdir(parents=True, exist_ok=True)
    with atomic_path(output / MANIFEST) as temporary:
        temporary.write_text(_lines(data), encoding="utf-8")


def _lines(data: dict[str, Any]) -> str:
    """JSON with one line a pair: to be read, searched and compared."""
    head = json.dumps({k: v for k, v in data.items() if k != "pairs"}, ensure_ascii=False)
    pairs = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in data["pairs"])
    return f'{head[:-1]},\n"pairs": [\n{pairs}\n]}}\n'

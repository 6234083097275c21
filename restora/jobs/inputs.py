"""Which files a job is about, and where their results go."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restora.errors import UsageError
from restora.io import READABLE, WRITABLE


@dataclass(frozen=True)
class Item:
    """An input file, its place below the folder that was named (its bare name for a single file), and its result."""

    source: Path
    target: Path


def expand(inputs: Sequence[str], recursive: bool = True) -> list[tuple[Path, Path]]:
    """Files, folders and patterns as `(file, place below what was named)`, in order, each file once.

    A folder gives its pictures (by extension), sorted, with those of its subfolders; hidden ones are left out. A file
    that was named is taken whatever it is called; one that does not exist is listed too, so that the job can report it.

    Raises:
        UsageError: a pattern or folder that gives nothing.
    """
    found: dict[Path, Path] = {}

    def add(file: Path, place: Path) -> None:
        found.setdefault(file, place)

    for text in inputs:
        path = Path(text)
        if path.is_dir():
            before = len(found)
            _add_folder(path, recursive, add)
            if len(found) == before and not any(f.is_relative_to(path) for f in found):
                raise UsageError(f"The folder '{text}' holds no pictures ({', '.join(sorted(READABLE))}).")
        elif path.exists() or not glob.has_magic(text):
            add(path, Path(path.name))
        else:
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
            if not matches:
                raise UsageError(f"Nothing matches '{text}'.")
            for match in map(Path, matches):
                if match.is_dir():
                    _add_folder(match, recursive, add)
                else:
                    add(match, Path(match.name))
    return list(found.items())


def _add_folder(folder: Path, recursive: bool, add: object) -> None:
    files = folder.rglob("*") if recursive else folder.glob("*")
    for file in sorted(files):
        place = file.relative_to(folder)
        if file.is_file() and file.suffix.lower() in READABLE and not any(part.startswith(".") for part in place.parts):
            add(file, place)  # type: ignore[operator]


def assign(files: Iterable[tuple[Path, Path]], output: Path, suffix: str, ext: str) -> list[Item]:
    """Gives every input its result's name.

    Args:
        output: a folder; or, for a single input, a file with a picture's extension.
        suffix: put behind the name. ext: ``auto`` keeps each input's format (png where it cannot be written).

    Raises:
        UsageError: several inputs for one output file, an unknown extension, or a result that would replace an input.
    """
    files = list(files)
    if ext != "auto" and f".{ext.lstrip('.').lower()}" not in WRITABLE:
        raise UsageError(
            f"Pictures cannot be written as '{ext}'; choose auto or one of {', '.join(sorted(w[1:] for w in WRITABLE))}."
        )
    if output.suffix.lower() in WRITABLE and not output.is_dir():
        if len(files) > 1:
            raise UsageError(f"{len(files)} inputs cannot all be written to '{output}': name a folder.")
        items = [Item(files[0][0], output)]
    else:
        items = []
        taken: set[Path] = set()
        for source, place in files:
            ending = source.suffix.lower() if ext == "auto" else f".{ext.lstrip('.').lower()}"
            if ending not in WRITABLE:
                ending = ".png"
            target = output / place.parent / f"{place.stem}{suffix}{ending}"
            number = 2
            while target in taken:  # a.jpg and a.png, or two folders with the same names
                target = output / place.parent / f"{place.stem}{suffix}_{number}{ending}"
                number += 1
            taken.add(target)
            items.append(Item(source, target))
    sources = {item.source.resolve() for item in items}
    for item in items:
        if item.target.resolve() in sources:
            raise UsageError(
                f"The result for '{item.source}' would replace an input; choose another output folder or a --suffix."
            )
    return items

"""Folders of test pictures, in the layouts that the field uses, as pairs of input and reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from restora.errors import UsageError
from restora.evaluation.rules import Protocol

_REFERENCES = ("hr", "gt", "gtmod12", "target", "targets", "sharp", "clean", "groundtruth", "original", "reference")
_INPUTS = ("lr", "lrbicx", "lr_bicubic", "bix", "input", "inputs", "blur", "noisy", "lq", "degraded", "jpeg", "blurred")
_REFERENCE_ENDS = ("gt", "hr", "mean", "sharp", "clean", "target")
_INPUT_ENDS = ("", "lr", "real", "blur", "noisy", "input", "lq", "img")


@dataclass(frozen=True)
class Pair:
    """A test picture. `degraded` is None where the input is made from the reference. `group` is its clip or folder."""

    name: str
    reference: Path
    degraded: Path | None
    group: str = ""


@dataclass(frozen=True)
class TestSet:
    """A folder's pairs. `pattern` is the glob of its files: `zoo.checkpoint.folder_sha256(folder, pattern)` is its checksum."""

    __test__ = False  # pytest would take it for tests

    folder: Path
    pairs: tuple[Pair, ...]
    layout: str
    pattern: str
    scale: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def checksum(self) -> str:
        """SHA-256 over names and contents."""
        from restora.zoo.checkpoint import folder_sha256

        return folder_sha256(self.folder, self.pattern)


def open_test_set(folder: str | Path, protocol: Protocol, task: str = "", scale: int | None = None) -> TestSet:
    """Finds the pairs of a folder.

    Known layouts: `HRxS` and `LRxS`; SelfExSR's `image_SRF_S` with `_HR` and `_LR` names; `HR` (or `GT`, `GTmod12`,
    `*_HR`) beside `LR`, `LR_bicubic/XS`, `LRbicxS`, `BIxS`; `sharp` and `blur`, `target` and `input`, `gt` and `noisy`,
    with clips in subfolders; flat pairs such as `A.png` and `A_gt.png`, `B_real.jpg` and `B_mean.jpg`. A plain folder of
    pictures holds references only: the inputs are made from them, where the task allows it.

    Raises:
        UsageError: no such folder, no pictures, references and inputs that do not belong together, or no inputs for a
            task whose inputs cannot be made.
    """
    root, task = Path(folder), task or protocol.task
    if not root.is_dir():
        raise UsageError(f"'{folder}' is no folder; --data takes a folder of test pictures.")
    if task == "super-resolution" and scale is None:
        raise UsageError("Say which scale is measured (--scale 4).")
    found = (
        _scaled_folders(root, scale)
        or _selfexsr(root, scale)
        or _two_folders(root, scale)
        or _sequences(root)
        or _flat_pairs(root)
    )
    if found is not None:
        pairs, layout, pattern = found
    else:
        files = _pictures(root)
        if not files:
            raise UsageError(f"'{root}' holds no pictures in a layout that is known; see docs/measuring.md.")
        if task not in ("super-resolution", "denoise", "dejpeg"):
            raise UsageError(
                f"'{root}' holds {len(files)} pictures without partners, and the input of the task '{task or 'unknown'}' "
                "cannot be made from them: give a folder of pairs (such as blur/ and sharp/)."
            )
        pairs, layout, pattern = [Pair(p.stem, p, None) for p in files], "references only", "*"
    return TestSet(root, tuple(pairs), layout, pattern, scale or 1)


_Found = tuple[list[Pair], str, str]


def _pictures(folder: Path, recursive: bool = False) -> list[Path]:
    from restora.io import READABLE

    files = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(p for p in files if p.suffix.lower() in READABLE and not p.name.startswith(".") and p.is_file())


def _scaled_folders(root: Path, scale: int | None) -> _Found | None:
    if scale is None:
        return None
    high, low = root / f"HRx{scale}", root / f"LRx{scale}"
    if not (high.is_dir() and low.is_dir()):
        return None
    return _match(high, low, scale), f"HRx{scale} and LRx{scale}", f"?Rx{scale}/*"


def _selfexsr(root: Path, scale: int | None) -> _Found | None:
    folder = root / f"image_SRF_{scale}"
    folder = folder if folder.is_dir() else root
    pairs = []
    for high in _pictures(folder):
        if match := re.fullmatch(r"(.+)_SRF_(\d+)_HR", high.stem):
            low = high.with_name(f"{match[1]}_SRF_{match[2]}_LR{high.suffix}")
            if int(match[2]) == scale and low.is_file():
                pairs.append(Pair(match[1], high, low))
    pattern = f"{folder.name}/*" if folder != root else "*"
    return (pairs, f"image_SRF_{scale}", pattern) if pairs else None


def _two_folders(root: Path, scale: int | None) -> _Found | None:
    folders = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    high = next((folders[n] for n in _REFERENCES if n in folders), None)
    high = high or next((p for n, p in folders.items() if n.endswith(("_hr", "_gt", "_sharp"))), None)
    low = None
    for name, path in folders.items():
        plain = re.sub(r"x?[2-8]$", "", name) if scale else name
        stem = re.sub(r"^.*_(lr_bicubic|lr)$", r"\1", plain)
        if path != high and (plain in _INPUTS or stem in _INPUTS or f"{plain}x" in _INPUTS):
            digits = re.search(r"([2-8])$", name)
            if digits and scale and int(digits[1]) != scale:
                continue
            low = path
            break
    if high is None or low is None:
        return None
    for inner in (f"X{scale}", f"x{scale}"):
        if (low / inner).is_dir():
            low = low / inner
    return _match(high, low, scale), f"{high.name} and {low.relative_to(root).as_posix()}", "**/*"


def _sequences(root: Path) -> _Found | None:
    """Subfolders that each hold two folders: GoPro as it was published."""
    pairs: list[Pair] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if found := _two_folders(folder, None):
            pairs += [Pair(f"{folder.name}/{p.name}", p.reference, p.degraded, folder.name) for p in found[0]]
    return (pairs, "a folder a sequence", "**/*") if pairs else None


def _flat_pairs(root: Path) -> _Found | None:
    files = _pictures(root)
    by_stem = {p.stem: p for p in files}
    pairs = []
    for path in files:
        for end in _REFERENCE_ENDS:
            if path.stem.lower().endswith(f"_{end}"):
                base = path.stem[: -len(end) - 1]
                names = [f"{base}_{e}" if e else base for e in _INPUT_ENDS]
                partner = next((by_stem[n] for n in names if n in by_stem), None)
                if partner is not None:
                    pairs.append(Pair(base, path, partner))
                break
    if not pairs:
        return None
    used = {p for pair in pairs for p in (pair.reference, pair.degraded)}
    left = [p.name for p in files if p not in used]
    if left:
        raise UsageError(
            f"{len(left)} pictures of '{root}' have no partner ({', '.join(left[:3])}): a file is missing."
        )
    return pairs, "pairs by the ends of their names", "*"


def _match(high: Path, low: Path, scale: int | None) -> list[Pair]:
    references = dict(_keys(high, scale))
    inputs = dict(_keys(low, scale))
    alone = [k for k in references if k not in inputs] + [k for k in inputs if k not in references]
    if alone or not references:
        raise UsageError(
            f"The pictures of '{high}' ({len(references)}) and '{low}' ({len(inputs)}) do not pair up"
            + (f": without a partner are {', '.join(alone[:3])}." if alone else ": there are none.")
        )
    return [
        Pair(key, references[key], inputs[key], key.rpartition("/")[0] if "/" in key else "")
        for key in sorted(references)
    ]


def _keys(folder: Path, scale: int | None) -> Iterator[tuple[str, Path]]:
    """Names that a picture and its partner share: without ends such as x4, _LR or _gt, with the subfolder."""
    seen: dict[str, Path] = {}
    for path in _pictures(folder, recursive=True):
        stem = re.sub(r"(?i)[_-]?(gt|hr|lr|blur|sharp|noisy|clean)$", "", path.stem) or path.stem
        if scale:
            stem = re.sub(rf"(?i)[_-]?x{scale}$", "", stem) or stem
        key = (path.parent.relative_to(folder) / stem).as_posix()
        if key in seen:
            raise UsageError(f"'{seen[key]}' and '{path}' have the same name but for its end: which one is meant?")
        seen[key] = path
        yield key, path

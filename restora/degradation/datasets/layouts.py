"""The layouts of public data sets: which degraded file belongs to which clean one, and which have no partner.

A layout is a pattern that recognises clean files by their path, and a template for the path of the partner. Pairing is by
name always, never by the order of two listings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from restora.errors import UsageError


@dataclass(frozen=True)
class Pair:
    """A pair; `degraded` is None in sets that have only clean pictures."""

    name: str
    degraded: Path | None
    clean: Path


@dataclass
class Pairs:
    """What a reader found. missing: clean files without partner. suspicious: names and why."""

    pairs: list[Pair] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)
    suspicious: dict[str, list[str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class Layout:
    """`clean` is matched against the whole relative path; its groups and the options fill `degraded` (None: clean only).
    `listing` names a file in the folder that lists the clean files' ids, where a split is given that way."""

    clean: str
    degraded: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    about: str = ""


_IMAGE = r"\.(?:png|jpg|jpeg|bmp|tif|tiff|webp)"
_SR = (("scale", "4"),)
_LAYOUTS: dict[str, Layout] = {
    "div2k": Layout(
        r"DIV2K_(?P<part>{part})_HR/(?P<id>\d+)" + _IMAGE,
        ("DIV2K_{part}_LR_{track}/X{scale}/{id}x{scale}{ext}", "DIV2K_{part}_LR_{track}/{id}x{scale}{ext}"),
        (*_SR, ("part", "train"), ("track", "bicubic")),
        "part=train|valid, track=bicubic|unknown|wild...",
    ),
    "flickr2k": Layout(
        r"(?:Flickr2K/)?Flickr2K_HR/(?P<id>\w+)" + _IMAGE,
        ("{top}Flickr2K_LR_{track}/X{scale}/{id}x{scale}{ext}",),
        (*_SR, ("track", "bicubic")),
    ),
    "benchmark": Layout(  # Set5, Set14, BSD100, Urban100, Manga109, in the shapes in which they are passed on
        r"(?:(?:HR|GTmod12|original)|(?:HRx|HR/x|HR/X){scale})/(?P<id>.+?)(?:_HR)?" + _IMAGE,
        (
            "LRx{scale}/{id}{ext}",
            "LR_bicubic/X{scale}/{id}x{scale}{ext}",
            "LRbicx{scale}/{id}{ext}",
            "LR/x{scale}/{id}{ext}",
            "LR/X{scale}/{id}{ext}",
        ),
        _SR,
    ),
    "selfexsr": Layout(r"image_SRF_{scale}/(?P<id>.+)_HR" + _IMAGE, ("image_SRF_{scale}/{id}_LR{ext}",), _SR),
    "gopro": Layout(
        r"(?:(?P<part>{part})/)?(?P<scene>[^/]+)/sharp/(?P<id>\w+)" + _IMAGE,
        ("{slash}{scene}/{blur}/{id}{ext}",),
        (("part", "train|test"), ("blur", "blur")),
        "part=train|test, blur=blur|blur_gamma",
    ),
    "hide": Layout(
        r"GT/(?P<id>.+)" + _IMAGE,
        ("{part}/{id}{ext}", "test/test-close-ups/{id}{ext}", "test/test-long-shot/{id}{ext}"),
        (("part", "train"),),
        "part=train, or test (both distances)",
    ),
    "realblur": Layout(
        r"(?:(?P<top>.+)/)?(?P<scene>scene\d+)/gt/gt_(?P<id>\d+)" + _IMAGE, ("{slash_top}{scene}/blur/blur_{id}{ext}",)
    ),
    "sidd": Layout(
        r"(?:(?P<top>.+)/)?(?P<scene>[^/]+)/(?P<pre>(?:\d+_)?)GT_(?P<id>SRGB_\d+)\.(?:PNG|png)",
        ("{slash_top}{scene}/{pre}NOISY_{id}{ext}",),
    ),
    "reds": Layout(
        r"(?P<part>{part})_sharp/(?P<clip>\d+)/(?P<id>\d+)" + _IMAGE,
        ("{part}_{task}/{clip}/{id}{ext}", "{part}_{task}/X{scale}/{clip}/{id}{ext}"),
        (*_SR, ("part", "train"), ("task", "sharp_bicubic")),
        "part=train|val, task=sharp_bicubic|blur|blur_bicubic|blur_comp",
    ),
    "vimeo90k": Layout(
        r"sequences/(?P<clip>\d+/\d+)/im(?P<id>\d)" + _IMAGE,
        ("{low}/{clip}/im{id}{ext}", "{low}/sequences/{clip}/im{id}{ext}"),
        (("low", "sequences_LRx4"),),
        "low=folder of the degraded frames",
    ),
    "vid4": Layout(
        r"GT/(?P<clip>[^/]+)/(?P<id>.+)" + _IMAGE, ("{task}/{clip}/{id}{ext}",), (("task", "BIx4"),), "task=BIx4|BDx4"
    ),
    "faces": Layout(r"(?P<id>.+)" + _IMAGE, about="CelebA, FFHQ and other folders of clean pictures, with subfolders"),
    "suffix": Layout(
        r"(?P<id>.+){clean}" + _IMAGE,
        ("{id}{degraded}{ext}",),
        (("clean", "_gt"), ("degraded", "")),
        "two files side by side whose names end differently: clean=_gt|_mean, degraded=|_real",
    ),
}


def layouts() -> list[str]:
    """The names that `read_pairs` knows; `df2k` and `kaggle-blur` included."""
    return sorted([*_LAYOUTS, "df2k", "kaggle-blur"])


def read_pairs(root: str | Path, layout: str, **options: str | int) -> Pairs:
    """The pairs of a data set in its published folder structure.

    Args:
        root: the folder that holds what the layout's paths start with. layout: one of `layouts()`.
        options: the layout's own (scale=4, part="train", ...).

    Returns:
        pairs sorted by name; clean files whose partner is not there are in `missing`.

    Raises:
        UsageError: no such folder or layout, an unknown option, or no clean file where the layout expects them.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsageError(f"There is no folder '{root}'.")
    if layout == "kaggle-blur":
        from restora.degradation.datasets.scenes import kaggle_blur

        return kaggle_blur(root, **options)  # type: ignore[arg-type]
    if layout == "df2k":
        return _df2k(root, options)
    known = _LAYOUTS.get(layout)
    if known is None:
        near = difflib.get_close_matches(layout, layouts(), 2)
        raise UsageError(
            f"There is no layout '{layout}'; "
            + (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(layouts())}.")
        )
    chosen = dict(known.options)
    if unknown := sorted(set(options) - set(chosen)):
        raise UsageError(f"The layout '{layout}' has no option '{unknown[0]}'; it has {', '.join(chosen) or 'none'}.")
    chosen |= {name: str(value) for name, value in options.items()}
    pattern = known.clean
    for name, value in chosen.items():
        # a few options are alternatives ("train|test") inside a group; all others are literal
        pattern = pattern.replace("{" + name + "}", value if re.fullmatch(r"\w+(\|\w+)*", value) else re.escape(value))
    matcher = re.compile(pattern, re.IGNORECASE)
    found = Pairs()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        relative = file.relative_to(root).as_posix()
        match = matcher.fullmatch(relative)
        if match is None or (
            layout == "suffix" and chosen["degraded"] and Path(relative).stem.endswith(chosen["degraded"])
        ):
            continue
        name = Path(relative).with_suffix("").as_posix()
        partner = _partner(root, known, match, chosen, file)
        if known.degraded and (partner is None or partner == file):
            found.missing.append(file)
        else:
            found.pairs.append(Pair(name, partner, file))
    if not found.pairs and not found.missing:
        raise UsageError(f"'{root}' does not look like {layout}: no file matches {pattern}.")
    return found


def _partner(root: Path, layout: Layout, match: re.Match[str], options: dict[str, str], file: Path) -> Path | None:
    values = options | {k: v for k, v in match.groupdict().items() if v is not None}
    groups = match.groupdict()
    values["slash"] = f"{groups['part']}/" if groups.get("part") else ""
    values["slash_top"] = f"{groups['top']}/" if groups.get("top") else ""
    values["top"] = match.string[: match.string.index("Flickr2K_HR")] if "Flickr2K_HR" in match.string else ""
    for template in layout.degraded:
        for suffix in dict.fromkeys((file.suffix, ".png", ".jpg")):
            candidate = root / template.format(**values, ext=suffix)
            if candidate.is_file():
                return candidate
    return None


def _df2k(root: Path, options: dict[str, str | int]) -> Pairs:
    """DIV2K's training part and Flickr2K together, in one folder or each in its own."""
    both = Pairs()
    for layout, folder in (("div2k", "DIV2K"), ("flickr2k", "Flickr2K")):
        part = read_pairs(root / folder if (root / folder).is_dir() and layout == "div2k" else root, layout, **options)
        both.pairs += [Pair(f"{layout}/{p.name}", p.degraded, p.clean) for p in part]
        both.missing += part.missing
    return both

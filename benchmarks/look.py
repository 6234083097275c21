"""What `restora restore` decides by itself, and whether it is right: the thresholds of `restorers/automatic.py` are set by this.

Crops of clean photographs, as they are and degraded in known ways, are looked at and restored. For each kind: how often the decision
was right, how often nothing was done where something was called for (missed), how often something else was done (wrong); the
error of the estimates; PSNR before and after; and the worst change, which for clean and mild rows must not fall below -0.1 dB.

    python benchmarks/look.py ../data/train/photos                         # calibration
    python benchmarks/look.py ../data/train/validation                     # held-out photographs
    python benchmarks/look.py --pairs ../data/bench/polyu --limit 5        # real pairs (also gopro-pairs), a report
    python benchmarks/look.py ../data/bench/CBSD68 --no-run                # decisions only
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from restora.degradation import CameraNoise
from restora.evaluation import open_test_set, protocol, psnr
from restora.io import READABLE, Picture
from restora.restorers.automatic import Automatic, Look
from restora.zoo.checkpoint import folder_sha256

Array = np.ndarray
MILD = 0.1  # dB that a clean or mild picture may lose


@dataclass(frozen=True)
class Kind:
    """A degradation; `steps`: what is called for, any of them; `mild`: nothing may get worse; sigma and quality as put in."""

    name: str
    make: Callable[[Array, np.random.Generator], Array]
    steps: tuple[str, ...] = ()
    mild: bool = False
    sigma: float | None = None
    quality: int | None = None


@dataclass
class Row:
    """What was seen of a kind."""

    right: int = 0
    missed: int = 0
    wrong: int = 0
    sigmas: list[float] = field(default_factory=list)
    qualities: list[int] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)


def noisy(sigma: float) -> Callable[[Array, np.random.Generator], Array]:
    """White Gaussian noise, clipped and rounded to 8 bits, as a file has it."""
    return lambda x, rng: _bytes(x + rng.normal(0, sigma, x.shape))


def _bytes(x: Array) -> Array:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def ramp(x: Array, rng: np.random.Generator) -> Array:
    """Noise that grows from left to right, 4 to 24."""
    return _bytes(x + rng.normal(0, 1, x.shape) * np.linspace(4, 24, x.shape[1])[None, :, None])


def jpeg(quality: int) -> Callable[[Array, np.random.Generator], Array]:
    """Compressed, and its pixels kept."""

    def make(x: Array, _: object) -> Array:
        bgr = x[..., ::-1] if x.shape[2] == 3 else x
        code = cv2.imencode(".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        back = cv2.imdecode(code, cv2.IMREAD_UNCHANGED)
        return np.ascontiguousarray(back[..., ::-1] if back.ndim == 3 else back[..., None])

    return make


def both(*makers: Callable[[Array, np.random.Generator], Array]) -> Callable[[Array, np.random.Generator], Array]:
    """One after the other."""

    def make(x: Array, rng: np.random.Generator) -> Array:
        for maker in makers:
            x = maker(x, rng)
        return x

    return make


def gaussian(sigma: float) -> Callable[[Array, np.random.Generator], Array]:
    """Out of focus."""
    return lambda x, _: cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(x.shape)


def motion(length: int) -> Callable[[Array, np.random.Generator], Array]:
    """Moved along a line of some direction."""

    def make(x: Array, rng: np.random.Generator) -> Array:
        side = length // 2 * 2 + 1
        line = np.zeros((side, side), np.float32)
        line[side // 2] = 1
        turn = cv2.getRotationMatrix2D((side // 2, side // 2), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(line, turn, (side, side))
        return cv2.filter2D(x, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT).reshape(x.shape)

    return make


def camera(shot: float, quality: int, smoothing: float = 0.0) -> Callable[[Array, np.random.Generator], Array]:
    """Through a camera: noise on light, a colour mosaic, colours smoothed where asked, and the camera's own JPEG."""

    def make(x: Array, rng: np.random.Generator) -> Array:
        model = CameraNoise(shot=shot, read=0.8 * shot, mosaic=True, key=int(rng.integers(2**31)))
        y = model(torch.from_numpy(x.transpose(2, 0, 1)).float()[None] / 255)[0].permute(1, 2, 0).numpy() * 255
        if smoothing and y.shape[2] == 3:
            planes = cv2.cvtColor(y, cv2.COLOR_RGB2YCrCb)
            for c in (1, 2):
                planes[..., c] = cv2.GaussianBlur(planes[..., c], (0, 0), smoothing)
            y = cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB)
        return jpeg(quality)(_bytes(y), rng)

    return make


def halved(x: Array, _: object) -> Array:
    """Reduced to half its size, as for a web page."""
    small = cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return small.reshape(*small.shape[:2], x.shape[2])


KINDS = (
    Kind("clean", lambda x, _: x, mild=True),
    Kind("reduced to a half", halved, mild=True),
    Kind("JPEG 95", jpeg(95), mild=True, quality=95),
    Kind("JPEG 90", jpeg(90), mild=True, quality=90),
    Kind("noise 2", noisy(2), mild=True, sigma=2),
    *(Kind(f"noise {s}", noisy(s), ("denoise",), s <= 5, sigma=s) for s in (5, 10, 15, 25, 50)),
    Kind("noise 4 to 24", ramp, ("denoise",)),
    *(Kind(f"JPEG {q}", jpeg(q), ("dejpeg",), q >= 80, quality=q) for q in (80, 70, 50, 30, 20, 10)),
    Kind("JPEG 40, then 90", both(jpeg(40), jpeg(90)), ("dejpeg",), quality=40),
    Kind("noise 10, then JPEG 75", both(noisy(10), jpeg(75)), ("dejpeg", "denoise"), quality=75),
    Kind("noise 25, then JPEG 75", both(noisy(25), jpeg(75)), ("dejpeg", "denoise"), quality=75),
    Kind("camera, little noise", camera(0.001, 95), ("denoise",), True),
    Kind("camera, some noise", camera(0.004, 92, 1.0), ("denoise",)),
    Kind("camera, much noise", camera(0.015, 92, 1.0), ("denoise",)),
    Kind("camera, some noise, JPEG 80", camera(0.004, 80, 1.5), ("dejpeg", "denoise")),
    Kind("Gaussian blur 1.6", gaussian(1.6), ("deconvolve", "deblur")),
    Kind("Gaussian blur 2.5", gaussian(2.5), ("deconvolve", "deblur")),
    Kind("motion blur 13", motion(13), ("deconvolve", "deblur")),
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--pairs", type=Path, action="append", default=[], help="a folder of degraded and clean pairs")
    parser.add_argument("--limit", type=int, default=12, help="pictures a kind, evenly chosen")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--without", default="\0", help="not the kinds whose name contains this")
    parser.add_argument("--no-run", action="store_true", help="only look and decide")
    parser.add_argument("--threads", type=int, default=None)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
        cv2.setNumThreads(chosen.threads)
    automatic = Automatic()
    for folder in chosen.folders:
        crops = [cropped(p, chosen.crop) for p in evenly(pictures(folder), chosen.limit)]
        print(f"\n{folder.name}: {len(crops)} crops of {chosen.crop} pixels (checksum {folder_sha256(folder)[:12]})\n")
        print(
            "| degradation | right | missed | wrong | sigma: median error | 90 % within | quality: median error | PSNR before | after | worst | steps |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        harm = 0
        for kind in KINDS:
            if chosen.only in kind.name and chosen.without not in kind.name:
                row = measured(kind, crops, automatic, not chosen.no_run)
                print(line(kind, row), flush=True)
                harm += kind.mild and bool(row.before) and worst(row) < -MILD
        print(f"\n{harm} clean or mild rows with a picture that lost more than {MILD} dB." if not chosen.no_run else "")
    for folder in chosen.pairs:
        print(pair_table(folder, chosen.limit, chosen.crop, automatic), flush=True)


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in READABLE)


def evenly(files: list[Path], count: int) -> list[Path]:
    """`count` of them, spread over all."""
    return [files[i * len(files) // count] for i in range(count)] if count < len(files) else files


def cropped(path: Path, side: int) -> Array:
    """The middle of a picture, off the grid of the file's own JPEG blocks, so that they are not what is found."""
    pixels = Picture.open(path).pixels
    top, left = (max(0, (n - side) // 2 // 8 * 8 - 3) for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def measured(kind: Kind, crops: list[Array], automatic: Automatic, run: bool) -> Row:
    """All crops under one degradation."""
    row = Row()
    controls = automatic.check_controls({})
    for number, clean in enumerate(crops):
        rng = np.random.default_rng(number)
        picture = Picture.from_array(kind.make(clean, rng))
        plan = automatic.plan(picture, controls)
        judge(row, kind, plan.look, tuple(m.task for m in plan.moves))
        if not run:
            continue
        reference = halved(clean, rng) if kind.make is halved else clean
        # an identical pair has no PSNR; 99 stands for it
        before = min(99.0, psnr(picture.pixels, reference, protocol="denoise-rgb"))
        after = before
        if plan.moves:
            result, _ = automatic.carry_out(plan, picture, controls)
            after = min(99.0, psnr(result.pixels, reference, protocol="denoise-rgb"))
        row.before.append(before)
        row.after.append(after)
    return row


def judge(row: Row, kind: Kind, found: Look, steps: tuple[str, ...]) -> None:
    """Counts a decision."""
    row.steps[" + ".join(steps) or "none"] += 1
    if steps and (not kind.steps or any(s not in kind.steps for s in steps)):
        row.wrong += 1
    elif kind.steps and not steps:
        row.missed += 1
    else:
        row.right += 1
    if kind.sigma and found.noise is not None:
        row.sigmas.append(found.noise.sigma / kind.sigma - 1)
    if kind.quality and found.quality is not None:
        row.qualities.append(abs(found.quality - kind.quality))


def worst(row: Row) -> float:
    """The largest loss."""
    return min(a - b for a, b in zip(row.after, row.before, strict=True))


def line(kind: Kind, row: Row) -> str:
    """A row of the table."""
    errors = sorted(abs(e) for e in row.sigmas)
    sigma = f"{statistics.median(row.sigmas):+.1%} | {errors[int(0.9 * (len(errors) - 1))]:.1%}" if errors else " | "
    quality = f"{statistics.median(row.qualities):g}" if row.qualities else ""
    decibels = " | | "
    if row.before:
        decibels = f"{statistics.mean(row.before):.2f} | {statistics.mean(row.after):.2f} | {worst(row):+.2f}"
    steps = ", ".join(f"{name} {count}" for name, count in row.steps.most_common())
    return f"| {kind.name} | {row.right} | {row.missed} | {row.wrong} | {sigma} | {quality} | {decibels} | {steps} |"


def pair_table(folder: Path, limit: int, crop: int, automatic: Automatic) -> str:
    """Real pairs: what was decided for each, and what it did."""
    found = open_test_set(folder, protocol("deblur-rgb"))
    lines = [
        f"\n{folder.name}: crops of {crop} pixels of {min(limit, len(found.pairs))} pairs (checksum {found.checksum()[:12]})\n",
        "| picture | sigma | varies | quality | edge width | kernel | steps | PSNR before | after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    controls = automatic.check_controls({})
    changes = []
    for pair in found.pairs[:limit]:
        assert pair.degraded is not None
        picture = Picture.from_array(cropped(pair.degraded, crop))
        reference = cropped(pair.reference, crop)
        plan = automatic.plan(picture, controls)
        before = psnr(picture.pixels, reference, protocol="deblur-rgb")
        after = before
        if plan.moves:
            after = psnr(automatic.carry_out(plan, picture, controls)[0].pixels, reference, protocol="deblur-rgb")
        changes.append(after - before)
        seen = plan.look.to_dict()
        kernel = (
            "" if plan.look.kernel is None else f"{plan.look.kernel.confidence:.2f}, {plan.look.kernel.spread:.1f} px"
        )
        steps = " + ".join(m.task for m in plan.moves) or "none"
        lines.append(
            f"| {pair.name} | {seen['sigma']} | {seen['noise_varies']} | {seen['jpeg_quality']} | {seen['edge_width']} | {kernel} | "
            f"{steps} | {before:.2f} | {after:.2f} |"
        )
    lines.append(f"\nMean change {statistics.mean(changes):+.2f} dB, worst {min(changes):+.2f} dB.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

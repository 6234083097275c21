"""No benchmark picture is in the training data: every training photograph and frame of the clip against every test picture.

Two looks. A perceptual hash (64 bits of the coarsest cosines; also mirrored) finds the same picture resized, recompressed or
recoloured. Matched keypoints (ORB, with a geometry that at least so many of them share) find crops, turned and scaled parts, too. A
pair that either finds is printed with its numbers, and the command ends with exit code 1. As a check of the check, every test set
also gets plants: pictures of its own, cropped, reduced and compressed, that must be found.

    python benchmarks/leaks.py DATA [--write docs/leaks.md]          DATA holds train/photos, train/validation, clips/, bench/
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from restora.degradation.datasets import leaks
from restora.io import READABLE, Picture, atomic_path
from restora.zoo.checkpoint import folder_sha256

SETS = {
    "Set5": "HRx2", "Set14": "HRx2", "BSD100": "HRx4", "CBSD68": "", "Set12": "", "classic5": "", "gopro-pairs": "",
    "polyu": "", "levin": "gt",
}  # fmt: skip
SIDE, POINTS = 480, 700
RATIO, DISTANCE = 0.75, 48  # of the best match to the second best; of its 256 bits
ALIKE = 14  # matches that share one geometry; unrelated photographs have up to 9
Array = np.ndarray


@dataclass(frozen=True)
class Seen:
    """A picture by its keypoints: places `n x 2` and binary descriptors `n x 32`."""

    name: str
    places: Array
    descriptors: Array


def pictures(folder: Path) -> list[Path]:
    """Of a folder and its subfolders."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE)


def grey(path: Path) -> Array:
    """8-bit luminance, SIDE pixels on the longer side."""
    pixels = Picture.open(path).pixels
    if pixels.dtype != np.uint8:
        top = 257 if pixels.dtype == np.uint16 else 1 / 255
        pixels = np.clip(pixels / top, 0, 255).astype(np.uint8)
    plane = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[2] == 3 else pixels[..., 0]
    return sized(plane)


def sized(plane: Array) -> Array:
    """Enlarged or reduced to SIDE."""
    scale = SIDE / max(plane.shape)
    return cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def seen(name: str, plane: Array) -> Seen:
    """Its keypoints."""
    places, descriptors = cv2.ORB_create(POINTS, scaleFactor=1.2, nlevels=10, fastThreshold=10).detectAndCompute(
        plane, None
    )
    found = np.array([p.pt for p in places], np.float32).reshape(-1, 2)
    return Seen(name, found, descriptors if descriptors is not None else np.zeros((0, 32), np.uint8))


def shared(a: Seen, b: Seen) -> int:
    """Keypoints that a similarity (turn, scale, shift) carries from one picture to the other."""
    if min(len(a.places), len(b.places)) < 4:
        return 0
    matches = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(a.descriptors, b.descriptors, k=2)
    good = [m[0] for m in matches if len(m) == 2 and m[0].distance < DISTANCE and m[0].distance < RATIO * m[1].distance]
    good = list({m.trainIdx: m for m in good}.values())  # a keypoint is the partner of one
    if len(good) < 4:
        return 0
    source, target = (
        np.array(p) for p in zip(*((a.places[m.queryIdx], b.places[m.trainIdx]) for m in good), strict=True)
    )
    cv2.setRNGSeed(0)
    _, inside = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    return 0 if inside is None else int(inside.sum())


def planted(path: Path) -> Array:
    """The middle of a picture, 60 % of its sides, reduced to 80 % and compressed."""
    plane = grey(path)
    height, width = plane.shape
    part = plane[height // 5 : height - height // 5, width // 5 : width - width // 5]
    part = cv2.resize(part, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    return sized(cv2.imdecode(cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE))


def report(data: Path, frames: int) -> tuple[str, int]:
    """The table as markdown, and how many pairs were found."""
    train = pictures(data / "train" / "photos")
    held = pictures(data / "train" / "validation")
    clip = [
        p
        for folder in sorted((data / "clips").iterdir())
        if folder.is_dir()
        for p in pictures(folder)[:: max(1, frames)]
    ]
    used = [*train, *held, *clip]
    known = [seen(p.name, grey(p)) for p in used]
    lines = [
        f"{len(train)} training photographs ({folder_sha256(data / 'train' / 'photos')[:12]}), {len(held)} held-out ones and "
        f"{len(clip)} frames of the training clip (every {frames}th), against each picture of the test sets.",
        "",
        "| test set | pictures | checksum | nearest hash (of 64 bits, 8 or less is alike) | most keypoints shared "
        f"({ALIKE} or more is alike) | plants found | alike |",
        "|---|---|---|---|---|---|---|",
    ]
    total, pairs = 0, []
    for name, inner in SETS.items():
        folder = data / "bench" / name
        files = pictures(folder / inner) if inner else pictures(folder)
        if not files:
            lines.append(f"| {name} | not there | | | | | |")
            continue
        hashes = leaks(used, files, limit=64)
        nearest = hashes[0].distance if hashes else 64
        alike = {(h.first.name, h.second.name): f"hash {h.distance}" for h in hashes if h.distance <= 8}
        most, own = 0, [seen(p.name, grey(p)) for p in files]
        for one in own:
            for other in known:
                count = shared(other, one)
                most = max(most, count)
                if count >= ALIKE:
                    alike[other.name, one.name] = f"{count} keypoints"
        chosen = files[:: max(1, len(files) // 5)][:5]
        plants = sum(
            shared(seen("plant", planted(p)), next(o for o in own if o.name == p.name)) >= ALIKE for p in chosen
        )
        lines.append(
            f"| {name} | {len(files)} | {folder_sha256(folder, '**/*')[:12]} | {nearest} | {most} | {plants} of {len(chosen)} | {len(alike)} |"
        )
        print(lines[-1], flush=True)
        pairs += [f"- {a} and {b}: {why}" for (a, b), why in sorted(alike.items())]
        total += len(alike)
    return "\n".join([*lines, "", *(pairs or ["No pair is alike."]), *recordings(data)]), total


def recordings(data: Path) -> list[str]:
    """Test pictures from the recording that the clip is from: other frames, which no likeness of pictures finds."""
    said = []
    for folder in sorted(p for p in (data / "clips").iterdir() if p.is_dir()):
        for number in re.findall(r"(?<!\d)\d{4}(?!\d)", folder.name):
            same = [
                p.name
                for p in pictures(data / "bench" / "gopro-pairs")
                if f"GOPR{number}" in p.name and "_gt" not in p.name
            ]
            if same:
                said += [
                    "",
                    f"**The same recording:** {', '.join(same)} of gopro-pairs was filmed in the recording that the training clip {folder.name} "
                    "is from. The frames differ, the scene does not; scores on gopro-pairs are also to be given without it.",
                ]
    return said


def main() -> None:
    """Prints the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=20, help="every so many frames of a clip")
    parser.add_argument("--write", type=Path, help="the report as a markdown file")
    chosen = parser.parse_args()
    text, total = report(chosen.data.resolve(), chosen.frames)
    print("\n" + text)
    if chosen.write is not None:
        with atomic_path(chosen.write) as temporary:
            temporary.write_text(
                f"# Training data against test sets\n\nMade by `python benchmarks/leaks.py DATA --write {chosen.write.as_posix()}`.\n\n{text}\n",
                encoding="utf-8",
            )
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()

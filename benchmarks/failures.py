"""The crops that a set of weights restores worst, as a picture for its card.

Held-out photographs are degraded as the task has it, restored, and crops are drawn as rows: input, result, truth. First those that
came out visibly worse than they went in, then those that are farthest from the truth; at most one of a photograph. The picture
stays below 60 KB.

    python benchmarks/failures.py fsrcnn_x4.restora ../data/train/validation [-o strip.jpg]
    python benchmarks/failures.py drunet_s.restora ../data/train/validation --write     beside the card, and into it
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

import restora
from restora import zoo
from restora.degradation import Blur, Downsample, GaussianNoise, Jpeg, kernels
from restora.evaluation import psnr
from restora.io import READABLE, Picture
from restora.restorers import Deconvolver, Restorer, Upscaler

ZOO = Path(zoo.__file__).parent
LARGEST = 60_000  # bytes
VISIBLE = 4.0  # squared grey levels; less is not seen, whatever it is in dB
Array = np.ndarray


@dataclass(frozen=True)
class Crop:
    """A part of a photograph: what was given, what came out, what is true, and PSNR of the first two."""

    photograph: str
    case: str
    given: Array
    result: Array
    truth: Array
    before: float
    after: float

    @property
    def gain(self) -> float:
        """dB over the input."""
        return self.after - self.before

    @property
    def rank(self) -> tuple[float, float]:
        """The smaller, the worse: squared error that was added, where it is enough to be seen; then PSNR."""
        added = 255**2 * (10 ** (-self.after / 10) - 10 ** (-self.before / 10))
        return -max(0.0, added - VISIBLE), self.after


def cases(restorer: Restorer) -> dict[str, tuple[Any, dict[str, Any]]]:
    """What a restorer is tried on: name -> degradation and controls."""
    if isinstance(restorer, Upscaler):
        return {f"x{s}": (Downsample(s, "bicubic"), {"scale": s}) for s in restorer.scales if s in (2, 3, 4)}
    known = restorer.controls.model_fields
    if isinstance(restorer, Deconvolver):
        kernel = kernels.trajectory(25, seed=3)
        return {"shake, noise 2.55": (Blur(kernel) >> GaussianNoise(2.55), {"kernel": kernel.numpy(), "sigma": 2.55})}
    if restorer.task == "denoise":
        given = "sigma" in known
        return {f"noise {s}": (GaussianNoise(s), {"sigma": s} if given else {}) for s in (15, 25, 50)}
    if restorer.task == "dejpeg":
        return {f"JPEG {q}": (Jpeg(q), {"quality": q} if "quality" in known else {}) for q in (10, 30)}
    return {f"shake {n}": (Blur(kernels.trajectory(n, seed=n)), {}) for n in (15, 25)}


def worst(restorer: Restorer, folder: Path, side: int = 96, region: int = 288) -> list[Crop]:
    """The worst crop of each photograph, the worst first. Of a photograph its middle is restored."""
    found = []
    for number, path in enumerate(sorted(p for p in folder.iterdir() if p.suffix.lower() in READABLE)):
        pixels = Picture.open(path).pixels
        pixels = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
        top, left = (max(0, n - region) // 2 for n in pixels.shape[:2])
        truth = pixels[top : top + region, left : left + region]
        truth = np.ascontiguousarray(truth[: truth.shape[0] // 12 * 12, : truth.shape[1] // 12 * 12])
        x = torch.from_numpy(truth.transpose(2, 0, 1)).float()[None] / 255
        of_one: list[Crop] = []
        for case, (degradation, controls) in cases(restorer).items():
            y = degradation.seed(number)(x)[0].permute(1, 2, 0).numpy()
            given = np.clip(np.rint(y * 255), 0, 255).astype(np.uint8)
            result = restorer(given, **controls).array
            if result.shape[:2] != truth.shape[:2]:
                raise SystemExit(f"{restorer.name}: {result.shape[:2]} instead of {truth.shape[:2]}.")
            if given.shape != truth.shape:
                given = np.asarray(Image.fromarray(given).resize(truth.shape[1::-1], Image.Resampling.BICUBIC))
            for r in range(0, truth.shape[0] - side + 1, side // 2):
                for c in range(0, truth.shape[1] - side + 1, side // 2):
                    at = np.s_[r : r + side, c : c + side]
                    if truth[at].std() < 4:  # nothing is to be seen there
                        continue
                    a, b = (psnr(v[at], truth[at], protocol="denoise-rgb") for v in (given, result))
                    of_one.append(Crop(path.stem, case, given[at], result[at], truth[at], a, b))
        if of_one:
            found.append(min(of_one, key=lambda crop: crop.rank))
    return sorted(found, key=lambda crop: crop.rank)


def strip(crops: list[Crop], zoom: int = 2) -> bytes:
    """Rows of input, result and truth with their numbers, as a JPEG of at most 60 KB."""
    side = crops[0].truth.shape[0] * zoom
    line = 14
    sheet = Image.new("RGB", (3 * side + 8, len(crops) * (side + line + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, crop in enumerate(crops):
        top = row * (side + line + 4)
        text = f"{crop.case}: input {crop.before:.1f} dB, result {crop.after:.1f} dB, truth"
        draw.text((2, top), text, fill="black")
        for column, pixels in enumerate((crop.given, crop.result, crop.truth)):
            tile = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * (side + 4), top + line))
    for quality in (90, 80, 70, 60, 50, 40, 30):
        out = io.BytesIO()
        sheet.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= LARGEST:
            return out.getvalue()
    return strip(crops[:-1], zoom) if len(crops) > 1 else strip(crops, 1)


def words(crops: list[Crop]) -> str:
    """What the rows show."""
    lost = sum(crop.rank[0] < 0 for crop in crops)
    told = ", ".join(f"{c.case} of {c.photograph} {c.after:.1f} dB, {c.gain:+.1f} over the input" for c in crops)
    return f"the worst {len(crops)} held-out crops of 96 pixels: {told}" + (
        f"; {lost} came out worse than they went in" if lost else ""
    )


def add(card: zoo.Card, folder: Path, count: int = 3) -> zoo.Card:
    """The card with its worst crops, whose picture is written beside the bundled cards."""
    crops = worst(restora.load(card.name), folder)[:count]
    name = f"{card.name}.failures.jpg"
    (ZOO / "cards" / name).write_bytes(strip(crops))
    return card.model_copy(update={"failures": [zoo.Failure(picture=name, words=words(crops), data=folder.name)]})


def main() -> None:
    """Draws the strip of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put it beside the bundled card, and into it")
    chosen = parser.parse_args()
    if chosen.write:
        card = add(zoo.find(chosen.model), chosen.photographs, chosen.count)
        zoo.write_card(card, ZOO / "cards" / f"{card.name}.yaml")
        print(card.failures[0].words)
        return
    crops = worst(restora.load(chosen.model), chosen.photographs)[: chosen.count]
    (chosen.output or Path(f"{chosen.model}.failures.jpg")).write_bytes(strip(crops))
    print(words(crops))


if __name__ == "__main__":
    main()

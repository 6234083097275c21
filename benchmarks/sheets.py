"""Sheets of before and after, to be looked at: what `restora restore` and the default commands make of real pictures.

For each picture of a folder: the paragraph of the automatic restoration; the picture, the automatic result and what was changed
(times eight, about grey); then crops at full size, where most was changed and where most detail is, of the picture, the automatic
result and the result of each command that is named, by its default model or one of yours.

    python benchmarks/sheets.py photographs/ -o out/sheets [--commands denoise,dejpeg,upscale:realsr] [--limit 10] [--crop 200]
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import restora
from restora.errors import RestoraError
from restora.evaluation import to_uint8
from restora.io import READABLE, Picture
from restora.restorers import Automatic, Restorer

Array = np.ndarray
OVERVIEW, MARGIN, LINE = 420, 8, 17


def rgb(pixels: Array) -> Array:
    """8-bit colour of any picture."""
    array = to_uint8(pixels)
    return array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)


def overview(pixels: Array) -> Array:
    """At most OVERVIEW pixels a side."""
    scale = OVERVIEW / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels


def boxes(before: Array, after: Array, side: int) -> list[tuple[int, int]]:
    """Top and left of the crops: where most was changed, and where most detail is."""
    changed = np.square(after.astype(np.float32) - before).mean(axis=2)
    grey = cv2.GaussianBlur(before.astype(np.float32).mean(axis=2), (0, 0), 1.0)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    found: list[tuple[int, int]] = []
    for measure in (changed, detail):
        sums = cv2.blur(measure, (side, side), borderType=cv2.BORDER_REFLECT)
        for top, left in found:  # not the same place twice
            sums[max(0, top) : top + side, max(0, left) : left + side] = -1
        y, x = np.unravel_index(int(sums.argmax()), sums.shape)
        height, width = before.shape[:2]
        found.append(
            (
                int(np.clip(y - side // 2, 0, max(0, height - side))),
                int(np.clip(x - side // 2, 0, max(0, width - side))),
            )
        )
    return found


def crop(pixels: Array, box: tuple[int, int], side: int, scale: float = 1.0) -> Array:
    """A square of the original picture's pixels, of a result that may be larger."""
    top, left, size = (round(n * scale) for n in (*box, side))
    return pixels[top : top + size, left : left + size]


def named(commands: list[str]) -> dict[str, Restorer]:
    """The restorer of each command, `COMMAND` or `COMMAND:MODEL`, that has one."""
    found = {}
    for command in commands:
        task, _, model = command.partition(":")
        try:
            found[command] = restora.load(model or None, task=task)
        except RestoraError as error:
            print(f"{command}: {error}")
    return found


def run(restorer: Restorer, picture: Picture) -> Array:
    """A command's result with its own defaults."""
    known = restorer.controls.model_fields
    return rgb(restorer(picture, **{n: "auto" for n in ("sigma", "quality") if n in known}).picture.pixels)


def sheet(path: Path, automatic: Automatic, others: dict[str, Restorer], side: int, zoom: int) -> Image.Image:
    """The sheet of one picture."""
    picture = Picture.open(path)
    done = automatic(picture)
    before, after = rgb(picture.pixels), rgb(done.picture.pixels)
    difference = np.clip(128 + 8 * (after.astype(np.int16) - before), 0, 255).astype(np.uint8)
    rows: list[list[tuple[str, Array]]] = [
        [
            ("before", overview(before)),
            ("restora restore", overview(after)),
            ("what was changed, x8", overview(difference)),
        ]
    ]
    places = boxes(before, after, side)
    # a command's result of the crop with what surrounds it is that of the whole picture, at a fraction of the time
    for box in places:
        row = [("before", crop(before, box, side)), ("restora restore", crop(after, box, side))]
        top, left = (max(0, n - 32) for n in box)
        part = np.ascontiguousarray(picture.pixels[top : box[0] + side + 32, left : box[1] + side + 32])
        for task, restorer in others.items():
            try:
                result = run(restorer, Picture.from_array(part))
            except RestoraError as error:
                print(f"{path.name}: {task}: {error}")
                continue
            scale = result.shape[0] / part.shape[0]
            row.append((f"restora {task} ({restorer.name})", crop(result, (box[0] - top, box[1] - left), side, scale)))
        shown = [(label, enlarged(c, side * zoom)) for label, c in row]
        rows.append(shown)
    return drawn(path.name, [*done.report.notes], rows)


def enlarged(pixels: Array, side: int) -> Array:
    """Every pixel to be seen: repeated to a side."""
    factor = side / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def drawn(title: str, notes: list[str], rows: list[list[tuple[str, Array]]]) -> Image.Image:
    """Text, then rows of labelled pictures."""
    widths = [sum(p.shape[1] + MARGIN for _, p in row) + MARGIN for row in rows]
    width = max(*widths, 700)
    lines = [title, *(part for note in notes for part in textwrap.wrap(note, width // 7))]
    height = LINE * len(lines) + MARGIN * 2 + sum(max(p.shape[0] for _, p in row) + LINE + MARGIN for row in rows)
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    y = MARGIN
    for line in lines:
        draw.text((MARGIN, y), line, fill="black", font=font)
        y += LINE
    for row in rows:
        x = MARGIN
        for label, pixels in row:
            draw.text((x, y), textwrap.shorten(label, pixels.shape[1] // 7, placeholder="..."), fill="black", font=font)
            image.paste(Image.fromarray(pixels), (x, y + LINE))
            x += pixels.shape[1] + MARGIN
        y += max(p.shape[0] for _, p in row) + LINE + MARGIN
    return image


def main() -> None:
    """Writes a sheet for each picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of pictures, or one picture")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/sheets"))
    parser.add_argument(
        "--commands", default="denoise,dejpeg,deblur,upscale", help="also shown: COMMAND, or COMMAND:MODEL"
    )
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--crop", type=int, default=160, help="side of the crops in pixels of the picture")
    parser.add_argument("--zoom", type=int, default=2)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    folder: Path = chosen.folder
    files = [folder] if folder.is_file() else sorted(p for p in folder.iterdir() if p.suffix.lower() in READABLE)
    chosen.output.mkdir(parents=True, exist_ok=True)
    automatic, others = Automatic(), named([c for c in chosen.commands.split(",") if c])
    for path in files[: chosen.limit]:
        target = chosen.output / f"{path.stem}.png"
        sheet(path, automatic, others, chosen.crop, chosen.zoom).save(target)
        print(target, flush=True)


if __name__ == "__main__":
    main()

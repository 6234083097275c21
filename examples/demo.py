"""Restores `examples/fig.png` with one line, and lays the result beside what came in and what had been lost.

python examples/demo.py [PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import restora

HERE = Path(__file__).parent
OUT = HERE.parent / "out"


def main() -> None:
    """Runs the demonstration."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "fig.png"
    result = restora.load("fsrcnn_x4")(source)
    OUT.mkdir(exist_ok=True)
    restored = result.save(OUT / f"{source.stem}_x4.png")
    before = restora.load("bicubic")(source, scale=4).picture
    panels = [("before (bicubic)", before.pixels), ("after (fsrcnn_x4.restora)", result.picture.pixels)]
    original = HERE / f"{source.stem}-original.jpg"
    if original.exists():
        from restora.evaluation import psnr

        truth = restora.Picture.open(original).pixels
        scored = [
            (f"{title}: {psnr(pixels, truth, protocol='sr-y', scale=4):.2f} dB", pixels) for title, pixels in panels
        ]
        panels = [*scored, ("what was reduced (original)", truth)]
    sheet = compare(panels)
    sheet_path = OUT / f"{source.stem}_comparison.png"
    sheet.save(sheet_path)
    height, width = result.report.output_size
    shown = restored.relative_to(HERE.parent), sheet_path.relative_to(HERE.parent)
    sys.stdout.write(
        f"{source.name} -> {shown[0]} ({width}x{height}, {result.report.seconds:.2f} s on {result.report.device})\n"
        f"before/after -> {shown[1]}\n"
    )


def compare(panels: list[tuple[str, np.ndarray]]) -> Image.Image:
    """A sheet: a column a picture, whole above and its most detailed part enlarged below."""
    images = [Image.fromarray(pixels.squeeze()).convert("RGB") for _, pixels in panels]
    width, height = images[0].size
    side = min(width, height) // 4
    detail = (width // 2 - side // 2, height // 2 - side // 2, width // 2 + side // 2, height // 2 + side // 2)
    column = 480
    tall = round(column * height / width)
    sheet = Image.new("RGB", ((column + 8) * len(images) - 8, 28 + tall + 8 + column), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (image, (title, _)) in enumerate(zip(images, panels, strict=True)):
        left = number * (column + 8)
        draw.text((left + 4, 4), title, fill="black", font=font)
        sheet.paste(image.resize((column, tall), Image.Resampling.LANCZOS), (left, 28))
        # nearest: what is shown is the result's own pixels, not another interpolation
        sheet.paste(image.crop(detail).resize((column, column), Image.Resampling.NEAREST), (left, 28 + tall + 8))
    return sheet


if __name__ == "__main__":
    main()

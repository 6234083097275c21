"""What each augmentation does to the power spectrum of the pictures that a network is fed.

    python benchmarks/augmentation.py --data photos/ [--scale 4] [--plot spectra.png]

Natural pictures follow a power law, power ~ 1 / f^a. The table has a (fitted between 1/32 and 0.35 cycles per pixel) and the
change in dB against the unaugmented input in the four upper octaves; the plot has power over frequency, both logarithmic.
The input is the photograph reduced by the scale and enlarged by bicubic, the target the photograph. In a second table every
augmentation stands alone on the sharp photographs, as for a task without enlargement.
Efficiency thesis, section 2.5 (P11).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from restora.degradation import resize
from restora.evaluation.spectrum import SpectralChange, augmentation_spectra, octaves
from restora.training import Photographs
from restora.training.augment import AUGMENTATIONS, Augmentation, Cutout

_COLOURS = [
    "#000000",
    "#888888",
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
]


def table(rows: list[SpectralChange]) -> str:
    """The rows as markdown."""
    heads = [f"1/{1 / low:.0f} to 1/{1 / high:.0f}" for low, high in octaves(len(rows[0].bands))]
    lines = [f"| input | a | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for row in rows:
        lines.append(f"| {row.name} | {row.exponent:.2f} | {' | '.join(f'{b:+.2f}' for b in row.bands)} |")
    return "\n".join(lines)


def plot(rows: list[SpectralChange], path: Path) -> None:
    """Power over frequency, both logarithmic, one line for each row."""
    width, height, left, bottom = 900, 560, 70, 50
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    powers = np.concatenate([row.spectrum.power for row in rows])
    low, high = np.floor(np.log10(powers.min())), np.ceil(np.log10(powers.max()))
    first = np.log10(rows[0].spectrum.frequency[0])
    last = np.log10(0.5)

    def place(frequency: np.ndarray, power: np.ndarray) -> list[tuple[float, float]]:
        across = left + (np.log10(frequency) - first) / (last - first) * (width - left - 190)
        down = height - bottom - (np.log10(power) - low) / (high - low) * (height - bottom - 20)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    for exponent in range(int(low), int(high) + 1):
        (x, y), (end, _) = place(np.array([10**first, 0.5]), np.full(2, 10.0**exponent))
        draw.line([(x, y), (end, y)], fill="#dddddd")
        draw.text((8, y - 8), f"1e{exponent}", fill="black", font=font)
    for frequency in (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2):
        (x, y), (_, top) = place(np.full(2, frequency), np.array([10.0**low, 10.0**high]))
        draw.line([(x, y), (x, top)], fill="#dddddd")
        draw.text((x - 10, y + 6), f"1/{1 / frequency:.0f}", fill="black", font=font)
    draw.text((left, height - 22), "cycles per pixel; power (white noise of variance v has v)", fill="black", font=font)
    for number, row in enumerate(rows):
        colour = _COLOURS[number % len(_COLOURS)]
        draw.line(place(row.spectrum.frequency, row.spectrum.power), fill=colour, width=2)
        draw.text((width - 175, 20 + 20 * number), row.name, fill=colour, font=font)
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--side", type=int, default=256, help="side of a crop")
    parser.add_argument("--crops", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="where to draw the first table's spectra (PNG)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    photos = Photographs(chosen.data, smallest=chosen.side)
    crops = photos.crops(chosen.crops, chosen.side, np.random.default_rng(chosen.seed))
    sharp = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    low = resize(resize(sharp, 1 / chosen.scale).clamp(0, 1), chosen.scale).clamp(0, 1)
    augmentations: dict[str, Augmentation] = {
        name: kind() for name, kind in AUGMENTATIONS.items() if name != "geometric"
    }
    augmentations["cutout of 25 %"] = Cutout(alpha=0.25)
    print(
        f"{chosen.crops} crops of {chosen.side} pixels from {len(photos.images)} photographs "
        f"({photos.checksum[:12]}), seed {chosen.seed}\n\nx{chosen.scale}, dB against the enlarged input:\n"
    )
    rows = augmentation_spectra(augmentations, low, sharp, chosen.seed)
    print(table(rows))
    alone = augmentation_spectra({n: a for n, a in augmentations.items() if n != "cutblur"}, sharp, sharp, chosen.seed)
    print("\nOn the sharp photographs, dB against them:\n")
    print(table(alone[1:]))
    if chosen.plot:
        plot(rows, chosen.plot)


if __name__ == "__main__":
    main()

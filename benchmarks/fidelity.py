"""Fidelity of every bundled model: mean colour, flat areas, text, odd sizes, seams at tile borders.

    python benchmarks/fidelity.py ../data/train/validation [--only drunet] [--precision bf16] [--limit 3] [--side 256]

For each model: the largest change of a channel's mean on photographs and on hard pictures (`evaluation.fidelity`), the largest pattern
in flat ones, what tiles change against the whole, and how much of the fine detail of restored photographs repeats every 8 pixels, beside
the same of the input (enlarged bicubically), for which there is no limit. Ends with exit code 1 where a limit is passed. The fast part of it is a
test: tests/evaluation/test_fidelity.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import restora
from restora import zoo
from restora.evaluation import fidelity, to_uint8
from restora.evaluation.baselines import bicubic
from restora.io import READABLE, Picture
from restora.zoo.checkpoint import folder_sha256


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--side", type=int, default=192, help="of the middle part of a photograph")
    parser.add_argument("--precision", default="auto", help="float32, bf16, int8")
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    files = sorted(p for p in chosen.photographs.iterdir() if p.suffix.lower() in READABLE)[: chosen.limit]
    photographs = [middle(Picture.open(p).pixels, chosen.side) for p in files]
    print(
        f"{len(files)} photographs of {chosen.photographs.name} ({folder_sha256(chosen.photographs)[:12]}), their middle {chosen.side} pixels\n"
    )
    print(
        f"| weights | tiling promise | mean colour, photographs (<= {fidelity.DRIFT:g}) | hard pictures | pattern in flat ones (<= {fidelity.GRID:g}) | "
        f"tiles against whole: most, rms | repeats in photographs, in the input | wrong |"
    )
    print("|---|---|---|---|---|---|---|---|")
    failed = False
    for card in zoo.list_models(bundled=True):
        if chosen.only not in card.name:
            continue
        restorer = restora.load(card.name, precision=chosen.precision)
        given = fidelity.settings_of(restorer)
        real = [fidelity.examine(restorer, p.stem, x, **given) for p, x in zip(files, photographs, strict=True)]
        hard = [fidelity.examine(restorer, name, x, **given) for name, x in fidelity.hard_pictures().items()]
        promise = zoo.load_network(card).spec.tiling
        most, mean = max(fidelity.seam(restorer, x, 64, **given) for x in photographs[:3])
        grids = np.mean([repeats(restorer, x, given) for x in photographs], axis=0)
        wrong = [
            f"{f.name}: {f.problem or f'mean {f.drift:.1f}, pattern {f.grid:.2f}'}"
            for f in (*real, *hard)
            if not f.faithful
        ]
        if promise.kind != "global" and most > fidelity.SEAM:
            wrong.append(f"tiles differ by {most:.0f} levels")
        failed |= bool(wrong)
        worst = max(hard, key=lambda f: f.drift)
        print(
            f"| {card.name} | {promise} | {max(f.drift for f in real):.2f} | {worst.drift:.2f} ({worst.name}) | {max(f.grid for f in hard):.2f} | "
            f"{most:.0f}, {mean:.3f} | {grids[0]:.2f}, {grids[1]:.2f} | {'; '.join(wrong) or '-'} |",
            flush=True,
        )
    sys.exit(1 if failed else 0)


def repeats(restorer: restora.Restorer, picture: np.ndarray, given: dict[str, Any]) -> tuple[float, float]:
    """`fidelity.repeated` of the result, and of the input at its size."""
    result = to_uint8(restorer(picture, **given).array)
    plain = bicubic(picture.astype(np.float32) / 255, result.shape[0] / picture.shape[0])
    return fidelity.repeated(result), fidelity.repeated(to_uint8(plain))


def middle(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture, in colour."""
    top, left = (max(0, n - side) // 2 for n in pixels.shape[:2])
    part = pixels[top : top + side, left : left + side]
    return np.ascontiguousarray(part if part.shape[2] == 3 else np.repeat(part, 3, axis=2))


if __name__ == "__main__":
    main()

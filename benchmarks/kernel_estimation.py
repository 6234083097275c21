"""Blind kernel estimation on Levin's 32 pictures, or on synthetic blur.

    python benchmarks/kernel_estimation.py --levin ../data/bench/levin [--pictures 1 2 3 4] [--method auto] [--prior gradient]
    python benchmarks/kernel_estimation.py --calibrate ../data/train/validation [--limit 10]

Levin's set (CVPR 2009): the error ratio is the squared error of a picture deconvolved with the estimated kernel over that with the
true one, both by the same solver with its defaults. 25 pixels at each border do not count, and the best shift does, because a blind
method cannot know where the picture was: "whole" by whole pixels up to 3 as in our other tables, "quarter" by quarters of a pixel
about that (the set's own rule; its kernels are off their pictures by fractions of a pixel, which whole shifts charge to the true
kernel). Similarity is the maximum of the normalised cross-correlation of the two kernels.

--calibrate blurs photographs with camera shake of 9 to 29 pixels and 1 % noise, and shows how often the error ratio is below 2
by agreement of the two runs, which is what `kernel_estimation.confidence_of` is fitted to.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from restora import solvers
from restora.degradation import convolution, kernels
from restora.evaluation.full_reference import kernel_similarity
from restora.io import Picture
from restora.solvers.kernel_estimation import estimate

BORDER, REACH = 25, 3


def read(path: Path) -> Tensor:
    """`1 x 1 x H x W`, grey."""
    pixels = Picture.open(path).pixels
    return torch.from_numpy(pixels.astype(np.float32).mean(2) / np.iinfo(pixels.dtype).max)[None, None]


def errors(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Sum of squared errors at the best whole shift, and at the best quarter shift about it."""
    x, y = found[0, 0].clamp(0, 1).numpy(), truth[0, 0].numpy()
    height, width = (n - 2 * BORDER for n in y.shape)
    wanted = y[BORDER:-BORDER, BORDER:-BORDER]

    def error(dy: float, dx: float) -> float:
        if dy % 1 or dx % 1:
            move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
            moved = cv2.warpAffine(x, move, (y.shape[1], y.shape[0]), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            part = moved[BORDER:-BORDER, BORDER:-BORDER]
        else:
            top, left = BORDER + int(dy), BORDER + int(dx)
            part = x[top : top + height, left : left + width]
        return float(np.square(part - wanted).sum())

    whole = range(-REACH, REACH + 1)
    best, dy, dx = min((error(dy, dx), dy, dx) for dy in whole for dx in whole)
    quarters = np.arange(-0.75, 1, 0.25)
    return best, min(error(dy + a, dx + b) for a in quarters for b in quarters)


def compare(blurred: Tensor, sharp: Tensor, true: Tensor, method: str, prior: str) -> dict[str, float]:
    """One picture: ratios, similarity, agreement, confidence, seconds."""
    start = time.process_time()
    found = estimate(blurred, prior=prior)  # type: ignore[arg-type]
    seconds = time.process_time() - start
    solver = solvers.create("auto", polish=0) if method == "auto-quick" else solvers.create(method)
    ours, theirs = (errors(solver(blurred, k, sigma=1.0), sharp) for k in (found.kernel, true))
    return {
        "whole": ours[0] / theirs[0],
        "quarter": ours[1] / theirs[1],
        "similarity": kernel_similarity(found.kernel, true),
        "agreement": found.agreement,
        "confidence": found.confidence,
        "dB true": -10 * np.log10(theirs[1] / sharp[..., BORDER:-BORDER, BORDER:-BORDER].numel()),
        "dB ours": -10 * np.log10(ours[1] / sharp[..., BORDER:-BORDER, BORDER:-BORDER].numel()),
        "seconds": seconds,
    }


def levin(folder: Path, pictures: list[int], method: str, prior: str) -> None:
    """Prints the table of Levin's set."""
    digest = hashlib.sha256()
    rows = []
    print(
        "| picture | kernel | ratio, whole | ratio, quarter | similarity | agreement | confidence | dB true | dB ours | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for i in pictures:
        sharp = read(folder / f"gt/im{i}.png")
        for j in range(1, 9):
            file, kernel = folder / f"im{i}_kernel{j}_img.png", folder / f"kernels/kernel{j}.npy"
            digest.update(file.read_bytes() + kernel.read_bytes())
            row = compare(read(file), sharp, kernels.load(kernel), method, prior)
            rows.append(row)
            print(f"| {i} | {j} | " + " | ".join(f"{v:.3g}" for v in row.values()) + " |", flush=True)
    print(f"\n{len(rows)} pictures, solver {method}, prior {prior}, data sha256 {digest.hexdigest()[:16]}\n")
    for rule in ("whole", "quarter"):
        ratios = np.array([r[rule] for r in rows])
        print(
            f"{rule} shifts: error ratio below 2 for {np.mean(ratios < 2):.1%}, below 3 for {np.mean(ratios < 3):.1%}; median {np.median(ratios):.2f}"
        )
    print(
        f"similarity: mean {np.mean([r['similarity'] for r in rows]):.3f}; seconds: {np.mean([r['seconds'] for r in rows]):.1f} each"
    )
    said, right = np.array([r["confidence"] for r in rows]), np.array([r["quarter"] < 2 for r in rows])
    print(
        f"confidence: mean {said.mean():.2f}; of the good {said[right].mean():.2f}, of the others {said[~right].mean() if (~right).any() else np.nan:.2f}"
    )


def calibrate(folder: Path, limit: int, method: str, prior: str) -> None:
    """Prints agreement against success on synthetic blur."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    generator = torch.Generator().manual_seed(0)
    rows = []
    print("| agreement | similarity | ratio, quarter | s |\n|---|---|---|---|")
    for n in range(limit):
        photo = read(files[n % len(files)])
        top, left = ((side - 320) // 2 for side in photo.shape[-2:])
        kernel = kernels.repair(kernels.trajectory(9 + 2 * (n * 7 % 11), seed=n))
        half = [side // 2 for side in kernel.shape]
        sharp = photo[..., top : top + 320, left : left + 320]
        blurred = convolution.convolve(sharp, kernel, "valid")
        blurred = blurred + 0.01 * torch.randn(blurred.shape, generator=generator)
        blurred = (blurred.clamp(0, 1) * 255).round() / 255
        sharp = sharp[..., half[0] : 320 - half[0], half[1] : 320 - half[1]]
        row = compare(blurred, sharp, kernel, method, prior)
        rows.append((row["agreement"], row["quarter"] < 2))
        print(
            f"| {row['agreement']:.3f} | {row['similarity']:.3f} | {row['quarter']:.2f} | {row['seconds']:.1f} |",
            flush=True,
        )
    agreement, good = (np.array(v, np.float64) for v in zip(*rows, strict=True))
    print(f"\nratio below 2 for {good.mean():.0%} of {len(rows)}")
    # maximum likelihood of the logistic curve, by a grid: two numbers do not deserve an optimiser
    best = max(
        (float(np.log(np.where(good > 0, p, 1 - p)).sum()), even, steep)
        for even in np.arange(0.5, 1.0, 0.01)
        for steep in (5, 8, 12, 18, 25, 35)
        for p in [np.clip(1 / (1 + np.exp(-(agreement - even) * steep)), 1e-6, 1 - 1e-6)]
    )
    print(f"logistic curve: even at agreement {best[1]:.2f}, steepness {best[2]}")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levin", type=Path)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--method", default="auto", help="a solver; auto-quick is auto without its denoiser")
    parser.add_argument("--prior", default="gradient", choices=["gradient", "dark-channel"])
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.levin:
        levin(chosen.levin, chosen.pictures, chosen.method, chosen.prior)
    if chosen.calibrate:
        calibrate(chosen.calibrate, chosen.limit, chosen.method, chosen.prior)
    if not chosen.levin and not chosen.calibrate:
        parser.error("say --levin FOLDER or --calibrate FOLDER")


if __name__ == "__main__":
    main()

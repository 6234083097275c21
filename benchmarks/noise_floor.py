"""How much noise the best method should assume at least when a kernel is only nearly right: chosen on training photographs.

    python benchmarks/noise_floor.py DATA [--pictures 4]

The kernel of a real photograph is known approximately. Here photographs (DATA/train/photos) are blurred by camera shake with one
kernel and restored with another: turned by up to 1 degree, stretched by up to 2 percent, each of its weights off by 15 percent.
Noise sigma 1, 8 bits, grey. The table: PSNR of `auto` without weights, of `auto` with the bundled denoiser for several floors of
sigma, of its mixtures with the former, and the same for the exact kernel.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch

from restora import solvers, zoo
from restora.degradation import convolution, kernels
from restora.restorers import denoiser, load
from restora.solvers import Problem
from restora.solvers.doubt import warped

FLOORS = (1.0, 1.5, 2.0, 3.0)
SHARES = (0.0, 0.3)  # of the solution without weights
SIDE = 256
NOISE = 1.0


def nearly(kernel: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """A kernel that is slightly wrong."""
    turned = warped(kernel, float(generator.uniform(-1, 1)), float(generator.uniform(0.98, 1.02)))
    off = turned * torch.from_numpy(generator.normal(1, 0.15, turned.shape).astype(np.float32)).clamp_min(0)
    return off / off.sum()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=4)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted((chosen.data / "train" / "photos").glob("*"))
    files = files[:: max(1, len(files) // chosen.pictures)][: chosen.pictures]
    plain = solvers.create("auto", orientation="trust")
    network = denoiser(load(zoo.default_model("denoise").name, threads=1))
    scores: dict[tuple[str, float, float], list[float]] = {}
    for number, path in enumerate(files):
        generator = np.random.Generator(np.random.PCG64(number))
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        top, left = ((n - SIDE - 60) // 2 for n in grey.shape)
        sharp = torch.from_numpy(grey[top : top + SIDE + 60, left : left + SIDE + 60].astype(np.float32) / 255)[
            None, None
        ]
        kernel = kernels.trajectory(25 + 4 * (number % 4), number)
        blurred = convolution.convolve(sharp, kernel, "valid")
        noise = torch.from_numpy(generator.normal(0, NOISE / 255, tuple(blurred.shape)).astype(np.float32))
        observed = ((blurred + noise).clamp(0, 1) * 255).round() / 255
        edge = (kernel.shape[0] // 2, kernel.shape[1] // 2)
        inner = sharp[..., edge[0] : edge[0] + observed.shape[-2], edge[1] : edge[1] + observed.shape[-1]]

        def score(x: torch.Tensor, inner: torch.Tensor = inner) -> float:
            cut = (..., slice(16, -16), slice(16, -16))
            return -10 * float(np.log10((x.clamp(0, 1) - inner)[cut].square().mean()))

        for case, given in (("nearly right", nearly(kernel, generator)), ("exact", kernel)):
            problem = Problem(observed, given, 1, NOISE)
            first = plain.solve(problem)
            scores.setdefault((case, 0.0, 1.0), []).append(score(first))
            for floor in FLOORS:
                solver = solvers.create("dpir", denoise=network)
                second = solver.solve(dataclasses.replace(problem, sigma=max(NOISE, floor)))
                for share in SHARES:
                    scores.setdefault((case, floor, share), []).append(score(share * first + (1 - share) * second))
        print(f"{number + 1} of {len(files)}", flush=True)
    print(
        "| kernel | without weights | " + " | ".join(f"floor {f:g}, share {s:g}" for f in FLOORS for s in SHARES) + " |"
    )
    print("|---" * (2 + len(FLOORS) * len(SHARES)) + "|")
    for case in ("nearly right", "exact"):
        cells = [np.mean(scores[case, 0.0, 1.0]), *(np.mean(scores[case, f, s]) for f in FLOORS for s in SHARES)]
        print(f"| {case} | " + " | ".join(f"{c:.2f}" for c in cells) + " |")


if __name__ == "__main__":
    main()

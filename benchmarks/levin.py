"""Deconvolution of Levin's 32 pictures (Levin et al., CVPR 2009) with the kernels that come with them.

    python benchmarks/levin.py DATA [--methods auto,gddec,...] [--pictures]

DATA is a folder with bench/levin: `imN_kernelM_img.png`, `gt/imN.png`, `kernels/kernelM.npy`. The score of a picture is the PSNR of
its 255x255 pixels in floating point, clipped, less 25 at each border, at the best of all whole shifts within 3 pixels; the table's
figures are means over the pictures. The noise level is estimated from each blurred picture (`estimate.noise_level`).

Constants that these pictures helped to choose: `auto.FLOOR` (1.75) and `auto._PLAIN` (0.3), for the way with a denoiser: on all of them,
from 32.93 dB before; `wiener.KERNEL_ERROR` (0.04), `doubt._CLEARER` (0.97) and `auto._CAUTION` (1.2, a
compromise: on blurred training photographs 1.0 was 0.1 dB better than 1.2, on eight of these pictures 1.5 was better than 1.0). That
`auto` looks for noise that is not white (`auto.noise_seen`) came of looking at how these pictures differ from their sharp ones
blurred, and that it takes the strongest ring came of trying it on eight of them. The other constants of its rounds with block
matching were chosen on blurred training photographs.

kernel1.npy is turned by 180 degrees: its pictures are explained by the turned one (fitting a kernel to sharp and blurred pictures finds
that, and so does `auto`). The column `turned` shows every method with that kernel the right way round.

The pictures are not registered with the sharp ones to a fraction of a pixel. The row `sharp picture, as shifted` shows what a perfect
restoration scores: the sharp picture moved to where the blurred one says it is.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from restora import solvers
from restora.degradation.convolution import convolve
from restora.degradation.estimate import noise_level
from restora.restorers import denoiser, load
from restora.solvers import Problem

Array = np.ndarray
PICTURES, KERNELS = range(1, 5), range(1, 9)
BORDER, SHIFT = 25, 3
TURNED = 1  # the kernel that is the wrong way round
METHODS = "wiener,richardson-lucy,total-variation,hyper-laplacian,gddec,auto,auto+drunet_s.restora"


def score(restored: Array, sharp: Array) -> float:
    """PSNR in dB at the best whole shift."""
    inner = sharp[BORDER:-BORDER, BORDER:-BORDER]
    height, width = inner.shape
    least = min(
        float(np.square(restored[BORDER + dy :, BORDER + dx :][:height, :width] - inner).mean())
        for dy in range(-SHIFT, SHIFT + 1)
        for dx in range(-SHIFT, SHIFT + 1)
    )
    return -10 * float(np.log10(least))


def grey(path: Path) -> Array:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) / 255.0


def moved(x: Array, dy: float, dx: float) -> Array:
    """Moved by a fraction of a pixel, cubic."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)
    size = (x.shape[1], x.shape[0])
    return cv2.warpAffine(x, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def shifted_as(sharp: Array, blurred: Array, kernel: Array) -> Array:
    """The sharp picture where the blurred one and the kernel say it is."""
    again = (
        convolve(torch.from_numpy(sharp).float()[None, None], torch.from_numpy(kernel), "reflect")[0, 0]
        .double()
        .numpy()
    )
    best, step = (0.0, 0.0), 1.0
    inner = (slice(30, -30), slice(30, -30))

    def misfit(shift: tuple[float, float]) -> float:
        return float(np.square(moved(again, *shift)[inner] - blurred[inner]).mean())

    while step > 0.01:
        reach = range(-3, 4) if step == 1 else range(-1, 2)
        best = min(((best[0] + i * step, best[1] + j * step) for i in reach for j in reach), key=misfit)
        step /= 2
    return moved(sharp, *best)


def skimage_lucy(y: Array, kernel: Array, sigma: float) -> Array:
    from skimage.restoration import richardson_lucy

    return richardson_lucy(y, kernel, 30)


def skimage_wiener(y: Array, kernel: Array, sigma: float) -> Array:
    from skimage.restoration import wiener

    return wiener(y, kernel, 0.01)


def ours(name: str) -> Callable[[Array, Array, float], Array]:
    """A method, with the denoiser that stands behind a plus."""
    method, _, network = name.partition("+")
    solver = solvers.create(method, **({"denoise": denoiser(load(network, threads=1))} if network else {}))

    def work(y: Array, kernel: Array, sigma: float) -> Array:
        problem = Problem(torch.from_numpy(y).float()[None, None], torch.from_numpy(kernel), 1, sigma)
        return solver.solve(problem)[0, 0].double().numpy()

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description="Levin's 32 pictures with the kernels that come with them.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--pictures", action="store_true", help="one line a picture too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = arguments.data / "bench" / "levin"
    files = [folder / f"im{i}_kernel{k}_img.png" for k in KERNELS for i in PICTURES]
    sharp = {i: grey(folder / "gt" / f"im{i}.png") for i in PICTURES}
    kernels = {k: np.load(folder / "kernels" / f"kernel{k}.npy").astype(np.float32) for k in KERNELS}
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in [*files, *sorted((folder / "kernels").glob("*.npy"))]))
    blurred = {(k, i): grey(folder / f"im{i}_kernel{k}_img.png") for k in KERNELS for i in PICTURES}
    sigmas = {key: noise_level(y.astype(np.float32)) for key, y in blurred.items()}
    methods: dict[str, Callable[[Array, Array, float], Array]] = {
        "blurred": lambda y, kernel, sigma: y,
        "scikit-image Richardson-Lucy (30)": skimage_lucy,
        "scikit-image Wiener (0.01)": skimage_wiener,
        **{name: ours(name) for name in arguments.methods.split(",")},
    }
    print(f"data {digest.hexdigest()[:16]}, protocol levin/1\n")
    print("| method | PSNR | turned | " + " | ".join(f"kernel {k}" for k in KERNELS) + " | s a picture |")
    print("|---" * (len(KERNELS) + 4) + "|")
    for name, method in methods.items():
        start = time.process_time()
        table = np.array(
            [
                [score(np.clip(method(blurred[k, i], kernels[k], sigmas[k, i]), 0, 1), sharp[i]) for i in PICTURES]
                for k in KERNELS
            ]
        )
        seconds = (time.process_time() - start) / table.size
        right = table.copy()
        turned = kernels[TURNED][::-1, ::-1].copy()
        right[TURNED - 1] = [
            score(np.clip(method(blurred[TURNED, i], turned, sigmas[TURNED, i]), 0, 1), sharp[i]) for i in PICTURES
        ]
        cells = " | ".join(f"{row.mean():.2f}" for row in table)
        print(f"| {name} | {table.mean():.2f} | {right.mean():.2f} | {cells} | {seconds:.2f} |", flush=True)
        if arguments.pictures:
            for k, row in zip(KERNELS, table, strict=True):
                print(f"|   | kernel {k} | " + " | ".join(f"{v:.2f}" for v in row) + " |")
    perfect = {k: kernels[k] for k in KERNELS} | {TURNED: kernels[TURNED][::-1, ::-1].copy()}
    table = np.array(
        [[score(shifted_as(sharp[i], blurred[k, i], perfect[k]), sharp[i]) for i in PICTURES] for k in KERNELS]
    )
    cells = " | ".join(f"{row.mean():.2f}" for row in table)
    print(f"| sharp picture, as shifted | {table.mean():.2f} | {table.mean():.2f} | {cells} | |")


if __name__ == "__main__":
    main()

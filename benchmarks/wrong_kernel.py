"""What a wrong kernel costs, plain and robust.

    python benchmarks/wrong_kernel.py PICTURE... [--size 256] [--sigma 1]

Each picture's middle is blurred by three motion kernels and restored with the true kernel, and with that kernel turned by 5 degrees, 10
percent longer, and 2 pixels off-centre. The loss is the PSNR with the true kernel, plain, less the one with the wrong kernel; `robust`
counts from the plain result too. Scored at the best whole shift within 3 pixels, 25 pixels of border cut, as Levin's pictures are.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from levin import score

from restora import solvers
from restora.degradation import kernels
from restora.degradation.convolution import convolve
from restora.solvers import Problem
from restora.solvers.doubt import warped

KERNELS = {
    "line 15": kernels.motion(15, 30, size=21),
    "shake 21": kernels.trajectory(21, 2),
    "shake 31": kernels.trajectory(31, 5),
}
WRONG = {
    "turned 5 degrees": lambda k: warped(k, 5.0, 1.0),
    "10 % longer": lambda k: warped(k, 0.0, 1.1),
    "2 pixels off": lambda k: torch.nn.functional.pad(k, (2, 2, 2, 2)).roll(2, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What a wrong kernel costs.")
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--methods", default="auto,gddec")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in arguments.pictures)).hexdigest()[:16]
    print(f"data {digest}, sigma {arguments.sigma:g}\n")
    print(
        "| method | kernel | true, plain | true, robust | wrong, plain | wrong, robust | loss, plain | loss, robust |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for method in arguments.methods.split(","):
        plain, robust = solvers.create(method), solvers.create(method, robust=True)
        results: dict[str, list[list[float]]] = {name: [] for name in WRONG}
        for path in arguments.pictures:
            pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            for kernel in KERNELS.values():
                side = arguments.size + kernel.shape[0] - 1
                top, left = (max(0, (n - side) // 2) for n in pixels.shape)
                wide = torch.from_numpy(pixels[top : top + side, left : left + side].astype(np.float32) / 255)[
                    None, None
                ]
                y = convolve(wide, kernel, "valid")
                y = y + arguments.sigma / 255 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
                r = kernel.shape[0] // 2
                sharp = wide[0, 0, r : r + y.shape[-2], r : r + y.shape[-1]].double().numpy()

                def restored(
                    solver: solvers.Solver, k: torch.Tensor, y: torch.Tensor = y, sharp: np.ndarray = sharp
                ) -> float:
                    x = solver.solve(Problem(y, k, 1, arguments.sigma))[0, 0].clamp(0, 1)
                    return score(x.double().numpy(), sharp)

                true = [restored(s, kernel) for s in (plain, robust)]
                for name, make in WRONG.items():
                    results[name].append([*true, *(restored(s, make(kernel)) for s in (plain, robust))])
        for name, rows in results.items():
            mean = np.mean(rows, axis=0)
            cells = " | ".join(f"{v:.2f}" for v in mean)
            print(f"| {method} | {name} | {cells} | {mean[0] - mean[2]:.2f} | {mean[0] - mean[3]:.2f} |", flush=True)


if __name__ == "__main__":
    main()

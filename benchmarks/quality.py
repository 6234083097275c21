"""What a precision costs in quality, over all models that are installed (and checkpoints that are given).

Each model restores photographs that were degraded for its task: made smaller by MATLAB's bicubic, or given noise (its control's
default, else 25 of 255), or JPEG artefacts (quality 40), or motion of 11 pixels (with noise of 3 of 255 where the network is told the
kernel); other models get them as they are. For each backend and precision: the PSNR of the difference from float32 in torch (least and
mean over the pictures, before rounding), and by how much the PSNR against the original changes.

    python benchmarks/quality.py [--photos FOLDER] [--count 10] [--side 256] [--only NAME ...] [--threads 2] [--emulated] [CHECKPOINT ...]
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

KNOWN_BLUR, KNOWN_SIGMA = (11, 40.0), 3.0  # length and angle of the motion, and noise, that networks are told


def degraded(x: Tensor, operator: object, task: str, number: int) -> Tensor:
    """What the model is given for a photograph `1 x 3 x H x W`, in whole grey levels of 8 bits."""
    from restora.degradation import Jpeg, kernels, resize
    from restora.degradation.convolution import convolve

    if task == "deconvolve":
        x = convolve(x, kernels.motion(*KNOWN_BLUR), "replicate")
        x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(number)) * KNOWN_SIGMA / 255
    elif operator.scale > 1:
        x = resize(x, 1 / operator.scale)
    elif task == "denoise":
        sigma = float(operator.controls.get("sigma") or 25)
        x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(number)) * sigma / 255
    elif task == "dejpeg":
        x = Jpeg(quality=40)(x)
    elif task == "deblur":
        x = convolve(x, kernels.motion(11, 40 * number), "replicate")
    return (x.clamp(0, 1) * 255).round() / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a.clip(0, 1).astype(np.float64) - b.clip(0, 1)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def operators(names: list[str], only: list[str]) -> dict[str, tuple[object, object]]:
    """All networks of the installed models, and of checkpoint files, by name, with what they promise. Those that are told a
    kernel, at their own size only."""
    from restora import zoo
    from restora.degradation import kernels
    from restora.engine import NetworkOperator, SolverOperator
    from restora.solvers import create

    found = {}
    nets = {card.name: zoo.load_network(card) for card in zoo.list_models()}
    for name, net in {**nets, **{Path(name).name: zoo.identify_file(name)[0] for name in names}}.items():
        if net.spec.task == "deconvolve":
            solver = create("network", network=net)
            found[name] = net.spec, SolverOperator(solver, kernels.motion(*KNOWN_BLUR), 1, KNOWN_SIGMA)
            continue
        for scale in net.spec.scales:
            label = name + (f" x{scale}" if len(net.spec.scales) > 1 else "")
            found[label] = net.spec, NetworkOperator(net, scale)
    return {n: o for n, o in found.items() if not only or any(part in n for part in only)}


def rows(name: str, spec: object, operator: object, chosen: argparse.Namespace) -> list[str]:
    """The lines of a model: one for each backend and precision but float32 in torch."""
    from dataclasses import replace

    from restora.engine import Settings, backends, run
    from restora.engine.photographs import crops
    from restora.errors import RestoraError

    task = spec.task
    side = chosen.side // (12 * spec.multiple_of) * 12 * spec.multiple_of or chosen.side
    clean = list(crops(replace(spec, task="deblur"), side, chosen.count, chosen.photos))
    given = [degraded(x, operator, task, n)[0].permute(1, 2, 0).numpy() for n, x in enumerate(clean)]
    original = [x[0].permute(1, 2, 0).numpy() for x in clean]
    has_original = operator.scale > 1 or task in ("denoise", "dejpeg", "deblur", "deconvolve")

    def restored(backend: str, precision: str) -> list[np.ndarray]:
        settings = Settings("cpu", precision, 0, backend=backend)
        return [run(operator, x, settings=settings)[0] for x in given]

    plain = restored("torch", "float32")
    score = np.mean([psnr(a, b) for a, b in zip(plain, original, strict=True)])
    lines = []
    ways = backends.candidates(torch.device("cpu"))
    if chosen.emulated and ("torch", "bf16") not in ways:
        ways = [("torch", "bf16"), *ways]
    for backend, precision in ways:
        if backend == "compile" or (backend, precision) == ("torch", "float32"):
            continue
        try:
            results = restored(backend, precision)
        except RestoraError as error:
            lines.append(f"| {name} | {backend} | {precision} | cannot be had: {error} | | | |")
            continue
        apart = [psnr(a, b) for a, b in zip(plain, results, strict=True)]
        changed = np.mean([psnr(a, b) for a, b in zip(results, original, strict=True)]) - score
        quality = f"{score:.2f} | {changed:+.3f}" if has_original else " | "
        # what is no plain network, as where a kernel is told, is in float32 unless a precision is named
        taken = task != "deconvolve" and min(apart) >= 50
        lines.append(
            f"| {name} | {backend} | {precision} | {min(apart):.1f} | {np.mean(apart):.1f} | {quality} | "
            f"{'yes' if taken else 'only when named'} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--photos", type=Path, help="folder of photographs; by default the one of the package")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--side", type=int, default=240)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument(
        "--emulated", action="store_true", help="also torch's bf16 on a CPU without instructions for it; slow"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()

    from restora import engine

    engine.keep_freed_memory()
    torch.set_num_threads(chosen.threads)
    print(", ".join(engine.machine(torch.device("cpu"))) + "\n")
    print("| model | backend | precision | least dB | mean dB | PSNR in float32 | change | taken by itself |")
    print("|---|---|---|---:|---:|---:|---:|---|")
    for name, (spec, operator) in operators(chosen.checkpoints, chosen.only).items():
        print("\n".join(rows(name, spec, operator, chosen)), flush=True)


if __name__ == "__main__":
    main()

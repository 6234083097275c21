"""Pictures per second of the second-order chain on 256x256 crops, against the same chain written the plain way.

    python benchmarks/degradation.py [--crops 64] [--threads 2] [--rounds 3]

The plain versions do the very steps that ours drew (same kernels, factors, levels, qualities), picture by picture, as one
writes them down with a library: one with OpenCV and numpy, one with scikit-image and scipy. They get the same number of
processes' worth of threads: pictures are shared out among `threads` threads in all three. Drawing the parameters is part of
our time only; in exchange the plain versions make their kernels themselves. The three take turns, and the fastest round of each
counts. Processor time is given too: on a machine that is busy with other things it says more than the clock.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch

from restora import degradation
from restora.degradation.base import Degradation

Array = np.ndarray


def plain_kernel(step: Any) -> Array:
    """A kernel from its formula, as an ordinary implementation has it."""
    from scipy.special import j1

    name, size = type(step).__name__, step.size
    x, y = np.meshgrid(np.arange(size) - size // 2, np.arange(size) - size // 2)
    if name == "SincFilter":
        r = np.sqrt(x**2 + y**2)
        with np.errstate(all="ignore"):
            k = step.cutoff * j1(step.cutoff * r) / (2 * np.pi * r)
        k[size // 2, size // 2] = step.cutoff**2 / (4 * np.pi)
        return k / k.sum()
    if name == "GaussianBlur":
        k = np.exp(-(x**2 + y**2) / (2 * step.sigma**2))
        return k / k.sum()
    turn = math.radians(step.angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    covariance = rotation @ np.diag([step.sigma_x**2, step.sigma_y**2]) @ rotation.T
    grid = np.stack([x, y], -1)
    d = np.sum((grid @ np.linalg.inv(covariance)) * grid, -1)
    k = np.exp(-0.5 * d**step.shape) if step.form == "gaussian" else 1 / (1 + d**step.shape)
    return k / k.sum()


def plain_noise(step: Any, a: Array, rng: np.random.Generator) -> Array:
    name = type(step).__name__
    if name == "GaussianNoise":
        shape = (*a.shape[:2], 1) if step.colour == "grey" else a.shape
        return a + rng.normal(0, step.sigma / 255, shape)
    source = a.mean(2, keepdims=True) if step.grey else a
    source = np.clip(source, 0, None)
    return a + (rng.poisson(source * step.peak) / step.peak - source) * step.strength


def plain_jpeg(a: Array, quality: float) -> Array:
    pixels = np.clip(np.round(a * 255), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] / 255.0


def with_opencv(chain: Any, a: Array, rng: np.random.Generator) -> Array:
    """OpenCV for filters and sizes, numpy for noise."""
    flags = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    for step in chain.steps:
        name = type(step).__name__
        if name in ("GaussianBlur", "AnisotropicBlur", "SincFilter"):
            a = cv2.filter2D(a, -1, plain_kernel(step), borderType=cv2.BORDER_REFLECT_101)
        elif name == "ResizeTo":
            a = cv2.resize(a, (step.width, step.height), interpolation=flags[step.method])
        elif name in ("GaussianNoise", "PoissonNoise"):
            a = plain_noise(step, a, rng)
        elif name == "Jpeg":
            a = plain_jpeg(a, step.quality)
        elif name == "Clip":
            a = np.clip(a, 0, 1)
        elif name == "Quantise":
            a = np.round(np.clip(a, 0, 1) * 255) / 255
    return a


def with_skimage(chain: Any, a: Array, rng: np.random.Generator) -> Array:
    """scikit-image for sizes, scipy for filters, numpy for noise."""
    from scipy.ndimage import convolve
    from skimage.transform import resize, resize_local_mean

    for step in chain.steps:
        name = type(step).__name__
        if name in ("GaussianBlur", "AnisotropicBlur", "SincFilter"):
            a = convolve(a, plain_kernel(step)[..., None], mode="mirror")
        elif name == "ResizeTo":
            size = (step.height, step.width)
            if step.method == "area":
                a = resize_local_mean(a, size, channel_axis=2)
            else:
                a = resize(a, size, order=1 if step.method == "bilinear" else 3, anti_aliasing=False)
        elif name in ("GaussianNoise", "PoissonNoise"):
            a = plain_noise(step, a, rng)
        elif name == "Jpeg":
            a = plain_jpeg(a, step.quality)
        elif name == "Clip":
            a = np.clip(a, 0, 1)
        elif name == "Quantise":
            a = np.round(np.clip(a, 0, 1) * 255) / 255
    return a


def photographs(count: int) -> torch.Tensor:
    """Crops with the statistics that matter here: smooth shading, edges, texture."""
    g = torch.Generator().manual_seed(0)
    coarse = degradation.resize(torch.rand(count, 3, 12, 12, generator=g), size=(256, 256))
    fine = degradation.resize(torch.rand(count, 3, 128, 128, generator=g), size=(256, 256), method="bilinear")
    return (0.7 * coarse + 0.3 * fine).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipe", default="realesrgan-x4")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)  # the pictures are shared out among threads already
    x = photographs(options.crops)
    chain: Degradation = degradation.recipe(options.recipe)
    _, manifest = chain.degrade(x, 0)
    drawn = [degradation.from_dict(image) for image in manifest["images"]]
    arrays = [np.ascontiguousarray(p.permute(1, 2, 0).numpy()) for p in x]

    def plain(way: Callable[[Any, Array, np.random.Generator], Array]) -> None:
        def one(i: int) -> Array:
            return way(drawn[i], arrays[i], np.random.default_rng(i))

        with ThreadPoolExecutor(options.threads) as pool:
            list(pool.map(one, range(len(arrays))))

    runs: dict[str, Callable[[], object]] = {
        "restora": lambda: chain(x, 0),
        "OpenCV + numpy": lambda: plain(with_opencv),
        "scikit-image + scipy": lambda: plain(with_skimage),
    }
    # the three do the same: without their noise (each has its own) the results agree
    for name, way in (("OpenCV + numpy", with_opencv), ("scikit-image + scipy", with_skimage)):
        differences = []
        for chain_i, array in zip(drawn[:8], arrays, strict=False):
            quiet = degradation.Chain(tuple(s for s in chain_i.steps if "Noise" not in type(s).__name__))
            ours = quiet(torch.from_numpy(array).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
            differences.append(np.abs(way(quiet, array, np.random.default_rng(0)) - ours).mean() * 255)
        print(
            f"{name}: without noise, mean difference from ours {np.median(differences):.2f} grey levels (median of 8 crops)"
        )
    best, work = dict.fromkeys(runs, math.inf), dict.fromkeys(runs, math.inf)
    for _ in range(options.rounds):
        for name, run in runs.items():
            start, busy = time.perf_counter(), time.process_time()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
            work[name] = min(work[name], time.process_time() - busy)
    print(f"{options.recipe}, {len(x)} crops of 256x256, {options.threads} threads, fastest of {options.rounds} rounds")
    for name, seconds in best.items():
        cpu = f"{1000 * work[name] / len(x):6.2f} ms of processor a picture, {work[name] / work['restora']:5.2f} x ours"
        print(f"  {name:22s} {len(x) / seconds:7.1f} pictures/s, {seconds / best['restora']:5.2f} x our time; {cpu}")


if __name__ == "__main__":
    main()

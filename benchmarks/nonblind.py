"""How well a known blur is undone, how fast, and what borders and tiles cost.

The protocol `nonblind/1`: a picture of Set14 or CBSD68 is blurred by a kernel without any assumption about its border (only the
part that the kernel covers is kept, so that what lies beyond is truly unknown), noise is added, and the result is rounded to 8
bits, as a photograph is. The score is the RGB PSNR of 8-bit pictures; the mean is over problems. Kernels: the twelve of
`kernels_12.mat` (25x25) and four of motion (31 to 61 pixels). Noise: sigma 0, 2.55 and 7.65, numpy PCG64, the seed is the number of
the problem. Seconds are of the processor, one thread.

    python benchmarks/nonblind.py DATA [--limit 2] [--sample 40] [--methods wiener,gddec,auto+none,auto]
    python benchmarks/nonblind.py DATA --tiles       tiled against whole
    python benchmarks/nonblind.py DATA --wrong       is a wrong kernel noticed, and a right one not?
    python benchmarks/nonblind.py DATA --large 24    time and memory of a large 16-bit photograph, from file to file

DATA is a folder with bench/Set14/HRx2, bench/CBSD68 and kernels/kernels_12.mat.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restora import evaluation
from restora.degradation import convolution, kernels
from restora.engine import Settings
from restora.io import Picture
from restora.restorers.deconvolve import Deconvolver

SIGMAS = (0.0, 2.55, 7.65)
BAND = 32  # pixels from the border
BALANCES = (1e-3, 1e-2, 1e-1)  # of scikit-image's Wiener filter: the best mean of these is shown, to its advantage
Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Problem:
    """An observed picture, the sharp one that belongs to it, and how it was made."""

    number: int
    picture: str
    kernel_name: str
    kernel: Array
    sigma: float
    observed: Array
    sharp: Array


def all_kernels(data: Path) -> dict[str, Array]:
    """The sixteen kernels by name."""
    found = {
        f"kernels_12 {i + 1}": k.numpy() for i, k in enumerate(kernels.load_all(data / "kernels" / "kernels_12.mat"))
    }
    found["line 31"] = kernels.motion(31, 30).numpy()
    for size, seed in ((31, 7), (45, 16), (61, 38)):
        found[f"shake {size}"] = kernels.trajectory(size, seed).numpy()
    return found


def pictures(data: Path, limit: int | None) -> list[Path]:
    """The files of both sets, or `limit` of each, evenly spaced."""
    found = []
    for folder in (data / "bench" / "Set14" / "HRx2", data / "bench" / "CBSD68"):
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".bmp", ".jpg", ".tif"))
        found += (
            files if limit is None else [files[round(i * (len(files) - 1) / max(1, limit - 1))] for i in range(limit)]
        )
    return list(dict.fromkeys(found))


def make(number: int, path: Path, name: str, kernel: Array, sigma: float) -> Problem:
    """One problem."""
    sharp = evaluation.to_uint8(Picture.open(path).pixels)
    x = torch.from_numpy(sharp.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    blurred = convolution.convolve(x, torch.from_numpy(kernel), "valid")[0].permute(1, 2, 0).numpy()
    noise = np.random.Generator(np.random.PCG64(number)).normal(0, sigma / 255, blurred.shape)
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    inner = np.ascontiguousarray(sharp[top : top + blurred.shape[0], left : left + blurred.shape[1]])
    return Problem(number, path.stem, name, kernel, sigma, evaluation.to_uint8(np.clip(blurred + noise, 0, 1)), inner)


def problems(data: Path, limit: int | None, sample: int | None) -> list[tuple[int, Path, str, Array, float]]:
    """All problems, or `sample` for each sigma, drawn with seed 0."""
    grid = [(p, n, k) for p in pictures(data, limit) for n, k in all_kernels(data).items()]
    chosen = range(len(grid))
    if sample is not None and sample < len(grid):
        chosen = sorted(np.random.Generator(np.random.PCG64(0)).permutation(len(grid))[:sample])  # type: ignore[assignment]
    return [(i * len(SIGMAS) + j, *grid[i], sigma) for i in chosen for j, sigma in enumerate(SIGMAS)]


def checksum(data: Path) -> str:
    """Of all files that the protocol reads."""
    digest = hashlib.sha256()
    for path in [*pictures(data, None), data / "kernels" / "kernels_12.mat"]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def lucy(observed: Array, kernel: Array, mirrored: bool) -> Array:
    """scikit-image's Richardson-Lucy, 30 iterations, channel by channel."""
    from skimage.restoration import richardson_lucy

    pad = [n // 2 if mirrored else 0 for n in kernel.shape]
    wide = np.pad(observed / 255.0, [(pad[0],) * 2, (pad[1],) * 2, (0, 0)], "symmetric")
    out = np.stack([richardson_lucy(wide[..., c], kernel, num_iter=30) for c in range(wide.shape[2])], -1)
    return out[pad[0] : pad[0] + observed.shape[0], pad[1] : pad[1] + observed.shape[1]]


def skimage_wiener(observed: Array, kernel: Array, balance: float) -> Array:
    """scikit-image's Wiener filter, channel by channel."""
    from skimage.restoration import wiener

    planes = observed / 255.0
    return np.stack([wiener(planes[..., c], kernel, balance, clip=True) for c in range(planes.shape[2])], -1)


def ours(method: str, parts: dict[str, Any]) -> Callable[[Problem], Array]:
    """A method of this project, with the denoiser that stands behind a plus, called as a user does."""
    method, _, denoiser = method.partition("+")
    restorer = Deconvolver(method, Settings(device="cpu", tile=0))
    known = {k: v for k, v in {**parts, "denoiser": denoiser or parts["denoiser"]}.items() if v is not None}
    return lambda p: restorer(p.observed, kernel=p.kernel, sigma=p.sigma, **known).array


def entrants(methods: list[str], parts: dict[str, Any]) -> dict[str, Callable[[Problem], Array]]:
    """Everything that is compared, by the name of its row."""
    rows: dict[str, Callable[[Problem], Array]] = {
        "degraded input": lambda p: p.observed,
        "scikit-image Richardson-Lucy (30)": lambda p: lucy(p.observed, p.kernel, False),
        "scikit-image Richardson-Lucy (30), mirrored border": lambda p: lucy(p.observed, p.kernel, True),
    }
    for balance in BALANCES:
        rows[f"scikit-image Wiener (balance {balance:g})"] = lambda p, b=balance: skimage_wiener(
            p.observed, p.kernel, b
        )
    return {**rows, **{m: ours(m, parts) for m in methods}}


def error(result: Array, sharp: Array, where: Array | None = None) -> float:
    """PSNR in dB of 8-bit RGB, of the whole picture or of the pixels in a mask."""
    if where is None:
        return float(evaluation.psnr(result, sharp, "deblur-rgb"))
    square = (result.astype(np.float64) - sharp.astype(np.float64))[where] ** 2
    return float(10 * np.log10(255**2 / max(square.mean(), 1e-10)))


def band(shape: tuple[int, ...]) -> Array:
    """The pixels within 32 of the border."""
    inside = np.zeros(shape[:2], bool)
    inside[BAND:-BAND, BAND:-BAND] = True
    return ~inside


def quality(data: Path, chosen: argparse.Namespace) -> None:
    """The table of scores."""
    rows = entrants(chosen.methods, {"network": chosen.network, "denoiser": chosen.denoiser})
    list_ = problems(data, chosen.limit, chosen.sample)
    scores: dict[tuple[str, float], list[list[float]]] = {}
    print(f"Protocol nonblind/1, data {checksum(data)}, {len(list_)} problems of {len({p[1] for p in list_})} pictures, "
          f"1 thread, torch {torch.__version__}\n")  # fmt: skip
    for count, (number, path, name, kernel, sigma) in enumerate(list_, 1):
        problem = make(number, path, name, kernel, sigma)
        border = band(problem.sharp.shape)
        for row, solve in rows.items():
            started = time.process_time()
            result = evaluation.to_uint8(np.clip(solve(problem), 0, 1) if row.startswith("scikit") else solve(problem))
            seconds = time.process_time() - started
            at_border, in_centre = error(result, problem.sharp, border), error(result, problem.sharp, ~border)
            entry = [
                error(result, problem.sharp),
                at_border,
                in_centre,
                seconds,
                *same_pixels(solve, problem, result, chosen),
            ]
            scores.setdefault((row, sigma), []).append(entry)
            if chosen.verbose:
                print(f"{path.stem} {name} sigma {sigma:g}: {row} {entry[0]:.2f} dB, {seconds:.2f} s", flush=True)
        if count % 10 == 0:
            print(f"{count} of {len(list_)}", file=sys.stderr, flush=True)
    print_table(rows, scores, chosen.borders)


def same_pixels(
    solve: Callable[[Problem], Array], problem: Problem, result: Array, chosen: argparse.Namespace
) -> list[float]:
    """How much worse pixels are for being near the border: the band of a smaller cut, against the same pixels in the whole."""
    if not chosen.borders:
        return []
    cut = slice(BAND, -BAND)
    small = dataclasses.replace(
        problem, observed=np.ascontiguousarray(problem.observed[cut, cut]), sharp=problem.sharp[cut, cut]
    )
    if min(small.observed.shape[:2]) < 3 * BAND:
        return [float("nan")]
    alone = solve(small)
    alone = evaluation.to_uint8(np.clip(alone, 0, 1) if alone.dtype != np.uint8 else alone)
    border = band(small.sharp.shape)
    return [error(result[cut, cut], small.sharp, border) - error(alone, small.sharp, border)]


def print_table(rows: dict[str, Any], scores: dict[tuple[str, float], list[list[float]]], borders: bool) -> None:
    """A markdown table: PSNR for each sigma, their mean, at the border against the centre, seconds."""
    mean = {key: np.nanmean(np.array(values), axis=0) for key, values in scores.items()}
    wieners = [r for r in rows if r.startswith("scikit-image Wiener")]
    best = max(wieners, key=lambda r: sum(mean[r, s][0] for s in SIGMAS))
    extra = " loss of pixels for being at the border |" if borders else ""
    print(
        "| method | "
        + " | ".join(f"sigma {s:g}" for s in SIGMAS)
        + f" | mean | centre | border | centre - border | seconds |{extra}"
    )
    print("|---" * (len(SIGMAS) + 6 + borders) + "|")
    for row in rows:
        if row in wieners and row != best:
            continue
        each = [mean[row, s] for s in SIGMAS]
        total = np.mean(each, axis=0)
        line = [f"{e[0]:.2f}" for e in each]
        line += [
            f"{total[0]:.2f}",
            f"{total[2]:.2f}",
            f"{total[1]:.2f}",
            f"{total[2] - total[1]:.2f}",
            f"{total[3]:.2f}",
        ]
        line += [f"{total[4]:.2f}"] if borders else []
        print(f"| {row} | " + " | ".join(line) + " |")


def tiles(data: Path, chosen: argparse.Namespace) -> None:
    """Largest and root-mean-square difference of tiles from the whole, in grey levels of 8 bits."""
    files = pictures(data, chosen.limit)[:3]
    print(
        "| method | kernel | sigma | tiles | largest, levels | rms | pixels off by more than 1 |\n|---|---|---|---|---|---|---|"
    )
    chosen_kernels = {n: k for n, k in all_kernels(data).items() if n in ("kernels_12 4", "line 31", "shake 45")}
    for method in chosen.methods:
        for path in files[:1]:
            for name, kernel in chosen_kernels.items():
                for sigma in SIGMAS:
                    problem = make(0, path, name, kernel, sigma)
                    results = {}
                    for tile in (0, chosen.tile):
                        restorer = Deconvolver(method, Settings(device="cpu", tile=tile))
                        results[tile] = restorer(
                            problem.observed.astype(np.float32) / 255, kernel=kernel, sigma=max(sigma, 0.29)
                        )
                    off = np.abs(results[0].array - results[chosen.tile].array) * 255
                    print(f"| {method} | {name} | {sigma:g} | {results[chosen.tile].report.tiles} | {off.max():.2f} | "
                          f"{np.sqrt((off**2).mean()):.3f} | {(off > 1).mean():.2%} |", flush=True)  # fmt: skip


def wrong(data: Path, chosen: argparse.Namespace) -> None:
    """How often the tool says that a kernel is wrong, for the true one and for three wrong ones."""
    from restora.restorers.kernel_check import disagreement
    from restora.solvers.doubt import warped

    cases: dict[str, list[tuple[torch.Tensor, torch.Tensor, float]]] = {"Levin's pictures": []}
    for path in sorted((data / "bench" / "levin").glob("im*_kernel*_img.png"))[:: chosen.every]:
        kernel = torch.from_numpy(
            np.load(path.parent / "kernels" / f"{path.name.split('_')[1]}.npy").astype(np.float32)
        )
        pixels = evaluation.to_uint8(Picture.open(path).pixels)
        cases["Levin's pictures"].append(
            (torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255))[None], kernel, 1.0)
        )
    for number, path, name, array, sigma in problems(data, chosen.limit, chosen.sample):
        problem = make(number, path, name, array, sigma)
        x = torch.from_numpy(problem.observed.transpose(2, 0, 1) / np.float32(255))[None]
        cases.setdefault(f"protocol, sigma {sigma:g}", []).append((x, torch.from_numpy(array), sigma))
    print(
        "| pictures | number | true kernel | turned by 5 degrees | 10 % longer | 10 % shorter |\n|---|---|---|---|---|---|"
    )
    for name, members in cases.items():
        counts = [0, 0, 0, 0]
        for x, kernel, sigma in members:
            given = [kernel, warped(kernel, 5, 1), warped(kernel, 0, 1.1), warped(kernel, 0, 1 / 1.1)]
            for i, k in enumerate(given):
                counts[i] += bool(disagreement(x, k, sigma))
        print(
            f"| {name} | {len(members)} | " + " | ".join(f"{c / len(members):.0%}" for c in counts) + " |", flush=True
        )


def large(data: Path, chosen: argparse.Namespace) -> None:
    """A large 16-bit photograph through the command, in a process of its own."""
    width = round((chosen.large * 1e6 * 3 / 2) ** 0.5)
    height = round(chosen.large * 1e6 / width)
    source = Picture.open(sorted((data / "train" / "validation").glob("*"))[0]).pixels.astype(np.uint16) * 257
    import cv2

    big = cv2.resize(source, (width, height), interpolation=cv2.INTER_CUBIC)
    kernel = kernels.trajectory(41, 8)  # fills its frame
    observed = convolution.convolve(
        torch.from_numpy(big.transpose(2, 0, 1).astype(np.float32) / 65535)[None], kernel, "reflect"
    )
    noisy = observed[0].permute(1, 2, 0).numpy()
    noisy += np.random.Generator(np.random.PCG64(0)).standard_normal(noisy.shape, np.float32) * np.float32(2 / 255)
    folder = chosen.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    Picture.from_array((np.clip(noisy, 0, 1) * 65535 + 0.5).astype(np.uint16)).save(folder / "large.tif")
    np.save(folder / "kernel.npy", kernel.numpy())
    print("| method | megapixels | seconds | peak memory, GB |\n|---|---|---|---|")
    for method in chosen.methods:
        target = folder / f"{method}.tif"
        target.unlink(missing_ok=True)
        arguments = ["deconvolve", folder / "large.tif", "-o", target, "--kernel", folder / "kernel.npy"]
        arguments += ["--method", method, "--threads", "1", "--overwrite"]
        started = time.perf_counter()
        child = os.posix_spawn(sys.executable, [sys.executable, "-m", "restora", *map(str, arguments)], os.environ)
        _, status, usage = os.wait4(child, 0)
        if status:
            raise SystemExit(f"{method} failed with status {os.waitstatus_to_exitcode(status)}")
        unit = 1 if sys.platform == "darwin" else 1024
        print(f"| {method} | {height * width / 1e6:.1f} | {time.perf_counter() - started:.0f} | "
              f"{usage.ru_maxrss * unit / 1e9:.2f} |", flush=True)  # fmt: skip


def main() -> None:
    """Chooses what to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, help="pictures of each set, evenly spaced; all without it")
    parser.add_argument("--sample", type=int, help="problems for each sigma, drawn with seed 0; all without it")
    parser.add_argument("--methods", default="wiener,hyper-laplacian,gddec,auto+none,auto", type=lambda t: t.split(","))
    parser.add_argument("--network", help="weights for usrnet or onepass")
    parser.add_argument("--denoiser", help="for auto, dpir, admm, red; auto+none is without weights")
    parser.add_argument(
        "--borders", action="store_true", help="also solve a smaller cut, to see what being at the border costs"
    )
    parser.add_argument("--tiles", action="store_true")
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="of --wrong: each n-th of Levin's pictures")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--large", type=float, metavar="MEGAPIXELS")
    parser.add_argument("--keep", type=Path, help="folder for the large pictures")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    (tiles if chosen.tiles else wrong if chosen.wrong else large if chosen.large else quality)(chosen.data, chosen)


if __name__ == "__main__":
    main()

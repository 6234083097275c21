"""What tiles cost and what they save.

1. Peak memory and time of the command on a 48-megapixel picture, enlarged twice (whole process, from file to file).
2. Time of tiled against whole-image execution on a picture where both fit, paired in turn; the ratio of the medians.

    python benchmarks/tiling.py [--megapixels 48] [--rounds 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def picture(height: int, width: int) -> np.ndarray:
    """A large picture with detail everywhere: noise on gradients, uint8 RGB."""
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 60, (1000, 1000, 3), dtype=np.uint8)
    full = np.tile(tile, (-(-height // 1000), -(-width // 1000), 1))[:height, :width]
    return full + np.linspace(0, 190, width, dtype=np.uint8)[None, :, None]


def peak_memory(megapixels: float, threads: int, folder: Path) -> dict[str, float]:
    """Enlarges a file by 2 with the command, in a process of its own, and asks the system what it took at most."""
    from PIL import Image

    from restora.io import probe

    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(megapixels * 1e6 / width)
    source = folder / "large.png"
    Image.fromarray(picture(height, width)).save(source, compress_level=1)
    arguments = ["upscale", source, "-s", "2", "-o", folder / "out", "--threads", threads, "--overwrite"]
    started = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "restora", *map(str, arguments)], os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"the command failed with status {os.waitstatus_to_exitcode(status)}")
    result = probe(folder / "out" / "large_x2.png")
    assert (result.width, result.height) == (2 * width, 2 * height)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"megapixels": height * width / 1e6, "seconds": seconds, "peak_gb": usage.ru_maxrss * unit / 1e9}


def tiled_against_whole(model: str, scale: int, height: int, width: int, rounds: int) -> dict[str, float]:
    """Medians of both ways, run in turn, and their ratio; and the largest difference of the results in grey levels."""
    import restora
    from restora.engine import NetworkOperator, Settings, choose_device, run, tile_size
    from restora.networks import create

    source = picture(height, width)
    if model in {c.variant for c in restora.list_models()}:
        operator = restora.load(model).operator(scale)
    else:
        operator = NetworkOperator(create(model), scale)
    side = tile_size(operator, choose_device("cpu"))
    side = min(side, max(height, width) // 2)  # else there would be but one tile, and nothing to measure
    seconds: dict[int, list[float]] = {0: [], side: []}
    results = {}
    for number in range(rounds + 1):
        for tile in seconds:
            started = time.perf_counter()
            results[tile], report = run(operator, source, settings=Settings(device="cpu", tile=tile))
            if number:  # the first round warms up
                seconds[tile].append(time.perf_counter() - started)
    whole, tiled = (statistics.median(seconds[t]) for t in (0, side))
    difference = int(np.abs(results[0].astype(int) - results[side]).max())
    return {
        "tile": side,
        "tiles": report.tiles,
        "whole_s": whole,
        "tiled_s": tiled,
        "ratio": tiled / whole,
        "levels": difference,
    }


def main() -> None:
    """Runs both measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = peak_memory(chosen.megapixels, chosen.threads, Path(folder))
    from restora.engine import set_threads

    set_threads(chosen.threads)
    rows = {
        f"{model} x{scale} on {width}x{height}": tiled_against_whole(model, scale, height, width, chosen.rounds)
        for model, scale, height, width in [
            ("fsrcnn_x2", 2, 1500, 2000),
            ("fsrcnn_x4", 4, 1000, 1400),
            ("carn_m", 2, 600, 800),
        ]
    }
    if chosen.json:
        print(json.dumps({"memory": memory, "time": rows}))
        return
    print(f"fsrcnn x2 on {memory['megapixels']:.1f} megapixels, {chosen.threads} threads: peak {memory['peak_gb']:.2f} GB, "
          f"{memory['seconds']:.1f} s from file to file")  # fmt: skip
    for name, row in rows.items():
        print(f"{name}: {row['tiles']} tiles of {row['tile']}: {row['tiled_s']:.2f} s, whole {row['whole_s']:.2f} s, "
              f"ratio {row['ratio']:.2f}, largest difference {row['levels']} grey levels")  # fmt: skip


if __name__ == "__main__":
    main()

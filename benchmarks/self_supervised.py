"""SimUSR against ZSSR: super-resolution without a single sharp picture, once from a folder and once from each picture alone.

    python benchmarks/self_supervised.py --photos photos/ --bench Set5/ [--scale 2] [--pictures 3] [--threads 1]

The photographs are reduced by the scale; only these low-resolution pictures are trained on (SimUSR), none of the benchmark. ZSSR
is trained on each benchmark input itself. The table has PSNR under `sr-y` and seconds, with bicubic beside; seconds a picture
are what a user waits once there is a SimUSR network. Efficiency thesis, section 2.6 and tables 5.1 and 5.4.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from restora import networks
from restora.degradation import resize_uint8
from restora.engine import NetworkOperator, Settings, run
from restora.evaluation import psnr
from restora.io import Picture
from restora.restorers import Bicubic
from restora.restorers.zssr import ZeroShot
from restora.training import Photographs, find_recipe, load_recipe, train


def low_resolution(photos: Path, folder: Path, scale: int) -> tuple[int, str]:
    """Writes the photographs reduced by the scale; returns their number and the originals' checksum."""
    found = Photographs(photos)
    folder.mkdir(parents=True)
    for number, image in enumerate(found.images):
        low = resize_uint8(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), 1 / scale)
        Picture.from_array(low.permute(1, 2, 0).contiguous().numpy()).save(folder / f"{number:04d}.png")
    return len(found.images), found.checksum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, required=True, help="photographs, of which only reduced copies are trained on"
    )
    parser.add_argument("--bench", type=Path, required=True, help="folder with HRxS/ and LRxS/")
    parser.add_argument("--scale", type=int, default=2, choices=(2, 4))
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--simusr-steps", type=int, default=4000)
    parser.add_argument("--zssr-steps", type=int, default=1000)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of both trainings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    scale = chosen.scale
    settings = Settings("cpu", chosen.precision, threads=chosen.threads)
    files = sorted((chosen.bench / f"LRx{scale}").iterdir())[: chosen.pictures]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]
    scores: dict[str, list[float]] = {"bicubic": [], "ZSSR": [], "SimUSR": []}
    waits: dict[str, list[float]] = {name: [] for name in scores}

    def note(name: str, file: Path, result: np.ndarray, seconds: float) -> None:
        sharp = Picture.open(chosen.bench / f"HRx{scale}" / file.name).pixels
        scores[name].append(psnr(result, sharp, protocol="sr-y", scale=scale))
        waits[name].append(seconds)
        print(f"{name} {file.stem}: {scores[name][-1]:.2f} dB, {seconds:.1f} s", flush=True)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        count, checksum = low_resolution(chosen.photos, folder / "low", scale)
        changes = [f"network.variant=cutblur_carn_x{scale}", f"task.scale={scale}", f"steps={chosen.simusr_steps}"]
        changes += [f"validation.every={chosen.simusr_steps}", f"seed={chosen.seed}", f"precision={chosen.precision}"]
        changes += [f"schedule.warmup={min(100, chosen.simusr_steps // 10)}"]
        recipe = load_recipe(find_recipe("simusr"), changes)
        started = time.perf_counter()
        done = train(recipe, folder / "low", folder / "low", folder, threads=chosen.threads)
        training = time.perf_counter() - started
        net = networks.create(recipe.network.variant, **recipe.network.config)
        state: Any = load_file(done.weights)  # type: ignore[arg-type]
        networks.load_state(net, {k: v.float() for k, v in state.items()})
        for file in files:
            low = Picture.open(file).pixels
            started = time.perf_counter()
            note("bicubic", file, Bicubic(settings)(low, scale=scale).array, time.perf_counter() - started)
            started = time.perf_counter()
            enlarged, _ = run(NetworkOperator(net, scale), low, settings=Settings("cpu", threads=chosen.threads))
            note("SimUSR", file, enlarged, time.perf_counter() - started)
            result = ZeroShot(settings)(low, scale=scale, steps=chosen.zssr_steps, seed=chosen.seed)
            note("ZSSR", file, result.array, result.report.seconds)
    print(
        f"\nx{scale}, {chosen.threads} thread(s), {chosen.precision}, seed {chosen.seed}; benchmark inputs {digest}; SimUSR: "
        f"{chosen.simusr_steps} steps on {count} reduced photographs ({checksum[:12]}); ZSSR: {chosen.zssr_steps} steps a picture\n"
    )
    print(f"| method | {' | '.join(f.stem for f in files)} | mean dB | training s, once | s a picture |")
    print("|---" * (len(files) + 4) + "|")
    for name, values in scores.items():
        once = f"{training:.0f}" if name == "SimUSR" else "-"
        cells = " | ".join(f"{v:.2f}" for v in values)
        print(f"| {name} | {cells} | {np.mean(values):.2f} | {once} | {np.mean(waits[name]):.2f} |")


if __name__ == "__main__":
    main()

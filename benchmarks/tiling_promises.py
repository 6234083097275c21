"""What every network's tiling promise is worth: tiled against whole on a crop of a real photograph, in float32.

Trained weights are taken from --weights (checkpoints, searched and identified) and from the bundled models; variants without
any get random ones, seed 0: lively where the promise is `exact` or `aligned`, fresh (near the identity, where a network is
residual) where it is `global`, since only such weights make statistics of a picture behave as in a restoration. The crop is
the largest of four that takes less than --limit seconds by estimate; a variant for which none does is named and left out.
`beyond` says how many pixels of the crop an average tile did not see: 0 means that nothing was tested.

    python benchmarks/tiling_promises.py --picture photo.jpg [--weights FOLDER] [--tile 64] [--limit 60] [VARIANT pattern ...]
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restora import networks, zoo
from restora.engine import NetworkOperator, enliven, seconds_of, tiles, verify_tiling
from restora.errors import RestoraError
from restora.io import Picture

SIZES = ((541, 401), (317, 211), (221, 147), (117, 79))


def trained(folder: Path | None) -> dict[str, tuple[str, Any]]:
    """Variant -> name of its weights and a network that holds them."""
    found: dict[str, tuple[str, Any]] = {}
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".pth", ".pt", ".mat", ".bin")) if folder else []
    for path in files:
        try:
            net, variant = zoo.identify_file(path)
        except RestoraError:
            continue
        if variant in networks.variants():
            found.setdefault(variant, (path.name, net))
    for card in zoo.list_models(bundled=True):
        found.setdefault(card.variant, (card.name, zoo.load_network(card)))
    return found


def row(variant: str, known: dict[str, tuple[str, Any]], photo: np.ndarray, tile: int, limit: float) -> str | None:
    """A line of the table; None for what is not run on pictures."""
    torch.manual_seed(0)
    weights, net = known.get(variant) or ("random", networks.create(variant))
    spec = net.spec
    if spec.task in ("discriminator", "part"):
        return None
    if weights == "random" and spec.tiling.kind != "global":
        enliven(net)
    operator = NetworkOperator(net, min(spec.scales, key=lambda s: (s < 2, s)))
    sizes = [(w, h) for w, h in SIZES if w <= photo.shape[1] and h <= photo.shape[0]]
    size = next((s for s in sizes if seconds_of(operator, s[1], s[0], tile) < limit), None)
    promise = f"| `{variant}` x{operator.scale} | {operator.tiling} | {weights} |"
    if size is None:
        return f"{promise} | | | left out: above {limit:g} s |"
    width, height = size
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    found = verify_tiling(operator, np.ascontiguousarray(photo[top : top + height, left : left + width]), tile)
    plan = tiles.plan(height, width, tile, operator.tiling.window, tiles.halo(operator.tiling))
    seen = np.mean([(t.read_bottom - t.read_top) * (t.read_right - t.read_left) for t in plan])
    verdict = "kept" if found.kept else "BROKEN"
    if found.tiling.kind == "global" and weights == "random" and not found.kept:
        verdict = "an approximation"
    beyond = round(height * width - seen)
    return (
        f"{promise} {width}x{height}, {found.tiles} tiles | {beyond} | {found.largest:.1e} ({255 * found.largest:.2f}/255) | "
        f"{verdict if beyond else 'not tested'} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="shell patterns on variants")
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    pixels = Picture.open(chosen.picture).pixels
    photo = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    checksum = hashlib.sha256(chosen.picture.read_bytes()).hexdigest()[:12]
    print(f"{chosen.picture.name} (SHA-256 {checksum}...), tiles of {chosen.tile}, {chosen.threads} thread(s)\n")
    print(
        "| network | promise | weights | crop | beyond | largest difference | |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    known = trained(chosen.weights)
    names = sorted({v for pattern in chosen.patterns for v in networks.variants(pattern)})
    for variant in names:
        try:
            line = row(variant, known, photo, chosen.tile, chosen.limit)
        except RestoraError as error:
            line = f"| `{variant}` | | | | | {error} | |"
        if line is not None:
            print(line, flush=True)


if __name__ == "__main__":
    main()

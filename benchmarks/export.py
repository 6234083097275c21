"""Which networks can be written as ONNX, with free height and width or not, and how near the files are to torch.

Takes of every family a small form of a variant where SMALL has one (fewer and narrower blocks of the same kinds: an exporter
sees the operators, not how many there are), else the variant with the fewest parameters. Random weights, seed 0; each is exported
in a process of its own and compared with ONNX Runtime, as `restora models export` does. Prints a markdown table, row by row. A
variant that is named is exported as it is.

    python benchmarks/export.py [FAMILY or VARIANT ...] [--limit 120] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DIFFIR: dict[str, Any] = {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "residuals": 1}
_WINDOWS: dict[str, Any] = {"dim": 12, "depths": (2,), "heads": (2,)}
_UNET: dict[str, Any] = {"widths": (4, 4, 8, 8), "blocks": 1}
_PARTS = dict.fromkeys(("denoiser", "artefacts", "resolution"), ((4, 4, 8, 8), 1))
# family -> variant and what makes it small
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "deeprft": ("deeprft_small", {"blocks": 1, "width": 4}),
    "diffir": ("diffir_s2_deblur", _DIFFIR),
    "drunet": ("drunet_color", _UNET),
    "hat": ("hat_s_x2", {**_WINDOWS, "compress": 3, "squeeze": 3}),
    "onepass": ("onepass", _PARTS),
    "rcan": ("rcan_x2", {"groups": 2, "blocks": 2}),
    "rdn": ("rdn_color_dn", {"blocks": 2, "layers": 2, "growth": 8, "features": 8}),
    "restormer": ("restormer_deblur", {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}),
    "rnan": ("rnan_gray_dn", {"groups": 2, "features": 8}),
    "rrdbnet": ("rrdbnet_x4", {"blocks": 1}),
    "srooe": ("srooe", {"channels": 4, "blocks": 1, "growth": 4, "width": 4, "vgg_width": 4}),
    "srrunet": ("srrunet", _UNET),
    "swinir": ("swinir_lightweight_x2", _WINDOWS),
    "uformer": ("uformer_t", {"depths": (2, *(1,) * 8)}),
    "usrnet": ("usrnet_tiny", {"iterations": 2, **_UNET}),
}


def smallest(family: str) -> str | None:
    """The variant of a family with the fewest parameters that restores pictures alone."""
    import torch

    from restora import networks

    sizes = {}
    for variant in networks.families()[family].variants:
        with torch.device("meta"):
            net = networks.create(variant)
        if net.spec.task not in ("discriminator", "part"):  # type: ignore[union-attr]
            sizes[variant] = sum(p.numel() for p in net.parameters())
    return min(sizes, key=lambda v: sizes[v], default=None)


def one(variant: str, threads: int, sizes: Mapping[str, Any]) -> dict[str, object]:
    """Exports a variant and measures the file; the work of the child process."""
    import torch

    from restora import networks
    from restora.engine import NetworkOperator
    from restora.errors import RestoraError
    from restora.zoo.onnx import export_onnx

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = networks.create(variant, **sizes)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = export_onnx(net, Path(folder) / "net.onnx", NetworkOperator(net).controls)
    except RestoraError as error:
        return {"result": "no", "why": str(error), "seconds": time.perf_counter() - started}
    size = "any size" if done.dynamic else f"{done.sizes[0][1]}x{done.sizes[0][0]} only"
    return {
        "result": size,
        "why": "" if done.dynamic else done.why_fixed,
        "difference": done.difference,
        "seconds": time.perf_counter() - started,
    }


def in_child(name: str, limit: int, threads: int) -> dict[str, object]:
    """`one` in a process of its own, with so many seconds of processor time. `name`: a key of SMALL, or a variant."""
    command = [sys.executable, __file__, "--child", name, "--threads", str(threads)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)),
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        return json.loads(lines[-1])
    if done.returncode < 0:
        return {"result": "no", "why": f"more than {limit} s of processor time", "seconds": limit}
    return {"result": "no", "why": (done.stderr.strip().splitlines() or ["no output"])[-1], "seconds": 0.0}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families or variants; all families by default")
    parser.add_argument("--limit", type=int, default=120, help="seconds of processor time for each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        variant, sizes = SMALL.get(chosen.child, (chosen.child, {}))
        print(json.dumps(one(variant, chosen.threads, sizes)))
        return
    from restora import networks

    print("| variant | exports | largest difference | seconds | why not |\n|---|---|---|---|---|", flush=True)
    for name in chosen.names or networks.families():
        asked = smallest(name) if name in networks.families() and name not in SMALL else name
        if asked is None:
            continue
        row = in_child(asked, chosen.limit, chosen.threads)
        variant = SMALL[name][0] + ", a small form" if name in SMALL else asked
        difference = f"{row['difference']:.1e}" if row.get("difference") is not None else ""
        print(f"| {variant} | {row['result']} | {difference} | {row['seconds']:.0f} | {row['why']} |", flush=True)


if __name__ == "__main__":
    main()

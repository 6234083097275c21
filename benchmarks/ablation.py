"""The ablations that come with Restora, shortened so that they end: mean and deviation of each form, as tables.

    python benchmarks/ablation.py fsrcnn_expanding --data photos/ --validation others/ [--steps 1500] [--seeds 2]

Without a name all of them. What is stopped goes on with the same command. `restora ablate NAME` is the same at full length.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from restora.training import Photographs
from restora.training.ablation import ablations, load_ablation, run_ablation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ablations())}; all by default")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    checksums = [Photographs(folder).checksum[:12] for folder in (chosen.data, chosen.validation)]
    print(f"{chosen.steps} steps, trained on {checksums[0]}, measured on {checksums[1]}, {chosen.threads} thread(s)")
    for name in chosen.names or ablations():
        changes = [f"steps={chosen.steps}", f"validation.every={chosen.steps}"]
        ablation = load_ablation(name, changes, chosen.seeds)
        table = run_ablation(ablation, chosen.data, chosen.validation, chosen.runs, threads=chosen.threads)
        print(f"\n{ablation.description} ({ablation.recipe}):\n\n{table.markdown()}", flush=True)


if __name__ == "__main__":
    main()

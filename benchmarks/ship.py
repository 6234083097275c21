"""Takes the weights of finished runs into the bundle, measured: for maintainers.

Reads `RUN/VARIANT.safetensors` and its card (what `restora train` leaves), copies both into `restora/zoo` under the tag
`restora`, and fills the card's scores by measuring on benchmark folders (`SET/HRxS` and `SET/LRxS`).

    python benchmarks/ship.py runs/fsrcnn_x4 --bench ../data/bench --data-licence "..." --advice "..." --limits "..." [--default]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import restora
from restora import evaluation, zoo

ZOO = Path(zoo.__file__).parent


def main() -> None:
    """Ships one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--data", default="", help="what the training data are, in words")
    parser.add_argument("--data-licence", default="")
    parser.add_argument("--advice", default="")
    parser.add_argument("--limits", default="")
    parser.add_argument("--recipes", default="", help="all recipes of the run and the runs that it started from")
    parser.add_argument("--default", action="store_true")
    chosen = parser.parse_args()
    (source,) = chosen.run.glob("*.safetensors")
    card = zoo.read_card(source.with_suffix(".yaml"))
    name = f"{card.variant}.restora"
    target = ZOO / "weights" / f"{name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    training = card.training.model_copy(
        update={
            "data_licence": chosen.data_licence,
            "data": chosen.data,
            "recipe": chosen.recipes or card.training.recipe,
        }
    )
    weights = card.weights.model_copy(update={"file": target.name})
    scores = []
    for scale in card.scales:
        for folder in sorted(p for p in chosen.bench.iterdir() if (p / f"LRx{scale}").is_dir()):
            scores.append(evaluation.measure(restora.load(target, scale=scale), folder, "sr-y", scale))
            last = scores[-1]
            print(
                f"{name} x{scale} {folder.name}: {last.psnr:.3f} / {last.ssim:.4f} (bicubic {last.bicubic_psnr:.3f})",
                flush=True,
            )
    scores = [s.model_copy(update={"command": s.command.replace(target.name, name)}) for s in scores]
    card = card.model_copy(
        update={
            "name": name, "weights": weights, "training": training, "scores": scores, "advice": chosen.advice,
            "limits": chosen.limits, "default": chosen.default,
        }
    )  # fmt: skip
    zoo.write_card(card, ZOO / "cards" / f"{name}.yaml")


if __name__ == "__main__":
    main()

"""Takes the weights of finished runs into the bundle, measured: for maintainers.

Reads `RUN/VARIANT.safetensors` and its card (what `restora train` leaves), copies both into `restora/zoo` under the tag
`restora`, fills the card's scores by measuring on the benchmark folders of its task, and draws its worst held-out crops.

    python benchmarks/ship.py runs/fsrcnn_x4 --bench ../data/bench --validation ../data/train/validation \\
        --data "..." --data-licence "..." --advice "..." --limits "..." [--name drunet_s] [--default]

What is measured: super-resolution on every `SET/HRxS` and `SET/LRxS` there is (sr-y); denoising on CBSD68 at sigma 15, 25 and 50
(denoise-rgb); JPEG on classic5 at quality 10, 20, 30 and 40 (jpeg-y); deblurring on gopro-pairs (deblur-rgb). Of a deconvolution
network `benchmarks/nonblind.py --network` prints the table.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import failures

import restora
from restora import evaluation, zoo

ZOO = Path(zoo.__file__).parent


def measured(card: zoo.Card, bench: Path) -> list[zoo.Score]:
    """The scores of a card's task, by its name: a path would be built as its tensors say, without what only the card knows."""
    scores = []
    if card.task == "super-resolution":
        for scale in card.scales:
            for folder in sorted(p for p in bench.iterdir() if (p / f"LRx{scale}").is_dir()):
                scores.append(evaluation.measure(restora.load(card.name, scale=scale), folder, "sr-y", scale))
    elif card.task == "denoise":
        for sigma in (15, 25, 50):
            scores.append(evaluation.measure(restora.load(card.name), bench / "CBSD68", "denoise-rgb", sigma=sigma))
    elif card.task == "dejpeg":
        for quality in (10, 20, 30, 40):
            model = restora.load(card.name, task="dejpeg")
            scores.append(evaluation.measure(model, bench / "classic5", "jpeg-y", quality=quality))
    elif card.task == "deblur":
        scores.append(evaluation.measure(restora.load(card.name), bench / "gopro-pairs", "deblur-rgb"))
    for s in scores:
        before = s.bicubic_psnr if s.bicubic_psnr is not None else s.input_psnr
        print(
            f"{card.name} x{s.scale} {s.data} {s.input}: {s.psnr:.3f} / {s.ssim:.4f} ({before:.3f} before)", flush=True
        )
    return scores


def main() -> None:
    """Ships one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--validation", type=Path, help="held-out photographs, for the worst crops")
    parser.add_argument(
        "--name", default="", help="what stands before .restora; the variant, or the recipe of an own configuration"
    )
    parser.add_argument("--data", default="", help="what the training data are, in words")
    parser.add_argument("--data-licence", default="")
    parser.add_argument("--advice", default="")
    parser.add_argument("--limits", default="")
    parser.add_argument("--recipes", default="", help="all recipes of the run and the runs that it started from")
    parser.add_argument("--default", action="store_true")
    chosen = parser.parse_args()
    (source,) = chosen.run.glob("*.safetensors")
    card = zoo.read_card(source.with_suffix(".yaml"))
    recipe = chosen.recipes or card.training.recipe
    stem = chosen.name or (recipe.removesuffix(".yaml") if card.config else card.variant)
    name = f"{stem}.restora"
    target = ZOO / "weights" / f"{name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)
    training = card.training.model_copy(
        update={"data_licence": chosen.data_licence, "data": chosen.data, "recipe": recipe}
    )
    card = card.model_copy(
        update={
            "name": name, "weights": card.weights.model_copy(update={"file": target.name}), "training": training,
            "advice": chosen.advice, "limits": chosen.limits, "default": chosen.default, "scores": [],
        }
    )  # fmt: skip
    path = ZOO / "cards" / f"{name}.yaml"
    zoo.write_card(card, path)
    card = card.model_copy(update={"scores": measured(card, chosen.bench)})
    zoo.write_card(card, path)
    if chosen.validation is not None:
        card = failures.add(card, chosen.validation)
        zoo.write_card(card, path)
        print(card.failures[0].words)


if __name__ == "__main__":
    main()

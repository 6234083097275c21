"""The small recipes at their full length: what each takes of one core, and what it comes to beside the degraded input.

    python benchmarks/small_recipes.py --data photos/ --validation others/ [NAME ...] [--runs runs] [--time-limit 25m]

Without names all bundled `X.small`, one after another. Every run is a folder under `--runs`; what was stopped (Ctrl-C, the time
limit, a kill) goes on with the same command, and nothing is done twice. The results are lines of `RUNS/small_recipes.jsonl`, from
which `--table` prints the table again without training. A result counts for the recipe as it was: a changed recipe is pending
again, and its old folder has to be removed first.

The table has processor minutes of the whole run, with validation and export, and the last validation (of the last stage) beside
the degraded input's and the plain method's under the task's own protocol. The exit code is 1 where a recipe did not end above its
input or took longer than its `budget:` says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from restora.training import Recipe, bundled_recipes, find_recipe, load_recipe, seconds, train


def small() -> list[str]:
    """The names of the bundled small recipes."""
    return [name for name in bundled_recipes() if name.endswith(".small")]


def checksum(recipe: Recipe) -> str:
    """Of everything that a result depends on."""
    return hashlib.sha256(recipe.model_dump_json(exclude={"description", "budget"}).encode()).hexdigest()[:16]


class Results:
    """Lines of a file, one for every piece of a run: `name`, `recipe` (checksum), `cpu` seconds, and at its end the scores."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, line: dict[str, Any]) -> None:
        """Appends a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def of(self, name: str, recipe: Recipe) -> dict[str, Any] | None:
        """The finished run of a recipe as it is now, with the processor seconds of all its pieces; None where there is none."""
        known = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        lines = [line for line in map(json.loads, known) if (line["name"], line["recipe"]) == (name, checksum(recipe))]
        ends = [line for line in lines if "validation" in line]
        return {**ends[-1], "cpu": sum(line["cpu"] for line in lines)} if ends else None


def run(name: str, recipe: Recipe, chosen: argparse.Namespace, results: Results, limit: float | None) -> bool:
    """Trains a recipe to its end, or until the limit; returns whether it ended."""
    before = time.process_time()

    def told(line: dict[str, Any]) -> None:
        if line["event"] == "validation":
            print(f"{name} {line.get('stage', '')} {line['step']}: {line['validation']:.3f} dB", file=sys.stderr)

    done = train(
        recipe, chosen.data, chosen.validation, chosen.runs, resume=True, time_limit=limit, threads=chosen.threads, report=told
    )  # fmt: skip
    line: dict[str, Any] = {"name": name, "recipe": checksum(recipe), "cpu": round(time.process_time() - before, 1)}
    if done.finished:
        line |= {key: done.line[key] for key in ("validation", "input", "baseline", "plain")}
    results.add(line)
    return done.finished


def stated(recipe: Recipe) -> float:
    """The minutes in the recipe's own words."""
    found = re.search(r"([\d.]+) min", recipe.budget)
    return float(found[1]) if found else float("inf")


def task(recipe: Recipe) -> str:
    """What is learnt last, in a few words."""
    options = recipe.split()[-1].task
    scale = options.get("total", options.get("scale", []))
    return " ".join([options["kind"], *(f"x{s}" for s in (scale if isinstance(scale, list) else [scale]))])


def table(names: list[str], results: Results) -> bool:
    """Prints the table; returns whether everything ended above its input and within its stated time."""
    print("| recipe | network | task | steps | CPU min | stated | input dB | plain dB | result dB | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    good = True
    for name in names:
        recipe = load_recipe(find_recipe(name))
        stages = recipe.split()
        steps = " + ".join(str(stage.steps) for stage in stages)
        row = f"| `{name}` | {stages[-1].network.variant} | {task(recipe)} | {steps} |"
        done = results.of(name, recipe)
        if done is None:
            good = False
            print(f"{row} - | {stated(recipe):g} | - | - | - | not run |")
            continue
        notes = []
        if done["validation"] <= done["input"]:
            notes.append("**not above its input**")
        elif done["validation"] <= done["baseline"]:
            notes.append("under the plain method")
        if done["cpu"] > 60 * stated(recipe):
            notes.append("**longer than stated**")
        good = good and not any("*" in note for note in notes)
        plain = (
            "same" if done["plain"] == "bicubic" and done["input"] == done["baseline"] else f"{done['baseline']:.2f}"
        )
        print(
            f"{row} {done['cpu'] / 60:.1f} | {stated(recipe):g} | {done['input']:.2f} | {plain} | {done['validation']:.2f} | "
            f"{', '.join(notes)} |"
        )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="bundled recipes; all X.small by default")
    parser.add_argument("--data", type=Path, help="folder of photographs to train on")
    parser.add_argument("--validation", type=Path, help="folder of others to measure on")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--time-limit", help="stop cleanly after this long, for example 25m")
    parser.add_argument("--table", action="store_true", help="only print the table of what is known")
    chosen = parser.parse_args()
    names = chosen.names or small()
    results = Results(chosen.runs / "small_recipes.jsonl")
    if not chosen.table:
        if chosen.data is None or chosen.validation is None:
            parser.error("--data and --validation say where the photographs are")
        began, limit = time.monotonic(), seconds(chosen.time_limit) if chosen.time_limit else None
        for name in names:
            recipe = load_recipe(find_recipe(name))
            if results.of(name, recipe) is None:
                left = None if limit is None else limit - (time.monotonic() - began)
                if (left is not None and left <= 0) or not run(name, recipe, chosen, results, left):
                    break
    return 0 if table(names, results) else 1


if __name__ == "__main__":
    # before torch is imported by a training: processor seconds of one thread are what is counted
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

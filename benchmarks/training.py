"""What the training loop costs: against a bare loop, in bf16 against float32, and the share of the data.

Three tables, each measured in one run, the variants in turn, best of several rounds:

1. steps a second of `restora.training` against a loop written out for the same network, batch, optimiser and moving average,
   with batches that lie ready (what the loop itself costs), and with photographs (`--data`);
2. bf16 with the channels last against float32 with the channels first, for CARN-M and a U-Net of about a million parameters;
3. the processor time that making the batches takes, as a share of the step's, for each kind of task.

    python benchmarks/training.py --data photos/ --threads 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from restora import networks, training
from restora.engine.process import keep_freed_memory
from restora.training.prefetch import Prefetcher
from restora.training.procedures import restored

CASES: dict[str, dict[str, Any]] = {
    "fsrcnn x4, LR 24, b16": {"network": {"variant": "fsrcnn_x4"}, "task": {"kind": "sr", "scale": 4}, "data": {"patch": 24, "batch": 16}},
    "carn_m x4, LR 24, b16": {"network": {"variant": "carn_m"}, "task": {"kind": "sr", "scale": [4]}, "data": {"patch": 24, "batch": 16}},
    "drunet_s, 64, b16": {"network": {"variant": "drunet_s"}, "task": {"kind": "denoise", "sigma": [0, 75]}, "data": {"patch": 64, "batch": 16}},
}  # fmt: skip
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "sr x2 (carn_m, LR 24)": ("carn_m", {"task": {"kind": "sr", "scale": 2}, "data": {"patch": 24, "batch": 16}}),
    "denoise (drunet_s, 64)": (
        "drunet_s",
        {"task": {"kind": "denoise", "varying": 0.1}, "data": {"patch": 64, "batch": 16}},
    ),
    "dejpeg (recipe dejpeg_s)": ("", {"recipe": "dejpeg_s"}),
    "deblur (recipe nafnet_s, first part)": ("", {"recipe": "nafnet_s", "task": {"kind": "deblur", "size": [5, 31]}}),
    "resolution (recipe srrunet_s)": ("", {"recipe": "srrunet_s"}),
    "real (recipe realsr_x4)": ("", {"recipe": "realsr_x4"}),
}


def recipe_of(case: dict[str, Any], **changes: Any) -> training.Recipe:
    """A recipe for a case."""
    return training.parse_recipe(
        {
            "name": "bench",
            "steps": 10**6,
            "schedule": {"kind": "constant"},
            "optimiser": {"lr": 1e-4},
            **case,
            **changes,
        }
    )


class Bare:
    """The loop as one would write it by hand: network, loss, fused Adam, moving average."""

    def __init__(self, recipe: training.Recipe, channels_last: bool = True, bf16: bool = False) -> None:
        torch.manual_seed(0)
        net = networks.create(recipe.network.variant, **recipe.network.config).train()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net, self.bf16 = net.to(memory_format=self.layout), bf16
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=1e-4, fused=True)
        self.mean = [p.detach().clone() for p in self.net.parameters()]

    def step(self, batch: training.Batch) -> float:
        """One step; the value of the loss, so that it is really computed."""
        x, y = (t.to(memory_format=self.layout) for t in (batch.input, batch.target))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            output = restored(self.net, training.Batch(x, y, batch.scale, batch.controls))
        loss = (output - y).abs().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.net.parameters()], 0.001)
        return float(loss.detach())


clock = time.perf_counter


def rates(variants: dict[str, Any], rounds: int, seconds: float) -> dict[str, float]:
    """Steps a second of functions that do one step, measured in turn; the best round of each."""
    best = dict.fromkeys(variants, 0.0)
    for step in variants.values():
        step()
    for _ in range(rounds):
        for name, step in variants.items():
            started, count = clock(), 0
            while clock() - started < seconds:
                step()
                count += 1
            best[name] = max(best[name], count / (clock() - started))
    return best


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument("--tables", default="123")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time instead of time: one thread on a busy machine"
    )
    chosen = parser.parse_args()
    global clock
    clock = time.process_time if chosen.cpu_time else time.perf_counter
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        if "1" in chosen.tables:
            against_bare(chosen, Path(folder))
        if "2" in chosen.tables:
            precisions(chosen, Path(folder))
        if "3" in chosen.tables:
            shares(chosen, Path(folder))


def trainer_of(recipe: training.Recipe, data: Path, folder: Path, threads: int) -> training.Trainer:
    """A trainer without held-out pictures."""
    return training.Trainer(recipe, data, None, folder, threads)


def against_bare(chosen: argparse.Namespace, folder: Path) -> None:
    """Table 1."""
    print(
        "| network and batch | bare loop, steps/s | restora.training, batch ready | ratio | with photographs | ratio |"
    )
    print("|---|---|---|---|---|---|")
    for name, case in CASES.items():
        recipe = recipe_of(case)
        trainer, bare = trainer_of(recipe, chosen.data, folder, chosen.threads), Bare(recipe)
        ready = trainer.pairs.batch(0)
        fed = trainer_of(recipe, chosen.data, folder, chosen.threads)
        feed = Prefetcher(fed.pairs.batch, 0, 10**6, recipe.data.prefetch)

        def ours(trainer: training.Trainer = trainer, batch: training.Batch = ready) -> None:
            assert not trainer._advance(batch)

        def drawn(trainer: training.Trainer = fed, feed: Prefetcher = feed) -> None:
            assert not trainer._advance(feed.batch(trainer.step))

        done = rates(
            {"bare": lambda b=bare, r=ready: b.step(r), "ours": ours, "drawn": drawn}, chosen.rounds, chosen.seconds
        )
        feed.close()
        print(
            f"| {name} | {done['bare']:.1f} | {done['ours']:.1f} | {done['ours'] / done['bare']:.2f} | {done['drawn']:.1f} | "
            f"{done['drawn'] / done['bare']:.2f} |",
            flush=True,
        )


def precisions(chosen: argparse.Namespace, folder: Path) -> None:
    """Table 2."""
    print(
        "\n| network and batch | float32, channels first | float32, channels last | bf16, channels last | bf16 / float32 first | / float32 last |"
    )
    print("|---|---|---|---|---|---|")
    for name in list(CASES)[1:]:
        recipe = recipe_of(CASES[name])
        batch = trainer_of(recipe, chosen.data, folder, chosen.threads).pairs.batch(0)
        loops = {"first": Bare(recipe, False), "last": Bare(recipe), "bf16": Bare(recipe, bf16=True)}
        done = rates({k: lambda v=v, b=batch: v.step(b) for k, v in loops.items()}, chosen.rounds, chosen.seconds)
        print(
            f"| {name} | {done['first']:.1f} | {done['last']:.1f} | {done['bf16']:.1f} | {done['bf16'] / done['first']:.2f} | "
            f"{done['bf16'] / done['last']:.2f} |",
            flush=True,
        )


def shares(chosen: argparse.Namespace, folder: Path) -> None:
    """Table 3."""
    print("\n| task | making a batch, ms of processor time | step, ms | share |")
    print("|---|---|---|---|")
    for name, (variant, case) in TASKS.items():
        if "recipe" in case:
            changes = {k: v for k, v in case.items() if k != "recipe"}
            raw = {**training.load_recipe(training.find_recipe(case["recipe"])).model_dump(mode="json"), **changes}
            recipe = training.parse_recipe(raw)
        else:
            recipe = recipe_of({"network": {"variant": variant}, **case}, precision="bf16")
        trainer = trainer_of(recipe, chosen.data, folder, chosen.threads)
        times: list[tuple[float, float]] = []
        for step in range(4 + 4 * chosen.rounds):
            tick = time.thread_time()
            batch = trainer.pairs.batch(step)
            made, tick = time.thread_time() - tick, clock()
            trainer._advance(batch)
            times.append((made, clock() - tick))
        made = sorted(t[0] for t in times[4:])[len(times[4:]) // 2]
        taken = min(t[1] for t in times[4:])
        print(f"| {name} | {1e3 * made:.1f} | {1e3 * taken:.0f} | {made / taken:.0%} |", flush=True)


if __name__ == "__main__":
    main()

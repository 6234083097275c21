"""The training loop: step-based, resumable at every checkpoint, stopped cleanly by a time limit or Ctrl-C."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from restora import networks
from restora.degradation import luma, resize
from restora.engine.process import keep_freed_memory, set_threads
from restora.errors import RecipeError
from restora.evaluation import psnr
from restora.io import atomic_path
from restora.training.data import Pairs, Photographs, degrade
from restora.training.recipe import Recipe

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": lambda a, b: torch.sqrt((a - b) ** 2 + 1e-6).mean(),
}


class Trainer:
    """Trains a recipe in a folder of its own.

    The folder holds `recipe.yaml`, `log.jsonl` (a line a validation), `latest.pt` (everything that a resumed run
    needs) and, after each validation that was better than all before, `best.pt` (the averaged weights).

    Args:
        recipe: what to train. data: the folder of clean photographs. validation: a folder of others.
        folder: parent of the run's folder.
        threads: CPU threads; None means all cores.
        report: called with one dictionary a progress line.

    Raises:
        RecipeError: unusable data, or a run of another recipe in the same folder.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: str | Path,
        validation: str | Path,
        folder: str | Path,
        threads: int | None = None,
        device: str = "cpu",
        report: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        keep_freed_memory()
        self.threads = set_threads(threads)
        self.recipe, self.device, self.report = recipe, torch.device(device), report
        self.folder = Path(folder) / recipe.name
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        torch.manual_seed(recipe.seed)
        net = networks.create(recipe.network.variant)
        self._start_from(net, Path(folder))
        self.net = net.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = [p.detach().clone() for p in self.net.parameters()]
        self.optimiser = torch.optim.Adam(self._groups(), lr=recipe.optimiser.lr, betas=recipe.optimiser.betas)
        self.pairs = Pairs(Photographs(data, recipe.data.rescale, Pairs.smallest(recipe)), recipe)
        self.held_out = Photographs(validation)
        self._stop = False

    def _start_from(self, net: nn.Module, runs: Path) -> None:
        source = self.recipe.network.init_from
        if source is None:
            return
        path = runs / source / "best.pt"
        if not path.is_file():
            raise RecipeError(
                f"The recipe starts from the run '{source}', but there is no '{path}'; train that one first."
            )
        state = networks.unwrap(torch.load(path, map_location="cpu", weights_only=True))
        own = net.state_dict()
        skip = tuple(self.recipe.network.reinitialise)
        taken = {
            k: v for k, v in state.items() if k in own and own[k].shape == v.shape and not (skip and k.startswith(skip))
        }
        net.load_state_dict(taken, strict=False)

    def _groups(self) -> list[dict[str, Any]]:
        factors = self.recipe.optimiser.lr_factors
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.net.named_parameters():
            factor = next((f for prefix, f in factors.items() if name.startswith(prefix)), 1.0)
            groups.setdefault(factor, []).append(parameter)
        return [{"params": members, "factor": factor} for factor, members in groups.items()]

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self, resume: bool = False, time_limit: float | None = None) -> dict[str, Any]:
        """Trains until the recipe's last step, the time limit (seconds) or Ctrl-C; returns the last validation's line.

        A stopped run continues with `resume=True` and then equals one that was never stopped.
        """
        self._open(resume)
        started = time.monotonic()
        last: dict[str, Any] = {"step": self.step, "validation": self.best}
        previous = signal.signal(signal.SIGINT, lambda *_: setattr(self, "_stop", True)) if _in_main_thread() else None
        losses: list[Tensor] = []
        data_seconds = 0.0
        try:
            while self.step < self.recipe.steps and not self._stop:
                tick = time.perf_counter()
                low, clean = self.pairs.batch(self.step)
                data_seconds += time.perf_counter() - tick
                losses.append(self._step(low, clean))
                self.seconds += time.perf_counter() - tick
                due = self.step % self.recipe.validation.every == 0 or self.step == self.recipe.steps
                expired = time_limit is not None and time.monotonic() - started > time_limit
                if due:
                    mean = float(torch.stack(losses).mean())
                    if not math.isfinite(mean):
                        raise RecipeError(
                            f"The {self.recipe.loss} loss became {mean} before step {self.step}; the last good state is "
                            f"'{self.folder / 'latest.pt'}'. Lower optimiser.lr or set optimiser.clip, then --resume."
                        )
                    last = self._validated(mean, len(losses), data_seconds)
                    losses, data_seconds = [], 0.0
                if due or expired or self._stop:
                    self._save()
                if expired:
                    break
        finally:
            if previous is not None:
                signal.signal(signal.SIGINT, previous)
        if self._stop:
            self._save()
        return last

    def _step(self, low: Tensor, clean: Tensor) -> Tensor:
        recipe = self.recipe
        rate = learning_rate(recipe, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        low = low.to(self.device, memory_format=torch.channels_last)
        loss = _LOSSES[recipe.loss](self.net(low), clean.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.optimiser.clip is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), recipe.optimiser.clip)
        self.optimiser.step()
        self.step += 1
        # the average follows quickly at first, so that it never drags the random start along
        decay = min(recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.net.parameters()], 1 - decay)
        return loss.detach()

    # -- measuring --------------------------------------------------------------------------------------------------

    def _validated(self, loss: float, steps: int, data_seconds: float) -> dict[str, Any]:
        score, plain = self.validate()
        if score > self.best:
            self.best = score
            self._write("best.pt", {"params_ema": self.averaged_state(), "step": self.step, "validation": score})
        line = {
            "step": self.step,
            "steps": self.recipe.steps,
            "loss": round(loss, 6),
            "validation": round(score, 4),
            "bicubic": round(plain, 4),
            "best": round(self.best, 4),
            "lr": learning_rate(self.recipe, self.step),
            "seconds": round(self.seconds, 1),
            "steps_per_second": round(self.step / max(self.seconds, 1e-9), 2),
            "data_share": round(data_seconds / max(self.seconds / self.step * steps, 1e-9), 3),
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.report(line)
        return line

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Mean score of the averaged weights on the held-out photographs, and that of bicubic enlargement."""
        net = networks.create(self.recipe.network.variant)
        networks.load_state(net, self.averaged_state())
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        forward, name = self.recipe.degradation, self.recipe.validation.protocol
        scores, plain = [], []
        for image in self.held_out.images:
            height, width = (n - n % forward.scale for n in image.shape[:2])
            clean = torch.from_numpy(image[:height, :width]).permute(2, 0, 1)[None].float() / 255
            low = degrade(clean, forward.scale, quantise=True)
            if self.recipe.data.colour == "luma":
                clean, low = luma(clean), luma(low)
            scores.append(psnr(net(low), clean, protocol=name, scale=forward.scale))
            plain.append(psnr(resize(low, forward.scale), clean, protocol=name, scale=forward.scale))
        return float(np.mean(scores)), float(np.mean(plain))

    def averaged_state(self) -> dict[str, Tensor]:
        """The state dict with the averaged parameters (EMA) in place of the current ones."""
        names = [name for name, _ in self.net.named_parameters()]
        state = {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}
        state.update({name: mean.cpu().clone() for name, mean in zip(names, self.average, strict=True)})
        return state

    # -- state ------------------------------------------------------------------------------------------------------

    def _open(self, resume: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        record = self.folder / "recipe.yaml"
        latest = self.folder / "latest.pt"
        if latest.exists() and not resume:
            raise RecipeError(f"'{self.folder}' already holds a run; continue it with --resume or remove the folder.")
        if latest.exists():
            self._load(latest)
        record.write_text(yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8")

    def _save(self) -> None:
        self._write(
            "latest.pt",
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "params": self.net.state_dict(),
                "average": self.average,
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def _load(self, path: Path) -> None:
        saved = torch.load(path, map_location=self.device, weights_only=True)
        theirs, ours = saved["recipe"], self.recipe.model_dump(mode="json")
        changed = [k for k in ours if k not in ("steps", "description") and theirs.get(k) != ours[k]]
        if changed:
            raise RecipeError(
                f"'{path}' was trained by another recipe ({', '.join(changed)} differ); use another name or remove it."
            )
        self.step, self.seconds, self.best = saved["step"], saved["seconds"], saved["best"]
        self.net.load_state_dict(saved["params"])
        self.average = saved["average"]
        self.optimiser.load_state_dict(saved["optimiser"])

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with atomic_path(self.folder / name) as temporary:
            torch.save(content, temporary)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step: linear warm-up, then cosine down to `final` times the start."""
    warmup, base = recipe.schedule.warmup, recipe.optimiser.lr
    if step < warmup:
        return base * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, recipe.steps - warmup))
    return base * (recipe.schedule.final + (1 - recipe.schedule.final) * 0.5 * (1 + math.cos(math.pi * progress)))


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()

"""The training loop: step-based, resumable at every checkpoint to the bit, stopped cleanly by a time limit or Ctrl-C."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from restora import networks
from restora.engine.device import cpu_has_bf16
from restora.engine.process import keep_freed_memory, set_threads
from restora.errors import RecipeError
from restora.training import optimisers, procedures, state
from restora.training.batch import Batch
from restora.training.journal import Journal
from restora.training.prefetch import Prefetcher
from restora.training.procedures import Phase
from restora.training.processes import Processes
from restora.training.recipe import Recipe
from restora.training.sampler import Pairs
from restora.training.schedule import factor
from restora.training.start import find_weights, take_over
from restora.training.validation import Scores, Validator

_LOG_EVERY = 100  # steps between two lines of training losses
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains a recipe without stages in a folder of its own; `train` also runs stages and exports.

    The folder holds `recipe.yaml`; `log.jsonl` (a line for every 100 steps and for every validation); `latest.pt` (everything
    that a resumed run needs); `best.pt` (the averaged weights of the best validation); `sheet.png` (input, output and target
    of a few held-out pictures, at the latest validation) and `sheet_best.png`.

    Args:
        recipe: what to train. data: the folder of training pictures; folders by name for tasks with several sources; or an object
            with `crops(count, side, rng)`.
        validation: a folder of others; None trains without measuring (the last weights count as the best).
        folder: parent of the run's folder, where runs that it starts from are looked for too.
        threads: CPU threads; None means all cores. device: where the network runs, or the plumbing of several processes.
        report: called with a dictionary for every line of progress; its ``event`` is ``start``, ``progress`` (every half second),
            ``train`` and ``validation`` (as in the log), or ``recovered``.
        tensorboard: also write scalars for TensorBoard into the folder.
        cache: where decoded photographs are kept; `.photographs` beside the run's folder by default.

    Raises:
        RecipeError: unusable data or keys, a missing start, or a run of another recipe in the same folder.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: str | Path | Mapping[str, str | Path] | Any,
        validation: str | Path | None,
        folder: str | Path,
        threads: int | None = None,
        device: str | Processes = "cpu",
        report: Callable[[dict[str, Any]], None] = lambda line: None,
        tensorboard: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        if recipe.stages:
            raise RecipeError(f"The recipe '{recipe.name}' has stages; restora.training.train runs them.")
        keep_freed_memory()
        self.threads = set_threads(threads)
        self.recipe = recipe
        self.processes = Processes(device) if isinstance(device, str) else device
        self.device = self.processes.device
        self.precision = recipe.precision
        if recipe.precision == "bf16" and self.device.type == "cpu" and not cpu_has_bf16():
            self.precision = "float32"  # a CPU without instructions for it computes bf16 ten times as slowly
        self.taken: tuple[int, int] | None = None  # tensors that come from `network.init_from`, of how many
        self.folder = Path(folder) / recipe.name
        self.step, self.seconds, self.best, self.best_step = 0, 0.0, -math.inf, 0
        self.lr_factor, self.tries = 1.0, 0

        torch.manual_seed(recipe.seed)
        net = networks.create(recipe.network.variant, **recipe.network.config)
        colour = recipe.data.colour if recipe.data.colour != "auto" else net.spec.colour  # type: ignore[union-attr]
        keep = Path(cache) if cache is not None else Path(folder) / ".photographs"
        self.pairs = Pairs(recipe, data, str(colour), keep, self.processes.rank, self.processes.world)
        options = procedures.parse(recipe.procedure, recipe.options)
        self.procedure = procedures.find(recipe.procedure)(recipe, net, options, self.pairs)
        self._start_from([Path(folder), Path(folder).parent])
        self._place()
        self.phases = list(self.procedure.phases())
        self._check_phases()
        self._optimisers()
        self._average()

        self.validator: Validator | None = None
        if validation is not None:
            maker, wanted = self.pairs.maker, recipe.validation
            pictures = maker.held_out(Path(validation), wanted.pictures, wanted.crop)
            self.protocol = wanted.protocol or maker.protocol
            self.validator = Validator(pictures, self.procedure, self.protocol, str(colour))
        self.journal = Journal(self.folder, recipe.steps, self.processes, report, tensorboard)
        self._stop = False

    # -- setting up -------------------------------------------------------------------------------------------------

    @property
    def net(self) -> nn.Module:
        """The module that is measured and exported, with its current weights."""
        return self.modules[self.procedure.exported]

    def _start_from(self, runs: list[Path]) -> None:
        source = self.recipe.network.init_from
        if source is None:
            return
        net = self.procedure.modules()[self.procedure.exported]
        given = find_weights(source, runs)
        fitting = take_over(net, given, self.recipe.network.reinitialise)
        self.taken = fitting, len(net.state_dict())
        if not fitting:
            raise RecipeError(
                f"No tensor of '{source}' has a name and shape that {self.recipe.network.variant} has too."
            )

    def inherit(self, before: dict[str, dict[str, Tensor]]) -> None:
        """Takes over the modules of the stage before, as the procedure wants it; before the first step."""
        self.procedure.inherit(before)
        for name, twin in self.averages.items():
            twin.load_state_dict(self.modules[name].state_dict())

    def _place(self) -> None:
        """Everything on the device, convolutions with the channels last."""
        self.modules = self.procedure.modules()
        for module in [*self.modules.values(), *self.procedure.helpers()]:
            module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in self.modules.values():
            module.train()
        self.processes.same(self.modules.values())

    def _check_phases(self) -> None:
        for phase in self.phases:
            if unknown := [m for m in phase.modules if m not in self.modules]:
                raise RecipeError(
                    f"The phase '{phase.name}' trains '{unknown[0]}', which is no module of the procedure."
                )
        names = [phase.name for phase in self.phases]
        if unknown := [name for name in self.recipe.optimiser.phases if name not in names]:
            raise RecipeError(f"optimiser.phases names '{unknown[0]}', but the phases are {', '.join(names)}.")

    def _optimisers(self) -> None:
        self._parameters: dict[str, list[tuple[str, nn.Parameter]]] = {}
        self.keys, self.optimisers = {}, {}
        for phase in self.phases:
            keys = self.recipe.optimiser.of(phase.name, dict(phase.optimiser or {}))
            moved = [
                (name, p)
                for name, p in optimisers.named({m: self.modules[m] for m in phase.modules})
                if p.requires_grad and not self._frozen(name, self.recipe.steps)
            ]
            if not moved:
                raise RecipeError(f"The phase '{phase.name}' has nothing to train: network.freeze covers all of it.")
            self._parameters[phase.name] = moved
            self.keys[phase.name] = keys
            self.optimisers[phase.name] = optimisers.build(keys, moved)
        self._all = [p for _, p in optimisers.named(self.modules)]
        self._trainable = {id(p) for members in self._parameters.values() for _, p in members}
        self._thaws = sorted({steps for steps in self.recipe.network.freeze.values() if steps})
        self._learning: tuple[str, int] | None = None
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.precision == "fp16" and self.device.type == "cuda"
        )
        self._autocast = _TYPES.get(self.precision)

    def _frozen(self, name: str, step: int) -> bool:
        for prefix, until in self.recipe.network.freeze.items():
            if optimisers.concerns(prefix, name) and (until is None or step < until):
                return True
        return False

    def _average(self) -> None:
        """The moving averages: copies of the modules in eval mode, whose parameters follow."""
        self.averages: dict[str, nn.Module] = {}
        for name in self.procedure.averaged() if self.recipe.ema else ():
            twin = copy.deepcopy(self.modules[name]).eval().requires_grad_(False)
            self.averages[name] = twin

    # -- the loop ---------------------------------------------------------------------------------------------------

    def run(self, resume: bool = False, time_limit: float | None = None) -> dict[str, Any]:
        """Trains until the recipe's last step, the time limit (seconds) or Ctrl-C; returns the last validation's line.

        A stopped run, also one that was killed, continues with `resume=True` from its last checkpoint and then equals one
        that was never stopped, on the same machine with the same number of threads.
        """
        self._open(resume)
        if self.step >= self.recipe.steps:
            return self._last_line()
        started, saved = time.monotonic(), time.monotonic()
        last = self._last_line()
        feed = self._feed()
        handler = signal.signal(signal.SIGINT, lambda *_: self.stop()) if _in_main_thread() else None
        try:
            while self.step < self.recipe.steps and not self._stop:
                tick, worked, used = time.perf_counter(), feed.work, time.process_time()
                batch = feed.batch(self.step)
                waited = time.perf_counter() - tick
                if bad := self._advance(batch):
                    self._recover(bad)
                    feed.close()
                    feed = self._feed()
                    continue
                elapsed = time.perf_counter() - tick
                self.seconds += elapsed
                self.journal.tick(elapsed, waited, feed.work - worked, time.process_time() - used)
                self.journal.progress(self.step, self._rate())
                if self.step % _LOG_EVERY == 0 or self.step == self.recipe.steps:
                    self.journal.losses(self.step, self._rate(), self.seconds)
                due = self.step % self.recipe.validation.every == 0 or self.step == self.recipe.steps
                if due:
                    last = self._validated()
                expired = time_limit is not None and time.monotonic() - started > time_limit
                expired = self.processes.any(expired or self._stop) if self.processes.world > 1 else expired
                points = self.recipe.checkpoints
                old = time.monotonic() - saved > 60 * points.minutes
                if due or expired or self._stop or old or (points.every and self.step % points.every == 0):
                    self._save()
                    saved = time.monotonic()
                if expired:
                    break
        finally:
            feed.close()
            self.journal.close()
            if handler is not None:
                signal.signal(signal.SIGINT, handler)
        return last

    def stop(self) -> None:
        """Asks the loop to end after the step that it is at, with a checkpoint; may be called from another thread."""
        self._stop = True

    def _rate(self) -> float:
        return self.recipe.optimiser.lr * factor(self.recipe, self.step) * self.lr_factor

    def _feed(self) -> Prefetcher:
        return Prefetcher(self.procedure.batch, self.step, self.recipe.steps, self.recipe.data.prefetch)

    def _advance(self, batch: Batch) -> list[str]:
        """One step; returns the names of the loss terms that are not finite, in which case nothing was changed by them."""
        batch = batch.to(self.device)
        self.procedure.before_step(self.step)
        rate = factor(self.recipe, self.step) * self.lr_factor
        chunks = batch.chunk(self.recipe.optimiser.accumulate)
        for phase in self.phases:
            if self.step < phase.first or self.step % phase.every:
                continue
            for _ in range(phase.repeat):
                if bad := self._phase(phase, chunks, len(batch), rate):
                    return bad
        if self.scaler.is_enabled():
            self.scaler.update()
        self.procedure.after_step(self.step)
        self.step += 1
        self._follow()
        return []

    def _phase(self, phase: Phase, chunks: list[Batch], total: int, rate: float) -> list[str]:
        self._set_learning(phase)
        optimiser = self.optimisers[phase.name]
        for group in optimiser.param_groups:
            group["lr"] = self.keys[phase.name].lr * rate * group["factor"]
        optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for chunk in chunks:
            with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None):
                terms = phase.loss(chunk, self.step)
            if not terms:
                return []
            share = len(chunk) / total
            loss = torch.stack([term.float() for term in terms.values()]).sum() * share
            self.scaler.scale(loss).backward()
            for name, term in terms.items():
                value = term.detach().float() * share
                sums[name] = sums[name] + value if name in sums else value
        if bad := self._noted(phase, sums):
            return bad
        members = [p for _, p in self._parameters[phase.name]]
        self.processes.average(p.grad for p in members if p.grad is not None)
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimiser)
        optimisers.bound(self.keys[phase.name], members)
        self.scaler.step(optimiser)
        return []

    def _noted(self, phase: Phase, sums: dict[str, Tensor]) -> list[str]:
        """Adds the terms to the log's sums; returns the names of those that are not finite, on any process."""
        values = torch.stack(list(sums.values())).tolist()
        several = len(self.phases) > 1
        bad = [name for name, value in zip(sums, values, strict=True) if not math.isfinite(value)]
        if self.processes.world > 1 and self.processes.any(bool(bad)):
            return bad or ["another process's loss"]
        if not bad:
            names = [f"{phase.name}.{name}" if several else name for name in sums]
            self.journal.add(dict(zip(names, values, strict=True)))
        return bad

    def _set_learning(self, phase: Phase) -> None:
        """Only the phase's own weights that are not frozen ask for a gradient."""
        thawed = sum(self.step >= s for s in self._thaws)
        if self._learning == (phase.name, thawed):
            return
        self._learning = (phase.name, thawed)
        for p in self._all:
            p.requires_grad_(False)
        for name, p in self._parameters[phase.name]:
            p.requires_grad_(not self._frozen(name, self.step))

    @torch.no_grad()
    def _follow(self) -> None:
        # the average follows quickly at first, so that it never drags the random start along
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for name, twin in self.averages.items():
            torch._foreach_lerp_(
                list(twin.parameters()), [p.detach() for p in self.modules[name].parameters()], 1 - decay
            )

    def averaged(self, name: str | None = None) -> nn.Module:
        """A module (by default the exported one) with the averaged parameters and the current buffers, in eval mode; not a
        copy."""
        name = name or self.procedure.exported
        if name not in self.averages:
            return self.modules[name].eval()
        twin = self.averages[name]
        for theirs, ours in zip(twin.buffers(), self.modules[name].buffers(), strict=True):
            theirs.copy_(ours)
        return twin

    # -- measuring --------------------------------------------------------------------------------------------------

    def _validated(self) -> dict[str, Any]:
        """Measures, keeps the weights if they are the best so far, and writes the line."""
        net = self.averaged()
        line: dict[str, Any] = {"event": "validation", "step": self.step}
        better = True
        if self.validator is not None and self.processes.rank == 0:
            sheet = self.folder / "sheet.png" if self.recipe.validation.sheet else None
            with self._undisturbed():
                scores = self.validator.measure(net, self.device, sheet, self.recipe.validation.sheet)
                further = self.procedure.scores(net)
            better = scores.mean > self.best or self.procedure.keep == "last"
            if better:
                self.best, self.best_step = scores.mean, self.step
            line |= self._score_line(scores) | further
        else:
            self.best_step = self.step
        if better and self.processes.rank == 0:
            content = {"params_ema": self._weights(net), "step": self.step, "validation": self.best}
            state.save(self.folder / "best.pt", content)
            if (self.folder / "sheet.png").is_file():
                (self.folder / "sheet_best.png").write_bytes((self.folder / "sheet.png").read_bytes())
        self.modules[self.procedure.exported].train()
        self.processes.wait()
        self.journal.write(line)
        return line

    def _score_line(self, scores: Scores) -> dict[str, Any]:
        line: dict[str, Any] = {
            "validation": round(scores.mean, 4),
            "input": round(scores.mean_input, 4),
            "baseline": round(scores.mean_baseline, 4),
            "plain": scores.plain,
            "best": round(self.best, 4),
            "seconds": round(self.seconds, 1),
        }
        if len(scores.output) > 1:
            line["cases"] = {k: round(v, 4) for k, v in scores.output.items()}
        return line

    def validate(self) -> Scores:
        """Scores of the averaged weights now.

        Raises:
            RecipeError: the run has no held-out pictures.
        """
        if self.validator is None:
            raise RecipeError("The run has no held-out pictures to measure on.")
        with self._undisturbed():
            scores = self.validator.measure(self.averaged(), self.device)
        self.modules[self.procedure.exported].train()
        return scores

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Whatever a network draws at random while it is measured, the training does not notice."""
        before = state.random_state(self.device)
        torch.manual_seed(self.recipe.seed)
        try:
            yield
        finally:
            state.set_random_state(before, self.device)

    @staticmethod
    def _weights(module: nn.Module) -> dict[str, Tensor]:
        return {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}

    # -- state ------------------------------------------------------------------------------------------------------

    def _open(self, resume: bool) -> None:
        """Makes the folder or takes up what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        latest = self.folder / "latest.pt"
        if latest.exists() and not resume:
            raise RecipeError(f"'{self.folder}' already holds a run; continue it with --resume or remove the folder.")
        if latest.exists():
            self._load(latest)
        if self.processes.rank == 0:
            from restora.io.atomic import remove_stale

            remove_stale(self.folder)
            text = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
            (self.folder / "recipe.yaml").write_text(text, encoding="utf-8")
            self.journal.open(self.step if latest.exists() else None)
            facts = {"precision": self.precision, "asked": self.recipe.precision, "taken": self.taken}
            self.journal.report({"event": "start", "step": self.step, "steps": self.recipe.steps, **facts})
        self.processes.wait()
        if not latest.exists():
            self._save()  # a good state to go back to, from the first step on

    def _save(self) -> None:
        finite = all(bool(torch.isfinite(p).all()) for p in self._all)
        if self.processes.rank or not finite:
            return  # a state with NaN is not worth going back to; the next loss will say so
        state.save(
            self.folder / "latest.pt",
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "data": self.pairs.checksum,
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
                "best_step": self.best_step,
                "lr_factor": self.lr_factor,
                "tries": self.tries,
                "modules": {name: module.state_dict() for name, module in self.modules.items()},
                "averaged_modules": {name: self.averaged(name).state_dict() for name in self.averages},
                "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
                "scaler": self.scaler.state_dict(),
                "procedure": self.procedure.state(),
                "random": state.random_state(self.device),
                **self.journal.state(),
            },
        )

    def _load(self, path: Path) -> None:
        saved = state.load(path, self.device)
        theirs, ours = saved["recipe"], self.recipe.model_dump(mode="json")
        free = ("steps", "description", "budget", "validation", "checkpoints", "recovery")
        changed = [k for k in ours if k not in free and theirs.get(k) != ours[k]]
        if changed:
            raise RecipeError(
                f"'{path}' was trained by another recipe ({', '.join(changed)} differ); use another name or remove it."
            )
        if saved["data"] != self.pairs.checksum:
            raise RecipeError(
                f"'{path}' was trained on other pictures than those given now; use another name or remove it."
            )
        self._restore(saved)
        self.tries = saved["tries"]

    def _restore(self, saved: dict[str, Any]) -> None:
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.best, self.best_step, self.lr_factor = saved["best"], saved["best_step"], saved["lr_factor"]
        for name, module in self.modules.items():
            module.load_state_dict(saved["modules"][name])
        for name, twin in self.averages.items():
            twin.load_state_dict(saved["averaged_modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        self.procedure.load_state(saved["procedure"])
        state.set_random_state(saved["random"], self.device)
        self.journal.load_state(saved)

    def _recover(self, bad: list[str]) -> None:
        """Back to the last good state with a lower rate; after too many tries, an end that names the loss."""
        what, where = " and ".join(bad), f"'{self.folder / 'latest.pt'}'"
        self.tries += 1
        failed, tries = self.step, self.tries
        if tries > self.recipe.recovery.tries:
            raise RecipeError(
                f"The loss term {what} was no finite number in step {failed + 1}, also after {tries - 1} tries with lower rates; "
                f"the last good state is {where}. Lower optimiser.lr or set optimiser.clip."
            )
        lowered = self.lr_factor * self.recipe.recovery.factor
        self._restore(state.load(self.folder / "latest.pt", self.device))
        self.lr_factor = lowered
        line = {
            "event": "recovered",
            "step": self.step,
            "failed": failed + 1,
            "terms": bad,
            "lr_factor": lowered,
            "try": tries,
        }
        self.journal.cut(self.step)
        self.journal.write(line)
        self._save()

    def _last_line(self) -> dict[str, Any]:
        line = self.journal.last_validation()
        return line or {"event": "validation", "step": self.step, "validation": self.best}


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

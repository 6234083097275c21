"""Runs models over a test set under a protocol, beside the rows that keep them honest; resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restora.errors import Cancelled, RestoraError, UsageError
from restora.evaluation import baselines as plain
from restora.evaluation import inputs, measures, safety
from restora.evaluation.cache import Cache
from restora.evaluation.diagnostics import brightness_bands
from restora.evaluation.memory import PeakMemory
from restora.evaluation.metrics import mse, planes, psnr_of, ssim_of
from restora.evaluation.results import Benchmark, ImageScore, Kind, Row
from restora.evaluation.rules import Protocol, neighbours
from restora.evaluation.rules import protocol as find_protocol
from restora.evaluation.testsets import Pair, TestSet, open_test_set

if TYPE_CHECKING:
    from restora.engine import Settings
    from restora.restorers import Restorer

Report = Callable[[str, dict[str, Any]], None]


@dataclass
class _Run:
    """What stays the same over a benchmark."""

    rules: Protocol
    recipe: inputs.Recipe
    test_set: TestSet
    extra: tuple[str, ...]
    why: bool
    cache: Cache
    report: Report
    cancelled: Callable[[], bool]
    settings: Settings | None
    controls: dict[str, Any]


def bench(
    models: Sequence[str | Path | Restorer],
    data: str | Path,
    protocol: str,
    scale: int | None = None,
    *,
    task: str = "",
    sigma: float = 25.0,
    quality: int = 10,
    extra: Sequence[str] = (),
    why: bool = False,
    limit: int | None = None,
    output: str | Path | None = None,
    settings: Settings | None = None,
    report: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    **controls: Any,
) -> Benchmark:
    """Measures models on a folder of test pictures.

    Whole pictures go through in one piece by default, as the published protocols say. Rows for the degraded input, a
    picture of one colour and a plain method come first.

    Args:
        models: names, checkpoint files or restorers; may be empty for the baselines alone.
        data: a folder in a layout of `open_test_set`. protocol: a name of `protocols()`. scale: for super-resolution.
        task: overrides the protocol's. sigma, quality: of the inputs that are made (noise, JPEG) where the folder has none.
        extra: names of `measures.EXTRA`. why: also take SSIM under the neighbouring protocols, for `explain`.
        limit: only the first so many pictures; the table says so.
        output: where results, restored pictures and the cache go; nothing is written when None.
        settings: device, precision, tile. controls: further controls for models that have them.
        report: called with an event and data. cancelled: asked before each picture.

    Raises:
        UsageError: an unknown protocol, measure or layout, a wrong pair. Cancelled: on request; what is done is cached.
        A model that fails is named in its row and does not end the benchmark.
    """
    from restora.engine import Settings

    rules = find_protocol(protocol)
    task = task or rules.task
    if task == "video":  # frames are restored one by one until restorers of clips exist
        task = "super-resolution" if scale else "deblur"
    if task == "super-resolution" and scale is None:
        raise UsageError(f"The protocol '{rules.name}' needs the scale (--scale 4).")
    test_set = open_test_set(data, rules, task, scale)
    pairs = test_set.pairs[:limit]
    recipe = inputs.Recipe(task, scale or 1, sigma, quality)
    wanted = tuple(dict.fromkeys([*(m for m in rules.measures if m not in ("psnr", "ssim")), *extra]))
    notes = measures.check(wanted)
    run = _Run(
        rules,
        recipe,
        test_set,
        wanted,
        why,
        Cache(Path(output) if output is not None else None),
        report or (lambda event, data: None),
        cancelled or (lambda: False),
        settings or Settings(tile=0),
        {"scale": float(recipe.scale), "sigma": sigma, "quality": quality, **controls},
    )
    made = any(p.degraded is None for p in pairs)
    result = Benchmark(
        rules,
        test_set.name,
        test_set.checksum(),
        len(pairs),
        test_set.layout,
        recipe.label if made else "files",
        task,
        recipe.scale,
        [],
        notes,
        environment=_environment(run.settings),
        pairs=tuple(pairs),
        recipe=recipe,
    )
    if len(pairs) < len(test_set.pairs):
        result.notes.append(f"only the first {len(pairs)} of {len(test_set.pairs)} pictures")
    before: dict[str, list[ImageScore]] = {}
    for kind, name, function in plain.baselines(task):
        row = Row(name, kind, f"{name}/1")  # type: ignore[arg-type]
        _measure_row(run, row, pairs, _timed(function, recipe.scale), {}, before, result.notes)
        before[kind] = row.scores
        result.rows.append(row)
    for model in models:
        if str(model) == "bicubic" and task == "super-resolution":
            continue  # it is the baseline
        result.rows.append(_measure_model(run, model, pairs, before, result.notes))
    return result


_Function = Callable[[np.ndarray], tuple[np.ndarray, float | None, int | None]]


def _timed(function: Callable[[np.ndarray, int], np.ndarray], scale: int) -> _Function:
    def timed(image: np.ndarray) -> tuple[np.ndarray, float | None, int | None]:
        started = time.perf_counter()
        result = function(image, scale)
        return result, time.perf_counter() - started, None

    return timed


def _measure_model(
    run: _Run,
    model: str | Path | Restorer,
    pairs: Sequence[Pair],
    before: dict[str, list[ImageScore]],
    notes: list[str],
) -> Row:
    row = Row(str(getattr(model, "name", model)), "model")
    try:
        restorer = load(model, run.settings, run.recipe)
        row.name, row.fingerprint = restorer.name, restorer.fingerprint
        known = restorer.controls.model_fields
        controls = {k: v for k, v in run.controls.items() if k in known}
        warm = False

        def restore(image: np.ndarray) -> tuple[np.ndarray, float | None, int | None]:
            nonlocal warm
            if not warm:  # loading the weights is no part of a picture's time
                first = restorer(np.ascontiguousarray(image[:48, :48]), settings=run.settings, **controls)
                row.device, warm = first.report.device, True
            with PeakMemory(row.device if row.device.startswith("cuda") else "cpu") as peak:
                started = time.perf_counter()
                result = restorer(image, settings=run.settings, **controls)
                seconds = time.perf_counter() - started
            row.device, row.precision = result.report.device, result.report.precision
            return result.array, seconds, peak.bytes

        _measure_row(run, row, pairs, restore, controls, before, notes)
    except Cancelled:
        raise
    except RestoraError as error:
        row.error = str(error)
        row.scores.clear()  # a mean over some of the pictures would be compared with means over all
        run.report("failed", {"row": row.name, "error": row.error})
    return row


def load(model: str | Path | Restorer, settings: Settings | None, recipe: inputs.Recipe) -> Restorer:
    """The restorer that a benchmark runs."""
    from restora import restorers

    if isinstance(model, restorers.Restorer):
        return model
    how: dict[str, Any] = {"tile": 0}
    if settings is not None:
        how = {"device": settings.device, "precision": settings.precision, "tile": settings.tile}
    return restorers.load(model, scale=recipe.scale if recipe.task == "super-resolution" else None, **how)


def _measure_row(
    run: _Run,
    row: Row,
    pairs: Sequence[Pair],
    function: _Function,
    controls: dict[str, Any],
    before: dict[str, list[ImageScore]],
    notes: list[str],
) -> None:
    run.report("row", {"row": row.name, "images": len(pairs)})
    for number, pair in enumerate(pairs):
        if run.cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept and the same command goes on.")
        key = _key(run, row, pair, controls)
        score = run.cache.get(key, row, pair.name, pair.group, run.why)
        fresh = score is None
        if score is None:
            image, reference, said = inputs.pictures(pair, run.rules, run.recipe)
            notes += [f"{pair.name}: {note}" for note in said if f"{pair.name}: {note}" not in notes]
            output, seconds, memory = function(image)
            score = _score(run, row.kind, pair, image, reference, output)
            score.seconds, score.memory = seconds, memory
            score.flags += _suspicions(row.kind, score, {k: v[number] for k, v in before.items()})
            run.cache.put(key, row, score, output)
        row.scores.append(score)
        run.report("image", {"row": row.name, "number": number + 1, "cached": not fresh, **asdict(score)})


def _score(
    run: _Run, kind: Kind, pair: Pair, image: np.ndarray, reference: np.ndarray, output: np.ndarray
) -> ImageScore:
    rules, scale = run.rules, run.recipe.scale
    flags = []
    if output.shape[:2] != reference.shape[:2]:
        raise UsageError(
            f"'{pair.name}' came out at {output.shape[1]}x{output.shape[0]} pixels instead of "
            f"{reference.shape[1]}x{reference.shape[0]}: this restorer does not do the task {run.recipe.task} x{scale}."
        )
    if output.ndim == 2:
        output = output[..., None]
    if output.shape[2] != reference.shape[2] and reference.shape[2] == 1:
        output = output.mean(axis=2, keepdims=True)
    if not np.isfinite(output).all():
        raise UsageError(f"The result of '{pair.name}' holds NaN or infinity.")
    if kind == "model":
        if (share := safety.outside(output)) > 0.001:
            flags.append(f"{share:.1%} of the values lie far outside [0, 1] and were clipped: a wrong scale?")
        if np.ptp(output) == 0:
            flags.append("the result is one constant colour")
    elif kind == "input" and reference.shape == output.shape:
        flags += safety.check_pair(inputs.enlarged(image, scale), reference.astype(np.float32) / np.float32(255))
    output = np.clip(output, 0, 1)
    x, y = planes(output, reference, rules, scale)
    error = float(np.mean((x - y) ** 2))
    score = ImageScore(pair.name, pair.group, psnr_of(error), ssim_of(x, y), error, flags=flags)
    if kind in ("model", "baseline"):
        _further(run, score, image, output, reference)
        score.bands = [(b.share, b.psnr) for b in brightness_bands(output, reference, rules, scale)]
        score.nearby = _nearby(output, reference, rules, scale, run.why)
    elif kind == "input":
        _further(run, score, image, output, reference)
    return score


def _further(run: _Run, score: ImageScore, image: np.ndarray, output: np.ndarray, reference: np.ndarray) -> None:
    for name in run.extra:
        try:
            score.extra[name] = measures.take(name, output, reference, run.rules, run.recipe.scale, image)
        except UsageError as error:  # a picture too small for a measure does not end a benchmark
            score.flags.append(f"no {name}: {error}")


def _nearby(
    output: np.ndarray, reference: np.ndarray, rules: Protocol, scale: int, why: bool
) -> dict[str, tuple[float, float | None, float]]:
    found: dict[str, tuple[float, float | None, float]] = {}
    for phrase, other in neighbours(rules).items():
        if other.channel != rules.channel and reference.shape[2] == 1:
            continue
        try:
            if why:
                x, y = planes(output, reference, other, scale)
                error = float(np.mean((x - y) ** 2))
                found[phrase] = (psnr_of(error), ssim_of(x, y), error)
            else:
                error = mse(output, reference, other, scale)
                found[phrase] = (psnr_of(error), None, error)
        except UsageError:  # a border that leaves nothing of a small picture
            continue
    return found


def _suspicions(kind: Kind, score: ImageScore, before: dict[str, ImageScore]) -> list[str]:
    if kind != "model":
        return []
    reached = before["input"].psnr if "input" in before else None
    blank = before["constant"].psnr if "constant" in before else None
    return safety.check_score(score.psnr, score.ssim, reached, blank)


def _environment(settings: Settings | None) -> dict[str, str]:
    import platform

    import cv2
    import torch

    from restora import __version__

    facts = {"restora": __version__, "torch": torch.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    facts["python"], facts["machine"] = platform.python_version(), platform.machine()
    facts["threads"] = str(torch.get_num_threads())
    if settings is not None:
        facts["tile"] = "whole picture" if settings.tile == 0 else str(settings.tile or "chosen by the engine")
    return facts


def _key(run: _Run, row: Row, pair: Pair, controls: dict[str, Any]) -> str:
    settings = asdict(run.settings) if run.settings is not None and row.kind == "model" else {}
    settings.pop("threads", None)
    return run.cache.key(
        row=[row.kind, row.name if row.kind != "model" else "", row.fingerprint],
        controls=controls,
        settings=settings,
        protocol=asdict(run.rules),
        extra=run.extra,
        inputs=asdict(run.recipe) if pair.degraded is None else [run.recipe.task, run.recipe.scale],
        reference=run.cache.checksum(pair.reference),
        degraded=run.cache.checksum(pair.degraded),
    )

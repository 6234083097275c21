"""From a name or a path to a restorer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from restora import zoo
from restora.engine import Settings, check_settings
from restora.errors import UsageError
from restora.restorers.base import Restoration, Restorer
from restora.restorers.classical import CLASSICAL, ClassicalDenoiser
from restora.restorers.deconvolve import BEST, NETWORKS, Deconvolver, is_method, method_name
from restora.restorers.enhance import Enhancer
from restora.restorers.upscale import Bicubic, Source, Upscaler
from restora.restorers.zssr import ZeroShot

_TASKS = {
    "upscale": "super-resolution",
    "denoise": "denoise",
    "deblur": "deblur",
    "dejpeg": "dejpeg",
    "deconvolve": "deconvolve",
}
AUTO = "auto"  # the task that chooses the others
_BEST_CLASSICAL = "block_matching"  # the default where no trained denoiser is installed
_NAMES: dict[str, Callable[[Settings], Restorer]] = {
    "upscale": lambda settings: _from_cards(zoo.default_models("super-resolution"), settings),
    "bicubic": Bicubic,
    "zssr": ZeroShot,
    **{name: functools.partial(ClassicalDenoiser, name) for name in CLASSICAL},
}


def load(
    model: str | Path | None = None,
    *,
    task: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    threads: int | None = None,
    scale: int | None = None,
    method: str | None = None,
    keep_steps: str | Path | None = None,
    backend: str = "auto",
) -> Restorer:
    """A restorer by name.

    Args:
        model: a name of `restora.list_models()` (``fsrcnn_x4.restora``), a bare variant (``fsrcnn_x4``), a family or series
            (``fsrcnn``, ``realsr``: all its scales), ``upscale`` (the best for each scale), ``bicubic``, ``zssr``, or the path of
            a checkpoint, which is identified from its content; ``variant=path`` says what it is. None takes the default of
            `task`.
        task: ``auto``, ``upscale``, ``denoise``, ``deblur``, ``dejpeg`` or ``deconvolve``; only needed when `model` is None. For
            ``deconvolve``, `model` may also be a method's name, and `load("deconvolve", method="gddec")` is the same.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``. precision: ``auto``, ``float32``, ``bf16``, ``fp16``, ``int8``.
        tile: side of a tile in input pixels, 0 for none, None to let the engine choose.
        scale: which scale an ambiguous checkpoint is for.
        backend: what runs a network, one of `restora.engine.BACKENDS`; ``auto`` takes what `restora tune` found, else torch.
        method: of deconvolution, see `restorers.deconvolve.methods()`. keep_steps: folder for its intermediate pictures.

    Raises:
        UnknownModel, WeightsError, UsageError: with a sentence that says what to do.
    """
    settings = Settings(device, precision, tile, threads=threads, backend=backend)
    check_settings(settings)  # wrong names are refused before any work
    if task is not None and task != AUTO and task not in _TASKS and task not in _TASKS.values():
        raise UsageError(f"There is no task '{task}'; the tasks are {', '.join((AUTO, *_TASKS))}.")
    if task == AUTO:
        from restora.restorers.automatic import Automatic

        if model is not None:
            raise UsageError("The task auto chooses its models by itself; name another task for one of them.")
        return Automatic(settings)
    if "deconvolve" in (task, model):
        return _deconvolver(None if model == "deconvolve" else model, settings, method, keep_steps)
    if method is not None or keep_steps is not None:
        raise UsageError("A method and a folder for steps belong to the task deconvolve.")
    if model is None:
        if task is None:
            raise UsageError("Name a model or a task.")
        if _TASKS.get(task, task) == "denoise" and not zoo.list_models(task="denoise"):
            return ClassicalDenoiser(_BEST_CLASSICAL, settings)
        return _from_cards(zoo.default_models(_TASKS.get(task, task)), settings)
    if task != "dejpeg":  # the only task that gives a network made for another one a control more
        task = None
    name = str(model)
    if name in _NAMES:
        return _NAMES[name](settings)
    if isinstance(model, Path) or ("=" not in name and zoo.looks_like_path(name)) or Path(name).is_file():
        return _from_file(Path(model), settings, scale, task=task)
    variant, equals, path = name.partition("=")
    if equals and path:
        return _from_file(Path(path), settings, scale, variant, task)
    return _from_cards(_family(name) or [zoo.find(name)], settings, task)


def restore(
    picture: Any, task: str | None = None, model: str | Path | None = None, device: str = "auto", **controls: Any
) -> Restoration:
    """Restores one picture: `load` and call in one. Without a task and a model it looks what the picture needs (`Automatic`).

    >>> restore("old.jpg").save("new.jpg")  # doctest: +SKIP
    >>> restore("old.jpg", task="upscale", scale=2).save("new.png")  # doctest: +SKIP
    """
    if task is None and model is None:
        task = AUTO
    return load(model, task=task, device=device)(picture, **controls)


def _family(name: str) -> list[zoo.Card]:
    """The cards of a family called `name` (or `name.tag`), or of a model for several scales called so, the one with the largest
    scale last, unless a variant is called so."""
    members = [
        c
        for c in zoo.list_models()
        if name in (c.family, f"{c.family}.{c.tag}", c.series, c.series.partition(".")[0]) and c.variant != name
    ]
    tagged = [c for c in members if c.tag == "restora"] or members
    tagged.sort(key=lambda c: not c.name.startswith(c.family))  # not one that is named after its use
    return sorted(zoo.siblings(tagged[0]), key=lambda c: max(c.scales)) if tagged else []


def _deconvolver(
    model: str | Path | None, settings: Settings, method: str | None, keep_steps: str | Path | None
) -> Deconvolver:
    """A method by name, or the one that weights are for."""
    if model is None or is_method(str(model)):
        if model is not None and method is not None and method_name(str(model)) != method_name(method):
            raise UsageError(f"Two methods were named, {model} and {method}.")
        return Deconvolver(method or str(model or BEST), settings, keep_steps)
    found = load(
        model,
        device=settings.device,
        precision=settings.precision,
        tile=settings.tile,
        threads=settings.threads,
        backend=settings.backend,
    )
    if not isinstance(found, Deconvolver):
        raise UsageError(f"'{model}' is made for the task {found.task}, and takes no kernel.")
    if method is not None and method_name(method) != found.name:
        raise UsageError(f"'{model}' holds weights for {found.name}, not for {method}.")
    return Deconvolver(found.name, settings, keep_steps, network=found.network)


def _from_cards(cards: Sequence[zoo.Card], settings: Settings, task: str | None = None) -> Restorer:
    """The restorer of one model, or of several for different scales: where two have the same, the later one counts."""
    card = cards[-1]
    _refuse_parts(card.task, card.name, card.variant)
    if card.task != "super-resolution":
        source = Source(card.name, card.weights.sha256, functools.partial(zoo.load_network, card))
        if card.task == "deconvolve":
            return Deconvolver(card.family, settings, network=source)
        return Enhancer(card.name, source, settings, task)
    sources = {
        s: Source(c.name, c.weights.sha256, functools.partial(zoo.load_network, c)) for c in cards for s in c.scales
    }
    zoo.checked_path(card)  # a damaged file is reported before any picture is touched
    names = dict.fromkeys(source.name for source in sources.values())
    series = dict.fromkeys(c.series for c in cards if c.name in names)
    return Upscaler(card.name if len(names) == 1 else "+".join(series), sources, _usual(list(sources)), settings)


def _from_file(
    path: Path, settings: Settings, scale: int | None, variant: str | None = None, task: str | None = None
) -> Restorer:
    from restora.zoo.checkpoint import weights_sha256

    net, variant = zoo.identify_file(path, scale, variant)
    spec: Any = net.spec
    _refuse_parts(spec.task, str(path), variant)
    checksum = weights_sha256(path)
    if spec.task == "deconvolve":
        method = next(name for name in NETWORKS if variant.startswith(name))
        return Deconvolver(method, settings, network=Source(path.name, checksum, lambda: net))
    if spec.task != "super-resolution":
        return Enhancer(path.name, Source(path.name, checksum, lambda: net), settings, task)
    sources = {s: Source(path.name, checksum, lambda: net) for s in spec.scales}
    return Upscaler(path.name, sources, _usual(spec.scales), settings)


def _usual(scales: Sequence[int]) -> int:
    """The scale that is taken when none was asked: the largest, but of networks that go far beyond, 4."""
    return 4 if 4 in scales else max(scales)


def _refuse_parts(task: str, name: str, variant: str) -> None:
    if task in ("discriminator", "part"):
        raise UsageError(
            f"'{name}' holds {variant}, a part of a training or of a larger system: it restores no picture."
        )

"""From a name or a path to a restorer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from restora import zoo
from restora.engine import Settings, choose_device, choose_precision
from restora.errors import UsageError
from restora.restorers.base import Restoration, Restorer
from restora.restorers.enhance import Enhancer
from restora.restorers.upscale import Bicubic, Source, Upscaler

_TASKS = {"upscale": "super-resolution", "denoise": "denoise", "deblur": "deblur", "dejpeg": "dejpeg"}


def load(
    model: str | Path | None = None,
    *,
    task: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    threads: int | None = None,
    scale: int | None = None,
) -> Restorer:
    """A restorer by name.

    Args:
        model: a name of `restora.list_models()` (``fsrcnn_x4.restora``), a bare variant (``fsrcnn_x4``), a family
            (``fsrcnn``: all its scales), ``bicubic``, or the path of a checkpoint, which is identified from its content;
            ``variant=path`` says what it is.
            None takes the default of `task`.
        task: ``upscale``, ``denoise``, ``deblur`` or ``dejpeg``; only needed when `model` is None.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``. precision: ``auto``, ``float32``, ``bf16``, ``fp16``.
        tile: side of a tile in input pixels, 0 for none, None to let the engine choose.
        scale: which scale an ambiguous checkpoint is for.

    Raises:
        UnknownModel, WeightsError, UsageError: with a sentence that says what to do.
    """
    settings = Settings(device, precision, tile, threads=threads)
    choose_precision(precision, choose_device(device), half_safe=True)  # wrong names are refused before any work
    if task is not None and task not in _TASKS and task not in _TASKS.values():
        raise UsageError(f"There is no task '{task}'; the tasks are {', '.join(_TASKS)}.")
    if model is None:
        if task is None:
            raise UsageError("Name a model or a task.")
        return _from_cards(zoo.default_model(_TASKS.get(task, task)), settings, whole_family=True)
    name = str(model)
    if name == "bicubic":
        return Bicubic(settings)
    if isinstance(model, Path) or ("=" not in name and zoo.looks_like_path(name)) or Path(name).is_file():
        return _from_file(Path(model), settings, scale)
    variant, equals, path = name.partition("=")
    if equals and path:
        return _from_file(Path(path), settings, scale, variant)
    family = _family(name)
    return _from_cards(family or zoo.find(name), settings, whole_family=family is not None)


def restore(
    picture: Any, task: str = "upscale", model: str | Path | None = None, device: str = "auto", **controls: Any
) -> Restoration:
    """Restores one picture: `load` and call in one.

    >>> restore("old.jpg", task="upscale", scale=2).save("new.png")  # doctest: +SKIP
    """
    return load(model, task=task, device=device)(picture, **controls)


def _family(name: str) -> zoo.Card | None:
    """The card with the largest scale of a family called `name` (or `name.tag`), unless a variant is called so."""
    members = [c for c in zoo.list_models() if name in (c.family, f"{c.family}.{c.tag}") and c.variant != name]
    tagged = [c for c in members if c.tag == "restora"] or members
    return max(tagged, key=lambda c: max(c.scales), default=None)


def _from_cards(card: zoo.Card, settings: Settings, whole_family: bool) -> Restorer:
    if card.task != "super-resolution":
        return Enhancer(
            card.name, Source(card.name, card.weights.sha256, functools.partial(zoo.load_network, card)), settings
        )
    cards = zoo.siblings(card) if whole_family else [card]
    sources = {
        s: Source(c.name, c.weights.sha256, functools.partial(zoo.load_network, c))
        for c in sorted(cards, key=lambda c: c.name == card.name)
        for s in c.scales
    }
    zoo.checked_path(card)  # a damaged file is reported before any picture is touched
    name = f"{card.family}.{card.tag}" if len({s.name for s in sources.values()}) > 1 else card.name
    return Upscaler(name, sources, max(card.scales), settings)


def _from_file(path: Path, settings: Settings, scale: int | None, variant: str | None = None) -> Restorer:
    from restora.zoo.checkpoint import file_sha256

    net, variant = zoo.identify_file(path, scale, variant)
    spec: Any = net.spec
    if spec.task in ("discriminator", "part"):
        raise UsageError(
            f"'{path}' holds {variant}, a part of a training or of a larger system: it restores no picture."
        )
    checksum = file_sha256(path)
    if spec.task != "super-resolution":
        return Enhancer(path.name, Source(path.name, checksum, lambda: net), settings)
    sources = {s: Source(path.name, checksum, lambda: net) for s in spec.scales}
    return Upscaler(path.name, sources, max(spec.scales), settings)

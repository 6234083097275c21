"""Which restorers there are, what may be set on them, how fast they ran here; and the loaded ones.

Descriptions need the networks' specs, and so torch; they are kept in a file, so that the page need not wait for that import.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import statistics
import threading
import time
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restora import __version__
from restora.errors import RestoraError, UnknownModel
from restora.studio.store import Cache, read_json, write_json

if TYPE_CHECKING:
    from restora.networks.spec import Control
    from restora.restorers import Restorer

# name of a task here and on the command line -> of cards, title, advice
TASKS: dict[str, tuple[str, str, str]] = {
    "upscale": ("super-resolution", "Enlarge", "More pixels: for small pictures and for print."),
    "denoise": ("denoise", "Remove noise", "For grain and high ISO; set the noise level or let it be estimated."),
    "deblur": ("deblur", "Deblur", "For shake and motion whose path is not known, by networks trained for that."),
    "dejpeg": ("dejpeg", "Clean JPEG", "Removes the blocks and rings of strong compression."),
    "deconvolve": (
        "deconvolve",
        "Undo a known blur",
        "Needs the blur's kernel: drawn, picked as a motion, or estimated.",
    ),
}
_LOADED = 3  # restorers that are kept
_RECHECK = 5.0  # seconds after which it is looked whether a model was installed: reading the cards takes a while
_SPEEDS = 7  # measurements of a model that are kept
_FORMAT = 3  # of the kept descriptions
_METHOD_ADVICE = "For a blur whose kernel is known"
_CLASSICAL = {
    "dct": ("DCT denoiser", "Without weights: thresholds local cosine transforms. A good plain denoiser."),
    "tv": ("Total variation", "Without weights: keeps edges, flattens texture. Fast."),
    "nlm": ("Non-local means", "Without weights: averages what looks alike. Slow on large pictures."),
}


class Catalogue:
    """All restorers by name.

    Args:
        folder: where descriptions and speeds are kept. threads: of the loaded restorers, None for all cores.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder, self.threads = folder, threads
        self._lock = threading.RLock()
        self._loaded = Cache(_LOADED)  # each counts 1
        self._speeds: dict[str, list[float]] = read_json(folder / "speeds.json") or {}
        self._memory: dict[str, int] = read_json(folder / "memory.json") or {}
        self._described: tuple[str, list[dict[str, Any]]] = ("", [])
        self._asked = 0.0

    # what there is

    def models(self, task: str | None = None) -> list[dict[str, Any]]:
        """The fields of `schemas.Model` of every restorer, those of a task or all."""
        with self._lock:
            if time.monotonic() - self._asked > _RECHECK or not self._described[0]:
                key, self._asked = _fingerprint(), time.monotonic()
            else:
                key = self._described[0]
            if self._described[0] != key:
                kept = read_json(self.folder / "models.json")
                if not kept or kept.get("key") != key:
                    kept = {"key": key, "models": _describe_all()}
                    write_json(self.folder / "models.json", kept)
                self._described = (key, kept["models"])
            found = self._described[1]
        return [
            {**m, "seconds_per_megapixel": self.speed(m["name"]), "memory": self._memory.get(m["name"])}
            for m in found
            if task is None or m["task"] == task
        ]

    def model(self, name: str) -> dict[str, Any]:
        """One of them.

        Raises:
            UnknownModel: none of that name.
        """
        for model in self.models():
            if model["name"] == name:
                return model
        raise UnknownModel(
            f"There is no model called '{name[:80]}' in this studio; /api/models lists those that there are."
        )

    def tasks(self) -> list[dict[str, Any]]:
        """The fields of `schemas.Task`."""
        models = self.models()
        found = []
        for name, (_, title, advice) in TASKS.items():
            own = [m for m in models if m["task"] == name and m["installed"]]
            default = next((m["name"] for m in own if m["default"]), own[0]["name"] if own else None)
            if not own:
                advice += " No model for it is installed; `restora models import FILE` brings one."
            found.append({"name": name, "title": title, "advice": advice, "model": default, "models": len(own)})
        return found

    # loading

    def load(self, name: str) -> Restorer:
        """The restorer, loaded once; several threads may use it.

        Raises:
            UnknownModel: none of that name. WeightsError: it cannot be loaded.
        """
        model = self.model(name)
        return self._loaded.get(name, lambda: (_load(name, model["task"], self.threads), 1))

    # what was measured here

    def speed(self, name: str) -> float | None:
        """Median seconds for a megapixel of input in the last runs here, None before the first."""
        known = self._speeds.get(name)
        return round(statistics.median(known), 4) if known else None

    def ran(self, name: str, seconds: float, pixels: int) -> None:
        """Remembers how long a run took."""
        if pixels < 10_000:  # says more about the start than about the speed
            return
        with self._lock:
            self._speeds[name] = [*self._speeds.get(name, []), seconds / pixels * 1e6][-_SPEEDS:]
            write_json(self.folder / "speeds.json", self._speeds)

    def needs(self, name: str, restorer: Restorer, controls: dict[str, Any]) -> None:
        """Remembers the memory of a restorer's tiles; found once by a tiny run, which is why it is not done before use."""
        if name in self._memory:
            return
        from restora.engine import choose_device, tile_size

        try:
            operator = _operator(restorer, controls)
            if operator is None:
                return
            side = min(1024, tile_size(operator, choose_device("auto")))
            memory = int(operator.bytes_per_pixel() * side * side)
        except (RestoraError, RuntimeError, ValueError, TypeError):  # a figure to show, no reason to fail
            return
        with self._lock:
            self._memory[name] = memory
            write_json(self.folder / "memory.json", self._memory)


def _operator(restorer: Restorer, controls: dict[str, Any]) -> Any:
    """The first operator that the engine would run."""
    from restora.restorers import Deconvolver, Enhancer, Upscaler

    checked = restorer.check_controls(controls)
    if isinstance(restorer, Upscaler):
        passes = restorer.plan(checked).passes
        return restorer.operator(passes[0]) if passes else None
    if isinstance(restorer, Enhancer):
        return None if "auto" in controls.values() else restorer.operator(checked)[0]
    if isinstance(restorer, Deconvolver):
        return restorer.operators(checked)[0]
    return getattr(restorer, "operator", lambda _: None)(checked)


def loads_by_name(name: str) -> bool:
    """Whether `restora.load(name)`, and so the command line, knows a denoiser without weights by its name."""
    from restora.restorers import load

    try:
        load(name, task="denoise")
    except RestoraError:
        return False
    return True


def _load(name: str, task: str, threads: int | None) -> Restorer:
    from restora.engine import set_threads
    from restora.restorers import load

    if threads is not None:
        set_threads(threads)  # once: the number is the process's, not the run's
    if name in _CLASSICAL:
        from restora.restorers.classical import ClassicalDenoiser

        return ClassicalDenoiser(name)
    return load(name, task=task if task in ("deconvolve", "dejpeg") else None)


@functools.lru_cache(maxsize=1)
def _code() -> str:
    """A checksum of this file and of the folder of networks: descriptions made by other code are made again."""
    from restora import zoo

    root = Path(zoo.__file__).parent.parent
    places = [Path(__file__), root / "restorers", root / "networks", root / "solvers"]
    files = [f for p in places for f in (sorted(p.glob("*.py")) if p.is_dir() else [p])]
    return hashlib.sha256("".join(f"{f.name}{f.stat().st_mtime_ns}" for f in files).encode()).hexdigest()


def _fingerprint() -> str:
    """Changes with what is installed."""
    from restora import zoo

    cards = [(c.name, c.weights.sha256, c.default, _installed(c)) for c in zoo.list_models()]
    return hashlib.sha256(json.dumps([_FORMAT, __version__, _code(), cards]).encode()).hexdigest()


def _installed(card: Any) -> bool:
    from restora import zoo

    try:
        zoo.weight_path(card)
    except RestoraError:
        return False
    return True


def _describe_all() -> list[dict[str, Any]]:
    from restora import zoo
    from restora.restorers.upscale import UpscaleControls
    from restora.solvers.denoisers import DENOISERS

    task_of = {of_cards: name for name, (of_cards, _, _) in TASKS.items()}
    found = [_of_card(card, task_of[card.task]) for card in zoo.list_models() if card.task in task_of]
    found += _enlargers()
    found.append(
        _entry("bicubic", "Bicubic", "upscale", "The plain baseline that every model has to beat.", [1, 2, 3, 4, 8])
        | {"controls": _base_controls(UpscaleControls, scale=4)}
    )
    found += [_of_denoiser(name) for name in _CLASSICAL if name in DENOISERS]
    found += _methods()
    for task in TASKS:
        own = [m for m in found if m["task"] == task and m["installed"]]
        if own and not any(m["default"] for m in own):
            own[0]["default"] = True
    return [m for task in TASKS for m in found if m["task"] == task]


def _entry(name: str, title: str, task: str, advice: str, scales: list[int]) -> dict[str, Any]:
    """A restorer without weights."""
    return {
        "name": name,
        "title": title,
        "task": task,
        "advice": advice,
        "limits": "",
        "licence": "Apache-2.0",
        "scales": scales,
        "parameters": 0,
        "bundled": True,
        "installed": True,
        "default": False,
        "needs_kernel": False,
        "controls": [],
    }


def _of_card(card: Any, task: str) -> dict[str, Any]:
    from restora.restorers.enhance import DejpegControls, EnhanceControls
    from restora.restorers.upscale import UpscaleControls

    base = {"upscale": UpscaleControls, "dejpeg": DejpegControls}.get(task, EnhanceControls)
    usual = (4 if 4 in card.scales else max(card.scales)) if task == "upscale" else None
    controls = [_of_control(c) for c in _spec(card.variant).controls] + _base_controls(base, scale=usual)
    return _entry(card.name, card.title, task, card.advice, list(card.scales)) | {
        "limits": card.limits,
        "licence": card.licence,
        "parameters": card.parameters,
        "bundled": card.bundled,
        "installed": _installed(card),
        "default": card.default and task != "upscale",
        "controls": list({c["name"]: c for c in controls[::-1]}.values())[::-1],
    }


def _enlargers() -> list[dict[str, Any]]:
    """What `restora upscale` takes unasked, which are several models, each for its scales."""
    from restora import zoo
    from restora.restorers.upscale import UpscaleControls

    try:
        cards = [card for card in zoo.default_models("super-resolution") if _installed(card)]
    except UnknownModel:
        return []
    best = {scale: card for card in cards for scale in card.scales}
    used = list({card.name: card for card in best.values()}.values())
    advice = "The default: " + ", ".join(f"{best[scale].stem} for x{scale}" for scale in sorted(best)) + "."
    entry = _entry("upscale", "The best for each scale", "upscale", advice, sorted(best)) | {
        "limits": " ".join(dict.fromkeys(f"{card.limits}." for card in used if card.limits)),
        "parameters": sum(card.parameters for card in used),
        "controls": _base_controls(UpscaleControls, scale=4),
        "default": True,
    }
    return [entry] if best else []


def _spec(variant: str) -> Any:
    """What a network takes, without memory for its weights."""
    import torch

    from restora import networks

    try:
        with torch.device("meta"):
            return networks.create(variant).spec
    except (RuntimeError, NotImplementedError):  # it computes while it is built
        return networks.create(variant).spec


def _of_denoiser(name: str) -> dict[str, Any]:
    from restora.restorers.classical import ClassicalControls

    title, advice = _CLASSICAL[name]
    return _entry(name, title, "denoise", advice, [1]) | {
        "controls": _base_controls(ClassicalControls),
        "default": False,
    }


def _methods() -> list[dict[str, Any]]:
    """The methods that undo a known blur without weights, and those whose weights are here as cards (see `_of_card`)."""
    from restora.restorers.deconvolve import BEST, NETWORKS, DeconvolveControls, methods

    found = []
    for name, line in methods().items():
        if name in NETWORKS:
            continue
        title, _, how = line.partition(":")
        controls = _base_controls(DeconvolveControls, scale=1) + _options(name)
        advice = f"{_METHOD_ADVICE}:{how}." if how else f"{_METHOD_ADVICE}."
        found.append(
            _entry(name, title, "deconvolve", advice, [1])
            | {"controls": controls, "needs_kernel": True, "default": name == BEST}
        )
    return found


def _options(method: str) -> list[dict[str, Any]]:
    """The numbers and switches of a method, as controls ``options.NAME``."""
    from restora.restorers.our_nonblind import OurNonBlind
    from restora.solvers import solvers

    kind = OurNonBlind if method == OurNonBlind.name else solvers()[method]
    hints = typing.get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint = hints[field.name]
        type_ = {bool: "boolean", int: "integer", float: "number"}.get(hint)
        if typing.get_origin(hint) is typing.Literal and all(isinstance(c, str) for c in typing.get_args(hint)):
            type_ = "choice"
        if type_ is None or field.default is dataclasses.MISSING or field.default is None or field.name == "robust":
            continue
        shown = _shown(f"options.{field.name}", type_, field.default, field.name.replace("_", " "))
        shown["choices"] = list(typing.get_args(hint)) if type_ == "choice" else []
        found.append({**shown, "advanced": True})
    return found


# from a typed control to what a page draws


def _shown(name: str, type_: str, default: Any, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": type_,
        "default": default,
        "min": None,
        "max": None,
        "step": None,
        "choices": [],
        "description": description,
        "spatial": False,
        "auto": False,
        "required": False,
        "advanced": False,
    }


def _of_control(control: Control) -> dict[str, Any]:
    from restora.restorers.controls import AUTO, ESTIMATED

    types = {"float": "number", "int": "integer", "bool": "boolean"}
    auto = control.name in ESTIMATED
    required = control.default is None and not control.optional
    default = AUTO if auto and required else control.default  # what can be found from the picture need not be asked
    return _shown(control.name, types.get(control.kind, control.kind), default, control.description) | {
        "min": control.low,
        "max": control.high,
        "choices": list(control.choices),
        "spatial": control.spatial,
        "auto": auto,
        "required": required and not auto,
        "advanced": control.name == "seed",
    }


# of the restorers' own controls: the type where it cannot be seen from the annotation; None: not in a studio, because it names
# files or other models, or because the studio has its own way
_KINDS: dict[str, str | None] = {
    "kernel": "kernel", "method": None, "network": None, "enhancer": None, "options": None, "strength": None, "denoiser": None,
}  # fmt: skip
_ADVANCED = ("ensemble", "centre", "check", "linear", "seed", "robust")
_RANGES = {"sigma": (0, 100)}  # of a slider, where the control itself has none


def _base_controls(kind: Any, scale: int | None = None) -> list[dict[str, Any]]:
    found = []
    for name, field in kind.model_fields.items():
        if name in _KINDS and _KINDS[name] is None:
            continue
        parts = [field.annotation, *typing.get_args(field.annotation)]
        leaves = {p for part in parts for p in (part, *typing.get_args(part))}
        type_ = _KINDS.get(name) or (
            "boolean" if bool in leaves else "integer" if int in leaves and float not in leaves else "number"
        )
        default = None if field.is_required() else field.default
        shown = _shown(name, type_, scale if name == "scale" and default is None else default, field.description or "")
        low, high = _bounds(field)
        shown |= {"min": low, "max": high, "required": field.is_required(), "advanced": name in _ADVANCED}
        shown["auto"] = default == "auto" or "auto" in leaves
        if name in _RANGES and high is None:
            shown["min"], shown["max"] = _RANGES[name]
        found.append(shown)
    return found


def _bounds(field: Any) -> tuple[float | None, float | None]:
    """Lowest and highest value, from the field or from a part of its union."""
    places = [*field.metadata]
    for part in typing.get_args(field.annotation):
        for item in getattr(part, "__metadata__", ()):
            places += [item, *getattr(item, "metadata", ())]
    low = next((p.ge for p in places if getattr(p, "ge", None) is not None), None)
    high = next((p.le for p in places if getattr(p, "le", None) is not None), None)
    return low, high

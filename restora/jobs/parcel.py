"""A restorer as bytes, weights included, for processes that have neither its files nor its cache."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from restora.engine import NetworkOperator, decisions, obey
from restora.errors import UsageError
from restora.restorers import Bicubic, Chain, Deconvolver, Enhancer, Restorer, Upscaler, ZeroShot
from restora.restorers.classical import ClassicalDenoiser
from restora.restorers.upscale import Source

# What each restorer was made of; the rest (typed controls, caches) it makes again by itself.
_PARTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    Upscaler: lambda r: (r.name, r.sources, r.scale, r.settings),
    Bicubic: lambda r: (r.settings,),
    ZeroShot: lambda r: (r.settings,),
    Enhancer: lambda r: (r.name, r.source, r.settings, r.task),
    ClassicalDenoiser: lambda r: (r.name, r.settings),
    Deconvolver: lambda r: (r.name, r.settings, r.keep_steps, r.label, r.network),
    Chain: lambda r: (r.steps,),
}


class _Held:
    """A network that is there already, as a `Source` loads it."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self) -> Any:
        return self.net


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.nets: dict[str, _Held] = {}

    def reducer_override(self, value: Any) -> Any:
        if type(value) in _PARTS:
            return type(value), _PARTS[type(value)](value)
        if isinstance(value, Source):
            if value.checksum not in self.nets:  # a network for several scales travels once
                self.nets[value.checksum] = _Held(value.load())
            return Source, (value.name, value.checksum, self.nets[value.checksum])
        return NotImplemented


def pack(restorer: Restorer, controls: dict[str, Any]) -> bytes:
    """A restorer, its controls, and how its networks are run here: all who get it shall give the same bytes.

    Raises:
        UsageError: it holds something that cannot travel.
    """
    if getattr(restorer, "keep_steps", None) is not None:
        raise UsageError("Steps are kept by one process only: leave out --workers and --executor.")
    file = io.BytesIO()
    try:
        _Packer(file).dump((restorer, controls, _decided(restorer, restorer.check_controls(controls))))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UsageError(f"'{restorer.name}' cannot work in other processes; leave out --workers ({error}).") from error
    return file.getvalue()


def unpack(parcel: bytes, threads: int | None = None) -> tuple[Restorer, dict[str, Any]]:
    """What `pack` was given, set to so many threads. Only for bytes that this program made: they can run code."""
    restorer, controls, decided = pickle.loads(parcel)
    obey(decided)
    if threads is not None:
        for each in (restorer, *(step for _, step in getattr(restorer, "steps", []))):
            each.settings = dataclasses.replace(each.settings, threads=threads)
    return restorer, controls


def _decided(restorer: Restorer, checked: Any, kind: Any = np.uint8) -> dict[str, Any]:
    """The engine's decisions for the networks of a restorer."""
    if isinstance(restorer, Chain):
        found: dict[str, Any] = {}
        for name, step in restorer.steps:  # which hand 16 bits to each other
            found |= _decided(step, step.check_controls(restorer._own(name, checked)), np.uint16)
        return found
    operators: list[Any] = []
    if isinstance(restorer, Upscaler):
        for scale in restorer.plan(checked).passes:
            operators.append(restorer.operator(scale, _known(restorer.operator(scale).spec, checked)))
    elif isinstance(restorer, Enhancer):
        operators.append(NetworkOperator(restorer.net, 1, _known(restorer.spec, checked)))
    return decisions(operators, restorer.settings, kind)


def _known(spec: Any, checked: Any) -> dict[str, Any]:
    """The controls that other programs of a network would be made for, and that are known before a picture is read."""
    values = {control.name: getattr(checked, control.name) for control in spec.controls}
    return {
        control.name: values[control.name]
        for control in spec.controls
        if isinstance(values[control.name], (bool, int, float)) or control.kind == "choice"
    }

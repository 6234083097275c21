"""A restorer as bytes, weights included, for processes that have neither its files nor its cache."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from typing import Any

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
    """A restorer and its controls.

    Raises:
        UsageError: it holds something that cannot travel.
    """
    if getattr(restorer, "keep_steps", None) is not None:
        raise UsageError("Steps are kept by one process only: leave out --workers and --executor.")
    file = io.BytesIO()
    try:
        _Packer(file).dump((restorer, controls))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UsageError(f"'{restorer.name}' cannot work in other processes; leave out --workers ({error}).") from error
    return file.getvalue()


def unpack(parcel: bytes, threads: int | None = None) -> tuple[Restorer, dict[str, Any]]:
    """What `pack` was given, set to so many threads. Only for bytes that this program made: they can run code."""
    restorer, controls = pickle.loads(parcel)
    if threads is not None:
        for each in (restorer, *(step for _, step in getattr(restorer, "steps", []))):
            each.settings = dataclasses.replace(each.settings, threads=threads)
    return restorer, controls

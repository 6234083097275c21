"""Values that can be written down: a class with fields becomes a plain dict and back, by its name.

Everything that a degradation is made of (distributions, degradations, chains of them) is a `Spec`. A subclass lists its
fields with annotations and is a frozen dataclass without further ado; it is known to `from_dict` from then on.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import json
from typing import Any, ClassVar, dataclass_transform

import numpy as np
import torch
from torch import Tensor

from restora.errors import UsageError

_TENSOR = "tensor"


@dataclass_transform(frozen_default=True, eq_default=False)
class Spec:
    """Base of all values with a dict form. Two of them are equal when their dicts are."""

    _kinds: ClassVar[dict[str, type[Spec]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        if not cls.__name__.startswith("_"):
            Spec._kinds[cls.__name__] = cls

    def to_dict(self) -> dict[str, Any]:
        """`{"kind": class name, field: value, ...}`: JSON and YAML can hold it; tensors are kept to the bit."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"kind": type(self).__name__} | {k: encode(v) for k, v in values.items() if v is not None}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.to_dict() == self.to_dict()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __repr__(self) -> str:
        shown = []
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            default = f.default
            if isinstance(value, Tensor):
                shown.append(f"{f.name}=<{'x'.join(map(str, value.shape))}>")
            elif default is dataclasses.MISSING or not (value is default or value == default):
                shown.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def encode(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, Tensor):
        array = value.detach().cpu().float().numpy()
        data = base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
        return {"kind": _TENSOR, "shape": list(array.shape), "float32": data}
    if isinstance(value, (tuple, list)):
        return [encode(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(f"A {type(value).__name__} cannot be written into a degradation's description.")


def decode(value: Any) -> Any:
    """The inverse of `encode`; lists become tuples."""
    if isinstance(value, dict):
        if value.get("kind") == _TENSOR:
            return _tensor(value)
        return from_dict(value)
    if isinstance(value, (list, tuple)):
        return tuple(decode(v) for v in value)
    return value


def _tensor(value: dict[str, Any]) -> Tensor:
    try:
        data = np.frombuffer(base64.b64decode(value["float32"], validate=True), "<f4")
        return torch.from_numpy(data.reshape(value["shape"]).astype(np.float32))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError("A tensor in a degradation's description is damaged.") from error


def from_dict(data: Any) -> Any:
    """What `to_dict` described: a degradation or a distribution. A list is a chain of its members.

    Raises:
        UsageError: an unknown kind or field, or a value that the kind refuses.
    """
    if isinstance(data, (list, tuple)):
        data = {"kind": "Chain", "steps": data}
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise UsageError("A degradation is described by a mapping with a 'kind', or by a list of such mappings.")
    kind = Spec._kinds.get(data["kind"])
    if kind is None:
        near = difflib.get_close_matches(data["kind"], Spec._kinds, 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"There is no degradation or distribution called '{data['kind']}'.{hint}")
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(map(str, set(data) - fields - {"kind"}))
    if unknown:
        raise UsageError(f"{data['kind']} has no field '{unknown[0]}'; it has {', '.join(sorted(fields))}.")
    values = {name: decode(value) for name, value in data.items() if name != "kind"}
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"The description of {data['kind']} does not fit: {error}.") from error

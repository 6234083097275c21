"""Finds the network files, builds variants by name, and tells from a state dict which network it belongs to.

Every module of this package that defines `FAMILY` is a family of networks: one paper, one file. Nothing has to be
registered anywhere else.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from restora.errors import StateMismatch, UnknownArchitecture, UsageError

State = Mapping[str, Tensor]

# Where training programs hide the weights, in the order in which they are preferred (EMA first), and the
# prefixes that wrappers put before every key.
_WRAPPERS = (
    "params_ema",
    "params-ema",
    "model_state_dict",
    "state_dict",
    "params",
    "model",
    "net",
    "generator",
    "g_ema",
)
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator_ema.", "generator.")

_NUMBER = re.compile(r"[0-9]+")
_KEY_NAMES = Path(__file__).with_name("key_names.txt")


@dataclass(frozen=True)
class Family:
    """One paper's networks.

    `build(**config)` makes the module; `variants` maps names to configurations; `identify(state)` returns the
    configuration that a published state dict was made with, from keys and shapes alone, or None when the state is
    not of this family. A configuration may leave out what shapes cannot tell (FSRCNN's scale): then every variant
    that agrees with the rest is a candidate. `first_will_do` says that such candidates only differ in how the same
    weights are run (NAFNet's windowed pooling), so that a loader may take the first unasked.
    """

    name: str
    build: Callable[..., nn.Module]
    variants: Mapping[str, Mapping[str, Any]]
    identify: Callable[[State], dict[str, Any] | None]
    paper: str = ""
    first_will_do: bool = False


class Identified(NamedTuple):
    """The answer of `identify`. `variant` is the first of `candidates`, the variants that fit keys and shapes;
    it is "" when the configuration matches no named variant. Several candidates mean that the shapes cannot tell
    them apart, and a loader has to be told (by metadata, file name or the user)."""

    variant: str
    config: dict[str, Any]
    candidates: tuple[str, ...]
    family: str


@functools.cache
def families() -> dict[str, Family]:
    """All families by name, in alphabetical order of their files."""
    package = importlib.import_module(__package__)
    found = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        family = getattr(importlib.import_module(f"{__package__}.{module}"), "FAMILY", None)
        if family is not None:
            found[family.name] = family
    return found


@functools.cache
def _by_variant() -> dict[str, Family]:
    return {variant: family for family in families().values() for variant in family.variants}


def variants(pattern: str = "*") -> list[str]:
    """Names of the variants that match a shell pattern, sorted.

    >>> variants("fsrcnn_x*")
    ['fsrcnn_x2', 'fsrcnn_x3', 'fsrcnn_x4']
    """
    return sorted(fnmatch.filter(_by_variant(), pattern))


def family_of(variant: str) -> Family:
    """The family that a variant belongs to.

    Raises:
        UsageError: no such variant; the sentence lists the nearest names.
    """
    family = _by_variant().get(variant)
    if family is None:
        near = difflib.get_close_matches(variant, _by_variant(), n=4, cutoff=0.4)
        hint = f" Nearest: {', '.join(near)}." if near else ""
        raise UsageError(
            f"There is no network variant called '{variant}'.{hint} `restora.networks.variants()` lists all."
        )
    return family


def create(variant: str, **overrides: Any) -> nn.Module:
    """Builds a variant with freshly initialised weights, in eval mode. `overrides` replace parts of its configuration.

    Raises:
        UsageError: no such variant, or an override that it does not take.
    """
    family = family_of(variant)
    try:
        return family.build(**{**family.variants[variant], **overrides}).eval()
    except TypeError as error:
        raise UsageError(f"'{variant}' cannot be built with {overrides}: {error}.") from error


def unwrap(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The plain state dict inside a training checkpoint: wrapper keys opened, common prefixes removed.

    Raises:
        UnknownArchitecture: nothing in it looks like a state dict.
    """
    state: Any = checkpoint
    for _ in range(3):  # a wrapper in a wrapper is common, deeper ones are not
        key = next((k for k in _WRAPPERS if isinstance(state.get(k), Mapping)), None)
        if key is None and len(state) == 1 and isinstance(next(iter(state.values())), Mapping):
            key = next(iter(state))
        if key is None:
            break
        state = state[key]
    if state and all(isinstance(part, Mapping) for part in state.values()):  # a file of several networks, by number
        state = {f"{name}.{k}": v for name, part in state.items() for k, v in part.items()}
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UnknownArchitecture(
            "The file holds no tensors under any of the usual names, so it is no checkpoint of a network."
        )
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if all(k.startswith(prefix) for k in tensors):
                tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
                stripped = True
    return tensors


def identify(checkpoint: Mapping[str, Any]) -> Identified:
    """Names the network that a state dict belongs to, from keys and shapes alone.

    Raises:
        UnknownArchitecture: no family recognises it; the sentence lists the families whose keys are nearest.
    """
    state = unwrap(checkpoint)
    for family in families().values():
        config = family.identify(state)
        if config is None:
            continue
        known = _defaults(family)
        candidates = tuple(
            name
            for name, preset in family.variants.items()
            if all({**known, **preset}.get(key) == value for key, value in config.items())
        )
        return Identified(candidates[0] if candidates else "", config, candidates, family.name)
    near = ", ".join(_nearest(state))
    raise UnknownArchitecture(
        f"The checkpoint ({len(state)} tensors, first key '{next(iter(state))}') belongs to no network known here. "
        + (f"Nearest by key names: {near}." if near else "None has any key name in common with it.")
    )


def _defaults(family: Family) -> dict[str, Any]:
    import inspect

    signature = inspect.signature(family.build)
    return {p.name: p.default for p in signature.parameters.values() if p.default is not inspect.Parameter.empty}


def own_config(variant: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What of a network's arguments is not its variant's."""
    family = family_of(variant)
    usual = {**_defaults(family), **family.variants[variant]}
    return {name: value for name, value in arguments.items() if name not in usual or usual[name] != value}


def _nearest(state: State, count: int = 3) -> list[str]:
    """The first variants of the families that share most key names, numbers in them left aside."""
    names = {_NUMBER.sub("#", key) for key in state}
    scores = {family: len(names & own) / len(names | own) for family, own in _key_names().items()}
    ranked = sorted((family for family in scores if scores[family]), key=lambda family: -scores[family])[:count]
    return [next(iter(families()[family].variants)) for family in ranked]


@functools.cache
def _key_names() -> dict[str, frozenset[str]]:
    """Family -> its key names without numbers. They stand in a file, because building a network of every family takes
    seconds; one that the file does not have is built."""
    lines = _KEY_NAMES.read_text().splitlines() if _KEY_NAMES.is_file() else []
    known = {family: frozenset(names) for family, *names in map(str.split, lines)}
    return {name: known[name] if name in known else built_key_names(family) for name, family in families().items()}


def built_key_names(family: Family) -> frozenset[str]:
    """Key names without numbers of a family's first variant, built without memory."""
    with torch.device("meta"):
        return frozenset(_NUMBER.sub("#", key) for key in create(next(iter(family.variants))).state_dict())


def write_key_names() -> None:
    """Brings the file of key names up to date; to be called after a network's layers were renamed."""
    lines = [" ".join([name, *sorted(built_key_names(family))]) for name, family in families().items()]
    _KEY_NAMES.write_text("\n".join(lines) + "\n")


def load_state(net: nn.Module, checkpoint: Mapping[str, Any]) -> nn.Module:
    """Loads a state dict in the published layout, strictly, and returns the network.

    Tensors that the network shares under several names may be given once or under all of them. A network with more than
    one published layout has a method `convert_state(state)` that gives the others the names of its own.

    Raises:
        StateMismatch: names up to three keys that are missing, unexpected or wrongly shaped; nothing is loaded then.
    """
    state = dict(unwrap(checkpoint))
    if (convert := getattr(net, "convert_state", None)) is not None:
        state = dict(convert(state))
    own = net.state_dict(keep_vars=True)
    first_name: dict[int, str] = {}
    for key, tensor in own.items():
        first = first_name.setdefault(id(tensor), key)
        if key == first:
            continue
        if key not in state and first in state:
            state[key] = state[first]
        elif key in state and first in state and not torch.equal(state[key], state[first]):
            raise StateMismatch(
                f"'{key}' and '{first}' are one shared tensor in this network, but the checkpoint holds two different ones."
            )
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or unexpected or shapes:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing ({', '.join(missing[:3])})")
        if unexpected:
            parts.append(f"{len(unexpected)} unexpected ({', '.join(unexpected[:3])})")
        if shapes:
            listed = ", ".join(f"{k}: {tuple(state[k].shape)} instead of {tuple(own[k].shape)}" for k in shapes[:3])
            parts.append(f"{len(shapes)} of another shape ({listed})")
        raise StateMismatch(f"The checkpoint does not fit {type(net).__name__}: {'; '.join(parts)}.")
    net.load_state_dict(state, strict=True)
    return net


def shared_keys(net: nn.Module) -> set[str]:
    """Keys of the state dict that repeat a tensor already listed under an earlier key."""
    seen: set[int] = set()
    repeated = set()
    for key, tensor in net.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            repeated.add(key)
        seen.add(id(tensor))
    return repeated

"""What every backend is given, and what it gives back."""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import restora.networks
from restora.errors import EngineError
from restora.io import cache_folder
from restora.networks.picture_statistics import taking
from restora.networks.spec import Control, NetworkSpec

_SLACK = 1e-4
_LEVEL = 10.0  # of a map in an example: a noise level on the 0-255 scale, or the number of a region
_CHECKSUMS: weakref.WeakKeyDictionary[nn.Module, tuple[object, str]] = weakref.WeakKeyDictionary()


class Call(nn.Module):
    """A network as runtimes take it: tensors in, a tensor out, everything else fixed.

    Controls that may also be maps are inputs, `B x 1 x H x W`, so that another noise level is no other program. Statistics of the
    whole picture are inputs too, where the network is run on tiles of it.

    Args:
        net: the network. controls: its controls, numbers or maps. statistics: see `picture_statistics.given_values`.
    """

    def __init__(self, net: nn.Module, controls: Mapping[str, Any], statistics: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.net, self.statistics = net, tuple(statistics)
        spec: NetworkSpec = net.spec  # type: ignore[assignment]
        spatial = {c.name: c for c in spec.controls if c.spatial or c.kind == "regions"}
        self.inputs = tuple(
            name for name, value in controls.items() if isinstance(value, Tensor) or _is_level(spatial.get(name), value)
        )
        self.fixed = {name: value for name, value in controls.items() if name not in self.inputs}

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        restore = getattr(self.net, "restore", self.net)
        maps = dict(zip(self.inputs, rest, strict=False))
        with taking(rest[len(self.inputs) :]):
            return restore(x, **self.fixed, **maps)

    def tensors(self, x: Tensor, controls: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The inputs for a tile: the tile, each of `inputs` as a map of its size, the statistics."""
        shape = (x.shape[0], 1, *x.shape[-2:])
        values = (controls[name] for name in self.inputs)
        maps = (v.expand(shape) if isinstance(v, Tensor) else x.new_full(shape, float(v)) for v in values)
        return x, *maps, *self.statistics

    @property
    def key(self) -> str:
        """What distinguishes this call from others of the same network."""
        return repr((sorted(self.fixed.items(), key=str), self.inputs, [tuple(t.shape) for t in self.statistics]))

    @property
    def checksum(self) -> str:
        """Changes with the weights, the kind of network and what is fixed."""
        return _digest(weights_checksum(self.net), type(self.net).__qualname__, repr(self.net.spec), self.key)


def _is_level(control: Control | None, value: Any) -> bool:
    return control is not None and isinstance(value, (int, float)) and not isinstance(value, bool)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weights_checksum(net: nn.Module) -> str:
    """A checksum over names, shapes and values of a network's tensors; computed again when one has been written to."""
    state = net.state_dict(keep_vars=True)
    seen = tuple((t.data_ptr(), t._version if not t.is_inference() else 0) for t in state.values())
    known = _CHECKSUMS.get(net)
    if known is not None and known[0] == seen:
        return known[1]
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().data)
    _CHECKSUMS[net] = seen, digest.hexdigest()
    return digest.hexdigest()


@functools.cache
def code_checksum() -> str:
    """Changes with the networks' source: converted programs that are kept on disk must not outlive it."""
    digest = hashlib.sha256()
    folder = Path(restora.networks.__file__).parent
    for path in [*sorted(folder.glob("*.py")), *sorted(Path(__file__).parent.glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kept_file(kind: str, name: str) -> Path:
    """Where a file made for this machine is kept."""
    return cache_folder() / "engine" / kind / name


def keep(path: Path, write: Callable[[str], Any]) -> None:
    """Writes a file of the cache, and others of its stem that come with it. One that cannot be written is made again next
    time, so that is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            write(str(Path(folder) / path.name))
            for made in sorted(Path(folder).iterdir()):  # .bin before .xml
                made.replace(path.parent / made.name)
    except OSError:
        return


def example(call: Call, channels: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Inputs of a size, for tracing and for a first check."""
    x = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    return x, *(torch.full((1, 1, height, width), _LEVEL) for _ in call.inputs), *call.statistics


def check_sizes(spec: NetworkSpec, side: int, multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two sizes at which a program that shall hold for every size is compared with torch: `side`, and one that no decision of
    the network by its input's size takes for the same."""
    second = -(-max(2 * side, spec.pooling_window + 1) // multiple) * multiple
    return (side, side), (second, second + multiple)


def close(a: Tensor, b: Tensor) -> bool:
    """Whether a converted program gives what torch gives in float32, to 1e-4 of the output's range."""
    return a.shape == b.shape and float((a - b).abs().max()) <= _SLACK * max(1.0, float(b.abs().max()))


def first_line(error: BaseException) -> str:
    """The first line of what went wrong in the first place, without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__


class Session(Protocol):
    """A network made ready by a backend in one precision."""

    def __call__(self, *tensors: Tensor) -> Tensor | None:
        """The result as float32, or None where this backend cannot take such a tile; torch does it then."""


class Unsupported(EngineError):
    """A backend cannot express or run this network; the text says why."""

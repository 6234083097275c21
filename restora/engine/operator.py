"""A network as the engine calls it: float32 picture tensor in, restored picture tensor out, whatever the network's own
idea of colour and size is."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from restora.degradation import grey_to_luma, luma_to_grey, resize, rgb_to_ycbcr, ycbcr_to_rgb
from restora.engine import backends
from restora.errors import UsageError
from restora.networks.picture_statistics import given_values, seen
from restora.networks.spec import Control, NetworkSpec, Tiling, takes_scale

_BICUBIC_REACH = 2
_TINY = 32
_LUMA_GAIN = 255 / 219  # what luminance in studio range adds to each of red, green and blue
_COSTS: weakref.WeakKeyDictionary[nn.Module, dict[int, float]] = weakref.WeakKeyDictionary()


class Operator(Protocol):
    """What the engine can run: `1 x C x H x W` (C 1 or 3, sRGB in [0, 1]) -> `1 x C x s*H x s*W`."""

    scale: int
    tiling: Tiling
    multiple_of: int
    minimum: int
    half_safe: bool

    def __call__(self, x: Tensor) -> Tensor: ...
    def to(self, device: torch.device) -> Operator: ...
    def bytes_per_pixel(self) -> float: ...


class NetworkOperator:
    """A network of `restora.networks` at one scale.

    A network on luminance gets Y and leaves Cb and Cr to bicubic enlargement, as in the papers. A grey picture goes
    through a colour network as three equal channels. A network that wants its input enlarged beforehand gets it so.

    Args:
        net: the network, with its `spec`.
        scale: one of `spec.scales`; None is the only one.
        controls: values of the spec's controls; those not given have their default, or the middle of their range.
        maps: names of controls whose values come as further channels of the input, behind the picture's.
    """

    def __init__(
        self,
        net: nn.Module,
        scale: int | None = None,
        controls: dict[str, Any] | None = None,
        maps: tuple[str, ...] = (),
    ) -> None:
        self.net = net.eval()
        self.spec: NetworkSpec = net.spec  # type: ignore[assignment]
        if scale is None:
            scale = self.spec.scales[0]
        if scale not in self.spec.scales:
            raise UsageError(f"This network enlarges by {', '.join(map(str, self.spec.scales))}; {scale} was asked.")
        self.scale, self.maps = scale, maps
        self.controls = {**{c.name: _usual(c) for c in self.spec.controls}, **(controls or {})}
        self.multiple_of, self.minimum, self.half_safe = self.spec.multiple_of, self.spec.minimum, self.spec.half_safe
        if takes_scale(net):
            self.controls["scale"] = scale
        tiling = self.spec.tiling
        if self.spec.grid == "output" and scale > 1:  # what the network promises in its pixels, in the picture's
            tiling = Tiling(
                tiling.kind,
                -(-tiling.radius // scale) + _BICUBIC_REACH,
                tiling.window // math.gcd(tiling.window, scale),
            )
            self.multiple_of //= math.gcd(self.multiple_of, scale)
            self.minimum = -(-self.minimum // scale)
        elif self.spec.colour == "luma" and scale > 1 and tiling.radius < _BICUBIC_REACH:
            tiling = Tiling(tiling.kind, _BICUBIC_REACH, tiling.window)
        self.tiling = tiling
        self.backend, self.precision = "torch", "float32"
        self.photographs: Path | None = None

    def use(self, backend: str, precision: str, photographs: Path | None = None) -> NetworkOperator:
        """Lets a backend do the network's part (see `engine.backends`). Where it cannot take a tile, and while statistics of
        the whole picture are gathered, torch does it. `photographs` calibrate int8."""
        self.backend, self.precision, self.photographs = backend, precision, photographs
        return self

    def to(self, device: torch.device) -> NetworkOperator:
        """Moves the network (channels last, which convolutions on a CPU and on tensor cores prefer)."""
        self.net = self.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def _run(self, x: Tensor, maps: dict[str, Tensor] | None = None, half: torch.dtype | None = None) -> Tensor:
        """The network, in half precision where a type of it is given; what comes before and after is in float32."""
        if self.spec.grid == "output" and self.scale > 1:
            x = resize(x, self.scale)
        controls = {**self.controls, **(maps or {})}
        if self.backend != "torch" and (half is None) == (self.precision in ("float32", "int8")):
            y = self._by_backend(x, controls)
            if y is not None:
                return y
        restore = getattr(self.net, "restore", self.net)
        with torch.autocast(x.device.type, half, enabled=half is not None):
            return restore(x.contiguous(memory_format=torch.channels_last), **controls).float()

    def _by_backend(self, x: Tensor, controls: dict[str, Any]) -> Tensor | None:
        statistics = given_values()
        if statistics is None:  # they are being gathered
            return None
        call = backends.Call(self.net, controls, statistics)
        tensors = call.tensors(x, controls)
        if len(x) > 1 and self.backend != "compile":  # programs are made for one picture
            parts = [self._by_backend(x[n : n + 1], _nth(controls, n)) for n in range(len(x))]
            return None if any(p is None for p in parts) else torch.cat([p for p in parts if p is not None])
        return backends.session(call, self.backend, self.precision, tensors, self.photographs)(*tensors)

    def __call__(self, x: Tensor) -> Tensor:
        half = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
        with torch.autocast(x.device.type, enabled=False):  # bf16 has no room for the colours' own arithmetic
            return self._restored(x, half)

    def _restored(self, x: Tensor, half: torch.dtype | None) -> Tensor:
        count = x.shape[1] - len(self.maps)
        maps = {name: x[:, count + n : count + n + 1] for n, name in enumerate(self.maps)}
        x, grey = x[:, :count], count == 1
        if self.spec.colour == "luma":
            if grey:
                return luma_to_grey(self._run(grey_to_luma(x), maps, half))
            ycbcr = rgb_to_ycbcr(x)
            y = self._run(ycbcr[:, :1].contiguous(), maps, half)
            # Cb and Cr as what they add to red, green and blue, then enlarged: linear steps, the cheap ones first
            ycbcr[:, :1] = 0
            added = ycbcr_to_rgb(ycbcr)
            return (resize(added, self.scale) if self.scale > 1 else added).add_(y, alpha=_LUMA_GAIN)
        if self.spec.channels == 3:
            return self._grey_as_colour(x, maps, half) if grey else self._run(x, maps, half)
        # a grey network sees the colour planes one by one
        return torch.cat([self._run(plane, maps, half) for plane in x.split(1, dim=1)], dim=1)

    def _grey_as_colour(self, x: Tensor, maps: dict[str, Tensor], half: torch.dtype | None) -> Tensor:
        """Three equal channels, and their mean. Their noise is equal too, where a denoiser of colours expects it to be
        independent: to such a one it is as strong as sqrt(3) sigma. Stronger noise than it knows it sees in a darker picture."""
        known = next((control for control in self.spec.controls if control.name == "sigma"), None)
        if known is None:
            return self._run(x.expand(-1, 3, -1, -1), maps, half).mean(dim=1, keepdim=True)
        level = math.sqrt(3) * maps.get("sigma", self.controls["sigma"])
        highest = float(level.max() if isinstance(level, Tensor) else level)
        dark = 1.0 if known.high is None else min(1.0, known.high / max(highest, 1e-6))
        y = self._run(dark * x.expand(-1, 3, -1, -1), {**maps, "sigma": dark * level}, half)
        return y.mean(dim=1, keepdim=True) / dark

    def bytes_per_pixel(self) -> float:
        """Working memory in bytes for each input pixel, found by a run on a tiny picture, once for a network and scale: one
        and a half times the largest input plus output of any layer (libraries keep scratch), and the picture's own
        conversions. Measured on the networks here it is 0 to 30 % above the truth."""
        known = _COSTS.setdefault(self.net, {})
        if self.scale not in known:
            known[self.scale] = 1.5 * 4 * self._largest_layer()
        return known[self.scale] + 3 * 4 * 8 * (1 + self.scale**2)  # eight copies of the picture, in and out

    def _largest_layer(self) -> float:
        """Values in the input plus output of the largest layer, for each input pixel."""
        rule = math.lcm(self.multiple_of, self.tiling.window)
        side = -(-max(_TINY, self.minimum) // rule) * rule
        largest = 0

        def look(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal largest
            largest = max(largest, sum(t.numel() for t in (*inputs, output) if isinstance(t, Tensor)))

        hooks = [module.register_forward_hook(look) for module in self.net.modules()]
        place = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        backend, self.backend = self.backend, "torch"
        try:
            # the caller's random state stays: neither the sample nor a network that draws may move it
            with torch.inference_mode(), torch.random.fork_rng([place] if place.type == "cuda" else []):
                self._run(torch.rand(1, self.spec.channels, side, side, device=place))
        finally:
            self.backend = backend
            for hook in hooks:
                hook.remove()
        return largest / side**2


def _nth(controls: dict[str, Any], n: int) -> dict[str, Any]:
    """The controls of one picture of a batch."""
    return {name: v[n : n + 1] if isinstance(v, Tensor) and len(v) > 1 else v for name, v in controls.items()}


def _usual(control: Control) -> Any:
    """The default of a control; where it needs a value and has none, the middle of its range (for dry runs and checks)."""
    if control.default is not None or control.optional:
        return control.default
    if control.kind == "choice":
        return control.choices[0]
    middle = ((control.low or 0) + (control.high or 0)) / 2
    return int(middle) if control.kind == "int" else middle


class EnsembleOperator:
    """Geometric self-ensemble: the mean over the eight flips and quarter turns of the picture (Lim et al., CVPRW 2017)."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.scale, self.tiling, self.half_safe = operator.scale, operator.tiling, operator.half_safe
        self.multiple_of, self.minimum = operator.multiple_of, operator.minimum

    def to(self, device: torch.device) -> EnsembleOperator:
        self.operator = self.operator.to(device)
        return self

    def use(self, backend: str, precision: str, photographs: Path | None = None) -> EnsembleOperator:
        self.operator = self.operator.use(backend, precision, photographs)  # type: ignore[attr-defined]
        return self

    def bytes_per_pixel(self) -> float:
        return self.operator.bytes_per_pixel()

    def __call__(self, x: Tensor) -> Tensor:
        total: Tensor | None = None
        for turn in range(4):
            for mirrored in (False, True):

                def turned(t: Tensor, turn: int = turn, mirrored: bool = mirrored) -> Tensor:
                    t = torch.rot90(t, turn, (-2, -1))
                    return t.flip(-1) if mirrored else t

                with seen(turned):
                    y = self.operator(turned(x))
                y = torch.rot90(y.flip(-1) if mirrored else y, -turn, (-2, -1))
                total = y if total is None else total + y
        assert total is not None
        return total / 8

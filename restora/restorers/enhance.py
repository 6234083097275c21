"""Same-size restoration: denoising, deblurring, JPEG artefacts, by a network whose controls the user sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, create_model

from restora.degradation.estimate import noise_level
from restora.engine import NetworkOperator, Progress, Settings, run
from restora.errors import UsageError
from restora.io import Picture
from restora.networks.spec import Control, NetworkSpec
from restora.restorers.base import Controls, Report, Restorer
from restora.restorers.buffers import allocate
from restora.restorers.upscale import Source


class EnhanceControls(Controls):
    """What every same-size restorer has; those of the network are added to it by `controls_of`."""

    strength: float = Field(1.0, ge=0, le=1, description="1 takes the result, 0 keeps the input, between them a blend")
    ensemble: bool = Field(
        False, description="average over the eight flips and turns: eight times the work, slightly better"
    )


def controls_of(spec: NetworkSpec) -> type[EnhanceControls]:
    """The typed controls of a network, made from its spec."""
    fields: dict[str, Any] = {}
    for control in spec.controls:
        required = control.default is None
        bounds: dict[str, Any] = (
            {"ge": control.low, "le": control.high} if control.kind in ("float", "int") and not control.spatial else {}
        )
        described = Field(... if required else control.default, description=control.description, **bounds)
        fields[control.name] = (_type(control), described)
    return create_model("NetworkControls", __base__=EnhanceControls, **fields)


def _type(control: Control) -> Any:
    kinds: dict[str, Any] = {"float": float, "int": int, "bool": bool, "choice": str}
    return kinds[control.kind] | str | Path | np.ndarray if control.spatial else kinds[control.kind]


class Enhancer(Restorer):
    """A network that returns a picture of the same size.

    A control that may vary over the picture (a noise level) takes a number, or a map: a grey picture (path or array
    `H x W`) whose full range stands for the control's highest value. A sigma of ``auto`` is estimated from the picture.

    Args:
        name: shown in reports. source: where the network comes from. settings: device, precision, tile.
    """

    def __init__(self, name: str, source: Source, settings: Settings = Settings()) -> None:
        self.name, self.source, self.settings = name, source, settings
        self.net = source.load()
        self.spec: NetworkSpec = self.net.spec
        self.task = self.spec.task
        self.controls = controls_of(self.spec)  # type: ignore[misc]

    @property
    def fingerprint(self) -> str:
        return self.source.checksum

    def output_size(self, height: int, width: int, controls: Any) -> tuple[int, int]:
        return height, width

    def settled(self, controls: EnhanceControls, picture: Picture) -> tuple[EnhanceControls, list[str]]:
        """The controls with ``auto`` replaced by an estimate from the picture, and what was estimated, in words."""
        if not isinstance(asked := getattr(controls, "sigma", None), str) or asked != "auto":
            return controls, []
        sigma = noise_level(picture.filled())
        (control,) = (c for c in self.spec.controls if c.name == "sigma")
        sigma = round(min(sigma, control.high if control.high is not None else sigma), 2)
        return controls.model_copy(update={"sigma": sigma}), [f"Noise level estimated as {sigma:g} of 255."]

    def operator(self, controls: EnhanceControls) -> tuple[NetworkOperator, list[np.ndarray]]:
        """The engine's operator with these controls, and the maps that have to travel with the picture."""
        values: dict[str, Any] = {}
        maps: dict[str, np.ndarray] = {}
        for control in self.spec.controls:
            value = getattr(controls, control.name)
            if control.spatial and not isinstance(value, (int, float)):
                maps[control.name] = _map(value, control)
            else:
                values[control.name] = _bounded(value, control)
        return NetworkOperator(self.net, 1, values, tuple(maps)), list(maps.values())

    def restore(
        self,
        picture: Picture,
        controls: EnhanceControls,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        base = settings or self.settings
        how = Settings(base.device, base.precision, base.tile, controls.ensemble or base.ensemble, base.threads)
        transform = picture.colour_transform()
        decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
        controls, estimated = self.settled(controls, picture)
        operator, maps = self.operator(controls)
        source = picture.filled()
        if maps:
            source = _with_maps(source, maps, decode)
            decode = None
        target = allocate(picture.pixels.shape, picture.pixels.dtype)
        pixels, ran = run(operator, source, target, how, decode, encode, progress, cancelled)
        if controls.strength < 1:
            pixels = _blend(picture.pixels, pixels, controls.strength)
        size = (picture.height, picture.width)
        report = Report(
            self.name,
            self.fingerprint,
            1.0,
            (),
            size,
            size,
            ran.device,
            ran.precision,
            ran.tile,
            ran.tiles,
            time.monotonic() - started,
            {k: v if isinstance(v, (int, float, str)) else str(v) for k, v in controls},
            [*estimated, *ran.notes, *picture.notes],
        )
        return picture.replace(pixels=pixels, alpha=picture.alpha), report


def _bounded(value: Any, control: Control) -> Any:
    """The value of a control that is no map, within its range."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and not (control.low or 0) <= value <= (control.high if control.high is not None else float("inf")):
        raise UsageError(
            f"The control '{control.name}' lies between {control.low:g} and {control.high:g}; {value:g} was given."
        )
    if control.kind == "choice" and value not in control.choices:
        raise UsageError(f"The control '{control.name}' is one of {', '.join(control.choices)}, not '{value}'.")
    return value


def _map(value: Any, control: Control) -> np.ndarray:
    """A map `H x W`, float32, in the control's unit."""
    array = value if isinstance(value, np.ndarray) else Picture.open(value).pixels
    top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(array.dtype, 1.0)
    plane = array.astype(np.float32).reshape(*array.shape[:2], -1).mean(axis=2) / top
    return plane * np.float32(control.high if control.high is not None else 1.0)


def _with_maps(pixels: np.ndarray, maps: list[np.ndarray], decode: Callable | None) -> np.ndarray:
    """The picture in floating point with its maps as further channels, so that they are cut into the same tiles."""
    top = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(pixels.dtype, 1.0)
    picture = pixels.astype(np.float32) / np.float32(top)
    height, width = pixels.shape[:2]
    for plane in maps:
        if plane.shape != (height, width):
            raise UsageError(f"The map has {plane.shape[1]}x{plane.shape[0]} pixels and does not fit {width}x{height}.")
    return np.dstack([decode(picture) if decode is not None else picture, *maps])


def _blend(before: np.ndarray, after: np.ndarray, strength: float) -> np.ndarray:
    """`strength` of the result and the rest of the input, in the array's own type, row block by row block."""
    for top in range(0, len(after), 256):
        rows = slice(top, top + 256)
        mixed = before[rows] + (after[rows].astype(np.float32) - before[rows]) * np.float32(strength)
        integer = np.issubdtype(after.dtype, np.integer)
        after[rows] = np.rint(mixed).astype(after.dtype) if integer else mixed
    return after

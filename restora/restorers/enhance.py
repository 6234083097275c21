"""Same-size restoration: denoising, deblurring, JPEG artefacts, by a network whose controls the user sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from restora.degradation.estimate import jpeg_quality, jpeg_table_quality
from restora.degradation.flat_noise import noise_sigma
from restora.engine import NetworkOperator, Progress, Settings, run
from restora.errors import UsageError
from restora.io import Picture
from restora.networks import for_inference
from restora.networks.spec import NetworkSpec
from restora.restorers.base import Controls, Report, Restorer
from restora.restorers.buffers import allocate
from restora.restorers.controls import AUTO, check_size, controls_of, split, told, with_maps
from restora.restorers.upscale import Source


class EnhanceControls(Controls):
    """What every same-size restorer has; those of the network are added to them."""

    strength: float = Field(1.0, ge=0, le=1, description="1 takes the result, 0 keeps the input, between them a blend")
    ensemble: bool = Field(
        False, description="average over the eight flips and turns: eight times the work, slightly better"
    )


class DejpegControls(EnhanceControls):
    """Of restorers for JPEG artefacts. Most such networks were trained for one quality or for all and take no number: then
    the quality is only told."""

    quality: Annotated[int, Field(ge=1, le=100)] | Literal["auto"] | None = Field(
        None, description="quality that the picture was compressed with, 1 to 100; auto looks for its traces"
    )


class Enhancer(Restorer):
    """A network that returns a picture of the same size.

    A control that may vary over the picture (a noise level) takes a number, or a map: a grey picture (path or array
    `H x W`) whose full range stands for the control's highest value. A sigma or quality of ``auto`` is estimated.

    Args:
        name: shown in reports. source: where the network comes from. settings: device, precision, tile.
        task: what it is used for; what the network was made for when None. Only ``dejpeg`` makes a difference.
    """

    def __init__(self, name: str, source: Source, settings: Settings = Settings(), task: str | None = None) -> None:
        self.name, self.source, self.settings = name, source, settings
        self.net = for_inference(source.load())
        self.spec: NetworkSpec = self.net.spec  # type: ignore[assignment]
        self.task = task or self.spec.task
        base = DejpegControls if self.task == "dejpeg" else EnhanceControls
        self.controls = controls_of(self.spec, base)  # type: ignore[misc]

    @property
    def fingerprint(self) -> str:
        return self.source.checksum

    def output_size(self, height: int, width: int, controls: Any) -> tuple[int, int]:
        return height, width

    def settled(self, controls: EnhanceControls, picture: Picture) -> tuple[EnhanceControls, list[str]]:
        """The controls with ``auto`` replaced by an estimate from the picture, and what was estimated, in words.

        Raises:
            UsageError: the network needs a number, and the picture does not show it.
        """
        own = {control.name: control for control in self.spec.controls}
        found: dict[str, Any] = {}
        notes = []
        sigma = getattr(controls, "sigma", None)
        if isinstance(sigma, str) and sigma == AUTO:
            sigma, high = noise_sigma(picture.filled(), picture.metadata.quantisation), own["sigma"].high
            found["sigma"] = round(min(sigma, high if high is not None else sigma), 2)
            notes.append(f"Noise level estimated as {found['sigma']:g} of 255.")
        quality = getattr(controls, "quality", None)
        if quality == AUTO:
            try:
                quality, sentence = _quality(picture)
                notes.append(sentence)
            except UsageError as error:
                if "quality" in own:
                    raise
                quality = None
                notes.append(str(error))
            found["quality"] = quality
        if quality is not None and "quality" not in own:
            notes.append(f"{self.name} has no setting for the quality; it restores as it was trained to.")
        return controls.model_copy(update=found) if found else controls, notes

    def operator(self, controls: EnhanceControls) -> tuple[NetworkOperator, dict[str, np.ndarray]]:
        """The engine's operator with these controls, and the maps that have to travel with the picture."""
        values, maps = split(self.spec, controls)
        return NetworkOperator(self.net, 1, values, tuple(maps)), maps

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
        how = replace(base, ensemble=controls.ensemble or base.ensemble)
        transform = picture.colour_transform()
        decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
        controls, estimated = self.settled(controls, picture)
        operator, maps = self.operator(controls)
        source = picture.filled()
        grey = source.shape[2] == 3 and transform.is_identity and _is_grey(source)
        if grey:  # stays grey, and its noise is not taken for that of three channels
            source = source[..., :1]
        if maps:
            check_size(maps, *source.shape[:2])
            source = with_maps(source, self.spec, maps, decode)
            decode = None
        target = allocate((*picture.pixels.shape[:2], 1) if grey else picture.pixels.shape, picture.pixels.dtype)
        pixels, ran = run(operator, source, target, how, decode, encode, progress, cancelled)
        if grey:
            pixels = np.repeat(pixels, 3, axis=2)
        if controls.strength < 1:
            pixels = blended(picture.pixels, pixels, controls.strength)
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
            told(controls),
            [*estimated, *ran.notes, *picture.notes],
            backend=ran.backend,
        )
        return picture.replace(pixels=pixels, alpha=picture.alpha), report


def _is_grey(source: np.ndarray) -> bool:
    """Whether the three channels are the same everywhere; quick to say no."""
    for part in (source[:: max(1, len(source) // 16)], source):
        if not (np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 0], part[..., 2])):
            return False
    return True


def _quality(picture: Picture) -> tuple[int, str]:
    """The JPEG quality of a picture, and how it was found."""
    tables = picture.metadata.quantisation
    quality = jpeg_quality(picture.pixels, tables)
    if not tables:
        return quality, f"JPEG quality estimated as {quality} from the 8x8 blocks of the pixels."
    if quality == (of_file := jpeg_table_quality(tables)):
        return quality, f"JPEG quality {quality}, by the quantisation tables of the file."
    return quality, f"JPEG quality estimated as {quality} from the pixels; the file was saved again at {of_file}."


def blended(before: np.ndarray, after: np.ndarray, strength: float) -> np.ndarray:
    """`strength` of the result and the rest of the input, in the array's own type, row block by row block."""
    for top in range(0, len(after), 256):
        rows = slice(top, top + 256)
        mixed = before[rows] + (after[rows].astype(np.float32) - before[rows]) * np.float32(strength)
        integer = np.issubdtype(after.dtype, np.integer)
        after[rows] = np.rint(mixed).astype(after.dtype) if integer else mixed
    return after

"""Denoisers without weights as restorers: what every trained one has to beat, and what there is before one is installed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from restora.degradation.flat_noise import noise_sigma
from restora.engine import FunctionOperator, Progress, Settings, run
from restora.errors import UsageError
from restora.io import Picture
from restora.restorers.base import Report, Restorer
from restora.restorers.buffers import allocate
from restora.restorers.controls import AUTO, told
from restora.restorers.enhance import EnhanceControls, blended
from restora.solvers.denoisers import DENOISERS

# How far a pixel sees, and float32 planes of the picture that are held at once. Total variation sees as far as it has
# iterations; what comes from beyond 64 pixels is far below a grey level.
_COSTS = {
    "dct": (16, 60.0),
    "tv": (64, 12.0),
    "nlm": (16, 12.0),
    "block_matching": (48, 60.0),
    "bm3d": (64, 60.0),
}
CLASSICAL = tuple(_COSTS)


def _number(value: Any) -> Any:
    """A number that was written as text, as a command line has it."""
    if isinstance(value, str) and value != AUTO:
        try:
            return float(value)
        except ValueError as error:
            raise UsageError(f"sigma is a number from 0 to 255 or {AUTO}, not '{value}'.") from error
    return value


class ClassicalControls(EnhanceControls):
    """Of a denoiser without weights."""

    sigma: Annotated[
        Annotated[float, Field(ge=0, le=255)] | Literal["auto"], BeforeValidator(_number)
    ] = Field("auto", description="standard deviation of the noise, 0 to 255, or auto")  # fmt: skip


class ClassicalDenoiser(Restorer):
    """A denoiser of `solvers.denoisers` for pictures of any size.

    >>> ClassicalDenoiser("dct")("grainy.jpg", sigma=15).save("clean.png")  # doctest: +SKIP

    Args:
        method: ``dct``, ``tv``, ``nlm``, ``block_matching`` or ``bm3d``. settings: tile; these run on the CPU.

    Raises:
        UsageError: no such denoiser.
    """

    task = "denoise"
    controls = ClassicalControls

    def __init__(self, method: str = "dct", settings: Settings = Settings()) -> None:
        if method not in _COSTS:
            raise UsageError(f"There is no denoiser '{method}' that needs no weights; there are {', '.join(_COSTS)}.")
        self.name, self.settings = method, settings

    @property
    def fingerprint(self) -> str:
        return f"{self.name}/1"

    def output_size(self, height: int, width: int, controls: ClassicalControls) -> tuple[int, int]:
        return height, width

    def operator(self, controls: ClassicalControls) -> FunctionOperator:
        """The engine's operator for a settled sigma."""
        radius, planes = _COSTS[self.name]
        sigma = 10.0 if isinstance(controls.sigma, str) else controls.sigma
        return FunctionOperator(functools.partial(DENOISERS[self.name], sigma=sigma), radius, planes=planes)

    def restore(
        self,
        picture: Picture,
        controls: ClassicalControls,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        base = settings or self.settings
        how = Settings("cpu", "float32", base.tile, controls.ensemble or base.ensemble, base.threads)
        notes = []
        source = picture.filled()
        if isinstance(controls.sigma, str):
            controls = controls.model_copy(
                update={"sigma": round(noise_sigma(source, picture.metadata.quantisation), 2)}
            )
            notes.append(f"Noise level estimated as {controls.sigma:g} of 255.")
        transform = picture.colour_transform()
        decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
        target = allocate(source.shape, source.dtype)
        pixels, ran = run(self.operator(controls), source, target, how, decode, encode, progress, cancelled)
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
            [*notes, *ran.notes, *picture.notes],
        )
        return picture.replace(pixels=pixels), report

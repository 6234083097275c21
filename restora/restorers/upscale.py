"""Enlarging: networks of one family, chained to the scale that was asked, and the plain bicubic baseline."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from restora.engine import NetworkOperator, Progress, Settings, run
from restora.io import Picture
from restora.networks import for_inference
from restora.restorers.base import Controls, Report, Restorer
from restora.restorers.buffers import allocate, resample
from restora.restorers.controls import check_size, controls_of, split, told, with_maps
from restora.restorers.scaling import ScalePlan, plan_scale


class UpscaleControls(Controls):
    """`scale` may be any number from 1 to 32; what no network makes directly is chained and resampled."""

    scale: float | None = Field(None, ge=1, le=32, description="scale factor; the model's own when not given")
    ensemble: bool = Field(
        False, description="average over the eight flips and turns: eight times the work, slightly better"
    )


@dataclass(frozen=True)
class Source:
    """A network that can be had for one scale."""

    name: str
    checksum: str
    load: Callable[[], Any]


class Upscaler(Restorer):
    """Super-resolution by networks.

    Controls of the networks (SROOE's objective, DiffIR's seed) hold for every pass of a chain; a map is enlarged with the
    picture from pass to pass.

    Args:
        name: shown in reports. sources: scale -> where its network comes from; loaded when first used.
        scale: what is taken when the caller names none. settings: device, precision, tile.
    """

    task = "super-resolution"

    def __init__(self, name: str, sources: Mapping[int, Source], scale: int, settings: Settings = Settings()) -> None:
        self.name, self.sources, self.scale, self.settings = name, dict(sources), scale, settings
        self._nets: dict[str, Any] = {}

    @functools.cached_property
    def controls(self) -> type[UpscaleControls]:  # type: ignore[override]
        """Typed controls: `UpscaleControls` and those of the networks, which are one family and take the same."""
        if not self.sources:
            return UpscaleControls
        return controls_of(
            self._net(self.scale if self.scale in self.sources else self.scales[-1]).spec, UpscaleControls
        )

    @property
    def scales(self) -> list[int]:
        """Scales that a single pass makes."""
        return sorted(self.sources)

    @property
    def fingerprint(self) -> str:
        return "+".join(sorted({source.checksum for source in self.sources.values()}))

    def plan(self, controls: UpscaleControls) -> ScalePlan:
        """How the scale that is asked will be reached."""
        return plan_scale(controls.scale if controls.scale is not None else self.scale, self.scales)

    def used(self, controls: UpscaleControls) -> str:
        return "+".join(dict.fromkeys(self.sources[p].name for p in self.plan(controls).passes)) or self.name

    def _net(self, scale: int) -> Any:
        source = self.sources[scale]
        if source.checksum not in self._nets:  # a multi-scale network is loaded once
            self._nets[source.checksum] = for_inference(source.load())
        return self._nets[source.checksum]

    def operator(
        self, scale: int, values: Mapping[str, Any] | None = None, maps: tuple[str, ...] = ()
    ) -> NetworkOperator:
        """The engine's operator for one pass; `values` and `maps` of the network's controls as `NetworkOperator` has them."""
        return NetworkOperator(self._net(scale), scale, dict(values or {}), maps)

    def output_size(self, height: int, width: int, controls: UpscaleControls) -> tuple[int, int]:
        return _scaled(height, width, self.plan(controls))

    def restore(
        self,
        picture: Picture,
        controls: UpscaleControls,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        plan = self.plan(controls)
        base = settings or self.settings
        how = replace(base, ensemble=controls.ensemble or base.ensemble)
        report = Report(
            self.used(controls),
            "+".join(dict.fromkeys(self.sources[p].checksum for p in plan.passes)),
            plan.wanted,
            plan.passes,
            (picture.height, picture.width),
            controls=told(controls),
        )
        transform = picture.colour_transform()
        decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
        planes = 1 + (picture.alpha is not None and not _constant(picture.alpha))
        meter = _Meter(progress, picture.height * picture.width, plan, planes)
        values, maps = split(self._net(plan.passes[0]).spec, controls) if plan.passes else ({}, {})
        check_size(maps, picture.height, picture.width)
        chain = functools.partial(self._chain, plan, how, values, maps, meter, cancelled, report)
        pixels = chain(picture.filled(), decode, encode)
        alpha = picture.alpha
        if alpha is not None:
            if _constant(alpha):
                alpha = np.full(pixels.shape[:2], alpha.flat[0], alpha.dtype)
            else:
                alpha = chain(alpha[..., None], None, None)[..., 0]
        meter.finish()
        if plan.sentence:
            report.notes.insert(0, plan.sentence)
        report.notes += picture.notes
        report.output_size, report.seconds = (pixels.shape[0], pixels.shape[1]), time.monotonic() - started
        return picture.replace(pixels=pixels, alpha=alpha), report

    def _chain(
        self,
        plan: ScalePlan,
        settings: Settings,
        values: dict[str, Any],
        maps: dict[str, np.ndarray],
        meter: _Meter,
        cancelled: Callable[[], bool] | None,
        report: Report,
        source: np.ndarray,
        decode: Any,
        encode: Any,
    ) -> np.ndarray:
        """All passes over one array. Between passes 16 bits are kept, so that rounding does not add up."""
        dtype, current = source.dtype, source
        between = np.dtype(np.uint16) if dtype == np.uint8 else dtype
        for number, scale in enumerate(plan.passes, 1):
            last = number == len(plan.passes) and plan.factor == 1
            height, width = current.shape[0] * scale, current.shape[1] * scale
            target = allocate((height, width, current.shape[2]), dtype if last else between)
            operator, before = self.operator(scale, values, tuple(maps)), decode
            if maps:
                current, before = with_maps(current, operator.spec, maps, decode), None
            current, ran = run(operator, current, target, settings, before, encode, meter.update, cancelled)
            meter.advance(scale)
            report.device, report.precision, report.tile = ran.device, ran.precision, max(report.tile, ran.tile)
            report.backend = ran.backend
            report.tiles += ran.tiles
            report.notes += [note for note in ran.notes if note not in report.notes]
        if plan.factor != 1:
            current = resample(current, plan.factor, dtype, decode, encode, cancelled)
        return current


class Bicubic(Upscaler):
    """Bicubic enlargement as MATLAB's `imresize` does it: the plain baseline that every model has to beat."""

    def __init__(self, settings: Settings = Settings()) -> None:
        super().__init__("bicubic", {}, 4, settings)

    @property
    def fingerprint(self) -> str:
        return "bicubic/1"

    def plan(self, controls: UpscaleControls) -> ScalePlan:
        """No pass of a network, only resampling."""
        scale = controls.scale if controls.scale is not None else self.scale
        return ScalePlan(scale, (), scale)


class _Meter:
    """One progress over all passes and planes: the work of a pass is the pixels that it reads."""

    def __init__(self, report: Callable[[Progress], None] | None, pixels: int, plan: ScalePlan, planes: int) -> None:
        self.report, self.started = report, time.monotonic()
        self.pixels, self.plan = pixels, plan
        work, size = 0, pixels
        for scale in plan.passes:
            work, size = work + size, size * scale * scale
        self.total, self.finished = work * planes or pixels, 0
        self.current = pixels

    def update(self, progress: Progress) -> None:
        if self.report is not None:
            self.report(Progress(self.finished + progress.done, self.total, time.monotonic() - self.started))

    def finish(self) -> None:
        if self.finished < self.total:  # nothing but resampling was to be done
            self.update(Progress(self.total - self.finished, self.total, 0))

    def advance(self, scale: int) -> None:
        self.finished += self.current
        self.current *= scale * scale
        if self.current == self.pixels * math.prod(p * p for p in self.plan.passes):
            self.current = self.pixels  # the next plane begins


def _scaled(height: int, width: int, plan: ScalePlan) -> tuple[int, int]:
    """Output size: exact multiples where passes alone do it, MATLAB's ceil otherwise."""
    if plan.factor == 1 and plan.passes:
        factor = math.prod(plan.passes)
        return height * factor, width * factor
    return tuple(math.ceil(round(n * plan.wanted, 9)) for n in (height, width))  # type: ignore[return-value]


def _constant(array: np.ndarray) -> bool:
    return bool((array == array.flat[0]).all())

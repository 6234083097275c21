"""The automatic restoration: look at a picture, choose what helps, say so, and leave alone what needs nothing.

The three parts are separate: `look` measures, `plan` decides from what was found and what is installed, `Automatic` does it. The
thresholds were set by `benchmarks/look.py`; docs/auto.md has the numbers. They are on the safe side: a step that might do harm is
not taken but told of.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from restora import zoo
from restora.degradation.edge_width import edge_width
from restora.degradation.estimate import jpeg_quality, jpeg_table_quality
from restora.degradation.flat_noise import COMPRESSED, NOISE, FlatNoise, flat_noise, jpeg_sigma, middle
from restora.engine import Progress, Settings, load
from restora.engine.process import set_threads
from restora.errors import Cancelled, UnknownModel, UsageError
from restora.io import Picture
from restora.restorers.base import Controls, Report, Restorer, as_pictures
from restora.restorers.chain import Chain

STEPS = ("denoise", "dejpeg", "deblur", "deconvolve", "upscale")
NOISY = 3.0  # sigma below which a denoiser's gain does not pay for its risk
PROCESSED = 4.2  # the same for processed noise; of 149 clean photographs one has it, grainy in its dark parts
TINY = 100_000  # pixels below which nothing is said of edges that were not found
BLURRED = 0.95  # edge width in pixels from which a picture is called blurred; four of 149 clean photographs are
CERTAIN = 1.25  # from which something may be done about it; one of them has more, but no kernel that would be trusted
SMALL, LARGE = 1.0, 24.0  # megapixels
# a kernel is used if its two estimates agree, and it is neither none at all nor as wide as the picture's own structures
CONFIDENT, LEAST_SPREAD, WIDEST_SPREAD = 0.95, 0.8, 5.0
_CLEAN_ENOUGH, _QUALITY_ENOUGH = 2.5, 90  # for a kernel to be estimated
_SIDE = 2048  # of the middle part in which edges, blocks and kernel are looked for


@dataclass(frozen=True, eq=False)
class KernelSeen:
    """A blur kernel that was estimated: `kh x kw`, the estimate's confidence, and its standard deviation in pixels."""

    kernel: np.ndarray
    confidence: float
    spread: float

    @property
    def trusted(self) -> bool:
        """Whether deconvolution with it can be expected to help."""
        return self.confidence >= CONFIDENT and LEAST_SPREAD <= self.spread <= WIDEST_SPREAD


@dataclass(frozen=True, eq=False)
class Look:
    """What seems to have happened to a picture. None stands for what this picture does not show.

    Attributes:
        width, height: pixels. noise: see `degradation.flat_noise`. quality: of the strongest JPEG compression found, 1 to 100.
        file_quality: what the file's own tables say. width_of_edges: see `degradation.edge_width`, in pixels.
        kernel: of the blur; only looked for where the edges are wide and nothing else hides it.
    """

    width: int
    height: int
    noise: FlatNoise | None = None
    quality: int | None = None
    file_quality: int | None = None
    width_of_edges: float | None = None
    kernel: KernelSeen | None = None

    @property
    def processed(self) -> bool:
        """Whether the noise is what a camera's or JPEG's processing left of it: coarser than white, with a floor of its own."""
        noise = self.noise
        if noise is None or noise.told < PROCESSED:
            return False
        return noise.correlated or (self.quality is not None and self.quality <= COMPRESSED)

    @property
    def sigma(self) -> float | None:
        """The noise level, on the 0-255 scale, that a denoiser has to be told: 0 where the flattest parts are texture, and
        nothing is known of noise."""
        if self.noise is None:
            return None
        if self.processed:
            return self.noise.told
        return self.noise.sigma if self.noise.purity >= NOISE else 0.0

    @property
    def varies(self) -> bool:
        """Whether the noise differs across the picture. Not asked of processed noise, whose fine part says little of it."""
        return self.noise is not None and self.noise.varies and not self.processed

    @property
    def size(self) -> str:
        """``small``, ``medium`` or ``large``."""
        megapixels = self.width * self.height / 1e6
        return "small" if megapixels < SMALL else "large" if megapixels > LARGE else "medium"

    @property
    def blurred(self) -> bool:
        """Whether even the sharpest edges are wide."""
        return self.width_of_edges is not None and self.width_of_edges >= BLURRED

    @property
    def saved_again(self) -> bool:
        """Whether the pixels were compressed more strongly than the file that holds them."""
        return self.quality is not None and self.quality != self.file_quality

    def findings(self) -> list[str]:
        """What was found, in words, a phrase each."""
        found = [_noise_told(self), _jpeg_told(self), _blur_told(self)]
        megapixels = self.width * self.height / 1e6
        if megapixels < 0.1:
            return [*found, f"{self.width}x{self.height} pixels"]
        return [*found, f"{megapixels:.2g} megapixels" if megapixels < 10 else f"{megapixels:.0f} megapixels"]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        low, high = self.noise.spread if self.noise is not None else (None, None)
        return {
            "width": self.width,
            "height": self.height,
            "sigma": _rounded(self.sigma),
            "noise_varies": self.varies,
            "noise_processed": self.processed,
            "noise_low": _rounded(low),
            "noise_high": _rounded(high),
            "noise_purity": _rounded(self.noise.purity if self.noise is not None else None),
            "jpeg_quality": self.quality,
            "jpeg_quality_of_file": self.file_quality,
            "edge_width": _rounded(self.width_of_edges),
            "kernel_confidence": _rounded(self.kernel.confidence if self.kernel is not None else None),
            "kernel_spread": _rounded(self.kernel.spread if self.kernel is not None else None),
            "size": self.size,
        }


@dataclass(frozen=True)
class Ability:
    """A restorer that is installed for a task, and what it can be told: `sigma`, also as a map over the picture (`maps`), up
    to `high`; or the JPEG quality."""

    model: str
    sigma: bool = False
    maps: bool = False
    high: float = 255.0
    quality: bool = False


@dataclass(frozen=True, eq=False)
class Move:
    """A step of a plan: task, model (None: the task's default), controls, and what it does, in words."""

    task: str
    model: str | None
    controls: Mapping[str, Any]
    words: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done, in order; `advice` is what was left to the user, and why."""

    look: Look
    moves: tuple[Move, ...] = ()
    advice: tuple[str, ...] = ()

    def paragraph(self, done: bool = True) -> str:
        """What was found and what was (or would be) done about it."""
        text = f"Found: {'; '.join(self.look.findings())}. "
        if self.moves:
            text += f"{'Done' if done else 'To do'}: {', then '.join(m.words for m in self.moves)}."
        else:
            text += (
                "No benefit expected, kept as it was." if done else "No benefit expected: it would be kept as it is."
            )
        return " ".join([text, *self.advice])

    def to_dict(self) -> dict[str, Any]:
        """For JSON: tasks, models and plain controls."""
        moves = [
            {"task": m.task, "model": m.model, "controls": {k: _plain(v) for k, v in m.controls.items()}}
            for m in self.moves
        ]
        return {"steps": moves, "kept": not self.moves, "advice": list(self.advice)}


# looking


def look(picture: Any, *, thorough: bool = True, cancelled: Callable[[], bool] | None = None) -> Look:
    """Looks at a picture: noise, JPEG history, blur, size. Nothing is drawn at random.

    >>> look("old.jpg").sigma  # doctest: +SKIP
    7.9

    Args:
        picture: whatever a restorer takes, a single picture.
        thorough: estimate the blur's kernel, too, where the edges are wide; takes some seconds.
        cancelled: asked while the kernel is estimated.

    Raises:
        PictureError, UsageError: it cannot be read. Cancelled: `cancelled()` said so.
    """
    pictures = as_pictures(picture)
    if len(pictures) != 1:
        raise UsageError(f"One picture at a time is looked at; there are {len(pictures)}.")
    (one,) = pictures
    pixels = one.filled()
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels)
    noise = _told(lambda: flat_noise(pixels))
    tables = one.metadata.quantisation
    found = Look(
        one.width,
        one.height,
        noise,
        _told(lambda: jpeg_quality(middle(pixels), tables)),
        _told(lambda: jpeg_table_quality(tables)),
        edge_width(middle(pixels, _SIDE), 0.0 if noise is None else noise.sigma),
    )
    if not thorough or not _worth_a_kernel(found):
        return found
    return dataclasses.replace(found, kernel=_kernel_of(pixels, cancelled))


def _told(measure: Callable[[], Any]) -> Any:
    """A measure, or None where this picture does not show it: one smaller than the measure's window, a grid that is not there."""
    try:
        return measure()
    except UsageError:
        return None


def _worth_a_kernel(found: Look) -> bool:
    clean = found.noise is not None and found.noise.sigma <= _CLEAN_ENOUGH and not found.noise.varies
    wide = found.width_of_edges is not None and found.width_of_edges >= CERTAIN
    return wide and clean and (found.quality is None or found.quality >= _QUALITY_ENOUGH)


def _kernel_of(pixels: np.ndarray, cancelled: Callable[[], bool] | None) -> KernelSeen | None:
    from restora.solvers.kernel_estimation import estimate

    def watch(_: object) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")

    try:
        found = estimate(load(middle(pixels, _SIDE)), monitor=watch)
    except UsageError:  # too small, or without edges
        return None
    k = found.kernel.double().numpy()
    moment = 0.0
    for axis in (0, 1):
        line = k.sum(axis=1 - axis)
        place = np.arange(len(line)) - len(line) // 2
        moment += float((line * place**2).sum() - (line * place).sum() ** 2)
    return KernelSeen(found.kernel.numpy(), found.confidence, math.sqrt(max(0.0, moment)))


# deciding


def plan(found: Look, installed: Mapping[str, Ability], scale: float | None = None, skip: tuple[str, ...] = ()) -> Plan:
    """What to do about what was found.

    What hides everything else comes first. Noise and the traces of JPEG are not treated both: whichever is stronger is, because
    a denoiser set for it removes the weaker one too, and a second pass would take texture. Blur is undone only where a kernel
    could be estimated reliably; the picture is enlarged only where a scale was asked.

    Args:
        found: of `look`. installed: task -> what there is for it, see `abilities`. scale: enlarge by it at the end.
        skip: names of `STEPS` that are not to be taken.

    Raises:
        UsageError: `skip` names something else.
    """
    wrong = [name for name in skip if name not in STEPS]
    if wrong:
        raise UsageError(f"There is no step '{wrong[0]}' to skip; the steps are {', '.join(STEPS)}.")
    moves: list[Move] = []
    advice: list[str] = []
    sigma = found.sigma or 0.0
    noisy = sigma >= NOISY and "denoise" not in skip
    compressed = found.quality is not None and found.quality <= COMPRESSED and "dejpeg" not in skip
    if compressed and (not noisy or jpeg_sigma(found.quality) >= sigma):  # type: ignore[arg-type]
        moves.append(_dejpeg(found.quality, installed))  # type: ignore[arg-type]
    elif noisy:
        moves.append(_denoise(found, installed["denoise"]))
    if found.blurred:
        kernel = found.kernel
        if kernel is not None and kernel.trusted and "deconvolve" not in skip:
            # a perfect 8-bit picture still has the noise of its rounding
            controls = {"kernel": kernel.kernel, "sigma": round(max(sigma, 0.5), 2), "robust": True}
            size = f"{kernel.kernel.shape[1]}x{kernel.kernel.shape[0]}"
            words = f"blur undone with an estimated kernel of {size} pixels (confidence {kernel.confidence:.2f})"
            moves.append(Move("deconvolve", None, controls, words))
        elif kernel is not None and "deblur" in installed and "deblur" not in skip and kernel.confidence >= 0.5:
            moves.append(Move("deblur", None, {}, f"blur reduced by {installed['deblur'].model}"))
        elif found.width_of_edges is not None and found.width_of_edges >= CERTAIN:
            advice.append(
                "The blur was left alone, because its kernel could not be told with certainty: `restora deblur`, or `restora "
                "deconvolve --kernel estimate`, tries."
            )
    elif found.width_of_edges is None and "deblur" in installed and found.width * found.height >= TINY:
        advice.append("If it is shaken or out of focus, `restora deblur` tries.")
    if scale is not None and scale > 1 and "upscale" not in skip:
        moves.append(
            Move("upscale", None, {"scale": scale}, f"enlarged {scale:g} times by {installed['upscale'].model}")
        )
    elif found.size == "small" and not found.blurred:
        advice.append("It has few pixels; --scale enlarges it.")
    return Plan(found, tuple(moves), tuple(advice))


def _denoise(found: Look, by: Ability) -> Move:
    assert found.noise is not None
    controls: dict[str, Any] = {}
    words = f"noise removed by {by.model}"
    if by.sigma and found.varies and by.maps:
        cells = found.noise.map(found.height, found.width)
        controls["sigma"] = np.clip(cells / by.high, 0, 1)
        words += " with a map of its level"
    elif by.sigma:
        # where the level differs and only one number can be given, the quieter parts must not be smoothed
        sigma = found.noise.spread[0] if found.varies else found.sigma or 0.0
        controls["sigma"] = round(min(sigma, by.high), 2)
        words += f" at sigma {controls['sigma']:g}"
    return Move("denoise", None, controls, words)


def _dejpeg(quality: int, installed: Mapping[str, Ability]) -> Move:
    by = installed.get("dejpeg")
    if by is not None:
        controls = {"quality": quality} if by.quality else {}
        return Move("dejpeg", None, controls, f"traces of JPEG removed by {by.model}")
    sigma = round(jpeg_sigma(quality), 1)
    words = f"traces of JPEG reduced by the denoiser dct at sigma {sigma:g} (no network for them is installed)"
    return Move("dejpeg", "dct", {"sigma": sigma}, words)


# what is installed


def abilities(restorer_of: Callable[[str], Restorer | None]) -> dict[str, Ability]:
    """What there is for each task, from its default restorer; None for tasks without one."""
    found = {}
    for task in ("denoise", "dejpeg", "deblur", "upscale"):
        restorer = restorer_of(task)
        if restorer is None:
            continue
        spec = getattr(restorer, "spec", None)
        controls = {c.name: c for c in spec.controls} if spec is not None else {}
        sigma = controls.get("sigma")
        found[task] = Ability(
            restorer.name,
            "sigma" in restorer.controls.model_fields,
            sigma is not None and sigma.spatial,
            sigma.high if sigma is not None and sigma.high is not None else 255.0,
            "quality" in controls,
        )
    return found


# doing


class AutomaticControls(Controls):
    """Of the automatic restoration."""

    strength: float = Field(
        1.0, ge=0, le=1, description="1 takes each step's result, 0 its input, between them a blend"
    )
    scale: float | None = Field(None, ge=1, le=32, description="enlarge by this factor at the end; never unasked")
    skip: str = Field("", description=f"steps not to take, separated by commas: {', '.join(STEPS)}")

    @property
    def skipped(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.skip.split(",") if name.strip())


class Automatic(Restorer):
    """Looks at a picture and does what helps; one that needs nothing comes back as it is, with `report.kept`.

    The report's first note is a paragraph that says what was found and done; `report.controls` has both in numbers.

    >>> Automatic()("old.jpg").save("new.jpg")  # doctest: +SKIP
    """

    name = "automatic"
    task = "auto"
    controls = AutomaticControls

    def __init__(self, settings: Settings = Settings()) -> None:
        self.settings = settings
        self._loaded: dict[tuple[str, str | None], Restorer | None] = {}
        self._abilities: dict[str, Ability] | None = None

    @property
    def fingerprint(self) -> str:
        """Of the algorithm and of the default weights of all tasks."""
        parts = ["automatic/1"]
        for task in ("denoise", "dejpeg", "deblur", "deconvolve", "super-resolution"):
            try:
                card = zoo.default_model(task)
            except UnknownModel:
                continue
            parts.append(f"{card.name}:{card.weights.sha256[:16]}")
        return "+".join(parts)

    def check_controls(self, values: dict[str, Any]) -> AutomaticControls:
        chosen: AutomaticControls = super().check_controls(values)
        plan(Look(1, 1), {}, None, chosen.skipped)  # a wrong name is refused before any picture is read
        return chosen

    def output_size(self, height: int, width: int, controls: AutomaticControls) -> tuple[int, int]:
        scale = controls.scale if controls.scale is not None and "upscale" not in controls.skipped else 1.0
        return round(height * scale), round(width * scale)

    def plan(self, picture: Picture, controls: AutomaticControls, cancelled: Callable[[], bool] | None = None) -> Plan:
        """Looks at the picture and decides, without doing it."""
        if self.settings.threads is not None:
            set_threads(self.settings.threads)
        found = look(picture, thorough=not {"deconvolve", "deblur"} <= set(controls.skipped), cancelled=cancelled)
        if self._abilities is None:
            self._abilities = abilities(self._restorer)
        return plan(found, self._abilities, controls.scale, controls.skipped)

    def restore(
        self,
        picture: Picture,
        controls: AutomaticControls,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        result, report = self.carry_out(
            self.plan(picture, controls, cancelled), picture, controls, progress, cancelled, settings
        )
        report.seconds = time.monotonic() - started
        return result, report

    def carry_out(
        self,
        chosen: Plan,
        picture: Picture,
        controls: AutomaticControls,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        settings: Settings | None = None,
    ) -> tuple[Picture, Report]:
        """Does what was decided for a picture."""
        size = (picture.height, picture.width)
        report = Report(self.name, self.fingerprint, input_size=size, output_size=size, notes=[chosen.paragraph()])
        result = picture
        if chosen.moves:
            steps, values = self._chain(chosen, controls)
            result, ran = steps.restore(picture, steps.check_controls(values), progress, cancelled, settings)
            for name in (
                "scale",
                "passes",
                "output_size",
                "device",
                "precision",
                "tile",
                "tiles",
                "backend",
                "seconds",
            ):
                setattr(report, name, getattr(ran, name))
            report.notes += [note for note in ran.notes if note not in report.notes]
        else:
            report.kept = True
            report.notes += picture.notes
        report.controls = {"look": chosen.look.to_dict(), "plan": chosen.to_dict()}
        return result, report

    def _chain(self, chosen: Plan, controls: AutomaticControls) -> tuple[Chain, dict[str, Any]]:
        steps: list[tuple[str, Restorer]] = []
        values: dict[str, Any] = {}
        for move in chosen.moves:
            restorer = self._restorer(move.task, move.model)
            assert restorer is not None
            steps.append((move.task, restorer))
            values |= {f"{move.task}.{name}": value for name, value in move.controls.items()}
            if "strength" in restorer.controls.model_fields:
                values[f"{move.task}.strength"] = controls.strength
        return Chain(steps), values

    def _restorer(self, task: str, model: str | None = None) -> Restorer | None:
        """The task's default restorer or the named one, loaded once; None where nothing is installed for the task."""
        from restora.restorers.loading import load as load_restorer

        key = task, model
        if key not in self._loaded:
            s = self.settings
            how = {n: getattr(s, n) for n in ("device", "precision", "tile", "threads", "backend")}
            try:
                self._loaded[key] = load_restorer(model, task=task, **how)  # type: ignore[arg-type]
            except UnknownModel:
                self._loaded[key] = None
        return self._loaded[key]


# words


def _noise_told(found: Look) -> str:
    noise, sigma = found.noise, found.sigma
    if noise is None or sigma is None:
        return "too small to tell noise"
    if sigma < 1 and found.quality is not None and found.quality <= COMPRESSED:
        return "no noise to be seen through its compression"
    if sigma < 1:
        return "no noise to speak of" if noise.sigma < 1 else "no noise that could be told from its texture"
    if found.processed:
        return f"noise that was smoothed by a camera or by compression, as strong as white noise of {sigma:.0f} of 255"
    if found.varies:
        low, high = noise.spread
        return f"noise that differs across the picture, {low:.0f} to {high:.0f} of 255"
    return f"noise of about {sigma:.1f} of 255"


def _jpeg_told(found: Look) -> str:
    if found.quality is None:
        return "no trace of JPEG"
    if found.file_quality is None:
        return f"in its pixels the traces of JPEG of quality {found.quality}"
    text = f"JPEG of quality {found.quality}"
    return f"{text}, saved again at {found.file_quality}" if found.saved_again else text


def _blur_told(found: Look) -> str:
    if found.width_of_edges is None:
        return "no edges clear enough to tell whether it is blurred"
    if not found.blurred:
        return "sharp edges"
    return f"blurred edges ({found.width_of_edges:.1f} pixels)"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def _plain(value: Any) -> Any:
    return f"{value.shape[1]}x{value.shape[0]} numbers" if isinstance(value, np.ndarray) else value

"""Restoration from a known blur, scale and noise level, by any solver: on pictures of any size, depth and profile."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, ValidationError
from torch import Tensor, nn

from restora import solvers, zoo
from restora.degradation.estimate import noise_level
from restora.engine import Operator, Progress, Settings, SolverOperator, load, store
from restora.errors import Cancelled, PictureWriteError, UnknownModel, UsageError
from restora.io import Picture
from restora.restorers import linear_light
from restora.restorers.base import Controls, Report, Restorer
from restora.restorers.blur_kernel import ESTIMATE, BlurKernel
from restora.restorers.buffers import resample
from restora.restorers.denoising import denoiser as as_denoiser
from restora.restorers.kernel_check import disagreement
from restora.restorers.our_nonblind import OurNonBlind
from restora.restorers.stages import Stage, run_stages
from restora.restorers.upscale import Source
from restora.solvers import Denoiser, Solver
from restora.solvers.auto import FLOOR, noise_seen
from restora.solvers.denoisers import DENOISERS
from restora.solvers.doubt import is_turned, refitted

BEST = "auto"  # the best method, which needs no weights and takes the installed denoiser's where there are
NETWORKS = ("usrnet", "onepass")
_SHORT = {"rl": "richardson_lucy", "hl": "hyper_laplacian"}
_LARGEST_SCALE = 16
_LARGE = 4_000_000  # pixels of a result from which the best method leaves the denoiser aside unless it is told of one
NO_DENOISER = "none"
_SAMPLE = 2048  # side of the middle part of a picture from which noise and kernel are judged


def _kernel(value: Any) -> BlurKernel | str:
    return ESTIMATE if isinstance(value, str) and value.strip() == ESTIMATE else BlurKernel.of(value)


def _told_kernel(value: BlurKernel | str) -> str:
    """A kernel in a report or a manifest: by its content, because a file of the same name may hold another one tomorrow."""
    return value if isinstance(value, str) else f"{value.label} ({value.shape}, sha256 {value.sha256[:12]})"


def _told_part(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, (str, Path)):
        from restora.zoo.checkpoint import file_sha256

        path = Path(value)
        return f"{path} (sha256 {file_sha256(path)[:12]})" if path.is_file() else str(value)
    return str(getattr(value, "name", type(value).__name__))


def _sigma(value: Any) -> Any:
    if isinstance(value, str) and value.strip() != "auto":
        try:
            return float(value)
        except ValueError as error:
            raise UsageError(f"sigma is a number or auto, not '{value}'.") from error
    if isinstance(value, str):
        return "auto"
    return value


Part = Annotated[Any, PlainSerializer(_told_part)]


class DeconvolveControls(Controls):
    """What a user may set; everything but the kernel has a default."""

    kernel: Annotated[Any, BeforeValidator(_kernel), PlainSerializer(_told_kernel)] = Field(
        ..., description="gaussian:1.6, motion:25:30, disk:4, a file (.png, .npy, .mat, .txt), an array, or estimate"
    )
    scale: int = Field(
        1, ge=1, le=_LARGEST_SCALE, description="whole factor by which the picture was reduced after the blur"
    )
    sigma: Annotated[Any, BeforeValidator(_sigma)] = Field(
        "auto", description="standard deviation of the noise, 0 to 255, or auto"
    )
    method: str | None = Field(None, description="the method; that of the restorer when not given")
    robust: bool | None = Field(
        None, description="data term for an uncertain kernel; by default where the kernel was estimated"
    )
    centre: bool = Field(False, description="move the kernel's centre of gravity to its middle")
    check: bool = Field(True, description="try the kernel's neighbours and tell when one suits the picture better")
    linear: bool = Field(False, description="work in linear light, in which a lens blurs")
    seed: int = Field(0, ge=0, description="of methods that draw at random")
    network: Part = Field(None, description="weights for usrnet and onepass: a name or a file")
    denoiser: Part = Field(
        None,
        description="for auto, dpir, admm, red, our-nonblind: a name or file; dct, tv, nlm and bm3d need no weights; "
        "none for no denoiser's weights",
    )
    enhancer: Part = Field(None, description="weights of SRRUNet for our-nonblind: a name or a file")
    options: dict[str, Any] = Field(default_factory=dict, description="further options of the method, by name")


def methods() -> dict[str, str]:
    """All methods by name, each with a line about it."""
    found = {name: kind.title for name, kind in solvers.solvers().items() if not _missing(kind) & {"network"}}
    found |= dict.fromkeys(NETWORKS, "a network: data step in closed form and learned prior")
    return dict(sorted({**found, OurNonBlind.name: OurNonBlind.title}.items()))


def method_name(text: str) -> str:
    """The full name of a method, from what a user wrote.

    Raises:
        UsageError: there is none of that name; the sentence lists all.
    """
    plain = text.strip().lower().replace("-", "_")
    plain = _SHORT.get(plain, plain)
    for name in methods():
        if name.replace("-", "_") == plain:
            return name
    raise UsageError(f"There is no method '{text}'; the methods are {', '.join(methods())}.")


def is_method(text: str) -> bool:
    """Whether there is a method of that name."""
    try:
        return bool(method_name(text))
    except UsageError:
        return False


class Deconvolver(Restorer):
    """Undoes a known blur.

    >>> Deconvolver("wiener")("shaken.jpg", kernel="motion:25:30").save("still.png")  # doctest: +SKIP

    Args:
        method: what is taken when a call names none. settings: device, precision, tile.
        keep_steps: folder for intermediate pictures: each stage's result, and ten iterates where the picture is one tile.
        label: the subfolder of `keep_steps` for the next picture. network: weights for `usrnet` and `onepass`.

    Raises:
        UsageError: no such method.
    """

    task = "deconvolve"
    controls = DeconvolveControls

    def __init__(
        self,
        method: str = BEST,
        settings: Settings = Settings(),
        keep_steps: str | Path | None = None,
        label: str = "",
        network: Source | None = None,
    ) -> None:
        self.name = method_name(method)
        self.settings, self.label = settings, label
        self.keep_steps = None if keep_steps is None else Path(keep_steps)
        self.network = network
        self._loaded: dict[tuple[str, str], Any] = {}

    @property
    def fingerprint(self) -> str:
        """Of the algorithms, and of the weights that are taken unasked; the rest is in the controls, by its content."""
        weights = [] if self.network is None else [self.network.checksum]
        with contextlib.suppress(UnknownModel):
            weights.append(zoo.default_model("denoise").weights.sha256[:16])
        others = (c for c in zoo.list_models() if c.task == "deconvolve" or c.family == "srrunet")
        weights += [card.weights.sha256[:16] for card in others]
        return "+".join(["deconvolve/2", *weights])

    def output_size(self, height: int, width: int, controls: DeconvolveControls) -> tuple[int, int]:
        return height * controls.scale, width * controls.scale

    def check_controls(self, values: dict[str, Any]) -> DeconvolveControls:
        controls: DeconvolveControls = super().check_controls(values)
        if not isinstance(controls.sigma, str) and not 0 <= float(controls.sigma) <= 255:
            raise UsageError(f"sigma lies between 0 and 255; {controls.sigma:g} was given.")
        method = self._method(controls)
        kind = _kind(method)
        options = self._options(method, controls)
        if not _missing(kind):
            kind(**options)  # a wrong value is refused before any picture is read
        return controls

    def restore(
        self,
        picture: Picture,
        controls: DeconvolveControls,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        settings = dataclasses.replace(settings or self.settings, ensemble=False)
        decode, encode = linear_light.conversions(picture.colour_transform(), controls.linear)
        source = picture.filled()
        notes: list[str] = []
        kernel = self._settled_kernel(controls, source, cancelled)
        notes += [f"Kernel: {kernel.label}, {kernel.shape}.", *kernel.notes]
        sigma, said = _settled_sigma(controls, source)
        notes += said
        if controls.check:
            kernel, said = _agreeing(kernel, load(_middle(source), decode), controls.scale, sigma)
            notes += said
        method = self._method(controls)
        told = controls.model_dump(exclude_none=True)
        if method == BEST and _robust(controls, kernel):
            # this method's robustness is another kernel: it is looked for once, not in each tile
            part = load(_middle(source), decode)
            fit = refitted(solvers.Problem(part, kernel.centred().weights, controls.scale, sigma))[0]
            kernel = dataclasses.replace(kernel, weights=fit)
            notes.append(
                "The kernel was centred, and turned and stretched where that suits the picture better (robust)."
            )
            controls = controls.model_copy(update={"robust": False})
        if (
            method == BEST
            and source.shape[0] * source.shape[1] * controls.scale**2 > _LARGE
            and controls.denoiser is None
        ):
            controls = controls.model_copy(update={"denoiser": NO_DENOISER})
            notes.append(
                "The picture is large, so the quicker method without weights was used; --denoiser NAME (see "
                "`restora models list`) takes a network."
            )
        if method == BEST and isinstance(controls.sigma, str):
            # what the blur left of the picture shows noise that the finest detail does not; once, not in each tile
            part = load(_middle(source), decode)
            seen = round(noise_seen(solvers.Problem(part, kernel.weights, controls.scale, sigma)), 2)
            if seen > sigma:
                sigma = seen
                notes.append(f"Where the blur left nothing else, the noise is {seen:g} of 255; that was taken.")
            if sigma < FLOOR and self._denoiser(controls, settings) is not None:
                notes.append(
                    f"The denoiser was told of {FLOOR:g} of 255, because the kernel of a photograph is never exact; with "
                    "--sigma the kernel is taken for exact."
                )
        stages, said = self._plan(method, controls, kernel, sigma, settings)
        notes += said
        keep = None if self.keep_steps is None else self._keeper(picture, encode)
        pixels, ran = run_stages(stages, source, settings, decode, encode, progress, cancelled, keep)
        alpha = picture.alpha
        if alpha is not None and controls.scale > 1:
            alpha = resample(alpha[..., None], controls.scale, alpha.dtype, cancelled=cancelled)[..., 0]
        for report in ran:
            notes += [note for note in report.notes if note not in notes]
        last = ran[-1]
        return picture.replace(pixels=pixels, alpha=alpha), Report(
            self.name if controls.method is None else method,
            self.fingerprint,
            controls.scale,
            (),
            (picture.height, picture.width),
            (pixels.shape[0], pixels.shape[1]),
            last.device,
            last.precision,
            last.tile,
            sum(r.tiles for r in ran),
            time.monotonic() - started,
            told | {"sigma": sigma, "method": method},
            [*notes, *picture.notes],
        )

    def operators(self, controls: DeconvolveControls) -> list[Operator]:
        """What the engine will run, for estimates of memory; a kernel that is to be estimated counts as a small one."""
        kernel = BlurKernel.of("gaussian:2") if controls.kernel == ESTIMATE else controls.kernel
        sigma = 2.55 if isinstance(controls.sigma, str) else controls.sigma
        return [s.operator for s in self._plan(self._method(controls), controls, kernel, sigma, self.settings)[0]]

    # what is to be run

    def _method(self, controls: DeconvolveControls) -> str:
        return self.name if controls.method is None else method_name(controls.method)

    def _plan(
        self, method: str, controls: DeconvolveControls, kernel: BlurKernel, sigma: float, settings: Settings
    ) -> tuple[list[Stage], list[str]]:
        options = self._options(method, controls)
        k, scale, seed = kernel.weights, controls.scale, controls.seed
        if method == OurNonBlind.name:
            denoiser = self._denoiser(controls, settings)
            asked = controls.enhancer if controls.enhancer is not None else _installed_enhancer(scale)
            enhancer = None if asked is None else self._once("enhancer", asked, lambda: _network(asked, "srrunet"))
            return OurNonBlind(**options).plan(k, scale, sigma, seed, denoiser, enhancer)
        solver, notes = self._solver(method, controls, options, kernel, settings)
        return [Stage(method, SolverOperator(solver, k, scale, sigma, seed))], notes

    def _options(self, method: str, controls: DeconvolveControls) -> dict[str, Any]:
        """The method's further options, in their types."""
        kind = _kind(method)
        hints, known = typing.get_type_hints(kind), [f.name for f in dataclasses.fields(kind)]
        options = {}
        for name, value in controls.options.items():
            if name not in known:
                raise UsageError(f"{method} has no option '{name}'; its options are {', '.join(known) or 'none'}.")
            try:
                options[name] = TypeAdapter(hints[name]).validate_python(value)
            except ValidationError as error:
                raise UsageError(f"Option {name} of {method}: {error.errors()[0]['msg']}.") from error
        if controls.robust and "robust" not in known:
            offering = sorted(n for n, s in solvers.solvers().items() if _has(s, "robust"))
            raise UsageError(f"{method} has no robust data term; {', '.join(offering)} have.")
        return options

    def _solver(
        self,
        method: str,
        controls: DeconvolveControls,
        options: dict[str, Any],
        kernel: BlurKernel,
        settings: Settings,
    ) -> tuple[Solver, list[str]]:
        notes: list[str] = []
        if method in NETWORKS:
            return solvers.create("network", network=self._net(method, controls), **options), notes
        kind = solvers.solvers()[method]
        if _has(kind, "orientation"):
            # looked at once for the whole picture, not in each tile
            options.setdefault("orientation", "trust")
            options.setdefault("noise", "trust")
            # who states the noise of a picture made the picture, or measured it
            options.setdefault("exact", not isinstance(controls.sigma, str) and not kernel.estimated)
        if _has(kind, "denoise") and "denoise" not in options:
            denoiser = self._denoiser(controls, settings)
            if denoiser is not None:
                options["denoise"] = denoiser
            elif method != BEST:
                notes.append(
                    f"{method} ran with a denoiser without weights, because no trained one is at hand (--denoiser); "
                    f"without weights --method {BEST} is the best."
                )
        if _has(kind, "robust") and "robust" not in options:
            options["robust"] = _robust(controls, kernel)
            if controls.robust is None and kernel.estimated:
                notes.append(
                    "The kernel is an estimate: the robust data term was used (--no-robust takes the plain one)."
                )
        elif kernel.estimated and controls.robust is None:
            notes.append(
                f"The kernel is an estimate, and {method} trusts it fully; --method auto or gddec can be robust."
            )
        if controls.scale > 1 and not kind.any_scale:
            able = [n for n, s in solvers.solvers().items() if s.any_scale and not _missing(s)]
            raise UsageError(f"{method} does not enlarge; {', '.join(able)} do.")
        return solvers.create(method, **options), notes

    def _net(self, method: str, controls: DeconvolveControls) -> nn.Module:
        given = controls.network
        if given is None and self.network is not None and method == self.name:
            return self._once("network", "", lambda: _network(self.network.load(), method))  # type: ignore[union-attr]
        if given is None:
            cards = [c for c in zoo.list_models(task="deconvolve") if c.family == method]
            if not cards:
                raise UsageError(
                    f"{method} needs trained weights, and none are installed: give a file with --model, or use "
                    f"--method {BEST}, the best method that needs none."
                )
            given = next((c for c in cards if c.default), cards[0]).name
        return self._once("network", given, lambda: _network(given, method))

    def _once(self, what: str, given: Any, make: Callable[[], Any]) -> Any:
        """Weights by name or path are loaded once for all pictures."""
        key = what, str(given)
        if key not in self._loaded or not isinstance(given, (str, Path)):
            self._loaded[key] = make()
        return self._loaded[key]

    def _denoiser(self, controls: DeconvolveControls, settings: Settings) -> Denoiser | None:
        """The denoiser that was asked, or the zoo's; None where there is neither, or none is wanted."""
        given = controls.denoiser
        if given == NO_DENOISER:
            return None
        if given is None:
            installed = self._once("denoiser", "", lambda: _installed_denoiser(settings))
            return None if installed is None else as_denoiser(installed)
        if isinstance(given, str) and given in DENOISERS:
            return DENOISERS[given]
        if callable(given) and not isinstance(given, (nn.Module, Restorer)):
            return given
        return self._once("denoiser", given, lambda: as_denoiser(given, settings))

    def _settled_kernel(
        self, controls: DeconvolveControls, source: np.ndarray, cancelled: Callable[[], bool] | None
    ) -> BlurKernel:
        kernel = controls.kernel
        if kernel == ESTIMATE:
            kernel = estimated(source, controls.scale, cancelled)
        if controls.centre:
            kernel = kernel.centred()
        sides = [n * controls.scale for n in source.shape[:2]]
        if any(k > n for k, n in zip(kernel.weights.shape, sides, strict=True)):
            raise UsageError(
                f"The kernel ({kernel.shape}) is larger than the picture ({sides[0]}x{sides[1]} at scale {controls.scale}): "
                "nothing in the picture is sharp enough to be restored."
            )
        return kernel

    def _keeper(self, picture: Picture, encode: Any) -> Callable[[str, np.ndarray], None]:
        """Writes intermediate pictures as PNG, numbered in the order in which they came."""
        assert self.keep_steps is not None
        folder = self.keep_steps / self.label if self.label else self.keep_steps
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PictureWriteError(f"The folder '{folder}' for the steps cannot be made: {error.strerror}.") from error
        count = 0

        def keep(name: str, working: np.ndarray) -> None:
            nonlocal count
            count += 1
            pixels = store(load(working), picture.pixels.dtype, encode)
            picture.replace(pixels=pixels, alpha=None).save(folder / f"{count:02d}_{name}.png", metadata=False)

        return keep


def _kind(method: str) -> type:
    """The class whose fields are a method's options."""
    if method == OurNonBlind.name:
        return OurNonBlind
    return solvers.solvers()["network" if method in NETWORKS else method]


def _has(kind: type, name: str) -> bool:
    return any(f.name == name for f in dataclasses.fields(kind))


def _missing(kind: type) -> set[str]:
    """Options without a default: what somebody else has to bring."""
    return {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }


def _robust(controls: DeconvolveControls, kernel: BlurKernel) -> bool:
    """Whether the kernel is to be distrusted: as the user says, else if it is an estimate."""
    return kernel.estimated if controls.robust is None else controls.robust


def _settled_sigma(controls: DeconvolveControls, source: np.ndarray) -> tuple[float, list[str]]:
    """The noise level that the solver is told, at least that of the rounding to whole levels."""
    rounding = 0.0 if source.dtype.kind == "f" else 255 / np.iinfo(source.dtype).max / math.sqrt(12)
    if not isinstance(controls.sigma, str):
        return max(float(controls.sigma), rounding), []
    part = _middle(source)
    if min(part.shape[:2]) < 8:
        return rounding, ["The picture is too small to tell its noise; none was assumed."]
    sigma = round(noise_level(part), 2)
    return max(sigma, rounding), [f"Noise level estimated as {sigma:g} of 255."]


def _agreeing(kernel: BlurKernel, part: Tensor, scale: int, sigma: float) -> tuple[BlurKernel, list[str]]:
    """The kernel, turned round where the picture says so, and what else the picture has against it."""
    if bool(is_turned(solvers.Problem(part, kernel.weights, scale, sigma)).any()):
        sentence = (
            "The kernel turned by 180 degrees explains the picture clearly better and was used instead: kernels are convolved "
            "here, not correlated. --no-check uses it as it is."
        )
        return dataclasses.replace(kernel, weights=kernel.weights.flip(0, 1)), [sentence]
    said = disagreement(part, kernel.weights, sigma) if scale == 1 else ""
    return kernel, [said] if said else []


def _middle(source: np.ndarray) -> np.ndarray:
    """The middle of a large picture, which says as much about noise and kernel as all of it."""
    top, left = (max(0, n - _SAMPLE) // 2 for n in source.shape[:2])
    return source[top : top + _SAMPLE, left : left + _SAMPLE]


def estimated(source: np.ndarray, scale: int = 1, cancelled: Callable[[], bool] | None = None) -> BlurKernel:
    """The kernel of a picture `H x W x C`, from the picture alone (its middle, if it is large).

    Raises:
        UsageError: a scale above 1, or nothing in the picture to estimate from. Cancelled: `cancelled()` said so.
    """
    from restora.solvers.kernel_estimation import estimate

    if scale > 1:
        raise UsageError("A kernel can be estimated at scale 1 only; give one with --kernel for a reduced picture.")

    def watch(_: object) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")

    found = estimate(load(_middle(source)), monitor=watch)
    return BlurKernel.from_estimate(found.kernel, found.confidence, tuple(found.notes))


def _network(given: Any, family: str) -> nn.Module:
    """A network of that family, from a name, a file or itself."""
    if isinstance(given, nn.Module):
        return given.requires_grad_(False).eval()
    name = str(given)
    if zoo.looks_like_path(name) or Path(name).is_file():
        net, variant = zoo.identify_file(Path(name))
        found = variant
    else:
        card = zoo.find(name)
        net, found = zoo.load_network(card), card.family
    if not found.startswith(family):
        raise UsageError(f"'{name}' is {found}, not {family}.")
    return net.requires_grad_(False).eval()


def _installed_enhancer(scale: int) -> str | None:
    """The zoo's SRRUNet for what was enlarged; at scale 1 there is nothing that it would bring back."""
    found = (card.name for card in zoo.list_models(task="super-resolution") if card.family == "srrunet")
    return next(found, None) if scale > 1 else None


def _installed_denoiser(settings: Settings) -> Restorer | None:
    """The default denoiser of the zoo, if there is one that takes sigma."""
    from restora.restorers.loading import load as load_restorer

    try:
        card = zoo.default_model("denoise")
    except UnknownModel:
        return None
    restorer = load_restorer(card.name, device=settings.device, precision=settings.precision, threads=settings.threads)
    return restorer if "sigma" in restorer.controls.model_fields else None

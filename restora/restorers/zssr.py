"""Zero-shot enlargement: a small network is trained on the picture itself, and nothing else is known.

Shocher, Cohen, Irani: "Zero-Shot" Super-Resolution using Deep Internal Learning, CVPR 2018; the efficiency thesis, section 2.6.
The picture is reduced by the wanted scale (or blurred with a known kernel and sampled), the network learns to bring it back, and
is then given the picture. Random shears and stretches, which the paper has, are left out: the thesis found that they harm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from restora import networks
from restora.degradation import Blur, kernels, resize
from restora.engine import (
    NetworkOperator,
    Progress,
    Settings,
    choose_device,
    choose_precision,
    load,
    run,
    set_threads,
    store,
)
from restora.errors import Cancelled, UsageError
from restora.io import Picture
from restora.restorers.base import Report
from restora.restorers.buffers import resample
from restora.restorers.scaling import ScalePlan
from restora.restorers.upscale import UpscaleControls, Upscaler

_RATES = (1e-3, 1e-4, 1e-5, 1e-6)
# Shares of the steps at which the rate falls to the next of those. The paper waits until the error stops falling; fixed
# places make the time known beforehand.
_FALLS = (0.6, 0.8, 0.95)
_NOISY_SONS = 8  # different noise in so many reduced copies
_SMALLEST_SON = 8
_TIMED_STEPS = 3


class ZssrControls(UpscaleControls):
    """`scale` may be any number above 1."""

    ensemble: bool = Field(True, description="average over the eight flips and turns, as the paper does")
    steps: int = Field(1000, ge=1, le=100_000, description="training steps; the time is proportional to them")
    seed: int = Field(0, ge=0, description="of the network's first weights and the order of the crops")
    crop: int = Field(128, ge=16, description="side of the training crops in pixels of the picture")
    back_projection: int = Field(
        8, ge=0, le=100, description="rounds of correction, so that the result reduces to the picture that was given"
    )
    gradual: bool = Field(False, description="reach scales above 2 in steps of at most 2, training on at each")
    sigma: float = Field(
        0.0,
        ge=0,
        le=75,
        description="noise (0-255) added to the reduced copies, so that noise is not enlarged; about 5 helps",
    )
    kernel: Path | Tensor | None = Field(
        None,
        description="blur of the reduction, in pixels of the result: a file (.npy, .mat, picture); bicubic when not given",
    )


class ZeroShot(Upscaler):
    """ZSSR as a restorer. `load("zssr")`.

    It takes a minute or more for a picture, whatever its size: the time of `steps` crops; the progress has an estimate from
    the first step on, and the report's notes say how long training and enlargement took. The same seed on the same machine
    gives the same picture. Transparency is enlarged by bicubic.
    """

    controls: ClassVar[type[ZssrControls]] = ZssrControls  # type: ignore[assignment,misc]

    def __init__(self, settings: Settings = Settings()) -> None:
        super().__init__("zssr", {}, 2, settings)

    @property
    def fingerprint(self) -> str:
        return "zssr/1"

    def plan(self, controls: UpscaleControls) -> ScalePlan:
        """One step, whatever the scale: the input is enlarged before the network."""
        scale = controls.scale if controls.scale is not None else self.scale
        return ScalePlan(scale, (), scale)

    def expected_seconds(self, height: int, width: int, controls: Any) -> float:
        """From a few steps of a network that is thrown away: the time is that of the steps, and of the enlargement."""
        factors = _factors(self.plan(controls).wanted, controls.gradual)
        few = controls.model_copy(update={"steps": _TIMED_STEPS, "sigma": 0.0})
        trainer = Trainer(3, few, replace(self.settings, ensemble=False))
        side = max(controls.crop, math.ceil(_SMALLEST_SON * max(factors)))
        sample = torch.full((1, 3, side, side), 0.5)
        trainer.train(sample, max(factors), None, _Clock(None, 1), None)  # warms up
        step = trainer.train(sample, max(factors), None, _Clock(None, 1), None) / _TIMED_STEPS
        started = time.monotonic()
        trainer.enlarge(sample, (side, side), None)
        pixel = (time.monotonic() - started) / side**2 * (8 if controls.ensemble else 1)
        enlarged = sum(height * width * math.prod(factors[: n + 1]) ** 2 for n in range(len(factors)))
        return step * controls.steps * len(factors) + pixel * enlarged

    def restore(
        self,
        picture: Picture,
        controls: ZssrControls,  # type: ignore[override]
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
        settings: Settings | None,
    ) -> tuple[Picture, Report]:
        started = time.monotonic()
        base = settings or self.settings
        how = Settings(base.device, base.precision, base.tile, controls.ensemble, base.threads)
        scale = self.plan(controls).wanted
        if scale <= 1:
            raise UsageError(
                "Zero-shot enlargement needs a scale above 1: it learns from the picture made smaller by it."
            )
        factors = _factors(scale, controls.gradual)
        transform = picture.colour_transform()
        decode, encode = (None, None) if transform.is_identity else (transform.to_working, transform.from_working)
        source = picture.filled()
        kernel = _kernel(controls.kernel)
        if kernel is not None and len(factors) > 1:
            raise UsageError("A kernel belongs to the whole scale, so it cannot be used with gradual enlargement.")
        if min(source.shape[:2]) < _SMALLEST_SON * max(factors):
            raise UsageError(
                f"A picture of {source.shape[1]}x{source.shape[0]} pixels is too small to learn x{scale:g} from itself: "
                f"it needs {math.ceil(_SMALLEST_SON * max(factors))} a side. Use a trained model, or gradual for a large scale."
            )
        size = self.output_size(source.shape[0], source.shape[1], controls)
        trainer = Trainer(source.shape[2], controls, how)
        clock = _Clock(progress, controls.steps * len(factors))
        x = original = load(source, decode)
        training = 0.0
        for number, factor in enumerate(factors, 1):
            training += trainer.train(x, factor, kernel, clock, cancelled)
            last = number == len(factors)
            target = size if last else tuple(math.ceil(n * factor) for n in x.shape[-2:])
            x = trainer.enlarge(x, target, cancelled)  # type: ignore[arg-type]
            x = back_projected(x, original, controls.back_projection, kernel, cancelled)
        pixels = store(x, source.dtype, encode)
        alpha = picture.alpha
        if alpha is not None:
            alpha = resample(alpha[..., None], scale, alpha.dtype, cancelled=cancelled)[..., 0]
        clock.finish()
        seconds = time.monotonic() - started
        report = Report(
            self.name,
            self.fingerprint,
            scale,
            (),
            (picture.height, picture.width),
            size,
            device=str(trainer.device),
            precision=trainer.precision,
            seconds=seconds,
            controls={k: v if isinstance(v, (int, float, str)) else str(v) for k, v in controls if v is not None},
            notes=[
                f"Trained {controls.steps * len(factors)} steps on the picture in {training:.1f} s; "
                f"enlarged in {seconds - training:.1f} s.",
                *picture.notes,
            ],
        )
        return picture.replace(pixels=pixels, alpha=alpha), report


class Trainer:
    """The network of one picture, and its training.

    Args:
        channels: of the picture, 3 or 1. controls: see `ZssrControls`. settings: where and how.
    """

    def __init__(self, channels: int, controls: ZssrControls, settings: Settings) -> None:
        self.controls, self.settings = controls, settings
        self.device = choose_device(settings.device)
        set_threads(settings.threads)
        # half precision with a range that small gradients survive; other requests train in float32
        self.half = choose_precision(settings.precision, self.device, half_safe=False) == torch.bfloat16
        self.precision = "bf16" if self.half else "float32"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(controls.seed)
            net = networks.create("zssr" if channels == 3 else "zssr_gray")
            for layer in (convolutions := [m for m in net.modules() if isinstance(m, nn.Conv2d)]):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(convolutions[-1].weight)  # the first result is the enlarged picture itself
        self.net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rng = np.random.default_rng(controls.seed)

    def train(
        self, x: Tensor, factor: float, kernel: Tensor | None, clock: _Clock, cancelled: Callable[[], bool] | None
    ) -> float:
        """Trains on `x` (`1 x C x H x W` in [0, 1]) for one scale; returns the seconds.

        Raises:
            Cancelled: `cancelled()` said so.
        """
        started = time.monotonic()
        with torch.inference_mode(False), torch.enable_grad():
            father = x.clone().to(self.device)
            sons = [son.to(self.device) for son in self._sons(x.clone(), factor, kernel)]
            optimiser = torch.optim.Adam(self.net.parameters(), lr=_RATES[0])
            self.net.train()
            for step in range(self.controls.steps):
                if cancelled is not None and cancelled():
                    raise Cancelled("Stopped on request; finished pictures are kept.")
                for group in optimiser.param_groups:
                    group["lr"] = _RATES[sum(step >= share * self.controls.steps for share in _FALLS)]
                given, wanted = self._crop(sons[int(self.rng.integers(len(sons)))], father)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                    loss = F.l1_loss(self.net(given).float(), wanted)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                clock.tick()
            self.net.eval()
        return time.monotonic() - started

    def _sons(self, father: Tensor, factor: float, kernel: Tensor | None) -> list[Tensor]:
        """The picture reduced, with noise where it is asked for, and enlarged again."""
        son = reduced(father, factor, kernel)
        copies = [son]
        if self.controls.sigma:
            noise = self.rng.normal(0, self.controls.sigma / 255, (_NOISY_SONS, *son.shape[1:])).astype(np.float32)
            copies = [son + torch.from_numpy(n)[None] for n in noise]
        height, width = father.shape[-2:]
        return [resize(copy, size=(height, width)) for copy in copies]

    def _crop(self, son: Tensor, father: Tensor) -> tuple[Tensor, Tensor]:
        """The same random crop of both, turned and flipped alike."""
        height, width = father.shape[-2:]
        rows, columns = min(self.controls.crop, height), min(self.controls.crop, width)
        top, left = int(self.rng.integers(height - rows + 1)), int(self.rng.integers(width - columns + 1))
        turn, mirrored = int(self.rng.integers(4)), bool(self.rng.integers(2))

        def cut(z: Tensor) -> Tensor:
            z = torch.rot90(z[..., top : top + rows, left : left + columns], turn, (-2, -1))
            return (z.flip(-1) if mirrored else z).contiguous(memory_format=torch.channels_last)

        return cut(son), cut(father)

    def enlarge(self, x: Tensor, size: tuple[int, int], cancelled: Callable[[], bool] | None) -> Tensor:
        """The picture at a size, through the network, tile by tile."""
        given = resize(x, size=size)[0].permute(1, 2, 0).contiguous().numpy()
        result, _ = run(NetworkOperator(self.net, 1), given, settings=self.settings, cancelled=cancelled)
        return torch.from_numpy(result).permute(2, 0, 1)[None].contiguous()


def reduced(x: Tensor, factor: float, kernel: Tensor | None) -> Tensor:
    """The picture made smaller: antialiased bicubic, or blurred with a kernel and sampled at the centres of the new pixels."""
    if kernel is None:
        return resize(x, 1 / factor)
    return resize(Blur(kernel)(x), 1 / factor, antialias=False)


def back_projected(
    result: Tensor,
    given: Tensor,
    rounds: int,
    kernel: Tensor | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tensor:
    """Iterative back-projection: what is missing after reduction is enlarged and added (Irani and Peleg, 1991).

    Args:
        result: `1 x C x H x W`. given: `1 x C x h x w`, what it was made of. rounds: how often. kernel: of the
            reduction, where it is not bicubic.
    """
    size = (given.shape[-2], given.shape[-1])
    for _ in range(rounds):
        if cancelled is not None and cancelled():
            raise Cancelled("Stopped on request; finished pictures are kept.")
        blurred = Blur(kernel)(result) if kernel is not None else result
        low = resize(blurred, size=size, antialias=kernel is None)
        result = result + resize(given - low, size=(result.shape[-2], result.shape[-1]))
    return result


def _factors(scale: float, gradual: bool) -> list[float]:
    """The scale in steps: one, or as many equal ones as keep each at 2 or below."""
    count = max(1, math.ceil(round(math.log2(scale), 9))) if gradual and scale > 1 else 1
    return [scale ** (1 / count)] * count


def _kernel(value: Any) -> Tensor | None:
    """The control's kernel as a tensor."""
    if value is None:
        return None
    return value.float() if isinstance(value, Tensor) else kernels.load(value)


class _Clock:
    """Progress over all steps."""

    def __init__(self, report: Callable[[Progress], None] | None, total: int) -> None:
        self.report, self.total, self.done, self.started = report, total, 0, time.monotonic()

    def tick(self) -> None:
        self.done += 1
        if self.report is not None and self.done < self.total:
            self.report(Progress(self.done, self.total, time.monotonic() - self.started))

    def finish(self) -> None:
        if self.report is not None:
            self.report(Progress(self.total, self.total, time.monotonic() - self.started))

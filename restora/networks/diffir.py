"""DiffIR: a restoration transformer steered by a compact prior vector, which a diffusion of a few steps draws.

Xia, Zhang, Wang, Wang, Wu, Tian, Yang, Van Gool: DiffIR: Efficient Diffusion Model for Image Restoration, ICCV 2023.
Source document: the RestoraVision report, section on DiffIR. Where it and the authors' code differ, the code is the default:
the denoiser predicts the prior itself (the report's noise target: `target="eps"`), and betas are linear in their square root
(the report's linear betas: `schedule="linear"`). The report's 48 input channels of the condition encoder hold for deblurring;
for super-resolution it sees the low-resolution picture as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.networks.diffir_transformer import PRIOR, ModulatedTransformer
from restora.networks.picture_statistics import PictureMean
from restora.networks.registry import Family
from restora.networks.spec import Control, NetworkSpec, global_
from restora.networks.swinir import count_layers
from restora.networks.window_attention import reflect_to_multiple

Target = Literal["x0", "eps"]
Schedule = Literal["sqrt-linear", "linear"]


class _EncoderResidual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PriorEncoder(nn.Module):
    """Compresses pictures to a prior of 256 numbers (CPEN): the degraded one, and in the first stage the true one too.

    For super-resolution the true picture is brought to the low resolution by pixel unshuffling; for deblurring both are, by 4.
    """

    def __init__(self, scale: int, with_truth: bool, residuals: int) -> None:
        super().__init__()
        self.scale = scale
        channels = (3 if scale > 1 else 48) + with_truth * 3 * (scale if scale > 1 else 4) ** 2
        layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1), nn.LeakyReLU(0.1)]
        layers += [_EncoderResidual(64) for _ in range(residuals)]
        for narrow, wide in ((64, 128), (128, 128), (128, 256)):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.LeakyReLU(0.1)]
        self.E = nn.Sequential(*layers, PictureMean())
        self.mlp = nn.Sequential(nn.Linear(256, PRIOR), nn.LeakyReLU(0.1), nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor, truth: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The prior, `B x 256`, and once more in a list (the published form, which several stages could extend)."""
        parts = [x if self.scale > 1 else F.pixel_unshuffle(x, 4)]
        if truth is not None:
            parts.append(F.pixel_unshuffle(truth, self.scale if self.scale > 1 else 4))
        prior = self.mlp(self.E(torch.cat(parts, dim=1)).flatten(1))
        return prior, [prior]


class _Denoiser(nn.Module):
    """Linear layers on condition, time and noisy prior."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.resmlp = nn.Sequential(nn.Linear(2 * PRIOR + 1, PRIOR), nn.LeakyReLU(0.1))
        for _ in range(layers):
            layer = nn.Module()
            layer.resmlp = nn.Sequential(nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1))
            self.resmlp.append(layer)

    def forward(self, z: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        y = torch.cat([condition, time, z], dim=1)
        for layer in self.resmlp:
            y = layer.resmlp(y) if hasattr(layer, "resmlp") else layer(y)  # type: ignore[operator]
        return y


def schedule_buffers(steps: int, start: float, end: float, schedule: Schedule) -> dict[str, Tensor]:
    """The constants of a diffusion under their published names, one number a step.

    ``sqrt-linear``: betas whose square roots are linear between those of `start` and `end` (the authors' code, which calls
    it linear); ``linear``: betas that are linear themselves (the report and the paper).
    """
    if schedule not in ("sqrt-linear", "linear"):
        raise UsageError(f"The schedule is 'sqrt-linear' or 'linear', not '{schedule}'.")
    root = schedule == "sqrt-linear"
    ends = (math.sqrt(start), math.sqrt(end)) if root else (start, end)
    betas = torch.linspace(*ends, steps, dtype=torch.float64) ** (2 if root else 1)
    kept = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones_like(kept[:1]), kept[:-1]])
    variance = betas * (1 - before) / (1 - kept)
    values = {
        "betas": betas,
        "alphas_cumprod": kept,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": kept.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - kept).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - kept).log(),
        "sqrt_recip_alphas_cumprod": kept.rsqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / kept - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * before.sqrt() / (1 - kept),
        "posterior_mean_coef2": (1 - before) * (1 - betas).sqrt() / (1 - kept),
    }
    return {name: value.float() for name, value in values.items()}


class PriorDiffusion(nn.Module):
    """Draws the prior by reverse diffusion, given the degraded picture; no noise is added on the way, so the starting noise
    decides the result."""

    def __init__(
        self,
        denoiser: _Denoiser,
        condition: PriorEncoder,
        steps: int,
        start: float,
        end: float,
        schedule: Schedule,
        target: Target,
    ) -> None:
        super().__init__()
        if target not in ("x0", "eps"):
            raise UsageError(f"The denoiser's target is 'x0' or 'eps', not '{target}'.")
        self.steps, self.start, self.end, self.schedule, self.target = steps, start, end, schedule, target
        for name, value in schedule_buffers(steps, start, end, schedule).items():
            self.register_buffer(name, value)
        self.model, self.condition = denoiser, condition

    def constants(self, steps: int | None) -> dict[str, Tensor]:
        if steps is None or steps == self.steps:
            return dict(self.named_buffers(recurse=False))
        return schedule_buffers(steps, self.start, self.end, self.schedule)

    def forward(
        self,
        x: Tensor,
        prior: Tensor | None = None,
        z: Tensor | None = None,
        steps: int | None = None,
        seed: int | None = 0,
    ) -> Tensor:
        """`B x 3 x H x W` -> `B x 256`.

        Args:
            prior: in training, the first stage's prior; the start is then its noisy form, not noise alone.
            z: starting noise, `B x 256`. None draws it with `seed`; if that is None too, with torch's global state.
            steps: number of steps; None is the number trained with. Others compress or stretch the schedule.
        """
        constants = {name: value.to(x) for name, value in self.constants(steps).items()}
        steps = steps or self.steps
        if z is None:
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            z = torch.randn((x.shape[0], PRIOR), generator=generator).to(x)
        if prior is not None:
            z = constants["sqrt_alphas_cumprod"][-1] * prior + constants["sqrt_one_minus_alphas_cumprod"][-1] * z
        condition, _ = self.condition(x)
        for t in reversed(range(steps)):
            time = x.new_full((x.shape[0], 1), t / (10 * steps))
            clean = self.model(z, time, condition)
            if self.target == "eps":
                clean = (
                    constants["sqrt_recip_alphas_cumprod"][t] * z - constants["sqrt_recipm1_alphas_cumprod"][t] * clean
                )
            z = constants["posterior_mean_coef1"][t] * clean + constants["posterior_mean_coef2"][t] * z
        return z


class DiffIR(nn.Module):
    """DiffIR, first or second stage.

    Shapes: `B x 3 x H x W` in [0, 1] -> `B x 3 x scale*H x scale*W`; any size (mirrored to a multiple of 8, cropped).

    Stage 1 is called `net(x, truth)`: its prior comes from the degraded and the true picture, so it is the teacher and the upper
    bound of stage 2 and restores nothing alone. Stage 2 is called `net(x)` and draws the prior by diffusion.

    Tiling: the prior and channel attention are statistics of the whole picture.

    Args:
        stage: 1 or 2.
        scale: 1 for deblurring; 4 for the published super-resolution.
        dim, blocks, refinement, heads: width of the first level; blocks of the four levels and after them; heads a level.
        expansion: hidden width of the feed-forward layers over the level's width.
        norm_bias: layer norms that centre and have a bias (deblurring), or neither.
        residuals: residual blocks of the prior encoder.
        denoise_layers: layers of the denoiser behind its first.
        steps, start, end, schedule: the diffusion's length, first and last beta, and form, see `schedule_buffers`.
        target: what the denoiser predicts, the prior ("x0") or the noise ("eps", the equation of report and paper, which
            multiplies errors by ten in the first of four steps).

    Source: Xia et al., ICCV 2023, sections 3 and 4; RestoraVision specification, section 2.5.
    """

    def __init__(
        self,
        stage: int = 2,
        scale: int = 4,
        dim: int = 64,
        blocks: Sequence[int] = (13, 1, 1, 1),
        refinement: int = 13,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.2,
        norm_bias: bool = False,
        residuals: int = 9,
        denoise_layers: int = 1,
        steps: int = 4,
        start: float = 0.1,
        end: float = 0.99,
        schedule: Schedule = "sqrt-linear",
        target: Target = "x0",
    ) -> None:
        super().__init__()
        if stage not in (1, 2):
            raise UsageError(f"DiffIR has the stages 1 and 2, not {stage}.")
        self.stage, self.scale = stage, scale
        # two depthwise 3x3 convolutions a block, twice (encoder, decoder) but for the deepest level; one convolution a resampling
        radius = 2 * refinement + sum(2**n * (2 * blocks[n] * (2 if n < 3 else 1) + 3) for n in range(4)) + 8
        controls = (
            Control("seed", "seed of the noise that the prior starts from", "int", 0, low=0),
            Control("samples", "results of different noise to average", "int", 1, low=1, high=64),
            Control("steps", "diffusion steps; the network was trained for the default", "int", steps, low=1, high=100),
        )
        task: Literal["super-resolution", "deblur"] = "super-resolution" if scale > 1 else "deblur"
        self.spec = NetworkSpec(
            task="part" if stage == 1 else task,
            scales=(scale,),
            tiling=global_(radius, 8),
            multiple_of=8,
            half_safe=False,
            controls=controls if stage == 2 else (),
            source="Xia et al., ICCV 2023",
        )
        self.G = ModulatedTransformer(scale, dim, blocks, refinement, heads, expansion, norm_bias)
        if stage == 1:
            self.E = PriorEncoder(scale, True, residuals)
        else:
            self.condition, self.denoise = PriorEncoder(scale, False, residuals), _Denoiser(denoise_layers)
            self.diffusion = PriorDiffusion(self.denoise, self.condition, steps, start, end, schedule, target)

    def forward(
        self,
        x: Tensor,
        truth: Tensor | None = None,
        z: Tensor | None = None,
        seed: int = 0,
        samples: int = 1,
        steps: int | None = None,
    ) -> Tensor:
        """Restores `x`.

        Args:
            truth: the true picture, `B x 3 x scale*H x scale*W`; stage 1 only, and needed there.
            z: starting noise `B x 256` in place of the seed's; stage 2.
            seed, samples, steps: as the controls of the spec; sample n starts from seed + n, and pictures are averaged.

        Raises:
            UsageError: stage 1 without the true picture.
        """
        height, width = (self.scale * n for n in x.shape[-2:])
        x = reflect_to_multiple(x, 8)
        if self.stage == 1:
            if truth is None:
                raise UsageError("Stage 1 of DiffIR sees the true picture; to restore one without it, use stage 2.")
            prior, _ = self.E(x, reflect_to_multiple(truth, 8 * self.scale))
            return self.G(x, prior)[..., :height, :width]
        total = torch.zeros((), device=x.device, dtype=x.dtype)
        for n in range(1 if z is not None else samples):
            total = total + self.G(x, self.diffusion(x, z=z, steps=steps, seed=seed + n))[..., :height, :width]
        return total if z is not None or samples == 1 else total / samples


def _expansion(hidden: int, channels: int) -> float:
    """The number with the fewest decimals whose product with `channels` rounds down to `hidden`."""
    for digits in range(6):
        value = math.ceil(hidden / channels * 10**digits - 1e-9) / 10**digits
        if int(channels * value) == hidden:
            return value
    return hidden / channels


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    level = "G.encoder_level{}.{}."
    first = level.format(1, 0)
    needed = {"G.patch_embed.proj.weight", first + "attn.kernel.0.weight", first + "ffn.kernel.0.weight"}
    if not needed | {"G.latent.0.attn.temperature", "G.latent.0.ffn.dwconv.weight"} <= state.keys():
        return None
    encoder = "E" if "E.E.0.weight" in state else "condition"
    if f"{encoder}.E.0.weight" not in state or ("G.output.weight" in state) == ("G.tail.0.0.weight" in state):
        return None
    dim, scale = state["G.patch_embed.proj.weight"].shape[0], 1
    if "G.tail.0.0.weight" in state:
        wide = state["G.tail.0.0.weight"]
        doublings = sum(f"G.tail.0.{n}.weight" in state for n in (0, 2, 4))
        scale = 3 if wide.shape[0] == 9 * wide.shape[1] else 2**doublings
    counts = [count_layers(state, level.format(n, "{}") + "norm1.body.weight") for n in (1, 2, 3)]
    counts.append(count_layers(state, "G.latent.{}.norm1.body.weight"))
    gates = state["G.latent.0.ffn.dwconv.weight"].shape[0] // 2
    config = {
        "stage": 1 if encoder == "E" else 2,
        "scale": scale,
        "dim": dim,
        "blocks": tuple(counts),
        "refinement": count_layers(state, "G.refinement.{}.norm1.body.weight"),
        "heads": tuple(
            state[f"G.{name}.0.attn.temperature"].shape[0]
            for name in (*(f"encoder_level{n}" for n in (1, 2, 3)), "latent")
        ),
        "expansion": _expansion(gates, 8 * dim),
        "norm_bias": first + "norm1.body.bias" in state,
        "residuals": sum(key.startswith(f"{encoder}.E.") and key.endswith(".body.0.weight") for key in state),
    }
    if encoder == "condition":
        if "denoise.resmlp.0.weight" not in state or "diffusion.betas" not in state:
            return None
        # shapes tell neither the schedule nor the denoiser's target
        config["steps"] = state["diffusion.betas"].shape[0]
        config["denoise_layers"] = count_layers(state, "denoise.resmlp.{}.resmlp.0.weight", 2)
    return config


_DEBLUR = {
    "scale": 1,
    "dim": 48,
    "blocks": (3, 5, 6, 6),
    "refinement": 4,
    "expansion": 2.0,
    "norm_bias": True,
    "residuals": 5,
}

FAMILY = Family(
    name="diffir",
    build=DiffIR,
    variants={
        **{f"diffir_s{n}_sr_x4": {"stage": n} for n in (1, 2)},
        **{f"diffir_s{n}_deblur": {"stage": n, **_DEBLUR} for n in (1, 2)},
    },
    identify=_identify,
    paper="DiffIR: Efficient Diffusion Model for Image Restoration (ICCV 2023)",
)

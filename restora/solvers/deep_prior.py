"""Deep image prior: a small network, trained from noise on the one degraded picture, whose own structure is the prior.

Ulyanov, Vedaldi, Lempitsky: Deep Image Prior, CVPR 2018; stopped early by the moving variance of its results (Wang et al.:
Early Stopping for Deep Image Prior, TMLR 2023) or, when the noise is known, as soon as the residual is no larger than it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError
from restora.solvers.base import Monitor, Problem, Solver
from restora.solvers.half_quadratic import Splitting

_INPUTS = 16
_INPUT_SCALE = 0.1
_MEMORY = 0.9  # of the moving variance
_AVERAGE = 0.99  # of the result


class SkipNetwork(nn.Module):
    """A U-Net with narrow skips, as deep image priors use it: `B x 16 x H x W` of noise -> `B x C x H x W` in [0, 1].

    Args:
        outputs: C. width: features everywhere. levels: how often it halves. skips: features of the side paths.
        generator: source of the weights; nothing else is drawn from.
    """

    def __init__(
        self, outputs: int, width: int = 32, levels: int = 4, skips: int = 4, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()

        def convolution(inputs: int, features: int, size: int, stride: int = 1) -> nn.Conv2d:
            with torch.device("meta"):  # torch's own initialisation would draw from the global source
                layer = nn.Conv2d(
                    inputs,
                    features,
                    size,
                    stride=stride,
                    padding=size // 2,
                    padding_mode="reflect" if size > 1 else "zeros",
                )
            layer = layer.to_empty(device="cpu")
            nn.init.kaiming_normal_(layer.weight, a=0.1, generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            return layer

        def unit(inputs: int, features: int, size: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                convolution(inputs, features, size, stride),
                nn.GroupNorm(features, features),  # batch normalisation, where the batch is one picture
                nn.LeakyReLU(0.1),
            )

        self.down = nn.ModuleList(
            nn.Sequential(unit(_INPUTS if n == 0 else width, width, 3, 2), unit(width, width, 3)) for n in range(levels)
        )
        self.skip = nn.ModuleList(unit(_INPUTS if n == 0 else width, skips, 1) for n in range(levels))
        self.up = nn.ModuleList(
            nn.Sequential(unit(width + skips, width, 3), unit(width, width, 1)) for _ in range(levels)
        )
        self.last = convolution(width, outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        sides = []
        for down, skip in zip(self.down, self.skip, strict=True):
            sides.append(skip(z))
            z = down(z)
        for up, side in zip(reversed(self.up), reversed(sides), strict=True):
            z = F.interpolate(z, size=side.shape[-2:], mode="bilinear", align_corners=False)
            z = up(torch.cat([z, side], 1))
        return torch.sigmoid(self.last(z))


@dataclass(frozen=True)
class DeepImagePrior(Solver):
    """Deep image prior: a network trained on the one picture.

    Slow (a network's forward and backward pass an iteration, minutes for a small picture on a processor) and drawn by chance: the
    generator decides about weights and noise. The result is a moving average of the last iterates.

    Args:
        iterations: at most. rate: Adam's learning rate. width, levels: of the `SkipNetwork`.
        jitter: standard deviation of the noise added to the network's input in every iteration.
        patience: stop when the moving variance of the results has found no new minimum for so many iterations, and
            return what stood at that minimum.
    """

    name = "dip"
    title = "Deep image prior"
    any_scale = True
    iterative = True

    iterations: int = 1500
    rate: float = 0.01
    width: int = 32
    levels: int = 4
    jitter: float = 0.005
    patience: int = 300

    def __post_init__(self) -> None:
        if min(self.iterations, self.width, self.levels, self.patience) < 1 or self.rate <= 0:
            raise UsageError("Iterations, width, levels, patience and learning rate of a deep image prior are above 0.")

    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        chance = generator or torch.Generator().manual_seed(0)
        with torch.inference_mode(False), torch.enable_grad():
            # each picture has a network of its own, so that a batch gives what its pictures give alone
            results = [self._one(_single(problem, i), chance, monitor) for i in range(len(problem.observed))]
        return torch.cat(results)

    def _one(self, problem: Problem, chance: torch.Generator, monitor: Monitor | None) -> Tensor:
        split = Splitting.of(problem)
        y = problem.observed
        shape = (1, _INPUTS, *split.model.fine)
        net = SkipNetwork(y.shape[1], self.width, self.levels, generator=chance).to(y)
        noise = (torch.rand(shape, generator=chance) * _INPUT_SCALE).to(y)
        optimiser = torch.optim.Adam(net.parameters(), lr=self.rate)
        noise_power = (problem.sigma / 255) ** 2
        result = mean = best = None
        variance, least, since = 0.0, math.inf, 0
        for i in range(self.iterations):
            jittered = noise + self.jitter * torch.randn(shape, generator=chance).to(y) if self.jitter else noise
            x = net(jittered)
            loss = split.data.residual(x).square().sum() / y.numel()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            x = x.detach()
            result = x if result is None else torch.lerp(x, result, min(_AVERAGE, i / (i + 1)))
            change = 0.0 if mean is None else float((x - mean).square().mean())
            mean = x if mean is None else torch.lerp(x, mean, _MEMORY)
            variance = _MEMORY * (variance + (1 - _MEMORY) * change)
            if i < self.patience or variance < least:  # the first results vary for another reason
                least = math.inf if i < self.patience else variance
                best, since = result, 0
            else:
                since += 1
            if split.tell(monitor, i + 1, self.iterations, result, loss.item()) or loss.item() <= noise_power:
                break
            if since >= self.patience:
                result = best
                break
        return split.model.crop(split.start if result is None else result)


def _single(problem: Problem, i: int) -> Problem:
    kernels = problem.kernels
    # copies, because what was made in inference mode cannot take part in gradients
    return Problem(
        problem.observed[i : i + 1].detach().clone(),
        kernels[min(i, len(kernels) - 1)].detach().clone(),
        problem.scale,
        problem.sigma,
        problem.boundary,
    )


SOLVERS = (DeepImagePrior,)

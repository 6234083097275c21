"""Unrolled gradient descent for deconvolution: one learned step, repeated as often as one likes.

After Gong, Zhang, Liu, Shen, Zhang: Learning Deep Gradient Descent Optimization for Image Deconvolution, IEEE TNNLS 2020 (RGDN),
which the survey names beside its own gradient descent (specification, table of section 1, row 17). As there, the weights are
the same in every iteration and every iterate is trained; the layers and widths are our own. Whole scales and the noise level
are additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from restora.networks.deconvolution import DataStep, KernelNetwork, enlarge, kernel_spec, transfer
from restora.networks.noise_levels import fits
from restora.networks.registry import Family
from restora.networks.spec import global_


def _layers(inputs: int, features: int, outputs: int, depth: int) -> nn.Sequential:
    """`depth` 3x3 convolutions with ReLUs between them."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, features, 3, padding=1)]
    for _ in range(depth - 2):
        layers += [nn.ReLU(), nn.Conv2d(features, features, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(features, outputs, 3, padding=1))


class RGDN(KernelNetwork):
    """Recurrent gradient descent; see `KernelNetwork` for its call.

    `x <- x - (t g + D(g, R(x), sigma))` with `g = H'(H x - y)`: R is the learned gradient of the prior, D replaces the step size.
    A fresh network is plain gradient descent with the step t = 1, because D's last layer begins at zero.

    Args:
        channels: of the picture. iterations: how often; more or fewer than in training are allowed.
        features, depth: width and 3x3 convolutions of R and of D.
    """

    def __init__(self, channels: int = 3, iterations: int = 10, features: int = 32, depth: int = 5) -> None:
        super().__init__()
        self.iterations = iterations
        self.spec = kernel_spec(channels, global_(2 * depth * iterations), "Gong et al., IEEE TNNLS 2020")
        self.prior = _layers(channels, features, channels, depth)
        self.scaling = _layers(2 * channels + 1, features, channels, depth)
        self.step = nn.Parameter(torch.ones(1))
        nn.init.zeros_(self.scaling[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.scaling[-1].bias)  # type: ignore[arg-type]

    def forward(self, y: Tensor, kernel: Tensor, scale: int, sigma: Tensor) -> Tensor:
        return self.iterates(y, kernel, scale, sigma)[-1]

    def iterates(
        self, y: Tensor, kernel: Tensor, scale: int, sigma: Tensor, iterations: int | None = None
    ) -> list[Tensor]:
        """The estimates after each iteration; the paper's loss is a sum over all of them."""
        data = DataStep(y, transfer(kernel, (y.shape[-2] * scale, y.shape[-1] * scale)), scale)
        x = enlarge(y, scale)
        level = sigma.expand(len(y), 1, *x.shape[-2:])
        estimates = []
        for _ in range(self.iterations if iterations is None else iterations):
            # a scale^2-th of the pixels is observed, so the gradient is that much smaller
            slope = scale**2 * data.adjoint(data.residual(x))
            x = x - (self.step * slope + self.scaling(torch.cat([slope, self.prior(x), level], 1)))
            estimates.append(x)
        return estimates


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    first = state.get("prior.0.weight")
    if first is None or "scaling.0.weight" not in state or "step" not in state:
        return None
    depth = sum(key.startswith("prior.") and key.endswith("weight") for key in state)
    # the number of iterations leaves no trace in the weights
    config = {"channels": first.shape[1], "features": first.shape[0], "depth": depth}
    return config if fits(state, RGDN, config) else None


FAMILY = Family(
    name="rgdn",
    build=RGDN,
    variants={"rgdn": {"channels": 3, "iterations": 10, "features": 32, "depth": 5}},
    identify=_identify,
    paper="Learning Deep Gradient Descent Optimization for Image Deconvolution (IEEE TNNLS 2020)",
)

"""Networks for a known blur, called as solvers: USRNet, the one-pass network, unrolled gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restora.errors import UsageError
from restora.networks.deconvolution import KernelNetwork
from restora.solvers.base import Monitor, Problem, Solver


@dataclass(frozen=True)
class NetworkSolver(Solver):
    """A trained network that is told kernel, scale and noise.

    A photograph gets a margin of the kernel's size that a periodic blur explains (`networks.deconvolution.continued`); grey
    pictures go through a colour network as three equal channels, and colour pictures through a grey one channel by channel.

    Args:
        network: with its weights; any `KernelNetwork`, in eval mode, on the device of the pictures.
    """

    name = "network"
    title = "A network that is told the kernel"
    any_scale = True

    network: KernelNetwork

    def __post_init__(self) -> None:
        if not isinstance(self.network, KernelNetwork):
            raise UsageError(f"A {type(self.network).__name__} takes no blur kernel; networks of task 'deconvolve' do.")

    @torch.no_grad()
    def solve(
        self, problem: Problem, *, generator: torch.Generator | None = None, monitor: Monitor | None = None
    ) -> Tensor:
        spec = self.network.spec
        if problem.scale not in spec.scales:
            raise UsageError(
                f"This network enlarges by {spec.scales[0]} to {spec.scales[-1]}; {problem.scale} was asked."
            )
        y, kernels = problem.observed, problem.kernels.to(problem.observed)
        channels = y.shape[1]
        if channels == 1 < spec.channels:
            y = y.expand(-1, spec.channels, -1, -1)
        elif spec.channels == 1 < channels:
            y = y.flatten(0, 1)[:, None]
            kernels = kernels.repeat_interleave(channels, 0) if len(kernels) > 1 else kernels
        elif channels != spec.channels:
            raise UsageError(f"This network takes pictures of {spec.channels} channels, not {channels}.")
        if problem.boundary == "photograph":
            x = self.network.restore(y, kernels, problem.scale, problem.sigma)
        else:
            level = y.new_full((len(y), 1, 1, 1), problem.sigma / 255)
            x = self.network(y, kernels[:, None], problem.scale, level)
        if channels == 1 < spec.channels:
            return x.mean(1, keepdim=True)
        return x.reshape(len(problem.observed), channels, *x.shape[-2:])


SOLVERS = (NetworkSolver,)

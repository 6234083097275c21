"""Networks that are told the kernel, trained end to end: USRNet, and the one-pass network with its parts apart or together.

Zhang, Van Gool, Timofte, CVPR 2020; the survey thesis on deep restoration, sections 2.6 and 5 (item 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError
from restora.networks.deconvolution import KernelNetwork, transfer
from restora.training.batch import Batch
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions

Part = Literal["denoiser", "artefacts", "resolution"]


class NonblindOptions(ProcedureOptions):
    parts: dict[Part, float] = Field(
        {},
        description="of the one-pass network: part -> weight of its own output's loss; nothing: the result's alone. With "
        "network.freeze on the others, a part is trained apart",
    )


class NonblindTraining(Procedure):
    """`sum of terms(net(y, kernel, scale, sigma), x)` on pairs of the task `nonblind`.

    Circularly blurred pairs go into the published call, which takes the blur for circular; others through `restore`, which
    continues the picture beyond its border. The denoiser's target is the blurred picture without noise; that of the artefact
    remover and of the resolution module is the sharp one.

    Raises:
        RecipeError: a network that takes no kernel, a task without kernels, or parts of a network or task that has none.
    """

    Options = NonblindOptions
    options: NonblindOptions

    def __init__(self, recipe: Any, net: nn.Module, options: NonblindOptions, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        self.circular = getattr(pairs.maker.options, "boundary", None) == "circular"
        if not isinstance(net, KernelNetwork) or recipe.task["kind"] != "nonblind":
            raise RecipeError("The procedure nonblind trains a network that is told the kernel on the task nonblind.")
        if options.parts and not (hasattr(net, "stages") and self.circular):
            raise RecipeError("Parts are trained in the one-pass network, on a task with boundary: circular.")

    def phases(self) -> Sequence[Phase]:
        return [Phase("net", self.loss)]

    def restore(self, net: nn.Module, batch: Batch) -> Tensor:
        kernel, sigma = batch.controls["kernel"], self._sigma(batch)
        if self.circular:
            return net(batch.input, kernel, batch.scale, sigma / 255).float()
        return net.restore(batch.input, kernel, batch.scale, sigma).float()  # type: ignore[operator]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The recipe's terms, of the result or of each part."""
        if not self.options.parts:
            return dict(self.criterion(self.predict(batch), batch.target, batch.mask))
        kernel, scale = batch.controls["kernel"], batch.scale
        outputs = self.net.stages(batch.input, kernel, scale, self._sigma(batch) / 255)  # type: ignore[operator]
        terms = {}
        for part, weight in self.options.parts.items():
            target = noiseless(batch.target, kernel, scale) if part == "denoiser" else batch.target
            for name, term in self.criterion(outputs[part].float(), target).items():
                terms[f"{part}.{name}"] = weight * term
        return terms

    @staticmethod
    def _sigma(batch: Batch) -> Tensor:
        """One noise level a picture, `B x 1 x 1 x 1`, 0-255 scale."""
        level = torch.as_tensor(batch.controls["sigma"], dtype=batch.input.dtype, device=batch.input.device)
        return level.reshape(-1, 1, 1, 1).expand(len(batch), 1, 1, 1)


def noiseless(x: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """What the degradation makes of sharp pictures but for the noise: circular blur and the upper left pixel of each block."""
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):
        spectrum = torch.fft.rfft2(x.float()) * transfer(kernel.float(), (height, width))
        return torch.fft.irfft2(spectrum, s=(height, width))[..., ::scale, ::scale]


PROCEDURE = NonblindTraining

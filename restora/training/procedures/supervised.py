"""Supervised training: the network's picture against the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from restora.degradation import resize
from restora.training.batch import Batch
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions, accepted


class SupervisedOptions(ProcedureOptions):
    outputs: Literal["picture", "all"] = Field(
        "picture",
        description="all: of a network with several outputs (stages, or a pyramid of sizes) each counts, against the target "
        "reduced to its size",
    )
    estimate: float = Field(
        0.0, ge=0, description="weight of the L1 distance of a blind denoiser's own noise estimate to the true level"
    )


class Supervised(Procedure):
    """One phase, `sum of terms(net(input), target)`; one scale a batch where the task has several (CARN, section 2.1 of the
    efficiency thesis)."""

    Options = SupervisedOptions
    options: SupervisedOptions

    def phases(self) -> Sequence[Phase]:
        return [Phase("net", self.loss)]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The recipe's terms on a batch."""
        if self.options.outputs == "all":
            terms = self._all_outputs(batch)
        else:
            terms = dict(self.criterion(self.predict(batch), batch.target, batch.mask))
        if self.options.estimate and "level" in batch.extra:
            with torch.autocast(batch.input.device.type, enabled=False):
                guessed = self.net.estimate(batch.input)  # type: ignore[operator]
                terms["estimate"] = self.options.estimate * (guessed - batch.extra["level"] / 255).abs().mean()
        return terms

    def _all_outputs(self, batch: Batch) -> dict[str, Tensor]:
        outputs = self.net(batch.input, **accepted(self.net, batch, self.net.forward))
        terms: dict[str, Tensor] = {}
        for output in outputs if isinstance(outputs, (list, tuple)) else [outputs]:
            target = batch.target
            if output.shape[-2:] != target.shape[-2:]:
                target = resize(target, size=(output.shape[-2], output.shape[-1]), method="bilinear")
            for name, term in self.criterion(output.float(), target, batch.mask).items():
                terms[name] = terms[name] + term if name in terms else term
        return terms


PROCEDURE = Supervised

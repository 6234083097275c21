"""A loss on several sizes: of one output's pyramid, or of the outputs of a network that has several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from restora.errors import UsageError
from restora.training.losses import base


class MultiScale(base.Loss):
    """`sum_s w_s L(y_s, x_s)` with another loss as L.

    Given a list of outputs (MIMO-UNet, SRN, MPRNet's stages), each is compared with the target resized to its size. Given one
    output, both are reduced to a pyramid of `levels` by 2 x 2 averages. `weights` are 1 unless given, one a level or output.

    Tao et al., SRN, CVPR 2018, equation 8; Cho et al., MIMO-UNet, ICCV 2021; Zamir et al., MPRNet, CVPR 2021.
    """

    name = "multiscale"

    class Options(base.Options):
        loss: dict[str, Any] = {"kind": "l1"}
        levels: int = Field(3, ge=1, description="levels of the pyramid of a single output, the full size included")
        weights: list[float] | None = None
        resize: Literal["bilinear", "bicubic", "area"] = Field(
            "bilinear",
            description="of the target to an output's size; bilinear and bicubic without antialiasing, as published",
        )

        @model_validator(mode="after")
        def _known(self) -> Any:
            if self.loss.get("kind") == "multiscale":
                raise ValueError("a multi-scale loss of a multi-scale loss is not meant")
            return self

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        from restora.training.losses import build_loss

        self.inner = build_loss(self.options.loss)

    def forward(self, output: Tensor | Sequence[Tensor], target: Tensor, mask: Tensor | None = None) -> Tensor:
        """`output` is a tensor or a sequence of tensors."""
        if isinstance(output, Tensor):
            if mask is not None:  # before averages mix what is judged with what is not
                output = torch.where(base.fitted(mask, output) > 0, output, target)
            pairs = list(zip(self._pyramid(output), self._pyramid(target), strict=True))
        else:
            pairs = [(y, self._resized(target, y)) for y in output]
        weights = self.options.weights or [1.0] * len(pairs)
        if len(weights) != len(pairs):
            raise UsageError(f"The multi-scale loss has {len(weights)} weights for {len(pairs)} sizes.")
        terms = [w * self.inner.weight * self.inner(y, x, mask) for w, (y, x) in zip(weights, pairs, strict=True)]
        return torch.stack(terms).sum()

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        levels = [x]
        for _ in range(self.options.levels - 1):
            if min(levels[-1].shape[-2:]) < 2:
                raise UsageError(
                    f"A picture of {x.shape[-1]}x{x.shape[-2]} pixels has no pyramid of {self.options.levels} levels."
                )
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels

    def _resized(self, target: Tensor, output: Tensor) -> Tensor:
        size = output.shape[-2:]
        if target.shape[-2:] == size:
            return target
        mode = self.options.resize
        corners = None if mode == "area" else False
        return F.interpolate(target, size=size, mode=mode, align_corners=corners)

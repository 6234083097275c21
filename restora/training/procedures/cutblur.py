"""Supervised training on inputs that an augmentation has enlarged already (CutBlur and its mixture, efficiency thesis 2.5)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from restora.errors import RecipeError
from restora.networks.cutblur import CutBlurNetwork
from restora.networks.resblocks import DIV2K_RANGE
from restora.training.batch import Batch
from restora.training.procedures.supervised import Supervised


class CutBlurTraining(Supervised):
    """As `supervised`, for networks that take an input of the output's size: `cutblur_*`, or one of `grid="output"` (SRCNN).
    A batch that comes at the target's size, as `augment: {kind: moa, enlarge: nearest}` makes it, is given to the network as
    it is; another (in validation) is enlarged first.

    Raises:
        RecipeError: a network that enlarges by itself.
    """

    def __init__(self, recipe: Any, net: nn.Module, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        if not isinstance(net, CutBlurNetwork) and net.spec.grid != "output":  # type: ignore[union-attr]
            raise RecipeError(
                f"The procedure cutblur feeds a network inputs at the output's size, which {recipe.network.variant} does not "
                "take: use a cutblur_* variant, or srcnn."
            )

    def restore(self, net: nn.Module, batch: Batch) -> Tensor:
        if batch.scale == 1 or batch.input.shape[-2:] != batch.target.shape[-2:]:
            return super().restore(net, batch)
        if isinstance(net, CutBlurNetwork):
            return net(batch.input * DIV2K_RANGE).float() / DIV2K_RANGE
        return net(batch.input).float()


PROCEDURE = CutBlurTraining

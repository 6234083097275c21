"""ViTDeblur's training: losses between pictures normalised by ImageNet's mean and deviation, from a pre-trained transformer.

Ilyassov: Exploring Image Restoration Techniques: The Application of ViTDeblur, dissertation, 2024; its specification, 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from restora.errors import RecipeError
from restora.training.batch import Batch
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions
from restora.training.start import find_weights, take_over


class ViTDeblurOptions(ProcedureOptions):
    backbone: str | None = Field(
        None,
        description="file with the weights of an ImageNet ViT of the same shape (torchvision's vit_b_16); random otherwise",
    )


class ViTDeblurTraining(Procedure):
    """`sum of terms(net(normalise(blurred)), normalise(sharp))`, as the document's losses are logged.

    Raises:
        RecipeError: another network, or a file that holds no weights of such a transformer.
    """

    Options = ViTDeblurOptions
    options: ViTDeblurOptions

    def __init__(self, recipe: Any, net: nn.Module, options: ViTDeblurOptions, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        if not hasattr(net, "vit") or not hasattr(net, "normalise"):
            raise RecipeError(f"The procedure vitdeblur trains ViTDeblur, not {recipe.network.variant}.")
        if options.backbone is not None:
            vit: Any = net.vit
            if not take_over(vit, vit.convert_state(find_weights(options.backbone, [Path()]))):
                raise RecipeError(f"'{options.backbone}' holds no weights of a ViT of this network's shape.")

    def phases(self) -> Sequence[Phase]:
        return [Phase("net", self.loss)]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The recipe's terms in the normalised range."""
        net: Any = self.net
        return dict(self.criterion(net(net.normalise(batch.input)).float(), net.normalise(batch.target), batch.mask))


PROCEDURE = ViTDeblurTraining

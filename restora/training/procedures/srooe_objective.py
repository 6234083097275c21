"""SROOE's second stage: the predictor of the objective that suits each place, before a generator that is fixed.

Park, Moon, Cho, CVPR 2023; the survey specification, section 2.4. The target map is found by trying: the generator runs with
t = 0, 0.05, ..., 1, and at each place the t with the smallest perceptual distance to the true picture is right. The loss is
`distance(output) + 0.001 L1(output) + 0.01 L1(map, target map)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from restora import networks
from restora.errors import RecipeError
from restora.training.batch import Batch
from restora.training.losses import build_loss, find_backbone
from restora.training.procedures.base import Phase, Procedure, ProcedureOptions
from restora.training.recipe import Loss
from restora.training.start import take_over


class ObjectiveOptions(ProcedureOptions):
    distance: Loss = Field(
        Loss(kind="lpips"),
        description="what is minimised at each place: lpips (the paper's), or ssim, which needs no weights",
    )
    tried: int = Field(21, ge=2, description="objectives that are tried, equally spaced from 0 to 1")
    pixel: float = Field(0.001, ge=0, description="weight of the recipe's own loss")
    map: float = Field(0.01, ge=0, description="weight of the L1 distance to the target map")
    vgg: Path | None = Field(
        None, description="torchvision's VGG-19 for the features that the predictor sees; None looks where losses look"
    )
    learn_features: bool = Field(
        False, description="train the feature stages too, where there is no VGG-19; they are then not VGG features"
    )


class Objective(Procedure):
    """One phase: the predictor, and the feature stages where they learn. The generator comes from the stage before or from
    `network.init_from`."""

    Options = ObjectiveOptions
    options: ObjectiveOptions

    def __init__(self, recipe: Any, net: Any, options: Any, pairs: Any) -> None:
        super().__init__(recipe, net, options, pairs)
        if not (hasattr(net, "ooe") and hasattr(net, "generator")):
            raise RecipeError(
                f"The procedure 'srooe_objective' trains the variant 'srooe', not {recipe.network.variant}."
            )
        self.chain: Any = net
        self.distance: Any = build_loss(options.distance.model_dump()).requires_grad_(False)
        if not hasattr(self.distance, "map"):
            raise RecipeError(f"options.distance: '{options.distance.kind}' has no map; lpips and ssim have.")
        self.chain.generator.requires_grad_(False)
        if not options.learn_features:
            self._load_features(options.vgg or find_backbone("vgg19"))
        self.chain.vgg.requires_grad_(options.learn_features)

    def _load_features(self, path: Path | None) -> None:
        if path is None:
            if self.recipe.network.init_from is None:
                raise RecipeError(
                    "The predictor sees VGG-19 features, whose weights do not come with Restora: name torchvision's checkpoint "
                    "as options.vgg, or learn feature stages of its own with options.learn_features."
                )
            return
        from restora.zoo.checkpoint import read_checkpoint

        state = networks.unwrap(read_checkpoint(path)[0])
        if take_over(self.chain.vgg, state) < len(self.chain.vgg.features.state_dict()):
            raise RecipeError(f"'{path}' is no VGG-19 of the width that {self.recipe.network.variant} has.")

    def helpers(self) -> list[nn.Module]:
        return [*super().helpers(), self.distance]

    def inherit(self, before: dict[str, dict[str, Tensor]]) -> None:
        """The stage before trained the generator alone."""
        if take_over(self.chain.generator, before["net"]) < len(self.chain.generator.state_dict()):
            super().inherit(before)

    def phases(self) -> list[Phase]:
        return [Phase("net", self.loss)]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of a batch."""
        predicted = self.chain.objective(batch.input)
        output = self.chain.generator((batch.input, predicted)).float()
        wanted = self.target_map(batch)
        return {
            "distance": self.distance.weight * self.distance(output, batch.target),
            **{name: self.options.pixel * t for name, t in self.criterion(output, batch.target).items()},
            "map": self.options.map * (predicted.float() - wanted).abs().mean(),
        }

    @torch.no_grad()
    def target_map(self, batch: Batch) -> Tensor:
        """The best of the objectives that are tried, at each pixel of the input: `B x 1 x H x W` in [0, 1]. Distances are
        averaged over the output pixels that belong to one of the input."""
        best = best_t = None
        for t in torch.linspace(0, 1, self.options.tried).tolist():
            output = self.chain.generator((batch.input, batch.input.new_full((1, 1, 1, 1), t))).float()
            distance = F.avg_pool2d(self.distance.map(output, batch.target.float()), batch.scale)
            if best is None or best_t is None:
                best, best_t = distance, torch.zeros_like(distance)
            best_t = torch.where(distance < best, t, best_t)
            best = torch.minimum(best, distance)
        assert best_t is not None
        return best_t


PROCEDURE = Objective

"""What every loss is: an `nn.Module` with a name, a weight, typed options, and `loss(output, target, mask) -> scalar`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from restora.errors import RecipeError, UsageError


class Options(BaseModel):
    """Options of a loss or of an objective; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(1.0, ge=0, description="factor in the sum of all terms")


_O = TypeVar("_O", bound=BaseModel)


def parse(model: type[_O], options: Mapping[str, Any], what: str) -> _O:
    """Options checked against their model.

    Raises:
        RecipeError: an unknown key or an impossible value; the sentence names the key and lists the known ones.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or what}: {e['msg']}" for e in error.errors()[:4])
        raise RecipeError(
            f"The options of {what} are invalid: {problems}. It takes {', '.join(model.model_fields)}."
        ) from error


class Loss(nn.Module):
    """A term of a training objective.

    Shapes: `loss(output, target, mask=None)` with `B x C x H x W` in [0, 1] -> a scalar, not multiplied by `weight`. `mask`
    is `B x 1 x H x W` (or broadcasts to the output) in [0, 1]; where it is 0 the output is not judged: no value of it enters
    and no gradient comes back. It is resized by nearest neighbour if its size differs (a mask of the low-resolution input).

    Args:
        options: as the class's `Options` says. `weight` is for whoever sums the terms; `weighted` does.

    Raises:
        RecipeError: unknown or impossible options. UsageError: output and target of different shapes.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options: Any = parse(self.Options, options, f"the loss '{self.name}'")
        self.weight: float = self.options.weight

    def forward(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        if output.shape != target.shape:
            raise UsageError(
                f"The loss '{self.name}' compares tensors of one shape; the output is {tuple(output.shape)}, the target "
                f"{tuple(target.shape)}."
            )
        if mask is not None:
            mask = fitted(mask, output)
            # neighbourhoods and features see the target there, so that only what is judged can differ
            output = torch.where(mask > 0, output, target)
        return self.compare(output, target, mask)

    def compare(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """The value for tensors of one shape; the output already equals the target where `mask` is 0."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in self.options.model_dump(exclude_defaults=True).items())


def fitted(mask: Tensor, output: Tensor) -> Tensor:
    """A mask at the output's size and type."""
    mask = mask.to(output)
    if mask.shape[-2:] != output.shape[-2:]:
        mask = nn.functional.interpolate(mask, size=output.shape[-2:], mode="nearest")
    return mask


def mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of `B x C x H x W` values, weighted by a mask that broadcasts to them; 0 where nothing is judged."""
    if mask is None:
        return values.mean()
    mask = mask.expand_as(values)
    return (values * mask).sum() / mask.sum().clamp_min(torch.finfo(values.dtype).tiny)

"""The weighted terms of a recipe's loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from restora.training.recipe import Loss

# terms that are networks themselves: they may run in half precision; arithmetic on pixels may not
_DEEP = {"vgg", "style", "lpips", "dists"}


class Criterion(nn.Module):
    """The terms of a loss, each multiplied by its weight.

    Called as `criterion(output, target, mask=None)` it returns `{name: scalar}`, to be summed. Tensors are `B x C x H x W` in
    [0, 1]. Terms of one kind are numbered.

    Raises:
        RecipeError: an unknown kind, or options that it does not take.
    """

    def __init__(self, terms: Sequence[Loss]) -> None:
        super().__init__()
        from restora.training.losses import build_loss

        self.names: list[str] = []
        self.terms = nn.ModuleList()
        for term in terms:
            same = sum(name.split("#")[0] == term.kind for name in self.names)
            self.names.append(f"{term.kind}#{same + 1}" if same else term.kind)
            self.terms.append(build_loss(term.model_dump()))
        # no weights of a loss are trained; a feature network stays as it is
        self.requires_grad_(False).eval()

    def forward(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        result = {}
        for name, term in zip(self.names, self.terms, strict=True):
            weight = float(term.weight)  # type: ignore[arg-type]
            if not weight:
                continue
            if name.split("#")[0] in _DEEP:
                value = term(output, target, mask)
            else:
                with torch.autocast(output.device.type, enabled=False):
                    value = term(output.float(), target.float(), mask)
            result[name] = weight * value
        return result

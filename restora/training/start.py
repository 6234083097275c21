"""Where first weights come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from restora import networks
from restora.errors import RecipeError, RestoraError


def take_over(net: nn.Module, state: Mapping[str, Tensor], reinitialise: Sequence[str] = ()) -> int:
    """Copies the tensors of equal name and shape, but for those whose name begins with one of `reinitialise`; returns how
    many. A network that can make more of another's weights has a method `start_from(state)` that is asked first."""
    if (adapted := getattr(net, "start_from", None)) is not None:
        state = adapted(state)
    own, skip = net.state_dict(), tuple(reinitialise)
    taken = {
        k: v for k, v in state.items() if k in own and own[k].shape == v.shape and not (skip and k.startswith(skip))
    }
    net.load_state_dict(taken, strict=False)
    return len(taken)


def find_weights(name: str, runs: Sequence[Path]) -> dict[str, Tensor]:
    """The state dict of another run (in one of the folders `runs`), of a checkpoint file, or of a model of the zoo.

    Raises:
        RecipeError: there is none of that name.
    """
    for folder in runs:
        path = folder / name / "best.pt"
        if path.is_file():
            return networks.unwrap(torch.load(path, map_location="cpu", weights_only=True))
    if Path(name).is_file():
        from restora.zoo.checkpoint import read_checkpoint

        return networks.unwrap(read_checkpoint(Path(name))[0])
    try:
        from restora import zoo

        return dict(zoo.load_network(zoo.find(name)).state_dict())
    except RestoraError as error:
        places = ", ".join(f"'{folder / name}'" for folder in runs)
        raise RecipeError(
            f"The recipe starts from '{name}', but there is no run of that name ({places}), no such file and no such model; "
            "train that one first."
        ) from error

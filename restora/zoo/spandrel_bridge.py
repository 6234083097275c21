"""A bridge to the architectures that only the package spandrel knows (`pip install 'restora[spandrel]'`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import MissingExtra, UnknownArchitecture
from restora.networks.spec import NetworkSpec, global_

_TASKS = {"SR": "super-resolution", "Restoration": "mixed", "FaceSR": "super-resolution"}


class SpandrelNetwork(nn.Module):
    """A network that spandrel built, with a spec of ours. Picture in, picture out, RGB or grey in [0, 1].

    What its receptive field is, nobody has promised: the tiling is declared global, with a wide halo, and the engine says
    that tiles are an approximation.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.net = descriptor.model
        self.architecture = f"{descriptor.architecture.name} ({', '.join(descriptor.tags)})"
        sizes = descriptor.size_requirements
        multiple = sizes.multiple_of or 1
        self.spec = NetworkSpec(
            task=_TASKS.get(descriptor.purpose, "mixed"),  # type: ignore[arg-type]
            tiling=global_(-(-48 // multiple) * multiple, multiple),
            scales=(descriptor.scale,),
            channels=descriptor.input_channels,
            colour="rgb" if descriptor.input_channels == 3 else "grey",
            multiple_of=multiple,
            minimum=sizes.minimum or 1,
            half_safe=descriptor.supports_half,
            source=f"{self.architecture}, through spandrel",
        )
        self._call = descriptor._call_fn

    def forward(self, x: Tensor) -> Tensor:
        return self._call(self.net, x)


def load_with_spandrel(state: Mapping[str, Any]) -> SpandrelNetwork:
    """Builds the network that spandrel recognises a state dict as.

    Raises:
        MissingExtra: spandrel is not installed. UnknownArchitecture: it does not know it either.
    """
    if importlib.util.find_spec("spandrel") is None:
        raise MissingExtra("More architectures are known to the package spandrel: pip install 'restora[spandrel]'.")
    spandrel = _import_spandrel()
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except (spandrel.UnsupportedModelError, KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise UnknownArchitecture(
            f"spandrel does not know this checkpoint either: {error or type(error).__name__}."
        ) from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise UnknownArchitecture(
            f"spandrel knows it as {descriptor.architecture.name}, which does not take one picture alone."
        )
    return SpandrelNetwork(descriptor.eval())


def _import_spandrel() -> Any:
    """spandrel imports two functions of torchvision; where torchvision is absent or broken, a stand-in serves."""
    try:
        return importlib.import_module("spandrel")
    except (ImportError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] in ("spandrel", "torchvision")]:
            del sys.modules[name]
    functional: Any = types.ModuleType("torchvision.transforms.functional")

    def normalize(x: Tensor, mean: Any, std: Any, inplace: bool = False) -> Tensor:
        shape = (-1, 1, 1)
        return (x - torch.as_tensor(mean).to(x).view(shape)) / torch.as_tensor(std).to(x).view(shape)

    def rotate(x: Tensor, angle: float, *_: Any, **__: Any) -> Tensor:
        radians = torch.deg2rad(torch.tensor(float(angle)))
        c, s = float(torch.cos(radians)), float(torch.sin(radians))
        turn = torch.tensor([[[c, s, 0.0], [-s, c, 0.0]]]).expand(len(x), 2, 3).to(x)
        grid = F.affine_grid(turn, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    functional.normalize, functional.rotate = normalize, rotate
    functional.InterpolationMode = types.SimpleNamespace(BILINEAR="bilinear", NEAREST="nearest")
    transforms: Any = types.ModuleType("torchvision.transforms")
    vision: Any = types.ModuleType("torchvision")
    transforms.functional, transforms.InterpolationMode, vision.transforms = (
        functional,
        functional.InterpolationMode,
        transforms,
    )
    stand_in = {
        "torchvision": vision,
        "torchvision.transforms": transforms,
        "torchvision.transforms.functional": functional,
    }
    sys.modules.update(stand_in)
    try:
        return importlib.import_module("spandrel")
    finally:
        for name in stand_in:
            sys.modules.pop(name, None)

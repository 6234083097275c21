"""FFDNet: denoising at half resolution, steered by a noise-level map.

Zhang, Zuo, Zhang: FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising, IEEE TIP 2018.
Published in two layouts: a PyTorch state dict, and the MATLAB files of its authors, which `read_matlab` converts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import MissingExtra, WeightsError
from restora.networks.noise_levels import convolutions, fits, noise_map, reach, sigma_control
from restora.networks.registry import Family
from restora.networks.spec import NetworkSpec, aligned


class FFDNet(nn.Module):
    """FFDNet: 2x2 pixels become channels, the noise level joins them, plain 3x3 convolutions, and back.

    Shapes: `B x C x H x W` in [0, 1] of any size (replicated to an even one inside) -> the same. The published call also takes
    sigma / 255 as `B x 1 x 1 x 1`; a map `B x 1 x H x W` is averaged over 2x2 pixels. `restore` takes sigma on the 0-255 scale.

    Args:
        channels: 1 for grey pictures, 3 for RGB.
        depth: number of convolutions (15 grey, 12 colour). features: their width (64 grey, 96 colour).
    """

    def __init__(self, channels: int = 1, depth: int = 15, features: int = 64) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            task="denoise",
            channels=channels,
            colour="grey" if channels == 1 else "rgb",
            tiling=aligned(2, reach(["down", depth, "up"], 2)),
            controls=(sigma_control(75),),
            source="Zhang et al., IEEE TIP 2018",
        )
        layers: list[nn.Module] = [nn.Conv2d(4 * channels + 1, features, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(features, 4 * channels, 3, padding=1))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        odd = (0, width % 2, 0, height % 2)
        y = F.pixel_unshuffle(F.pad(x, odd, mode="replicate"), 2)
        if sigma.shape[-2:] != (1, 1):
            sigma = F.avg_pool2d(F.pad(sigma, odd, mode="replicate"), 2)
        y = self.model(torch.cat([y, sigma.expand(y.shape[0], 1, *y.shape[-2:])], dim=1))
        return F.pixel_shuffle(y, 2)[..., :height, :width]

    def restore(self, x: Tensor, sigma: float | Tensor = 25.0) -> Tensor:
        """Removes noise of standard deviation `sigma` (0..75 on the 0-255 scale; a number or a map of the picture's size)."""
        return self(x, noise_map(x, sigma))


def read_matlab(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict in an FFDNet file of its MATLAB authors (`FFDNet_color.mat`, `FFDNet_gray.mat`; MATLAB 7.3, HDF5).

    A filter is stored as (out, in, width, height). MATLAB numbers the four pixels of a 2x2 block by columns, PyTorch by rows:
    the second and third of every colour's four are exchanged on the way in and on the way out. Filters are not flipped.

    Raises:
        MissingExtra: the package h5py is not installed.
        WeightsError: the file is no FFDNet of that layout.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("Reading MATLAB weights needs h5py: `pip install restora[matlab]`.") from error
    state: dict[str, Tensor] = {}
    try:
        with h5py.File(path) as file:
            for number, (reference,) in enumerate(file["net"]["layers"][:]):
                layer = file[reference]
                if (
                    "weights" in layer and layer["weights"].dtype.kind == "O"
                ):  # an empty cell holds its own size instead
                    weight, bias = (torch.from_numpy(file[cell][()]).float() for cell in layer["weights"][()].ravel())
                    state[f"{number}.weight"], state[f"{number}.bias"] = weight.mT.contiguous(), bias.flatten()
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{os.fspath(path)} is no MATLAB file of an FFDNet: {error}.") from error
    kernels = [key for key, value in state.items() if value.ndim == 4]
    if len(kernels) < 2 or state[kernels[-1]].shape[0] % 4:
        raise WeightsError(f"{os.fspath(path)} holds {len(kernels)} convolutions, which are no FFDNet.")
    outputs = state[kernels[-1]].shape[0]
    order = torch.arange(outputs).reshape(-1, 2, 2).mT.flatten()
    first, last = kernels[0], kernels[-1].removesuffix("weight")
    state[first] = state[first][:, [*order.tolist(), *range(outputs, state[first].shape[1])]]
    state[last + "weight"], state[last + "bias"] = state[last + "weight"][order], state[last + "bias"][order]
    names = {key.partition(".")[0]: f"model.{2 * place}" for place, key in enumerate(kernels)}
    return {
        f"{names[number]}.{kind}": value
        for (number, _, kind), value in ((k.partition("."), v) for k, v in state.items())
    }


def _identify(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    weights = convolutions(state)
    if len(weights) < 3 or weights[-1].shape[0] % 4:
        return None
    config = {"channels": weights[-1].shape[0] // 4, "depth": len(weights), "features": weights[0].shape[0]}
    return config if config["channels"] in (1, 3) and fits(state, FFDNet, config) else None


FAMILY = Family(
    name="ffdnet",
    build=FFDNet,
    variants={"ffdnet_gray": {}, "ffdnet_color": {"channels": 3, "depth": 12, "features": 96}},
    identify=_identify,
    paper="FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising (IEEE TIP 2018)",
)

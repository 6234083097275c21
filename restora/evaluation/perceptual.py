"""LPIPS and DISTS: distances in the feature maps of a classification network, fitted to human judgements.

LPIPS: Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018 (version 0.1). DISTS: Ding, Ma, Wang, Simoncelli, TPAMI 2020.
Both need two sets of weights that Restora does not carry: the fitted ones (LPIPS: `v0.1_alex.pth`, `v0.1_vgg.pth`,
`v0.1_squeeze.pth`; DISTS: `alpha` and `beta`) and a backbone (torchvision's AlexNet, VGG-16 or SqueezeNet 1.1).
`import_weights` takes them once; or RESTORA_METRICS names a folder with them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora.errors import UsageError, WeightsError
from restora.evaluation import backbones
from restora.evaluation.metrics import to_uint8

_LPIPS_ORDER = ("alex", "vgg", "squeeze")  # the paper recommends AlexNet as a measure
_CAFFE_MEAN = (123.68, 116.78, 103.94)


class LPIPS(nn.Module):
    """Weighted squared differences of unit-length features, averaged over positions, added over layers.

    Shapes: two tensors `B x 3 x H x W`, RGB in [0, 1] -> `B` distances; 0 for equal images, higher is worse.
    """

    def __init__(self, backbone: backbones.Backbone, heads: Mapping[str, Tensor], note: str = "") -> None:
        super().__init__()
        self.backbone, self.note = backbone, note
        weights = [heads[f"lin{n}.model.1.weight"].float() for n in range(len(backbone.channels))]
        if any(w.shape != (1, c, 1, 1) for w, c in zip(weights, backbone.channels, strict=True)):
            raise WeightsError(f"These LPIPS heads were not fitted on the backbone '{backbone.name}'.")
        self.heads = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in weights])

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        total = torch.zeros(len(a), device=a.device)
        for x, y, w in zip(self.backbone(normalised(a)), self.backbone(normalised(b)), self.heads, strict=True):
            x, y = (z / (z.norm(dim=1, keepdim=True) + 1e-10) for z in (x, y))
            total = total + ((x - y) ** 2 * w).sum(dim=1).mean(dim=(1, 2))
        return total


class _SoftPool(nn.Module):
    """Root of the blurred squares, every second pixel: DISTS's pooling, free of aliases."""

    window: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        edge = torch.tensor([0.5, 1.0, 0.5])  # Hann's window of five without its zeros
        window = edge[:, None] * edge[None]
        self.register_buffer("window", (window / window.sum()).expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return (F.conv2d(x * x, self.window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class DISTS(nn.Module):
    """Similarity of the means (texture) and of the correlations (structure) of VGG-16's feature maps and of the image.

    Shapes: two tensors `B x 3 x H x W`, RGB in [0, 1] -> `B` distances in about [0, 1]; 0 for equal images.
    """

    def __init__(self, backbone: backbones.Backbone, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        total = alpha.float().sum() + beta.float().sum()
        sizes = [3, *backbone.channels]
        self.alpha, self.beta = (list((v.float() / total).split(sizes, dim=1)) for v in (alpha, beta))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        score = torch.zeros(len(a), device=a.device)
        first = [a, *self.backbone(normalised(a))]
        second = [b, *self.backbone(normalised(b))]
        for x, y, alpha, beta in zip(first, second, self.alpha, self.beta, strict=True):
            mx, my = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
            vx, vy = ((x - mx) ** 2).mean((2, 3), keepdim=True), ((y - my) ** 2).mean((2, 3), keepdim=True)
            cov = (x * y).mean((2, 3), keepdim=True) - mx * my
            texture = (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
            structure = (2 * cov + 1e-6) / (vx + vy + 1e-6)
            score = score + (alpha * texture + beta * structure).sum(dim=(1, 2, 3))
        return 1 - score


def lpips(a: Any, b: Any, net: str | None = None) -> float:
    """LPIPS 0.1 of an image against a reference; lower is better.

    Args:
        a, b: as for `psnr`, 8 bits, at least 32 pixels a side; a grey image counts as three equal channels.
        net: ``alex``, ``vgg`` or ``squeeze``; None takes the first of them that is there. Values of different
            backbones are not comparable.

    Raises:
        WeightsError: heads or backbone are missing; the sentence says what to import.
    """
    return _distance(lpips_model(net), a, b)


def dists(a: Any, b: Any) -> float:
    """DISTS of an image against a reference, at the images' own size; lower is better. Arguments and errors as `lpips`."""
    return _distance(dists_model(), a, b)


def lpips_model(net: str | None = None, folder: str | Path | None = None) -> LPIPS:
    """The LPIPS network, from a folder of weights (RESTORA_METRICS or what was imported, by default).

    Raises:
        WeightsError: as `lpips`. UsageError: no such backbone.
    """
    if net is not None and net not in _LPIPS_ORDER:
        raise UsageError(f"LPIPS looks through {', '.join(_LPIPS_ORDER)}; '{net}' is none of them.")
    return _lpips(net, _folder(folder))


@functools.lru_cache(maxsize=4)
def _lpips(net: str | None, folder: Path) -> LPIPS:
    found = _collection(folder)
    for name in (net,) if net else _LPIPS_ORDER:
        if f"lpips-{name}" in found and name in found:
            note = found.get(f"{name}-note", "")
            return LPIPS(backbones.load(backbones.BACKBONES[name](), found[name]), found[f"lpips-{name}"], note)
    names = net or "alex (or vgg, squeeze)"
    raise WeightsError(
        f"LPIPS needs its heads (v0.1_{net or 'alex'}.pth) and the backbone {names} (torchvision's checkpoint): neither comes "
        f"with Restora. Put both into a folder and set RESTORA_METRICS to it, or call "
        f"restora.evaluation.import_weights(FILE...). There is now: {', '.join(sorted(found)) or 'nothing'}."
    )


def dists_model(folder: str | Path | None = None) -> DISTS:
    """The DISTS network; folder and errors as `lpips_model`."""
    return _dists(_folder(folder))


@functools.lru_cache(maxsize=2)
def _dists(folder: Path) -> DISTS:
    found = _collection(folder)
    if "dists" not in found or "vgg" not in found:
        raise WeightsError(
            "DISTS needs its alpha and beta (DISTS_pytorch_weights.pt) and torchvision's VGG-16 checkpoint: neither comes "
            "with Restora. Put both into a folder and set RESTORA_METRICS to it, or call "
            f"restora.evaluation.import_weights(FILE...). There is now: {', '.join(sorted(found)) or 'nothing'}."
        )
    backbone = backbones.load(backbones.vgg16(_SoftPool), found["vgg"])
    return DISTS(backbone, found["dists"]["alpha"], found["dists"]["beta"])


def import_weights(*files: str | Path) -> list[str]:
    """Takes heads, parameters and backbones into the cache, converted to safetensors; returns what they were.

    A SqueezeNet 1.1 as ONNX is taken too, if its layers are named as Caffe's: its first layer is rewritten from BGR of 0
    to 255 to normalised RGB. It is not the network that LPIPS was fitted on, and `lpips` says so in its note.

    Raises:
        WeightsError: unreadable, or nothing that a measure uses.
    """
    from safetensors.torch import save_file

    from restora.io import atomic_path

    folder = metrics_folder()
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for file in files:
        kind, state, note = _recognise(Path(file))
        if not kind:
            raise WeightsError(f"'{file}' holds neither LPIPS heads, nor DISTS parameters, nor a known backbone.")
        with atomic_path(folder / f"{kind}.safetensors") as temporary:
            save_file({k: v.contiguous() for k, v in state.items()}, temporary, {"restora.metric": kind, "note": note})
        names.append(kind)
    for cached in (_collection, _lpips, _dists):
        cached.cache_clear()
    return names


def metrics_folder() -> Path:
    """Where imported weights of metrics are kept."""
    from restora.zoo import cache_folder

    return cache_folder() / "metrics"


def _folder(folder: str | Path | None) -> Path:
    return Path(folder or os.environ.get("RESTORA_METRICS") or metrics_folder())


@functools.lru_cache(maxsize=4)
def _collection(folder: Path) -> dict[str, Any]:
    """What a folder holds, by kind: ``lpips-alex``, ``dists``, ``alex``, ``vgg``, ``squeeze``."""
    found: dict[str, Any] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".pth", ".pt", ".safetensors", ".onnx"):
            continue
        try:
            kind, state, note = _recognise(path)
        except WeightsError:
            continue
        if kind and (kind not in found or not note):
            found[kind] = state
            if note:
                found[f"{kind}-note"] = note
    return found


def _recognise(path: Path) -> tuple[str, dict[str, Tensor], str]:
    """(kind, tensors, note) of a file."""
    from restora.zoo.checkpoint import read_checkpoint

    if path.suffix.lower() == ".onnx":
        return "squeeze", from_caffe(path), "SqueezeNet of an ONNX file, not the one that LPIPS was fitted on"
    content, metadata = read_checkpoint(path)
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    note = metadata.get("note", "")
    if "alpha" in state and "beta" in state and state["alpha"].numel() == 1475:
        return "dists", {k: state[k].reshape(1, -1, 1, 1) for k in ("alpha", "beta")}, note
    if "lin0.model.1.weight" in state:
        if path.name.startswith("v0.0"):
            return "", {}, ""
        widths = tuple(state[k].shape[1] for k in sorted(state) if k.endswith(".model.1.weight"))
        for name, build in backbones.BACKBONES.items():
            if widths == build().channels:
                return f"lpips-{name}", state, note
        return "", {}, ""
    kind = backbones.identify(state)
    own = backbones.BACKBONES[kind]().state_dict() if kind else {}
    return kind, {k: state[k] for k in own}, note


def from_caffe(path: Path) -> dict[str, Tensor]:
    from restora.evaluation.onnx_weights import read_initialisers

    tensors = {k: torch.from_numpy(v.astype(np.float32)) for k, v in read_initialisers(path).items()}
    places = {"conv1": "features.0"}
    numbers = (3, 4, 6, 7, 9, 10, 11, 12)
    for fire, place in zip(range(2, 10), numbers, strict=True):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            places[f"fire{fire}/{part if part != 'squeeze' else 'squeeze1x1'}"] = f"features.{place}.{part}"
    try:
        state = {f"{new}.weight": tensors[f"{old}_w_0"] for old, new in places.items()}
        state |= {f"{new}.bias": tensors[f"{old}_b_0"] for old, new in places.items()}
    except KeyError as error:
        raise WeightsError(f"'{path}' is no SqueezeNet 1.1 with Caffe's layer names: {error} is missing.") from error
    # x_caffe[bgr] = 255 * (std * x + mean) - caffe mean, folded into the first layer
    first = state["features.0.weight"].flip(1)
    scale = 255 * torch.tensor(backbones.STD)
    offset = 255 * torch.tensor(backbones.MEAN) - torch.tensor(_CAFFE_MEAN)
    state["features.0.bias"] = state["features.0.bias"] + (first * offset[:, None, None]).sum(dim=(1, 2, 3))
    state["features.0.weight"] = first * scale[:, None, None]
    return state


def normalised(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (backbones.MEAN, backbones.STD))
    return (x - mean) / std


def _distance(model: nn.Module, a: Any, b: Any) -> float:
    from restora.engine import load

    x, y = (load(np.repeat(z, 3, axis=2) if z.shape[2] == 1 else z) for z in (to_uint8(a), to_uint8(b)))
    if x.shape != y.shape or min(x.shape[-2:]) < 32:
        raise UsageError(
            f"Perceptual distances need two images of one size of at least 32x32; these are {tuple(x.shape[-2:])} and "
            f"{tuple(y.shape[-2:])} (height, width)."
        )
    with torch.inference_mode():
        return float(model(x, y))

"""CutBlur's finding in small: what a super-resolution network does to a picture that is sharp already.

The same small network (EDSR with a pixel-unshuffle head, which takes the input enlarged) is trained on the same crops without an
augmentation, with inputs that are sometimes simply the sharp picture, with CutBlur, and with the mixture of augmentations.
Each is then fed held-out photographs: degraded (does it enlarge as well as the others?), sharp (how much does it change what
needs no change?) and half and half. Efficiency thesis, sections 2.5 and 3.3; Yoo et al., CVPR 2020.

    python benchmarks/cutblur_finding.py --data photos/ --held-out others/ [--steps 2500] [--scale 2] [--threads 1]

Columns: `sr-y` PSNR of the enlarged picture (bicubic beside it); residual = mean |output - sharp| in grey levels of 255 with
the sharp picture as input, over all pixels and over the tenth of the pixels with the steepest gradient; gain = power of the output
over that of the sharp picture in dB, in the octave below the low resolution's own limit (where a network that expects blur
sharpens) and in the highest octave (which it has never seen in an input); half = residual within the sharp half of an input
whose other half is degraded.

With `--enlarge nearest`, as the published code has it, all pixels of a block of the input are equal: a network that never saw
anything else takes their mean, so that sharp pictures come out soft rather than over-sharpened. With `bicubic`, as the paper
says, it expects blur and sharpens what has none.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restora import networks
from restora.degradation import resize
from restora.evaluation import psnr
from restora.evaluation.spectrum import spectral_change
from restora.training import Photographs
from restora.training.augment import Augmented, CutBlur, MoA, enlarged

_MARGIN = 3  # low-resolution pixels that the bicubic kernel needs around a patch


def feed_sharp(share: float) -> Callable[..., Augmented]:
    """The naive remedy: for a share of the pictures the input is the sharp picture as a whole."""

    def augment(x: Tensor, y: Tensor, rng: np.random.Generator) -> Augmented:
        chosen = torch.from_numpy(rng.random((len(x), 1, 1, 1)) < share)
        return Augmented(torch.where(chosen, y, x), y)

    return augment


def reduce(sharp: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic reduction, rounded to 8 bits."""
    return (resize(sharp, 1 / scale).clamp(0, 1) * 255).round() / 255


def train(
    photos: Photographs, augment: Callable[..., Augmented] | None, chosen: argparse.Namespace
) -> tuple[nn.Module, float]:
    """A trained network and the seconds that it took. Crops depend on seed and step only, so every network sees the same."""
    scale, steps, seed = chosen.scale, chosen.steps, chosen.seed
    torch.manual_seed(seed)
    net = networks.create("cutblur_edsr_x4", scale=scale, channels=32, blocks=4, residual_factor=1.0).train()
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps, pct_start=0.05)
    started = time.perf_counter()
    edge = _MARGIN * scale
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        crops = photos.crops(chosen.batch, (chosen.patch + 2 * _MARGIN) * scale, rng)
        sharp = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        low = reduce(sharp, scale)[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        x, y, mask = enlarged(low, scale, chosen.enlarge), sharp[..., edge:-edge, edge:-edge], None
        if augment is not None:
            done = augment(x, y, rng)
            x, y, mask = done.input, done.target, done.mask
        difference = (net(x.contiguous(memory_format=torch.channels_last) * 255) / 255 - y).abs()
        loss = (difference if mask is None else difference * mask).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval(), time.perf_counter() - started


def gradient(x: Tensor) -> Tensor:
    """Squared gradient of the mean of the channels, `H-1 x W-1`."""
    grey = x.mean(dim=1)[0]
    return (grey[1:, :-1] - grey[:-1, :-1]) ** 2 + (grey[:-1, 1:] - grey[:-1, :-1]) ** 2


@torch.inference_mode()
def measure(net: nn.Module, pictures: list[Tensor], scale: int, enlarge: Any) -> dict[str, float]:
    """Means over the pictures of what the columns say."""
    rows: dict[str, list[float]] = {name: [] for name in ("psnr", "residual", "steep", "below", "high", "half")}

    def restored(x: Tensor) -> Tensor:
        return (net(x * 255) / 255).clamp(0, 1)

    for sharp in pictures:
        low = enlarged(reduce(sharp, scale), scale, enlarge)
        rows["psnr"].append(psnr(restored(low), sharp, protocol="sr-y", scale=scale))
        again = restored(sharp)
        error = (again - sharp).abs().mean(dim=1)[0] * 255
        steep = gradient(sharp)
        chosen = F.pad(steep, (0, 1, 0, 1)) >= torch.quantile(steep.flatten()[:: max(1, steep.numel() // 100_000)], 0.9)
        rows["residual"].append(float(error.mean()))
        rows["steep"].append(float(error[chosen].mean()))
        gains = spectral_change("", sharp, again).bands
        rows["below"].append(gains[-1 - round(math.log2(scale))])
        rows["high"].append(gains[-1])
        middle = sharp.shape[-1] // 2
        half = torch.cat([low[..., :middle], sharp[..., middle:]], dim=-1)
        away = middle + 8 * scale  # the two halves reach into each other
        rows["half"].append(float((restored(half) - sharp)[..., away:].abs().mean()) * 255)
    return {name: float(np.mean(values)) for name, values in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs to train on")
    parser.add_argument("--held-out", type=Path, required=True, help="folder of others to measure on")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--scale", type=int, default=2, choices=(2, 4))
    parser.add_argument("--enlarge", choices=("bicubic", "nearest"), default="bicubic")
    parser.add_argument("--patch", type=int, default=24, help="side of a patch in low-resolution pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    photos, held_out = Photographs(chosen.data), Photographs(chosen.held_out)
    pictures = []
    for image in held_out.images:
        top, left = ((n - 512) // 2 if n > 512 else 0 for n in image.shape[:2])
        part = image[top : top + 512, left : left + 512]
        height, width = (n - n % chosen.scale for n in part.shape[:2])
        pictures.append(torch.from_numpy(part[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255)
    print(
        f"x{chosen.scale} ({chosen.enlarge}), {chosen.steps} steps of {chosen.batch} patches of {chosen.patch}, seed {chosen.seed}; "
        f"{len(photos.images)} photographs ({photos.checksum[:12]}), measured on the middles of {len(pictures)} "
        f"({held_out.checksum[:12]})\n",
        flush=True,
    )
    plain = np.mean(
        [psnr(resize(reduce(p, chosen.scale), chosen.scale), p, protocol="sr-y", scale=chosen.scale) for p in pictures]
    )
    print(
        "| trained with | sr-y dB | residual on sharp | on steep tenth | gain below limit, dB | gain highest, dB | residual, half | train s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(f"| (bicubic) | {plain:.2f} | - | - | - | - | - | - |", flush=True)
    augmentations: dict[str, Callable[..., Augmented] | None] = {
        "nothing": None,
        "sharp inputs, 1 of 2": feed_sharp(0.5),
        "CutBlur": CutBlur(),
        "mixture of augmentations": MoA(),
    }
    for name, augment in augmentations.items():
        net, seconds = train(photos, augment, chosen)
        row = measure(net, pictures, chosen.scale, chosen.enlarge)
        print(
            f"| {name} | {row['psnr']:.2f} | {row['residual']:.2f} | {row['steep']:.2f} | {row['below']:+.2f} "
            f"| {row['high']:+.2f} | {row['half']:.2f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

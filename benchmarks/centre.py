"""Sets the last bias of an enlarging network so that it keeps the mean colour of photographs: for maintainers, before ship.py.

    python benchmarks/centre.py runs/span_x4 --data photos/

L1 leaves a network a little too dark or too light (its answer is a median, not a mean). From the middle of each training
photograph, reduced as in training, the mean error of each colour is measured and taken off the bias behind the last
convolution. The run's weights are rewritten, and the card says what was added. No benchmark and no held-out picture is seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from restora import zoo
from restora.degradation import resize
from restora.io import Picture
from restora.networks import load_state
from restora.zoo.checkpoint import file_sha256, write_weights

SIDE, BORDER = 256, 16


def crops(folder: Path) -> list[Tensor]:
    """The middle of each 8-bit colour photograph that is large enough, `1 x 3 x 256 x 256` in [0, 1]."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        pixels = Picture.open(path).pixels
        if pixels.dtype != "uint8" or pixels.shape[2] != 3 or min(pixels.shape[:2]) < SIDE:
            continue
        top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
        part = torch.from_numpy(pixels[top : top + SIDE, left : left + SIDE].copy())
        found.append(part.permute(2, 0, 1)[None].float() / 255)
    return found


@torch.no_grad()
def error(net: nn.Module, pictures: list[Tensor], scale: int) -> Tensor:
    """The mean of output minus truth for each colour, borders left out."""
    sums = torch.zeros(3)
    for clean in pictures:
        low = resize(clean, 1 / scale).clamp(0, 1).mul(255).round() / 255
        sums += (net(low) - clean)[..., BORDER:-BORDER, BORDER:-BORDER].mean((0, 2, 3))
    return sums / len(pictures)


def main() -> None:
    """Centres one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the photographs that it was trained on")
    chosen = parser.parse_args()
    (file,) = chosen.run.glob("*.safetensors")
    card = zoo.read_card(file.with_suffix(".yaml"))
    net, _ = zoo.identify_file(file, variant=card.variant)
    with safe_open(file, "pt") as given:
        metadata, half = given.metadata(), given.get_tensor(next(iter(given.keys()))).dtype == torch.float16
    last = [module for module in net.modules() if isinstance(module, nn.Conv2d)][-1]
    scale = card.scales[0]
    if len(card.scales) != 1 or last.bias is None or len(last.bias) != 3 * scale**2:
        parser.error(f"{file.name} does not end in one pixel shuffle of three colours")
    pictures = crops(chosen.data)
    if not pictures:
        parser.error(f"{chosen.data} has no 8-bit colour photograph of {SIDE} pixels a side")
    off = error(net, pictures, scale)
    with torch.no_grad():
        last.bias -= off.repeat_interleave(scale**2)
    left = error(net, pictures, scale)
    write_weights(load_state(net, net.state_dict()).half() if half else net, file, metadata)
    said = ", ".join(f"{-255 * x:+.3f}" for x in off.tolist())
    note = f"the last bias was moved by {said} of 255 to keep the mean colour of {len(pictures)} training photographs"
    zoo.write_card(
        card.model_copy(
            update={
                "weights": card.weights.model_copy(update={"sha256": file_sha256(file), "bytes": file.stat().st_size}),
                "training": card.training.model_copy(update={"notes": f"{card.training.notes}; {note}"}),
            }
        ),
        file.with_suffix(".yaml"),
    )
    print(f"{note}; left {', '.join(f'{255 * x:+.3f}' for x in left.tolist())}")


if __name__ == "__main__":
    main()

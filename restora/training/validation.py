"""Measuring a run on pictures that it does not learn from, beside the degraded input and a plain method."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from restora.evaluation import psnr, ssim
from restora.io import atomic_path
from restora.training.batch import Batch
from restora.training.plain import baseline, enlarged

if TYPE_CHECKING:
    from restora.networks import NetworkSpec
    from restora.training.pairs import Case
    from restora.training.procedures import Procedure

_SHEET_SIDE = 192


@dataclass
class Scores:
    """Mean PSNR in dB of each case, for the network, the degraded input and a plain method; `plain` says which."""

    output: dict[str, float] = field(default_factory=dict)
    input: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    plain: str = ""

    @property
    def mean(self) -> float:
        """Over the cases."""
        return float(np.mean(list(self.output.values())))

    @property
    def mean_input(self) -> float:
        return float(np.mean(list(self.input.values())))

    @property
    def mean_baseline(self) -> float:
        return float(np.mean(list(self.baseline.values())))


class Validator:
    """Held-out pictures, each with its own fixed degradation in every case; the same at every validation and in every run.

    Args:
        pictures: `1 x 3 x H x W` in [0, 1]. procedure: makes the cases and calls the network. protocol: of the scores.
        colour: as the network takes it.
    """

    def __init__(self, pictures: list[Tensor], procedure: Procedure, protocol: str, colour: str) -> None:
        self.pictures, self.procedure, self.protocol, self.colour = pictures, procedure, protocol, colour
        self._plain: Scores | None = None

    def examples(self, case: Case) -> list[Batch]:
        """The pairs of a case, in the colours and of a size that the network takes."""
        pairs = self.procedure.pairs
        spec: NetworkSpec = self.procedure.net.spec  # type: ignore[assignment]
        multiple = math.lcm(spec.multiple_of, spec.tiling.window)
        return [
            pairs.coloured(pairs.maker.example(clean.clone(), case, seed)).cut(multiple)
            for seed, clean in enumerate(self.pictures)
        ]

    @torch.no_grad()
    def measure(self, net: nn.Module, device: torch.device, sheet: Path | None = None, rows: int = 0) -> Scores:
        """Scores of a network in eval mode; writes a sheet of `rows` pictures of the first case where a path is given."""
        scores = Scores()
        known = self._plain
        for number, case in enumerate(self.procedure.cases()):
            measured: list[list[float]] = [[], [], []]
            strips = []
            for place, pair in enumerate(self.examples(case)):
                output = self.procedure.restore(net, pair.to(device)).cpu()
                measured[0].append(self._psnr(output, pair))
                if known is None:
                    plain, scores.plain = baseline(pair, self.procedure.pairs.maker.task)
                    measured[1].append(self._psnr(enlarged(pair), pair))
                    measured[2].append(self._psnr(plain, pair))
                if sheet is not None and number == 0 and place < rows:
                    strips.append(_strip(pair, output, self.colour))
            scores.output[case.name] = float(np.mean(measured[0]))
            if known is None:
                scores.input[case.name], scores.baseline[case.name] = (float(np.mean(m)) for m in measured[1:])
            if strips and sheet is not None:
                _write(np.concatenate(strips), sheet)
        if known is None:
            self._plain = scores
        else:  # the input and the plain method are the same at every validation
            scores.input, scores.baseline, scores.plain = known.input, known.baseline, known.plain
        return scores

    @torch.no_grad()
    def similarity(self, net: nn.Module, device: torch.device) -> dict[str, float]:
        """Mean SSIM of a network in every case, under the same protocol."""
        return {
            case.name: float(
                np.mean(
                    [
                        ssim(
                            self.procedure.restore(net, pair.to(device)).cpu().clamp(0, 1),
                            pair.target.clamp(0, 1),
                            protocol=self.protocol,
                            scale=pair.scale,
                        )
                        for pair in self.examples(case)
                    ]
                )
            )
            for case in self.procedure.cases()
        }

    @property
    def checksum(self) -> str:
        """SHA-256 over the held-out pictures as they are measured on."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            digest.update(str(tuple(picture.shape)).encode() + picture.mul(255).round().byte().numpy().tobytes())
        return digest.hexdigest()

    def _psnr(self, output: Tensor, pair: Batch) -> float:
        # a network that has only begun may be far outside; every protocol clips
        return psnr(output.clamp(0, 1), pair.target.clamp(0, 1), protocol=self.protocol, scale=pair.scale)


def _strip(pair: Batch, output: Tensor, colour: str) -> np.ndarray:
    """Input, output and target side by side, from the middle: `side x 3 side x 3` uint8."""
    from restora.degradation import luma_to_grey
    from restora.training.data import centre

    parts = []
    for picture in (enlarged(pair), output, pair.target):
        shown = luma_to_grey(picture) if colour == "luma" else picture
        array = shown[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
        parts.append(centre(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array, _SHEET_SIDE))
    strip = np.concatenate(parts, axis=1)
    wide = np.full((_SHEET_SIDE, 3 * _SHEET_SIDE, 3), 255, np.uint8)
    wide[: strip.shape[0], : strip.shape[1]] = strip
    return wide


def _write(sheet: np.ndarray, path: Path) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)

"""The blur kernel that a user gives, as a solver needs it, with what is worth telling about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation import kernels
from restora.errors import UsageError

ESTIMATE = "estimate"
_OFF_CENTRE = 0.75  # pixels; discs and motion paths of even length are off by up to half a pixel
_NOTHING = 1e-6  # of the weight: rows and columns with less are cut off


@dataclass(frozen=True, eq=False)
class BlurKernel:
    """A kernel `kh x kw`: odd, non-negative, of sum 1, without empty margins; where it is from; sentences about it.

    `centroid`: how far its centre of gravity lies right of and below the middle, in pixels.
    """

    weights: Tensor
    label: str
    estimated: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Any) -> BlurKernel:
        """Of a formula (``gaussian:1.6``, ``motion:25:30``, ``disk:4``), a path, an array or a tensor.

        What a solver cannot use is mended and said in `notes`: even sides, negative values, a sum other than 1. A kernel that
        is off-centre is left so, because the blur may be; the note says what comes of it.

        Raises:
            UsageError: it is no kernel.
        """
        if isinstance(value, BlurKernel):
            return value
        if isinstance(value, (str, Path)):
            provenance = kernels.provenance(value)
            return cls._checked(kernels.parse(str(value)), str(value), provenance is not None and provenance.estimated)
        if isinstance(value, (np.ndarray, Tensor, list, tuple)):
            try:
                array = torch.as_tensor(np.asarray(value, np.float32) if not isinstance(value, Tensor) else value)
            except (ValueError, TypeError) as error:
                raise UsageError(f"This is no kernel: {error}.") from error
            array = array.detach().cpu().float()
            while array.ndim > 2 and 1 in array.shape:
                array = array.squeeze(next(i for i, n in enumerate(array.shape) if n == 1))
            return cls._checked(array, f"array {'x'.join(map(str, array.shape))}")
        raise UsageError(
            f"A kernel is a formula (gaussian:1.6, motion:25:30, disk:4), a file, an array or '{ESTIMATE}', "
            f"not {type(value).__name__}."
        )

    @classmethod
    def from_estimate(cls, weights: Tensor, confidence: float, notes: tuple[str, ...] = ()) -> BlurKernel:
        """Of a kernel that was estimated from the picture itself."""
        found = cls._checked(weights.detach().cpu().float(), f"estimated, confidence {confidence:.2f}", True)
        return replace(found, notes=(*notes, *found.notes))

    @classmethod
    def _checked(cls, k: Tensor, label: str, estimated: bool = False) -> BlurKernel:
        if k.ndim != 2 or 0 in k.shape:
            raise UsageError(f"A kernel has two dimensions, not the shape {tuple(k.shape)}.")
        if not bool(torch.isfinite(k).all()):
            raise UsageError(f"The kernel '{label}' holds NaN or infinity.")
        notes = []
        k = k.double()
        if float(k.clamp(min=0).sum()) <= 0:
            raise UsageError(f"The kernel '{label}' has no positive value.")
        negative = float(-k.clamp(max=0).sum() / k.clamp(min=0).sum())
        if negative > 1e-6:
            notes.append(f"The kernel has negative values ({negative:.1%} of its weight); they were set to 0.")
        elif abs(float(k.sum()) - 1) > 1e-3:
            notes.append(f"The kernel sums to {float(k.sum()):.4g}; it was divided by that.")
        if not (k.shape[0] % 2 and k.shape[1] % 2):
            notes.append(
                f"The kernel has an even side ({k.shape[0]}x{k.shape[1]}); a line of zeros was added behind, "
                "so that its middle is the later of the two middle pixels."
            )
            k = F.pad(k, (0, 1 - k.shape[1] % 2, 0, 1 - k.shape[0] % 2))
        k = k.clamp(min=0)
        k = _trimmed(k / k.sum())
        right, down = centroid(k)
        if max(abs(right), abs(down)) > _OFF_CENTRE:
            notes.append(
                f"The kernel is off-centre: its weight lies {right:+.1f} px across and {down:+.1f} px down from the middle, "
                "so the result is moved by as much. Centre it (--centre) unless the blur itself moved the picture."
            )
        return cls(k.float(), label, estimated, tuple(notes))

    @property
    def shape(self) -> str:
        """Rows x columns."""
        return f"{self.weights.shape[0]}x{self.weights.shape[1]}"

    @property
    def sha256(self) -> str:
        """A checksum of the values."""
        return hashlib.sha256(self.weights.contiguous().numpy().tobytes()).hexdigest()

    def centred(self) -> BlurKernel:
        """With its centre of gravity moved to the middle, by whole pixels."""
        kept = tuple(n for n in self.notes if "off-centre" not in n)
        return replace(self, weights=_trimmed(kernels.repair(self.weights).double()).float(), notes=kept)


def centroid(kernel: Tensor) -> tuple[float, float]:
    """How far the centre of gravity lies right of and below the middle, in pixels."""
    k = kernel.double()
    rows = torch.arange(k.shape[0], dtype=torch.float64) - (k.shape[0] - 1) / 2
    columns = torch.arange(k.shape[1], dtype=torch.float64) - (k.shape[1] - 1) / 2
    return float((k.sum(0) * columns).sum() / k.sum()), float((k.sum(1) * rows).sum() / k.sum())


def _trimmed(k: Tensor) -> Tensor:
    """Without margins that hold nothing: they would only make tiles overlap more."""
    for axis in (0, 1):
        line = k.sum(1 - axis)
        half = len(line) // 2
        outer = (line[:half] + line[half + 1 :].flip(0)).cumsum(0)
        cut = int((outer <= _NOTHING).sum())
        k = k.narrow(axis, cut, k.shape[axis] - 2 * cut)
    return k / k.sum()

"""Lossy compression: by the real coders, and JPEG as arithmetic that a gradient passes through."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restora.degradation.base import Degradation
from restora.degradation.distributions import check
from restora.degradation.frames import over_frames, to_float, to_uint8
from restora.errors import UsageError


def _coded(x: Tensor, suffix: str, options: list[int], who: str) -> Tensor:
    """Every frame encoded and decoded; one or three channels."""
    import cv2

    if x.shape[1] not in (1, 3):
        raise UsageError(f"{who} takes pictures of 1 or 3 channels, not {x.shape[1]}.")
    colour = x.shape[1] == 3

    def work(a: np.ndarray) -> np.ndarray:
        pixels = to_uint8(a)
        source = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if colour else pixels
        good, data = cv2.imencode(suffix, source, options)
        if not good:
            raise UsageError(f"OpenCV has no coder for {who} on this machine.")
        decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
        return to_float(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if colour else decoded)

    return over_frames(x, work, who)


class Jpeg(Degradation):
    """Through a real JPEG coder (libjpeg's quality, 1 to 100); chroma at half size (``420``) or full (``444``).

    The picture is rounded to 8 bits and clipped. No gradient passes; `SoftJpeg` has one.
    """

    quality: Any
    chroma: Any = "420"

    def __post_init__(self) -> None:
        check("The quality of a JPEG", self.quality, 1, 100)
        if isinstance(self.chroma, str) and self.chroma not in ("420", "444"):
            raise UsageError(f"The chroma of a JPEG is 420 or 444, not '{self.chroma}'.")

    def run(self, x: Tensor) -> Tensor:
        import cv2

        options = [cv2.IMWRITE_JPEG_QUALITY, round(self.quality)]
        if x.shape[1] == 3:
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111 if self.chroma == "420" else 0x111111]
        return _coded(x, ".jpg", options, "JPEG")


class WebP(Degradation):
    """Through a real WebP coder, lossy, quality 1 to 100. Rounded to 8 bits and clipped; no gradient passes."""

    quality: Any

    def __post_init__(self) -> None:
        check("The quality of a WebP", self.quality, 1, 100)

    def run(self, x: Tensor) -> Tensor:
        import cv2

        return _coded(
            x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x,
            ".webp",
            [cv2.IMWRITE_WEBP_QUALITY, round(self.quality)],
            "WebP",
        )[:, : x.shape[1]]


# the example tables of the JPEG standard (ITU-T T.81, annex K.1), which every quality setting is a multiple of
_LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMA = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 "
    "99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"
)
# full-range BT.601, as JFIF
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@functools.cache
def _constants() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The 8x8 cosine transform, both quantisation tables, and the colour matrix."""
    i = torch.arange(8, dtype=torch.float64)
    dct = torch.cos(math.pi / 8 * (i + 0.5) * i[:, None]) * 0.5
    dct[0] *= math.sqrt(0.5)
    tables = [torch.tensor([float(v) for v in text.split()]).view(8, 8) for text in (_LUMA, _CHROMA)]
    return dct.float(), tables[0], tables[1], torch.tensor(_TO_YCC)


def scaled_table(table: Tensor, quality: float) -> Tensor:
    """A quantisation table at a quality from 1 to 100, by libjpeg's rule, its steps from 1 to 255."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality  # a whole number, as there
    return ((table * factor + 50) / 100).floor().clamp(1, 255)


@functools.cache
def standard_tables() -> tuple[np.ndarray, np.ndarray]:
    """libjpeg's tables for luminance and for chrominance at the qualities 1 to 100: each `100 x 64`, rows in order."""
    luma, chroma = (
        torch.stack([scaled_table(table, q).flatten() for q in range(1, 101)]).numpy() for table in _constants()[1:3]
    )
    return luma, chroma


def _whole(x: Tensor) -> Tensor:
    """Rounded forwards, the identity backwards."""
    return x + (x.detach().round() - x.detach())


class SoftJpeg(Degradation):
    """JPEG as arithmetic, for training through it: colour transform, chroma at half size, 8x8 cosine transform, tables by
    quality. Coefficients are rounded exactly; backwards, rounding counts as the identity (``straight``) or as the cubic
    `round(v) + (v - round(v))^3`, which is then also used forwards (``cubic``).

    Within a fraction of a grey level of libjpeg's result at equal quality, in the mean; single blocks differ more, where a
    coefficient lies between two steps and libjpeg's integer arithmetic takes the other. Clipped to [0, 1].
    """

    quality: Any
    chroma: Any = "420"
    rounding: Any = "straight"

    def __post_init__(self) -> None:
        check("The quality of a JPEG", self.quality, 1, 100)
        if isinstance(self.chroma, str) and self.chroma not in ("420", "444"):
            raise UsageError(f"The chroma of a JPEG is 420 or 444, not '{self.chroma}'.")
        if isinstance(self.rounding, str) and self.rounding not in ("straight", "cubic"):
            raise UsageError(f"The rounding of a soft JPEG is straight or cubic, not '{self.rounding}'.")

    def run(self, x: Tensor) -> Tensor:
        if x.shape[1] not in (1, 3):
            raise UsageError(f"JPEG takes pictures of 1 or 3 channels, not {x.shape[1]}.")
        height, width = x.shape[-2:]
        _, luma, chroma, matrix = _constants()
        planes = F.pad(x.clamp(0, 1), (0, -width % 16, 0, -height % 16), mode="replicate") * 255
        if x.shape[1] == 1:
            return (self._blocks(planes - 128, luma) + 128)[..., :height, :width].clamp(0, 255) / 255
        mixed = _whole(torch.einsum("nchw,dc->ndhw", planes, matrix.to(x)))  # libjpeg works on whole numbers
        y = self._blocks(mixed[:, :1] - 128, luma) + 128
        c = mixed[:, 1:]
        if self.chroma == "420":
            half = self._blocks(_whole(F.avg_pool2d(c, 2)), chroma)
            c = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            c = self._blocks(c, chroma)
        back = torch.linalg.inv(matrix.double()).to(x)
        rgb = torch.einsum("nchw,dc->ndhw", torch.cat([_whole(y), _whole(c)], 1), back)
        return rgb[..., :height, :width].clamp(0, 255) / 255

    def _blocks(self, planes: Tensor, table: Tensor) -> Tensor:
        n, c, height, width = planes.shape
        dct = _constants()[0].to(planes)
        steps = scaled_table(table, float(self.quality)).to(planes)
        blocks = planes.reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
        coefficients = dct @ blocks @ dct.T / steps
        rounded = coefficients.detach().round()
        if self.rounding == "cubic":
            kept = rounded + (coefficients - rounded) ** 3
        else:
            kept = coefficients + (rounded - coefficients).detach()
        return (dct.T @ (kept * steps) @ dct).transpose(3, 4).reshape(n, c, height, width)

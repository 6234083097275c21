"""Damage of film and paper: scratches, dust, stains, and pictures of real damage laid over.

Every kind is drawn as a layer: how much of each pixel is covered, and by which colour. Over a clip each defect stays from
one frame to the next with the probability `persistence` (moving a little), or gives way to a new one.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restora.degradation.base import Degradation, Draw, Size
from restora.degradation.distributions import check
from restora.degradation.resize import resize
from restora.errors import UsageError

Array = np.ndarray
_SHIFT = 4  # OpenCV draws at 1/16 of a pixel
_COLOURS = ("white", "black", "coloured")


class _Damage(Degradation):
    """Base of drawn damage. Fields: count, colour, opacity, persistence, key. A subclass gives `_new` and `_shape`."""

    def __post_init__(self) -> None:
        for name, high in (("count", math.inf), ("opacity", 1), ("persistence", 1)):
            check(f"The {name} of a damage", getattr(self, name), 0, high)
        colour = self.colour  # type: ignore[attr-defined]
        if isinstance(colour, str) and colour not in _COLOURS:
            raise UsageError(f"The colour of a damage is {', '.join(_COLOURS)}, not '{colour}'.")

    def _new(self, rng: np.random.Generator, size: Size) -> dict[str, Any]:
        """One defect: whatever `_shape` needs."""
        raise NotImplementedError

    def _shape(self, item: dict[str, Any], size: Size) -> Array:
        """How far a defect covers each pixel: `H x W`, 0 to 255."""
        raise NotImplementedError

    def _move(self, item: dict[str, Any], rng: np.random.Generator, size: Size) -> None:
        """What time does to a defect that stays."""

    def layers(self, frames: int, size: Size) -> tuple[Tensor, Tensor]:
        """The cover of every frame, `T x 1 x H x W` in [0, 1], and the colour times the cover, `T x 3 x H x W`."""
        rng = self.rng()
        count = int(self.count)  # type: ignore[attr-defined]
        items = [self._item(rng, size) for _ in range(count)]
        covers, paints = [], []
        for frame in range(frames):
            if frame:
                stays = rng.random(count) < self.persistence  # type: ignore[attr-defined]
                for i, item in enumerate(items):
                    if stays[i]:
                        self._move(item, rng, size)
                    else:
                        items[i] = self._item(rng, size)
            cover, paint = np.zeros(size, np.float32), np.zeros((3, *size), np.float32)
            for item in items:
                c = self._shape(item, size).astype(np.float32) * np.float32(item["opacity"] / 255)
                cover += c * (1 - cover)
                paint += c * (item["colour"][:, None, None] - paint)
            covers.append(cover)
            paints.append(paint)
        return torch.from_numpy(np.stack(covers))[:, None], torch.from_numpy(np.stack(paints))

    def _item(self, rng: np.random.Generator, size: Size) -> dict[str, Any]:
        item = self._new(rng, size)
        tone = {"white": 1.0, "black": 0.0}.get(self.colour)  # type: ignore[attr-defined]
        colour = self._hue(rng) if tone is None else np.full(3, tone)
        opacity = self.opacity * (1 if self.opacity == 1 else rng.uniform(0.6, 1))  # type: ignore[attr-defined]
        return item | {"colour": colour.clip(0, 1).astype(np.float32), "opacity": opacity}

    def _hue(self, rng: np.random.Generator) -> Array:
        """The colour of a coloured defect, RGB: of film, whose scratches lay bare one layer of dye or another."""
        return rng.random(3)

    def mask(self, frames: int, size: Size) -> Tensor:
        """Where the damage is, in [0, 1]: `T x 1 x H x W`. The truth for methods that take or find a mask."""
        return self.layers(frames, size)[0]

    def run(self, x: Tensor) -> Tensor:
        if int(self.count) == 0:  # type: ignore[attr-defined]
            return x
        cover, paint = (t.to(x.device, x.dtype) for t in self.layers(len(x), (x.shape[-2], x.shape[-1])))
        if x.shape[1] != 3:
            paint = paint.mean(1, keepdim=True)
        return x * (1 - cover) + paint


class Scratches(_Damage):
    """Thin lines: upright, long and lasting on film, at any angle on paper.

    count: at a time. width: pixels. length: of the picture's height. angle: degrees from the horizontal, each scratch within
    `spread` of it. bend: how far a line leaves the straight, in parts of its length. drift: pixels a frame.
    colour: ``white``, ``black`` or ``coloured`` (each its own). opacity 1 is the white mask of CBVR (eq. 6.1).
    """

    count: Any = 5
    width: Any = 1.5
    length: Any = 0.8
    angle: Any = 90.0
    spread: Any = 3.0
    bend: Any = 0.01
    drift: Any = 1.0
    colour: Any = "white"
    opacity: Any = 1.0
    persistence: Any = 0.9
    key: int | None = None

    def _new(self, rng: np.random.Generator, size: Size) -> dict[str, Any]:
        height, width = size
        length = self.length * height * rng.uniform(0.5, 1.2)
        turn = math.radians(self.angle + rng.uniform(-self.spread, self.spread))
        t = np.linspace(-0.5, 0.5, 17) * length
        bend = np.cumsum(rng.normal(0, 1, 17)) / 4 * self.bend * length
        x = t * math.cos(turn) - bend * math.sin(turn) + rng.uniform(0, width)
        y = t * math.sin(turn) + bend * math.cos(turn) + rng.uniform(0, height)
        thick = max(1, round(self.width * rng.uniform(0.7, 1.3)))
        return {"x": x, "y": y, "thick": thick}

    def _move(self, item: dict[str, Any], rng: np.random.Generator, size: Size) -> None:
        item["x"] = item["x"] + rng.normal(0, self.drift)

    def _shape(self, item: dict[str, Any], size: Size) -> Array:
        import cv2

        canvas = np.zeros(size, np.uint8)
        points = np.rint(np.stack([item["x"], item["y"]], 1) * (1 << _SHIFT)).astype(np.int32)
        return cv2.polylines(canvas, [points[:, None]], False, 255, item["thick"], cv2.LINE_AA, _SHIFT)


class Dust(_Damage):
    """Specks and hairs that lie on the film for a frame, or on a print for good.

    count: at a time. radius: of a speck in pixels, each between half and twice of it. hairs: the part that are hairs.
    """

    count: Any = 20
    radius: Any = 1.5
    hairs: Any = 0.2
    colour: Any = "black"
    opacity: Any = 1.0
    persistence: Any = 0.0
    key: int | None = None

    def _new(self, rng: np.random.Generator, size: Size) -> dict[str, Any]:
        centre = rng.uniform(0, 1, 2) * (size[1], size[0])
        radius = self.radius * 2 ** rng.uniform(-1, 1)
        if rng.random() < self.hairs:
            steps = np.exp(1j * np.cumsum(rng.normal(0, 0.35, 12))) * radius
            path = np.cumsum(steps * np.exp(2j * math.pi * rng.random()))
            return {"points": np.stack([path.real, path.imag], 1) + centre, "hair": True}
        angles = np.linspace(0, 2 * math.pi, 10, endpoint=False)
        reach = radius * rng.uniform(0.6, 1.3, 10)
        return {"points": np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None] + centre, "hair": False}

    def _shape(self, item: dict[str, Any], size: Size) -> Array:
        import cv2

        canvas = np.zeros(size, np.uint8)
        points = np.rint(item["points"] * (1 << _SHIFT)).astype(np.int32)[:, None]
        if item["hair"]:
            return cv2.polylines(canvas, [points], False, 255, 1, cv2.LINE_AA, _SHIFT)
        return cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, _SHIFT)


class Stains(_Damage):
    """Large soft patches: damp, mould, fingerprints. radius: of the picture's shorter side."""

    count: Any = 2
    radius: Any = 0.15
    colour: Any = "coloured"
    opacity: Any = 0.5
    persistence: Any = 1.0
    key: int | None = None

    def _new(self, rng: np.random.Generator, size: Size) -> dict[str, Any]:
        strengths = rng.normal(0, 0.35, 6) / np.arange(2, 8)
        return {
            "centre": rng.uniform(0, 1, 2),
            "waves": list(zip(range(2, 8), strengths, rng.uniform(0, 2 * math.pi, 6), strict=True)),
            "rough": rng.random((9, 9), dtype=np.float32),
        }

    def _hue(self, rng: np.random.Generator) -> Array:
        """Browns and greys: damp, rust, mould."""
        return np.array([0.62, 0.5, 0.36]) * rng.uniform(0.5, 1.3) + rng.normal(0, 0.05, 3)

    def _shape(self, item: dict[str, Any], size: Size) -> Array:
        height, width = size
        radius = max(1.0, self.radius * min(size))
        y = (np.arange(height, dtype=np.float32) - item["centre"][1] * height)[:, None]
        x = np.arange(width, dtype=np.float32) - item["centre"][0] * width
        # an outline that wanders about a circle, and an uneven inside
        turn = np.arctan2(y, x)
        outline = 1 + sum(strength * np.cos(n * turn + phase) for n, strength, phase in item["waves"])
        soft = np.clip((outline - np.hypot(x, y) / radius) * 4, 0, 1)
        rough = resize(torch.from_numpy(item["rough"]), size=size, method="bilinear").numpy()
        return soft * (0.5 + 0.5 * rough) * 255


_MODES = ("mask", "lighten", "screen", "add", "multiply")


class Overlay(Degradation):
    """A picture of damage (a scan of scratched film, a texture, a mask) laid over the photograph.

    path: a picture, or a folder of which one is drawn. mode: ``mask`` paints white where it is bright (`x(1-m) + m`),
    ``lighten``, ``screen`` and ``add`` for bright damage on black, ``multiply`` for dark damage on white. elastic: pixels by
    which it is bent at random. It is also mirrored at random, and fitted to the photograph's size; all frames of a clip
    get the same.
    """

    path: str
    mode: Any = "screen"
    opacity: Any = 1.0
    elastic: Any = 0.0
    key: int | None = None

    def __post_init__(self) -> None:
        check("The opacity of an overlay", self.opacity, 0, 1)
        check("The bending of an overlay", self.elastic, 0)
        if isinstance(self.mode, str) and self.mode not in _MODES:
            raise UsageError(f"The mode of an overlay is one of {', '.join(_MODES)}, not '{self.mode}'.")

    @property
    def fixed(self) -> bool:
        return super().fixed and not Path(self.path).is_dir()

    def fix(self, draw: Draw, size: Size) -> Degradation:
        from restora.io import READABLE

        drawn = super().fix(draw, size)
        folder = Path(self.path)
        if not folder.is_dir():
            return drawn
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in READABLE)
        if not files:
            raise UsageError(f"The folder of overlays '{folder}' holds no picture.")
        chosen = files[int(draw.rng.integers(len(files)))]
        return dataclasses.replace(drawn, path=chosen.as_posix())  # type: ignore[call-arg]

    def run(self, x: Tensor) -> Tensor:
        from restora.io import Picture
        from restora.io.pixels import to_depth

        texture = torch.from_numpy(to_depth(Picture.open(self.path).pixels, 32)).permute(2, 0, 1)[None]
        rng = self.rng()
        size = (x.shape[-2], x.shape[-1])
        texture = resize(texture, size=size, method="bilinear").clamp(0, 1)
        for axis in (-1, -2):
            if rng.random() < 0.5:
                texture = texture.flip(axis)
        if self.elastic:
            texture = _bent(texture, rng, self.elastic)
        if texture.shape[1] != x.shape[1]:
            texture = texture.mean(1, keepdim=True)
        t = texture.to(x.device, x.dtype)
        if self.mode == "multiply":
            return x * (1 - self.opacity * (1 - t))
        t = t * self.opacity
        if self.mode == "mask":
            return x * (1 - t) + t
        if self.mode == "lighten":
            return torch.maximum(x, t)
        return 1 - (1 - x) * (1 - t) if self.mode == "screen" else (x + t).clamp(max=1)


def _bent(texture: Tensor, rng: np.random.Generator, reach: float) -> Tensor:
    height, width = texture.shape[-2:]
    coarse = torch.from_numpy(rng.uniform(-1, 1, (2, 6, 6)).astype(np.float32))
    shift = resize(coarse, size=(height, width)) * reach
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(x + shift[0]) * 2 / max(width - 1, 1) - 1, (y + shift[1]) * 2 / max(height - 1, 1) - 1], -1)
    return torch.nn.functional.grid_sample(texture, grid[None].float(), padding_mode="border", align_corners=True)

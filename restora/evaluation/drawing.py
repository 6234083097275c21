"""Crops, difference maps and labels for reports and comparison sheets."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from restora.errors import UsageError

Box = tuple[int, int, int, int]  # left, top, width, height


def difference(a: np.ndarray, b: np.ndarray, gain: float = 4.0) -> np.ndarray:
    """A difference map, `H x W x 3` uint8: black where the images agree, through violet and orange to white where the mean
    absolute difference of the channels reaches 255 / gain."""
    error = np.abs(a.astype(np.float64) - b.astype(np.float64)).mean(axis=2)
    level = np.clip(error * gain, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def most_different(images: list[np.ndarray], size: int) -> Box:
    """The square of `size` pixels where a set of images of one size differs most among itself, as a box.

    Raises:
        UsageError: fewer than two images, or of different sizes.
    """
    if len(images) < 2 or len({i.shape[:2] for i in images}) != 1:
        raise UsageError("The most different region is looked for in two or more images of one size.")
    height, width = images[0].shape[:2]
    across, down = min(size, width), min(size, height)
    stack = np.stack([i.astype(np.float32).mean(axis=2) for i in images])
    spread = stack.var(axis=0)
    border = min(8, height // 8, width // 8)  # borders differ for reasons of their own
    if border:
        inner = np.zeros_like(spread)
        inner[border:-border, border:-border] = spread[border:-border, border:-border]
        spread = inner
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = spread.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    sums = total[down:, across:] - total[:-down, across:] - total[down:, :-across] + total[:-down, :-across]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(left), int(top), across, down


def crop(image: np.ndarray, box: Box, side: int) -> np.ndarray:
    """A box of an image as RGB, each pixel repeated so that it is about `side` wide (0: as it is)."""
    left, top, width, height = box
    part = rgb(image[top : top + height, left : left + width])
    factor = max(1, round(side / max(part.shape[:2])))
    return part.repeat(factor, axis=0).repeat(factor, axis=1)


def with_box(image: np.ndarray, box: Box) -> np.ndarray:
    """The image as RGB with a frame around a box."""
    left, top, width, height = box
    drawn = rgb(image).copy()
    thick = max(1, round(max(drawn.shape[:2]) / 200))
    cv2.rectangle(drawn, (left, top), (left + width - 1, top + height - 1), (255, 64, 32), thick)
    return drawn


def with_inset(image: np.ndarray, small: np.ndarray) -> np.ndarray:
    """The image as RGB with something small, `h x w` from 0, in its upper left corner; the largest value is white."""
    drawn = rgb(image).copy()
    side = min(drawn.shape[:2]) // 3
    factor = max(1, side // max(small.shape))
    level = np.clip(small / max(float(small.max()), 1e-12) * 255, 0, 255).astype(np.uint8)
    part = level.repeat(factor, axis=0).repeat(factor, axis=1)[:side, :side]
    height, width = part.shape
    drawn[: height + 2, : width + 2] = 255
    drawn[1 : height + 1, 1 : width + 1] = part[..., None]
    return drawn


def rgb(image: np.ndarray) -> np.ndarray:
    """Three channels, contiguous."""
    return np.ascontiguousarray(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image)


def data_uri(image: np.ndarray) -> str:
    """An image as a PNG inside an address, for pages that stand alone."""
    done, code = cv2.imencode(".png", cv2.cvtColor(rgb(image), cv2.COLOR_RGB2BGR))
    if not done:
        raise UsageError("This OpenCV cannot encode PNG.")
    return "data:image/png;base64," + base64.b64encode(code.tobytes()).decode()


def labelled(image: np.ndarray, lines: list[str], width: int) -> np.ndarray:
    """An image in the middle of a white tile `width` wide, with lines of text below it."""
    from PIL import Image, ImageDraw, ImageFont

    font, step = ImageFont.load_default(14), 18
    tile = Image.new("RGB", (width, image.shape[0] + step * len(lines) + 6), "white")
    tile.paste(Image.fromarray(image), ((width - image.shape[1]) // 2, 0))
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate(lines):
        text = line
        while text and draw.textlength(text, font=font) > width - 4:
            text = text[:-2] + "…"
        at = (max(2, (width - draw.textlength(text, font=font)) / 2), image.shape[0] + 3 + number * step)
        draw.text(at, text, fill="black", font=font)
    return np.asarray(tile)


def grid(rows: list[list[np.ndarray]], gap: int = 8) -> np.ndarray:
    """Tiles in rows on white."""
    height = sum(max(t.shape[0] for t in row) + gap for row in rows) + gap
    width = max(sum(t.shape[1] + gap for t in row) for row in rows) + gap
    sheet = np.full((height, width, 3), 255, np.uint8)
    top = gap
    for row in rows:
        left = gap
        for tile in row:
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            left += tile.shape[1] + gap
        top += max(t.shape[0] for t in row) + gap
    return sheet

"""The learning curve of a run as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from restora.io import atomic_path

_SIZE = (900, 420)
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 70, 40, 50
_SCORE, _LOSS, _PLAIN, _GREY = (200, 60, 20), (130, 150, 190), (60, 120, 60), (120, 120, 120)


def draw_curve(lines: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draws the lines of a log: validation in dB (left axis) with the plain method and the input as level lines, and the
    training loss on a logarithmic axis (right). Writes a PNG; nothing is written where there is nothing to draw."""
    from PIL import Image, ImageDraw

    scores = [(li["step"], li["validation"]) for li in lines if li.get("event") == "validation" and "validation" in li]
    losses = [(li["step"], li["loss"]) for li in lines if li.get("event") == "train" and li.get("loss", 0) > 0]
    if not scores and not losses:
        return
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    draw.text((_LEFT, 12), title, fill="black")
    last = max(step for step, _ in [*scores, *losses])
    box = (_LEFT, _TOP, _SIZE[0] - _RIGHT, _SIZE[1] - _BOTTOM)
    draw.rectangle(box, outline=_GREY)
    for part in range(5):
        x = box[0] + (box[2] - box[0]) * part / 4
        draw.text((x - 15, box[3] + 8), f"{last * part / 4:,.0f}", fill="black")
    draw.text(((box[0] + box[2]) // 2 - 12, box[3] + 26), "steps", fill="black")
    if losses:
        logs = [(step, math.log10(value)) for step, value in losses]
        span = _span([v for _, v in logs])
        _line(draw, box, logs, last, span, _LOSS)
        _marks(draw, box[2] + 6, box, span, lambda v: f"{10**v:.2g}", _LOSS)
        draw.text((box[2] + 6, 12), "loss", fill=_LOSS)
    if scores:
        levels = next(
            (li for li in lines if li.get("event") == "validation" and "baseline" in li), {"baseline": scores[0][1]}
        )
        extra = [(levels["baseline"], str(levels.get("plain", "plain")))]
        if abs(levels.get("input", extra[0][0]) - extra[0][0]) > 1e-3:
            extra.append((levels["input"], "input"))
        span = _span([v for _, v in scores] + [v for v, _ in extra])
        for value, name in extra:
            _line(draw, box, [(0, value), (last, value)], last, span, _PLAIN)
            draw.text((box[0] + 6, _height(box, value, span) - 13), f"{name} {value:.2f}", fill=_PLAIN)
        _line(draw, box, scores, last, span, _SCORE)
        _marks(draw, 8, box, span, lambda v: f"{v:.2f}", _SCORE)
        draw.text((8, 12), "dB", fill=_SCORE)
    with atomic_path(path) as temporary:
        image.save(temporary)


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(0.05 * (high - low), 1e-3)
    return low - room, high + room


def _height(box: tuple[int, int, int, int], value: float, span: tuple[float, float]) -> float:
    return box[3] - (box[3] - box[1]) * (value - span[0]) / (span[1] - span[0])


def _line(
    draw: Any,
    box: tuple[int, int, int, int],
    points: list[tuple[int, float]],
    last: int,
    span: tuple[float, float],
    colour: tuple[int, int, int],
) -> None:
    placed = [(box[0] + (box[2] - box[0]) * s / max(last, 1), _height(box, v, span)) for s, v in points]
    if len(placed) > 1:
        draw.line(placed, fill=colour, width=2)
    for x, y in placed if len(placed) < 3 else ():
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)


def _marks(
    draw: Any,
    x: float,
    box: tuple[int, int, int, int],
    span: tuple[float, float],
    text: Any,
    colour: tuple[int, int, int],
) -> None:
    for part in range(5):
        value = span[0] + (span[1] - span[0]) * part / 4
        draw.text((x, _height(box, value, span) - 6), text(value), fill=colour)

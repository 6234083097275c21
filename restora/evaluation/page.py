"""A benchmark as one HTML page that needs nothing beside it: tables, zoomed crops, difference maps."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from restora.errors import RestoraError
from restora.evaluation import drawing, report
from restora.evaluation.inputs import channels, pictures, read
from restora.evaluation.results import Benchmark, Row

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --faint: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); }
td, th { text-align: right; } td:first-child, th:first-child { text-align: left; } tr.best td { font-weight: 600; }
.scroll { overflow-x: auto; } .warn { border-left: 4px solid #d33; padding: .2rem 1rem; background: var(--faint); }
.strip { display: flex; flex-wrap: wrap; gap: .8rem; margin-bottom: 1.6rem; }
figure { margin: 0; width: 230px; } figure img { width: 230px; image-rendering: pixelated; display: block; }
figcaption { font-size: 13px; } dt { font-weight: 600; } dd { margin: 0 0 .3rem 1rem; } summary { cursor: pointer; }
"""


def as_html(result: Benchmark, folder: Path, crops: int = 4) -> str:
    """The page. The restored pictures are read from the output folder; without them it shows no crops.

    Args:
        folder: the `output` of `bench`. crops: how many pictures are shown: those where the models lose or win most.
    """
    e = html.escape
    title = f"{result.data}, {result.protocol.label}"
    parts = [f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{e(title)}</title><style>{_STYLE}</style>"]
    parts.append("<meta name='viewport' content='width=device-width, initial-scale=1'>")
    parts.append(f"<h1>{e(title)}</h1><dl>")
    parts += [f"<dt>{e(k)}</dt><dd>{e(v)}</dd>" for k, v in report.facts(result)]
    parts.append("</dl>")
    best = max((r for r in result.rows if r.scores), key=lambda r: r.mean("psnr") or 0.0, default=None)
    rows = [(report.cells(result, row), "best" if row is best else "") for row in result.rows]
    parts.append(_table(report.heads(result), rows))
    warnings = [f"{r.name} failed: {r.error}" for r in result.rows if r.error] + result.flags()
    if warnings:
        parts.append(
            "<div class='warn'><h2>Warnings</h2><ul>" + "".join(f"<li>{e(w)}</li>" for w in warnings) + "</ul></div>"
        )
    parts.append(_bands(result))
    if chosen := _chosen(result, crops):
        parts.append("<h2>Where the results differ most</h2><p>Crops at whole multiples; below each, its distance from the "
                     "reference, four times enlarged. The score is the whole picture's.</p>")  # fmt: skip
        for number in chosen:
            parts.append(_strip(result, folder, number))
    parts.append(_images(result))
    return "\n".join(parts) + "\n</html>\n"


def _table(head: list[str], rows: list[tuple[list[str], str]]) -> str:
    e = html.escape
    top = "".join(f"<th>{e(h)}</th>" for h in head)
    body = "".join(f"<tr class='{kind}'>" + "".join(f"<td>{e(c)}</td>" for c in row) + "</tr>" for row, kind in rows)
    return f"<div class='scroll'><table><tr>{top}</tr>{body}</table></div>"


def _bands(result: Benchmark) -> str:
    rows = [
        ([row.name, *(report.show(v, "psnr") for v in row.bands())], "")
        for row in result.rows
        if row.scores and row.scores[0].bands
    ]
    if not rows:
        return ""
    head = ["PSNR dB by brightness of the reference", "darkest fifth", "dark", "middle", "light", "lightest fifth"]
    return _table(head, rows)


def _images(result: Benchmark) -> str:
    shown = [row for row in result.rows if row.scores]
    if not shown:
        return ""
    rows = []
    for number, first in enumerate(shown[0].scores):
        values = (row.scores[number] for row in shown if number < len(row.scores))
        rows.append(
            ([first.image, *(f"{report.show(s.psnr, 'psnr')} / {report.show(s.ssim, 'ssim')}" for s in values)], "")
        )
    table = _table(["image", *(row.name for row in shown)], rows)
    return f"<details><summary>All {len(rows)} images (PSNR dB / SSIM)</summary>{table}</details>"


def _chosen(result: Benchmark, count: int) -> list[int]:
    """Images where the last model loses most against the baseline, and where it wins most, in turn."""
    models = [row for row in result.rows if row.kind == "model" and row.scores]
    plain = next((row for row in result.rows if row.kind == "baseline"), None)
    rows = models or ([plain] if plain else [])
    if not rows or plain is None or not plain.scores:
        return []
    gains = np.array([np.mean([r.scores[n].psnr for r in rows]) - p.psnr for n, p in enumerate(plain.scores)])
    order = [int(n) for n in np.argsort(gains)]
    picked: list[int] = []
    while order and len(picked) < count:
        picked.append(order.pop(0) if len(picked) % 2 else order.pop())
    return picked


def _strip(result: Benchmark, folder: Path, number: int) -> str:
    """A picture's crops: reference, input, baseline, models, and their difference maps."""
    from restora.evaluation.cache import picture_path

    name = result.rows[0].scores[number].image
    pair = next((p for p in result.pairs if p.name == name), None)
    if pair is None:
        return ""
    try:
        reference = pictures(pair, result.protocol, result.recipe)[1]
        found: list[tuple[Row, np.ndarray]] = []
        for row in result.rows:
            path = picture_path(folder, row, name)
            if row.kind != "constant" and number < len(row.scores) and path.is_file():
                found.append((row, channels(read(path), result.protocol)))
    except RestoraError:
        return ""
    found = [(row, image) for row, image in found if image.shape == reference.shape]
    if not found:
        return ""
    considered = [image for row, image in found if row.kind != "input"] or [found[0][1]]
    box = drawing.most_different([reference, *considered], min(64, *reference.shape[:2]))
    e = html.escape
    figures = [_figure([drawing.crop(reference, box, 0), _small(drawing.with_box(reference, box))], "reference")]
    for row, image in found:
        s = row.scores[number]
        caption = f"{row.name}<br>{report.show(s.psnr, 'psnr')} dB, SSIM {report.show(s.ssim, 'ssim')}"
        maps = drawing.difference(image, reference)
        figures.append(_figure([drawing.crop(image, box, 0), drawing.crop(maps, box, 0)], caption, escape=False))
    return f"<h3>{e(name)}</h3><div class='strip'>{''.join(figures)}</div>"


def _small(image: np.ndarray) -> np.ndarray:
    import cv2

    factor = 230 / image.shape[1]
    if factor >= 1:
        return image
    return cv2.resize(image, (230, max(1, round(image.shape[0] * factor))), interpolation=cv2.INTER_AREA)


def _figure(images: list[np.ndarray], caption: str, escape: bool = True) -> str:
    text = html.escape(caption) if escape else "<br>".join(html.escape(t) for t in caption.split("<br>"))
    pictures_ = "".join(f"<img alt='' src='{drawing.data_uri(image)}'>" for image in images)
    return f"<figure>{pictures_}<figcaption>{text}</figcaption></figure>"

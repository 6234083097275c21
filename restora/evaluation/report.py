"""A benchmark as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from restora.evaluation.results import Benchmark, Row

_HEADS = {
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "psnr_b": "PSNR-B dB",
    "ms_ssim": "MS-SSIM",
    "delta_e": "ΔE",
    "consistency": "consistency dB",
    "lpips": "LPIPS",
}


def write(result: Benchmark, folder: str | Path, page: bool = True, crops: int = 4) -> dict[str, Path]:
    """Writes `results.json`, `results.csv` (a line an image), `results.md` and `report.html` into a folder.

    Args:
        page: leave out the page when False. crops: how many pictures it shows.

    Raises:
        PictureWriteError: the folder cannot be written to.
    """
    from restora.io import atomic_path

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    texts = {
        "results.json": json.dumps(result.to_dict(), indent=1, ensure_ascii=False),
        "results.csv": as_csv(result),
        "results.md": as_markdown(result),
    }
    if page:
        from restora.evaluation.page import as_html

        texts["report.html"] = as_html(result, target, crops)
    paths = {}
    for name, text in texts.items():
        with atomic_path(target / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
        paths[name] = target / name
    return paths


def as_csv(result: Benchmark) -> str:
    """A line for each row and image, and one for each row's mean."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["model", "kind", "image", *result.measures, "seconds", "memory_bytes", "protocol", "weights", "flags"]
    writer.writerow(head)
    for row in result.rows:
        common = [result.protocol.label, row.fingerprint if row.kind == "model" else ""]
        for s in row.scores:
            values = [s.extra.get(m, getattr(s, m, "")) for m in result.measures]
            writer.writerow([row.name, row.kind, s.image, *values, s.seconds, s.memory, *common, "; ".join(s.flags)])
        means = [result.mean(row, m) for m in [*result.measures, "seconds", "memory"]]
        writer.writerow([row.name, row.kind, "MEAN", *("" if m is None else m for m in means), *common, row.error])
    return out.getvalue()


def cells(result: Benchmark, row: Row) -> list[str]:
    """A row's line in the tables for people."""
    scores = [show(result.mean(row, m), m) for m in result.measures]
    seconds, memory = row.mean("seconds"), [s.memory for s in row.scores if s.memory is not None]
    collapse = result.collapse(row)
    return [
        row.name,
        *scores,
        "" if seconds is None or row.kind == "constant" else f"{seconds:.3g}",
        f"{max(memory) / 1e6:.0f}" if memory else "",
        "" if collapse is None or row.kind != "model" else f"{collapse:.0%}",
        row.fingerprint[:12] if row.kind == "model" else "",
    ]


def heads(result: Benchmark) -> list[str]:
    """The table's head."""
    return ["", *(_HEADS.get(m, m) for m in result.measures), "s/image", "peak MB", "collapsed", "weights"]


def show(value: float | None, measure: str) -> str:
    """A number as tables print it."""
    if value is None:
        return ""
    if math.isinf(value):
        return "∞"
    return (
        f"{value:.2f}"
        if measure in ("psnr", "psnr_b", "mae", "niqe", "noise", "delta_e", "consistency")
        else f"{value:.4f}"
    )


def facts(result: Benchmark) -> list[tuple[str, str]]:
    """What a reader must know to repeat the numbers."""
    scale = f" x{result.scale}" if result.scale > 1 else ""
    return [
        ("protocol", f"{result.protocol.label}: {result.protocol.description}"),
        (
            "data",
            f"{result.data}{scale}, {result.images} images ({result.layout}), SHA-256 {result.data_sha256[:16]}...",
        ),
        ("inputs", result.inputs),
        (
            "averaging",
            "mean over images" if result.protocol.average == "image" else "mean over frames, then over clips",
        ),
        ("run", ", ".join(f"{k} {v}" for k, v in result.environment.items())),
        *(("note", note) for note in result.notes),
    ]


def as_markdown(result: Benchmark) -> str:
    """The table with its protocol, warnings and brightness bands."""
    lines = [f"# {result.data}, {result.protocol.label}", ""]
    lines += [f"- {key}: {value}" for key, value in facts(result)]
    lines += ["", *_table(heads(result), [cells(result, row) for row in result.rows])]
    failed = [f"- **{row.name}** failed: {row.error}" for row in result.rows if row.error]
    flagged = [f"- {flag}" for flag in result.flags()]
    if failed or flagged:
        lines += ["", "## Warnings", "", *failed, *flagged]
    bands = [(row.name, row.bands()) for row in result.rows if row.scores and row.scores[0].bands]
    if bands:
        head = ["PSNR dB by brightness", "darkest fifth", "dark", "middle", "light", "lightest fifth"]
        lines += ["", "## By brightness of the reference", ""]
        lines += _table(head, [[name, *(show(v, "psnr") for v in values)] for name, values in bands])
    return "\n".join([*lines, ""])


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    body = [[c.replace("|", "\\|") for c in row] for row in rows]
    return [
        "| " + " | ".join(head) + " |",
        "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|",
        *("| " + " | ".join(row) + " |" for row in body),
    ]

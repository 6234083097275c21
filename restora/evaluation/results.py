"""What a benchmark found: scores of images, rows of a table, their means."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from restora.evaluation.inputs import Recipe
from restora.evaluation.metrics import psnr_of
from restora.evaluation.rules import Protocol
from restora.evaluation.testsets import Pair

Kind = Literal["input", "constant", "baseline", "model"]


@dataclass
class ImageScore:
    """One picture under one protocol. `mse`: of the compared channels, for pooled means. `seconds`, `memory` (bytes above
    what the process had): of the restoration, None for rows that take none. `extra`: further measures. `bands`: (share,
    PSNR) of five brightness bands from dark to light. `nearby`: (PSNR, SSIM, squared error) under the neighbouring
    protocols; SSIM only where a benchmark was asked why. `flags`: what makes the score suspicious."""

    image: str
    group: str
    psnr: float
    ssim: float
    mse: float
    seconds: float | None = None
    memory: int | None = None
    extra: dict[str, float] = field(default_factory=dict)
    bands: list[tuple[float, float | None]] = field(default_factory=list)
    nearby: dict[str, tuple[float, float | None, float]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


@dataclass
class Row:
    """A line of the table: a model, or what models are held against."""

    name: str
    kind: Kind
    fingerprint: str = ""
    scores: list[ImageScore] = field(default_factory=list)
    device: str = ""
    precision: str = ""
    error: str = ""

    def mean(self, measure: str, average: str = "image") -> float | None:
        """The mean of `psnr`, `ssim`, `seconds`, `memory` or an extra measure over images (``clip``: over the frames of
        each clip, then over clips); None where it was not taken."""
        groups: dict[str, list[float]] = defaultdict(list)
        for s in self.scores:
            value = s.extra.get(measure) if measure in s.extra else getattr(s, measure, None)
            if value is not None:
                groups[s.group if average == "clip" else ""].append(float(value))
        means = [_mean(values) for values in groups.values()]
        return _mean(means) if means else None

    def under(self, phrase: str, average: str = "image") -> tuple[float, float | None] | None:
        """Mean PSNR and SSIM under a neighbouring protocol; pooled where the phrase says so."""
        found = [(s.group if average == "clip" else "", s.nearby[phrase]) for s in self.scores if phrase in s.nearby]
        if not found or len(found) != len(self.scores):
            return None
        similarity = [n[1] for _, n in found if n[1] is not None]
        ssim = _mean(similarity) if len(similarity) == len(found) else None
        if "pooled" in phrase:
            return psnr_of(_mean([n[2] for _, n in found])), ssim
        groups: dict[str, list[float]] = defaultdict(list)
        for group, n in found:
            groups[group].append(n[0])
        return _mean([_mean(values) for values in groups.values()]), ssim

    def bands(self) -> list[float | None]:
        """Mean PSNR of each brightness band over the images that have at least a thousandth of their pixels in it."""
        columns = zip(*(s.bands for s in self.scores if s.bands), strict=True)
        kept = [
            [p for share, p in column if p is not None and share >= 0.001 and math.isfinite(p)] for column in columns
        ]
        return [_mean(values) if values else None for values in kept]


@dataclass
class Benchmark:
    """A finished benchmark: everything that a table needs to be repeated. Rows: input, one colour, baseline, models."""

    protocol: Protocol
    data: str
    data_sha256: str
    images: int
    layout: str
    inputs: str
    task: str
    scale: int
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    recipe: Recipe = field(default_factory=lambda: Recipe(""))

    @property
    def measures(self) -> list[str]:
        """What was measured, in the order of the columns."""
        extra = [name for row in self.rows for s in row.scores[:1] for name in s.extra]
        return ["psnr", "ssim", *dict.fromkeys(extra)]

    def row(self, name: str) -> Row:
        """A row by name (the first, where a name is there twice).

        Raises:
            KeyError: no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def mean(self, row: Row, measure: str) -> float | None:
        """A row's mean as the protocol averages."""
        return row.mean(measure, self.protocol.average)

    def collapse(self, row: Row) -> float | None:
        """Share of images more than 3 dB worse than the input (for super-resolution: than bicubic)."""
        from restora.evaluation.diagnostics import collapse_rate

        kind = "baseline" if self.task == "super-resolution" else "input"
        before = next((r for r in self.rows if r.kind == kind), None)
        if before is None or not row.scores or len(before.scores) != len(row.scores):
            return None
        return collapse_rate([s.psnr for s in row.scores], [s.psnr for s in before.scores])

    def flags(self) -> list[str]:
        """All that is suspicious, as sentences that name row and image; equal ones of many images are counted."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in self.rows:
            for s in row.scores:
                for flag in s.flags:
                    found[(row.name, flag.split(" (")[0].split(":")[-1] if len(row.scores) > 20 else flag)].append(
                        f"{s.image}: {flag}"
                    )
        lines = []
        for (name, _), cases in found.items():
            more = f" (and {len(cases) - 1} more images alike)" if len(cases) > 1 else ""
            lines.append(f"{name}, {cases[0]}{more}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinities become null."""
        rows = []
        for row in self.rows:
            data = asdict(row)
            for s in data["scores"]:
                s.pop("nearby")
            data["mean"] = {m: self.mean(row, m) for m in [*self.measures, "seconds", "memory"]}
            data["collapse_rate"], data["bands"] = self.collapse(row), row.bands()
            rows.append(data)
        head = {k: v for k, v in asdict(self).items() if k not in ("rows", "pairs")}
        return _plain({**head, "rows": rows, "flags": self.flags()})


def _mean(values: list[float]) -> float:
    if any(math.isinf(v) for v in values):
        return math.inf
    return statistics.fmean(values)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value

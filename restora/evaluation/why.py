"""Why do two tables disagree? The same results, measured again in the neighbouring ways."""

from __future__ import annotations

import re
from dataclasses import dataclass

from restora.errors import UsageError
from restora.evaluation.results import Benchmark, Row

_HALF_UNIT = 0.0055  # tables print two decimals (four for SSIM), and add rounding of their own


@dataclass(frozen=True)
class Candidate:
    """A way of measuring and what a row scores under it. `explains`: it agrees with the expected value as printed."""

    phrase: str
    psnr: float
    ssim: float | None
    explains: bool

    def __str__(self) -> str:
        value = f"{self.psnr:.4f} dB" + (f", SSIM {self.ssim:.5f}" if self.ssim is not None else "")
        return f"{value}: {self.phrase}"


@dataclass(frozen=True)
class Explanation:
    """The answer for a row: `verdict` is the sentence; `candidates` all ways, the nearest first."""

    row: str
    verdict: str
    candidates: tuple[Candidate, ...]


def parse_expectation(text: str) -> tuple[float, float | None]:
    """``28.42`` or ``28.42/0.8104`` as PSNR and SSIM.

    Raises:
        UsageError: another form.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*([01]?(?:\.\d+)?))?\s*", text)
    if not match:
        raise UsageError(f"An expected value has the form 28.42 or 28.42/0.8104, not '{text}'.")
    return float(match[1]), float(match[2]) if match[2] else None


def explain(result: Benchmark, row: Row, psnr: float, ssim: float | None = None) -> Explanation:
    """Names the neighbouring protocol that turns a row's score into an expected one.

    Args:
        result: of `bench(..., why=True)`. row: one of its rows, a model or the baseline.
        psnr, ssim: what another table prints, to two and four decimals.
    """
    average = result.protocol.average
    own = row.mean("psnr", average), row.mean("ssim", average)
    if own[0] is None or own[1] is None:
        raise UsageError(f"The row '{row.name}' has no scores.")
    phrases = dict.fromkeys(phrase for s in row.scores for phrase in s.nearby)
    found = [_candidate(result.protocol.label, own[0], own[1], psnr, ssim)]
    for phrase in phrases:
        values = row.under(phrase, average)
        if values is not None:
            found.append(_candidate(phrase, *values, psnr, ssim))
    agrees, others = found[0], found[1:]
    # of those that explain it the likeliest first, as `neighbours` lists them; of the others the nearest
    others.sort(key=lambda c: (not c.explains, 0.0 if c.explains else _distance(c, psnr, ssim)))
    name = f"{row.name}: {agrees.psnr:.4f} dB, SSIM {own[1]:.5f} under {result.protocol.label}"
    expected = f"{psnr:g}" + (f"/{ssim:g}" if ssim is not None else "")
    explaining = [c for c in others if c.explains]
    if agrees.explains:
        verdict = f"{name} agrees with the expected {expected}."
    elif explaining:
        rest = "; so would: " + "; ".join(c.phrase for c in explaining[1:3]) if len(explaining) > 1 else ""
        hint = " An expected SSIM (28.42/0.8104) would tell them apart." if len(explaining) > 1 and ssim is None else ""
        first = f"{explaining[0].phrase} ({_value(explaining[0])})"
        verdict = f"{name}; the expected {expected} is what this gives: {first}{rest}.{hint}"
    else:
        nearest = min(found, key=lambda c: _distance(c, psnr, ssim))
        verdict = (
            f"{name}; no neighbouring protocol gives the expected {expected}. Nearest: {nearest.phrase} ({_value(nearest)}). "
            "Other weights, other test pictures or another way of making the inputs remain."
        )
    return Explanation(row.name, verdict, (agrees, *others))


def _candidate(phrase: str, psnr: float, ssim: float | None, wanted: float, similarity: float | None) -> Candidate:
    fits = abs(psnr - wanted) <= _HALF_UNIT
    if fits and similarity is not None and ssim is not None:
        fits = abs(ssim - similarity) <= 0.0005
    return Candidate(phrase, psnr, ssim, fits)


def _distance(c: Candidate, psnr: float, ssim: float | None) -> float:
    return abs(c.psnr - psnr) + (10 * abs(c.ssim - ssim) if ssim is not None and c.ssim is not None else 0.0)


def _value(c: Candidate) -> str:
    return f"{c.psnr:.4f} dB" + (f", SSIM {c.ssim:.5f}" if c.ssim is not None else "")

"""Counts that the source documents give for networks: what a profile checks itself against.

Mult-Adds in 10^9 at an output of 1280x720, by scale; parameters with and without biases. Sources: spec/efficient-restoration.md
(sections 2.1 to 2.2, counts marked as reproduced), spec/restoravision.md (unit-test targets).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Known:
    """What is known of a variant. `weights`: parameters without biases and activation slopes. `mult_adds`: by scale."""

    parameters: int | None = None
    weights: int | None = None
    mult_adds: dict[int, float] = field(default_factory=dict)


KNOWN: dict[str, Known] = {
    "carn": Known(1_591_939, 1_588_608, {2: 222.8, 3: 118.8, 4: 90.9}),
    "carn_x4": Known(1_111_875, None, {4: 90.9}),
    "carn_m": Known(414_787, 412_032, {2: 91.2, 3: 46.1, 4: 32.5}),
    **{f"fsrcnn_x{s}": Known(12_809, 12_464) for s in (2, 3, 4)},
    "nafnet_gopro_width32": Known(17_111_907),
    "nafnet_gopro_width64": Known(67_888_835),
    "swinir_classical_x4": Known(11_900_199),
}


def differences(variant: str, parameters: int, weights: int, mult_adds: dict[int, float]) -> list[str] | None:
    """Where counts differ from the known ones, in sentences; empty when all agree; None when nothing is known.

    Args:
        mult_adds: by scale, at an output of 1280x720, in single operations.
    """
    known = KNOWN.get(variant)
    if known is None:
        return None
    found = []
    if known.parameters is not None and parameters != known.parameters:
        found.append(f"{parameters:,} parameters instead of {known.parameters:,}")
    if known.weights is not None and weights != known.weights:
        found.append(f"{weights:,} weights instead of {known.weights:,}")
    for scale, expected in known.mult_adds.items():
        if scale in mult_adds and abs(mult_adds[scale] / 1e9 - expected) > 0.0501:
            found.append(f"{mult_adds[scale] / 1e9:.1f} G Mult-Adds at x{scale} instead of {expected} G")
    return found

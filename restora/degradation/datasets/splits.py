"""Splits of a data set that do not change: drawn once by a seed, saved to a file, read from it ever after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restora.errors import UsageError


@dataclass(frozen=True)
class Split:
    """The names of each part, sorted."""

    parts: dict[str, tuple[str, ...]]

    def save(self, path: str | Path) -> None:
        """As JSON, whole or not at all."""
        from restora.io import atomic_path

        with atomic_path(path) as temporary:
            temporary.write_text(
                json.dumps({"version": 1, "parts": self.parts}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """UsageError if the file is no split, or if a name is in two parts of it."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            parts = {str(part): tuple(map(str, names)) for part, names in data["parts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"'{path}' cannot be read as a split: {error}.") from error
        seen: dict[str, str] = {}
        for part, names in parts.items():
            for name in names:
                if seen.setdefault(name, part) != part:
                    raise UsageError(f"The split '{path}' has '{name}' both in {seen[name]} and in {part}.")
        return cls(parts)


def split(
    names: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
    group: Callable[[str], str] = lambda name: name,
) -> Split:
    """Divides names at random.

    Args:
        names: in any order; the result does not depend on it.
        shares: parts and their shares, of sum 1: `{"train": 0.8, "validation": 0.1, "test": 0.1}`.
        group: names with the same group (scene, clip, person) stay together; the shares are then those of groups.

    Raises:
        UsageError: a name twice, or shares that do not sum to 1.
    """
    if len(set(names)) != len(names):
        raise UsageError("A name occurs twice in the set to be split.")
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"The shares of a split sum to 1, not to {sum(shares.values()):g}.")
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(group(name), []).append(name)
    order = sorted(groups)
    order = [order[i] for i in np.random.Generator(np.random.PCG64(seed)).permutation(len(order))]
    ends = np.rint(np.cumsum(list(shares.values())) * len(order)).astype(int).tolist()
    parts, start = {}, 0
    for part, end in zip(shares, ends, strict=True):
        parts[part] = tuple(sorted(n for g in order[start:end] for n in groups[g]))
        start = end
    return Split(parts)

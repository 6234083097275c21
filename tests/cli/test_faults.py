"""The list of bad and odd inputs in `benchmarks/faults.py`, each as a test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("faults", Path(__file__).parents[2] / "benchmarks" / "faults.py")
assert SPEC is not None and SPEC.loader is not None
faults = importlib.util.module_from_spec(SPEC)
sys.modules["faults"] = faults
SPEC.loader.exec_module(faults)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("case", faults.CASES, ids=lambda c: c.name)
def test_fault(case: faults.Case, tmp_path: Path) -> None:  # type: ignore[name-defined]
    assert faults.run_case(case, tmp_path).problems == []


def test_there_are_enough_cases() -> None:
    assert len(faults.CASES) >= 40
    assert len({c.name for c in faults.CASES}) == len(faults.CASES)

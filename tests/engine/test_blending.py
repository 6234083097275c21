"""Tiles that pass into each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restora.engine import FunctionOperator, Settings, run
from restora.errors import NumericalError


class Uneven(FunctionOperator):
    """Enlarges by repetition, and adds to each tile a constant of its own: seams as hard as can be."""

    fade = 6

    def __init__(self, scale: int, step: float) -> None:
        super().__init__(self.work, 9, scale, 4)
        self.step, self.calls, self.limit = step, 0, 1 << 30

    def work(self, x: Tensor) -> Tensor:
        if x.shape[-1] * x.shape[-2] > self.limit:
            raise torch.OutOfMemoryError("no room")
        self.calls += 1
        y = x + self.step * (self.calls % 2)
        return y.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize(("height", "width", "tile"), [(50, 70, 20), (33, 61, 17), (12, 100, 30), (40, 40, 64)])
def test_weights_sum_to_one(scale: int, height: int, width: int, tile: int) -> None:
    source = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    result, report = run(Uneven(scale, 0), source, settings=Settings("cpu", tile=tile))
    assert np.abs(result - source.repeat(scale, 0).repeat(scale, 1)).max() < 1e-5
    assert report.tiles == -(-height // tile) * -(-width // tile)


def test_seams_are_ramps() -> None:
    source = np.zeros((60, 90, 1), np.float32)
    result, _ = run(Uneven(1, 1.0), source, settings=Settings("cpu", tile=30))
    assert result.min() >= -1e-6 and result.max() <= 1 + 1e-6 and np.ptp(result) > 0.9
    for axis in (0, 1):
        assert np.abs(np.diff(result, axis=axis)).max() < 1 / 12 + 1e-5  # a step of 1 over 2 * 6 pixels


def test_halved_tiles_fade_too() -> None:
    source = np.random.default_rng(0).random((60, 90, 3), dtype=np.float32)
    operator = Uneven(1, 0)
    operator.limit = 1600
    result, report = run(operator, source, settings=Settings("cpu", tile=45))
    assert report.tiles > 4 and np.abs(result - source).max() < 1e-5


def test_progress_ends_at_the_whole() -> None:
    seen = []
    run(Uneven(1, 0), np.zeros((50, 70, 1), np.uint8), settings=Settings("cpu", tile=20), progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen) and seen[-1].done == seen[-1].total == 3500


def test_a_solver_that_diverges_is_named() -> None:
    from restora.engine import SolverOperator
    from restora.solvers import Problem, Solver

    class Bad(Solver):
        """Fails."""

        name = "bad"

        def solve(self, problem: Problem, **_: object) -> Tensor:
            return problem.observed * float("nan")

    with pytest.raises(NumericalError, match="bad diverged"):
        run(SolverOperator(Bad(), torch.ones(1, 1)), np.zeros((20, 20, 1), np.float32), settings=Settings("cpu"))

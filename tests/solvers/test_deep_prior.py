"""The deep image prior: chance, stopping, and what it makes of a picture."""

from __future__ import annotations

import pytest
import torch

from restora.errors import UsageError
from restora.solvers import Problem, create
from restora.solvers.deep_prior import SkipNetwork
from tests.solvers.test_half_quadratic import photograph, psnr, rand

SMALL = {"width": 8, "levels": 2}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_picture_and_no_other_chance() -> None:
    problem, _ = photograph(scale=2, side=24)
    solver = create("dip", iterations=5, **SMALL)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    x = solver.solve(problem, generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(x, solver.solve(problem, generator=seeded(3)))
    assert not torch.equal(x, solver.solve(problem, generator=seeded(4)))
    assert torch.equal(solver.solve(problem), solver.solve(problem, generator=seeded(0)))
    assert x.shape == (1, 3, 24, 24) and not x.requires_grad


def test_works_where_gradients_are_off_and_on_every_picture_of_a_batch() -> None:
    y, k = rand(2, 1, 13, 9).float(), rand(2, 3, 3, seed=1).float()
    k /= k.sum((-2, -1), keepdim=True)
    solver = create("dip", iterations=3, **SMALL)
    with torch.no_grad():
        both = solver.solve(Problem(y, k, 1, 0.0, "circular"), generator=seeded(0))
        first = solver.solve(Problem(y[:1], k[0], 1, 0.0, "circular"), generator=seeded(0))
    assert both.shape == y.shape and torch.equal(both[:1], first)
    with torch.inference_mode():
        problem = Problem(y[:1] * 1, k[0], 1, 0.0, "circular")
        assert torch.equal(solver.solve(problem, generator=seeded(0)), first)


def test_a_blurred_picture_becomes_sharper() -> None:
    problem, sharp = photograph(sigma=2.0, side=28)
    values: list[float] = []
    x = create("dip", iterations=150, width=16, levels=3).solve(problem, monitor=lambda s: values.append(s.value))
    assert values[-1] < 0.05 * values[0]
    assert psnr(x, sharp) > psnr(problem.observed, sharp)


def test_it_stops_when_the_residual_is_the_noise() -> None:
    problem, _ = photograph(side=24)
    done: list[int] = []
    loud = Problem(problem.observed, problem.kernel, 1, 80.0)
    create("dip", iterations=200, **SMALL).solve(loud, monitor=lambda s: done.append(s.done))
    assert 1 <= len(done) < 200


def test_it_stops_when_its_results_settle_no_further_or_when_told() -> None:
    problem, _ = photograph(side=24)
    done: list[int] = []
    create("dip", iterations=500, patience=5, **SMALL).solve(problem, monitor=lambda s: done.append(s.done))
    assert 10 < len(done) < 500
    done.clear()
    create("dip", iterations=50, **SMALL).solve(problem, monitor=lambda s: done.append(s.done) or s.done == 4)
    assert done == [1, 2, 3, 4]


def test_the_network_takes_any_size() -> None:
    net = SkipNetwork(3, width=4, levels=3, generator=seeded(0))
    for size in ((24, 16), (13, 21)):
        y = net(torch.rand(1, 16, *size))
        assert y.shape == (1, 3, *size) and y.min() >= 0 and y.max() <= 1


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="above 0"):
        create("dip", rate=0.0)

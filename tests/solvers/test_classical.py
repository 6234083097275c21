"""Wiener, inverse filter, Richardson-Lucy, sparse priors, filters, and the choice among them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from restora import solvers
from restora.degradation import kernels
from restora.degradation.convolution import convolve
from restora.errors import UsageError
from restora.solvers import Problem, Step
from restora.solvers.doubt import is_turned, refitted, warped
from restora.solvers.forward import Forward
from restora.solvers.recursive_filter import recursive_filter
from restora.solvers.smoothing import FILTERS, bilateral, median
from restora.solvers.sparse import HyperLaplacian, shrink
from tests.conftest import make_photo

CONFORMANCE = Path(__file__).parents[1] / "conformance"
WORKING = ["auto", "hyper-laplacian", "inverse", "richardson-lucy", "total-variation", "wiener"]
ENLARGING = [name for name in WORKING if name != "inverse"]


def scene(
    kernel: torch.Tensor, scale: int = 1, sigma: float = 2.0, boundary: str = "photograph", size: int = 96
) -> tuple[Problem, torch.Tensor]:
    """A problem made without any assumption about the border, and its solution."""
    r = kernel.shape[-1] // 2 if boundary == "photograph" else 0
    wide = torch.from_numpy(make_photo(size + 2 * r, size + 12 + 2 * r, 3)).permute(2, 0, 1)[None] / 255
    y = convolve(wide, kernel, "valid" if r else "circular")[..., ::scale, ::scale]
    y = y + sigma / 255 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    x = wide[..., r : r + y.shape[-2] * scale, r : r + y.shape[-1] * scale]
    return Problem(y, kernel, scale, sigma, boundary), x  # type: ignore[arg-type]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10((a.clamp(0, 1) - b).square().mean().item())


def plain(problem: Problem) -> torch.Tensor:
    """The observed picture, enlarged."""
    from restora.networks.deconvolution import enlarge

    return enlarge(problem.observed, problem.scale)


MOTION = kernels.motion(11, 30)
LOPSIDED = kernels.trajectory(15, 4)


@pytest.mark.parametrize("boundary", ["photograph", "circular"])
@pytest.mark.parametrize("name", ENLARGING)
def test_every_solver_gains_over_the_blurred_picture(name: str, boundary: str) -> None:
    problem, x = scene(kernels.gaussian(1.6, 11), sigma=1.0, boundary=boundary)
    restored = solvers.create(name).solve(problem)
    assert restored.shape == x.shape and restored.dtype == torch.float32
    assert psnr(restored, x) > psnr(problem.observed, x) + 1


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("name", ENLARGING)
def test_the_scale_is_within_the_model(name: str, scale: int) -> None:
    problem, x = scene(kernels.gaussian(1.2 * scale / 2, 9), scale, sigma=0.5)
    restored = solvers.create(name).solve(problem)
    assert restored.shape == x.shape
    assert psnr(restored, x) > psnr(plain(problem), x) + 0.5


@pytest.mark.parametrize("name", [*WORKING, "gddec"])
def test_pictures_of_a_batch_do_not_know_each_other(name: str) -> None:
    first, _ = scene(MOTION, size=40)
    second = first.observed.flip(-1) * 0.7
    solver = solvers.create(name)
    kernel = torch.stack([MOTION, kernels.gaussian(1.5, MOTION.shape[0])[:, : MOTION.shape[1]]])
    if kernel[1].sum() < 0.99:
        kernel[1] /= kernel[1].sum()
    both = solver.solve(Problem(torch.cat([first.observed, second]), kernel, 1, 2.0))
    torch.testing.assert_close(both[:1], solver.solve(Problem(first.observed, kernel[0], 1, 2.0)), atol=2e-3, rtol=0)
    torch.testing.assert_close(both[1:], solver.solve(Problem(second, kernel[1], 1, 2.0)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["wiener", "hyper-laplacian", "auto", "richardson-lucy"])
def test_the_border_rings_less_than_that_of_a_circular_solution(name: str) -> None:
    problem, x = scene(kernels.motion(21, 20), sigma=1.0, size=140)
    circular = Problem(problem.observed, problem.kernel, 1, 1.0, "circular")
    solver = solvers.create(name)
    errors = []
    for posed in (problem, circular):
        error = (solver.solve(posed).clamp(0, 1) - x).square().mean((0, 1))
        error[32:-32, 32:-32] = 0
        errors.append(error.sum().item())
    assert errors[0] < errors[1] / 2


def test_wiener_at_scale_one_is_the_division() -> None:
    k = kernels.gaussian(1.5, 9)
    problem, _ = scene(k, boundary="circular")
    x = solvers.create("wiener", spectrum="constant", nsr=0.01, kernel_error=0.0).solve(problem)
    otf = Forward.of(problem).otf
    y = problem.observed
    mean = y.mean((-2, -1), keepdim=True)
    expected = torch.fft.irfft2(otf.conj() * torch.fft.rfft2(y - mean) / (otf.abs() ** 2 + 0.01), s=y.shape[-2:]) + mean
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)


def test_the_inverse_filter_inverts() -> None:
    k = torch.zeros(3, 3)
    k[1, 1], k[1, 2] = 0.7, 0.3
    problem, x = scene(k, sigma=0.0, boundary="circular")
    torch.testing.assert_close(solvers.create("inverse").solve(problem), x, atol=1e-4, rtol=0)
    with pytest.raises(UsageError, match="does not enlarge"):
        solvers.create("inverse")(x, k, scale=2)


def test_richardson_lucy_is_the_textbook_iteration() -> None:
    problem, _ = scene(LOPSIDED, sigma=0.0, boundary="circular", size=40)
    x = solvers.create("richardson-lucy", iterations=5).solve(problem)
    y = expected = problem.observed.clamp_min(1e-4)
    for _ in range(5):
        again = convolve(expected, LOPSIDED, "circular")
        expected = expected * convolve(y / again, LOPSIDED.flip(0, 1), "circular")
    torch.testing.assert_close(x, expected, atol=1e-3, rtol=0)


def test_richardson_lucy_variants() -> None:
    problem, x = scene(MOTION, sigma=4.0)
    scores = {
        which: psnr(solvers.create("richardson-lucy", iterations=40, **options).solve(problem), x)
        for which, options in {
            "plain": {},
            "tv": {"total_variation": 0.01},
            "damped": {"damping": 3.0},
        }.items()
    }
    assert scores["tv"] > scores["plain"] + 0.5 and scores["damped"] > scores["plain"] + 0.5
    problem, x = scene(MOTION, sigma=0.0)

    def misfit(**options: object) -> float:
        solver = solvers.create("richardson-lucy", iterations=15, **options)
        return (solver.solve(problem) - x).square().mean().item()

    assert misfit(accelerated=True) < 0.9 * misfit()


@pytest.mark.parametrize("power", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("coupling", [1.0, 100.0])
def test_the_shrinkage_is_the_minimum(power: float, coupling: float) -> None:
    m = torch.linspace(0.01, 3, 57) * coupling ** (-1 / (2 - power)) * 3
    u = shrink(m, coupling, power) * m
    # against the best of a fine search, in the value that is minimised
    candidates = torch.linspace(0, 1, 4001)[:, None] * m

    def value(v: torch.Tensor) -> torch.Tensor:
        return v**power + coupling / 2 * (v - m) ** 2

    best = value(candidates).min(0).values
    assert (value(u) <= best * 1.002 + 1e-6).all()


def test_iterative_solvers_report_and_stop() -> None:
    problem, _ = scene(MOTION, size=48)
    for name in ("hyper-laplacian", "richardson-lucy", "auto", "gddec"):
        steps: list[Step] = []

        def monitor(step: Step, steps: list[Step] = steps) -> bool:
            steps.append(step)
            return step.done == 3

        x = solvers.create(name).solve(problem, monitor=monitor)
        assert [s.done for s in steps] == [1, 2, 3] and steps[0].total > 3
        assert steps[-1].image().shape == x.shape
        with pytest.raises(KeyboardInterrupt):
            solvers.create(name).solve(problem, monitor=cancelled)


def cancelled(step: Step) -> bool:
    raise KeyboardInterrupt


def test_a_turned_kernel_is_found_out() -> None:
    problem, x = scene(LOPSIDED, sigma=1.0)
    turned = Problem(problem.observed, LOPSIDED.flip(0, 1), 1, 1.0)
    assert is_turned(turned).tolist() == [True] and is_turned(problem).tolist() == [False]
    symmetric, _ = scene(kernels.gaussian(2, 13))
    assert is_turned(symmetric).tolist() == [False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = solvers.create("auto").solve(problem)
    with pytest.warns(UserWarning, match="180 degrees"):
        mended = solvers.create("auto").solve(turned)
    assert torch.equal(best, mended)
    trusted = solvers.create("auto", orientation="trust").solve(turned)
    assert psnr(trusted, x) < psnr(best, x) - 3


def test_robust_loses_less_than_half_to_a_wrong_kernel() -> None:
    true = kernels.trajectory(15, 4)
    problem, x = scene(true, sigma=1.0, size=128)
    told = Problem(problem.observed, warped(true, 5, 1.1), 1, 1.0)
    for name in ("auto", "gddec"):
        best, plain = (psnr(solvers.create(name).solve(p), x) for p in (problem, told))
        robust = psnr(solvers.create(name, robust=True).solve(told), x)
        assert best - plain > 1 and best - robust < (best - plain) / 2


def test_a_right_kernel_is_left_alone() -> None:
    problem, _ = scene(LOPSIDED, sigma=1.0, size=128)
    assert torch.equal(refitted(problem)[0], LOPSIDED)
    assert refitted(Problem(torch.rand(1, 1, 8, 8), LOPSIDED)).shape == (1, 15, 15)  # too small to tell


def test_warping_turns_and_stretches_about_the_centre() -> None:
    k = torch.zeros(9, 9)
    k[4, 2:7] = 0.2
    turned = warped(k, 90, 1.0)
    middle = turned.shape[0] // 2
    torch.testing.assert_close(turned[middle - 4 : middle + 5, middle - 4 : middle + 5], k.T, atol=1e-3, rtol=0)
    long = warped(k, 0, 2.0)
    assert 8 <= int((long[long.shape[0] // 2] > 0.02).sum()) <= 12  # five pixels are ten now


@pytest.mark.parametrize(
    ("name", "sigma_s", "sigma_r", "iterations"), [("gray", 20, 0.2, 3), ("rgb", 60, 0.5, 3), ("joint", 40, 0.4, 2)]
)
def test_the_recursive_filter_is_the_reference(name: str, sigma_s: float, sigma_r: float, iterations: int) -> None:
    with np.load(CONFORMANCE / f"rf_{name}.npz") as arrays:
        x, expected = (torch.from_numpy(arrays[key])[None] for key in ("input", "out"))
    guide = None
    if name == "joint":
        guide = torch.from_numpy(np.random.Generator(np.random.PCG64(404)).random((1, 3, 32, 40)).astype(np.float32))
    found = recursive_filter(x, sigma_s, sigma_r, iterations, guide)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    if guide is None:
        batch = recursive_filter(torch.cat([x.flip(-1), x]), sigma_s, sigma_r, iterations)
        torch.testing.assert_close(batch[1:], found)


def test_filters_remove_noise_and_keep_the_shape() -> None:
    clean = torch.from_numpy(make_photo(48, 56)).permute(2, 0, 1)[None] / 255
    noisy = clean + 0.06 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    arguments = {
        "bilateral": {"sigma": 40.0},
        "non-local-means": {"sigma": 15.3},
        "recursive": {"sigma_s": 3.0, "sigma_r": 0.3},
    }
    for name, filtered in FILTERS.items():
        out = filtered(noisy, **arguments.get(name, {}))
        assert out.shape == clean.shape and psnr(out, clean) > psnr(noisy, clean) + 1, name
    grey = noisy[:, :1]
    assert bilateral(grey, 40.0).shape == grey.shape
    spot = torch.zeros(1, 1, 7, 7)
    spot[..., 3, 3] = 1
    assert median(spot).abs().max() == 0
    with pytest.raises(UsageError, match="3 or 5"):
        median(grey, 7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wiener", {"spectrum": "pink"}),
        ("wiener", {"nsr": 0.0}),
        ("inverse", {"floor": 0.0}),
        ("richardson-lucy", {"iterations": 0}),
        ("hyper-laplacian", {"power": 2.0}),
        ("hyper-laplacian", {"weight": 0.0}),
        ("auto", {"polish": 9}),
        ("auto", {"orientation": "left"}),
        ("auto", {"noise": "loud"}),
        ("gddec", {"loss": "psnr"}),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        solvers.create(name, **options)


def test_a_longer_descent_lowers_the_objective() -> None:
    problem, _ = scene(MOTION, size=48)
    values: list[float] = []
    HyperLaplacian().solve(problem, monitor=lambda step: values.append(step.value) and None)
    assert values[-1] < values[0]

"""The data equation, DPIR's schedule, flips and start, and DPIR itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restora.degradation.convolution import convolve
from restora.errors import UsageError
from restora.networks.deconvolution import DataStep, enlarge, transfer
from restora.solvers import Problem, Step, create
from restora.solvers.denoisers import DENOISERS, denoiser
from restora.solvers.half_quadratic import flip, schedule, unflip
from tests.conftest import make_photo

CONFORMANCE = Path(__file__).parents[1] / "conformance"
sys.path.insert(0, str(CONFORMANCE))
from fill import make_input  # noqa: E402


def record(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    with np.load(CONFORMANCE / f"{name}.npz") as arrays:
        return json.loads((CONFORMANCE / f"{name}.json").read_text()), dict(arrays)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def photograph(scale: int = 1, sigma: float = 0.0, side: int = 56) -> tuple[Problem, torch.Tensor]:
    """A blurred part of a larger picture, so that its border is a real one, and the sharp part."""
    kernel = rand(9, 9, seed=3).float() ** 4
    kernel /= kernel.sum()
    sharp = torch.from_numpy(make_photo(side + 8, side + 8)).permute(2, 0, 1)[None].float() / 255
    sharp = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    y = convolve(sharp, kernel, "valid")[..., ::scale, ::scale]
    y = y + sigma / 255 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    return Problem(y, kernel, scale, sigma), sharp[..., 4:-4, 4:-4]


CASES, OUTPUTS = record("dpir_data_step")


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_data_step_equals_the_published_one(case: dict) -> None:
    y, x, k = (make_input(tuple(case["inputs"][n]["shape"]), case["inputs"][n]["recipe"]) for n in "yxk")
    z = DataStep(y, transfer(k, x.shape[-2:]), case["sf"])(x, case["alpha"])
    assert np.abs(z.numpy() - OUTPUTS[case["name"]]).max() <= CASES["tolerance"]


def test_data_step_at_scale_1_is_wieners_division() -> None:
    y, x, k = rand(2, 3, 12, 15), rand(2, 3, 12, 15, seed=1), rand(2, 1, 5, 7, seed=2)
    alpha = torch.tensor([0.3, 0.02], dtype=torch.float64).reshape(2, 1, 1, 1)
    otf = transfer(k, (12, 15))
    quotient = (otf.conj() * torch.fft.rfft2(y) + alpha * torch.fft.rfft2(x)) / (otf.abs() ** 2 + alpha)
    torch.testing.assert_close(DataStep(y, otf)(x, alpha), torch.fft.irfft2(quotient, s=(12, 15)))


@pytest.mark.parametrize(("scale", "size"), [(1, (7, 6)), (2, (6, 7)), (3, (5, 5)), (4, (3, 8))])
def test_operator_equals_blur_and_decimation_and_has_its_adjoint(scale: int, size: tuple[int, int]) -> None:
    fine = (size[0] * scale, size[1] * scale)
    k, x, v = rand(2, 1, 5, 3), rand(2, 2, *fine, seed=1), rand(2, 2, *size, seed=2)
    mask = (rand(*size, seed=3) > 0.3).double()
    for seen in (None, mask):
        data = DataStep(v, transfer(k, fine), scale, seen)
        expected = torch.cat([convolve(a[None], b[0], "circular") for a, b in zip(x, k, strict=True)])
        expected = expected[..., ::scale, ::scale] * (1 if seen is None else seen)
        torch.testing.assert_close(data.apply(x), expected)
        torch.testing.assert_close((data.apply(x) * v).sum(), (x * data.adjoint(v)).sum())


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_masked_data_step_minimises_what_was_observed(scale: int) -> None:
    size, fine = (9, 8), (9 * scale, 8 * scale)
    k, y, x = rand(1, 1, 5, 5) / 12, rand(1, 2, *size, seed=1), rand(1, 2, *fine, seed=2)
    mask = torch.zeros(size, dtype=torch.float64)
    mask[2:-2, 2:-1] = 1
    data = DataStep(y, transfer(k, fine), scale, mask, steps=99, tolerance=1e-9)
    z = data(x, 0.1)
    slope = data.adjoint(data.residual(z)) + 0.1 * (z - x)
    assert slope.abs().max() < 1e-6 * (0.1 * (z - x)).abs().max()
    changed = torch.where(mask > 0, y, rand(1, 2, *size, seed=5))
    torch.testing.assert_close(DataStep(changed, data.otf, scale, mask, steps=99, tolerance=1e-9)(x, 0.1), z)


def test_gradients_of_the_data_step() -> None:
    y, x, k = rand(2, 1, 3, 4), rand(2, 1, 6, 8, seed=1), rand(2, 1, 3, 3, seed=2)
    alpha = torch.tensor([0.3, 0.1], dtype=torch.float64).reshape(2, 1, 1, 1)

    def work(*a: torch.Tensor) -> torch.Tensor:
        return DataStep(a[0], transfer(a[2], (6, 8)), 2)(a[1], a[3])

    assert torch.autograd.gradcheck(work, [t.requires_grad_() for t in (y, x, k, alpha)])


def test_several_weights_at_once() -> None:
    y, x, k = rand(2, 3, 5, 4), rand(2, 3, 10, 8, seed=1), rand(1, 1, 3, 3, seed=2)
    data = DataStep(y, transfer(k, (10, 8)), 2)
    both = data(x, torch.tensor([0.5, 0.01], dtype=torch.float64).reshape(2, 1, 1, 1, 1))
    torch.testing.assert_close(both, torch.stack([data(x, 0.5), data(x, 0.01)]))


def test_enlargement_puts_every_pixel_where_decimation_finds_it() -> None:
    for scale in (1, 2, 3):
        y = rand(1, 2, 5, 7)
        x = enlarge(y, scale)
        assert x.shape[-2:] == (5 * scale, 7 * scale)
        torch.testing.assert_close(x[..., ::scale, ::scale], y)


def test_schedule_equals_the_published_one() -> None:
    tables = record("dpir_schedule")[0]
    for t in tables["tables"]:
        sigma = max(float(t["sigma"].split("/")[0]), 0.255)
        alphas, levels = schedule(t["iter_num"], sigma, t["modelSigma1"], t["modelSigma2"], t["w"])
        np.testing.assert_allclose(alphas, t["rhos"], rtol=tables["relative_tolerance"])
        np.testing.assert_allclose(np.array(levels) / 255, t["sigmas"], rtol=tables["relative_tolerance"])


def test_flips_equal_the_published_ones_and_are_undone() -> None:
    _, arrays = record("dpir_flips")
    x = torch.from_numpy(arrays["input"])
    for mode in range(8):
        assert np.array_equal(flip(x, mode).numpy(), arrays[f"mode{mode}"])
        assert torch.equal(unflip(flip(x, mode), mode), x)


def test_dpir_does_what_the_paper_says() -> None:
    """Written out once more with a circular problem: data equation, flip, denoiser, flip back."""
    y, k = rand(1, 3, 12, 10).float(), rand(5, 5, seed=1).float()
    k /= k.sum()

    def blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x + sigma / 255 * (x.roll(1, -1) - x)

    ours = create("dpir", denoise=blur).solve(Problem(y, k, 1, 2.55, "circular"))
    x, otf = y, torch.fft.fft2(torch.nn.functional.pad(k, (0, 5, 0, 7)).roll((-2, -2), (0, 1)))
    for i, level in enumerate(np.geomspace(49, 2.55, 8)):
        alpha = 0.23 * 2.55**2 / level**2
        right = otf.conj() * torch.fft.fft2(y) + alpha * torch.fft.fft2(x)
        x = unflip(blur(flip(torch.fft.ifft2(right / (otf.abs() ** 2 + alpha)).real, i), level), i)
    assert (ours - x).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("name", "scale", "sigma", "gain"), [("dct", 1, 2.55, 4), ("tv", 1, 2.55, 3), ("dct", 2, 0.0, 2)]
)
def test_dpir_restores_photographs_without_weights(name: str, scale: int, sigma: float, gain: float) -> None:
    problem, sharp = photograph(scale, sigma)
    solver = create("dpir", denoise=name, iterations=6)
    x = solver.solve(problem)
    assert x.shape == sharp.shape and x.dtype == torch.float32
    assert psnr(x, sharp) > psnr(enlarge(problem.observed, scale), sharp) + gain
    assert torch.equal(x, solver.solve(problem))


def test_a_border_is_not_a_wall() -> None:
    """Taking a photograph for periodic rings at its border; solving for what lies beyond does not."""
    problem, sharp = photograph(sigma=1.0)
    solver = create("dpir", denoise="tv")
    open_ = solver.solve(problem)
    wrapped = solver.solve(Problem(problem.observed, problem.kernel, 1, 1.0, "circular"))
    assert psnr(open_, sharp) > psnr(wrapped, sharp) + 2


def test_every_picture_of_a_batch_has_its_own_kernel() -> None:
    problem, _ = photograph(side=40)
    kernels = torch.stack([problem.kernel, problem.kernel.T])
    both = Problem(problem.observed.repeat(2, 1, 1, 1), kernels, 1, 1.0)
    solver = create("dpir", denoise="tv", iterations=3)
    x = solver.solve(both)
    for i in range(2):
        alone = solver.solve(Problem(problem.observed, kernels[i], 1, 1.0))
        assert (x[i : i + 1] - alone).abs().max() < 2e-3


def test_monitor_sees_the_iterations_and_stops_them() -> None:
    problem, sharp = photograph(side=40)
    seen: list[Step] = []

    def monitor(step: Step) -> bool:
        seen.append(step)
        return step.done == 2

    x = create("dpir", denoise="tv").solve(problem, monitor=monitor)
    assert [(s.done, s.total) for s in seen] == [(1, 8), (2, 8)]
    assert torch.equal(seen[-1].image(), x) and x.shape == sharp.shape


@pytest.mark.parametrize("name", ["dct", "tv", "nlm"])
def test_denoisers_without_weights(name: str) -> None:
    """They remove noise, take any size and number of channels, and leave a picture without noise alone."""
    clean = torch.from_numpy(make_photo(48, 61)).permute(2, 0, 1)[None].float() / 255
    clean = torch.nn.functional.avg_pool2d(clean, 3, 1, 1)
    noisy = clean + 20 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    work = denoiser(name)
    assert psnr(work(noisy, 20), clean) > psnr(noisy, clean) + 5
    assert torch.equal(work(noisy, 0), noisy)
    assert (work(clean, 0.1) - clean).abs().max() < 2 / 255
    for shape in ((2, 1, 9, 13), (1, 4, 3, 1)):
        x = rand(*shape).float()
        y = work(x, 10)
        assert y.shape == shape and torch.isfinite(y).all()
        alone = torch.cat([work(p[None], 10) for p in x])
        assert torch.allclose(y, alone, atol=1e-6)


def test_total_variation_minimises_its_energy() -> None:
    x = rand(1, 1, 8, 9)
    y = DENOISERS["tv"](x, 30.0, iterations=400)
    weight = 0.28 * 30**1.25 / 255

    def energy(u: torch.Tensor) -> float:
        down = torch.nn.functional.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1))
        across = torch.nn.functional.pad(u[..., 1:] - u[..., :-1], (0, 1))
        return float((u - x).square().sum() / (2 * weight) + (down.square() + across.square()).sqrt().sum())

    least = energy(y)
    for seed in range(20):
        assert energy(y + 1e-2 * (rand(1, 1, 8, 9, seed=seed) - 0.5)) > least - 1e-6
    assert energy(x) > least and energy(x.mean().expand_as(x)) > least


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="dct"):
        create("dpir", denoise="drunet")
    with pytest.raises(UsageError, match="one iteration"):
        create("dpir", iterations=0)

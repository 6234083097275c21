"""ADMM, RED, and networks as solvers."""

from __future__ import annotations

import itertools

import pytest
import torch

from restora import networks
from restora.errors import UsageError
from restora.networks.deconvolution import DataStep, continued, enlarge, transfer
from restora.solvers import Problem, create
from tests.solvers.test_half_quadratic import photograph, psnr, rand


def smooth(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """A linear symmetric denoiser, for which RED's objective has the gradient that the paper gives."""
    neighbours = x.roll(1, -1) + x.roll(-1, -1) + x.roll(1, -2) + x.roll(-1, -2)
    return x + 0.15 * (neighbours / 4 - x)


def circular(sigma: float = 2.55) -> Problem:
    kernel = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
    return Problem(rand(1, 2, 12, 14).float(), kernel, 1, sigma, "circular")


def test_red_reaches_the_minimum_of_its_objective_either_way() -> None:
    """For a linear denoiser W the minimum solves (H'H + lambda sigma^2 (1 - W)) x = H'y: a division of spectra."""
    problem = circular(15.0)
    otf = transfer(problem.kernel[None, None], (12, 14))
    spectrum = torch.fft.rfft2(torch.zeros(1, 1, 12, 14).index_put_([torch.tensor(0)] * 4, torch.tensor(1.0)))
    residue = 1 - torch.fft.rfft2(smooth(torch.fft.irfft2(spectrum, s=(12, 14)), 0)).real
    alpha = 0.02 * 15.0**2
    expected = otf.conj() * torch.fft.rfft2(problem.observed) / (otf.abs() ** 2 + alpha * residue)
    expected = torch.fft.irfft2(expected, s=(12, 14))
    values: list[float] = []
    fixed = create("red", denoise=smooth, iterations=80).solve(problem, monitor=lambda s: values.append(s.value))
    assert (fixed - expected).abs().max() < 1e-3
    assert all(later <= earlier + 1e-7 for earlier, later in itertools.pairwise(values[:-1]))  # the last has none
    descended = create("red", denoise=smooth, iterations=1500, step="gradient").solve(circular(3.0))
    again = create("red", denoise=smooth, iterations=800).solve(circular(3.0))
    assert (descended - again).abs().max() < 1e-2


def test_admm_comes_to_agree() -> None:
    """With a proximal operator as denoiser and a fixed level, ADMM solves the variational problem: here a quadratic one."""
    problem = circular(10.0)
    lam = 0.5  # of |x|^2 / 2 in the units of the schedule: prox = x / (1 + lam)
    x = create("admm", denoise=lambda x, s: x / (1 + lam), iterations=60, first=10.0, last=10.0).solve(problem)
    otf = transfer(problem.kernel[None, None], (12, 14))
    expected = otf.conj() * torch.fft.rfft2(problem.observed) / (otf.abs() ** 2 + lam)
    assert (x - torch.fft.irfft2(expected, s=(12, 14))).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("name", "options", "scale", "gain"),
    [
        ("admm", {"denoise": "tv"}, 1, 4),
        ("admm", {"denoise": "dct", "iterations": 6}, 2, 2),
        ("red", {"denoise": "tv", "iterations": 12}, 1, 3),
    ],
)
def test_photographs_are_restored_without_weights(name: str, options: dict, scale: int, gain: float) -> None:
    problem, sharp = photograph(scale, 2.55)
    solver = create(name, **options)
    x = solver.solve(problem)
    assert x.shape == sharp.shape
    assert psnr(x, sharp) > psnr(enlarge(problem.observed, scale), sharp) + gain
    assert torch.equal(x, solver.solve(problem))


@pytest.mark.parametrize("name", ["admm", "red"])
def test_monitors_stop_the_iteration(name: str) -> None:
    problem, _ = photograph(side=24)
    done: list[int] = []

    def monitor(step: object) -> bool:
        done.append(step.done)  # type: ignore[attr-defined]
        return step.done >= 2  # type: ignore[attr-defined]

    create(name, denoise="tv").solve(problem, monitor=monitor)
    assert done[-1] == 2


def test_wrong_options_are_refused() -> None:
    for name in ("admm", "red"):
        with pytest.raises(UsageError, match="iteration"):
            create(name, iterations=0)
    with pytest.raises(UsageError, match="gradient"):
        create("red", step="newton")
    with pytest.raises(UsageError, match="no blur kernel"):
        create("network", network=networks.create("fsrcnn_x2"))


def small_usrnet(**more: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.create("usrnet_s", widths=(4, 6, 8, 10), blocks=1, iterations=2, **more).eval()


@pytest.mark.parametrize("scale", [1, 3])
def test_networks_are_solvers(scale: int) -> None:
    net = small_usrnet()
    solver = create("network", network=net)
    y, k = rand(2, 3, 13, 10).float(), rand(2, 5, 7, seed=1).float()
    k /= k.sum((-2, -1), keepdim=True)
    level = torch.full((2, 1, 1, 1), 3 / 255)
    wrapped = solver.solve(Problem(y, k, scale, 3.0, "circular"))
    with torch.no_grad():
        assert torch.equal(wrapped, net(y, k[:, None], scale, level))
    photo = solver.solve(Problem(y, k, scale, 3.0))
    assert photo.shape == (2, 3, 13 * scale, 10 * scale)
    assert torch.allclose(photo[1:], solver.solve(Problem(y[1:], k[1], scale, 3.0)), atol=1e-4)
    grey = solver.solve(Problem(y[:, :1], k, scale, 3.0))
    assert grey.shape == (2, 1, 13 * scale, 10 * scale)


def test_a_grey_network_takes_colour_channel_by_channel() -> None:
    solver = create("network", network=small_usrnet(channels=1))
    y, k = rand(2, 3, 9, 10).float(), rand(2, 3, 3, seed=1).float()
    k /= k.sum((-2, -1), keepdim=True)
    x = solver.solve(Problem(y, k, 2, 1.0, "circular"))
    alone = solver.solve(Problem(y[1:, 2:], k[1], 2, 1.0, "circular"))
    assert torch.allclose(x[1:, 2:], alone, atol=1e-5)
    with pytest.raises(UsageError, match="channels"):
        create("network", network=small_usrnet()).solve(Problem(rand(1, 2, 9, 9).float(), k[0]))
    with pytest.raises(UsageError, match="17"):
        solver.solve(Problem(y, k, 17, 1.0))


@pytest.mark.parametrize("scale", [1, 2])
def test_the_continuation_of_a_photograph_is_explained_by_a_periodic_blur(scale: int) -> None:
    problem, _ = photograph(scale)
    kernel = problem.kernel[None, None]
    y, (top, left) = continued(problem.observed, kernel, scale)
    height, width = problem.observed.shape[-2:]
    inside = y[..., top // scale : top // scale + height, left // scale : left // scale + width]
    assert torch.equal(inside, problem.observed)

    def unexplained(v: torch.Tensor, mask: torch.Tensor | None = None) -> float:
        """What no periodic picture of moderate size can account for."""
        size = [n * scale for n in v.shape[-2:]]
        data = DataStep(v, transfer(kernel, size), scale, mask)
        return float(data.residual(data(enlarge(v, scale), 1e-3)).square().mean())

    mirrored = torch.nn.functional.pad(problem.observed, [9] * 4, mode="reflect")
    assert unexplained(y) < 0.5 * unexplained(problem.observed)
    assert unexplained(y) < 0.5 * unexplained(mirrored)

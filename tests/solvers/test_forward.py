"""The forward model: what it computes, its adjoint, its closed-form inverse, its margin."""

from __future__ import annotations

import pytest
import torch

from restora.degradation.convolution import convolve
from restora.solvers import Problem
from restora.solvers.boundary import extend
from restora.solvers.forward import Forward, transfer

CASES = [(s, b) for s in (1, 2, 3, 4) for b in ("photograph", "circular")]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def model(scale: int, boundary: str, size: tuple[int, int] = (12, 15)) -> Forward:
    k = draw(2, 7, 9)
    return Forward(k / k.sum((1, 2), keepdim=True), size, scale, boundary)  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "boundary"), CASES)
def test_the_adjoint_is_one(scale: int, boundary: str) -> None:
    h = model(scale, boundary)
    x, y = draw(2, 3, *h.fine, seed=1), draw(2, 3, 12, 15, seed=2)
    assert (h.apply(x) * y).sum().item() == pytest.approx((x * h.adjoint(y)).sum().item(), rel=1e-12)


@pytest.mark.parametrize(("scale", "boundary"), CASES)
def test_the_normal_equation_is_solved(scale: int, boundary: str) -> None:
    h = model(scale, boundary)
    right = draw(2, 3, *h.fine, seed=1)
    q = 0.1 + h.roughness
    noise = 1 + 0.3 / h.observed_roughness
    x = h.picture(h.normal(h.spectrum(right), q, noise))
    weighed = h.picture(h.back(h.sample(h.blur(x)), noise)) + h.picture(q * h.spectrum(x))
    torch.testing.assert_close(weighed, right)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_it_is_convolution_and_keeps_the_first_pixel(scale: int) -> None:
    k = draw(5, 7)
    k = k / k.sum()
    x = draw(1, 2, 12, 18, seed=1)
    circular = Forward(k, (12 // scale, 18 // scale), scale, "circular")
    torch.testing.assert_close(circular.apply(x), convolve(x, k, "circular")[..., ::scale, ::scale])
    # for a photograph, the observed pixels are those of a valid convolution on the grid
    photo = Forward(k, (12, 18), scale, "photograph")
    grid = draw(1, 2, *photo.fine, seed=2)
    first = [b * scale for b in photo.before]
    part = grid[..., first[0] - 2 : first[0] + 12 * scale + 2, first[1] - 3 : first[1] + 18 * scale + 3]
    torch.testing.assert_close(photo.apply(grid), convolve(part, k, "valid")[..., ::scale, ::scale])
    assert photo.crop(grid).shape == (1, 2, 12 * scale, 18 * scale)


def test_completing_changes_the_margin_only() -> None:
    h = model(2, "photograph")
    x, y = draw(2, 3, *h.fine, seed=1), draw(2, 3, 12, 15, seed=2)
    v = h.complete(h.blur(x), y)
    torch.testing.assert_close(h.window(v), y)
    h.window(v).copy_(h.apply(x))
    torch.testing.assert_close(v, h.sample(h.blur(x)))


def test_a_kernel_larger_than_the_picture_wraps_round() -> None:
    k = draw(9, 9)
    field = torch.zeros(5, 6, dtype=torch.float64)
    for i in range(9):
        for j in range(9):
            field[(i - 4) % 5, (j - 4) % 6] += k[i, j]
    torch.testing.assert_close(transfer(k[None], (5, 6))[0, 0], torch.fft.rfft2(field))


def test_the_transfer_function_has_a_gradient() -> None:
    h = model(1, "photograph")
    x = draw(2, 1, *h.fine, seed=3)
    k = draw(2, 7, 9).requires_grad_()
    assert torch.autograd.gradcheck(lambda kernel: h.with_kernel(kernel).apply(x).square().sum(), (k,), fast_mode=True)


def test_the_margin_has_no_seam() -> None:
    ramp = torch.linspace(0, 1, 40, dtype=torch.float64).expand(1, 1, 24, 40)
    wide = extend(ramp, (4, 6), (36, 60))
    torch.testing.assert_close(wide[..., 4:28, 6:46], ramp)
    closed = torch.cat([wide, wide[..., :1]], -1)
    assert closed.diff(dim=-1).abs().max() < 0.15  # the bare picture would jump by 1


def test_problems_are_checked() -> None:
    with pytest.raises(ValueError, match="odd sides"):
        Problem(torch.zeros(1, 1, 8, 8), torch.ones(2, 3))
    with pytest.raises(ValueError, match="B x C x H x W"):
        Problem(torch.zeros(8, 8), torch.ones(3, 3))

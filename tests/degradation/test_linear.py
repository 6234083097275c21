"""Adjoints, transfer functions, gradients and boundaries of the linear degradations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

from restora import degradation as d
from restora.degradation import convolution, kernels
from restora.errors import UsageError
from tests.degradation.examples import LINEAR


@pytest.mark.parametrize("name", LINEAR)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(12, 30), width=st.integers(12, 30), channels=st.integers(1, 5))
def test_adjoint(name: str, height: int, width: int, channels: int) -> None:
    operator = LINEAR[name]
    g = torch.Generator().manual_seed(height * 100 + width)
    x = torch.randn(2, channels, height, width, generator=g)
    hx = operator(x)
    y = torch.randn(hx.shape, generator=g)
    hty = operator.adjoint(y, (height, width))
    assert hty.shape == x.shape
    left, right = float((hx.double() * y.double()).sum()), float((x.double() * hty.double()).sum())
    assert abs(left - right) <= 1e-5 * float(hx.double().norm() * y.double().norm())
    assert operator.out_size((height, width)) == tuple(hx.shape[-2:])


@pytest.mark.parametrize("name", ["blur-reflect", "down-bicubic", "chain", "varying-reflect"])
def test_the_gradient_is_the_adjoint(name: str) -> None:
    operator = LINEAR[name]
    x = torch.rand(1, 2, 16, 18, dtype=torch.float64, requires_grad=True)
    y = operator(x)
    weight = torch.rand_like(y)
    (y * weight).sum().backward()
    assert torch.allclose(x.grad, operator.adjoint(weight, (16, 18)), atol=1e-12)


def test_second_derivatives() -> None:
    operator = d.GaussianBlur(1.0)
    x = torch.rand(1, 1, 8, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: operator(v).square().sum(), x)


def test_the_natural_size_of_an_adjoint() -> None:
    assert d.Downsample(4).adjoint(torch.rand(1, 3, 5, 6)).shape[-2:] == (20, 24)
    assert LINEAR["blur-valid"].adjoint(torch.rand(1, 1, 10, 10)).shape[-1] == 10 + 6
    with pytest.raises(UsageError, match="does not become"):
        d.Decimate(3).adjoint(torch.rand(1, 1, 5, 5), (12, 15))
    with pytest.raises(UsageError, match="random"):
        d.GaussianBlur(d.Uniform(1, 2)).adjoint(torch.rand(1, 1, 5, 5))
    with pytest.raises(UsageError, match="not linear"):
        (d.GaussianBlur(1.0) >> d.Clip()).adjoint(torch.rand(1, 1, 5, 5))


SCIPY = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap"}


@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("size", [(3, 3), (9, 9), (5, 21), (31, 31), (91, 91)])
def test_blur_equals_scipy(boundary: str, size: tuple[int, int]) -> None:
    """Small and large kernels, larger than the picture too; a lopsided one, so that correlation would show."""
    rng = np.random.default_rng(1)
    kernel = rng.random(size) ** 4
    kernel /= kernel.sum()
    x = rng.random((3, 40, 50))
    expected = np.stack([ndimage.convolve(p, kernel, mode=SCIPY[boundary]) for p in x])
    operator = d.Blur(torch.from_numpy(kernel).float(), boundary)  # type: ignore[arg-type]
    got = operator(torch.from_numpy(x).float()[None])[0].numpy()
    assert np.abs(got - expected).max() < 2e-6


@pytest.mark.parametrize("boundary", SCIPY)
def test_lopsided_products_of_lines(boundary: str) -> None:
    kernel = np.outer([0.1, 0.2, 0.7], [0.5, 0.3, 0.1, 0.06, 0.04])
    x = np.random.default_rng(0).random((20, 30))
    expected = ndimage.convolve(x, kernel, mode=SCIPY[boundary])
    got = d.Blur(torch.from_numpy(kernel).float(), boundary)(torch.from_numpy(x).float()[None, None])  # type: ignore[arg-type]
    assert np.abs(got[0, 0].numpy() - expected).max() < 1e-6


def test_valid_equals_scipy() -> None:
    x, kernel = torch.rand(1, 1, 30, 40), kernels.trajectory(11, seed=3)
    expected = signal.convolve2d(x[0, 0].numpy(), kernel.numpy(), mode="valid")
    assert np.abs(d.Blur(kernel, "valid")(x)[0, 0].numpy() - expected).max() < 1e-6
    with pytest.raises(UsageError, match="leaves nothing"):
        d.Blur(kernel, "valid")(torch.rand(1, 1, 8, 40))


@pytest.mark.parametrize("boundary", convolution.BOUNDARIES)
@pytest.mark.parametrize("kernel", [kernels.motion(5, 20), kernels.trajectory(25, seed=1)], ids=["small", "large"])
def test_transforms_agree_with_products(boundary: str, kernel: torch.Tensor) -> None:
    """Large kernels go another way than small ones."""
    x = torch.rand(2, 3, 33, 40)
    by_transforms = convolution._fourier(x, kernel, boundary)  # type: ignore[arg-type]
    by_products = convolution._opencv(x, kernel, None, boundary)  # type: ignore[arg-type]
    assert by_transforms.shape == by_products.shape
    assert torch.allclose(by_transforms, by_products, atol=2e-6)


def test_empty_margins_cost_nothing_and_change_nothing() -> None:
    kernel = kernels.anisotropic(1.0, 0.6, 30.0, 41)
    assert max(convolution._trimmed(kernel).shape) <= 15
    assert convolution._trimmed(torch.ones(1, 1)).shape == (1, 1)
    x = torch.rand(1, 1, 50, 60)
    exact = ndimage.convolve(x[0, 0].double().numpy(), kernel.double().numpy(), mode="mirror")
    assert np.abs(d.Blur(kernel)(x)[0, 0].numpy() - exact).max() < 1e-6


@pytest.mark.parametrize("size", [(24, 30), (9, 11)])
def test_transfer_function(size: tuple[int, int]) -> None:
    x = torch.rand(1, 2, *size)
    blur = d.Blur(kernels.trajectory(13, seed=2), "circular")
    filtered = torch.fft.ifft2(blur.transfer_function(size) * torch.fft.fft2(x)).real
    assert torch.allclose(filtered, blur(x), atol=1e-5)
    chain = blur >> d.Decimate(3)
    assert torch.equal(chain.transfer_function(size), blur.transfer_function(size))
    assert torch.allclose(filtered[..., ::3, ::3], chain(x), atol=1e-5)
    with pytest.raises(UsageError, match="circular"):
        d.GaussianBlur(1.0).transfer_function(size)


def test_decimation_starts_at_the_top_left() -> None:
    x = torch.arange(42.0).view(1, 1, 6, 7)
    assert d.Decimate(3)(x).flatten().tolist() == [0, 3, 6, 21, 24, 27]


def test_data_step_of_usrnet_is_the_least_squares_solution() -> None:
    """`conj(K) F(y up) ...` in closed form, from the transfer function alone, solves (H'H + a) x = H'y + a z."""
    scale, alpha = 2, 0.3
    operator = d.Blur(kernels.trajectory(9, seed=5), "circular") >> d.Decimate(scale)
    x, y = torch.rand(1, 3, 32, 26), torch.rand(1, 3, 16, 13)
    k = operator.transfer_function((32, 26))
    up = torch.zeros_like(x)
    up[..., ::scale, ::scale] = y
    right = k.conj() * torch.fft.fft2(up) + alpha * torch.fft.fft2(x)

    def folded(f: torch.Tensor) -> torch.Tensor:  # the mean of the s x s spectral blocks
        return f.unflatten(-1, (scale, -1)).unflatten(-3, (scale, -1)).mean((-4, -2))

    quotient = folded(k * right) / (folded(k.abs() ** 2) + alpha)
    z = torch.fft.ifft2((right - k.conj() * quotient.repeat(1, 1, scale, scale)) / alpha).real
    left = operator.adjoint(operator(z)) + alpha * z
    assert torch.allclose(left, operator.adjoint(y) + alpha * x, atol=1e-5)


def test_varying_blur_blends() -> None:
    ks = torch.stack([kernels.gaussian(0, 9), kernels.gaussian(2, 9)])
    blur = d.VaryingBlur(ks, 1, 2)
    x = torch.rand(1, 1, 20, 40)
    y = blur(x)
    assert torch.allclose(blur.weights((20, 40)).sum(0), torch.ones(20, 40))
    assert torch.equal(y[..., :10], x[..., :10]), "left of the first centre the first kernel acts alone"
    assert torch.allclose(y[..., 30:], d.Blur(ks[1])(x)[..., 30:], atol=1e-6)
    same = d.VaryingBlur(ks[1:].expand(6, -1, -1), 2, 3)
    assert torch.allclose(same(x), d.Blur(ks[1])(x), atol=1e-6)


def test_bad_blurs_are_refused() -> None:
    for kernel in (torch.ones(3, 3), torch.ones(4, 4) / 16, -kernels.gaussian(1), torch.full((3, 3), float("nan"))):
        with pytest.raises(UsageError):
            d.Blur(kernel)
    with pytest.raises(UsageError, match="boundary"):
        d.Blur(kernels.gaussian(1), "wrap")  # type: ignore[arg-type]
    lobes = torch.tensor([[-0.1, 1.2, -0.1]])
    assert d.Blur(lobes, signed=True)(torch.ones(1, 1, 4, 4)).sum() == pytest.approx(16)

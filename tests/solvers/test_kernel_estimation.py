"""Blind kernel estimation: the kernel step against a direct solution, the estimate on synthetic blur, and the door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch

from restora.degradation import convolution, kernels
from restora.errors import UsageError
from restora.solvers import kernel_estimation as ke
from restora.solvers.base import Step


def scene(side: int, seed: int = 0) -> torch.Tensor:
    """Overlapping shapes with sharp edges in all directions: `1 x 1 x side x side`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    image = np.full((side, side), 0.4, np.float32)
    for n in range(60):
        cy, cx, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(4, 18)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r * r if n % 2 else np.abs(y - cy) + np.abs(x - cx) < r
        image[inside] = rng.uniform(0.1, 0.9)
    return torch.from_numpy(image)[None, None]


def blurred(side: int, kernel: torch.Tensor) -> torch.Tensor:
    """What a camera sees: the valid part, with a little noise, in 8 bits."""
    y = convolution.convolve(scene(side), kernel, "valid")
    y = y + 0.005 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    return (y * 255).round() / 255


KERNEL = kernels.repair(kernels.motion(9, 30, 11) * 0.6 + kernels.motion(7, 100, 11) * 0.4)


@pytest.fixture(scope="module")
def found() -> ke.KernelEstimate:
    return ke.estimate(blurred(110, KERNEL), 17)


def test_the_kernel_of_synthetic_blur(found: ke.KernelEstimate) -> None:
    k = found.kernel
    assert kernels.problems(k) == []
    identity = torch.zeros(17, 17)
    identity[8, 8] = 1
    assert ke.similarity(k, KERNEL) > 0.8 > ke.similarity(identity, KERNEL)
    assert max(k.shape) <= 17 and float(k[0].sum() + k[-1].sum()) > 0, "margins are trimmed"
    assert 0 <= found.confidence <= 1 and found.latent.shape == (1, 1, found.crop[3], found.crop[2])
    turned = ke.similarity(k.flip(0, 1), KERNEL.flip(0, 1))
    assert turned == pytest.approx(ke.similarity(k, KERNEL), abs=1e-9)


def test_the_same_again_in_colour() -> None:
    once = ke.estimate(blurred(80, KERNEL), 11)
    again = ke.estimate(blurred(80, KERNEL)[0].expand(3, -1, -1), 11)  # three equal channels are the grey picture
    assert torch.equal(once.kernel, again.kernel) and once.agreement == again.agreement and once.crop == again.crop


def test_the_dark_channel_zeroes_the_darkest_pixels_of_patches() -> None:
    x = torch.rand(1, 1, 20, 24, generator=torch.Generator().manual_seed(1)) + 0.01
    out = ke._without_dark(x, 5, 0.15**2)
    padded = np.pad(x[0, 0].numpy(), 2, constant_values=np.inf)
    expected = x[0, 0].clone()
    for i in range(20):
        for j in range(24):
            patch = padded[i : i + 5, j : j + 5]
            row, column = np.unravel_index(int(patch.argmin()), patch.shape)
            if patch.min() < 0.15:
                expected[i + row - 2, j + column - 2] = 0
    assert torch.equal(out[0, 0, 4:-4, 4:-4], expected[4:-4, 4:-4])
    assert int((out == 0).sum()) > 10


def test_the_quadratic_problem_is_solved() -> None:
    """Against scipy's non-negative least squares on the matrix written out."""
    rng = np.random.default_rng(0)
    n, side, ridge = 5, 24, 0.3
    x, t = rng.standard_normal((side, side)), rng.standard_normal((side, side))
    columns = [np.roll(x, (i, j), (0, 1)).ravel() for i in range(-2, 3) for j in range(-2, 3)]
    a = np.stack(columns, 1)
    rows = np.concatenate([a, np.sqrt(ridge) * np.eye(n * n)])
    expected, _ = scipy.optimize.nnls(rows, np.concatenate([t.ravel(), np.zeros(n * n)]))
    spectrum = np.fft.fft2(x)
    auto = np.roll(np.fft.ifft2(np.abs(spectrum) ** 2).real, (n - 1, n - 1), (0, 1))[: 2 * n - 1, : 2 * n - 1]
    cross = (a.T @ t.ravel()).reshape(n, n)
    start = torch.full((n, n), 1 / 25, dtype=torch.float64)
    k = ke._nonnegative(torch.from_numpy(auto.copy()), torch.from_numpy(cross), ridge, start)
    assert (expected == 0).any() and (expected > 0).any(), "some constraints bind"
    assert np.allclose(k.numpy().ravel(), expected, atol=1e-6)


def test_pruning_and_centring() -> None:
    k = torch.zeros(15, 15)
    k[3:6, 4:8] = 1.0
    k[12, 12] = 0.4  # an island of 3 % of the weight
    k[4, 8] = 0.01  # faint
    out = ke._centred(ke._pruned(k))
    assert float(out.sum()) == pytest.approx(1) and int((out > 0).sum()) == 12
    assert kernels.problems(out) == []
    assert ke._trimmed(out).shape[0] == 3 and ke._trimmed(out).shape[1] in (5, 3)


def test_progress_and_stop() -> None:
    seen: list[Step] = []

    def monitor(step: Step) -> bool:
        seen.append(step)
        assert step.image().ndim == 4
        return len(seen) == 12

    stopped = ke.estimate(blurred(100, KERNEL), 11, monitor=monitor)
    assert len(seen) == 12 and seen[-1].done == 12 < seen[-1].total
    assert kernels.problems(stopped.kernel) == [] and stopped.agreement == 0
    assert "stopped" in " ".join(stopped.notes)

    def cancel(step: Step) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ke.estimate(blurred(100, KERNEL), 11, monitor=cancel)


def test_a_textured_part_is_chosen() -> None:
    grey = torch.full((1, 1, 200, 300), 0.5)
    grey[..., 60:140, 200:280] = scene(80)
    grey[..., :100:8, :100] = 0.9  # many edges, but all in one direction
    left, top, width, height = ke._textured(grey, torch.zeros(1, 1, 200, 300, dtype=torch.bool), 90)
    assert (width, height) == (90, 90) and abs(left - 195) < 12 and abs(top - 55) < 12


@pytest.mark.parametrize(
    ("picture", "options", "sentence"),
    [
        (torch.rand(1, 1, 90, 90), {"size": 8}, "odd"),
        (torch.rand(1, 1, 40, 40), {"size": 31}, "too small"),
        (torch.rand(1, 1, 20, 90), {}, "at least 32"),
        (torch.rand(1, 2, 90, 90), {}, "grey or RGB"),
        (torch.full((1, 1, 90, 90), 0.5), {}, "no edges"),
        (torch.rand(1, 1, 90, 90), {"crop": (50, 0, 60, 60)}, "does not lie"),
        (torch.rand(1, 1, 90, 90), {"prior": "l2"}, "prior"),
    ],
)
def test_what_is_refused(picture: torch.Tensor, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ke.estimate(picture, **options)


def test_levin(data_folder: Path) -> None:
    from restora.io import Picture

    folder = data_folder / "bench/levin"
    pixels = Picture.open(folder / "im1_kernel3_img.png").pixels.astype(np.float32) / 255
    k = ke.estimate(torch.from_numpy(pixels).permute(2, 0, 1)).kernel
    assert ke.similarity(k, kernels.load(folder / "kernels/kernel3.npy")) > 0.85

"""GDDec: its parts against references, the literal method, what the practical one adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restora.degradation import kernels
from restora.errors import UsageError
from restora.solvers import Problem, Step
from restora.solvers.doubt import repaired
from restora.solvers.forward import Forward
from restora.solvers.gddec import GDDec, Similarity, _spatial, linear1cycle
from tests.solvers.test_classical import LOPSIDED, MOTION, psnr, scene

CONFORMANCE = Path(__file__).parents[1] / "conformance"


def test_the_schedule_is_the_published_one() -> None:
    with np.load(CONFORMANCE / "pulse_schedules.npz") as arrays:
        expected = arrays["linear1cycle"]
    assert [linear1cycle(t, 100) for t in range(101)] == pytest.approx(expected.tolist(), abs=1e-6)


def test_similarity_is_ssim_with_its_gradient() -> None:
    from skimage.metrics import structural_similarity

    g = torch.Generator().manual_seed(0)
    y, x = torch.rand(1, 2, 20, 23, generator=g), torch.rand(1, 2, 20, 23, generator=g)
    expected = np.mean(
        [
            structural_similarity(
                a.numpy(),
                b.numpy(),
                full=True,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1,
            )[1][5:-5, 5:-5].mean()
            for a, b in zip(x[0], y[0], strict=True)
        ]
    )
    assert 1 - Similarity(y)(x).item() == pytest.approx(expected, abs=2e-5)
    assert Similarity(y)(y).item() == pytest.approx(0, abs=1e-6)
    y, x = y.double(), x.double().requires_grad_()
    assert torch.autograd.gradcheck(Similarity(y), (x,), fast_mode=True, atol=1e-5, rtol=1e-3)


def test_tap_by_tap_is_the_same_convolution() -> None:
    x = torch.rand(2, 3, 16, 18, generator=torch.Generator().manual_seed(0))
    k = torch.stack([LOPSIDED, LOPSIDED.T])
    model = Forward(k, (16, 18), 1, "circular")
    torch.testing.assert_close(_spatial(x, k), model.blur(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_literal_method_descends_from_bicubic(scale: int) -> None:
    problem, x = scene(kernels.gaussian(1.6, 9), scale, sigma=0.0, boundary="circular", size=48)
    steps: list[Step] = []
    found = GDDec.literal(40).solve(problem, monitor=lambda step: steps.append(step))  # type: ignore[func-returns-value]
    assert len(steps) == 40 and steps[-1].value < 0.3 * steps[0].value
    from restora.networks.deconvolution import enlarge

    assert psnr(found, x) > psnr(enlarge(problem.observed, scale), x) + 1


def test_the_two_convolutions_lead_to_the_same_picture() -> None:
    problem, _ = scene(MOTION, sigma=0.0, boundary="circular", size=40)
    options = {"start": "bicubic", "iterations": 6, "tolerance": 0.0, "prior": 0.0}
    a, b = (GDDec(convolution=c, **options).solve(problem) for c in ("spatial", "fourier"))  # type: ignore[arg-type]
    # Adam divides by the gradient's size, so where that is near nothing rounding decides
    assert (a - b).abs().mean() < 1e-3


@pytest.mark.parametrize("loss", ["ssim", "l1", "l2", "huber"])
def test_every_loss_restores(loss: str) -> None:
    problem, x = scene(MOTION, size=64)
    found = GDDec(loss=loss, iterations=15).solve(problem)  # type: ignore[arg-type]
    assert psnr(found, x) > psnr(problem.observed, x) + 3


def test_it_ends_when_nothing_is_gained() -> None:
    problem, _ = scene(MOTION, size=48)
    counts = []
    for tolerance in (0.0, 0.02):
        steps: list[Step] = []
        GDDec(iterations=60, tolerance=tolerance).solve(problem, monitor=lambda step, s=steps: s.append(step))  # type: ignore[misc]
        counts.append(len(steps))
    assert counts[0] == 60 > counts[1]


def test_a_kernel_is_refined_towards_the_truth() -> None:
    true = kernels.motion(9, 0, size=13)
    wrong = kernels.motion(11, 0, size=13)
    problem, _ = scene(true, sigma=0.5, size=96)
    told = Problem(problem.observed, wrong, 1, 0.5)
    plain, refined = (GDDec(refine_kernel=r, iterations=40, tolerance=0.0).solve(told) for r in (False, True))
    assert not torch.equal(plain, refined)


def test_it_works_without_gradients_around_it() -> None:
    problem, _ = scene(MOTION, size=40)
    expected = GDDec(iterations=5).solve(problem)
    with torch.inference_mode():
        inside = Problem(problem.observed.clone(), MOTION.clone(), 1, problem.sigma)
        torch.testing.assert_close(GDDec(iterations=5).solve(inside), expected)
    assert not expected.requires_grad


def test_kernels_are_repaired_together() -> None:
    a = torch.zeros(5, 5)
    a[0, 2] = 1.0
    b = kernels.gaussian(1.0, 5)
    mended = repaired(torch.stack([a, b]))
    middle = [n // 2 for n in mended.shape[-2:]]
    assert mended[0, middle[0], middle[1]] == 1 and mended.sum((1, 2)).tolist() == pytest.approx([1, 1])


def test_refining_needs_fourier() -> None:
    with pytest.raises(UsageError, match="fourier"):
        GDDec(convolution="spatial", refine_kernel=True)

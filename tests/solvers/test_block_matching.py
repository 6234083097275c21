"""Collaborative filtering of alike blocks, for white and for coloured noise."""

from __future__ import annotations

import pytest
import torch

from restora.errors import UsageError
from restora.solvers import Problem, create
from restora.solvers.auto import noise_seen
from restora.solvers.block_matching import BLOCK, Search, block_matching, collaborative, cosines, deviations
from restora.solvers.denoisers import DENOISERS, dct
from tests.conftest import make_photo
from tests.solvers.test_classical import LOPSIDED, psnr, scene


def photograph(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(make_photo(height, width, 2)).permute(2, 0, 1)[None] / 255


def noise(shape: tuple[int, ...] | torch.Size, sigma: float, seed: int = 0) -> torch.Tensor:
    return sigma / 255 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_what_repeats_is_found_again() -> None:
    """A fine texture that repeats is noise to a single block and signal to a group."""
    tile = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    x = tile.repeat(1, 1, 6, 6)
    y = x + noise(x.shape, 25)
    assert psnr(block_matching(y, 25), x) > psnr(dct(y, 25), x) + 3


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 61, 150), (3, 47, 40), (4, 20, 33), (1, 5, 9), (1, 1, 1)]
)
def test_any_size_is_denoised(channels: int, height: int, width: int) -> None:
    x = photograph(height, width).mean(1, keepdim=True).repeat(1, channels, 1, 1)
    y = x + noise(x.shape, 15)
    clean = DENOISERS["block_matching"](y, 15)
    assert clean.shape == x.shape and torch.equal(clean, block_matching(y, 15))
    if min(height, width) > BLOCK:
        assert psnr(clean, x) > psnr(y, x) + 3


def test_a_flat_picture_and_its_batch() -> None:
    flat = torch.full((1, 3, 30, 30), 0.4)
    torch.testing.assert_close(block_matching(flat, 10), flat, atol=1e-5, rtol=0)
    assert block_matching(flat, 0) is flat
    other = photograph(30, 30)
    both = block_matching(torch.cat([flat, other]), 10)
    torch.testing.assert_close(both[1:], block_matching(other, 10))


def test_the_parts_meet_without_seams() -> None:
    """What is far from a change does not notice it, and the picture is worked on in several parts."""
    x = photograph(40, 330) + noise((1, 3, 40, 330), 10)
    changed = x.clone()
    changed[..., :20] = 0
    a, b = block_matching(x, 10), block_matching(changed, 10)
    torch.testing.assert_close(a[..., 120:], b[..., 120:], atol=1e-5, rtol=0)
    assert (a[..., :20] - b[..., :20]).abs().max() > 0.1


def test_deviations_of_coloured_noise_are_those_measured() -> None:
    size = (96, 80)
    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    spectrum = torch.exp(-((rows / 0.1) ** 2 + (columns / 0.3) ** 2))
    found = deviations(spectrum, size)
    white = torch.randn(40, *size, generator=torch.Generator().manual_seed(0))
    coloured = torch.fft.irfft2(torch.fft.rfft2(white) * spectrum.sqrt(), s=size)
    blocks = coloured.unfold(1, BLOCK, 4).unfold(2, BLOCK, 4).reshape(-1, BLOCK**2) @ cosines().T
    expected = blocks.square().mean(0).sqrt()
    strong = expected > 0.05
    assert strong.sum() > 20
    torch.testing.assert_close(found[strong], expected[strong], rtol=0.06, atol=0)
    torch.testing.assert_close(deviations(torch.full((96, 41), 0.25), size), torch.full((64,), 0.5))


def test_the_colour_of_noise_matters() -> None:
    x = photograph(96, 96).mean(1, keepdim=True)
    rows, columns = torch.fft.fftfreq(96)[:, None], torch.fft.rfftfreq(96)
    spectrum = (12 / 255) ** 2 * 20 * torch.exp(-((rows / 0.1) ** 2 + (columns / 0.1) ** 2))
    white = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    y = x + torch.fft.irfft2(torch.fft.rfft2(white) * spectrum.sqrt(), s=(96, 96))
    told = deviations(spectrum, (96, 96))
    untold = told.square().mean().sqrt().expand(64)
    right, wrong = (psnr(collaborative(y, d, collaborative(y, d)), x) for d in (told, untold))
    assert right > wrong + 0.5 and right > psnr(y, x) + 1


@pytest.mark.parametrize("options", [{"stride": 9}, {"stride": 0}, {"reach": -1}, {"group": 12}, {"group": 0}])
def test_impossible_searches_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Search(**options)  # type: ignore[arg-type]


def test_noise_is_seen_where_the_blur_left_nothing_else() -> None:
    problem, _ = scene(LOPSIDED, sigma=3.0, size=160)
    assert noise_seen(problem) == pytest.approx(3.0, rel=0.3)
    told_less = Problem(problem.observed, LOPSIDED, 1, 1.5)
    assert noise_seen(told_less) > 2
    assert noise_seen(Problem(torch.rand(1, 1, 20, 20), LOPSIDED)) == 0


def test_rounds_with_block_matching_gain() -> None:
    problem, x = scene(LOPSIDED, sigma=2.0, size=128)
    plain, polished = (create("auto", polish=n).solve(problem) for n in (0, 2))
    assert psnr(polished, x) > psnr(plain, x) + 0.3

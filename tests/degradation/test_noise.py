"""The statistics of each noise, coders, and what is particular to single degradations."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from restora import degradation as d
from restora.degradation import kernels
from restora.degradation.noise import linear_to_srgb, poisson, srgb_to_linear
from restora.errors import UsageError
from tests.conftest import make_photo


def flat(level: float, channels: int = 3, side: int = 200) -> torch.Tensor:
    return torch.full((1, channels, side, side), level)


def photograph(height: int = 96, width: int = 120) -> torch.Tensor:
    return torch.from_numpy(make_photo(height, width).astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.mark.parametrize("colour", ["independent", "grey", "correlated"])
@pytest.mark.parametrize("grain", [0.0, 1.5])
def test_gaussian_level(colour: str, grain: float) -> None:
    n = (d.GaussianNoise(25, colour, grain)(flat(0.5), 1) - 0.5) * 255
    assert float(n.square().mean().sqrt()) == pytest.approx(25, rel=0.03)
    assert abs(float(n.mean())) < (2 if grain else 0.5)
    r = np.corrcoef(n[0].flatten(1).numpy())
    if colour == "grey":
        assert r.min() > 0.999
    elif colour == "correlated":
        assert np.abs(r[np.triu_indices(3, 1)]).max() > 0.1
    elif not grain:
        assert np.abs(r[np.triu_indices(3, 1)]).max() < 0.03
    neighbours = np.corrcoef(n[0, 0, :, 1:].flatten(), n[0, 0, :, :-1].flatten())[0, 1]
    assert neighbours > 0.7 if grain else abs(neighbours) < 0.03


def test_level_maps() -> None:
    levels = torch.zeros(200, 200)
    levels[:, 100:] = 40
    y = d.GaussianNoise(levels)(flat(0.5), 0)
    assert bool((y[..., :100] == 0.5).all())
    assert float(y[..., 100:].std()) * 255 == pytest.approx(40, rel=0.05)
    noise = d.VaryingNoise(5, 50, key=3)
    levels = noise.level_map((200, 200))
    assert float(levels.min()) == pytest.approx(5) and float(levels.max()) == pytest.approx(50)
    n = (noise(flat(0.5)) - 0.5) * 255 / levels
    assert float(n.std()) == pytest.approx(1, rel=0.03)
    assert torch.equal(d.GaussianNoise(7).level_map((2, 3)), torch.full((1, 2, 3), 7.0))
    with pytest.raises(UsageError, match="level map"):
        d.GaussianNoise(torch.zeros(4, 4))(flat(0.5), 0)


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0, 20.0, 31.9, 32.1, 50.0, 200.0, 1000.0])
def test_poisson_law(mean: float) -> None:
    counts = poisson(np.random.default_rng(0), np.full(300_000, mean, np.float32))
    assert bool((counts == np.rint(counts)).all()) and counts.min() >= 0
    assert counts.mean() == pytest.approx(mean, abs=5 * (mean / 300_000) ** 0.5 + 1e-9)
    assert counts.var() == pytest.approx(mean, rel=0.02, abs=1e-9)
    if mean > 1:
        skew = ((counts - mean) ** 3).mean() / mean**1.5
        assert skew == pytest.approx(mean**-0.5, abs=0.03)


def test_photon_noise_grows_with_light() -> None:
    noise = d.PoissonNoise(100)
    assert float(noise(flat(0.9), 0).var()) == pytest.approx(0.9 / 100, rel=0.03)
    assert float(noise(flat(0.1), 0).var()) == pytest.approx(0.1 / 100, rel=0.03)
    grey = d.PoissonNoise(100, grey=True)(flat(0.5), 0)
    assert torch.equal(grey[:, 0], grey[:, 1])


def test_other_noises() -> None:
    assert float(d.SpeckleNoise(25)(flat(0.8), 0).std()) * 255 == pytest.approx(20, rel=0.03)
    y = d.SaltPepperNoise(0.2, 0.25)(flat(0.5), 0)
    assert float((y == 1).float().mean()) == pytest.approx(0.05, abs=0.005)
    assert float((y == 0).float().mean()) == pytest.approx(0.15, abs=0.005)
    whole = d.SaltPepperNoise(0.2, pixels=True)(flat(0.5), 0)
    assert torch.equal(whole[:, 0], whole[:, 2])
    assert float(d.VarianceNoise(0.01)(flat(0.5), 0).var()) == pytest.approx(0.01, rel=0.03)
    floor = d.Quantise(4, "floor")(torch.tensor([0.0, 0.24, 0.26, 0.99, 1.0]).view(1, 1, 1, 5))
    assert floor.flatten().tolist() == [0, 0, 0.25, 0.75, 0.75]
    assert d.Quantise(3)(torch.tensor([0.2, 0.3, 2.0, -1.0]).view(1, 1, 1, 4)).flatten().tolist() == [0, 0.5, 1, 0]


def test_f_noise_has_the_spectrum_it_is_called_after() -> None:
    n = d.FrequencyNoise(1.0)(flat(0.5, 1, 256), 0)[0, 0] - 0.5
    power = torch.fft.fft2(n).abs() ** 2
    f = torch.fft.fftfreq(256)
    radius = (f[:, None] ** 2 + f**2).sqrt()
    low, high = (power[(radius > a) & (radius < a * 1.2)].mean() for a in (0.05, 0.2))
    assert float(low / high) == pytest.approx(16, rel=0.3), "amplitude falls as 1/f, power as 1/f^2"


def test_camera_noise_depends_on_the_signal() -> None:
    for level in (0.2, 0.7):
        light = srgb_to_linear(d.CameraNoise(0.004, 0.01)(flat(level), 0))
        expected = 0.004 * float(srgb_to_linear(torch.tensor(level))) + 1e-4
        assert float(light.var()) == pytest.approx(expected, rel=0.08)
    x = photograph()
    assert torch.allclose(linear_to_srgb(srgb_to_linear(x)), x, atol=1e-5)
    assert float((d.CameraNoise(0, 0, True)(x, 0) - x).abs().mean()) < 0.05
    blotchy = d.CameraNoise(0.0, 0.05, True)(flat(0.5), 0)[0, 0]
    assert np.corrcoef(blotchy[:, 1:].flatten(), blotchy[:, :-1].flatten())[0, 1] > 0.3


@pytest.mark.parametrize("quality", [10, 50, 95])
@pytest.mark.parametrize("chroma", ["420", "444"])
def test_jpeg_is_libjpegs(quality: int, chroma: str) -> None:
    x = photograph()
    pixels = (x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file, "JPEG", quality=quality, subsampling=chroma.replace("420", "4:2:0").replace("444", "4:4:4")
    )
    expected = np.asarray(Image.open(file)).astype(np.float32)
    got = d.Jpeg(quality, chroma)(x)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - expected).mean() < 0.05
    soft = d.SoftJpeg(quality, chroma)(x)[0].permute(1, 2, 0).numpy() * 255
    # chroma at half size is enlarged by another filter, which shows at this picture's hard colour edges
    assert np.abs(soft.round() - expected).mean() < (0.7 if chroma == "444" else 2.0)


def test_grey_jpeg_and_webp() -> None:
    x = photograph().mean(1, keepdim=True)
    assert float((d.SoftJpeg(50)(x) - d.Jpeg(50)(x)).abs().mean()) < 0.5 / 255
    assert d.WebP(80)(x).shape == x.shape
    errors = [float((d.WebP(q)(photograph()) - photograph()).abs().mean()) for q in (5, 50, 95)]
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(UsageError, match="channels"):
        d.Jpeg(50)(torch.rand(1, 2, 8, 8))


def test_soft_jpegs_gradient_is_useful() -> None:
    """The gradient of the distance to the coded picture points where the loss falls."""
    target = photograph(32, 32)
    x = (target + 0.05 * torch.randn_like(target)).clamp(0, 1).requires_grad_()
    loss = (d.SoftJpeg(60, rounding="cubic")(x) - target).square().mean()
    (g,) = torch.autograd.grad(loss, x)
    better = (d.SoftJpeg(60, rounding="cubic")(x - 100 * g) - target).square().mean()
    assert better.item() < loss.item()


def test_photometric() -> None:
    x = photograph()
    assert float(d.Contrast(40)(x).std()) > float(x.std()) > float(d.Contrast(-40)(x).std())
    assert torch.allclose(d.Contrast(0)(x), x, atol=1e-5) and torch.allclose(d.Brightness()(x), x, atol=1e-6)
    assert torch.allclose(d.LowPass(1.0)(x), x)
    detail = [float((d.LowPass(s)(x) - x).square().mean()) for s in (0.3, 0.1, 0.03)]
    assert detail == sorted(detail)
    noisy = d.GaussianNoise(15)(flat(0.5, 3, 48), 0).clamp(0, 1)
    assert float(d.OverSmoothing(0.1, 3, 5)(noisy).std()) < 0.5 * float(noisy.std())
    assert torch.allclose(d.Fading(0.0)(x, 0), x, atol=1e-6)
    faded = d.Fading(0.6)(x, 0)
    assert float(faded.std()) < float(x.std()) and float(faded[:, 2].mean()) < float(faded[:, 0].mean())


def test_down_to_the_published_formula() -> None:
    """Contrast on the 0-255 scale: F (I - 128) + 128."""
    f = 259 * (30 + 255) / (255 * (259 - 30))
    assert float(d.Contrast(30)(torch.full((1, 1, 1, 1), 100 / 255))) * 255 == pytest.approx(
        f * (100 - 128) + 128, abs=1e-3
    )


def test_the_cheap_blurs_are_the_same_blurs() -> None:
    x = photograph()
    assert torch.allclose(d.GaussianBlur(1.7, 11)(x), d.Blur(kernels.gaussian(1.7, 11))(x))
    assert torch.allclose(d.AnisotropicBlur(1.7, 1.7, 20.0, 11)(x), d.GaussianBlur(1.7, 11)(x), atol=1e-6)

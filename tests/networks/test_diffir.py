"""DiffIR: the second stage against the reference with its stored noise, and the rest in a small configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restora import networks
from restora.errors import UsageError
from restora.networks.diffir import DiffIR, schedule_buffers

FOLDER = Path(__file__).parents[1] / "conformance"
sys.path.insert(0, str(FOLDER))
from fill import fill_value, make_input  # noqa: E402

TINY = {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "residuals": 1}


def tiny(**options) -> DiffIR:
    torch.manual_seed(0)
    return DiffIR(**{**TINY, **options}).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffir_s2_deblur", "diffir_s2_sr_x4"])
def test_second_stage_equals_the_reference_with_the_same_noise(name: str) -> None:
    net = networks.create(name)
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            parameter.copy_(torch.from_numpy(fill_value(key, tuple(parameter.shape), "param", 1.0)))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        stored = dict(arrays)
    for key, constant in net.diffusion.constants(None).items():
        assert torch.allclose(constant, torch.from_numpy(stored[f"buffer:diffusion.{key}"]), rtol=1e-6, atol=1e-7)
    record = json.loads(str(stored["record"]))
    x, z = (make_input(tuple(record[n]["shape"]), record[n]["recipe"]) for n in "xz")
    with torch.no_grad():
        prior, y = net.diffusion(x, z=z), net(x, z=z)
    assert np.abs(prior.numpy() - stored["prior"]).max() <= 1e-4
    ours = y.numpy()[tuple(slice(*c) for c in record["crop"])]
    assert np.abs(ours - stored["y"]).max() <= 1e-4 * max(1.0, np.abs(stored["y"]).max())


@pytest.mark.parametrize("scale", [1, 4])
def test_any_size_gradients_and_seeds(scale: int) -> None:
    net = tiny(scale=scale, norm_bias=scale == 1)
    x = torch.rand(2, 3, 11, 5)
    y = net(x)
    assert y.shape == (2, 3, 11 * scale, 5 * scale)
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert torch.equal(y, net(x))
    assert not torch.equal(y, net(x, seed=1))
    assert torch.allclose(net(x, samples=2), (y + net(x, seed=1)) / 2, atol=1e-6)
    assert not torch.equal(y, net(x, steps=3))


def test_first_stage_sees_the_true_picture() -> None:
    net = tiny(stage=1)
    x, truth = torch.rand(1, 3, 9, 8), torch.rand(1, 3, 36, 32)
    y = net(x, truth)
    assert y.shape == truth.shape and not torch.equal(y, net(x, 1 - truth))
    y.mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(UsageError, match="stage 2"):
        net(x)
    with pytest.raises(UsageError, match="stages 1 and 2"):
        tiny(stage=3)


def test_training_starts_from_the_noisy_prior_and_reaches_the_denoiser() -> None:
    net = tiny().train()
    prior = torch.rand(2, 256)
    drawn = net.diffusion(torch.rand(2, 3, 8, 8), prior=prior)
    (drawn - prior).abs().mean().backward()
    assert net.denoise.resmlp[0].weight.grad.abs().sum() > 0


def test_a_perfect_denoiser_gives_the_prior_in_both_parameterisations() -> None:
    prior, x = torch.rand(1, 256), torch.rand(1, 3, 8, 8)
    for target in ("x0", "eps"):
        diffusion = tiny(target=target).diffusion

        class Oracle(torch.nn.Module):
            def __init__(self, diffusion) -> None:
                super().__init__()
                self.constants, self.noisy = diffusion.constants(None), diffusion.target == "eps"

            def forward(self, z, time, condition):
                t = round(float(time[0, 0]) * 40)
                keep, noise = (self.constants[k][t] for k in ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"))
                return (z - keep * prior) / noise if self.noisy else prior

        diffusion.model = Oracle(diffusion)
        assert torch.allclose(diffusion(x), prior, atol=1e-4)


def test_one_reverse_step_is_the_equation_of_the_report() -> None:
    constants = schedule_buffers(4, 0.1, 0.99, "linear")
    z, noise, t = torch.rand(5), torch.rand(5), 2
    beta, kept = constants["betas"][t], constants["alphas_cumprod"][t]
    expected = (z - noise * beta / (1 - kept).sqrt()) / (1 - beta).sqrt()
    clean = constants["sqrt_recip_alphas_cumprod"][t] * z - constants["sqrt_recipm1_alphas_cumprod"][t] * noise
    ours = constants["posterior_mean_coef1"][t] * clean + constants["posterior_mean_coef2"][t] * z
    assert torch.allclose(ours, expected, atol=1e-5)


def test_both_schedules() -> None:
    published, report = (schedule_buffers(4, 0.1, 0.99, form) for form in ("sqrt-linear", "linear"))
    assert torch.allclose(published["betas"], torch.tensor([0.1, 0.2943, 0.5910, 0.99]), atol=1e-4)
    assert torch.allclose(report["alphas_cumprod"], torch.tensor([0.9, 0.5430, 0.1665, 0.00167]), atol=1e-4)
    with pytest.raises(UsageError, match="sqrt-linear"):
        schedule_buffers(4, 0.1, 0.99, "cosine")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="eps"):
        tiny(target="velocity")


def test_identification_and_shared_tensors() -> None:
    net = tiny(scale=2, steps=6, expansion=2.66, denoise_layers=2)
    found = networks.identify(net.state_dict())
    assert found.family == "diffir" and found.variant == ""
    assert {k: found.config[k] for k in ("scale", "steps", "expansion", "denoise_layers", "stage", *TINY)} == {
        "scale": 2,
        "steps": 6,
        "expansion": 2.66,
        "denoise_layers": 2,
        "stage": 2,
        **TINY,
    }
    assert "diffusion.condition.E.0.weight" in networks.shared_keys(net)
    networks.load_state(
        DiffIR(**found.config), {k: v for k, v in net.state_dict().items() if "diffusion.model" not in k}
    )

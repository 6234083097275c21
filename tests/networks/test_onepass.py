"""The one-pass network, unrolled gradient descent, and the small USRNet."""

from __future__ import annotations

import itertools

import pytest
import torch

from restora import networks
from restora.networks import onepass
from restora.networks.deconvolution import DataStep, KernelNetwork, enlarge, transfer

SMALL = {
    "onepass": {
        "denoiser": ((4, 5, 6, 7), 1),
        "artefacts": ((5, 6, 7, 8), 2),
        "resolution": ((6, 7, 8, 9), 1),
        "features": 8,
    },
    "rgdn": {"iterations": 3, "features": 6, "depth": 3},
    "usrnet_s": {"iterations": 2, "widths": (4, 6, 8, 10), "blocks": 1},
}


def small(variant: str, **more: object) -> KernelNetwork:
    torch.manual_seed(0)
    net = networks.create(variant, **{**SMALL[variant], **more})
    assert isinstance(net, KernelNetwork)
    return net


def example(scale: int = 1) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """`y, kernel, scale, sigma` for two pictures with two kernels and two noise levels."""
    source = torch.Generator().manual_seed(1)
    kernels = torch.rand(2, 1, 5, 3, generator=source)
    sigma = torch.tensor([0.0, 10 / 255]).reshape(2, 1, 1, 1)
    return torch.rand(2, 3, 13, 10, generator=source), kernels / kernels.sum((-2, -1), keepdim=True), scale, sigma


@pytest.mark.parametrize("variant", SMALL)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_any_size_scale_kernel_and_level(variant: str, scale: int) -> None:
    net, (y, k, _, sigma) = small(variant), example()
    x = net(y, k, scale, sigma)
    assert x.shape == (2, 3, 13 * scale, 10 * scale) and torch.isfinite(x).all()
    for i in range(2):  # each picture has its own kernel and level
        alone = net(y[i : i + 1], k[i : i + 1], scale, sigma[i : i + 1])
        assert torch.allclose(x[i : i + 1], alone, atol=1e-5)
    swapped = net(y, k.flip(0), scale, sigma)
    assert (swapped - x).abs().max() > 1e-4
    photo = net.restore(y, k, scale, 255 * sigma)
    assert photo.shape == x.shape and torch.isfinite(photo).all()
    assert net.restore(y).shape == y.shape


@pytest.mark.parametrize("variant", SMALL)
def test_gradients_reach_every_part(variant: str) -> None:
    net, (y, k, scale, sigma) = small(variant), example(2)
    y.requires_grad_()
    target = torch.rand(2, 3, 26, 20)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    losses = []
    for _ in range(3):  # a layer that begins with zeros shows its inputs a gradient from the second step on
        loss = (net(y, k, scale, sigma) - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert all(p.grad.abs().max() > 0 for p in net.parameters() if p.ndim > 1), "a part does not learn"
    assert y.grad.abs().max() > 0 and losses[-1] < losses[0]


@pytest.mark.parametrize("variant", SMALL)
def test_small_forms_are_identified(variant: str) -> None:
    net = small(variant)
    found = networks.identify(net.state_dict())
    known = {**networks.family_of(variant).variants[variant], **SMALL[variant]}
    assert found.family == networks.family_of(variant).name
    assert all(known.get(key, value) == value for key, value in found.config.items())


@pytest.mark.parametrize(("levels", "features"), [(1, 0), (1, 8), (4, 0)])
def test_levels_and_parameter_network_are_options(levels: int, features: int) -> None:
    net, (y, k, scale, sigma) = small("onepass", levels=levels, features=features), example(2)
    parts = net.stages(y, k, scale, sigma)
    assert parts["data"].shape == (2, 3 * levels, 26, 20)
    assert torch.equal(parts["resolution"], net(y, k, scale, sigma))
    found = networks.identify(net.state_dict())
    assert (found.config["levels"], found.config["features"]) == (levels, features)


def test_a_fresh_network_begins_with_the_formula_of_dpir() -> None:
    net, (y, k, scale, sigma) = small("onepass", levels=1), example(2)
    parts = net.stages(y, k, scale, sigma)
    data = DataStep(parts["denoiser"], transfer(k, (26, 20)), scale)
    level = (49 * 2) ** 0.5
    alpha = torch.tensor([0.23 * 0.255**2, 0.23 * 10**2]).reshape(2, 1, 1, 1) / level**2
    torch.testing.assert_close(parts["data"], data(enlarge(parts["denoiser"], scale), alpha), rtol=1e-4, atol=1e-4)
    # and every U-Net passes what it gets nearly unchanged
    assert (parts["denoiser"] - y).abs().mean() < 0.1
    assert (parts["artefacts"] - parts["data"]).abs().mean() < 0.2
    assert (parts["resolution"] - parts["artefacts"]).abs().mean() < 0.1


def test_published_weights_fit_the_parts() -> None:
    with torch.device("meta"):
        net, drunet, srrunet = (networks.create(name) for name in ("onepass", "drunet_color", "srrunet"))
    assert {k: v.shape for k, v in net.denoiser.state_dict().items()} == {
        k: v.shape for k, v in drunet.state_dict().items()
    }
    theirs = {k: v.shape for k, v in srrunet.state_dict().items() if k != "largest_factor"}
    assert {k: v.shape for k, v in net.resolution.state_dict().items()} == theirs


def test_sizes_of_what_is_shipped() -> None:
    for variant in ("onepass_s", "usrnet_s"):
        net = networks.create(variant)
        assert 700_000 <= sum(p.numel() for p in net.parameters()) <= 1_100_000
        assert networks.identify(net.state_dict()).candidates == (variant,)


def test_the_parameters_follow_sigma_and_stay_positive() -> None:
    levels = onepass.Levels(3, 8)
    alphas, level = levels(torch.tensor([0.0, 0.01, 0.1]).reshape(3, 1, 1, 1), 2)
    assert alphas.shape == (3, 3, 1, 1, 1) and level.shape == (3, 1, 1, 1)
    assert (alphas > 0).all() and (level > 0).all()
    assert (alphas.diff(dim=0) > 0).all(), "from strongly trusted data to strongly trusted start"
    assert (alphas.diff(dim=1) > 0).all(), "more noise, more trust in the start"


def test_fresh_unrolled_descent_descends() -> None:
    net, (y, k, scale, sigma) = small("rgdn"), example(2)
    data = DataStep(y, transfer(k, (26, 20)), scale)
    with torch.no_grad():
        iterates = net.iterates(y, k, scale, sigma, iterations=6)
    assert len(iterates) == 6 and len(net.iterates(y, k, scale, sigma)) == 3
    energies = [float(data.residual(x).square().sum()) for x in (enlarge(y, scale), *iterates)]
    assert all(later < earlier for earlier, later in itertools.pairwise(energies))

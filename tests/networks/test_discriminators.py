"""Discriminators that stand in no conformance file: sizes, receptive fields, layouts."""

from __future__ import annotations

import pytest
import torch

from restora import networks
from restora.networks.patch_discriminator import patch_side
from restora.networks.unet_discriminator import UNetDiscriminator


def reached(net: torch.nn.Module, side: int, row: int) -> tuple[int, int]:
    """First and last input row that the scores of one output row depend on."""
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    net(x)[..., row, :].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


def positive(net: torch.nn.Module) -> torch.nn.Module:
    """Positive weights keep every rectifier open."""
    for parameter in net.parameters():
        parameter.data.abs_()
    return net.double().eval()


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_one_score_sees_the_patch_of_the_paper(layers: int, side: int) -> None:
    net = positive(networks.create("patch_discriminator", width=2, layers=layers, normalisation="none"))
    first, last = reached(net, 120, 120 // 2 ** (layers + 1) - 1)
    assert last - first + 1 == side == patch_side(layers)


def test_the_pyramid_is_three_discriminators_on_averages() -> None:
    torch.manual_seed(0)
    net = networks.create("patch_discriminator_x3", width=2)
    x = torch.rand(2, 3, 128, 128)
    maps = net(x)
    assert [tuple(m.shape) for m in maps] == [(2, 1, 14, 14), (2, 1, 6, 6), (2, 1, 2, 2)]
    alone = networks.create("patch_discriminator", width=2)
    networks.load_state(alone, net.discriminators[2].state_dict())
    assert torch.equal(maps[2], alone(torch.nn.functional.avg_pool2d(x, 4)))


def test_u_net_discriminator_has_the_published_size_and_keys() -> None:
    net = networks.create("unet_discriminator")
    assert sum(p.numel() for p in net.parameters()) == 4_376_897
    keys = set(net.state_dict())
    assert {"conv0.weight", "conv1.weight_orig", "conv8.weight_v", "conv9.bias"} <= keys and "conv1.bias" not in keys


def test_u_net_discriminator_scores_every_pixel() -> None:
    torch.manual_seed(0)
    net = UNetDiscriminator(width=4)
    assert net(torch.rand(2, 3, 40, 24)).shape == (2, 1, 40, 24)
    plain = UNetDiscriminator(width=4, skips=False)
    plain.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(net.eval()(x), plain.eval()(x))


def test_u_net_discriminator_keeps_its_promised_radius() -> None:
    net = positive(UNetDiscriminator(width=1))
    radius, worst = net.spec.tiling.radius, 0
    for row in range(64, 72):
        first, last = reached(net, 136, row)
        worst = max(worst, row - first, last - row)
    assert radius - 8 <= worst <= radius


def test_spectral_normalisation_bounds_each_layer() -> None:
    """After some power iterations the largest singular value of every normalised weight is 1."""
    torch.manual_seed(0)
    net = UNetDiscriminator(width=4).train()
    x = torch.rand(1, 3, 16, 16)
    for _ in range(60):
        net(x)
    for name in ("conv1", "conv5", "conv8"):
        weight = net.get_submodule(name).weight.detach().flatten(1)
        assert float(torch.linalg.matrix_norm(weight, ord=2)) == pytest.approx(1, abs=2e-2)


@pytest.mark.parametrize("normalisation", ["batch", "instance", "spectral", "none"])
def test_patch_discriminators_are_identified(normalisation: str) -> None:
    state = networks.create("patch_discriminator", width=8, layers=2, normalisation=normalisation).state_dict()
    found = networks.identify(state)
    assert found.family == "patch_discriminator"
    assert found.config["width"] == 8 and found.config["layers"] == 2
    if normalisation in ("batch", "spectral"):
        assert found.config["normalisation"] == normalisation
    # DeblurGAN's critic, of the same kind, stays its own
    assert networks.identify(networks.create("deblurgan_critic").state_dict()).family == "deblurgan_critic"

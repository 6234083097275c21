"""SROOE in small configurations; the published sizes were compared with the reference files."""

from __future__ import annotations

import pytest
import torch

from restora import networks
from restora.errors import UsageError
from restora.networks.srooe import SROOE, SROOEGenerator

TINY = {"channels": 4, "blocks": 1, "growth": 4, "width": 2, "vgg_width": 2}


def tiny(**options) -> SROOE:
    torch.manual_seed(0)
    return SROOE(**{**TINY, **options}).eval()


@pytest.mark.parametrize("size", [(5, 40), (24, 17), (32, 32)])
def test_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    picture, objective = tiny()(x)
    assert picture.shape == (1, 3, 4 * size[0], 4 * size[1]) and objective.shape == (1, 1, *size)
    assert torch.equal(tiny().restore(x, t=1.0), picture)


def test_the_user_scales_the_predicted_map() -> None:
    net, x = tiny(), torch.rand(1, 3, 32, 32)
    _, objective = net(x)
    assert torch.equal(net.restore(x, t=0.5), net.generator((x, objective * 0.5)))
    assert torch.equal(net.restore(x, t=torch.full((1, 1, 32, 32), 0.5)), net.restore(x, t=0.5))
    assert not torch.equal(net.restore(x, t=0.0), net.restore(x, t=1.0))


def test_features_are_those_before_the_relu_at_five_sizes() -> None:
    features = tiny().vgg(torch.rand(1, 3, 48, 32))
    assert [tuple(f.shape[1:]) for f in features] == [(2, 48, 32), (4, 24, 16), (8, 12, 8), (16, 6, 4), (16, 3, 2)]
    assert all((f < 0).any() for f in features)
    assert not torch.equal(
        tiny(resize="nearest").restore(torch.rand(1, 3, 32, 32)), tiny().restore(torch.rand(1, 3, 32, 32))
    )


def test_what_is_called_learns_and_what_is_not_does_not() -> None:
    net = tiny().train()
    picture, objective = net(torch.rand(2, 3, 32, 32))
    (picture.square().mean() + objective.square().mean()).backward()
    idle = {name.split(".")[1] for name, p in net.named_parameters() if p.grad is None}
    assert idle == {"down4", "up1"}
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_a_generator_takes_a_number_or_a_map() -> None:
    torch.manual_seed(0)
    net, x = SROOEGenerator(4, 1, 4).eval(), torch.rand(2, 3, 9, 7)
    assert torch.equal(net(x, t=0.25), net((x, torch.full((2, 1, 9, 7), 0.25))))
    assert torch.equal(net(x), net(x, t=1.0))


def test_generator_radius() -> None:
    torch.manual_seed(0)
    net = SROOEGenerator(4, 1, 4).eval()
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x)[0, :, 128:132, 128:132].sum(), x)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert net.spec.tiling.radius - 1 <= 32 - int(rows[0]) <= net.spec.tiling.radius
    assert int(rows[-1]) - 32 <= net.spec.tiling.radius


def test_a_tile_on_the_grid_equals_the_whole_picture() -> None:
    net = tiny()
    halo = -(-net.spec.tiling.radius // 16) * 16
    x = torch.rand(1, 3, 48, 2 * halo + 48)
    with torch.no_grad():
        whole, part = net.restore(x), net.restore(x[..., 16 : 2 * halo + 32])
    start = 4 * halo
    assert (whole[..., start + 64 : start + 128] - part[..., start : start + 64]).abs().max() < 1e-5


def test_identification() -> None:
    assert networks.identify(tiny().state_dict()).config == {"part": "chain", **TINY}
    state = SROOEGenerator(4, 2, 8).state_dict()
    assert networks.identify(state).config == {"part": "generator", "channels": 4, "growth": 8, "blocks": 2}
    with torch.device("meta"):
        for variant in ("srooe", "srooe_generator", "srooe_ooe", "srooe_discriminator"):
            assert networks.identify(networks.create(variant).state_dict()).candidates == (variant,)


def test_the_discriminator_has_one_size() -> None:
    net = networks.create("srooe_discriminator", channels=2)
    assert net(torch.rand(2, 3, 128, 128)).shape == (2, 1)
    with pytest.raises(UsageError, match="128 x 128"):
        net(torch.rand(1, 3, 64, 64))

"""SRRUNet: level, sizes, and its kinship with DRUNet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restora import networks
from restora.degradation import resize
from restora.engine import NetworkOperator, enliven, verify_tiling
from restora.errors import UsageError
from restora.networks.drunet import DRUNet
from restora.networks.srrunet import SRRUNet

TINY = {"widths": (4, 6, 8, 10), "blocks": 1}


def tiny() -> SRRUNet:
    torch.manual_seed(0)
    return SRRUNet(**TINY).eval()


@pytest.mark.parametrize(("factor", "level"), [(1, 0.0), (4, 0.1875), (16, 0.9375)])
def test_level_of_equation_5_4(factor: int, level: float) -> None:
    assert tiny().level(factor) == level


@pytest.mark.parametrize("factor", [0.5, 17])
def test_other_factors_are_refused(factor: float) -> None:
    with pytest.raises(UsageError, match="1 to 16"):
        tiny()(torch.rand(1, 3, 8, 8), factor=factor)


def test_it_is_a_drunet_that_sees_the_level() -> None:
    net, denoiser = tiny(), DRUNet(3, **TINY).eval()
    networks.load_state(net, denoiser.state_dict())
    x = torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        assert torch.equal(net(x, factor=5), denoiser.restore(x, sigma=255 * 0.25))
        assert torch.equal(net(x, scale=3), net(x, factor=3))


def test_the_engine_enlarges_and_tells_the_scale() -> None:
    net, x = tiny(), torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        assert torch.equal(NetworkOperator(net, 3)(x), net(resize(x, 3), factor=3))
        assert torch.equal(NetworkOperator(net, 3, {"factor": 5.0})(x), net(resize(x, 3), factor=5))


@pytest.mark.parametrize(("scale", "multiple", "halo"), [(1, 8, 1), (2, 4, 2), (3, 8, 3), (16, 1, 16)])
def test_its_promise_holds_in_pixels_of_the_small_picture(scale: int, multiple: int, halo: int) -> None:
    net = enliven(tiny())
    operator = NetworkOperator(net, scale)
    radius = net.spec.tiling.radius
    assert (operator.multiple_of, operator.tiling.window) == (multiple, multiple)
    assert operator.tiling.radius == -(-radius // halo) + (2 if scale > 1 else 0)
    side = 2 * operator.tiling.radius // multiple * multiple + 8 * multiple
    picture = np.random.default_rng(0).random((side, side // 2 // multiple * multiple, 3), dtype=np.float32)
    error = verify_tiling(operator, picture, side // 4)
    assert error.tested and error.largest <= 1e-5


def test_any_size_and_gradients() -> None:
    net = tiny()
    y = net(torch.rand(2, 3, 5, 9), scale=2)
    assert y.shape == (2, 3, 5, 9)
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_it_is_not_taken_for_a_denoiser() -> None:
    found = networks.identify(tiny().state_dict())
    assert found.family == "srrunet" and found.config == TINY
    assert networks.identify(DRUNet(3, **TINY).state_dict()).family == "drunet"


def test_parameters_are_those_of_drunet() -> None:
    with torch.device("meta"):
        net = networks.create("srrunet")
    assert sum(p.numel() for p in net.parameters()) == 32_640_960
    assert networks.identify(net.state_dict()).candidates == ("srrunet",)

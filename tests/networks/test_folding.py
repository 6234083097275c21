"""Folding for inference: the same result from fewer steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from restora import networks
from restora.networks.picture_norms import own_statistics


def trained(name: str, **config: Any) -> nn.Module:
    """A small network with statistics and factors such as a training leaves."""
    torch.manual_seed(0)
    net = networks.create(name, **config)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for key, value in net.named_parameters():
        if key.endswith(".D"):
            nn.init.normal_(value, std=0.1)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize(
    "name, config, left",
    [
        ("dncnn_gray", {"depth": 5, "features": 8, "norm": True}, 0),
        ("srgan_generator_x2", {"channels": 8, "blocks": 2}, 0),
        ("span_x2", {"channels": 8, "blocks": 2, "expansion": 2}, 0),
        ("deeprft", {"width": 4, "blocks": 1, "window": None}, 0),
        ("fsrcnn_x2", {}, 0),
    ],
)
@torch.no_grad()
def test_folded_networks_give_the_same(name: str, config: dict[str, Any], left: int) -> None:
    net = trained(name, **config)
    x = torch.rand(1, net.spec.channels, 24, 20)  # type: ignore[union-attr, operator]
    restore = getattr(net, "restore", net)
    expected = restore(x)
    parameters = sum(p.numel() for p in net.parameters())
    folded = networks.for_inference(net)
    assert torch.allclose(getattr(folded, "restore", folded)(x), expected, atol=1e-5)
    assert norms(folded) == left
    assert sum(p.numel() for p in folded.parameters()) <= parameters
    assert folded.spec.tiling == net.spec.tiling  # type: ignore[union-attr]


@torch.no_grad()
def test_norms_that_may_look_at_the_picture_stay() -> None:
    net = trained("deblurganv2_mobilenet")
    count = norms(net)
    folded = networks.for_inference(net)
    assert norms(folded) == count > 0
    with own_statistics(folded):
        assert torch.isfinite(folded(torch.rand(1, 3, 64, 64))).all()

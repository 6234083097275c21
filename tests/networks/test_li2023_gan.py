"""The Li-2023 GAN: the source's table, the tiling promise."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from restora import engine, networks


def test_the_table_of_convolutions() -> None:
    net = networks.create("li2023_gan")
    convs = [
        (c.kernel_size[0], c.stride[0], c.in_channels, c.out_channels)
        for c in net.modules()
        if isinstance(c, nn.Conv2d)
    ]
    middle = [(3, 1, 256, 256)] * 18
    assert convs == [
        (7, 1, 3, 64),
        (3, 2, 64, 128),
        (3, 2, 128, 256),
        *middle,
        (3, 1, 256, 128),
        (3, 1, 128, 64),
        (7, 1, 64, 3),
    ]
    critic = networks.create("li2023_gan_discriminator")
    assert [(c.stride[0], c.in_channels, c.out_channels) for c in critic.convs] == [
        (2, 3, 64),
        (2, 64, 64),
        (2, 64, 128),
        (2, 128, 256),
        (1, 256, 512),
        (1, 512, 1),
    ]
    score = critic(torch.rand(2, 3, 64, 80))
    assert score.shape == (2, 1)
    assert score.min() > 0 and score.max() < 1


def test_any_size_tiles_exactly_and_gradients_flow() -> None:
    torch.manual_seed(0)
    net = networks.create("li2023_gan", blocks=2, width=8)
    picture = np.random.default_rng(0).random((37, 201, 3), dtype=np.float32)
    error = engine.verify_tiling(engine.NetworkOperator(net), picture, 32)
    assert error.tiles > 1
    assert error.largest <= 1e-5
    net.train()(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert networks.identify(net.state_dict()).config == {"discriminator": False, "blocks": 2, "width": 8}
    x = torch.rand(1, 3, 16, 16)
    assert networks.create("li2023_gan", residual=True, blocks=1, width=8).restore(x).shape == x.shape

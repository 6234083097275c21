"""DMPHN: patches, loading, ranges."""

from __future__ import annotations

import numpy as np
import torch

from restora import engine, networks
from restora.networks.dmphn import _cut, _grid, _join


def test_patches_of_the_levels() -> None:
    assert [_grid(level) for level in (1, 2, 3, 4)] == [(1, 1), (2, 1), (2, 2), (4, 2)]
    x = torch.arange(2 * 3 * 8 * 4.0).reshape(2, 3, 8, 4)
    patches = _cut(x, 4, 2)
    assert torch.equal(patches[3], x[0, :, 2:4, 2:])
    assert torch.equal(patches[8], x[1, :, :2, :2])
    assert torch.equal(_join(patches, 4, 2), x)


def test_modules_published_one_by_one_load_together() -> None:
    torch.manual_seed(0)
    pair, net = networks.create("dmphn_pair"), networks.create("dmphn_1_2_4")
    parts = {
        f"{part}_lv{level}.{key}": value
        for level in (1, 2, 3)
        for part in ("encoder", "decoder")
        for key, value in getattr(pair, part).state_dict().items()
    }
    assert networks.identify(parts).candidates == ("dmphn_1_2_4",)
    networks.load_state(net, parts)
    x = torch.rand(2, 3, 16, 24)
    y = net.restore(x)
    torch.testing.assert_close(y, net(x - 0.5) + 0.5)
    y.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_any_size_goes_through_the_engine_and_a_pair_tiles_exactly() -> None:
    torch.manual_seed(0)
    picture = np.random.default_rng(0).random((37, 251, 3), dtype=np.float32)
    error = engine.verify_tiling(engine.NetworkOperator(networks.create("dmphn_pair")), picture, 64)
    assert error.tiles > 1
    assert error.largest <= 1e-5
    small = picture[:5, :7]
    error = engine.verify_tiling(engine.NetworkOperator(networks.create("dmphn_1_2_4_8")), small, 64)
    assert error.largest == 0

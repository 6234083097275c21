"""SRN: sizes of the ablations, the recurrence over scales, the tiling promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restora import engine, networks


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("srn", 8_061_411),
        ("srn_port", 10_250_723),
        ("srn_flat", 2_663_811),
        ("srn_rb", 2_663_811),
        ("srn_ed", 3_764_195),
        ("srn_edrb1", 2_214_115),
        ("srn_edrb2", 2_989_155),
        ("srn_edrb3", 3_764_195),
    ],
)
def test_parameter_counts(variant: str, count: int) -> None:
    with torch.device("meta"):
        net = networks.create(variant)
    assert sum(p.numel() for p in net.parameters()) == count
    assert variant in networks.identify(net.state_dict()).candidates


@pytest.mark.parametrize("variant", ["srn", "srn_port", "srn_rb", "srn_ed"])
def test_three_scales_come_back_and_gradients_flow(variant: str) -> None:
    torch.manual_seed(0)
    net = networks.create(variant, width=4, blocks=1)
    x = torch.rand(2, 3, 32, 48)
    results = net(x)
    assert [tuple(y.shape) for y in results] == [(2, 3, 32, 48), (2, 3, 16, 24), (2, 3, 8, 12)]
    assert torch.equal(net.restore(x), results[0])
    sum(y.square().mean() for y in results).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_the_picture_of_a_level_is_every_second_pixel_of_the_next() -> None:
    torch.manual_seed(0)
    net = networks.create("srn", width=4, blocks=1)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        whole, given = net(x), net(x, x[..., ::2, ::2], x[..., ::4, ::4])
    assert all(torch.equal(a, b) for a, b in zip(whole, given, strict=True))


def test_ablations_with_equal_layouts_differ() -> None:
    torch.manual_seed(0)
    residual, plain = (networks.create(v, width=4, blocks=1) for v in ("srn_edrb3", "srn_ed"))
    networks.load_state(plain, residual.state_dict())
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert (residual.restore(x) - plain.restore(x)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("variant", "options"),
    [("srn", {"kernel": 3}), ("srn_port", {"kernel": 3}), ("srn_flat", {})],
)
def test_tiled_equals_whole(variant: str, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    net = networks.create(variant, width=4, blocks=1, **options)
    picture = np.random.default_rng(0).random((37, 1003, 3), dtype=np.float32)
    error = engine.verify_tiling(engine.NetworkOperator(net), picture, 64)
    assert error.tiles > 1
    assert error.largest <= 1e-5

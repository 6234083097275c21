"""HAT in a small configuration. The published sizes are too slow here; they were compared with the reference files."""

from __future__ import annotations

import torch

from restora import networks
from restora.networks.hat import HAT, overlap_position_index

TINY = {"dim": 12, "depths": (2, 2), "heads": (2, 2), "window": 4, "compress": 3, "squeeze": 3}


def tiny(**options) -> HAT:
    torch.manual_seed(0)
    return HAT(**{"scale": 2, **TINY, **options}).eval()


def test_any_size_gradients_and_determinism() -> None:
    net = tiny(scale=3).train()
    x = torch.rand(2, 3, 7, 3)
    y = net(x)
    assert y.shape == (2, 3, 21, 9)
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    net.eval()
    assert torch.equal(net(x), net(x))


def test_overlapping_attention_is_softmax_over_the_larger_window() -> None:
    net = tiny()
    layer = net.layers[0].residual_group.overlap_attn
    torch.nn.init.normal_(layer.relative_position_bias_table)
    x = torch.rand(1, 8, 8, 12)
    index = net.get_buffer("relative_position_index_OCA")
    q, k, v = layer.qkv(layer.norm1(x)).split(12, dim=-1)
    k, v = (torch.nn.functional.pad(t, (0, 0, 1, 1, 1, 1)) for t in (k, v))
    keys, values = (t[0, 4:10, 0:6].reshape(36, 2, 6) for t in (k, v))  # the lower left window and its surroundings
    queries = q[0, 4:8, 0:4].reshape(16, 2, 6)
    scores = torch.einsum("qhd,khd->hqk", queries, keys) / 6**0.5
    scores = scores + layer.relative_position_bias_table[index].permute(2, 0, 1)
    expected = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).reshape(4, 4, 12)
    y = x[0, 4:8, 0:4] + layer.proj(expected)
    y = y + layer.mlp(layer.norm2(y))
    assert torch.allclose(layer(x, index)[0, 4:8, 0:4], y, atol=1e-5)


def test_offsets_count_from_the_published_place() -> None:
    index = overlap_position_index(16, 24)
    assert index.shape == (256, 576)
    assert index[0, 0] == -7 * 40 and index.min() == -22 * 40 and index.max() == 16 * 40


def test_without_the_convolution_branch_tiles_on_the_grid_are_exact() -> None:
    net = tiny(conv_scale=0.0)
    assert net.spec.tiling.kind == "global"
    window, radius = net.spec.tiling.window, net.spec.tiling.radius
    halo = -(-radius // window) * window
    x = torch.rand(1, 3, 2 * halo + 12, 2 * halo + 12)
    with torch.no_grad():
        whole, part = net(x), net(x[..., 4 : 2 * halo + 8, 4 : 2 * halo + 8])
    start, core = 2 * halo, 8
    difference = (
        whole[..., start + 8 : start + 16, start + 8 : start + 16]
        - part[..., start : start + core, start : start + core]
    )
    assert difference.abs().max() < 1e-5


def test_identification() -> None:
    found = networks.identify(tiny(scale=4).state_dict())
    assert found.family == "hat" and found.variant == ""
    assert {key: found.config[key] for key in TINY} == TINY
    assert found.config["overlap"] == 0.5 and found.config["scale"] == 4


def test_small_variants_differ_from_large_ones() -> None:
    with torch.device("meta"):
        state = networks.create("hat_s_x3").state_dict()
    assert networks.identify(state).candidates == ("hat_s_x3",)

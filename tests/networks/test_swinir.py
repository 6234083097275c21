"""SwinIR: tiling promise, sizes, and the masks of the checkpoint layout."""

from __future__ import annotations

import pytest
import torch

from restora import networks
from restora.errors import UsageError
from restora.networks.swinir import SwinIR
from restora.networks.window_attention import published_mask, reflect_to_multiple, shift_masks

TINY = {"dim": 12, "depths": (2, 2), "heads": (2, 2), "window": 4, "img_size": 8}


def tiny(**options) -> SwinIR:
    torch.manual_seed(0)
    return SwinIR(**{**TINY, **options}).eval()


def test_a_tile_on_the_window_grid_equals_the_whole_picture() -> None:
    net = tiny()
    window, radius = net.spec.tiling.window, net.spec.tiling.radius
    halo = -(-radius // window) * window
    x = torch.rand(1, 3, 2 * halo + 12, 2 * halo + 12)
    with torch.no_grad():
        whole, part = net(x), net(x[..., 4 : 2 * halo + 8, 4 : 2 * halo + 8])
    core = slice(4 + halo, 8 + halo)
    assert (whole[..., core, core] - part[..., halo : halo + 4, halo : halo + 4]).abs().max() < 1e-5


def test_the_radius_is_the_receptive_field() -> None:
    net = tiny()
    radius, side = net.spec.tiling.radius, 96
    x = torch.rand(1, 3, side, side, requires_grad=True)
    furthest = 0
    for place in range(side // 2, side // 2 + 4):
        (gradient,) = torch.autograd.grad(net(x)[0, :, place, place].sum(), x)
        rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        furthest = max(furthest, place - int(rows[0]), int(rows[-1]) - place)
    assert furthest == radius


@pytest.mark.parametrize("size", [(5, 3), (1, 9), (8, 8)])
def test_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    assert tiny(scale=2, upsampler="pixelshuffledirect")(x).shape == (1, 3, 2 * size[0], 2 * size[1])


def test_mirroring_repeats_where_a_picture_is_small() -> None:
    row = reflect_to_multiple(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 8)[0, 0, 0]
    assert row.tolist() == [1, 2, 3, 2, 1, 2, 3, 2]


@pytest.mark.parametrize("head", ["pixelshuffle", "nearest+conv"])
def test_every_parameter_learns(head: str) -> None:
    net = tiny(scale=2, upsampler=head, residual="3conv").train()
    net(torch.rand(2, 3, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_checkpoints_of_another_training_size_load() -> None:
    small, large = tiny(), tiny(img_size=16)
    key = "layers.0.residual_group.blocks.1.attn_mask"
    assert small.state_dict()[key].shape == (4, 16, 16) and large.state_dict()[key].shape == (16, 16, 16)
    x = torch.rand(1, 3, 12, 8)
    torch.nn.init.normal_(large.conv_last.weight)
    networks.load_state(small, large.state_dict())
    assert torch.equal(small(x), large(x))


def test_masks_are_those_of_the_corner_regions() -> None:
    masks = shift_masks(4, 2)
    assert not masks[0, 0].any() and (masks[1, 1] != 0).sum() == 16 * 12
    assert torch.equal(published_mask(4, 4)[0], masks[1, 1])


def test_a_head_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="scale 3"):
        tiny(scale=3, upsampler="nearest+conv")


def test_identification_of_an_unnamed_configuration() -> None:
    found = networks.identify(tiny(channels=1, scale=4, upsampler="nearest+conv").state_dict())
    assert found.variant == "" and found.config["window"] == 4 and found.config["depths"] == (2, 2)
    assert found.config["scale"] == 4 and found.config["channels"] == 1


def test_a_linear_layer_is_the_same_as_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    from restora.networks import window_attention

    layer, x = window_attention.linear(24, 40), torch.rand(2, 8, 16, 24)
    monkeypatch.setattr(window_attention, "_convolves", lambda _: False)
    with torch.no_grad():
        plain = layer(x)
        monkeypatch.setattr(window_attention, "_convolves", lambda _: True)
        result = layer(x)
    assert result.is_contiguous() and (result - plain).abs().max() < 1e-6

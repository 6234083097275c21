"""NAFNet, MIMO-UNet, Restormer, MPRNet, Uformer and DeepRFT beyond their conformance files: options, promises, gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from restora import engine, networks
from restora.networks import mprnet, restormer

TINY_DEPTHS = (1, 1, 1, 1, 2, 1, 1, 1, 1)
TINY = {
    "nafnet": ("nafnet_gopro_width32", {"width": 4, "enc_blk_nums": (1, 2), "dec_blk_nums": (1, 1)}),
    "local": (
        "nafnet_local_gopro_width32",
        {"width": 4, "enc_blk_nums": (1, 2), "dec_blk_nums": (1, 1), "train_size": 8},
    ),
    "mimo_unet": ("mimo_unet", {"blocks": 1, "width": 8}),
    "restormer": ("restormer_deblur", {"dim": 8, "num_blocks": (1, 1, 2, 1), "num_refinement_blocks": 1}),
    "restormer_gray": ("restormer_denoise_gray", {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}),
    "mprnet": ("mprnet_deblur", {"channels": 8, "more": 4, "extra": 4, "blocks": 1}),
    "uformer": ("uformer_t", {"embed_dim": 4, "depths": TINY_DEPTHS, "heads": (1, 1, 2, 2, 2, 2, 2, 2, 1)}),
    "deeprft": ("deeprft_small", {"blocks": 1, "width": 8}),
}


def build(name: str, **overrides: object) -> nn.Module:
    torch.manual_seed(0)
    variant, config = TINY[name]
    net = networks.create(variant, **{**config, **overrides})
    for parameter in net.parameters():  # also those that start at zero
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("name", TINY)
def test_any_size_through_the_engine(name: str) -> None:
    net = build(name)
    picture = np.random.default_rng(0).random((45, 38, 3), dtype=np.float32)
    result, _ = engine.run(engine.NetworkOperator(net), picture, settings=engine.Settings(device="cpu"))
    assert result.shape == picture.shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_learns_and_identifies(name: str) -> None:
    net = build(name).train()
    found = networks.identify(net.state_dict())
    for key, value in found.config.items():
        if key in TINY[name][1]:
            assert value == pytest.approx(TINY[name][1][key]) if key == "expansion" else value == TINY[name][1][key]
    side = max(32, net.spec.minimum)
    x = torch.rand(2, net.spec.channels, side, side)
    outputs = net(x)
    for y in outputs if isinstance(outputs, list) else [outputs]:
        y.square().mean().backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)
    assert any(p.grad.abs().max() > 0 for p in net.parameters() if p.requires_grad)
    # twice the same in evaluation
    net.eval()
    with torch.no_grad():
        run = getattr(net, "restore", net)
        assert torch.equal(run(x), run(x))


def reach(run: Callable[[Tensor], Tensor], height: int, width: int, rows: Sequence[int]) -> int:
    """The farthest output row that a NaN in each of these input rows comes to."""
    farthest = 0
    with torch.no_grad():
        for row in rows:
            x = torch.rand(1, 3, height, width)
            x[..., row, :] = torch.nan
            touched = run(x).isnan().any(dim=3).any(dim=1)[0].nonzero().flatten()
            farthest = max(farthest, row - int(touched[0]), int(touched[-1]) - row)
    return farthest


def test_promised_radii_are_the_receptive_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("mimo_unet")
    assert reach(net.restore, 240, 8, range(120, 124)) == net.spec.tiling.radius
    net = build("nafnet", attention=None)
    assert reach(net, 160, 8, range(80, 84)) == net.spec.tiling.radius
    # what pools over the picture is taken out: the radius is about the rest
    net = build("restormer")
    monkeypatch.setattr(restormer.F, "normalize", lambda x, dim: torch.zeros_like(x))
    assert reach(net, 480, 8, range(240, 248)) == net.spec.tiling.radius
    net = build("mprnet")
    monkeypatch.setattr(mprnet._ChannelAttention, "forward", lambda self, x: x)
    height = 4 * net.spec.tiling.radius // 8 * 8 + 16
    assert (
        reach(net.restore, height, 16, range(height // 4 // 8 * 8, height // 4 // 8 * 8 + 8)) == net.spec.tiling.radius
    )


@pytest.mark.parametrize("img_size", [None, 256])
def test_promised_radius_of_windows_is_the_receptive_field(img_size: int | None) -> None:
    net = build("uformer", img_size=img_size)
    radius = net.spec.tiling.radius
    height = (2 * radius // 128 + 3) * 128
    middle = height // 256 * 128
    assert reach(net, height, 128, [middle, middle + 7, middle + 64, middle + 120]) == radius


@pytest.mark.parametrize("name", ["mimo_unet", "deeprft"])
def test_aligned_tiles_equal_the_whole(name: str) -> None:
    net = build(name, **({"window": 32} if name == "deeprft" else {}))
    picture = np.random.default_rng(1).random((150, 43, 3), dtype=np.float32)
    operator = engine.NetworkOperator(net)
    error = engine.verify_tiling(operator, picture, 32)
    assert error.tiles > 2
    assert error.largest < 1e-5


# NAFNet


def test_ablation_from_plain_net_to_nafnet() -> None:
    outputs = []
    x = torch.rand(1, 3, 16, 16)
    for activation, attention, norm in (
        ("relu", None, False),
        ("relu", None, True),
        ("gelu", None, True),
        ("gelu", "ca", True),
        ("gate", "ca", True),
        ("gate", "sca", True),
    ):
        net = build("nafnet", activation=activation, attention=attention, norm=norm)
        found = networks.identify(net.state_dict()).config
        assert (found["attention"], found["norm"], found["activation"] == "gate") == (
            attention,
            norm,
            activation == "gate",
        )
        with torch.no_grad():
            outputs.append(net(x))
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.pairwise(outputs))


def test_a_window_as_large_as_the_map_is_the_global_mean() -> None:
    local, plain = build("local", train_size=64), build("nafnet")
    networks.load_state(local, plain.state_dict())
    x = torch.rand(1, 3, 40, 64)
    with torch.no_grad():
        assert torch.equal(local(x), plain(x))
        large = torch.rand(1, 3, 40, 128)
        assert not torch.allclose(local(large), plain(large))


# Uformer


def test_pictures_need_not_be_square_and_shifts_depend_on_the_size() -> None:
    net, never = build("uformer"), build("uformer", img_size=128)
    networks.load_state(never, net.state_dict())
    with torch.no_grad():
        small, large = torch.rand(1, 3, 128, 128), torch.rand(2, 3, 256, 384)
        assert torch.equal(net(small), never(small))
        assert not torch.allclose(net(large), never(large))
        assert torch.allclose(net(large)[1:], net(large[1:]), atol=1e-5)


def test_residual_uformer_has_no_modulators() -> None:
    net = build("uformer", residual=True)
    assert not [key for key in net.state_dict() if "modulator" in key]
    found = networks.identify(net.state_dict())
    assert found.config["modulator"] is False
    plain = build("uformer", modulator=False)
    networks.load_state(plain, net.state_dict())
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert not torch.allclose(net(x), plain(x))


def test_masks_made_while_restoring_serve_training() -> None:
    net = build("uformer")
    x = torch.rand(1, 3, 256, 128)
    with torch.inference_mode():
        net(x)
    net(x).mean().backward()


# DeepRFT


def test_folded_equals_unfolded() -> None:
    net = build("deeprft")
    folded = net.fold()
    assert not [key for key in folded.state_dict() if key.endswith((".D", ".D_diag"))]
    x = torch.rand(1, 3, 24, 36)
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x)[0], atol=1e-5)
        assert torch.equal(folded.restore(x), folded(x))
        # the folded layout loads into the training network, and the training layout into the folded one
        back = networks.load_state(build("deeprft"), folded.state_dict())
        assert torch.equal(back(x)[0], folded(x))
        again = networks.load_state(build("deeprft").fold(), net.state_dict())
        assert torch.equal(again(x), folded(x))
    assert networks.identify(folded.state_dict()).config == networks.identify(net.state_dict()).config


def test_windows_lie_from_the_top_left_and_flush_with_the_border() -> None:
    net = build("deeprft", window=16)
    x = torch.rand(1, 3, 40, 12)
    with torch.no_grad():
        y = net.restore(x)
        assert torch.equal(y[..., :16, :], net(x[..., :16, :])[0])
        assert torch.equal(y[..., 32:, :], net(x[..., 24:, :])[0][..., 8:, :])
        assert torch.equal(build("deeprft", window=None).restore(x), net(x)[0])


def test_perceptron_on_the_resized_spectrum() -> None:
    net = build("deeprft", spectral="mlp", spectral_size=8)
    found = networks.identify(net.state_dict()).config
    assert (found["spectral"], found["spectral_size"]) == ("mlp", 8)
    x = torch.rand(1, 3, 20, 28, requires_grad=True)
    net(x)[0].mean().backward()
    assert x.grad is not None and (x.grad.abs() > 0).all()
    assert net.fold()(x).shape == x.shape

"""EDSR, SRResNet/SRGAN, RCAN, RRDBNet, SRVGG, CutBlur's networks, progressive CARN and DASR: figures, layouts, tiling."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from restora import engine, networks
from restora.errors import UsageError
from restora.training.start import take_over

COUNTS = {
    "edsr_baseline_x2": 1_369_859,
    "edsr_baseline_x3": 1_554_499,
    "edsr_baseline_x4": 1_517_571,
    "edsr_x2": 40_729_603,
    "edsr_x4": 43_089_923,
    "edsr_x8": 45_450_243,
    "msrresnet_x2": 1_369_859,
    "msrresnet_x3": 1_554_499,
    "msrresnet_x4": 1_517_571,
    "rcan_x2": 15_444_643,
    "rcan_x4": 15_592_355,
    "rrdbnet_x1": 16_723_907,
    "rrdbnet_x2": 16_703_171,
    "rrdbnet_x4": 16_697_987,
    "rrdbnet_6b_x4": 4_467_779,
    "srvgg_general_x4": 1_213_296,
    "cutblur_carn_x2": 969_347,
    "cutblur_carn_x4": 1_137_795,
    "cutblur_edsr_x1": 38_369_283,
    "cutblur_edsr_x2": 40_750_339,
    "cutblur_edsr_x4": 43_193_603,
    "cutblur_rcan_x1": 15_296_931,
    "cutblur_rcan_x2": 15_449_827,
    "cutblur_rcan_x4": 15_618_275,
    "progressive_carn_x8": 9_461_443,
    "carn_b24u4_x8": 9_461_443,
    "dasr_x2": 7_100_355,
    "dasr_x4": 7_248_067,
    "dasr_encoder": 1_278_784,
    "dasr_dab": 166_144,
}

# a variant, what makes it tiny, and the constructor arguments that its state dict must tell
TINY: dict[str, dict[str, Any]] = {
    "edsr_baseline_x3": {"channels": 8, "blocks": 2},
    "msrresnet_x3": {"channels": 8, "blocks": 2},
    "msrresnet_x4": {"channels": 8, "blocks": 1},
    "srgan_generator_x4": {"channels": 8, "blocks": 1},
    "rcan_x2": {"channels": 16, "groups": 2, "blocks": 2, "squeeze": 4},
    "rrdbnet_x1": {"channels": 8, "growth": 4, "blocks": 1},
    "rrdbnet_x2": {"channels": 8, "growth": 4, "blocks": 1},
    "rrdbnet_x4": {"channels": 8, "growth": 4, "blocks": 1},
    "srvgg_anime_x2": {"channels": 8, "convolutions": 2},
    "cutblur_carn_x4": {"channels": 8, "groups": 2, "blocks": 1},
    "cutblur_edsr_x2": {"channels": 8, "blocks": 2},
    "cutblur_rcan_x2": {"channels": 16, "groups": 1, "blocks": 2, "squeeze": 4},
    "progressive_carn_x4": {"channels": 8, "blocks": 1, "units": 2},
    "carn_b24u4_x8": {"channels": 8, "blocks": 1, "units": 2},
    "dasr_x2": {"channels": 16, "groups": 1, "blocks": 1},
}


def tiny(variant: str, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return networks.create(variant, **TINY[variant], **more)


def multiply_adds(net: nn.Module, height: int, width: int) -> int:
    """Of the convolutions with learnt weights, on the meta device."""
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad:
            total += layer.weight.numel() * output.shape[-2] * output.shape[-1]

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.empty(1, 3, height, width, device="meta"))
    return total


@pytest.mark.parametrize(("variant", "count"), COUNTS.items())
def test_parameter_counts_of_the_sources(variant: str, count: int) -> None:
    with torch.device("meta"):
        net = networks.create(variant)
        assert sum(p.numel() for p in net.parameters() if p.requires_grad) == count
        assert networks.identify(net.state_dict()).candidates == (variant,)


@pytest.mark.parametrize("variant", TINY)
def test_restores_any_size_with_gradients_and_tells_its_arguments(variant: str) -> None:
    net = tiny(variant)
    found = networks.identify(net.state_dict())
    assert {k: v for k, v in found.config.items() if k in TINY[variant]} == TINY[variant]
    networks.load_state(networks.family_of(variant).build(**found.config), net.state_dict())
    scale, multiple = net.spec.scales[0], net.spec.multiple_of
    x = torch.rand(2, 3, 12, 8 * multiple)
    y = getattr(net, "restore", net)(x)
    assert y.shape == (2, 3, 12 * scale, 8 * multiple * scale)
    y.square().mean().backward()
    silent = {n for n, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert all(n.startswith(("E.encoder_k", "E.encoder_q.mlp")) for n in silent)
    picture = np.random.default_rng(0).random((13, 11, 3), dtype=np.float32)
    result, _ = engine.run(engine.NetworkOperator(net), picture, settings=engine.Settings(device="cpu"))
    assert result.shape == (13 * scale, 11 * scale, 3)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("variant", [v for v in TINY if networks.create(v, **TINY[v]).spec.tiling.kind != "global"])
def test_the_promised_radius_is_the_receptive_field(variant: str) -> None:
    net = tiny(variant).double()
    for parameter in net.parameters():
        parameter.data.abs_()
    spec = net.spec
    scale, window = spec.scales[0], spec.tiling.window
    side = (spec.tiling.radius // window + 2) * 2 * window
    # a tile of one window: none of its pixels may see farther than the radius from the tile's edge, one does
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    middle = slice(side // 2 * scale, (side // 2 + window) * scale)
    getattr(net, "restore", net)(x)[..., middle, middle].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    reach = max(side // 2 - int(rows[0]), int(rows[-1]) - (side // 2 + window - 1))
    assert reach == spec.tiling.radius


@pytest.mark.parametrize("variant", ["rrdbnet_x1", "rrdbnet_x2", "srvgg_anime_x2", "cutblur_edsr_x2", "msrresnet_x3"])
@pytest.mark.parametrize(("height", "width"), [(61, 47), (7, 50)])
def test_tiled_equals_whole(variant: str, height: int, width: int) -> None:
    picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    assert engine.verify_tiling(engine.NetworkOperator(tiny(variant)), picture, 16).largest <= 1e-5


def renamed(state: dict[str, Tensor], *rules: tuple[str, str]) -> dict[str, Tensor]:
    new = {}
    for key, value in state.items():
        for pattern, to in rules:
            key, hits = re.subn(f"^{pattern}$", to, key)
            if hits:
                break
        new[key] = value
    return new


def with_shifts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    frozen = {"weight": torch.eye(3)[:, :, None, None], "bias": torch.zeros(3)}
    return {f"{name}_mean.{k}": v for name in ("sub", "add") for k, v in frozen.items()} | state


def loads_alike(net: nn.Module, state: dict[str, Tensor], variant: str) -> None:
    assert set(state) != set(net.state_dict())
    found = networks.identify(state)
    assert found.config == networks.identify(net.state_dict()).config
    other = networks.load_state(networks.create(variant, **TINY[variant]), state)
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), other(x))


def test_the_layouts_of_the_authors_programs_load() -> None:
    tail = (r"upsample\.(\d+)\.(\w+)", r"tail.0.\1.\2"), (r"conv_last\.(\w+)", r"tail.1.\1")
    edsr = tiny("edsr_baseline_x3")
    state = renamed(
        edsr.state_dict(),
        (r"conv_first\.(\w+)", r"head.0.\1"),
        (r"body\.(\d+)\.conv1\.(\w+)", r"body.\1.body.0.\2"),
        (r"body\.(\d+)\.conv2\.(\w+)", r"body.\1.body.2.\2"),
        (r"conv_after_body\.(\w+)", r"body.2.\1"),
        *tail,
    )
    loads_alike(edsr, with_shifts(state), "edsr_baseline_x3")
    rcan = tiny("rcan_x2")
    block = r"body\.(\d+)\.residual_group\.(\d+)\.rcab\."
    state = renamed(
        rcan.state_dict(),
        (r"conv_first\.(\w+)", r"head.0.\1"),
        (block + r"3\.attention\.1\.(\w+)", r"body.\1.body.\2.body.3.conv_du.0.\3"),
        (block + r"3\.attention\.3\.(\w+)", r"body.\1.body.\2.body.3.conv_du.2.\3"),
        (block + r"(\d)\.(\w+)", r"body.\1.body.\2.body.\3.\4"),
        (r"body\.(\d+)\.conv\.(\w+)", r"body.\1.body.2.\2"),
        (r"conv_after_body\.(\w+)", r"body.2.\1"),
        *tail,
    )
    loads_alike(rcan, with_shifts(state), "rcan_x2")


@pytest.mark.parametrize("variant", ["rrdbnet_x1", "rrdbnet_x2", "rrdbnet_x4"])
def test_both_older_layouts_of_esrgan_load(variant: str) -> None:
    net = tiny(variant)
    named = renamed(
        net.state_dict(),
        (r"body\.(\d+)\.rdb(\d)\.(.*)", r"RRDB_trunk.\1.RDB\2.\3"),
        (r"conv_body\.(\w+)", r"trunk_conv.\1"),
        (r"conv_up(\d)\.(\w+)", r"upconv\1.\2"),
        (r"conv_hr\.(\w+)", r"HRconv.\1"),
    )
    loads_alike(net, named, variant)
    numbered = renamed(
        net.state_dict(),
        (r"conv_first\.(\w+)", r"model.0.\1"),
        (r"body\.(\d+)\.rdb(\d)\.(conv\d)\.(\w+)", r"model.1.sub.\1.RDB\2.\3.0.\4"),
        (r"conv_body\.(\w+)", r"model.1.sub.1.\1"),
        (r"conv_up1\.(\w+)", r"model.3.\1"),
        (r"conv_up2\.(\w+)", r"model.6.\1"),
        (r"conv_hr\.(\w+)", r"model.8.\1"),
        (r"conv_last\.(\w+)", r"model.10.\1"),
    )
    loads_alike(net, numbered, variant)


def test_relatives_with_further_layers_are_not_taken_for_these() -> None:
    for variant, extra in (
        ("rrdbnet_x4", "body.0.rdb1.conv1x1.weight"),
        ("edsr_baseline_x3", "body.0.bn1.weight"),
        ("srvgg_anime_x2", "skip.weight"),
    ):
        identify = networks.family_of(variant).identify
        assert identify(tiny(variant).state_dict()) is not None
        assert identify({**tiny(variant).state_dict(), extra: torch.zeros(8)}) is None


def test_srresnet_has_the_weights_that_the_thesis_counts() -> None:
    with torch.device("meta"):
        net = networks.create("srgan_generator_x4")
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == 1_542_528  # "1,543K"


def test_srgan_ranges_and_discriminator() -> None:
    unit, symmetric = tiny("srgan_generator_x4"), tiny("srgan_generator_x4", output_range="symmetric")
    symmetric.load_state_dict(unit.state_dict())
    x = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(unit.restore(x), unit(x))
        assert torch.allclose(symmetric.restore(x), (unit(x) + 1) / 2)
    with pytest.raises(UsageError, match="powers of two"):
        networks.create("srgan_generator_x4", scale=3)
    judge = networks.create("srgan_discriminator")
    for side in (96, 64):
        judge(torch.rand(2, 3, side, side)).sum().backward()
    with torch.no_grad():
        logits = judge(x96 := torch.rand(1, 3, 96, 96))
        assert torch.equal(judge.classifier(judge.features(x96).flatten(1)), logits)  # the pooling is idle at 96
        judge.sigmoid = True
        assert torch.equal(judge(x96), logits.sigmoid())


def test_channel_attention_is_global() -> None:
    net = tiny("rcan_x2")
    assert net.spec.tiling.kind == "global"
    x = torch.rand(1, 3, 64, 64)
    far = x.clone()
    far[..., 60:, 60:] = 0
    with torch.no_grad():
        assert not torch.equal(net(x)[..., :8, :8], net(far)[..., :8, :8])


def test_cutblur_networks_see_the_enlarged_picture() -> None:
    net = tiny("cutblur_edsr_x2")
    x = torch.rand(1, 3, 6, 5)
    large = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    with torch.no_grad():
        assert torch.allclose(net.restore(x), net(255 * large) / 255, atol=1e-6)
        bicubic = tiny("cutblur_edsr_x2", enlarge="bicubic")
        assert not torch.allclose(net.restore(x), bicubic.restore(x), atol=1e-4)
    assert bicubic.spec.tiling.radius == net.spec.tiling.radius + 2
    planes = net.head[0](torch.arange(48.0).view(1, 3, 4, 4))
    assert planes[0, :, 0, 0].tolist() == [0, 16, 32, 1, 17, 33, 4, 20, 36, 5, 21, 37]  # colour fastest


def test_progressive_carn_costs_what_the_thesis_says() -> None:
    with torch.device("meta"):
        progressive, flat = networks.create("progressive_carn_x8"), networks.create("carn_b24u4_x8")
    assert round(multiply_adds(progressive, 135, 240) / 1e8) == 21_440  # 2,144.0 G at 1920 x 1080
    assert round(multiply_adds(flat, 135, 240) / 1e8) == 3_954


def test_progressive_carn_grows_stage_by_stage() -> None:
    net = networks.create("progressive_carn_x2", channels=8, blocks=1, units=2)
    entry, module, colour = net.entry.weight, net.progression[0].c1.weight, net.to_rgb.weight
    net.grow()
    assert net.spec.scales == (4,)
    assert net.entry.weight is entry
    assert net.progression[0].c1.weight is module
    assert net.to_rgb.weight is not colour
    net.grow()
    assert net(torch.rand(1, 3, 4, 5)).shape == (1, 3, 32, 40)
    groups = net.parameter_groups(1e-4)
    assert [g["lr"] for g in groups] == pytest.approx([1e-6, 1e-5, 1e-4])
    listed = [id(p) for g in groups for p in g["params"]]
    assert sorted(listed) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    assert any(p is net.entry.weight for p in groups[0]["params"])
    assert any(p is net.to_rgb.weight for p in groups[2]["params"])
    with pytest.raises(UsageError, match="Only a progressive"):
        networks.create("carn_b24u4_x8", channels=8, blocks=1, units=1).grow()


def test_dasr_predicts_kernels_picture_by_picture() -> None:
    net = tiny("dasr_x2")
    x = 255 * torch.rand(2, 3, 12, 10)
    with torch.no_grad():
        both = net(x)
        assert torch.allclose(both, torch.cat([net(x[:1]), net(x[1:])]), atol=1e-2)
        assert net.E.encoder_q(x)[0].shape == (2, 256)
        assert torch.allclose(net.restore(x / 255), both / 255, atol=1e-4)


def test_a_deep_plain_stack_begins_with_a_signal() -> None:
    """Without residuals, torch's own start would leave a millionth of it behind 16 layers."""
    torch.manual_seed(0)
    net = networks.create("srvgg_anime_x4")
    x = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        before_last = net.body[:-1](x)
    assert 0.1 < float(before_last.std()) < 3


def test_carn_of_one_scale_starts_from_the_network_of_all() -> None:
    torch.manual_seed(0)
    small = {"channels": 8, "blocks": 1}
    every, one = networks.create("carn_m", **small).eval(), networks.create("carn_m_x4", **small).eval()
    assert take_over(one, every.state_dict()) == len(one.state_dict())
    x = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        assert torch.equal(one(x), every(x, scale=4))

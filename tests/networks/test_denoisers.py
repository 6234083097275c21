"""The denoisers and deconvolvers: their own calls, controls, receptive fields and layouts, on small configurations."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restora import engine, networks
from restora.errors import UnknownArchitecture, UsageError
from restora.networks import drunet, noise_levels, rnan
from restora.networks.deconvolution import DataStep, transfer

CONFORMANCE = Path(__file__).parents[1] / "conformance"
sys.path.insert(0, str(CONFORMANCE))
from fill import make_input  # noqa: E402

SMALL_UNET = {"widths": (4, 6, 8, 10), "blocks": 1}
SMALL = {
    "dncnn_gray": {"depth": 5, "features": 8},
    "fdncnn_color": {"depth": 5, "features": 8},
    "ffdnet_gray": {"depth": 4, "features": 8},
    "ffdnet_color": {"depth": 4, "features": 8},
    "ircnn_color": {"features": 8},
    "ircnn_gray_bank": {"features": 8},
    "drunet_gray": SMALL_UNET,
    "drunet_blind_color": SMALL_UNET,
    "ridnet": {"features": 16, "blocks": 1},
    "usrnet_tiny": {**SMALL_UNET, "iterations": 2},
    "rdn_color_dn": {"blocks": 2, "layers": 2, "growth": 4, "features": 8},
    "rdn_x3": {"blocks": 2, "layers": 2, "growth": 4, "features": 8},
    "rnan_gray_dn": {"features": 8, "groups": 3},
    "owan": {"channels": 4, "groups": 1, "steps": 2},
}


def small(variant: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.create(variant, **SMALL[variant])


def restore(net: torch.nn.Module, x: torch.Tensor, **controls: object) -> torch.Tensor:
    return getattr(net, "restore", net)(x, **controls)


@pytest.mark.parametrize("variant", SMALL)
def test_small_forms_restore_learn_and_are_identified(variant: str) -> None:
    net = small(variant)
    found = networks.identify(net.state_dict())
    known = {**networks.family_of(variant).variants[variant], **SMALL[variant]}
    assert found.family == networks.family_of(variant).name
    assert all(known.get(key, value) == value for key, value in found.config.items())
    x = torch.rand(2, net.spec.channels, 16, 24)
    y = restore(net, x)
    scale = net.spec.scales[0]
    assert y.shape == (2, net.spec.channels, 16 * scale, 24 * scale)
    assert torch.equal(y, restore(net, x))
    y.square().mean().backward()
    used = [
        p
        for name, p in net.named_parameters()
        if p.requires_grad and not (variant == "ircnn_gray_bank" and name[:3] != "12.")
    ]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in used)


@pytest.mark.parametrize("variant", SMALL)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (21, 34)])
def test_any_size_goes_through_the_engine(variant: str, height: int, width: int) -> None:
    operator = engine.NetworkOperator(small(variant))
    picture = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    result, _ = engine.run(operator, picture, settings=engine.Settings(device="cpu", precision="float32"))
    assert result.shape == (height * operator.scale, width * operator.scale, 3)
    assert np.isfinite(result).all()
    assert operator.bytes_per_pixel() > 0


EXACT = ["dncnn_gray", "fdncnn_color", "ircnn_color", "rdn_color_dn", "rdn_x3"]
ALIGNED = ["ffdnet_color", "drunet_gray", "drunet_blind_color"]


@pytest.mark.parametrize("variant", EXACT + ALIGNED)
def test_the_promised_radius_is_the_receptive_field(variant: str) -> None:
    """The gradient of the output pixels in one window of the grid reaches exactly that far."""
    net = small(variant).double()
    for parameter in net.parameters():
        parameter.data.abs_()
    tiling, scale = net.spec.tiling, net.spec.scales[0]
    centre = -(-tiling.radius // 8) * 8 + 8
    worst = 0
    for pixel in range(centre, centre + tiling.window):
        x = torch.rand(1, net.spec.channels, 2 * centre + 8, 16, dtype=torch.float64, requires_grad=True)
        restore(net, x)[..., pixel * scale : (pixel + 1) * scale, :].sum().backward()
        rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        worst = max(worst, pixel - int(rows[0]), int(rows[-1]) - pixel)
    assert worst == tiling.radius


@pytest.mark.parametrize("variant", EXACT + ALIGNED)
@pytest.mark.parametrize(("height", "width", "tile"), [(61, 47, 16), (3, 130, 40)])
def test_tiled_equals_whole(variant: str, height: int, width: int, tile: int) -> None:
    picture = np.random.default_rng(1).random((height, width, 3), dtype=np.float32)
    error = engine.verify_tiling(engine.NetworkOperator(small(variant)), picture, tile)
    assert error.largest <= 1e-5 and error.tiles > 1


def test_a_noise_map_is_a_number_a_vector_or_a_picture() -> None:
    x = torch.rand(2, 3, 6, 5)
    number = noise_levels.noise_map(x, 51.0)
    assert number.shape == (2, 1, 6, 5) and torch.allclose(number, torch.full((), 0.2))
    assert torch.equal(noise_levels.noise_map(x, torch.full((1, 1, 6, 5), 51.0)), number)
    each = noise_levels.noise_map(x, torch.tensor([0.0, 255.0]))
    assert each[0].max() == 0 and each[1].min() == 1
    with pytest.raises(UsageError, match="size of its picture"):
        noise_levels.noise_map(x, torch.zeros(1, 1, 5, 6))


@pytest.mark.parametrize("variant", ["fdncnn_color", "ffdnet_color", "drunet_gray"])
def test_a_constant_map_equals_its_number_and_sigma_matters(variant: str) -> None:
    net = small(variant)
    x = torch.rand(1, net.spec.channels, 16, 8)
    with torch.no_grad():
        plain = net.restore(x, sigma=15.0)
        assert torch.allclose(net.restore(x, sigma=torch.full((1, 1, 16, 8), 15.0)), plain, atol=1e-6)
        assert not torch.allclose(net.restore(x, sigma=60.0), plain, atol=1e-4)


def test_ffdnet_averages_a_map_over_two_by_two_pixels() -> None:
    net = small("ffdnet_gray")
    x = torch.rand(1, 1, 9, 7)
    coarse = torch.rand(1, 1, 5, 4) * 50
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :9, :7]
    with torch.no_grad():
        padded = torch.nn.functional.pad(x, (0, 1, 0, 1), mode="replicate")
        y = torch.cat([torch.nn.functional.pixel_unshuffle(padded, 2), coarse / 255], dim=1)
        expected = torch.nn.functional.pixel_shuffle(net.model(y), 2)[..., :9, :7]
        assert torch.allclose(net.restore(x, sigma=fine), expected, atol=1e-6)


def test_the_bank_chooses_by_the_noise_level_and_takes_the_published_file() -> None:
    bank = small("ircnn_gray_bank")
    for sigma, number in [
        (0, 0),
        (2, 0),
        (2.1, 1),
        (25, 12),
        (50, 24),
        (90, 24),
        (float(np.float32(6 / 255)) * 255, 2),
    ]:
        assert bank.denoiser(sigma) is bank.get_submodule(str(number)), sigma
    published = {str(n): bank.get_submodule(str(n)).state_dict() for n in range(25)}
    assert bank.convert_state(published).keys() == bank.state_dict().keys()


def test_blind_drunet_is_drunet_at_the_predicted_level() -> None:
    blind, plain = small("drunet_blind_color"), networks.create("drunet_color", **SMALL_UNET)
    networks.load_state(plain, blind.denoiser.state_dict())
    x = torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        level = blind.estimate(x)
        assert level.shape == (1, 1, 16, 8) and level.min() > 0
        assert torch.allclose(blind(x), plain.restore(x, sigma=255 * level), atol=1e-6)
        assert torch.allclose(blind.restore(x, factor=0.5), plain.restore(x, sigma=127.5 * level), atol=1e-6)


def test_published_drunet_has_the_counted_parameters() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in networks.create(f"drunet_{c}").parameters()) for c in ("color", "gray")]
    assert counts == [32_640_960, 32_638_656]


def test_data_step_equals_the_reference() -> None:
    record = json.loads((CONFORMANCE / "usrnet_data_step.json").read_text())
    y, x, k = (make_input(tuple(record["inputs"][name][0]), record["inputs"][name][1]) for name in "yxk")
    z = DataStep(y, transfer(k, x.shape[-2:]), record["sf"])(x, record["alpha"])
    with np.load(CONFORMANCE / "usrnet_data_step.npz") as arrays:
        assert np.abs(z.numpy() - arrays["out"]).max() <= record["tolerance"]


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_data_step_minimises_its_energy(scale: int) -> None:
    """At the minimum the gradient of |y - (k * z) down|^2 + alpha |z - x|^2 is zero."""
    torch.manual_seed(0)
    k = torch.rand(1, 1, 5, 4, dtype=torch.float64)
    y = torch.rand(1, 2, 6, 7, dtype=torch.float64)
    x = torch.rand(1, 2, 6 * scale, 7 * scale, dtype=torch.float64)
    otf = transfer(k / k.sum(), x.shape[-2:])
    z = DataStep(y, otf, scale)(x, 0.2).requires_grad_()
    blurred = torch.fft.irfft2(otf * torch.fft.rfft2(z), s=x.shape[-2:])[..., ::scale, ::scale]
    ((y - blurred).square().sum() + 0.2 * (z - x).square().sum()).backward()
    assert z.grad.abs().max() < 1e-9


def test_usrnet_refuses_a_kernel_larger_than_the_picture_and_restores_with_it() -> None:
    net, x = small("usrnet_tiny"), torch.rand(1, 3, 8, 8)
    kernel = torch.full((19, 19), 1 / 361)
    with pytest.raises(UsageError, match="19x19"):
        net(x, kernel[None, None], 1, torch.zeros(1, 1, 1, 1))
    assert net.restore(x, kernel=kernel, scale=3, sigma=2.0).shape == (1, 3, 24, 24)


def test_hyper_parameters_are_positive_and_a_part() -> None:
    net = networks.create("usrnet_hypa_8")
    assert net.spec.task == "part"
    assert net(torch.tensor([0.03, 2.0]).reshape(1, 2, 1, 1)).min() > 0
    assert sum(p.numel() for p in net.parameters()) == 5392


def test_rnan_forms_share_a_layout_and_differ() -> None:
    published = small("rnan_gray_dn")
    equation = networks.create("rnan_gray_dn", **SMALL["rnan_gray_dn"], form="equation")
    state = {k: torch.randn_like(v) * 0.3 for k, v in published.state_dict().items()}
    networks.load_state(published, state)
    networks.load_state(equation, state)
    x = torch.rand(1, 1, 8, 10)
    with torch.no_grad():
        assert (published(x) - equation(x)).abs().max() > 1e-4


def test_rnan_in_parts_equals_rnan_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    block = small("rnan_gray_dn").body_nl_low[0].body[0].RA_MB[0].MB_RB1[0]
    torch.nn.init.normal_(block.W.weight)
    x = torch.randn(2, 8, 12, 10)
    with torch.no_grad():
        whole = block(x)
        monkeypatch.setattr(rnan, "_CHUNK", 7 * 120)
        assert torch.allclose(block(x), whole, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(whole, x, atol=1e-2)


@pytest.mark.parametrize(
    ("variant", "count"),
    [("ridnet", 1_499_347), ("rdn_color_dn", 21_975_683), ("rnan_color_dn", 8_959_555), ("owan", 391_456)],
)
def test_parameter_counts(variant: str, count: int) -> None:
    """The thesis: RDN 22.0M, RNAN 9.0M; the RIDNet paper: 1,499K."""
    with torch.device("meta"):
        net = networks.create(variant)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == count


def test_plain_stacks_are_told_apart() -> None:
    for variant in ("dncnn_gray_r", "ffdnet_gray", "ircnn_gray", "fdncnn_gray"):
        assert networks.identify(networks.create(variant).state_dict()).candidates == (variant,)
    state = networks.create("dncnn_gray_r").state_dict()
    state["model.4.weight"] = torch.zeros(64, 64, 5, 5)
    with pytest.raises(UnknownArchitecture):
        networks.identify(state)


def test_reach_of_a_strided_chain() -> None:
    assert noise_levels.reach([1, 1], 1) == 2
    assert noise_levels.reach(["down", 1, "up"], 2) == 3
    assert noise_levels.reach(drunet.unet_steps(4), 8) == 185

"""Losses against values computed by hand, and what all of them promise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restora import evaluation
from restora.errors import RecipeError, UsageError, WeightsError
from restora.training.losses import (
    build_loss,
    build_losses,
    laplacian,
    layer_names,
    loss_names,
    loss_options,
    lpips_map,
    ssim_map,
    weighted,
)
from tests.conftest import make_photo

WITHOUT_WEIGHTS = [n for n in loss_names() if n not in ("vgg", "style", "lpips", "dists")]


def pair(height: int = 24, width: int = 20, batch: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    g = torch.Generator().manual_seed(3)
    x = torch.rand(batch, 3, height, width, generator=g, dtype=dtype)
    return (x + 0.1 * torch.randn(x.shape, generator=g, dtype=dtype)).clamp(0, 1), x


def constant(value: float, size: int = 16) -> torch.Tensor:
    return torch.full((1, 3, size, size), value, dtype=torch.float64)


# -- values by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"kind": "l1"}, 0.1),
        ({"kind": "l2"}, 0.01),
        ({"kind": "smooth_l1"}, 0.005),
        ({"kind": "smooth_l1", "beta": 0.05}, 0.075),
        ({"kind": "charbonnier"}, math.sqrt(0.01 + 1e-6)),
        ({"kind": "charbonnier", "eps": 0.1}, math.sqrt(0.02)),
        ({"kind": "psnr"}, -20.0),
        ({"kind": "edge"}, 1e-3),  # the Laplacian of a constant is 0
        ({"kind": "sobel"}, 0.0),
        ({"kind": "grid"}, 0.0),
        ({"kind": "frequency"}, 0.5 * 0.1),  # only the constant term differs: 0.1 * 256 pixels, over 2 * 256 values
        ({"kind": "frequency", "form": "magnitude"}, 0.1),
        ({"kind": "frequency", "norm": "ortho"}, 0.05 / 16),
        ({"kind": "tv"}, 0.0),
        ({"kind": "multiscale"}, 0.3),
        ({"kind": "multiscale", "loss": {"kind": "l2", "weight": 2.0}, "weights": [1, 0.5, 0]}, 0.03),
    ],
)
def test_two_constant_pictures(config: dict[str, Any], expected: float) -> None:
    value = build_loss(config)(constant(0.5), constant(0.4))
    assert float(value) == pytest.approx(expected, abs=1e-5)


def test_psnr_is_the_mean_of_the_images_and_not_of_the_errors() -> None:
    y = torch.cat([constant(0.5), constant(0.41)])
    value = build_loss({"kind": "psnr"})(y, torch.cat([constant(0.4)] * 2))
    assert float(value) == pytest.approx(-(20 + 40) / 2, abs=1e-2)


def test_ssim_of_constants_is_the_luminance_term() -> None:
    c1 = 0.01**2
    expected = 1 - (2 * 0.5 * 0.4 + c1) / (0.25 + 0.16 + c1)
    assert float(build_loss({"kind": "ssim"})(constant(0.5), constant(0.4))) == pytest.approx(expected, abs=1e-9)


def test_ssim_is_the_measure_of_evaluation() -> None:
    """On 8-bit pictures it is what the protocol gives."""
    a, b = make_photo(40, 52, 0), make_photo(40, 52, 1)
    x, y = (torch.from_numpy(z).permute(2, 0, 1)[None].double() / 255 for z in (a, b))
    assert float(ssim_map(x, y).mean()) == pytest.approx(evaluation.ssim(a, b, "denoise-rgb"), abs=1e-9)
    assert float(build_loss({"kind": "ssim"})(x, x)) == pytest.approx(0, abs=1e-12)


def test_laplacian_of_a_point() -> None:
    """Weights (1, 5, 8, 5, 1) / 20; a point on the kept grid spreads, is sampled, and spreads again."""
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    x[..., 10, 10] = 1
    w = np.array([0.05, 0.25, 0.4, 0.25, 0.05])
    line = np.zeros(21)
    line[8:13] = w
    kept = np.where(np.arange(21) % 2 == 0, 2 * line, 0)
    spread = np.convolve(kept, w, mode="same")
    expected = -np.outer(spread, spread)
    expected[10, 10] += 1
    assert np.abs(laplacian(x)[0, 0].numpy() - expected).max() < 1e-12
    ramp = torch.arange(20.0).expand(1, 1, 20, 20)
    assert laplacian(ramp)[..., 6:14, 6:14].abs().max() < 1e-4  # blind to slopes


def test_sobel_of_a_ramp_is_its_slope() -> None:
    ramp = 0.03 * torch.arange(16, dtype=torch.float64).expand(1, 3, 16, 16)
    value = build_loss({"kind": "sobel"})(ramp, torch.zeros_like(ramp))
    # slope 0.03 along the rows (half at both replicated ends), 0 down the columns
    assert float(value) == pytest.approx(0.03 * (14 + 1) / 16 / 2)


@pytest.mark.parametrize("width", [7, 8])
def test_frequency_equals_the_whole_transform(width: int) -> None:
    y, x = pair(6, width, dtype=torch.float32)
    d = torch.fft.fft2(y - x)
    parts = torch.stack([d.real, d.imag]).abs().mean()
    assert float(build_loss({"kind": "frequency"})(y, x)) == pytest.approx(float(parts), rel=1e-5)
    magnitude = build_loss({"kind": "frequency", "form": "magnitude"})(y, x)
    assert float(magnitude) == pytest.approx(float(d.abs().mean()), rel=1e-5)


def test_total_variation_of_a_step() -> None:
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[..., 2:, :] = 1
    x[..., :, 3] += 1  # one step down, one along: they meet in one pixel
    isotropic = build_loss({"kind": "tv", "eps": 1e-9})(x, x)
    assert float(isotropic) == pytest.approx((3 + 3 + math.sqrt(2)) / 16)
    assert float(build_loss({"kind": "tv", "form": "anisotropic"})(x, x)) == pytest.approx(4 / 12 + 4 / 12)


def test_several_outputs_are_compared_at_their_sizes() -> None:
    _, x = pair(16, 16)
    half = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    loss = build_loss({"kind": "multiscale", "loss": {"kind": "l1"}, "weights": [1.0, 0.25]})
    assert float(loss([x + 0.1, half + 0.2], x)) == pytest.approx(0.1 + 0.05)
    with pytest.raises(UsageError, match="2 weights for 3"):
        loss([x, x, half], x)
    with pytest.raises(UsageError, match="levels"):
        build_loss({"kind": "multiscale", "levels": 5})(x[..., :8, :8], x[..., :8, :8])


# -- what all promise -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITHOUT_WEIGHTS)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    y, x = pair(12, 12, batch=1)
    loss = build_loss({"kind": kind}).double()
    y.requires_grad_(True)
    loss(y, x).backward()
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)
    h = 1e-6
    with torch.no_grad():
        numeric = (loss(y + h * direction, x) - loss(y - h * direction, x)) / (2 * h)
    assert float((y.grad * direction).sum()) == pytest.approx(float(numeric), rel=1e-4)


@pytest.mark.parametrize("kind", WITHOUT_WEIGHTS)
def test_equal_pictures_are_the_minimum_and_its_gradient_is_finite(kind: str) -> None:
    y, x = pair(16, 16, dtype=torch.float32)
    loss = build_loss({"kind": kind})
    same = x.clone().requires_grad_(True)
    value = loss(same, x)
    value.backward()
    assert torch.isfinite(same.grad).all()
    if kind not in ("tv", "grid"):  # which judge the output alone
        assert value < loss(y, x)
    assert value.shape == ()


@pytest.mark.parametrize("kind", WITHOUT_WEIGHTS)
def test_what_is_masked_is_not_judged(kind: str) -> None:
    y, x = pair(16, 16)
    mask = torch.ones(2, 1, 16, 16, dtype=torch.float64)
    mask[:, :, 4:7, 5:9] = 0
    loss = build_loss({"kind": kind}).double()
    wild = torch.where(mask > 0, y, torch.full_like(y, 17.0)).requires_grad_(True)
    value = loss(wild, x, mask)
    value.backward()
    assert torch.equal(value, loss(y, x, mask))
    assert (wild.grad * (1 - mask)).abs().max() == 0 and wild.grad.abs().max() > 0
    assert float(loss(y, x, torch.ones_like(mask))) == pytest.approx(float(loss(y, x)))


def test_a_masked_mean_is_over_what_is_judged() -> None:
    y, x = constant(0.5, 4), constant(0.4, 4)
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 0, 0] = 0
    y[..., 1, 1] = 0.8
    assert float(build_loss({"kind": "l1"})(y, x, mask)) == pytest.approx((14 * 0.1 + 0.4) / 15)
    assert float(build_loss({"kind": "l1"})(y, x, mask * 0)) == 0
    # the mask of a low-resolution input is enlarged: its corner is four pixels here
    small = torch.tensor([[0.0, 1.0], [1.0, 1.0]])[None, None]
    assert float(build_loss({"kind": "l1"})(y, x, small)) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [k for k in WITHOUT_WEIGHTS if k != "multiscale"])  # which resizes the target
def test_shapes_must_agree(kind: str) -> None:
    with pytest.raises(UsageError, match="one shape"):
        build_loss({"kind": kind})(torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 24, 24))


def test_a_grid_is_told_from_texture_and_from_what_the_input_determines() -> None:
    flat, x = constant(0.5, 96), torch.arange(96, dtype=torch.float64)
    cell = torch.zeros(4, 4, dtype=torch.float64)
    cell[::2, ::2] = 0.1
    texture = 0.1 * (torch.rand(flat.shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    loss = build_loss({"kind": "grid"})
    drawn = float(loss(flat + cell.repeat(24, 24), flat))
    assert drawn > 0.02
    assert float(loss(flat + texture, flat)) < drawn / 8
    assert (
        float(loss(flat + 0.1 * torch.sin(x * 2 * math.pi / 9), flat)) < drawn / 20
    )  # longer than two pixels of the input
    with pytest.raises(UsageError, match="7x7"):
        loss(torch.zeros(1, 3, 7, 7), torch.zeros(1, 3, 7, 7))


def test_ssim_needs_its_window() -> None:
    with pytest.raises(UsageError, match="11x11"):
        build_loss({"kind": "ssim"})(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "charbonier"}, "Did you mean"),
        ({"weight": 1.0}, "kind"),
        ({"kind": "l1", "epsilon": 1}, "epsilon"),
        ({"kind": "l1", "weight": -1}, "weight"),
        ({"kind": "charbonnier", "eps": 0}, "eps"),
        ({"kind": "ssim", "window": 10}, "odd"),
        ({"kind": "multiscale", "loss": {"kind": "l9"}}, "l9"),
        ({"kind": "multiscale", "loss": {"kind": "multiscale"}}, "not meant"),
    ],
)
def test_wrong_options_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_loss(config)


def test_terms_are_weighted_and_named() -> None:
    losses = build_losses([{"kind": "l1", "weight": 2.0}, {"kind": "l1"}, {"kind": "l2", "weight": 0}])
    terms = weighted(losses, constant(0.5), constant(0.4))
    assert {k: round(float(v), 6) for k, v in terms.items()} == {"l1": 0.2, "l1_2": 0.1}
    assert all("weight" in loss_options(kind).model_json_schema()["properties"] for kind in loss_names())


# -- features -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_layers(tmp_path: Path) -> Path:
    """The first two convolutions of a VGG in torchvision's layout: the first picks red and minus red, the second adds them."""
    first, second = torch.zeros(64, 3, 3, 3), torch.zeros(64, 64, 3, 3)
    first[0, 0, 1, 1], first[1, 0, 1, 1] = 1, -1
    second[0, 0, 1, 1] = second[0, 1, 1, 1] = 0.5
    zero = torch.zeros(64)
    state = {"features.0.weight": first, "features.0.bias": zero, "features.2.weight": second, "features.2.bias": zero}
    torch.save(state, tmp_path / "two.pth")
    return tmp_path / "two.pth"


def features(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "vgg", "weights": str(path), "normalise": False, **options}


def test_vgg_features_by_hand(two_layers: Path) -> None:
    y, x = constant(0.5).float(), constant(0.2).float()
    # of 64 maps one differs, by 0.3
    value = build_loss(features(two_layers, layers={"conv1_1": 1.0}, criterion="l1"))(y, x)
    assert float(value) == pytest.approx((0.3 + 0.3) / 64, rel=1e-5)  # before the activation both signs count
    value = build_loss(features(two_layers, layers={"relu1_1": 1.0}))(y, x)
    assert float(value) == pytest.approx(0.09 / 64, rel=1e-5)
    value = build_loss(features(two_layers, layers={"relu1_1": 2.0, "conv1_2": 1.0}, scale=0.1))(y, x)
    assert float(value) == pytest.approx(0.01 * (2 * 0.09 + 0.0225) / 64, rel=1e-5)


def test_shifted_features_see_the_pictures_in_every_phase(two_layers: Path) -> None:
    column = torch.zeros(1, 3, 6, 6)
    column[..., 0] = 0.3  # seen only where nothing is cut off at the left
    layers = {"conv1_1": 1.0}
    still = build_loss(features(two_layers, layers=layers, criterion="l1"))
    moved = build_loss(features(two_layers, layers=layers, criterion="l1", shift=3))
    torch.manual_seed(0)
    seen = {round(float(moved(column, torch.zeros_like(column))), 6) for _ in range(40)}
    assert seen == {0.0, round(float(still(column, torch.zeros_like(column))), 6)}
    assert float(moved(column, column)) == 0  # both move together


def test_vgg_normalises_by_imagenet(two_layers: Path) -> None:
    y, x = constant(0.9).float(), constant(0.6).float()
    loss = build_loss(features(two_layers, layers={"relu1_1": 1.0}, criterion="l1", normalise=True))
    assert float(loss(y, x)) == pytest.approx(0.3 / 0.229 / 64, rel=1e-4)


def test_style_by_hand(two_layers: Path) -> None:
    y, x = constant(0.5).float(), constant(0.2).float()
    loss = build_loss(features(two_layers, layers={"relu1_1": 1.0}) | {"kind": "style"})
    # G[0, 0] = mean over positions of red squared, over 64 channels
    assert float(loss(y, x)) == pytest.approx(((0.25 - 0.04) / 64) ** 2, rel=1e-4)
    shuffled = torch.rand(1, 3, 8, 8)
    assert float(loss(shuffled.flip(-1), shuffled)) < 1e-12  # places do not matter


def test_the_backbone_is_frozen_and_outside_the_state(two_layers: Path) -> None:
    loss = build_loss(features(two_layers, layers={"relu1_2": 1.0})).train()
    assert not loss.training and not any(p.requires_grad for p in loss.parameters())
    y = torch.rand(1, 1, 8, 8, requires_grad=True)  # one channel is taken for grey
    loss(y, torch.rand(1, 1, 8, 8)).backward()
    assert y.grad.abs().sum() > 0


def test_missing_weights_are_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORA_METRICS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"weights: .*vgg19.*edge"):
        build_loss({"kind": "vgg"})
    with pytest.raises(WeightsError, match=r"LPIPS needs"):
        build_loss({"kind": "lpips", "weights": str(tmp_path)})
    with pytest.raises(WeightsError, match=r"DISTS needs"):
        build_loss({"kind": "dists", "weights": str(tmp_path)})
    with pytest.raises(WeightsError, match="cannot be read"):
        build_loss({"kind": "vgg", "weights": str(tmp_path / "none.pth")})


def test_weights_are_found_in_the_metrics_folder(
    two_layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTORA_METRICS", str(tmp_path))
    two_layers.rename(tmp_path / "vgg19-dcbb9e9d.pth")
    assert build_loss({"kind": "vgg", "layers": {"relu1_2": 1.0}}).name == "vgg"


def test_pictures_must_reach_the_layer(two_layers: Path, tmp_path: Path) -> None:
    state = torch.load(two_layers, weights_only=True)
    state |= {"features.5.weight": torch.zeros(128, 64, 3, 3), "features.5.bias": torch.zeros(128)}
    torch.save(state, tmp_path / "three.pth")
    loss = build_loss(features(tmp_path / "three.pth", layers={"conv2_1": 1.0}))
    assert float(loss(torch.rand(1, 3, 2, 2), torch.rand(1, 3, 2, 2))) == 0
    with pytest.raises(UsageError, match=r"conv2_1.*2 pixels.*1x5"):
        loss(torch.rand(1, 3, 5, 1), torch.rand(1, 3, 5, 1))


def test_layers_and_files_of_other_networks_are_refused(two_layers: Path) -> None:
    with pytest.raises(RecipeError, match=r"conv9_1.*conv1_1"):
        build_loss(features(two_layers, layers={"conv9_1": 1.0}))
    with pytest.raises(WeightsError, match="do not fit"):
        build_loss(features(two_layers))  # relu5_4 needs all sixteen convolutions
    assert layer_names("vgg19")[-2:] == ["relu5_4", "pool5"] and len(layer_names("vgg16")) == 31
    assert layer_names("squeeze")[-1] == "fire9" and layer_names("alex")[-1] == "relu5"


def test_squeezenet_is_a_backbone(data_folder: Path) -> None:
    """The photograph's own texture is nearer than a blurred one, and nearer than noise of the same error."""
    path = data_folder / "weights" / "squeezenet" / "SqueezeNet_fp16.onnx"
    loss = build_loss({"kind": "vgg", "backbone": "squeeze", "weights": str(path), "layers": {"fire5": 1.0}})
    x = torch.from_numpy(make_photo(96, 96)).permute(2, 0, 1)[None].float() / 255
    blurred = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    slight = x + 0.2 * (blurred - x)
    assert 0 < float(loss(slight, x)) < float(loss(blurred, x))
    style = build_loss({"kind": "style", "backbone": "squeeze", "weights": str(path)})
    assert float(style(x, x)) == 0 < float(style(blurred, x))


def test_lpips_is_the_measure_and_the_mean_of_its_map(data_folder: Path, tmp_path: Path) -> None:
    for source in ("squeezenet/SqueezeNet_fp16.onnx", "iqa-params/v0.1_squeeze.pth"):
        source_path = data_folder / "weights" / source
        (tmp_path / source_path.name).symlink_to(source_path.resolve())
    loss = build_loss({"kind": "lpips", "weights": str(tmp_path)})
    a, b = (torch.from_numpy(make_photo(64, 64, n)).permute(2, 0, 1)[None].float() / 255 for n in (0, 1))
    value = loss(a, b)
    assert float(value) == pytest.approx(float(loss.net(a, b)), abs=1e-7) and float(value) > 0.1
    distance = lpips_map(loss.net, a, b)
    assert distance.shape == (1, 1, 64, 64)
    # enlargement keeps means nearly, not exactly
    assert float(distance.mean()) == pytest.approx(float(value), rel=0.05)
    y = a.clone().requires_grad_(True)
    loss(y, b).backward()
    assert torch.isfinite(y.grad).all() and y.grad.abs().sum() > 0

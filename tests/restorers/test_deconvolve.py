"""Deconvolution as a user meets it: kernels, noise, methods, tiles, kinds of pictures, progress, steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import restora
from restora import evaluation
from restora.degradation import convolution, kernels
from restora.engine import Settings
from restora.errors import Cancelled, UnknownModel, UsageError
from restora.io import Picture
from restora.networks import Control, NetworkSpec, exact
from restora.restorers import Deconvolver, denoiser
from restora.restorers.blur_kernel import BlurKernel
from restora.restorers.deconvolve import methods
from restora.restorers.our_nonblind import OurNonBlind
from restora.solvers.auto import FLOOR
from tests.conftest import make_photo

CPU = Settings(device="cpu")


def blurred(sharp: np.ndarray, kernel: Tensor, sigma: float = 0.0) -> np.ndarray:
    """A photograph of `sharp`: only the part that the kernel covers, with noise, in 8 bits."""
    x = torch.from_numpy(sharp.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    y = convolution.convolve(x, kernel, "valid")[0].permute(1, 2, 0).numpy()
    return evaluation.to_uint8(np.clip(y + np.random.default_rng(0).normal(0, sigma / 255, y.shape), 0, 1))


def inner(sharp: np.ndarray, kernel: Tensor) -> np.ndarray:
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    return np.ascontiguousarray(sharp[top : sharp.shape[0] - top, left : sharp.shape[1] - left])


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return float(evaluation.psnr(a, b, "deblur-rgb"))


@pytest.fixture(scope="module")
def shaken() -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Sharp picture, its blurred photograph and the kernel, not symmetric in any way."""
    kernel = kernels.trajectory(13, seed=3)
    sharp = make_photo(110, 132)
    return inner(sharp, kernel), blurred(sharp, kernel, 1.0), kernel


@pytest.mark.parametrize("method", ["wiener", "auto", "richardson-lucy", "gddec"])
def test_a_blur_is_undone(shaken: tuple[np.ndarray, np.ndarray, Tensor], method: str) -> None:
    sharp, photo, kernel = shaken
    few = {"iterations": 10} if method == "gddec" else {}
    result = restora.restore(photo, task="deconvolve", kernel=kernel, sigma=1, method=method, options=few)
    before, after = decibels(photo, sharp), decibels(result.array, sharp)
    # a kernel turned round by mistake (correlation) would make it worse
    assert after > before + 2, (before, after)
    assert result.array.dtype == np.uint8 and result.array.shape == photo.shape


def test_the_three_ways_to_say_it_are_one(shaken: tuple[np.ndarray, np.ndarray, Tensor], tmp_path: Path) -> None:
    _, photo, kernel = shaken
    Picture.from_array(photo).save(tmp_path / "photo.png")
    np.save(tmp_path / "kernel.npy", kernel.numpy())
    by_array = restora.restore(photo, task="deconvolve", kernel=kernel.numpy(), sigma=1, method="wiener").array
    by_file = restora.load("deconvolve", method="wiener")(
        tmp_path / "photo.png", kernel=tmp_path / "kernel.npy", sigma="1"
    )
    by_name = restora.load("wiener", task="deconvolve")(photo, kernel=str(tmp_path / "kernel.npy"), sigma=1)
    assert np.array_equal(by_array, by_file.array) and np.array_equal(by_array, by_name.array)
    assert by_file.report.model == "wiener" and "kernel.npy" in by_file.report.controls["kernel"]


def test_formula_and_tensor_are_one(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    photo = shaken[1]
    restorer = Deconvolver("wiener", CPU)
    a = restorer(photo, kernel="motion:9:30", sigma=2).array
    assert np.array_equal(a, restorer(photo, kernel=kernels.motion(9, 30), sigma=2).array)
    assert not np.array_equal(a, restorer(photo, kernel="motion:9:60", sigma=2).array)


@pytest.mark.parametrize("method", ["wiener", "hyper-laplacian"])
def test_tiles_do_not_show(method: str) -> None:
    kernel = kernels.trajectory(11, seed=1)
    sharp = make_photo(240, 250)
    photo, truth = blurred(sharp, kernel, 2.0), inner(sharp, kernel)
    whole = Deconvolver(method, Settings(device="cpu", tile=0))(photo, kernel=kernel, sigma=2)
    tiled = Deconvolver(method, Settings(device="cpu", tile=100))(photo, kernel=kernel, sigma=2)
    assert whole.report.tiles == 1 and tiled.report.tiles == 9
    assert decibels(tiled.array, truth) > decibels(whole.array, truth) - 0.3
    # no step where tiles meet: the difference from the whole changes there as it does elsewhere
    off = tiled.array.astype(float) - whole.array
    steps = np.abs(np.diff(off.mean(axis=2), axis=1)).mean(axis=0)
    assert steps[[79, 80, 159, 160]].max() < 3 * np.median(steps) + 0.5


def test_every_kind_of_picture(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    _, photo, kernel = shaken
    restorer = Deconvolver("wiener", CPU)
    eight = restorer(photo, kernel=kernel, sigma=1).array
    deep = restorer(photo.astype(np.uint16) * 257, kernel=kernel, sigma=1).array
    assert deep.dtype == np.uint16 and np.abs(deep / 257 - eight).max() <= 0.51
    assert len(np.unique(deep % 257)) > 100  # the result really has 16 bits
    real = restorer(photo.astype(np.float32) / 255, kernel=kernel, sigma=1).array
    assert real.dtype == np.float32 and np.abs(np.clip(real, 0, 1) * 255 - eight).max() <= 0.51
    grey = restorer(np.ascontiguousarray(photo[..., 1]), kernel=kernel, sigma=1).array
    three = restorer(photo[..., [1, 1, 1]], kernel=kernel, sigma=1).array
    assert grey.shape[2] == 1 and np.abs(grey.astype(int) - three).max() <= 1
    alpha = np.random.default_rng(0).integers(0, 256, photo.shape[:2], dtype=np.uint8)
    kept = restorer(np.dstack([photo, alpha]), kernel=kernel, sigma=1).picture
    assert np.array_equal(kept.alpha, alpha)
    batch = restorer(torch.rand(2, 3, 40, 50), kernel=kernel, sigma=1)
    assert batch.tensor.shape == (2, 3, 40, 50)


def test_linear_light_is_another_blur() -> None:
    kernel = kernels.disk(3)
    linear = np.zeros((80, 80, 3), np.float32)
    linear[20:60, 20:60] = 1
    x = torch.from_numpy(linear.transpose(2, 0, 1))[None]
    light = convolution.convolve(x, kernel, "replicate")[0].permute(1, 2, 0).numpy().clip(0, 1)
    photo = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
    restorer = Deconvolver("wiener", CPU)
    errors = [
        np.abs(restorer(photo, kernel=kernel, sigma=0.5, linear=on).array.clip(0, 1) - linear).mean()
        for on in (True, False)
    ]
    assert errors[0] < 0.75 * errors[1]


def test_scale_and_its_alpha() -> None:
    photo = make_photo(30, 34)
    rgba = np.dstack([photo, np.linspace(0, 255, 34).astype(np.uint8)[None].repeat(30, 0)])
    result = Deconvolver("gddec", CPU)(rgba, kernel="gaussian:1.2", scale=2, sigma=0, options={"iterations": 5})
    assert result.array.shape == (60, 68, 4) and result.report.scale == 2
    assert np.abs(result.picture.alpha[::2, ::2].astype(int) - rgba[..., 3]).max() < 12


# kernels


def test_what_is_wrong_with_a_kernel_is_mended_and_said() -> None:
    k = kernels.gaussian(1.5).numpy()
    assert BlurKernel.of(k).notes == ()
    assert "sums to 3" in BlurKernel.of(3 * k).notes[0]
    negative = k.copy()
    negative[0, 0] = -0.1
    assert "negative" in BlurKernel.of(negative).notes[0] and float(BlurKernel.of(negative).weights.min()) >= 0
    even = BlurKernel.of(np.ones((4, 4)))
    assert any("even" in n for n in even.notes) and even.weights.shape == (5, 5)
    shifted = np.roll(np.pad(k, 4), 2, axis=1)
    found = BlurKernel.of(shifted)
    assert "off-centre" in found.notes[0] and "+2.0 px across" in found.notes[0]
    assert found.centred().notes == () and torch.allclose(found.centred().weights, torch.from_numpy(k), atol=1e-6)
    for kernel in (found, even, BlurKernel.of(3 * k), BlurKernel.of(negative)):
        assert abs(float(kernel.weights.sum()) - 1) < 1e-5 and all(n % 2 for n in kernel.weights.shape)


def test_empty_margins_are_cut_off_about_the_centre() -> None:
    k = kernels.motion(9, 20)
    wide = torch.nn.functional.pad(k, (12, 12, 20, 20))
    assert torch.allclose(BlurKernel.of(wide).weights, BlurKernel.of(k).weights)
    assert max(BlurKernel.of(wide).weights.shape) <= max(k.shape)


@pytest.mark.parametrize(
    ("kernel", "named"),
    [
        ("motion", "motion"),
        ("absent.png", "absent.png"),
        (np.full((3, 3), np.nan), "NaN"),
        (np.zeros((3, 3)), "no positive"),
        (np.ones(7), "two dimensions"),
        ({"a": 1}, "dict"),
    ],
)
def test_no_kernel_is_said(kernel: object, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Deconvolver("wiener", CPU)(make_photo(30, 30), kernel=kernel)


def test_a_kernel_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="larger than the picture"):
        Deconvolver("wiener", CPU)(make_photo(20, 20), kernel="gaussian:9")


def test_an_off_centre_kernel_is_told_with_the_result(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    _, photo, kernel = shaken
    shifted = torch.nn.functional.pad(kernel, (4, 0, 2, 2))
    result = Deconvolver("wiener", CPU)(photo, kernel=shifted, sigma=1)
    assert any("off-centre" in note for note in result.report.notes)
    result = Deconvolver("wiener", CPU)(photo, kernel=shifted, sigma=1, centre=True)
    assert not any("off-centre" in note for note in result.report.notes)


def test_a_turned_kernel_is_noticed_and_the_true_one_is_not() -> None:
    kernel = kernels.motion(21, 30)
    photo = blurred(make_photo(220, 240), kernel, 0.5)
    wrong = Deconvolver("wiener", CPU)(photo, kernel=kernels.motion(21, 36), sigma=0.5)
    right = Deconvolver("wiener", CPU)(photo, kernel=kernel, sigma=0.5)
    assert any("does not seem" in note for note in wrong.report.notes)
    assert not any("does not seem" in note for note in right.report.notes)
    quiet = Deconvolver("wiener", CPU)(photo, kernel=kernels.motion(21, 36), sigma=0.5, check=False)
    assert not any("does not seem" in note for note in quiet.report.notes)


# noise, methods, options


def test_noise_is_estimated_and_said(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    kernel = shaken[2]
    photo = blurred(make_photo(110, 132), kernel, 6.0)
    result = Deconvolver("wiener", CPU)(photo, kernel=kernel)
    (said,) = (n for n in result.report.notes if "Noise level estimated" in n)
    assert abs(float(said.split(" as ")[1].split(" ")[0]) - 6) < 1.5
    assert result.report.controls["sigma"] == pytest.approx(6, abs=1.5)


def test_rounding_is_noise_too(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    _, photo, kernel = shaken
    known = Deconvolver("wiener", CPU)(photo, kernel=kernel, sigma=0)
    assert known.report.controls["sigma"] == pytest.approx(1 / np.sqrt(12))
    assert Deconvolver("wiener", CPU)(photo / np.float32(255), kernel=kernel, sigma=0).report.controls["sigma"] == 0


@pytest.mark.parametrize(
    ("controls", "named"),
    [
        ({}, "kernel"),
        ({"kernel": "disk:2", "method": "magic"}, "magic"),
        ({"kernel": "disk:2", "sigma": -1}, "sigma"),
        ({"kernel": "disk:2", "sigma": "much"}, "sigma"),
        ({"kernel": "disk:2", "scale": 0}, "scale"),
        ({"kernel": "disk:2", "scale": 1.5}, "scale"),
        ({"kernel": "disk:2", "options": {"nonsense": 1}}, "nonsense"),
        ({"kernel": "disk:2", "method": "gddec", "options": {"iterations": "many"}}, "iterations"),
        ({"kernel": "disk:2", "method": "wiener", "robust": True}, "robust"),
        ({"kernel": "disk:2", "strenght": 1}, "strenght"),
    ],
)
def test_wrong_controls_are_named_before_any_work(controls: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Deconvolver("wiener", CPU).check_controls(controls)


@pytest.mark.parametrize("method", ["usrnet", "onepass"])
def test_a_method_without_its_weights_names_what_works(method: str) -> None:
    if any(c.family == method for c in restora.list_models()):
        pytest.skip("weights are bundled")
    with pytest.raises(UsageError, match="auto"):
        Deconvolver(method, CPU)(make_photo(30, 30), kernel="disk:2")


def test_weights_make_a_method(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from restora import networks

    torch.manual_seed(0)
    save_file(networks.create("usrnet_tiny", iterations=2).state_dict(), tmp_path / "mine.safetensors")
    restorer = restora.load(tmp_path / "mine.safetensors")
    assert isinstance(restorer, Deconvolver) and restorer.name == "usrnet"
    photo = make_photo(24, 26)
    result = restorer(photo, kernel="gaussian:1", scale=2, sigma=1)
    assert result.array.shape == (48, 52, 3)
    by_control = Deconvolver("usrnet", CPU)(
        photo, kernel="gaussian:1", scale=2, sigma=1, network=str(tmp_path / "mine.safetensors")
    )
    assert np.array_equal(result.array, by_control.array)
    with pytest.raises(UsageError, match="not onepass"):
        Deconvolver("onepass", CPU)(photo, kernel="gaussian:1", network=str(tmp_path / "mine.safetensors"))


def test_every_method_is_described() -> None:
    assert {"auto", "wiener", "richardson-lucy", "gddec", "our-nonblind", "usrnet", "dpir"} <= set(methods())
    assert all(len(line) > 10 for line in methods().values())


def test_controls_of_a_job_are_json_and_know_the_kernels_content(tmp_path: Path) -> None:
    restorer = Deconvolver("wiener", CPU)
    told = []
    for k in (kernels.gaussian(1.0), kernels.gaussian(2.0)):
        np.save(tmp_path / "k.npy", k.numpy())
        told.append(json.dumps(restorer.check_controls({"kernel": str(tmp_path / "k.npy")}).model_dump(mode="json")))
    assert told[0] != told[1]


def test_in_a_chain(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    from restora.restorers import Chain

    chain = Chain([("deconvolve", Deconvolver("wiener", CPU)), ("upscale", restora.load("bicubic"))])
    result = chain(shaken[1], **{"deconvolve.kernel": "disk:2", "deconvolve.sigma": 1, "upscale.scale": 2})
    assert result.array.shape[0] == 2 * shaken[1].shape[0]


# the user's time


def test_progress_counts_iterations_and_tiles(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    _, photo, kernel = shaken
    seen = []
    restorer = Deconvolver("richardson-lucy", Settings(device="cpu", tile=64))
    report = restorer(photo, kernel=kernel, sigma=1, progress=seen.append, options={"iterations": 6}).report
    done = [p.done for p in seen]
    assert len(done) > 2 * report.tiles and done == sorted(done)
    assert done[-1] == seen[-1].total == photo.shape[0] * photo.shape[1]


def test_it_stops_within_a_tile(shaken: tuple[np.ndarray, np.ndarray, Tensor]) -> None:
    _, photo, kernel = shaken
    seen: list[object] = []
    with pytest.raises(Cancelled):
        Deconvolver("gddec", CPU)(photo, kernel=kernel, progress=seen.append, cancelled=lambda: len(seen) > 2)


def test_steps_are_kept_and_end_with_the_result(shaken: tuple[np.ndarray, np.ndarray, Tensor], tmp_path: Path) -> None:
    _, photo, kernel = shaken
    restorer = restora.load("deconvolve", method="richardson-lucy", keep_steps=tmp_path / "steps", device="cpu")
    result = restorer(photo, kernel=kernel, sigma=1, options={"iterations": 12})
    kept = sorted((tmp_path / "steps").iterdir())
    assert 5 <= len(kept) <= 12
    assert np.array_equal(Picture.open(kept[-1]).pixels, result.array)
    plain = Deconvolver("richardson-lucy", CPU)(photo, kernel=kernel, sigma=1, options={"iterations": 12})
    assert np.array_equal(plain.array, result.array)
    assert not np.array_equal(Picture.open(kept[0]).pixels, result.array)


# our non-blind


def test_our_nonblind_runs_the_stages_that_were_asked(
    shaken: tuple[np.ndarray, np.ndarray, Tensor], tmp_path: Path
) -> None:
    sharp, _, kernel = shaken
    photo = blurred(make_photo(110, 132), kernel, 8.0)
    restorer = Deconvolver("our-nonblind", CPU, keep_steps=tmp_path)
    options = {"gddec": {"iterations": 10}, "sigma_s": 10, "sigma_r": 0.1}
    result = restorer(photo, kernel=kernel, sigma=8, options=options)
    names = [p.stem.split("_", 1)[1] for p in sorted(tmp_path.iterdir())]
    assert [n for n in names if "gddec_" not in n] == ["denoise", "gddec", "filter"]
    assert any("SRRUNet" in note for note in result.report.notes)
    assert decibels(result.array, sharp) > decibels(photo, sharp)
    enlarged = restorer(photo, kernel=kernel, scale=2, sigma=0, options={"stages": "filter"})
    assert enlarged.array.shape[0] == 2 * photo.shape[0]
    with pytest.raises(UsageError, match="stages"):
        restorer.check_controls({"kernel": kernel, "options": {"stages": "polish"}})


def test_our_nonblind_ends_with_srrunet() -> None:
    from restora import networks

    torch.manual_seed(0)
    net = networks.create("srrunet", widths=(8, 8, 8, 8), blocks=1)
    stages, notes = OurNonBlind(stages="filter,enhance").plan(kernels.gaussian(1), 2, 0.0, enhancer=net)
    assert [s.name for s in stages] == ["bicubic", "filter", "enhance"] and not notes
    assert stages[-1].operator.controls["factor"] == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_says_nothing_about_the_kernel(level: int) -> None:
    flat = np.full((48, 56, 3), level, np.uint8)
    result = Deconvolver("wiener", CPU)(flat, kernel=kernels.motion(7, 20), sigma=5)
    assert not any("does not seem" in note for note in result.report.notes)
    assert np.abs(result.array.astype(int) - level).max() <= 1


# denoisers


class Fader(nn.Module):
    """Adds sigma / 255, so that what arrives shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.spec = NetworkSpec(
            task="denoise", tiling=exact(0), controls=(Control("sigma", "noise", low=0, high=50, spatial=True),)
        )

    def restore(self, x: Tensor, sigma: float) -> Tensor:
        return x + sigma / 255


def test_a_network_becomes_a_denoiser_of_any_size_and_batch() -> None:
    denoise = denoiser(Fader(), Settings(device="cpu", tile=8))
    x = torch.rand(2, 3, 20, 30) * 1.4 - 0.2  # solvers go beyond [0, 1]
    assert torch.allclose(denoise(x, 25), x + 25 / 255, atol=1e-6)
    assert torch.allclose(denoise(x, 99), x + 50 / 255, atol=1e-6)  # the end of its range
    assert denoise(x[:, :1], 10).shape == (2, 1, 20, 30)


def test_what_takes_no_sigma_is_no_denoiser() -> None:
    with pytest.raises(UsageError, match="takes no noise level"):
        denoiser(restora.load("bicubic"))


def test_the_best_method_takes_a_denoiser_where_there_is_one(
    shaken: tuple[np.ndarray, np.ndarray, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharp, photo, kernel = shaken
    levels: list[float] = []

    def network(x: Tensor, sigma: float) -> Tensor:
        levels.append(sigma)
        return x

    restorer = Deconvolver("auto", CPU)
    known = restorer(photo, kernel=kernel, sigma=1, denoiser=network)
    assert levels[0] == 49 and abs(levels[-1] - 1) < 1e-6
    assert known.report.controls["sigma"] == 1
    # a noise level that nobody vouches for is not believed below that of a kernel's errors
    guessed = restorer(photo, kernel=kernel, denoiser=network)
    assert abs(levels[-1] - FLOOR) < 1e-6 and any("never exact" in n for n in guessed.report.notes)
    levels.clear()
    plain = restorer(photo, kernel=kernel, sigma=1, denoiser="none").array
    assert not levels and decibels(plain, sharp) > decibels(photo, sharp) + 2
    monkeypatch.setattr("restora.restorers.deconvolve._LARGE", 1000)
    large = restorer(photo, kernel=kernel, sigma=1)
    assert np.array_equal(large.array, plain) and any("large" in n for n in large.report.notes)
    monkeypatch.setattr("restora.zoo.default_model", _no_model)
    assert np.array_equal(Deconvolver("auto", CPU)(photo, kernel=kernel, sigma=1).array, plain)


def _no_model(task: str) -> None:
    raise UnknownModel(task)

"""SimUSR, and the procedures and pairs beside it: CutBlur's, progressive CARN's, those with a kernel, ViTDeblur's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from restora import networks, training
from restora.degradation import resize
from restora.errors import RecipeError
from restora.training import procedures
from restora.training.batch import Batch
from restora.training.pairs.base import MARGIN
from restora.training.pairs.pyramid import Pyramid, PyramidOptions
from restora.training.procedures.nonblind import noiseless
from tests.conftest import make_photo


def shrunk(recipe: str, **changes: Any) -> dict[str, Any]:
    """A bundled recipe with two steps of two pictures; changes are top-level keys, groups of keys merged."""
    raw = yaml.safe_load(training.find_recipe(recipe).read_text())
    raw |= {
        "steps": 2,
        "schedule": {"kind": "constant"},
        "validation": {"every": 2, "pictures": 1, "crop": 64, "sheet": 0},
    }
    raw["data"] = {**raw["data"], "patch": 16, "batch": 2, "rescale": [1.0], "cache": False, "prefetch": 0}
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return raw


def trainer(raw: dict[str, Any], photos: Path, folder: Path) -> training.Trainer:
    return training.Trainer(training.parse_recipe(raw), photos, photos, folder, threads=1)


def test_simusr_trains_on_low_resolution_pictures_alone(photos: Path, tmp_path: Path) -> None:
    raw = shrunk("simusr")
    raw["network"]["config"] = {"channels": 8, "groups": 1, "blocks": 1}
    run = trainer(raw, photos, tmp_path)
    batch = run.pairs.batch(0)
    # the father is the given picture at its own size, the son a half of it; the mixture may have enlarged the son
    assert batch.scale == 2 and batch.target.shape[-1] == 32 and batch.input.shape[-1] in (16, 32)
    run.run()
    assert run.step == 2


def test_simusr_learns(photos: Path, tmp_path: Path) -> None:
    raw = shrunk("simusr", steps=150, optimiser={"lr": 0.003, "clip": 1.0}, ema=0.9, augment=None)
    raw["network"]["config"] = {"channels": 16, "groups": 1, "blocks": 1}
    raw["validation"] = {"every": 150, "crop": 96, "sheet": 0}
    raw["data"]["batch"] = 4
    run = trainer(raw, photos, tmp_path)
    before = run.validate().mean
    assert run.run()["validation"] > before + 3


def test_simusr_cleans_noisy_pictures_first(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from restora import restorers

    class Whitener:
        controls = type("Controls", (), {"model_fields": {"sigma": None}})
        told: list[Any] = []

        def __call__(self, image: np.ndarray, **controls: Any) -> Any:
            self.told.append(controls)
            return type("Restoration", (), {"array": np.full_like(image, 200)})

    monkeypatch.setattr(restorers, "load", lambda name: Whitener())
    raw = shrunk("simusr", task={"denoise": "whitener", "sigma": 12.0}, augment=None)
    run = trainer(raw, photos, tmp_path)
    plain = trainer(shrunk("simusr", name="plain"), photos, tmp_path)
    assert float(run.pairs.batch(0).target.min()) == pytest.approx(200 / 255)
    assert {"sigma": 12.0} in Whitener.told and run.pairs.checksum != plain.pairs.checksum


def test_a_cutblur_network_takes_both_sizes(photos: Path, tmp_path: Path) -> None:
    """A batch at the target's size is fed as it is; one at low resolution is enlarged by nearest: the same network call."""
    run = trainer(shrunk("cutblur.small"), photos, tmp_path)
    low, target = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16)
    net = run.net.eval()
    with torch.no_grad():
        small = run.procedure.restore(net, Batch(low, target, 2))
        large = run.procedure.restore(net, Batch(low.repeat_interleave(2, -1).repeat_interleave(2, -2), target, 2))
        mixed = run.procedure.restore(net, Batch(target, target, 2))
    assert small.shape == target.shape and torch.allclose(small, large, atol=1e-5)
    assert torch.allclose(mixed, net(target * 255) / 255, atol=1e-5)
    with pytest.raises(RecipeError, match="does not take"):
        trainer(shrunk("cutblur.small", network={"variant": "edsr_baseline_x2", "config": {}}), photos, tmp_path)


def test_masked_pixels_do_not_count(photos: Path, tmp_path: Path) -> None:
    """With Cutout of everything no loss is left; of nothing it is the plain one."""
    losses = []
    for alpha in (0.0, 1.0):
        augment = {"kind": "cutout", "alpha": alpha, "enlarge": "nearest"}
        raw = shrunk("cutblur.small", name=f"cut{alpha:g}", augment=None)
        raw["augment"] = augment
        run = trainer(raw, photos, tmp_path)
        batch = run.pairs.batch(0)
        assert batch.mask is not None and batch.mask.mean() == 1 - alpha
        losses.append(float(sum(t.detach() for t in run.phases[0].loss(batch, 0).values())))
    assert losses[0] > 0.01 and losses[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_level_of_the_pyramid_is_what_the_whole_picture_gives(scale: int) -> None:
    photo = torch.from_numpy(make_photo(160, 160)).permute(2, 0, 1)[None].float() / 255
    maker = Pyramid(PyramidOptions(total=8, scale=scale, quantise=False))
    patch, top = 8, 2
    side = maker.side(patch, scale)
    batch = maker.pair(photo[..., top * 8 : top * 8 + side, :side], scale, [0], np.random.default_rng(0))
    assert batch.input.shape[-1] == patch and batch.target.shape[-1] == patch * scale
    low, level = resize(photo, 1 / 8), resize(photo, scale / 8)
    first = top + MARGIN
    assert (batch.input - low[..., first : first + patch, MARGIN : MARGIN + patch]).abs().max() < 1e-5
    edge = MARGIN * scale
    there = level[..., first * scale : (first + patch) * scale, edge : edge + patch * scale]
    assert (batch.target - there).abs().max() < 1e-5


def test_progressive_carn_grows_and_its_older_parts_learn_slower(photos: Path, tmp_path: Path) -> None:
    """Rates as `ProgressiveCARN.parameter_groups` has them (algorithm 1 of the thesis)."""
    for name in ("progressive_carn.small", "progressive_carn.paper"):
        recipe = training.load_recipe(training.find_recipe(name))
        for number, stage in enumerate(recipe.split(), 1):
            net: Any = networks.create(stage.network.variant, blocks=1, units=1, channels=4)
            assert net.spec.scales == (2**number,) and stage.task["scale"] == 2**number
            wanted = {id(p): group["lr"] for group in net.parameter_groups(1.0) for p in group["params"]}
            factors = stage.optimiser.lr_factors
            for key, p in net.named_parameters():
                if p.requires_grad:
                    given = next((f for prefix, f in factors.items() if key.startswith(prefix)), 1.0)
                    assert given == pytest.approx(wanted[id(p)]), key
    raw = shrunk("progressive_carn.small")
    raw["network"]["config"] = {"blocks": 1, "units": 1, "channels": 8}
    raw["data"]["patch"] = 8
    for stage in raw["stages"]:
        stage["steps"] = 1
    done = training.train(training.parse_recipe(raw), _larger(photos), _larger(photos), tmp_path, threads=1)
    assert done.finished and done.stage == "x8"
    second, third = (
        torch.load(tmp_path / raw["name"] / s / "latest.pt", weights_only=False)["modules"]["net"] for s in ("x4", "x8")
    )
    key = "progression.0.b1.b1.conv1.weight"
    assert (second[key] - third[key]).abs().max() < 1e-4 and "progression.2.b1.b1.conv1.weight" in third


def _larger(photos: Path) -> Path:
    """Photographs with room for x8."""
    from PIL import Image

    folder = photos.parent / "larger"
    folder.mkdir(exist_ok=True)
    if not list(folder.iterdir()):
        Image.fromarray(make_photo(136, 144)).save(folder / "0.png")
    return folder


def test_the_denoisers_target_is_the_blurred_picture_without_noise() -> None:
    from restora.degradation import Blur, Decimate, kernels

    x = torch.rand(2, 3, 24, 20)
    kernel = kernels.anisotropic(2.0, 0.7, 30, 9)
    for scale in (1, 2):
        wanted = Decimate(scale)(Blur(kernel, "circular")(x)) if scale > 1 else Blur(kernel, "circular")(x)
        assert torch.allclose(noiseless(x, kernel[None, None], scale), wanted, atol=1e-5)


def test_parts_of_the_one_pass_network_are_trained_apart(photos: Path, tmp_path: Path) -> None:
    raw = shrunk("onepass.small", stages=[], network={"freeze": ["hyper", "artefacts", "resolution"]})
    raw["options"] = {"parts": {"denoiser": 1.0}}
    raw["task"] = {**raw["task"], "kernel": 5}
    run = trainer(raw, photos, tmp_path)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    terms = run.phases[0].loss(run.pairs.batch(0), 0)
    assert list(terms) == ["denoiser.l1"]
    run.run()
    moved = {k.split(".")[0] for k, v in run.net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"denoiser"}


def test_kernel_networks_refuse_what_does_not_fit(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="told the kernel"):
        trainer(shrunk("usrnet.small", network={"variant": "fsrcnn_x2", "config": {}}), photos, tmp_path)
    with pytest.raises(RecipeError, match="one-pass"):
        trainer(shrunk("usrnet.small", options={"parts": {"denoiser": 1.0}}), photos, tmp_path)


def test_vitdeblur_is_compared_in_the_normalised_range_and_takes_a_backbone(photos: Path, tmp_path: Path) -> None:
    vit = {"image": 32, "width": 16, "depth": 1}
    backbone: Any = networks.create("vit_b_16", **vit, classes=5)
    torch.save(backbone.state_dict(), tmp_path / "vit.pth")
    raw = shrunk("vitdeblur_adam.small", data={"patch": 32})
    raw["network"]["config"]["vit"] = vit
    raw["task"] = {"kind": "deblur", "size": [3, 5]}
    raw["loss"] = "l1"
    raw["options"] = {"backbone": str(tmp_path / "vit.pth")}
    run = trainer(raw, photos, tmp_path)
    net: Any = run.net
    assert torch.equal(net.vit.conv_proj.weight, backbone.conv_proj.weight)
    batch = run.pairs.batch(0)
    loss = run.phases[0].loss(batch, 0)["l1"]
    with torch.no_grad():
        error = (net.restore(batch.input) - batch.target).abs() / net.deviation
    assert loss.item() == pytest.approx(float(error.mean()), rel=1e-4)


def test_procedures_and_tasks_are_found() -> None:
    assert {"cutblur", "nonblind", "vitdeblur"} <= set(procedures.procedures())
    assert {"simusr", "pyramid"} <= set(training.pairs.kinds())

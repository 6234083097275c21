"""Zero-shot enlargement: it learns from the one picture, and behaves as every restorer does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restora import jobs, networks
from restora.degradation import kernels, resize
from restora.engine import Settings
from restora.errors import Cancelled, UsageError
from restora.evaluation import psnr
from restora.restorers import Bicubic
from restora.restorers.zssr import Trainer, ZeroShot, back_projected, reduced

QUICK = {"steps": 3, "crop": 16, "ensemble": False, "back_projection": 1}


def discs(side: int) -> np.ndarray:
    """Discs with sharp edges, large and small: edges look alike at every size, so that they can be learnt from the picture."""
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.full((side, side), 30.0)
    for level, cy, cx, radius in (
        (200, 0.3, 0.3, 0.22),
        (120, 0.7, 0.35, 0.2),
        (240, 0.6, 0.75, 0.2),
        (80, 0.25, 0.75, 0.12),
    ):
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = level
    return np.repeat(image[..., None], 3, axis=2).astype(np.uint8)


def zssr() -> ZeroShot:
    return ZeroShot(Settings(device="cpu", threads=1))


def test_the_network_is_the_papers() -> None:
    net = networks.create("zssr")
    assert sum(p.numel() for p in net.parameters()) == 225_091
    assert networks.identify(networks.create("zssr", width=8, depth=4).state_dict()).config["depth"] == 4


def test_it_learns_what_bicubic_cannot_know() -> None:
    sharp = discs(128)
    low = (resize(torch.from_numpy(sharp).permute(2, 0, 1)[None].float() / 255, 0.5).clamp(0, 1) * 255).round()
    low = low[0].permute(1, 2, 0).byte().numpy()
    plain = psnr(Bicubic()(low, scale=2).array, sharp, protocol="sr-y", scale=2)
    result = zssr()(low, scale=2, steps=200, crop=32, ensemble=False)
    assert psnr(result.array, sharp, protocol="sr-y", scale=2) > plain + 2
    assert result.report.notes[0].startswith("Trained 200 steps") and result.report.seconds > 0


def test_same_seed_same_picture() -> None:
    picture = discs(32)
    torch.manual_seed(1)
    first = zssr()(picture, scale=2, **QUICK).array
    torch.manual_seed(2)  # chance elsewhere has no say
    second = zssr()(picture, scale=2, **QUICK).array
    assert np.array_equal(first, second)
    assert not np.array_equal(first, zssr()(picture, scale=2, seed=5, **QUICK).array)


@pytest.mark.parametrize(("scale", "gradual", "size"), [(1.5, False, (60, 48)), (3, True, (120, 96))])
def test_any_scale_and_every_kind_of_picture(scale: float, gradual: bool, size: tuple[int, int]) -> None:
    colour = np.random.default_rng(0).integers(0, 65536, (40, 32, 4), dtype=np.uint16)
    result = zssr()(colour, scale=scale, gradual=gradual, **QUICK)
    assert result.array.shape == (*size, 4) and result.array.dtype == np.uint16
    grey = zssr()(discs(32)[..., 0], scale=scale, gradual=gradual, **QUICK)
    assert grey.array.shape[:2] == zssr().output_size(32, 32, zssr().check_controls({"scale": scale}))


def test_progress_comes_to_the_end_and_cancelling_stops() -> None:
    seen: list[tuple[int, int]] = []
    zssr()(discs(32), scale=2, progress=lambda p: seen.append((p.done, p.total)), **QUICK)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        zssr()(discs(32), scale=2, cancelled=lambda: next(answers), **QUICK)


def test_back_projection_makes_the_result_reduce_to_the_picture() -> None:
    x = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    for kernel in (None, kernels.gaussian(1.0, 7)):
        start = resize(x, 2)
        low = [(reduced(back_projected(start, x, n, kernel), 2, kernel) - x).abs().mean() for n in (0, 4, 12)]
        assert low[0] > 2 * low[1] and low[1] > 1.5 * low[2]


def test_a_known_kernel_and_noise_are_used() -> None:
    plain = zssr()(discs(32), scale=2, **QUICK).array
    kernel = kernels.gaussian(2.0, 9)
    assert not np.array_equal(plain, zssr()(discs(32), scale=2, kernel=kernel, **QUICK).array)
    assert not np.array_equal(plain, zssr()(discs(32), scale=2, sigma=10, **QUICK).array)


@pytest.mark.parametrize(
    ("controls", "message"),
    [({"scale": 8}, "too small"), ({"scale": 1}, "above 1"), ({"scale": 2, "speed": 1}, "speed"),
     ({"scale": 4, "gradual": True, "kernel": torch.ones(3, 3) / 9}, "whole scale")],
)  # fmt: skip
def test_what_cannot_be_is_refused(controls: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zssr()(discs(32), **controls)


def test_an_estimate_does_not_learn_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def counted(self: Trainer, *_: object) -> float:
        steps.append(self.controls.steps)
        return 3.0

    monkeypatch.setattr(Trainer, "train", counted)
    monkeypatch.setattr(ZeroShot, "restore", None)  # called, it would be an error
    Image.fromarray(discs(40)).save(tmp_path / "a.png")
    items = jobs.assign(jobs.expand([str(tmp_path / "a.png")]), tmp_path / "out", "", "auto")
    for gradual, rounds in ((False, 1), (True, 2)):
        (found,) = jobs.estimate(zssr(), items, {"scale": 4, "steps": 50_000, "gradual": gradual, "crop": 16})
        assert found.output_size == (160, 160) and not found.error
        # three steps take three seconds here, and the enlargement comes on top
        assert 50_000 * rounds < found.seconds < 50_000 * rounds + 600
    assert max(steps) == 3 and not (tmp_path / "out").exists()

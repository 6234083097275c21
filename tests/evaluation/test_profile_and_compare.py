"""What networks cost, checked against the counts of the papers; and sheets of comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from restora import evaluation, networks
from restora.cli import make_app
from restora.errors import PictureError, UnknownModel, UsageError
from restora.evaluation import drawing, known_counts, profiling
from restora.io import Picture
from restora.networks import NetworkSpec, exact
from tests.conftest import make_photo


@pytest.mark.parametrize(
    ("variant", "parameters", "giga"),
    [("carn", 1_591_939, {2: 222.8, 3: 118.8, 4: 90.9}), ("carn_m", 414_787, {2: 91.2, 3: 46.1, 4: 32.5})],
)
def test_counts_of_the_papers(variant: str, parameters: int, giga: dict[int, float]) -> None:
    found = evaluation.profile(variant, (1280, 720), run=False)
    assert found.parameters == parameters
    assert {c.scale: round(c.mult_adds / 1e9, 1) for c in found.costs} == giga
    assert found.agrees and found.frozen == 24  # two mean shifts
    assert all(c.all_products >= c.mult_adds for c in found.costs)


def test_fsrcnn_counts() -> None:
    found = evaluation.profile("fsrcnn_x4", run=False)
    assert found.weights == 12_464 and found.parameters == 12_809 and found.agrees
    (cost,) = found.costs
    assert cost.mult_adds == pytest.approx(12_464 * 320 * 180)  # each weight once a low-resolution pixel


def test_every_known_count_of_a_network_that_is_here() -> None:
    for variant in sorted(set(known_counts.KNOWN) & set(networks.variants())):
        assert evaluation.profile(variant, (1280, 720), run=False).agrees, variant


def test_counts_scale_with_the_area() -> None:
    full, half = (evaluation.profile("carn_m_x2", s, run=False).costs[0] for s in ((1280, 720), (640, 360)))
    assert full.mult_adds == pytest.approx(4 * half.mult_adds)
    assert full.activations == pytest.approx(4 * half.activations)


def test_a_wrong_count_is_said() -> None:
    assert known_counts.differences("fsrcnn_x4", 12_809, 12_464, {}) == []
    assert known_counts.differences("unheard_of", 1, 1, {}) is None
    wrong = known_counts.differences("carn", 1, 1_588_608, {2: 222.8e9, 4: 1e9})
    assert wrong == ["1 parameters instead of 1,591,939", "1.0 G Mult-Adds at x4 instead of 90.9 G"]


class Small(nn.Module):
    """A shared convolution, a linear layer, a norm and a frozen layer: countable by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = NetworkSpec(task="denoise", tiling=exact(2))
        self.conv = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.back = nn.Conv2d(6, 3, 1)
        self.mix = nn.Linear(3, 3, bias=False)
        self.frozen = nn.Conv2d(3, 3, 1).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = self.back(self.conv(x))
        return self.frozen(self.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_counts_by_hand() -> None:
    found = evaluation.profile(Small(), (32, 16), repeats=1)
    (cost,) = found.costs
    assert found.weights == 54 + 18 + 9 and found.parameters == 81 + 6 + 3 and found.frozen == 12
    assert cost.mult_adds == 512 * (2 * (54 + 18) + 9)
    assert cost.all_products == 512 * (2 * (54 + 18) + 9 + 9)
    assert cost.activations == 512 * (2 * (6 + 3) + 3 + 3)
    assert cost.seconds is not None and cost.seconds > 0 and cost.runs == 1
    assert cost.memory is None or cost.memory >= 0


def test_refusals() -> None:
    with pytest.raises(UnknownModel, match="network variants"):
        evaluation.profile("no_such_net")
    with pytest.raises(UsageError, match="discriminator"):
        evaluation.profile("pcarn_discriminator_1", run=False)
    with pytest.raises(UsageError, match="enlarges by"):
        evaluation.profile("fsrcnn_x4", scale=2)
    with pytest.raises(UsageError, match="1280x720"):
        profiling.parse_size("720p")


def test_profile_command() -> None:
    runner = CliRunner()
    done = runner.invoke(make_app(), ["profile", "fsrcnn_x4", "--size", "64x48", "--repeats", "1", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "12,809" in done.output and "agrees with the specification" in done.output and "Mult-Adds:" in done.output
    lines = runner.invoke(make_app(), ["profile", "carn_m", "--dry", "--scale", "4", "--json"])
    assert json.loads(lines.output)["costs"][0]["mult_adds"] == pytest.approx(32.5e9, rel=2e-3)


# -- comparisons -------------------------------------------------------------------------------------------------------


def test_the_most_different_region() -> None:
    a = make_photo(60, 80)
    b = a.copy()
    b[30:40, 50:60] = 255 - b[30:40, 50:60]
    left, top, width, height = drawing.most_different([a, b], 12)
    assert left <= 50 and top <= 30 and left + width >= 60 and top + height >= 40
    assert drawing.most_different([a, a], 200)[2:] == (80, 60)
    with pytest.raises(UsageError):
        drawing.most_different([a], 10)


def test_difference_map() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    b = a.copy()
    b[0, 0] = 255
    shown = drawing.difference(a, b).astype(int).sum(axis=2)
    assert shown[0, 0] > 500 and shown[1:].max() < 20


def test_compare(tmp_path: Path) -> None:
    high = make_photo(96, 128)
    Picture.from_array(high).save(tmp_path / "high.png")
    Picture.from_array(np.ascontiguousarray(high[::2, ::2])).save(tmp_path / "low.png")
    found = evaluation.compare(
        ["bicubic", "fsrcnn_x2"], tmp_path / "low.png", tmp_path / "high.png", scale=2, crop=(10, 20, 32, 32)
    )
    assert [r.name.split(".")[0] for r in found.results] == ["bicubic", "fsrcnn_x2"]
    assert found.protocol == "sr-y/1" and found.box == (10, 20, 32, 32)
    assert found.results[1].psnr == evaluation.psnr(found.results[1].image, high, "sr-y", 2)
    assert found.results[1].seconds > 0
    assert found.sheet.ndim == 3 and found.sheet.shape[1] > 3 * 280
    assert "misaligned" in "".join(found.notes)  # plain decimation moves a picture by half a pixel
    alone = evaluation.compare(["fsrcnn_x2"], tmp_path / "low.png")
    assert alone.results[1].psnr is None and alone.results[1].against is not None
    assert alone.results[1].image.shape == high.shape


def test_compare_refusals(tmp_path: Path) -> None:
    Picture.from_array(make_photo(40, 40)).save(tmp_path / "low.png")
    low = tmp_path / "low.png"
    with pytest.raises(UsageError, match="at least one"):
        evaluation.compare([], low)
    with pytest.raises(UsageError, match="outside"):
        evaluation.compare(["bicubic"], low, scale=2, crop=(70, 70, 20, 20))
    with pytest.raises(UsageError, match="another picture"):
        evaluation.compare(["bicubic"], low, low, scale=2)
    with pytest.raises(PictureError):
        evaluation.compare(["bicubic"], tmp_path / "none.png", scale=2)


def test_compare_command(tmp_path: Path) -> None:
    Picture.from_array(make_photo(40, 50)).save(tmp_path / "low.png")
    sheet = tmp_path / "sheet.png"
    common = ["compare", "bicubic", "fsrcnn_x2", "-i", str(tmp_path / "low.png"), "-o", str(sheet), "-s", "2"]
    done = CliRunner().invoke(make_app(), [*common, "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert Picture.open(sheet).width > 500 and "fsrcnn_x2" in done.output
    refused = CliRunner().invoke(make_app(), [*common, "--crop", "1,2,3"])
    assert isinstance(refused.exception, UsageError)

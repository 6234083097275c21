"""Networks that use statistics of the whole picture: tiles with statistics that were gathered beforehand equal one piece."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from restora import engine, networks, zoo
from restora.engine.run import run
from restora.errors import Cancelled
from restora.io import Picture
from restora.networks.picture_statistics import Gathered, PictureMean, picture_mean, picture_moments
from restora.networks.spec import global_
from tests.conftest import make_photo
from tests.engine.test_tiling import Flaky, lively

module = importlib.import_module("restora.engine.run")

_STRIP = (21, 333, 24)  # for networks that see far
SMALL: dict[str, tuple[dict, tuple[int, int, int]]] = {
    "imdn_x2": ({"channels": 32, "blocks": 2}, (61, 93, 32)),
    "rcan_x2": ({"groups": 2, "blocks": 2, "channels": 16, "squeeze": 4}, (61, 93, 32)),
    "cutblur_rcan_x1": ({"groups": 1, "blocks": 2, "channels": 16, "squeeze": 4}, (61, 93, 32)),
    "nafnet_gopro_width32": ({"width": 4, "enc_blk_nums": (1, 2), "middle_blk_num": 1, "dec_blk_nums": (1, 1)}, (61, 93, 32)),
    "nafnet_baseline_gopro_width32": ({"width": 4, "enc_blk_nums": (1,), "dec_blk_nums": (1,)}, (61, 93, 32)),
    "hat_s_x2": ({"dim": 12, "depths": (1,), "heads": (2,), "compress": 3, "squeeze": 3}, (61, 133, 32)),
    "deblurgan_oneconv": ({"blocks": 1}, (61, 93, 32)),
    "owan": ({"groups": 2, "steps": 1}, (61, 93, 32)),
    "ridnet": ({"features": 16, "reduction": 4, "blocks": 2}, (61, 133, 32)),
    "dasr_x2": ({"channels": 64, "groups": 1, "blocks": 1}, (61, 93, 32)),
    "restormer_deblur": ({"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}, _STRIP),
    "diffir_s2_deblur": ({"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "residuals": 1}, _STRIP),
}  # fmt: skip


def operator(variant: str, **sizes: object) -> engine.NetworkOperator:
    torch.manual_seed(0)
    return engine.NetworkOperator(engine.enliven(networks.create(variant, **sizes)))


@pytest.mark.parametrize("variant", SMALL)
def test_tiles_equal_one_piece_when_the_statistics_were_gathered(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding, if as many rounds are made as there are statistics; and without any the tiles do differ."""
    sizes, (height, width, tile) = SMALL[variant]
    monkeypatch.setattr(module, "_ROUNDS", 99)
    monkeypatch.setattr(module, "_STILL", 1e-6)
    net = operator(variant, **sizes)
    photo = make_photo(height, width).astype(np.float32) / 255
    found = engine.verify_tiling(net, photo, tile)
    assert found.tested and found.tiles > 1 and found.largest < 1e-4
    monkeypatch.setattr(module, "_with_statistics", lambda work, plan, meter: work.restored)
    assert engine.verify_tiling(net, photo, tile).largest > 10 * found.largest


def test_regions_of_the_whole_picture_are_averaged_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions that cross the tiles, and one that only some tiles have."""
    monkeypatch.setattr(module, "_STILL", 1e-6)
    torch.manual_seed(0)
    net = networks.create("sam_deblur", width=4, enc_blk_nums=(1,), middle_blk_num=1, dec_blk_nums=(1,))
    masked = engine.NetworkOperator(engine.enliven(net), 1, {}, ("mask",))
    regions = np.zeros((61, 93), np.float32)
    regions[:, :70], regions[50:, 80:] = 1, 7
    picture = np.dstack([make_photo(61, 93).astype(np.float32) / 255, regions])
    how = (engine.Settings("cpu", "float32", tile) for tile in (0, 32))
    whole, tiled = (run(masked, picture, np.empty((61, 93, 3), np.float32), settings)[0] for settings in how)
    assert np.abs(tiled - whole).max() < 1e-4 * max(1, np.abs(whole).max())


@pytest.fixture
def pooled() -> engine.NetworkOperator:
    return operator("nafnet_gopro_width32", width=4, enc_blk_nums=(1, 1), middle_blk_num=1, dec_blk_nums=(1, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_turns_and_grey_pictures_keep_the_statistics_apart(
    pooled: engine.NetworkOperator, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STILL", 1e-6)
    photo = make_photo(36, 60)[..., :channels].astype(np.float32) / 255
    whole, tiled = (
        run(pooled, photo, settings=engine.Settings("cpu", "float32", t, ensemble=True))[0] for t in (0, 16)
    )
    assert np.abs(tiled - whole).max() < 1e-4 * max(1, np.abs(whole).max())


def test_running_out_of_memory_while_gathering_changes_nothing(pooled: engine.NetworkOperator) -> None:
    photo = make_photo(61, 93).astype(np.float32) / 255
    how = engine.Settings("cpu", "float32", 32)
    plain, _ = run(pooled, photo, settings=how)
    result, report = run(Flaky(pooled, {3, 9}), photo, settings=how)
    assert any("Memory ran out" in note for note in report.notes)
    assert np.abs(result - plain).max() < 1e-4 * max(1, np.abs(plain).max())


def test_gathering_shows_progress_can_be_stopped_and_is_told(pooled: engine.NetworkOperator) -> None:
    photo, how = make_photo(61, 93), engine.Settings("cpu", "float32", 32)
    seen: list[engine.Progress] = []
    _, report = run(pooled, photo, settings=how, progress=seen.append)
    done = [p.done for p in seen]
    assert done == sorted(done) and done[-1] == 61 * 93 and len(done) > report.tiles == 6
    assert any("passes over all 6 tiles" in note for note in report.notes)
    left = iter([False, False, True])
    with pytest.raises(Cancelled):
        run(pooled, photo, settings=how, cancelled=lambda: next(left))


def test_of_many_tiles_an_even_sample_is_looked_at(
    pooled: engine.NetworkOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAMPLED_TILES", 3)
    photo = make_photo(61, 93).astype(np.float32) / 255
    result, report = run(pooled, photo, settings=engine.Settings("cpu", "float32", 32))
    assert any("3 of the 6 tiles" in note for note in report.notes) and np.isfinite(result).all()


def test_statistics_that_do_not_stand_still_are_told(
    pooled: engine.NetworkOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROUNDS", 1)
    _, report = run(pooled, make_photo(61, 93), settings=engine.Settings("cpu", "float32", 32))
    assert any("did not stand still" in note for note in report.notes)


def test_a_network_without_such_statistics_says_that_tiles_are_an_approximation() -> None:
    net = engine.NetworkOperator(lively("fsrcnn_x2"), 2)
    net.tiling = global_(8)
    _, report = run(net, make_photo(40, 40), settings=engine.Settings("cpu", "float32", 20))
    assert any("sees the whole picture at once" in note for note in report.notes)


def test_means_and_deviations_of_parts_are_those_of_the_whole() -> None:
    """Halos do not count, strides are understood, and an early end spares what follows."""
    x = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0)) + 100
    ran = []

    def net(part: torch.Tensor) -> list[torch.Tensor]:
        half = torch.nn.functional.avg_pool2d(part, 2)
        values = [PictureMean()(part), *picture_moments(half)]
        ran.append(1)
        return values

    gathered = Gathered()
    for left, right, start, stop in ((0, 16, 0, 12), (8, 30, 4, 22)):
        core = torch.zeros(1, 1, 20, right - left)
        core[..., start:stop] = 1
        with gathered.collecting(core):
            net(x[..., left:right])
        gathered.commit()
    assert gathered.count == 2 and ran == [1]  # the second part's run ended at the last statistic
    assert gathered.settle() == float("inf")
    with gathered.fixed():
        fixed = net(x[..., :10])
    for ours, theirs in zip(fixed, net(x), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4)
    assert torch.equal(picture_mean(x), x.mean((2, 3), keepdim=True))


def test_published_imdn_in_tiles_is_within_two_levels_of_one_piece(data_folder: Path) -> None:
    """At a tile that is smaller than the usual one, on a crop of a photograph."""
    net, _ = zoo.identify_file(data_folder / "weights/imdn/IMDN_x2.pth")
    pictures = sorted((data_folder / "bench").rglob("*.png"), key=lambda p: -p.stat().st_size)
    photo = Picture.open(pictures[0]).pixels[:160, :240, :3].astype(np.float32) / 255
    found = engine.verify_tiling(engine.NetworkOperator(net), np.ascontiguousarray(photo), 96)
    assert found.tested and found.kept and found.largest < 2 / 255

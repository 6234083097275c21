"""Controls of networks: typed, checked before any work, and brought to the network, numbers and maps alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from restora import networks
from restora.engine import Settings
from restora.errors import UsageError
from restora.io import Picture
from restora.networks import Control, NetworkSpec, exact
from restora.restorers import Chain, Enhancer, Upscaler
from restora.restorers.controls import describe, read_regions
from restora.restorers.upscale import Source

CPU = Settings(device="cpu", tile=9)


class Riser(nn.Module):
    """Repeats pixels and adds `t / 10 + seed / 255` to them: any error in a map, a tile or a pass shows."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.layer, self.scale = nn.Conv2d(3, 3, 1), scale
        self.spec = NetworkSpec(
            task="super-resolution",
            scales=(scale,),
            tiling=exact(0),
            controls=(
                Control("t", "how much", default=0.0, low=0, high=1, spatial=True),
                Control("seed", "which", "int", 0, low=0),
                Control("factor", "how often", low=1, high=9, optional=True),
            ),
        )
        self.seen: list[object] = []

    def restore(self, x: Tensor, t: float | Tensor, seed: int, factor: float | None) -> Tensor:
        self.seen.append((seed, factor))
        return F.interpolate(x + t * 0.1 + seed / 255, scale_factor=self.scale)


@pytest.fixture
def riser() -> Upscaler:
    sources = {s: Source(f"riser{s}", str(s) * 64, lambda s=s: Riser(s)) for s in (2, 3)}
    return Upscaler("riser", sources, 3, CPU)


def test_controls_of_an_upscaler_are_typed(riser: Upscaler) -> None:
    assert set(riser.controls.model_fields) == {"scale", "ensemble", "t", "seed", "factor"}
    chosen = riser.check_controls({"t": "0.5", "seed": "7"})  # as the command line has them
    assert (chosen.t, chosen.seed, chosen.factor) == (0.5, 7, None)


@pytest.mark.parametrize(
    ("controls", "told"),
    [
        ({"t": 1.5}, "'t' .* between 0 and 1"),
        ({"t": float("nan")}, "'t'"),
        ({"seed": -1}, "'seed' .*0 or above"),
        ({"seed": 1.5}, "'seed'"),
        ({"seed": "many"}, "'seed'"),
        ({"factor": 0}, "'factor'"),
        ({"speed": 1}, "'speed' .*scale, ensemble, t, seed, factor"),
    ],
)
def test_wrong_controls_of_an_upscaler_are_refused_before_any_work(
    riser: Upscaler, controls: dict, told: str, photo: np.ndarray
) -> None:
    with pytest.raises(UsageError, match=told):
        riser.check_controls(controls)


def test_numbers_hold_for_every_pass(riser: Upscaler) -> None:
    array = np.full((5, 6, 3), 50, np.uint8)
    result = riser(array, scale=6, t=0.51, seed=3, factor=2)
    assert result.array.shape == (30, 36, 3)
    assert (result.array == 50 + 2 * 13 + 2 * 3).all()  # x2, then x3
    assert result.report.controls == {"scale": 6.0, "ensemble": False, "t": 0.51, "seed": 3, "factor": 2.0}
    for scale in (2, 3):
        assert set(riser.operator(scale).net.seen) == {(3, 2.0)}


def test_a_map_goes_with_the_picture_from_pass_to_pass(riser: Upscaler, tmp_path: Path) -> None:
    array = np.full((24, 30, 3), 50, np.uint8)
    level = np.zeros((24, 30), np.uint8)
    level[:, 15:] = 255  # adds 25.5 in the right half, twice
    Image.fromarray(level).save(tmp_path / "t.png")
    for value in (level, str(tmp_path / "t.png"), tmp_path / "t.png", level / np.float32(255)):
        result = riser(array, scale=6, t=value).array
        assert (result[:, : 15 * 6 - 6] == 50).all() and (result[:, 15 * 6 + 6 :] == 101).all()
    assert "30x24" in str(riser(array, t=level).report.controls["t"])
    with pytest.raises(UsageError, match="does not fit"):
        riser(array, t=level[1:])


def test_a_map_reaches_transparency_too(riser: Upscaler) -> None:
    rgba = np.random.default_rng(0).integers(0, 200, (8, 8, 4), dtype=np.uint8)
    level = np.full((8, 8), 255, np.uint8)
    by_map, by_number = riser(rgba, scale=2, t=level).array, riser(rgba, scale=2, t=1.0).array
    assert np.array_equal(by_map, by_number) and by_map.shape == (16, 16, 4)


def test_in_a_chain_they_keep_type_and_range(riser: Upscaler) -> None:
    chain = Chain([("upscale", riser)])
    array = np.full((4, 4, 3), 50, np.uint8)
    assert (chain(array, **{"upscale.scale": 2, "upscale.seed": "9"}).array == 59).all()
    with pytest.raises(UsageError, match=r"upscale\.t"):
        chain(array, **{"upscale.t": 2})


def test_a_network_of_many_scales_takes_one_pass_and_its_own_default() -> None:
    net = networks.create("srrunet", widths=(8, 8, 8, 8), blocks=1)
    restorer = Upscaler("srrunet", {s: Source("srrunet", "0" * 64, lambda: net) for s in net.spec.scales}, 4, CPU)
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    own = restorer(array, scale=4).array
    assert np.array_equal(own, restorer(array, scale=4, factor=4).array)
    assert not np.array_equal(own, restorer(array, scale=4, factor=16).array)
    same = restorer(array, scale=1, factor=3)  # what was enlarged before is sharpened at its size
    assert same.array.shape == array.shape and same.report.passes == (1,)


class Painter(nn.Module):
    """Gives every pixel its region's number, so that a lost or shifted region shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        mask = Control("mask", "regions", "regions", optional=True)
        self.spec = NetworkSpec(task="deblur", tiling=exact(0), controls=(mask,))

    def restore(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x if mask is None else (mask / 255).expand_as(x)


def test_regions_reach_the_network(tmp_path: Path) -> None:
    painter = Enhancer("painter", Source("painter", "0" * 64, Painter), CPU)
    regions = np.random.default_rng(0).integers(0, 7, (20, 22)).astype(np.uint8)
    array = np.full((20, 22, 3), 99, np.uint8)
    assert np.array_equal(painter(array).array, array)
    np.save(tmp_path / "regions.npy", regions.astype(np.int64))
    Image.fromarray(regions).save(tmp_path / "regions.png")
    for value in (regions, tmp_path / "regions.npy", str(tmp_path / "regions.png")):
        assert np.array_equal(painter(array, mask=value).array[..., 0], regions)
    with pytest.raises(UsageError, match="does not fit"):
        painter(array, mask=regions[2:])


def test_regions_from_colours_and_from_masks(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2, :2], colours[2:, 2:] = (255, 0, 0), (0, 255, 0)
    numbers = read_regions(colours)
    assert len(np.unique(numbers)) == 3 and numbers[0, 3] == 0 and numbers[0, 0] != numbers[3, 3]
    masks = np.zeros((3, 4, 5), bool)
    masks[0], masks[1, :2], masks[2, 1:3] = True, True, True
    masks[2, 1, 0] = False
    numbers = read_regions(masks)  # the smallest mask over the others
    assert numbers[3, 0] not in (0, numbers[0, 0]) and numbers[1, 1] == numbers[2, 2] != numbers[0, 0]
    assert read_regions(np.array([[5, 5], [9, 5]])).tolist() == [[1, 1], [2, 1]]
    Picture.from_array(colours).save(tmp_path / "a.jpg")
    for wrong, told in (
        (tmp_path / "a.jpg", "JPEG"),
        (np.array([[0.5, 1]]), "whole"),
        (np.array([[-1, 1]]), "begin at 0"),
    ):
        with pytest.raises(UsageError, match=told):
            read_regions(wrong)
    (tmp_path / "b.npy").write_bytes(b"junk")
    with pytest.raises(UsageError, match="NumPy"):
        read_regions(tmp_path / "b.npy")


class Cleaner(nn.Module):
    """Takes the quality off every pixel, in grey levels."""

    def __init__(self, controlled: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        quality = (Control("quality", "of the JPEG", "int", low=1, high=100),) if controlled else ()
        self.spec = NetworkSpec(task="dejpeg", tiling=exact(0), controls=quality)

    def restore(self, x: Tensor, quality: int = 0) -> Tensor:
        return x - quality / 255


def test_a_quality_is_found_and_told(photo: np.ndarray, tmp_path: Path) -> None:
    aware = Enhancer("aware", Source("aware", "0" * 64, lambda: Cleaner(True)), CPU)
    blind = Enhancer("blind", Source("blind", "1" * 64, lambda: Cleaner(False)), CPU)
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=30)
    Picture.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    pixels = Picture.open(tmp_path / "a.png").pixels
    for name, how in (("a.jpg", "quantisation tables"), ("a.png", "8x8 blocks")):
        result = aware(tmp_path / name, quality="auto")
        assert result.report.controls["quality"] == 30 and any(how in note for note in result.report.notes)
        assert np.array_equal(result.array, np.maximum(pixels, 30) - 30)
        result = blind(tmp_path / name, quality="auto")
        assert np.array_equal(result.array, pixels) and result.report.controls["quality"] == 30
        assert any("no setting for the quality" in note for note in result.report.notes)
    with pytest.raises(UsageError, match="cannot be told"):
        aware(photo, quality="auto")
    assert any("cannot be told" in note for note in blind(photo, quality="auto").report.notes)
    for wrong in (0, 101, "good"):
        for restorer in (aware, blind):
            with pytest.raises(UsageError, match="quality"):
                restorer(photo, quality=wrong)
    with pytest.raises(UsageError, match="quality"):
        aware(photo)  # it needs one


def test_controls_are_described_in_a_line() -> None:
    described = {c.name: describe(c) for c in Riser(2).spec.controls}
    assert described["t"] == "number 0 to 1 or grey picture, default 0: how much"
    assert described["seed"] == "whole number from 0, default 0: which"


@pytest.mark.parametrize("variant", ["sam_deblur"])
def test_regions_and_masks_pool_alike(variant: str) -> None:
    from restora.networks.mask_pooling import average_in_masks, average_in_regions, masks_from_labels

    torch.manual_seed(0)
    regions = torch.randint(0, 5, (2, 9, 11))
    x = torch.rand(2, 3, 9, 11)
    torch.testing.assert_close(average_in_regions(x, regions), average_in_masks(x, masks_from_labels(regions)))
    tiny = {"width": 4, "enc_blk_nums": (1,), "middle_blk_num": 1, "dec_blk_nums": (1,)}
    net = networks.create(variant, **tiny)
    with torch.no_grad():
        by_masks, by_regions = net(x, masks_from_labels(regions)), net.restore(x, mask=regions[:, None].float())
        torch.testing.assert_close(by_regions, by_masks)
        torch.testing.assert_close(net.restore(x), net(x))
    front = networks.create(variant, deblurrer="dncnn_color_blind")
    assert [c.name for c in front.spec.controls] == ["mask"]
    with torch.no_grad():
        torch.testing.assert_close(
            front.restore(x, mask=regions[:, None].float()), front(x, masks_from_labels(regions))
        )

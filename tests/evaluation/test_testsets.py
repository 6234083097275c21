"""Folders of test pictures in the layouts of the field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restora import evaluation
from restora.degradation import resize_uint8
from restora.errors import UsageError
from restora.evaluation import inputs, open_test_set, protocol
from restora.io import Picture
from tests.conftest import make_photo

SR, DEBLUR, DENOISE, JPEG = (protocol(n) for n in ("sr-y", "deblur-rgb", "denoise-rgb", "jpeg-y"))


def write(root: Path, *names: str, size: tuple[int, int] = (24, 32)) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.from_array(make_photo(*size)).save(path)


@pytest.mark.parametrize(
    ("files", "rules", "scale", "expected"),
    [
        (["HRx4/a.png", "LRx4/a.png", "HRx2/a.png", "LRx2/a.png"], SR, 4, [("a", "HRx4/a.png", "LRx4/a.png")]),
        (
            ["image_SRF_4/img_001_SRF_4_HR.png", "image_SRF_4/img_001_SRF_4_LR.png"],
            SR,
            4,
            [("img_001", "image_SRF_4/img_001_SRF_4_HR.png", "image_SRF_4/img_001_SRF_4_LR.png")],
        ),
        (["HR/b.png", "LR_bicubic/X4/bx4.png"], SR, 4, [("b", "HR/b.png", "LR_bicubic/X4/bx4.png")]),
        (["GTmod12/b.png", "LRbicx4/b.png"], SR, 4, [("b", "GTmod12/b.png", "LRbicx4/b.png")]),
        (
            ["DIV2K_valid_HR/0801.png", "DIV2K_valid_LR_bicubic/X2/0801x2.png"],
            SR,
            2,
            [("0801", "DIV2K_valid_HR/0801.png", "DIV2K_valid_LR_bicubic/X2/0801x2.png")],
        ),
        (
            ["GT/clip1/00.png", "GT/clip2/00.png", "BIx4/clip1/00.png", "BIx4/clip2/00.png"],
            SR,
            4,
            [
                ("clip1/00", "GT/clip1/00.png", "BIx4/clip1/00.png"),
                ("clip2/00", "GT/clip2/00.png", "BIx4/clip2/00.png"),
            ],
        ),
        (["blur/1.png", "sharp/1.png"], DEBLUR, None, [("1", "sharp/1.png", "blur/1.png")]),
        (["input/1.png", "target/1.png"], DEBLUR, None, [("1", "target/1.png", "input/1.png")]),
        (["s1/blur/1.png", "s1/sharp/1.png"], DEBLUR, None, [("s1/1", "s1/sharp/1.png", "s1/blur/1.png")]),
        (["f.png", "f_gt.png"], DEBLUR, None, [("f", "f_gt.png", "f.png")]),
        (["g_real.png", "g_mean.png"], DENOISE, None, [("g", "g_mean.png", "g_real.png")]),
        (["x.png", "y.png"], DENOISE, None, [("x", "x.png", None), ("y", "y.png", None)]),
    ],
)
def test_layouts(tmp_path: Path, files: list[str], rules, scale, expected) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, *files)
    found = open_test_set(tmp_path, rules, scale=scale)
    assert [
        (
            p.name,
            p.reference.relative_to(tmp_path).as_posix(),
            p.degraded and p.degraded.relative_to(tmp_path).as_posix(),
        )
        for p in found.pairs
    ] == expected
    assert len(found.checksum()) == 64


def test_the_checksum_is_of_the_files_that_count(tmp_path: Path) -> None:
    write(tmp_path, "HRx4/a.png", "LRx4/a.png", "HRx2/a.png", "LRx2/a.png")
    before = open_test_set(tmp_path, SR, scale=4).checksum()
    write(tmp_path, "HRx2/a.png", size=(20, 20))
    assert open_test_set(tmp_path, SR, scale=4).checksum() == before
    write(tmp_path, "LRx4/a.png", size=(20, 20))
    assert open_test_set(tmp_path, SR, scale=4).checksum() != before


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        open_test_set(tmp_path / "none", SR, scale=4)
    with pytest.raises(UsageError, match="scale"):
        open_test_set(tmp_path, SR)
    with pytest.raises(UsageError, match="no pictures"):
        open_test_set(tmp_path, DENOISE)
    write(tmp_path / "lonely", "HRx4/a.png", "LRx4/a.png", "HRx4/b.png")
    with pytest.raises(UsageError, match=r"do not pair up.* b\."):
        open_test_set(tmp_path / "lonely", SR, scale=4)
    write(tmp_path / "flat", "f.png", "f_gt.png", "other.png")
    with pytest.raises(UsageError, match="no partner"):
        open_test_set(tmp_path / "flat", DEBLUR)
    write(tmp_path / "clean", "a.png")
    with pytest.raises(UsageError, match="cannot be made"):
        open_test_set(tmp_path / "clean", DEBLUR)


def test_noise_is_the_published_recipe() -> None:
    reference = make_photo(20, 30)
    made = inputs.make(reference, inputs.Recipe("denoise", sigma=25))
    np.random.seed(0)
    expected = (reference.astype(np.float32) / np.float32(255) + np.random.normal(0, 25 / 255, reference.shape)).astype(
        np.float32
    )
    assert np.array_equal(made, expected)
    assert np.array_equal(made, inputs.make(reference, inputs.Recipe("denoise", sigma=25)))


def test_low_resolution_is_made_as_the_benchmarks_were(tmp_path: Path) -> None:
    import torch

    write(tmp_path, "odd.png", size=(50, 43))
    pair = open_test_set(tmp_path, SR, scale=4).pairs[0]
    low, high, notes = inputs.pictures(pair, SR, inputs.Recipe("super-resolution", 4))
    assert high.shape == (48, 40, 3) and low.shape == (12, 10, 3)
    assert "40x48" in notes[0]
    expected = resize_uint8(torch.from_numpy(high.transpose(2, 0, 1).copy()), 0.25).numpy().transpose(1, 2, 0)
    assert np.array_equal(low, expected.astype(np.float32) / np.float32(255))


def test_grey_files(tmp_path: Path) -> None:
    Picture.from_array(make_photo(24, 24)[..., 0]).save(tmp_path / "g.png")
    assert inputs.channels(inputs.read(tmp_path / "g.png"), SR).shape == (24, 24, 3)
    assert inputs.channels(inputs.read(tmp_path / "g.png"), JPEG).shape == (24, 24, 1)
    write(tmp_path, "c.png")
    assert inputs.channels(inputs.read(tmp_path / "c.png"), protocol("denoise-gray")).shape == (24, 32, 1)


def test_deep_pictures_are_brought_to_8_bits(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257 * 200, 65535]], np.uint16).repeat(4, axis=0)
    Picture.from_array(deep).save(tmp_path / "d.png")
    assert inputs.read(tmp_path / "d.png")[0, :, 0].tolist() == [0, 0, 1, 200, 255]


def test_jpeg_inputs_have_blocks() -> None:
    reference = make_photo(64, 64)
    for image in (reference, reference[..., :1]):
        made = inputs.make(image, inputs.Recipe("dejpeg", quality=10))
        assert made.shape == image.shape
        low = evaluation.psnr_b(made, image, "jpeg-y")
        assert 15 < low < evaluation.psnr(made, image, "jpeg-y")


def test_wrong_sizes_are_named(tmp_path: Path) -> None:
    write(tmp_path, "HRx4/a.png", size=(48, 48))
    write(tmp_path, "LRx4/a.png", size=(24, 24))
    pair = open_test_set(tmp_path, SR, scale=4).pairs[0]
    with pytest.raises(UsageError, match="24x24 pixels, but its reference asks for 12x12"):
        inputs.pictures(pair, SR, inputs.Recipe("super-resolution", 4))

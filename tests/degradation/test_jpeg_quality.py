"""The quality of a JPEG: from its tables, and from the traces in its pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from restora.degradation.estimate import jpeg_quality, jpeg_table_quality
from restora.errors import UsageError
from restora.io import Picture
from tests.conftest import make_photo

PHOTO = make_photo(160, 200)


def coded(pixels: np.ndarray, quality: int, **options: int) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
    """Through libjpeg: the pixels that come out, and the file's tables."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **options)
    image = Image.open(buffer)
    tables = tuple(tuple(table) for _, table in sorted(image.quantization.items()))
    return np.asarray(image), tables


@pytest.mark.parametrize("quality", [*range(1, 5), *range(5, 100, 7), 95, 98, 99, 100])
def test_tables_of_libjpeg_are_told_exactly(quality: int) -> None:
    assert jpeg_table_quality(coded(PHOTO[:16, :16], quality)[1]) == quality
    assert jpeg_table_quality(coded(PHOTO[:16, :16, 0], quality)[1]) == quality  # grey: one table


def test_other_tables_get_the_nearest_quality() -> None:
    tables = coded(PHOTO[:16, :16], 60)[1]
    assert abs(jpeg_table_quality([[step + 1 for step in table] for table in tables]) - 60) <= 4
    with pytest.raises(UsageError, match="64"):
        jpeg_table_quality([[1, 2, 3]])


@pytest.mark.parametrize("quality", [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_pixels_tell_the_quality(quality: int, subsampling: int) -> None:
    pixels, _ = coded(PHOTO, quality, subsampling=subsampling)
    assert jpeg_quality(pixels) == quality
    assert jpeg_quality(pixels.astype(np.uint16) * 257) == quality
    assert jpeg_quality(pixels.astype(np.float32) / 255) == quality


def test_a_grey_picture_and_a_crop() -> None:
    assert jpeg_quality(coded(PHOTO[..., 1], 35)[0]) == 35
    assert jpeg_quality(coded(PHOTO, 35)[0][3:, 5:]) == 35


@pytest.mark.parametrize("quality", [10, 40, 70])
def test_the_stronger_compression_counts_after_a_second_one(quality: int) -> None:
    again, tables = coded(coded(PHOTO, quality)[0], 95)
    assert jpeg_table_quality(tables) == 95
    assert jpeg_quality(again, tables) == quality
    assert jpeg_quality(*coded(coded(PHOTO, 95)[0], quality)) == quality


@pytest.mark.parametrize(
    "pixels",
    [
        PHOTO,
        np.full((64, 64, 3), 90, np.uint8),
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8),
        np.asarray(Image.fromarray(coded(PHOTO, 60)[0]).resize((251, 183), Image.Resampling.BICUBIC)),
        PHOTO[:5, :5],
    ],
    ids=["never compressed", "flat", "noise", "resized", "smaller than a block"],
)
def test_what_cannot_be_told_is_said(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="cannot be told"):
        jpeg_quality(pixels)


def test_a_picture_keeps_the_tables_of_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", quality=23)
    picture = Picture.open(tmp_path / "a.jpg")
    assert jpeg_table_quality(picture.metadata.quantisation) == 23
    picture.save(tmp_path / "b.jpg", quality=80)
    assert jpeg_table_quality(Picture.open(tmp_path / "b.jpg").metadata.quantisation) == 80
    picture.save(tmp_path / "c.png")
    assert Picture.open(tmp_path / "c.png").metadata.quantisation == ()
    assert jpeg_table_quality(Picture.from_pil(Image.open(tmp_path / "a.jpg")).metadata.quantisation) == 23

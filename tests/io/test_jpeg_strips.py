"""JPEG from strips: the pixels and the metadata of one that was written in one piece."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import restora
from restora.io import encode, jpeg
from tests.conftest import make_photo


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [(64, 40), (61, 83), (16, 16), (200, 31)])
@pytest.mark.parametrize("strip", [1, 1000])
def test_strips_have_the_pixels_of_one_piece(
    size: tuple[int, int], grey: bool, strip: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = make_photo(*size)
    picture = restora.Picture.from_array(array[..., :1] if grey else array)
    exif = Image.Exif()
    exif[271] = "A maker"
    picture.metadata.exif, picture.metadata.dpi, picture.metadata.xmp = exif.tobytes()[6:], (300.0, 300.0), b"<x/>"
    whole = restora.Picture.open(picture.save(tmp_path / "whole.jpg", quality=90))
    monkeypatch.setattr(encode, "_IN_STRIPS", 0)
    monkeypatch.setattr(jpeg, "_STRIP", strip)
    path = picture.save(tmp_path / "strips.jpg", quality=90)
    strips = restora.Picture.open(path)
    assert np.array_equal(strips.pixels, whole.pixels) and strips.metadata == whole.metadata
    assert path.read_bytes().count(b"\xff\xdd\0\4") == 1
    for reader in (lambda p: np.asarray(Image.open(p)), lambda p: restora.Picture.open(p).pixels[..., 0]):
        assert reader(path).shape[:2] == size


def test_markers_count_to_eight_and_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_IN_STRIPS", 0)
    monkeypatch.setattr(jpeg, "_STRIP", 1)
    path = restora.Picture.from_array(make_photo(8 * 20, 24)).save(tmp_path / "a.jpg")
    data = path.read_bytes()
    marks = [b for a, b in itertools.pairwise(data) if a == 0xFF and 0xD0 <= b <= 0xD7]
    assert [m - 0xD0 for m in marks[-19:]] == [n % 8 for n in range(19)]

"""Files that are missing, cut, damaged, forged or no pictures at all; writing that fails half-way."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from io_making import chunk, exif, jpeg, noise, pil, png, profile, smooth
from PIL import Image, ImageFile

from restora.errors import (
    CorruptPicture,
    EmptyFile,
    NotAPicture,
    PictureError,
    PictureTooLarge,
    PictureWriteError,
    RestoraError,
    UnsupportedPicture,
    UsageError,
)
from restora.io import MAX_PIXELS, READABLE, Picture, atomic_path, probe, read

HAS_AVIF = ".avif" in READABLE


def _samples():
    small, deep = smooth(40, 50), noise(40, 50, 3, np.uint16)
    made = {
        "png": pil(small, "PNG"),
        "png palette": pil(Image.fromarray(small).convert("P"), "PNG"),
        "png16": png(deep, 2, 16, chunk(b"eXIf", exif())),
        "jpeg": jpeg(small, exif=b"Exif\0\0" + exif(), icc_profile=profile()),
        "jpeg progressive": jpeg(small, progressive=True),
        "jpeg grey": jpeg(small[..., 0]),
        "jpeg cmyk": jpeg(Image.fromarray(small).convert("CMYK")),
        "webp": pil(small, "WEBP", quality=90),
        "webp lossless": pil(small, "WEBP", lossless=True, exif=exif()),
        "bmp": pil(small, "BMP"),
        "gif": pil(Image.fromarray(small).convert("P"), "GIF"),
        "tiff raw": pil(small, "TIFF"),
        "tiff lzw": pil(small, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": pil(small, "TIFF", compression="jpeg"),
        "tiff palette": pil(Image.fromarray(small).convert("P"), "TIFF", compression="packbits"),
        "tiff16 lzw": cv2.imencode(".tif", deep, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(),
        "tiff16 deflate": cv2.imencode(".tif", deep, [cv2.IMWRITE_TIFF_COMPRESSION, 8])[1].tobytes(),
    }
    file = io.BytesIO()
    tifffile.imwrite(file, deep, photometric="rgb", tile=(16, 16), planarconfig="contig")
    made["tiff16 raw"] = file.getvalue()
    if HAS_AVIF:
        made["avif"] = pil(small, "AVIF", quality=80)
    return made


SAMPLES = _samples()


def attempt(path):
    """The picture, or None after an error of ours; any other exception fails the test."""
    try:
        probe(path)
    except RestoraError as error:
        assert str(path) in str(error) and str(error).endswith(".")
    try:
        return read(path)
    except PictureError as error:
        assert str(error).endswith(".")
        return None


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_short(tmp_path, name):
    data, path = SAMPLES[name], tmp_path / "a.bin"
    path.write_bytes(data)
    whole = read(path)
    lengths = {1, 2, 3, 4, 8, 11, 12, 20, 33, 60, *np.linspace(64, len(data) - 1, 25).astype(int)}
    lengths |= set(range(len(data) - 12, len(data)))
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        picture = attempt(path)
        if picture is not None:  # what was cut off was no part of the pixels
            np.testing.assert_array_equal(picture.pixels, whole.pixels, err_msg=f"{length} of {len(data)}")
            assert length >= len(data) - 60 or "tiff" in name


@settings(max_examples=250, deadline=None)
@given(name=st.sampled_from(sorted(SAMPLES)), seed=st.integers(0, 2**31), count=st.integers(1, 30), head=st.booleans())
def test_any_damage_ends_in_a_picture_or_a_sentence(tmp_path_factory, name, seed, count, head):
    rng = np.random.default_rng(seed)
    data = np.frombuffer(SAMPLES[name], np.uint8).copy()
    data[rng.integers(0, min(len(data), 400) if head else len(data), count)] = rng.integers(0, 256, count)
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(data.tobytes())
    try:
        picture = read(path, max_pixels=10_000_000)
        probe(path)
    except PictureError:
        return
    assert picture.pixels.size and (picture.pixels.dtype.kind != "f" or np.isfinite(picture.pixels).all())
    picture.save(path.with_suffix(".png"), software="Restora")


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 12))
def test_any_damage_to_exif_ends_in_a_picture(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    block = np.frombuffer(exif(6, thumbnail=bool(seed % 2), order="<>"[seed % 3 == 0]), np.uint8).copy()
    block[rng.integers(0, len(block), count)] = rng.integers(0, 256, count)
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(png(smooth(), 2, 8, chunk(b"eXIf", block.tobytes())))
    picture = read(path)
    for suffix in (".jpg", ".tif", ".png", ".webp"):
        picture.save(path.with_suffix(suffix), software="Restora")
        read(path.with_suffix(suffix))


def test_black_at_the_end_is_no_damage(tmp_path):
    array = noise(40, 51)
    array[20:] = 0
    (tmp_path / "a.png").write_bytes(png(array, 2))
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, array)
    for mode in ("1", "L", "P", "LA"):
        image = (
            Image.fromarray(array).convert(mode)
            if mode != "LA"
            else Image.fromarray(array).convert("RGBA").convert("LA")
        )
        (tmp_path / "a.png").write_bytes(pil(image, "PNG"))
        assert read(tmp_path / "a.png").height == 40


@pytest.mark.parametrize("depth", [8, 16])
def test_a_short_png_stream_with_right_checksums(tmp_path, depth):
    array = noise(40, 50, 3, np.uint16 if depth == 16 else np.uint8)
    data = bytearray(png(array[:20], 2, depth))
    data[20:24] = struct.pack(">I", 40)  # the header announces twice the rows
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(CorruptPicture):
        read(tmp_path / "a.png")


def test_another_librarys_tolerance_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "a.jpg").write_bytes(SAMPLES["jpeg"])
    assert read(tmp_path / "a.jpg").width == 50
    (tmp_path / "a.jpg").write_bytes(SAMPLES["jpeg"][:-400])
    with pytest.raises(CorruptPicture):
        read(tmp_path / "a.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True and Image.MAX_IMAGE_PIXELS == 100


def test_bombs(tmp_path):
    rows = zlib.compress(bytes(100_000), 9)
    forged = {"png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))}
    forged["png"] += chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    forged["gif"] = SAMPLES["gif"][:6] + struct.pack("<HH", 65535, 65535) + SAMPLES["gif"][10:]
    forged["bmp"] = SAMPLES["bmp"][:18] + struct.pack("<ii", 60000, 60000) + SAMPLES["bmp"][26:]
    jpeg_data = SAMPLES["jpeg grey"]
    at = jpeg_data.index(b"\xff\xc0") + 5
    forged["jpeg"] = jpeg_data[:at] + struct.pack(">HH", 65000, 65000) + jpeg_data[at + 4 :]
    tiff = bytearray(SAMPLES["tiff raw"])
    for tag in (256, 257):
        at = tiff.index(struct.pack("<H", tag), int.from_bytes(tiff[4:8], "little"))
        tiff[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 90000)
    forged["tiff"] = bytes(tiff)
    for name, data in forged.items():
        path = tmp_path / name
        path.write_bytes(data)
        for function in (read, probe):
            with pytest.raises(PictureTooLarge, match=r"max_pixels|memory"):
                function(path)


def test_the_limit_can_be_moved(tmp_path, monkeypatch):
    path = Picture.from_array(smooth(40, 50)).save(tmp_path / "a.webp")
    with pytest.raises(PictureTooLarge, match="50x40"):
        read(path, max_pixels=1999)
    assert read(path, max_pixels=2000).width == 50
    monkeypatch.setenv("RESTORA_MAX_PIXELS", "100")
    with pytest.raises(PictureTooLarge):
        probe(path)
    monkeypatch.setenv("RESTORA_MAX_PIXELS", "many")
    with pytest.raises(UsageError):
        read(path)
    monkeypatch.setenv("RESTORA_MAX_PIXELS", "")
    assert read(path).width == 50 and MAX_PIXELS >= 200_000_000
    with pytest.raises(UsageError):
        read(path, max_pixels=0)


def test_no_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(png(noise(), 2, 8, size=(0, 5), rows=[]))
    with pytest.raises(CorruptPicture):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    "data,word",
    [
        (b"just some text\n", "plain text"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"PK\x03\x04" + bytes(60), "ZIP"),
        (b"%PDF-1.7\n" + bytes(60), "PDF"),
        (struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
        (bytes(500), "no picture"),
    ],
)
def test_no_picture(tmp_path, data, word):
    path = tmp_path / "holiday.png"
    path.write_bytes(data)
    for function in (read, probe):
        with pytest.raises(NotAPicture, match=word):
            function(path)


def test_no_file(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(EmptyFile, match="is empty"):
        read(tmp_path / "empty.png")
    with pytest.raises(PictureError, match="does not exist"):
        read(tmp_path / "nowhere.png")
    with pytest.raises(PictureError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(PictureError, match="cannot be read"):
        read("a\0b.png")
    path = Picture.from_array(smooth()).save(tmp_path / "locked.png")
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(PictureError, match="permission"):
            read(path)


def test_denied(tmp_path, monkeypatch):
    path = Picture.from_array(smooth()).save(tmp_path / "a.png")

    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PictureError, match="permission denied"):
        read(path)


def test_camera_raw_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.dng", smooth(), photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)])
    with pytest.raises(UnsupportedPicture, match="raw"):
        read(tmp_path / "a.dng")


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp", *[".avif"] * HAS_AVIF])
def test_a_full_disk_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    picture = Picture.from_array(noise(300, 300))
    path = picture.save(tmp_path / f"a{suffix}")
    before = path.read_bytes()
    real = Path.open

    class Full:
        """A file that takes 100 bytes."""

        def __init__(self, file):
            self.file, self.room = file, 100

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def seek(self, *where):
            return self.file.seek(*where)

        def flush(self):
            self.file.flush()

        def fileno(self):
            raise io.UnsupportedOperation("fileno")

    monkeypatch.setattr(Path, "open", lambda self, *a, **k: Full(real(self, *a, **k)))
    with pytest.raises(PictureWriteError, match="No space left"):
        picture.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and left(tmp_path) == [path.name]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_failing_rename_leaves_the_old_file(tmp_path, monkeypatch, number):
    failure = OSError(number, os.strerror(number))
    path = Picture.from_array(smooth()).save(tmp_path / "a.png")
    before = path.read_bytes()

    def fail(self, target):
        raise failure

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(PictureWriteError, match=failure.strerror):
        Picture.from_array(noise()).save(path)
    assert path.read_bytes() == before and left(tmp_path) == ["a.png"]


def test_places_that_cannot_be_written(tmp_path):
    picture = Picture.from_array(smooth())
    with pytest.raises(PictureWriteError, match="does not exist"):
        picture.save(tmp_path / "nowhere" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureWriteError, match="is a folder"):
        picture.save(tmp_path / "folder.png")
    with pytest.raises(PictureWriteError):
        picture.save(tmp_path / ("n" * 300 + ".png"))
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if not os.access(locked, os.W_OK):
        with pytest.raises(PictureWriteError, match="ermission"):
            picture.save(locked / "a.png")
    assert left(tmp_path) == ["folder.png", "locked"]


def test_atomic_path(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("one")
        assert temporary.parent == tmp_path and temporary.suffix == ".txt" and not target.exists()
    assert target.read_text() == "one"
    for failure in (KeyboardInterrupt, ValueError):
        with pytest.raises(failure), atomic_path(target) as temporary:
            temporary.write_text("two")
            raise failure
    with pytest.raises(PictureWriteError, match="no file"), atomic_path(target):
        pass
    with pytest.raises(FileNotFoundError), atomic_path(target):
        (tmp_path / "an input").read_bytes()
    assert target.read_text() == "one" and left(tmp_path) == ["a.txt"]


def test_a_link_is_written_through_and_permissions_stay(tmp_path):
    target, link = tmp_path / "a.png", tmp_path / "b.png"
    Picture.from_array(smooth()).save(target)
    target.chmod(0o640)
    link.symlink_to(target.name)
    Picture.from_array(noise()).save(link)
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o640
    assert read(target).width == 33
    mask = os.umask(0o022)
    os.umask(mask)
    assert Picture.from_array(smooth()).save(tmp_path / "c.png").stat().st_mode & 0o777 == 0o666 & ~mask


def test_two_threads_read_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    before = Image.MAX_IMAGE_PIXELS
    paths = []
    for name, data in SAMPLES.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data if len(paths) % 3 else data[: len(data) // 2])
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(attempt, paths * 3))) == 3 * len(paths)
    assert before == Image.MAX_IMAGE_PIXELS


def test_importing_the_room_touches_no_torch():
    import subprocess
    import sys

    code = "import sys, restora.io; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

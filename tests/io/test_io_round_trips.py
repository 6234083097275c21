"""Every format, mode and depth: what is read is what was stored, and what is written is what was held."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from io_making import chunk, jpeg, noise, pil, png, smooth
from PIL import Image

from restora.errors import PictureWriteError, UnsupportedPicture, UsageError
from restora.io import READABLE, WRITABLE, Picture, format_of, probe, read

HAS_AVIF = ".avif" in READABLE


def opened(tmp_path, data, name="picture.bin"):
    """The picture of these bytes, and a check that the header alone says the same of it."""
    path = tmp_path / name
    path.write_bytes(data)
    picture = Picture.open(path)
    info = probe(path)
    assert (info.width, info.height, info.channels) == (picture.width, picture.height, picture.channels)
    assert (info.bit_depth, info.format, info.has_alpha) == (
        picture.bit_depth,
        picture.format,
        picture.alpha is not None,
    )
    assert info.file_size == len(data) and info.has_icc == (picture.metadata.icc is not None)
    assert picture.pixels.flags.c_contiguous and picture.pixels.flags.writeable
    return picture


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_round_trip(tmp_path, suffix, dtype, channels):
    if suffix == ".png" and dtype == np.float32:
        pytest.skip("PNG has no floats")
    array = noise(37, 29, channels, dtype)
    picture = Picture.from_array(array)
    path = picture.save(tmp_path / f"a{suffix}")
    back = opened(tmp_path, path.read_bytes(), f"b{suffix}")
    assert back.pixels.dtype == dtype and back.notes == ()
    np.testing.assert_array_equal(back.pixels, picture.pixels)
    if channels in (2, 4):
        np.testing.assert_array_equal(back.alpha, picture.alpha)
    else:
        assert back.alpha is None
    # and another decoder sees the same
    seen = (
        tifffile.imread(path) if suffix == ".tif" else cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    )
    if suffix == ".png" and channels >= 3:
        seen = seen[..., [2, 1, 0, 3][:channels]]
    elif suffix == ".png" and channels == 2:
        seen = seen[..., [0, 3]]
    np.testing.assert_array_equal(seen.reshape(array.shape), array)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_small_array_survives_png_and_tiff(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)))
    array = data.draw(arrays.arrays(dtype, shape))
    picture = Picture.from_array(array)
    folder = tmp_path_factory.mktemp("any")
    for suffix in ("png", "tif"):
        back = read(picture.save(folder / f"a.{suffix}"))
        np.testing.assert_array_equal(back.pixels, picture.pixels)
        assert (back.alpha is None) == (picture.alpha is None)
        if picture.alpha is not None:
            np.testing.assert_array_equal(back.alpha, picture.alpha)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (700, 900)])
def test_shapes_and_strips(tmp_path, shape):
    for dtype in (np.uint8, np.uint16):
        array = noise(*shape, 3, dtype)
        array[: shape[0] // 2] = 7  # flat and noisy strips take different ways
        for suffix in (".png", ".tiff"):
            path = Picture.from_array(array).save(tmp_path / f"a{suffix}")
            np.testing.assert_array_equal(read(path).pixels, array)
            if dtype == np.uint8:
                np.testing.assert_array_equal(np.asarray(Image.open(path)), array)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", *[".avif"] * HAS_AVIF])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_round_trip(tmp_path, suffix, channels):
    array = smooth(channels=channels)
    back = read(Picture.from_array(array).save(tmp_path / f"a{suffix}", quality=95))
    assert back.pixels.shape[:2] == array.shape[:2]
    if suffix == ".jpg":
        assert back.channels == channels
    assert np.abs(back.pixels.astype(int) - array).mean() < 2


def test_webp_lossless_with_alpha(tmp_path):
    array = noise(channels=4)
    picture = Picture.from_array(array)
    back = read(picture.save(tmp_path / "a.webp", lossless=True))
    np.testing.assert_array_equal(back.pixels, array[..., :3])
    np.testing.assert_array_equal(back.alpha, array[..., 3])
    picture.format = "png"  # from a lossless source it is lossless by itself, unless a quality is asked for
    np.testing.assert_array_equal(read(picture.save(tmp_path / "b.webp")).pixels, array[..., :3])
    assert (read(picture.save(tmp_path / "c.webp", quality=50)).pixels != array[..., :3]).any()
    grey = read(Picture.from_array(array[..., :2]).save(tmp_path / "d.webp", lossless=True))
    np.testing.assert_array_equal(grey.pixels, array[..., [0, 0, 0]])
    np.testing.assert_array_equal(grey.alpha, array[..., 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp(tmp_path, channels):
    array = noise(channels=channels)
    back = read(Picture.from_array(array).save(tmp_path / "a.bmp"))
    np.testing.assert_array_equal(back.pixels, np.broadcast_to(array, back.pixels.shape))


def test_bmp_with_alpha_is_read(tmp_path):
    array = noise(channels=4)
    head = struct.pack("<IiiHHIIiiII4I", 108, 33, 24, 1, 32, 3, 0, 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = np.ascontiguousarray(array[::-1, :, [2, 1, 0, 3]]).tobytes()
    data = b"BM" + struct.pack("<IHHI", 122 + len(rows), 0, 0, 122) + head.ljust(108, b"\0") + rows
    picture = opened(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, array[..., :3])
    np.testing.assert_array_equal(picture.alpha, array[..., 3])


@pytest.mark.parametrize("kind,channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("top", [40, 65535])
def test_16_bit_png_stays_16_bit(tmp_path, kind, channels, top):
    array = noise(channels=channels, dtype=np.uint16, top=top)
    picture = opened(tmp_path, png(array, kind, 16))
    colours = 1 if channels < 3 else 3
    assert picture.bit_depth == 16
    np.testing.assert_array_equal(picture.pixels, array[..., :colours])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, array[..., colours])


@pytest.mark.parametrize("kind", [0, 2])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_colour_key(tmp_path, kind, depth):
    array = noise(channels=3 if kind else 1, dtype=np.uint16 if depth == 16 else np.uint8)
    array[3:5, 7:9] = array[0, 0]
    data = png(array, kind, depth, chunk(b"tRNS", array[0, 0].astype(">u2").tobytes()))
    picture = opened(tmp_path, data)
    np.testing.assert_array_equal(picture.pixels, array)
    np.testing.assert_array_equal(picture.alpha == 0, (array == array[0, 0]).all(2))
    assert picture.alpha.max() == np.iinfo(array.dtype).max


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("key", [False, True])
def test_png_of_few_bits(tmp_path, depth, key):
    levels = noise(8, 16, 0, top=(1 << depth) - 1)
    bits = np.unpackbits(levels[..., None], axis=2)[..., -depth:].reshape(8, -1)
    rows = [row.tobytes() for row in np.packbits(bits, axis=1)]
    extra = chunk(b"tRNS", b"\0\1") if key else b""
    picture = opened(tmp_path, png(None, 0, depth, extra, rows, (8, 16)))
    np.testing.assert_array_equal(picture.pixels[..., 0], levels * (255 // ((1 << depth) - 1)))
    if key:
        np.testing.assert_array_equal(picture.alpha, np.where(levels == 1, 0, 255))
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("transparency", [None, b"\x00", bytes([0, 60, 128, 255])])
def test_palette(tmp_path, transparency):
    index = noise(channels=0, top=3)
    colours = noise(1, 4, 3, seed=5)[0]
    extra = chunk(b"PLTE", colours.tobytes()) + (chunk(b"tRNS", transparency) if transparency else b"")
    picture = opened(tmp_path, png(index, 3, 8, extra))
    np.testing.assert_array_equal(picture.pixels, colours[index])
    if transparency:
        np.testing.assert_array_equal(picture.alpha, np.frombuffer(transparency.ljust(4, b"\xff"), np.uint8)[index])
    else:
        assert picture.alpha is None


def test_interlaced_png_of_16_bits(tmp_path):
    # Adam7 by hand: seven small pictures one after the other
    array = noise(13, 11, 3, np.uint16)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(
        b"\0" + row.astype(">u2").tobytes() for y, x, h, w in passes for row in array[y::h, x::w] if row.size
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 13, 16, 2, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(opened(tmp_path, data).pixels, array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "PA"])
def test_from_pil(mode):
    image = Image.fromarray(noise(channels=4)).convert("RGBA" if mode in ("RGBA", "LA") else "RGB")
    image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    picture = Picture.from_pil(image)
    wanted = np.asarray(image.convert("RGBA" if picture.alpha is not None else "RGB"))
    np.testing.assert_array_equal(np.broadcast_to(picture.pixels, wanted[..., :3].shape), wanted[..., :3])
    assert (picture.alpha is not None) == (mode in ("LA", "RGBA", "PA"))
    assert picture.channels == (1 if mode in ("1", "L", "LA") else 3)


def test_from_pil_of_16_bits_and_floats():
    array = noise(channels=0, dtype=np.uint16)
    np.testing.assert_array_equal(Picture.from_pil(Image.fromarray(array)).pixels[..., 0], array)
    np.testing.assert_array_equal(Picture.from_pil(Image.fromarray(array.astype(np.int32))).pixels[..., 0], array)
    real = noise(channels=0, dtype=np.float32)
    np.testing.assert_array_equal(Picture.from_pil(Image.fromarray(real)).pixels[..., 0], real)
    with pytest.raises(UnsupportedPicture):
        Picture.from_pil(Image.fromarray(array.astype(np.int32) - 70000))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("how", ["plain", "deflate", "planes", "tiles", "big", "swapped"])
def test_tiffs_of_another_writer(tmp_path, dtype, channels, how):
    array = noise(50, 70, channels, dtype)
    array = array[..., 0] if channels == 1 else array
    options = {"photometric": "minisblack" if channels == 1 else "rgb"}
    stored = array
    if how == "deflate":
        options |= {"compression": "zlib", "rowsperstrip": 7}
    elif how == "tiles":
        options |= {"tile": (32, 48)}
    elif how == "planes" and channels > 1:
        stored, options = np.moveaxis(array, 2, 0), options | {"planarconfig": "separate"}
    file = io.BytesIO()
    tifffile.imwrite(file, stored, bigtiff=how == "big", byteorder=">" if how == "swapped" else "<", **options)
    picture = opened(tmp_path, file.getvalue())
    wanted = array.reshape(50, 70, -1)
    np.testing.assert_array_equal(picture.pixels, wanted[..., : 1 if channels == 1 else 3].astype(picture.pixels.dtype))
    assert picture.bit_depth == {1: 8, 2: 16}.get(np.dtype(dtype).itemsize, 32) or dtype == np.float16
    assert (picture.alpha is not None) == (channels == 4)
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, array[..., 3].astype(picture.alpha.dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [5, 8, 32946, 32773])
def test_tiffs_of_opencv(tmp_path, dtype, compression):
    array = noise(50, 70, 3, dtype)
    coded = cv2.imencode(".tif", array[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1]
    np.testing.assert_array_equal(opened(tmp_path, coded.tobytes()).pixels, array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
def test_tiffs_of_pillow(tmp_path, mode, compression):
    image = Image.fromarray(noise(60, 50, 4)).convert("RGBA" if mode in ("RGBA", "LA") else "RGB").convert(mode)
    if mode == "YCbCr" and compression is None:
        pytest.skip("written cut short by Pillow 11.0")
    picture = opened(tmp_path, pil(image, "TIFF", compression=compression))
    wanted = np.asarray(image.convert("RGBA" if mode in ("LA", "RGBA") else "RGB"))
    # libtiff's own conversion of YCbCr rounds otherwise than Pillow's
    difference = np.abs(picture.pixels.astype(int) - wanted[..., :3])
    assert difference.max() <= (1 if mode == "YCbCr" else 0)
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(picture.alpha, wanted[..., 3])


def test_jpeg_in_tiff(tmp_path):
    array = smooth()
    picture = opened(tmp_path, pil(array, "TIFF", compression="jpeg", quality=95))
    assert np.abs(picture.pixels.astype(int) - array).mean() < 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero(tmp_path, dtype):
    array = noise(channels=0, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels[..., 0], dtype(top) - array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_tiff_is_made_straight(tmp_path, dtype):
    straight, top = noise(channels=3, dtype=dtype), np.iinfo(dtype).max
    cover = noise(channels=0, dtype=dtype, seed=3) // 2 + top // 2
    stored = np.rint(straight * (cover[..., None] / top)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([stored, cover]), photometric="rgb", extrasamples=["assocalpha"])
    picture = read(tmp_path / "a.tif")
    assert np.abs(picture.pixels.astype(int) - straight).max() <= 2 and picture.notes
    np.testing.assert_array_equal(picture.alpha, cover)


def test_further_channels_and_pages_are_named(tmp_path):
    array = noise(channels=5)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha", "unspecified"])
    picture = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.alpha, array[..., 3])
    assert "further channel" in picture.notes[0]
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(array[..., :3], photometric="rgb")
        file.write(array[..., :3] // 2, photometric="rgb")
    picture = read(tmp_path / "b.tif")
    np.testing.assert_array_equal(picture.pixels, array[..., :3])
    assert "several pages" in picture.notes[0] and probe(tmp_path / "b.tif").animated


def test_float_tiff_keeps_values_outside_the_range(tmp_path):
    array = np.array([[[-3.5, 0.0, 1e6], [1e-30, 0.5, 2.0]]], np.float32)
    np.testing.assert_array_equal(read(Picture.from_array(array).save(tmp_path / "a.tif")).pixels, array)


def test_not_a_number_is_repaired_with_a_note(tmp_path):
    array = noise(dtype=np.float32)
    array[2, 3], array[4, 5, 0], array[5, 5, 0] = np.nan, np.inf, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    picture = read(tmp_path / "a.tif")
    good = array[np.isfinite(array)]
    assert (picture.pixels[2, 3] == 0).all() and "5 values" in picture.notes[0]
    assert (picture.pixels[4, 5, 0], picture.pixels[5, 5, 0]) == (good.max(), good.min())


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_lzw", "tiff_adobe_deflate"])
def test_predictor_of_floats(tmp_path, compression):
    array = noise(40, 50, 0, np.float32)
    data = pil(array, "TIFF", compression=compression, tiffinfo={317: 3})
    assert Image.open(io.BytesIO(data)).tag_v2[317] == 3
    np.testing.assert_array_equal(opened(tmp_path, data).pixels[..., 0], array)


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int8])
def test_tiffs_without_a_counterpart_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 5), dtype))
    with pytest.raises(UnsupportedPicture):
        read(tmp_path / "a.tif")


def test_jpeg_kinds(tmp_path):
    array = smooth()
    for options in ({"progressive": True}, {"subsampling": 2}, {"optimize": True}):
        data = jpeg(array, **options)
        np.testing.assert_array_equal(opened(tmp_path, data).pixels, np.asarray(Image.open(io.BytesIO(data))))
    grey = opened(tmp_path, jpeg(array[..., 0]))
    assert grey.channels == 1 and np.abs(grey.pixels[..., 0].astype(int) - array[..., 0]).mean() < 2


def test_animations_give_their_first_picture(tmp_path):
    frames = [Image.fromarray(noise(seed=i)) for i in range(3)]
    for format, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        file = io.BytesIO()
        frames[0].save(file, format, save_all=True, append_images=frames[1:], **options)
        picture = opened(tmp_path, file.getvalue())
        assert any("animation" in note for note in picture.notes), format
        if format != "GIF":
            np.testing.assert_array_equal(picture.pixels, np.asarray(frames[0]))


def test_gif_with_transparency(tmp_path):
    image = Image.fromarray(noise(channels=0, top=7)).convert("P")
    picture = opened(tmp_path, pil(image, "GIF", transparency=3))
    np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)
    assert read(picture.save(tmp_path / "a.png")).format == "png"
    with pytest.raises(UsageError):
        picture.save(tmp_path / "a.gif")


def test_content_and_not_the_name_decides(tmp_path):
    assert opened(tmp_path, jpeg(smooth()), "a.png").format == "jpeg"
    assert opened(tmp_path, pil(smooth(), "PNG"), "a.jpg").format == "png"


@pytest.mark.parametrize(
    "name", ["Gruß aus Köln 1932.png", "写真 (1).tif", "with space.jpg", "ö" * 100 + ".png", "пример.webp"]
)
def test_names(tmp_path, name):
    path = tmp_path / "ordner mit ü" / name
    path.parent.mkdir()
    assert Picture.from_array(smooth()).save(path) == path
    assert read(path).width == 64 and [p.name for p in path.parent.iterdir()] == [name]


def test_depths_are_reduced_by_rule_and_said_so(tmp_path):
    deep = noise(channels=4, dtype=np.uint16)
    picture = Picture.from_array(deep)
    assert picture.fits("png") == [] and picture.fits(".tif") == []
    assert len(picture.fits("jpg")) == 2  # depth and alpha
    exact = (deep[..., :3].astype(int) * 255 + 32767) // 65535
    np.testing.assert_array_equal(read(picture.save(tmp_path / "a.webp", lossless=True)).pixels, exact)
    real = Picture.from_array(noise(dtype=np.float32))
    assert len(real.fits("png")) == 2
    back = read(real.save(tmp_path / "a.png"))
    assert back.bit_depth == 16 and np.abs(back.pixels / 65535 - real.pixels.clip(0, 1)).max() <= 0.51 / 65535
    eight = Picture.from_array(noise())
    assert all(eight.fits(suffix) == [] for suffix in WRITABLE)


def test_alpha_goes_on_white(tmp_path):
    array = np.zeros((4, 4, 4), np.uint8)
    array[:2, :, 3] = 255
    pixels = read(Picture.from_array(array).save(tmp_path / "a.bmp")).pixels
    assert (pixels[:2] == 0).all() and (pixels[2:] == 255).all()


def test_wrong_usage(tmp_path):
    picture = Picture.from_array(smooth())
    for options in ({"quality": 0}, {"quality": 101}, {"quality": 9.5}, {"lossless": True}):
        with pytest.raises(UsageError):
            picture.save(tmp_path / "a.jpg", **options)
    with pytest.raises(UsageError, match=r"\.png.*\.webp"):
        picture.save(tmp_path / "a.xyz")
    with pytest.raises(UsageError):
        picture.save(tmp_path / "no suffix")
    assert picture.save(tmp_path / "no suffix", format="JPG").exists()
    with pytest.raises(PictureWriteError, match="16383"):
        Picture.from_array(np.zeros((1, 20000), np.uint8)).save(tmp_path / "a.webp")
    for bad in (np.zeros((3, 3, 5), np.uint8), np.zeros((3, 3), np.int64), np.zeros((0, 3), np.uint8), np.zeros(3)):
        with pytest.raises(UsageError):
            Picture.from_array(bad)
    with pytest.raises(UsageError):
        Picture.from_array(np.zeros((3, 3, 4), np.uint8), alpha=np.zeros((3, 3), np.uint8))
    with pytest.raises(UsageError):
        Picture.from_array(np.zeros((3, 3, 3), np.uint8), alpha=np.zeros((3, 4), np.uint8))
    assert format_of("a/B.JPEG") == "jpeg"


def test_from_array_and_replace():
    flags = np.eye(3, dtype=bool)
    assert Picture.from_array(flags).pixels[..., 0].tolist() == (flags * 255).tolist()
    assert Picture.from_array(noise(dtype=np.float64)).bit_depth == 32
    picture = Picture.from_array(noise(channels=3), alpha=noise(channels=0))
    picture.metadata.xmp = b"x"
    assert repr(picture) == "<Picture 33x24 RGB+alpha uint8>" and picture == picture and picture != picture.replace()
    larger = picture.replace(pixels=noise(48, 66), alpha=noise(48, 66, 0))
    assert (larger.height, larger.width, larger.metadata.xmp) == (48, 66, b"x")
    assert picture.replace(alpha=None).alpha is None
    with pytest.raises(UsageError):
        picture.replace(pixels=noise(48, 66))


def test_filled_draws_no_dark_fringe():
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        pixels = np.zeros((40, 60, 3), dtype)
        alpha = np.zeros((40, 60), dtype)
        pixels[10:30, 10:30], alpha[10:30, 10:30] = np.array([1, 0.5, 0.25]) * top, top
        pixels[:, 50:], alpha[:, 50:] = np.array([0, 1, 0]) * top, top
        picture = Picture.from_array(pixels, alpha)
        filled = picture.filled()
        assert filled.dtype == dtype and (filled.sum(axis=2) > 0).all()
        np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
        np.testing.assert_array_equal(filled[0, 0], pixels[20, 20])
        np.testing.assert_array_equal(filled[20, 48], pixels[0, 55])
        assert (picture.pixels == pixels).all()
        blurred = cv2.blur(filled.astype(np.float32), (5, 5))
        assert np.abs(blurred[10, 12:28] - pixels[20, 20].astype(np.float32)).max() < 1e-3 * top
    plain = Picture.from_array(noise())
    assert plain.filled() is plain.pixels
    empty = Picture.from_array(noise(channels=3), np.zeros((24, 33), np.uint8))
    assert empty.filled() is empty.pixels


def test_a_memory_map_is_written_with_bounded_memory(tmp_path):
    import tracemalloc

    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (3000, 4000, 3))
    array[:] = np.arange(4000, dtype=np.uint16).astype(np.uint8)[None, :, None]
    picture = Picture.from_array(array)
    tracemalloc.start()
    try:
        path = picture.save(tmp_path / "a.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not isinstance(path, str) and peak < array.nbytes * 2
    np.testing.assert_array_equal(read(path).pixels, array)

"""EXIF, XMP, profiles, resolution: kept, and made to agree with the pixels."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import tifffile
from io_making import XMP, chunk, cmyk_profile, exif, jpeg, noise, pil, png, profile, smooth, text_chunk, turned
from PIL import Image, ImageCms

from restora.io import READABLE, Metadata, Picture, probe, read
from restora.io.metadata import exif_orientation, sized_exif, tagged_exif, upright_exif

HAS_AVIF = ".avif" in READABLE
HOLDERS = [".png", ".jpg", ".webp", ".tif", *[".avif"] * HAS_AVIF]


def pil_exif(path):
    image = Image.open(io.BytesIO(path.read_bytes()))  # left open: the directories are read when asked for
    return image.getexif()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", *["AVIF"] * HAS_AVIF])
def test_orientation_is_applied_once(tmp_path, orientation, format):
    wanted = smooth(30, 44)
    wanted[:8, :12] = (250, 20, 20)
    stored = turned(wanted, orientation)
    block = exif(orientation, thumbnail=True)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 97, "subsampling": 0}, "AVIF": {"quality": 95}}.get(
        format, {}
    )
    path = tmp_path / "a.bin"
    packet = (XMP % orientation).ljust(400)
    if format == "TIFF":
        tags = [(274, 3, 1, orientation, True), (700, 1, 400, packet, True)]
        tifffile.imwrite(path, stored, photometric="rgb", extratags=tags)
    elif format == "PNG":
        extra = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)) + chunk(b"eXIf", block)
        path.write_bytes(png(stored, 2, 8, extra))
    else:
        path.write_bytes(pil(stored, format, exif=b"Exif\0\0" + block, xmp=packet, **options))
    info = probe(path)
    assert (info.width, info.height) == (44, 30)
    picture = read(path)
    difference = np.abs(picture.pixels.astype(int) - wanted)
    assert difference.max() == 0 if format in ("PNG", "WEBP", "TIFF") else difference.mean() < 3
    assert exif_orientation(picture.metadata.exif) == 1
    assert picture.metadata.xmp is not None and b'tiff:Orientation="1"' in picture.metadata.xmp
    for suffix in HOLDERS:
        out = picture.save(tmp_path / f"b{suffix}")
        assert pil_exif(out).get(274, 1) == 1
        assert np.abs(read(out).pixels.astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_orientation_of_tiff_and_of_alpha(tmp_path, orientation, dtype):
    wanted = noise(9, 14, 4, dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", turned(wanted, orientation), photometric="rgb", extratags=[(274, 3, 1, orientation, True)]
    )
    picture = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, wanted[..., :3])
    np.testing.assert_array_equal(picture.alpha, wanted[..., 3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_orientation_of_a_palette_tiff(tmp_path, orientation, compression):
    wanted = noise(9, 14, 0, top=7)
    image = Image.fromarray(turned(wanted, orientation)).convert("P")
    colours = np.asarray(image.convert("RGB"))
    (tmp_path / "a.tif").write_bytes(pil(image, "TIFF", tiffinfo={274: orientation}, compression=compression))
    picture = read(tmp_path / "a.tif")
    assert (probe(tmp_path / "a.tif").width, probe(tmp_path / "a.tif").height) == (14, 9)
    np.testing.assert_array_equal(turned(picture.pixels, orientation), colours)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bit_png_with_alpha(tmp_path, orientation):
    wanted = noise(9, 14, 4, np.uint16)
    data = png(turned(wanted, orientation), 6, 16, chunk(b"eXIf", exif(orientation, order=">")))
    (tmp_path / "a.png").write_bytes(data)
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, wanted[..., :3])
    np.testing.assert_array_equal(picture.alpha, wanted[..., 3])
    assert pil_exif(picture.save(tmp_path / "b.png"))[274] == 1


def test_orientation_from_pillow():
    wanted = noise(9, 14)
    image = Image.open(io.BytesIO(pil(turned(wanted, 6), "PNG", exif=exif(6))))
    picture = Picture.from_pil(image)
    np.testing.assert_array_equal(picture.pixels, wanted)
    assert exif_orientation(picture.metadata.exif) == 1


@pytest.mark.parametrize("order", "<>")
def test_exif_is_patched_and_not_rewritten(order):
    plain, turned_block = exif(1, order=order), exif(6, order=order)
    assert upright_exif(turned_block) == plain == upright_exif(plain)
    without = upright_exif(exif(6, thumbnail=True, order=order))
    assert without[: len(plain)] == plain and b"\xff\xd8" not in without and len(without) < len(plain) + 40
    seen = Image.Exif()
    seen.load(without)
    assert seen[274] == 1 and seen.get_ifd(34665)[0x927C] == b"\x01maker\xffnote\x00\x02\x03"
    larger = sized_exif(plain, 70000, 400)
    assert len(larger) == len(plain)
    seen.load(larger)
    assert (seen.get_ifd(34665)[0xA002], seen.get_ifd(34665)[0xA003]) == (70000, 400)


@pytest.mark.parametrize("order", "<>")
def test_software_is_set_without_touching_the_rest(tmp_path, order):
    picture = Picture.from_array(smooth(), metadata=Metadata(exif=exif(order=order)))
    for suffix in HOLDERS:
        out = picture.save(tmp_path / f"a{suffix}", software="Restora 0.1 (restored with carn_x4)")
        seen = pil_exif(out)
        assert seen[305] == "Restora 0.1 (restored with carn_x4)"
        assert seen[271] == "Restora Optical"
        assert seen.get_ifd(34665)[0x9003] == "1999:12:31 23:59:59"
        assert seen.get_ifd(34665)[0x927C] == b"\x01maker\xffnote\x00\x02\x03"
    assert pil_exif(Picture.from_array(smooth()).save(tmp_path / "b.jpg", software="Restora"))[305] == "Restora"
    blank = tagged_exif(None, {})
    assert exif_orientation(blank) == 1


@pytest.mark.parametrize("source", HOLDERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_everything_survives_a_chain_of_formats(tmp_path, source, dtype):
    icc = profile()
    metadata = Metadata(exif=exif(), icc=icc, xmp=XMP % 1, dpi=(300.0, 240.0))
    picture = Picture.from_array(noise(dtype=dtype), metadata=metadata)
    first = read(picture.save(tmp_path / f"a{source}"))
    for suffix in HOLDERS:
        again = read(first.save(tmp_path / f"b{suffix}"))
        assert again.metadata.icc == icc
        assert again.metadata.xmp == XMP % 1
        assert again.metadata.dpi == pytest.approx((300, 240), abs=0.51 if ".jpg" in (source, suffix) else 0.01)
        assert exif_orientation(again.metadata.exif) == 1
        seen = pil_exif(tmp_path / f"b{suffix}")
        assert seen.get_ifd(34665)[0x9003] == "1999:12:31 23:59:59" and seen[271] == "Restora Optical"
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.info.get("icc_profile") == icc
    bare = read(first.save(tmp_path / f"c{source}", metadata=False)).metadata
    assert bare.icc == icc and not bare.xmp and (bare.exif is None or b"Optical" not in bare.exif)


def test_sizes_in_exif_follow_the_pixels(tmp_path):
    picture = Picture.from_array(smooth(), metadata=Metadata(exif=exif()))
    for suffix in HOLDERS:
        seen = pil_exif(picture.replace(pixels=smooth(96, 128)).save(tmp_path / f"a{suffix}")).get_ifd(34665)
        assert (seen[0xA002], seen[0xA003]) == (128, 96)


def test_png_texts_and_jpeg_captions_survive(tmp_path):
    extra = text_chunk("Author", "B. Abbott") + chunk(b"gAMA", b"\0\0\xb1\x8f")
    (tmp_path / "a.png").write_bytes(png(noise(), 2, 8, extra))
    picture = read(tmp_path / "a.png")
    with Image.open(picture.save(tmp_path / "b.png")) as image:
        assert image.info["Author"] == "B. Abbott" and image.info["gamma"] == pytest.approx(0.45455)
    assert "PNG text" in picture.fits("jpg")[0]
    captions = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06\x1c\x02\x78\0\x01A"
    segment = b"\xff\xed" + (len(captions) + 2).to_bytes(2, "big") + captions
    (tmp_path / "a.jpg").write_bytes(jpeg(smooth(), comment=b"a comment", extra=segment))
    picture = read(tmp_path / "a.jpg")
    again = read(picture.save(tmp_path / "b.jpg")).metadata
    assert again.iptc == captions and again.comment == b"a comment"


def test_imagemagicks_exif_in_a_text_counts(tmp_path):
    wanted = noise(9, 14)
    hexed = f"\nexif\n{len(exif(6)) + 6:8d}\n{(b'Exif' + bytes(2) + exif(6)).hex()}\n"
    (tmp_path / "a.png").write_bytes(png(turned(wanted, 6), 2, 8, text_chunk("Raw profile type exif", hexed)))
    picture = read(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.pixels, wanted)
    assert picture.metadata.chunks == () and picture.metadata.exif == exif(1)


def test_metadata_that_does_not_fit_is_named(tmp_path):
    big = tagged_exif(exif(), {}) + bytes(70000)
    picture = Picture.from_array(smooth(), metadata=Metadata(exif=big, xmp=b"x" * 70000, icc=profile()))
    assert picture.fits("jpg") == ["Not kept in JPEG: EXIF, XMP."]
    assert picture.fits("bmp") == ["Not kept in BMP: EXIF, the colour profile, XMP."]
    back = read(picture.save(tmp_path / "a.jpg"))
    assert back.metadata.exif is None and back.metadata.icc == profile()
    assert read(picture.save(tmp_path / "a.png")).metadata.xmp == b"x" * 70000


def test_a_large_profile_takes_several_segments(tmp_path):
    icc = profile() + np.random.default_rng(0).bytes(200_000)
    icc = len(icc).to_bytes(4, "big") + icc[4:]
    picture = Picture.from_array(smooth(), metadata=Metadata(icc=icc))
    for suffix in HOLDERS:
        assert read(picture.save(tmp_path / f"a{suffix}")).metadata.icc == icc


def test_damaged_exif_does_not_stop_a_picture(tmp_path):
    for block in (b"nonsense", exif()[:9], b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff"):
        (tmp_path / "a.jpg").write_bytes(jpeg(smooth(), exif=b"Exif\0\0" + block))
        picture = read(tmp_path / "a.jpg")
        assert picture.metadata.exif is None
        picture.save(tmp_path / "b.jpg", software="Restora")


def test_cmyk_without_a_profile(tmp_path):
    image = Image.fromarray(smooth()).convert("CMYK")
    data = jpeg(image, quality=100)
    (tmp_path / "a.jpg").write_bytes(data)
    picture = read(tmp_path / "a.jpg")
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(picture.pixels, wanted)
    assert np.abs(picture.pixels.astype(int) - smooth()).mean() < 4  # Adobe's inversion was undone
    assert picture.notes == ("CMYK was converted to sRGB without a profile.",)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_by_its_profile(tmp_path, format):
    icc = cmyk_profile()
    image = Image.fromarray(smooth()).convert("CMYK")
    options = {"quality": 100} if format == "JPEG" else {}
    data = pil(image, format, icc_profile=icc, **options)
    (tmp_path / "a.jpg").write_bytes(data)
    picture = read(tmp_path / "a.jpg")
    stored = Image.open(io.BytesIO(data))
    wanted = ImageCms.profileToProfile(
        stored,
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    np.testing.assert_array_equal(picture.pixels, np.asarray(wanted))
    assert np.abs(picture.pixels.astype(int) - np.asarray(stored.convert("RGB"))).max() > 20
    assert picture.metadata.icc is None and picture.notes == ("CMYK was converted to sRGB.",)
    assert picture.colour_transform().is_identity


def test_a_grey_profile_is_not_put_on_colour(tmp_path):
    grey = profile()[:16] + b"GRAY" + profile()[20:]
    picture = Picture.from_array(noise(channels=1), metadata=Metadata(icc=grey))
    assert read(picture.save(tmp_path / "a.png")).metadata.icc == grey
    assert read(picture.replace(pixels=noise()).save(tmp_path / "b.png")).metadata.icc is None


def test_gain_maps_are_named(tmp_path):
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "MPO", save_all=True, append_images=[Image.fromarray(smooth(8, 8))])
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    picture = read(tmp_path / "a.jpg")
    assert picture.width == 64 and "further pictures" in picture.notes[0]

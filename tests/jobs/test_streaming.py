"""Pictures that are streamed: the bytes of those that are not, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import restora
from restora import jobs, networks
from restora.errors import EngineError
from restora.io import coding_threads, tiff
from restora.io.rows import RowPicture, RowSink
from restora.jobs import streaming
from restora.restorers import Enhancer
from restora.restorers.upscale import Source
from tests.conftest import make_photo

SIZE = (150, 210)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"rowsperstrip": 16},
    "deflate strips": {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
    "tiles": {"tile": (32, 48), "compression": "zlib"},
    "big": {"bigtiff": True, "rowsperstrip": 32},
    "planes": {"planarconfig": "separate", "rowsperstrip": 20},
}


def picture(kind: str = "uint8", grey: bool = False) -> np.ndarray:
    photo = make_photo(*SIZE)
    photo = photo[..., 0] if grey else photo
    if kind == "uint16":
        return photo.astype(np.uint16) * 257
    return photo.astype(np.float32) / 255 if kind == "float32" else photo


def write(path: Path, array: np.ndarray, **options: Any) -> Path:
    if options.get("planarconfig"):
        array = np.moveaxis(array, -1, 0)
    options.setdefault("photometric", "rgb" if array.ndim == 3 else "minisblack")
    tifffile.imwrite(path, array, **options)
    return path


def done(restorer: Any, source: Path, out: Path, controls: dict[str, Any]) -> tuple[restora.Picture, list[str]]:
    events: list[tuple[str, dict[str, Any]]] = []
    items = jobs.assign([(source, Path(source.name))], out, "", "auto")
    summary = jobs.run_job(restorer, items, jobs.Output(out), controls, lambda e, d: events.append((e, d)))
    assert not summary.failed, summary.failed
    progress = [d["done"] / d["total"] for e, d in events if e == "progress"]
    assert progress and progress == sorted(progress) and progress[-1] == 1
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [".restora.jsonl"]
    notes = next(d["notes"] for e, d in events if e == "done")
    return restora.Picture.open(summary.done[0]), notes


def both(restorer: Any, source: Path, tmp_path: Path, controls: dict[str, Any], monkeypatch: Any) -> None:
    """Streamed and not streamed: the same pixels and metadata."""
    monkeypatch.setattr(streaming, "ABOVE", 1 << 40)
    usual, notes = done(restorer, source, tmp_path / "usual", controls)
    assert not any("Streamed" in n for n in notes)
    monkeypatch.setattr(streaming, "ABOVE", 0)
    streamed, notes = done(restorer, source, tmp_path / "streamed", controls)
    assert any("Streamed" in n for n in notes)
    assert streamed.pixels.dtype == usual.pixels.dtype
    assert np.array_equal(streamed.pixels, usual.pixels)
    assert streamed.metadata == usual.metadata


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_windows_are_those_of_the_whole(way: str, kind: str, tmp_path: Path) -> None:
    array = picture(kind)
    found = RowPicture.open(write(tmp_path / "a.tif", array, **WAYS[way]))
    assert found is not None and found.rows.shape == array.shape and found.rows.dtype == array.dtype
    for rows, columns in [((0, 5), (0, 210)), ((3, 90), (17, 60)), ((80, 150), (100, 210)), ((0, 1), (0, 1))]:
        window = slice(*rows), slice(*columns)
        assert np.array_equal(found.rows[window], array[window])


def test_only_some_rows_are_in_memory(tmp_path: Path) -> None:
    found = RowPicture.open(write(tmp_path / "a.tif", picture(), rowsperstrip=8))
    assert found is not None
    for top in range(0, 140, 10):
        found.rows[top : top + 10, :]
        assert sum(len(piece) for piece in found.rows._held.values()) <= 24


def test_a_large_strip_that_is_not_packed_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_PIECE", 4096)
    for rows in (150, 60):
        found = RowPicture.open(write(tmp_path / "a.tif", picture(), rowsperstrip=rows))
        assert found is not None
        assert np.array_equal(found.rows[0:150, 0:210], picture())
        found.rows[70:72, :]
        assert sum(len(piece) for piece in found.rows._held.values()) < 20


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("grey", [False, True])
def test_enlarging(kind: str, grey: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.tif", picture(kind, grey), rowsperstrip=16, resolution=(300, 300))
    both(restora.load("fsrcnn_x2", tile=48), source, tmp_path, {}, monkeypatch)


@pytest.mark.parametrize("scale", [3.5, 6])
def test_chains_and_resampling(scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.tif", picture()[:60, :80], compression="zlib", rowsperstrip=8)
    both(restora.load("fsrcnn", tile=48), source, tmp_path, {"scale": scale}, monkeypatch)
    both(restora.load("bicubic"), source, tmp_path / "b", {"scale": scale}, monkeypatch)


@pytest.mark.parametrize("controls", [{}, {"strength": 0.4}, {"ensemble": True}])
def test_same_size(controls: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = networks.create("dncnn_color_blind").eval()
    restorer = Enhancer("net.pth", Source("net.pth", "abc", lambda: net))
    restorer.settings = restora.engine.Settings(tile=64)
    both(restorer, write(tmp_path / "a.tif", picture()[:96, :100], rowsperstrip=8), tmp_path, controls, monkeypatch)


def test_statistics_of_the_whole_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = networks.create("nafnet_sidd_width32", width=8, enc_blk_nums=(1,), dec_blk_nums=(1,), middle_blk_num=1)
    restora.engine.enliven(net.eval(), 0)
    restorer = Enhancer("net.pth", Source("net.pth", "abc", lambda: net))
    restorer.settings = restora.engine.Settings(tile=64)
    both(restorer, write(tmp_path / "a.tif", picture(), rowsperstrip=8), tmp_path, {}, monkeypatch)


def test_a_huge_picture_is_divided_among_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ABOVE", 0)
    source = write(tmp_path / "a.tif", picture(), rowsperstrip=16)
    restorer = restora.load("fsrcnn_x2", tile=16, device="cpu", threads=2)
    items = jobs.assign([(source, Path("a.tif"))], tmp_path / "one", "", "auto")
    assert jobs.run_job(restorer, items, jobs.Output(tmp_path / "one"), {}, lambda *_: None).done
    items = jobs.assign([(source, Path("a.tif"))], tmp_path / "two", "", "auto")
    events: list[tuple[str, dict[str, Any]]] = []
    crew = jobs.Crew(2)
    summary = jobs.run_job(
        restorer, items, jobs.Output(tmp_path / "two"), {}, lambda e, d: events.append((e, d)), crew=crew
    )
    assert not summary.failed, summary.failed
    assert (tmp_path / "two" / "a.tif").read_bytes() == (tmp_path / "one" / "a.tif").read_bytes()
    assert [p.name for p in (tmp_path / "two").iterdir() if p.name != "a.tif"] == [".restora.jsonl"]
    assert [e for e, _ in events if e != "progress"] == ["start", "file", "done", "end"]
    shares = [d["done"] / d["total"] for e, d in events if e == "progress"]
    assert len(shares) > 8 and shares == sorted(shares) and shares[-1] == 1
    assert any("8 parts" in note for e, d in events if e == "done" for note in d["notes"])


@pytest.mark.parametrize("count", [1, 3, 40])
def test_parts_make_the_whole(count: int, tmp_path: Path) -> None:
    picture_file = write(tmp_path / "a.tif", picture(), rowsperstrip=16)
    restorer = restora.load("fsrcnn_x2", device="cpu")
    settings = restora.engine.Settings("cpu", tile=32)
    nothing: Any = lambda *_: None  # noqa: E731
    found = [RowPicture.open(picture_file) for _ in range(count)]
    bands = [
        streaming.band(restorer, f, tmp_path / "b.tif", {}, settings, nothing, lambda: False, (n, count))
        for n, f in enumerate(found)
        if f is not None
    ]
    first = RowPicture.open(picture_file)
    assert first is not None
    held, _ = streaming.joined(restorer, first, tmp_path / "b.tif", {}, bands, 0.0)
    whole = restorer(tmp_path / "a.tif", settings=settings)
    assert np.array_equal(restora.Picture.open(held).pixels, whole.array)
    with pytest.raises(EngineError, match="--tile"):
        streaming.joined(
            restorer,
            first,
            tmp_path / "b.tif",
            {},
            bands[:-2] or bands[:0] or [(held, {**bands[0][1], "rows": 0})],
            0.0,
        )


def test_what_cannot_be_streamed_goes_the_usual_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ABOVE", 0)
    rgba = np.dstack([picture()[:40, :50], np.full((40, 50), 7, np.uint8)])
    transparent = write(tmp_path / "alpha.tif", rgba, extrasamples=["unassalpha"])
    assert RowPicture.open(transparent) is None
    result, notes = done(restora.load("fsrcnn_x2"), transparent, tmp_path / "out", {})
    assert result.alpha is not None and not any("Streamed" in n for n in notes)
    cv2.imwrite(str(tmp_path / "a.webp"), picture()[:40, :50])
    _, notes = done(restora.load("fsrcnn_x2"), tmp_path / "a.webp", tmp_path / "out", {})
    assert not any("Streamed" in n for n in notes)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("grey", [False, True])
def test_other_files_are_enlarged_to_the_disk(
    suffix: str, kind: str, grey: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = restora.Picture.from_array(picture(kind, grey))
    given.metadata.dpi = (300.0, 300.0)
    source = given.save(tmp_path / "a.png")
    restorer = restora.load("fsrcnn_x2", tile=48)
    usual = restorer(source)
    whole = usual.save(tmp_path / f"whole.{suffix}")
    items = jobs.assign([(source, Path("a"))], tmp_path / "out", "", suffix)
    results = {}
    monkeypatch.setattr(streaming, "ABOVE", 0)
    summary = jobs.run_job(restorer, items, jobs.Output(tmp_path / "out"), {}, lambda e, d: results.update({e: d}))
    assert not summary.failed, summary.failed
    (made,) = summary.done
    one, other = restora.Picture.open(made), restora.Picture.open(whole)
    assert made.suffix == f".{suffix}" and np.array_equal(one.pixels, other.pixels)
    assert one.metadata.dpi == other.metadata.dpi == (300.0, 300.0)
    notes = results["done"]["notes"]
    assert any("Streamed" in note for note in notes)
    assert any("rounded to 8 bits" in note for note in notes) == (suffix == "jpg" and kind == "uint16")
    if suffix == "png":
        assert made.stat().st_size == pytest.approx(whole.stat().st_size, rel=0.1)  # the name of the model is in it


def test_what_cannot_be_written_is_said_before_anything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ABOVE", 0)
    source = restora.Picture.from_array(picture()[:40, :50]).save(tmp_path / "a.png")
    items = jobs.assign([(source, Path("a"))], tmp_path / "out", "", "jpg")
    output = jobs.Output(tmp_path / "out", lossless=True)
    summary = jobs.run_job(restora.load("fsrcnn_x2"), items, output, {}, lambda *_: None)
    assert "not lossless" in summary.failed[source] and not list((tmp_path / "out").iterdir())


def test_a_picture_cut_short_fails_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ABOVE", 0)
    source = write(tmp_path / "a.tif", picture(), rowsperstrip=8)
    source.write_bytes(source.read_bytes()[: SIZE[0] * SIZE[1] * 2])
    items = jobs.assign([(source, Path("a.tif"))], tmp_path / "out", "", "auto")
    summary = jobs.run_job(restora.load("fsrcnn_x2"), items, jobs.Output(tmp_path / "out"), {}, lambda *_: None)
    assert "a.tif" in summary.failed[source]
    assert not list((tmp_path / "out").iterdir())


def test_a_sink_takes_parts_in_any_order_of_columns() -> None:
    array = np.arange(10 * 7 * 3, dtype=np.uint16).reshape(10, 7, 3)
    got: list[tuple[int, np.ndarray]] = []
    sink = RowSink(array.shape, np.uint16, lambda first, rows: got.append((first, rows.copy())), 2)
    for rows, columns in [((0, 5), (4, 7)), ((0, 2), (0, 4)), ((2, 5), (0, 4)), ((5, 10), (0, 7))]:
        window = slice(*rows), slice(*columns)
        sink[window] = array[window]
    assert [first for first, _ in got] == [0, 2, 4]
    assert np.array_equal(np.concatenate([rows for _, rows in got]), array)


def test_above_4_gib_a_bigtiff_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[271] = "A maker"
    exif.get_ifd(34665)[36867] = "2020:02:20 20:20:20"  # a directory of its own
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300))
    before = restora.Picture.open(tmp_path / "a.jpg")
    before.save(tmp_path / "classic.tif")
    monkeypatch.setattr(tiff, "_CLASSIC", 1000)
    before.save(tmp_path / "big.tif")
    assert (tmp_path / "big.tif").read_bytes()[:4] == b"II+\0"
    assert np.array_equal(tifffile.imread(tmp_path / "big.tif"), before.pixels)
    classic, big = (restora.Picture.open(tmp_path / f"{name}.tif") for name in ("classic", "big"))
    assert np.array_equal(big.pixels, before.pixels) and big.metadata == classic.metadata
    assert big.metadata.exif is not None and b"2020:02:20" in big.metadata.exif and big.metadata.dpi == (300, 300)


def test_one_thread_codes_as_several(tmp_path: Path) -> None:
    array = restora.Picture.from_array(np.tile(picture(), (4, 4, 1)))
    array.save(tmp_path / "several.tif")
    with coding_threads(1):
        array.save(tmp_path / "one.tif")
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "several.tif").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory by Linux's way")
def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    script = (
        "import sys, resource, restora; from pathlib import Path; from restora import jobs; from restora.jobs import streaming;"
        "streaming.ABOVE = 0; p = Path(sys.argv[1]); o = Path(sys.argv[2]);"
        "s = jobs.run_job(restora.load('fsrcnn_x2', threads=1, tile=256), jobs.assign([(p, Path(p.name))], o, '', 'auto'), jobs.Output(o), {}, lambda *_: None);"
        "assert s.done; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for megapixels in (1, 16):
        array = np.tile(make_photo(500, 500), (megapixels * 2, 2, 1))
        write(tmp_path / f"{megapixels}.tif", array, rowsperstrip=64)
        command = [sys.executable, "-c", script, tmp_path / f"{megapixels}.tif", tmp_path / "out"]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    # 15 megapixels more would be 45 MB in and 180 MB out
    assert peaks[1] - peaks[0] < 60_000

"""Bad and odd inputs: what each gives, and whether anything is lost.

Every case is a folder with inputs and a command. It passes when the command ends with the expected exit code, says a
sentence where something is wrong, raises nothing else, leaves its inputs untouched and leaves no half-written file.

    python benchmarks/faults.py [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from PIL import Image, ImageCms

SCALE = 2


def photo(height: int = 30, width: int = 40, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Something with structure; uint16 covers a part of its range only."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * 5 + y * 3 + 40 * c) % 200 + 20 for c in range(channels)]
    return np.stack(planes, axis=-1).astype(dtype).squeeze()


def jpeg(array: np.ndarray | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo() if array is None else array).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def png(image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(photo())).save(buffer, "PNG", **options)
    return buffer.getvalue()


def cv(array: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif.tobytes())


def wide_gamut() -> bytes:
    """An ICC profile that is not sRGB: Pillow's own, with its red primary moved."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    for n in range(count):
        tag, offset, _ = struct.unpack(">4sII", profile[132 + 12 * n : 144 + 12 * n])
        if tag == b"rXYZ":
            profile[offset + 8 : offset + 12] = struct.pack(">i", int(0.61 * 65536))
    return png(icc_profile=bytes(profile))


def palette(transparency: object) -> bytes:
    return png(Image.fromarray(photo()).quantize(16), transparency=transparency)


class Evil:
    """Would make a file when unpickled."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch RESTORA_WAS_HERE",))


def weights(kind: str) -> bytes:
    import torch

    from restora import networks

    buffer = io.BytesIO()
    state = dict(networks.create("fsrcnn_x2").state_dict())
    if kind == "evil":
        torch.save({"params": Evil()}, buffer)
    elif kind == "evil bare":
        return pickle.dumps(Evil())
    elif kind == "shape":
        state["last_part.weight"] = torch.zeros(56, 1, 7, 7)
        torch.save(state, buffer)
    elif kind == "missing":
        del state["mid_part.3.weight"]
        torch.save(state, buffer)
    elif kind == "nan":
        state["last_part.bias"] = torch.full((1,), float("nan"))
        torch.save(state, buffer)
    elif kind == "foreign":
        torch.save({"layer.weight": torch.zeros(3, 3)}, buffer)
    else:
        torch.save(state, buffer)
    return buffer.getvalue()


@dataclass
class Case:
    """`files`: name -> content (made when run); `code`: expected exit code; `says`: part of the message; `out`: files that
    must come out; `arguments` are added to the command; `setup` may prepare the folder further."""

    name: str
    files: dict[str, Callable[[], bytes]]
    code: int = 0
    says: str = ""
    out: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    setup: Callable[[Path], contextlib.AbstractContextManager | None] = lambda folder: None


def _good(name: str, file: str, make: Callable[[], bytes], out: str | None = None, **more: object) -> Case:
    stem, _, ending = file.rpartition(".")
    return Case(name, {file: make}, out=(out or f"{stem}_x2.{ending}",), **more)  # type: ignore[arg-type]


def _bad(name: str, file: str, make: Callable[[], bytes], says: str) -> Case:
    # a sound picture beside the bad one has to come out all the same
    return Case(name, {file: make, "sound.png": png}, 1, says, ("sound_x2.png",))


def _failing_disk(folder: Path) -> contextlib.AbstractContextManager:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    return mock.patch.object(Path, "replace", full)


def _occupied(folder: Path) -> None:
    (folder / "out").write_text("a file, not a folder")


def _users_file(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a_x2.png").write_bytes(b"the user's own")


def _read_only(folder: Path) -> contextlib.AbstractContextManager:
    (folder / "out").mkdir()
    real = Path.open

    def refuse(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if set(mode) & set("wxa") and path.parent.name == "out":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, mode, *rest, **more)

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        (folder / "out").chmod(0o555)
        # the superuser may write everywhere: for them the call that would be refused plays it
        with mock.patch.object(Path, "open", refuse) if os.geteuid() == 0 else contextlib.nullcontext():
            yield
        (folder / "out").chmod(0o755)

    return context()


CASES = [
    # damaged or no pictures
    _bad("truncated JPEG", "a.jpg", lambda: half(jpeg()), "a.jpg"),
    _bad("JPEG cut in its last bytes", "a.jpg", lambda: jpeg(photo(200, 200))[:-40], "a.jpg"),
    _bad("truncated PNG", "a.png", lambda: half(png()), "a.png"),
    _bad("PNG with a wrong checksum", "a.png", lambda: png()[:60] + b"\xff" + png()[61:], "a.png"),
    _bad("truncated TIFF", "a.tif", lambda: half(cv(photo(), ".tiff")), "a.tif"),
    _bad("truncated WebP", "a.webp", lambda: half(cv(photo(200, 200), ".webp")), "a.webp"),
    _bad("zero bytes", "a.png", lambda: b"", "empty"),
    _bad("one byte", "a.png", lambda: b"\x89", "a.png"),
    _bad("text renamed .png", "a.png", lambda: b"Dear all,\n" * 50, "a.png"),
    _bad("HTML renamed .jpg", "a.jpg", lambda: b"<!doctype html><html></html>", "a.jpg"),
    _bad("ZIP renamed .tif", "a.tif", lambda: b"PK\x03\x04" + b"\0" * 100, "a.tif"),
    _bad("random bytes", "a.bmp", lambda: np.random.default_rng(0).bytes(4000), "a.bmp"),
    _bad("PNG signature and nothing else", "a.png", lambda: b"\x89PNG\r\n\x1a\n", "a.png"),
    _bad("decompression bomb, 3.6 gigapixels", "a.png", lambda: bomb(60000, 60000), "a.png"),
    _bad("zero width", "a.png", lambda: bomb(0, 10), "a.png"),
    _bad("JPEG header, PNG body", "a.jpg", lambda: jpeg()[:20] + png(), "a.jpg"),
    Case("a file that is not there", {"sound.png": png}, 1, "absent.png", ("sound_x2.png",), inputs=("absent.png", "sound.png")),
    Case("a pattern that matches nothing", {}, 2, "Nothing matches", inputs=("*.xyz",)),
    Case("an empty folder", {}, 2, "no pictures", inputs=("in",)),
    # odd but sound pictures
    _good("1x1", "a.png", lambda: png(Image.new("RGB", (1, 1), "red"))),
    _good("1x5000", "a.png", lambda: png(Image.new("RGB", (1, 5000), "red"))),
    _good("5000x1", "a.png", lambda: png(Image.new("L", (5000, 1), 77))),
    _good("CMYK JPEG", "a.jpg", lambda: _cmyk()),
    _good("palette with transparency", "a.png", lambda: palette(3)),
    _good("palette with partial transparency", "a.png", lambda: palette(bytes(range(0, 256, 16)))),
    _good("1-bit", "a.png", lambda: png(Image.fromarray(photo()).convert("1"))),
    _good("grey with alpha", "a.png", lambda: png(Image.fromarray(photo(channels=2)))),
    _good("RGBA", "a.png", lambda: png(Image.fromarray(photo(channels=4)))),
    _good("16-bit RGBA", "a.png", lambda: cv(photo(channels=4, dtype=np.uint16) * 3, ".png")),
    _good("16-bit grey, darker than 8 bits", "a.png", lambda: cv(photo(channels=1, dtype=np.uint16), ".png")),
    _good("16-bit TIFF", "a.tif", lambda: cv(photo(dtype=np.uint16), ".tiff")),
    _good("float TIFF beyond [0, 1]", "a.tif", lambda: cv(photo().astype(np.float32) / 100 - 0.5, ".tiff")),
    _good("BMP", "a.bmp", lambda: cv(photo(), ".bmp")),
    _good("WebP", "a.webp", lambda: cv(photo(), ".webp")),
    _good("GIF becomes PNG", "a.gif", lambda: _gif(), "a_x2.png"),
    _good("progressive JPEG", "a.jpg", lambda: jpeg(progressive=True)),
    _good("JPEG named .png", "a.png", jpeg),
    _good("no extension", "picture", png, "picture_x2.png"),
    *[_good(f"EXIF orientation {n}", "a.jpg", lambda n=n: rotated(n)) for n in range(1, 9)],
    _good("EXIF that is garbage", "a.jpg", lambda: jpeg(exif=b"Exif\0\0garbage garbage")),
    _good("wide-gamut ICC", "a.png", wide_gamut),
    _good("ICC that is garbage", "a.png", lambda: png(icc_profile=b"no profile at all")),
    _good("name in Unicode with spaces", "Grüße aus 東京 🗻.png", png),
    _good("name like an option", "-n.png", png, inputs=("./in/-n.png",)),
    _good("name with brackets", "a [1].png", png, inputs=("in/a [1].png",)),
    Case("the same name twice", {"x/a.png": png, "y/a.png": png}, out=("a_x2.png", "a_x2_2.png"), inputs=("in/x/a.png", "in/y/a.png")),
    # places that cannot be written
    Case("read-only output folder", {"a.png": png}, 1, "a_x2.png", setup=_read_only),
    Case("output folder is a file", {"a.png": png}, 1, "out", setup=_occupied),
    Case("disk full while saving", {"a.png": png}, 1, "No space left", setup=_failing_disk),
    Case("a file of the user's own in the way", {"a.png": png}, 1, "--overwrite", ("a_x2.png",), setup=_users_file),
    Case("result would replace the input", {"a.png": png}, 2, "replace", arguments=("-o", "in", "--suffix", "")),
    # weights
    Case("malicious pickle", {"a.png": png, "w_x2.pth": lambda: weights("evil")}, 1, "refused", arguments=("-n", "in/w_x2.pth")),
    Case("malicious bare pickle", {"a.png": png, "w_x2.pth": lambda: weights("evil bare")}, 1, "refused", arguments=("-n", "in/w_x2.pth")),
    Case("weights with a wrong shape", {"a.png": png, "w_x2.pth": lambda: weights("shape")}, 1, "no network known", arguments=("-n", "in/w_x2.pth")),
    Case("weights with a key missing", {"a.png": png, "w_x2.pth": lambda: weights("missing")}, 1, "missing", arguments=("-n", "in/w_x2.pth")),
    Case("weights of another program", {"a.png": png, "w.pth": lambda: weights("foreign")}, 1, "no network known", arguments=("-n", "in/w.pth")),
    Case("weights of unknown scale", {"a.png": png, "w.pth": lambda: weights("")}, 2, "--scale", arguments=("-n", "in/w.pth", "-s", "3.5")),
    Case("weights with NaN", {"a.png": png, "w_x2.pth": lambda: weights("nan")}, 1, "NaN", arguments=("-n", "in/w_x2.pth")),
    Case("truncated weights", {"a.png": png, "w_x2.pth": lambda: weights("")[:5000]}, 1, "w_x2.pth", arguments=("-n", "in/w_x2.pth")),
    Case("picture as weights", {"a.png": png}, 1, "checkpoint", arguments=("-n", "./in/a.png")),
]  # fmt: skip


def _cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo()).convert("CMYK").save(buffer, "JPEG")
    return buffer.getvalue()


def _gif() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo()).quantize(16).save(buffer, "GIF")
    return buffer.getvalue()


@dataclass
class Outcome:
    """What a case gave; `problems` is empty when it is as it should be."""

    name: str
    code: int
    message: str
    problems: list[str]


def run_case(case: Case, folder: Path) -> Outcome:
    """Runs one case in a folder of its own, in this process."""
    from restora import cli

    source = folder / "in"
    source.mkdir()
    for name, make in case.files.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(make())
    before = _state(source)
    mine = case.setup(folder)
    kept = _state(folder / "out") if (folder / "out").is_dir() else {}
    pictures = [f"in/{n}" for n in case.files if not n.endswith(".pth")]
    inputs = case.inputs if case.inputs is not None else pictures
    where = [] if "-o" in case.arguments else ["-o", "out"]
    scale = [] if "-s" in case.arguments else ["-s", str(SCALE)]
    names = [f"in/{n}" if (source / n).exists() and not n.startswith(("in", ".")) else n for n in inputs]
    out, err = io.StringIO(), io.StringIO()
    problems = []
    code = 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mine or contextlib.nullcontext(),
    ):
        try:
            cli.main(["upscale", *names, *where, *scale, "--threads", "1", *case.arguments])
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        except BaseException as error:  # noqa: BLE001 - this is what must not happen, and is reported
            code, problems = -1, [f"{type(error).__name__} escaped: {error}"]
    message = err.getvalue().strip() or out.getvalue().strip()
    if code != case.code:
        problems.append(f"exit code {code} instead of {case.code}")
    if case.says and case.says not in err.getvalue():
        problems.append(f"does not say '{case.says}'")
    if "Traceback" in err.getvalue() or "a defect" in err.getvalue():
        problems.append("an unexpected error")
    if _state(source) != before:
        problems.append("inputs were changed")
    results = _state(folder / "out") if (folder / "out").is_dir() else {}
    visible = {n for n in results if not Path(n).name.startswith(".restora.jsonl")}
    if visible != set(case.out):
        problems.append(f"left {sorted(visible)} instead of {sorted(case.out)}")
    if any(results.get(n) != checksum for n, checksum in kept.items()):
        problems.append("a file of the user's own was changed")
    problems += [
        f"{name} cannot be read"
        for name in case.out
        if name not in kept and name in results and not _readable(folder / "out" / name)
    ]
    if (folder / "RESTORA_WAS_HERE").exists():
        problems.append("code in a file was run")
    return Outcome(case.name, code, message.splitlines()[0] if message else "", problems)


def _state(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def _readable(path: Path) -> bool:
    from restora.io import Picture

    Picture.open(path)
    return True


def main() -> None:
    """Runs all cases and prints a line each; exit code 1 when one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    outcomes = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(run_case(case, Path(folder)))
        last = outcomes[-1]
        if not chosen.json:
            print(f"{'WRONG' if last.problems else 'ok':5s} {last.name:38s} exit {last.code}  {last.message[:110]}")
            for problem in last.problems:
                print(f"      {problem}")
    wrong = [o for o in outcomes if o.problems]
    if chosen.json:
        print(json.dumps([vars(o) for o in outcomes], ensure_ascii=False))
    else:
        print(f"{len(outcomes)} cases, {len(wrong)} not as they should be")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

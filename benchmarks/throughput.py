"""How fast whole jobs are: many small pictures, workers and Ray, large pictures, pictures larger than the memory.

    python benchmarks/throughput.py small [--pictures 200] [--rounds 5]    folder at once against one by one
    python benchmarks/throughput.py ray [--seconds 120] [--rounds 1]       Ray workers against processes; one killed
    python benchmarks/throughput.py sizes [--models NAME ...] [--plot FILE] time and memory from 0.25 to 48 megapixels
    python benchmarks/throughput.py huge [--megapixels 1000] [--task denoise]   a TIFF from disk to disk
    python benchmarks/throughput.py cost                                   what a million 12-megapixel pictures take

Pictures are made from a seed, so that nothing has to be fetched. Every table says how many cores there were and how busy the
machine was with other work; ratios are of the minima of interleaved rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDES = (96, 160)  # of small pictures, in pixels
MODEL = "fsrcnn_x2"


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours, discs with sharp edges, a little noise: what coders and networks find in photographs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([128 + 60 * np.sin(x / 17 + c) + 40 * np.cos(y / 13 - c) for c in range(3)], axis=-1)
    for _ in range(6):
        cy, cx, r = rng.random() * height, rng.random() * width, 4 + rng.random() * max(height, width) / 6
        image[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.random(3) * 255
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def large(height: int, width: int) -> np.ndarray:
    """A picture of any size: one photograph, repeated."""
    tile = photo(500, 500, 0)
    return np.tile(tile, (-(-height // 500), -(-width // 500), 1))[:height, :width]


def sides(megapixels: float) -> tuple[int, int]:
    """Height and width at 4:3."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    return round(megapixels * 1e6 / width), width


def folder_of(folder: Path, count: int) -> Path:
    """Small pictures, a third of them JPEG."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    for n in range(count):
        height, width = (int(rng.integers(*SIDES)) for _ in range(2))
        image = Image.fromarray(photo(height, width, n))
        image.save(folder / f"{n:04d}.{'png' if n % 3 else 'jpg'}", **({} if n % 3 else {"quality": 92}))
    return folder


def cpu() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def job(folder: Path, out: Path, crew: Any = None, threads: int | None = None, report: Any = None) -> float:
    """Seconds of a job, the model loaded."""
    import restora
    from restora import jobs

    restorer = restora.load(MODEL, device="cpu", threads=threads)
    items = jobs.assign(jobs.expand([str(folder)]), out, "_x2", "auto")
    started = time.perf_counter()
    summary = jobs.run_job(restorer, items, jobs.Output(out), {}, report or (lambda *_: None), crew=crew)
    seconds = time.perf_counter() - started
    assert len(summary.done) == len(items), summary.failed
    return seconds


def one_by_one(folder: Path, out: Path, threads: int | None = None) -> float:
    """The same files, each in a job of its own, in this process, each with all cores."""
    import restora
    from restora import jobs

    restorer = restora.load(MODEL, device="cpu", threads=threads)
    seconds = 0.0
    for item in jobs.assign(jobs.expand([str(folder)]), out, "_x2", "auto"):
        started = time.perf_counter()
        assert jobs.run_job(restorer, [item], jobs.Output(out), {}, lambda *_: None).done
        seconds += time.perf_counter() - started
    return seconds


def checksum(folder: Path) -> str:
    """Of all results, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def table(head: list[str], rows: list[list[Any]]) -> None:
    """A Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row) + " |")
    print(flush=True)


def machine() -> None:
    """What the numbers were measured on."""
    from restora.engine import usable_cores

    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    used = f"{usable_cores()} of {cores} cores" if usable_cores() < cores else f"{cores} cores"
    print(f"{used}; load before the run {load:.1f} (other work; 0 on an idle machine).\n", flush=True)


def small(chosen: argparse.Namespace) -> None:
    """A folder at once against one by one."""
    from restora.jobs import Crew

    machine()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = folder_of(root / "in", chosen.pictures)
        few = folder_of(root / "few", 8)
        ways: dict[str, Callable[[Path], float]] = {
            "one by one, all cores for each": lambda out: one_by_one(folder, out, chosen.threads),
            "one by one, one core": lambda out: one_by_one(folder, out, 1),
            "the folder at once": lambda out: job(folder, out, None, chosen.threads),
            "the folder at once, `--workers 2`": lambda out: job(folder, out, Crew(2), chosen.threads),
        }
        job(few, root / "warm", None, chosen.threads)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        processor: dict[str, list[float]] = {way: [] for way in ways}
        sums = {}
        for number in range(chosen.rounds):
            for way, run in ways.items():
                out = root / f"{list(ways).index(way)}-{number}"
                before = cpu()
                seconds[way].append(run(out))
                processor[way].append(cpu() - before)
                sums[way] = checksum(out)
        started = time.perf_counter()
        for n, file in enumerate(sorted(few.iterdir())):
            command = [
                sys.executable,
                "-m",
                "restora",
                "upscale",
                file,
                "-n",
                MODEL,
                "-s",
                "2",
                "-o",
                root / f"c{n}",
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        command_seconds = (time.perf_counter() - started) / 8 * chosen.pictures
        base = min(seconds["one by one, all cores for each"])
        rows: list[list[Any]] = [
            [way, min(s), chosen.pictures / min(s), base / min(s), min(processor[way]), sums[way]]
            for way, s in seconds.items()
        ]
        rows.append(["a command for each picture (from 8)", command_seconds, chosen.pictures / command_seconds,
                     base / command_seconds, ""])  # fmt: skip
        print(
            f"{chosen.pictures} pictures of {SIDES[0]} to {SIDES[1]} pixels a side, {MODEL}, minimum of {chosen.rounds} rounds:\n"
        )
        table(
            ["way", "seconds", "pictures/s", "times one by one", "processor seconds", "checksum of the results"], rows
        )
        print("What a picture's time is made of, one by one on one core (ms):\n")
        table(["reading", "restoring", "coding and writing", "waiting for the disk", "all"], [breakdown(folder, root)])


def breakdown(folder: Path, root: Path) -> list[float]:
    """Milliseconds a picture of each stage, one by one on one core."""
    import restora
    from restora.engine import set_threads
    from restora.io import synced

    set_threads(1)
    restorer = restora.load(MODEL, device="cpu", threads=1)
    spent = np.zeros(4)
    files = sorted(folder.iterdir())[:100]
    for n, file in enumerate(files):
        marks = [time.perf_counter()]
        picture = restora.Picture.open(file)
        marks.append(time.perf_counter())
        result = restorer(picture)
        marks.append(time.perf_counter())
        path = result.save(root / f"b{n}{file.suffix}")
        marks.append(time.perf_counter())
        synced(path)
        marks.append(time.perf_counter())
        spent += np.diff(marks)
    set_threads(None)
    each = spent / len(files) * 1e3
    return [*each, float(each.sum())]


def ray_workers(chosen: argparse.Namespace) -> None:
    """Ray against processes, on a job of so many seconds; then a worker is killed in the middle."""
    from PIL import Image

    from restora.jobs import Crew

    machine()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        probe = root / "probe"
        probe.mkdir()
        for n in range(24):
            Image.fromarray(photo(500, 700, n)).save(probe / f"{n}.png", compress_level=1)
        each = job(probe, root / "timed", None, chosen.threads) / 24
        count = max(8, round(chosen.seconds / each))
        folder = root / "in"
        folder.mkdir()
        for n in range(count):
            Image.fromarray(photo(500, 700, n)).save(folder / f"{n:05d}.png", compress_level=1)
        first: dict[str, float] = {}

        def noted(way: str, kill: bool = False) -> Callable[[str, dict[str, Any]], None]:
            started, ended = time.perf_counter(), 0

            def report(event: str, _: dict[str, Any]) -> None:
                nonlocal ended
                if event == "done":
                    first.setdefault(way, time.perf_counter() - started)
                    ended += 1
                    if kill and ended == count // 2:
                        os.kill(actors()[0], signal.SIGKILL)

            return report

        crews = {"processes": Crew(2), "Ray": Crew(2, "ray")}
        times: dict[str, list[float]] = {way: [] for way in crews}
        for number in range(chosen.rounds):
            for way, crew in crews.items():
                times[way].append(job(folder, root / f"{way}{number}", crew, chosen.threads, noted(way)))
        base = min(times["processes"])
        rows = [[way, min(t), first[way], checksum(root / f"{way}0"), min(t) / base - 1] for way, t in times.items()]
        killed = job(folder, root / "killed", crews["Ray"], chosen.threads, noted("killed", kill=True))
        way = "Ray, a worker killed half-way"
        rows.append([way, killed, first["killed"], checksum(root / "killed"), killed / base - 1])
        print(f"{count} pictures of 700x500, {MODEL}, two workers:\n")
        table(["way", "seconds", "of them until the first result", "checksum", "overhead"], rows)


def actors() -> list[int]:
    """Process ids of Ray's workers of ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"ray::_Hand" in path.read_bytes():
                found.append(int(path.parent.name))
    return found


class Measured:
    """Peak of the memory that a command holds, and its seconds. Pages of files that are mapped count; the system may take
    those back at any time, so memory that is the program's own (anonymous) is told beside it."""

    def __init__(self, arguments: list[Any]) -> None:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "restora", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.own, before = 0, cpu()
        watcher = threading.Thread(target=self._watch, args=(process.pid,), daemon=True)
        watcher.start()
        output, _ = process.communicate() if process.stdout is not None else (b"", b"")
        self.seconds, self.processor = time.perf_counter() - started, cpu() - before
        watcher.join()
        if process.returncode:
            raise SystemExit(f"the command failed: {output.decode(errors='replace')[-2000:]}")

    def _watch(self, pid: int) -> None:
        self.peak = 0
        while True:
            try:
                text = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                return
            fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            if "VmHWM" not in fields:
                return
            self.peak = max(self.peak, int(fields["VmHWM"].split()[0]) * 1024)
            self.own = max(self.own, int(fields["RssAnon"].split()[0]) * 1024)
            time.sleep(0.05)


def sizes(chosen: argparse.Namespace) -> None:
    """Time and memory of the command from 0.25 to 48 megapixels, for each default model."""
    from PIL import Image

    machine()
    models = chosen.models or default_models()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rows = []
        for model in models:
            command, _, named = model.partition(":")
            variant, _, scale = named.partition("@")
            previous: tuple[float, float] | None = None
            for megapixels in chosen.megapixels or (0.25, 1, 3, 12, 48):
                height, width = sides(megapixels)
                source = root / f"{megapixels}.png"
                if not source.exists():
                    Image.fromarray(large(height, width)).save(source, compress_level=1)
                which = ["-n", variant] if variant else []
                measured = Measured(
                    [command, source, *which, *(["-s", scale or "2"] if command == "upscale" else []), "-o", root / "out",
                     "--overwrite", *(["--threads", chosen.threads] if chosen.threads else [])]
                )  # fmt: skip
                growth = (
                    ""
                    if previous is None
                    else f"{np.log(measured.processor / previous[1]) / np.log(megapixels / previous[0]):.2f}"
                )
                previous = megapixels, measured.processor
                rows.append([model, megapixels, measured.seconds, measured.processor / megapixels, measured.peak / 1e9,
                             measured.own / 1e9, growth])  # fmt: skip
                print(
                    f"  {model} {megapixels} MP: {measured.seconds:.1f} s, {measured.peak / 1e9:.2f} GB",
                    file=sys.stderr,
                )
        table(
            [
                "command and model",
                "megapixels",
                "seconds",
                "processor seconds/MP",
                "peak GB",
                "of them its own",
                "exponent",
            ],
            rows,
        )
        print("The exponent is that of the processor time's growth with the pixels since the line above: 1 is linear, and the start of\n"
              "the program, which does not grow, makes it smaller for small pictures.")  # fmt: skip
        if chosen.plot:
            plot([(row[0], row[1], row[2]) for row in rows], chosen.plot)


def plot(points: list[tuple[str, float, float]], path: Path) -> None:
    """Draws (model, megapixels, seconds) on logarithmic axes, as SVG; a dashed line grows with the pixels."""
    width, height, left, top, right, bottom = 760, 440, 60, 20, 560, 390
    low, high = (min(p[1] for p in points) * 0.8, max(p[1] for p in points) * 1.25)
    least, most = (min(p[2] for p in points) * 0.7, max(p[2] for p in points) * 1.4)

    def place(megapixels: float, seconds: float) -> tuple[float, float]:
        across = np.log(megapixels / low) / np.log(high / low)
        up = np.log(seconds / least) / np.log(most / least)
        return left + across * (right - left), bottom - up * (bottom - top)

    def line(ends: list[tuple[float, float]], colour: str, more: str = "") -> str:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
        return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2" {more}/>'

    def words(x: float, y: float, text: str, colour: str = "#333", anchor: str = "start") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'

    drawn = [f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" stroke="#999"/>']
    for megapixels in sorted({p[1] for p in points}):
        x = place(megapixels, least)[0]
        drawn += [line([(x, top), (x, bottom)], "#ddd"), words(x, bottom + 18, f"{megapixels:g}", anchor="middle")]
    for seconds in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        if least < seconds < most:
            y = place(low, seconds)[1]
            drawn += [line([(left, y), (right, y)], "#ddd"), words(left - 8, y + 4, f"{seconds}", anchor="end")]
    drawn += [words((left + right) / 2, bottom + 38, "megapixels", anchor="middle"), words(8, top - 6, "seconds")]
    first = max(low, least * high / most)
    drawn.append(line([place(first, most * first / high), place(high, most)], "#bbb", 'stroke-dasharray="5 5"'))
    colours = ("#1b6ca8", "#c8401f", "#2f8f4e", "#8a4fa8", "#b58900", "#555555")
    for number, model in enumerate(dict.fromkeys(p[0] for p in points)):
        ends = [place(m, s) for name, m, s in points if name == model]
        colour = colours[number % len(colours)]
        drawn += [
            line(ends, colour),
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in ends),
        ]
        drawn.append(words(right + 10, top + 18 + 22 * number, model, colour))
    drawn.append(words(right + 10, top + 18 + 22 * (number + 1), "dashed: linear", "#888"))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(drawn)}</svg>\n'
    )


def default_models() -> list[str]:
    """The commands that have a bundled default model, as COMMAND:MODEL, or COMMAND:MODEL@SCALE where it enlarges."""
    import restora
    from restora import zoo

    found = []
    for command, task in (
        ("upscale", "super-resolution"),
        ("denoise", "denoise"),
        ("deblur", "deblur"),
        ("dejpeg", "dejpeg"),
    ):
        if not restora.list_models(task=task, bundled=True):
            continue
        if command == "upscale":
            taken = {
                scale: card.name for card in zoo.default_models(task) for scale in card.scales
            }  # the last one counts
            found += [f"{command}:{taken[scale]}@{scale}" for scale in (2, 4) if scale in taken]
        else:
            found.append(f"{command}:{zoo.default_model(task).name}")
    return found


def huge(chosen: argparse.Namespace) -> None:
    """A TIFF from disk to disk: time and memory, at a tenth of the size and at the whole."""
    machine()
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as name:
        root = Path(name)
        for megapixels in (chosen.megapixels / 10, chosen.megapixels):
            source = root / "huge.tif"
            height, width = write_huge(source, megapixels)
            flags = ["-s", "2"] if chosen.task == "upscale" else ["--sigma", "15"]
            which = ["-n", chosen.model] if chosen.model else []
            threads = ["--threads", chosen.threads] if chosen.threads else []
            measured = Measured([chosen.task, source, *which, *flags, *threads, "-o", root / "out", "--overwrite"])
            result = next((root / "out").glob("huge*.tif"))
            rows.append([f"{width}x{height}", height * width / 1e6, measured.seconds, measured.processor / megapixels,
                         measured.peak / 1e9, measured.own / 1e9, source.stat().st_size / 1e9, result.stat().st_size / 1e9])  # fmt: skip
            source.unlink()
            result.unlink()
    print(f"`restora {chosen.task}` of an 8-bit RGB TIFF:\n")
    table(
        ["size", "megapixels", "seconds", "processor seconds/MP", "peak GB", "of them its own", "GB in", "GB out"], rows
    )


def write_huge(path: Path, megapixels: float) -> tuple[int, int]:
    """Writes a TIFF of that size row by row; its height and width."""
    from restora.io.metadata import Metadata
    from restora.io.tiff import Writer

    height, width = sides(megapixels)
    band = large(500, width)
    with path.open("wb") as file:
        writer = Writer(file, (height, width, 3), np.dtype(np.uint8), False, Metadata())
        rows = 500 // writer.rows * writer.rows or writer.rows
        for top in range(0, height, rows):
            writer.append(band[: min(rows, height - top)] if rows <= 500 else np.resize(band, (rows, width, 3)))
        writer.finish()
    return height, width


def cost(chosen: argparse.Namespace) -> None:
    """Seconds for a 12-megapixel JPEG in a job, and what a million of them take."""
    from PIL import Image

    from restora.jobs import Crew

    machine()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "in"
        folder.mkdir()
        height, width = sides(12)
        for n in range(chosen.pictures):
            Image.fromarray(np.roll(large(height, width), 37 * n, axis=1)).save(folder / f"{n}.jpg", quality=90)
        rows = []
        cores = len(os.sched_getaffinity(0))
        for way, crew in (("one process", None), ("two workers", Crew(2))):
            out = root / way
            before, wall = cpu(), job(folder, out, crew, chosen.threads) / chosen.pictures
            processor = (cpu() - before) / chosen.pictures
            ideal = processor / cores
            rows.append([way, wall, processor, *(f"{ideal * 1e6 / n / 86400:.2f}" for n in (1, 10, 100))])
        print(f"{chosen.pictures} JPEG pictures of {width}x{height}, {MODEL}:\n")
        head = ["way", "seconds a picture", "processor seconds a picture"]
        table([*head, *(f"days for a million on {n} machines of {cores} cores" for n in (1, 10, 100))], rows)
        print(
            "Days are processor seconds / cores x a million / machines: what cores that have nothing else to do take."
        )
        sizes = [sum(p.stat().st_size for p in place.rglob("*.jpg")) / chosen.pictures / 1e6 for place in (folder, out)]
        print(
            f"A picture has {sizes[0]:.1f} MB, its result {sizes[1]:.1f} MB: a machine reads {sizes[0] / ideal:.2f} and writes "
            f"{sizes[1] / ideal:.2f} MB/s, a million pictures take {sizes[0]:.1f} + {sizes[1]:.1f} TB."
        )


def main() -> None:
    """Runs one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add = {name: commands.add_parser(name) for name in ("small", "ray", "sizes", "huge", "cost")}
    for each in add.values():
        each.add_argument("--threads", type=int)
    add["small"].add_argument("--pictures", type=int, default=200)
    add["small"].add_argument("--rounds", type=int, default=5)
    add["ray"].add_argument("--seconds", type=float, default=120)
    add["ray"].add_argument("--rounds", type=int, default=1)
    add["sizes"].add_argument("--models", "--only", nargs="*", help="such as denoise:drunet_s or upscale:span_x4@4")
    add["sizes"].add_argument("--megapixels", type=float, nargs="*")
    add["sizes"].add_argument("--plot", type=Path, help="an SVG of the seconds")
    add["huge"].add_argument("--megapixels", type=float, default=1000)
    add["huge"].add_argument("--task", choices=("upscale", "denoise"), default="upscale")
    add["huge"].add_argument("--model")
    add["huge"].add_argument("--scratch", help="folder on a disk with room for input and result")
    add["cost"].add_argument("--pictures", type=int, default=4)
    chosen = parser.parse_args()
    {"small": small, "ray": ray_workers, "sizes": sizes, "huge": huge, "cost": cost}[chosen.command](chosen)


if __name__ == "__main__":
    main()

"""The scores of the bundled weights: what each must reach, what it reaches, and what else there is, in one table.

    python benchmarks/scores.py DATA                     the whole table (DATA holds bench/, train/, kernels/, weights/)
    python benchmarks/scores.py DATA --limit 2           the first pictures of each set only: for development, not the protocols'
    python benchmarks/scores.py DATA --only drunet_s
    python benchmarks/scores.py DATA --write README.md   replaces what stands between the markers there

Every row has the degraded input and a plain method beside ours, the protocol, and a checksum of the data. What falls short
is printed as a shortfall (and is no error: exit code 1 is for a row that could not be measured); a row whose weights are not
bundled says so. The perceptual distance is LPIPS 0.1 with its published
heads through the backbone that RESTORA_METRICS names or, failing that, through the SqueezeNet of DATA/weights, which is not the one
that LPIPS was fitted on: its numbers compare rows of this table and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nonblind
import numpy as np
import torch

import restora
from restora import degradation, evaluation, zoo
from restora.degradation.flat_noise import noise_sigma
from restora.engine import Settings
from restora.errors import RestoraError
from restora.evaluation.baselines import bicubic
from restora.io import READABLE, Picture, atomic_path
from restora.restorers import Automatic, Deconvolver
from restora.zoo.checkpoint import folder_sha256

BEGIN, END = "<!-- scores: begin -->", "<!-- scores: end -->"
SMALL = 600_000  # parameters of "a modern small net"
RECORDED = "GOPR0477"  # a test pair of the recording that the training clip is from, see leaks.py
NOT_MODERN = ("fsrcnn", "carn", "pcarn", "srvgg", "srrunet")  # families that have rows of their own, or are no rivals


@dataclass(frozen=True)
class Row:
    """A line: `required` is a bound for `ours`, from below unless `lower` says that less is better. `before` is the degraded
    input, `plain` a plain method with its name; `published` as the sources print it."""

    model: str
    what: str
    protocol: str
    data: str
    required: float | None
    ours: float | None = None
    before: float | None = None
    plain: tuple[str, float] | None = None
    published: str = "-"
    lower: bool = False
    digits: int = 2
    note: str = ""

    @property
    def verdict(self) -> str:
        """Reached, short by how much, or why there is no number."""
        if self.ours is None:
            return self.note or "no weights yet"
        if self.required is None:
            return self.note or "-"
        short = self.ours - self.required if self.lower else self.required - self.ours
        reached = "reached" if short <= 0.5 * 10**-self.digits else f"**shortfall: {short:.{self.digits}f}**"
        return f"{reached}; {self.note}" if self.note else reached

    def line(self) -> str:
        """As markdown."""

        def number(value: float | None) -> str:
            return "-" if value is None else f"{value:.{self.digits}f}"

        bound = "-" if self.required is None else f"{'<=' if self.lower else '>='} {number(self.required)}"
        plain = "-" if self.plain is None else f"{number(self.plain[1])} ({self.plain[0]})"
        cells = [
            self.model,
            self.what,
            bound,
            number(self.ours),
            number(self.before),
            plain,
            self.published,
            self.verdict,
        ]
        return f"| {' | '.join([*cells, self.protocol, self.data])} |"


HEAD = (
    "| weights | what | required | ours | degraded input | plain method | published | verdict | protocol | data |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Where:
    """The data, and how many pictures of each set."""

    data: Path
    limit: int | None

    @property
    def bench(self) -> Path:
        """The folder of test sets."""
        return self.data / "bench"


# what is measured


@cache
def benched(model: str, folder: Path, protocol: str, scale: int | None, limit: int | None, extra: tuple[str, ...] = (),
            **options: Any) -> evaluation.Benchmark:  # fmt: skip
    """A benchmark of one model, once."""
    found = evaluation.bench([model], folder, protocol, scale, limit=limit, extra=extra, **options)
    if found.rows[-1].error:
        raise RestoraError(found.rows[-1].error)
    return found


def of(result: evaluation.Benchmark, kind: str, measure: str = "psnr") -> float | None:
    """A mean of the input, the baseline or the model."""
    return result.mean(next(r for r in result.rows if r.kind == kind), measure)


def named(result: evaluation.Benchmark) -> str:
    """Data and their checksum."""
    return f"{result.data} ({result.images}, {result.data_sha256[:10]})"


def installed(name: str) -> zoo.Card | None:
    """A bundled card."""
    return next((c for c in zoo.list_models(bundled=True) if c.name == name), None)


def benchmark_row(
    where: Where, model: str, what: str, data: str, protocol: str, gain_over_input: float | None = None, *,
    required: float | None = None, published: str = "-", scale: int | None = None, **options: Any,
) -> Row:  # fmt: skip
    """A row of PSNR. `gain_over_input` sets what is required from the degraded input."""
    folder = where.bench / data
    if installed(model) is None:
        return Row(model, what, protocol, data, required, published=published)
    result = benched(model, folder, protocol, scale, where.limit, **options)
    before, plain = of(result, "input"), of(result, "baseline")
    if gain_over_input is not None and before is not None:
        required = before + gain_over_input
    name = next(r.name for r in result.rows if r.kind == "baseline")
    ours = of(result, "model")
    return Row(
        model, what, result.protocol.label, named(result), required, ours, before, (name, plain or 0.0), published
    )


def carn(where: Where) -> Iterator[Row]:
    """CARN-M, x2 and x4."""
    for scale, data, bound, reference in (
        (4, "Set5", 31.40, "31.88"), (4, "Set14", 28.10, "28.42"), (4, "BSD100", 27.20, "27.45"), (2, "Set5", 37.20, "37.68"),
    ):  # fmt: skip
        yield benchmark_row(where, "carn_m.restora", f"x{scale} {data}, PSNR", data, "sr-y", required=bound,
                            published=reference, scale=scale)  # fmt: skip


def modern() -> zoo.Card | None:
    """The best bundled candidate for the small modern network."""
    fitting = [
        c for c in zoo.list_models(task="super-resolution", bundled=True)
        if c.family not in NOT_MODERN and not c.name.startswith("realsr") and 4 in c.scales and c.parameters <= SMALL
    ]  # fmt: skip
    return max(fitting, key=lambda c: c.parameters, default=None)


def small(where: Where) -> Iterator[Row]:
    """A small modern network against CARN-M: quality and time."""
    card = modern()
    name = card.name if card is not None else "a small modern net"
    rival = installed("carn_m.restora")
    for data, reference in (("Set5", "31.5 to 32.2 (SPAN)"), ("Set14", "-"), ("BSD100", "-")):
        if card is None or rival is None:
            why = "" if card is None else "carn_m.restora is not bundled yet"
            yield Row(name, f"x4 {data}, PSNR: carn_m + 0.1", "sr-y/1", data, None, published=reference, note=why)
            continue
        bound = of(benched(rival.name, where.bench / data, "sr-y", 4, where.limit), "model")
        yield benchmark_row(where, name, f"x4 {data}, PSNR: carn_m + 0.1", data, "sr-y", required=(bound or 0) + 0.1,
                            published=reference, scale=4)  # fmt: skip
    if card is None or rival is None:
        yield Row(name, "x4, seconds for 256x256: less than carn_m", "-", "-", None, lower=True)
        return
    models = {c.name: restora.load(c.name) for c in (card, rival)}
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    best = dict.fromkeys(models, float("inf"))
    for turn in range(4):  # interleaved; the first warms up
        for key, model in models.items():
            started = time.perf_counter()
            model(picture, scale=4)
            best[key] = min(best[key], time.perf_counter() - started) if turn else best[key]
    yield Row(
        name,
        "x4, seconds for 256x256: less than carn_m",
        "least of 3",
        "noise",
        best[rival.name],
        best[name],
        lower=True,
    )


def perceptual(where: Where) -> Iterator[Row]:
    """PCARN-M: the perceptual distance against CARN-M's."""
    for data in ("Set14", "BSD100"):
        what = f"x4 {data}, LPIPS: below carn_m"
        if installed("pcarn_m.restora") is None or installed("carn_m.restora") is None:
            yield Row("pcarn_m.restora", what, "sr-rgb", data, None, lower=True)
            continue
        both = [
            benched(m, where.bench / data, "sr-rgb", 4, where.limit, ("lpips",))
            for m in ("pcarn_m.restora", "carn_m.restora")
        ]
        ours, rival = (of(b, "model", "lpips") for b in both)
        before, plain = of(both[0], "input", "lpips"), of(both[0], "baseline", "lpips")
        yield Row("pcarn_m.restora", what, "LPIPS 0.1", named(both[0]), rival, ours, before, ("bicubic", plain or 0.0), lower=True,
                  digits=4, note="dots and grids: look at the sheets")  # fmt: skip


PUBLISHED_REAL = "weights/realesr-general-x4v3/RealESRGAN_General_x4_v3.param"  # beside the benchmark pictures


def real(where: Where) -> Iterator[Row]:
    """Real photographs, by synthetic second-order degradations: against bicubic."""
    for scale in (4, 2):
        name = f"realsr_x{scale}.restora"
        what = f"x{scale}, realesrgan-x{scale} on BSD100, PSNR: bicubic + 1"
        if installed(name) is None:
            yield Row(name, what, "sr-y/1", "BSD100", None)
            continue
        folder = where.bench / "BSD100" / "HRx4"
        model, chain = restora.load(name), degradation.recipe(f"realesrgan-x{scale}")
        published = where.bench.parent / PUBLISHED_REAL
        rivals = [restora.load(published)] if scale == 4 and published.is_file() else []
        scores = []
        for number, path in enumerate(files(folder)[: where.limit]):
            truth = whole(Picture.open(path).pixels, 8)
            low = degraded(truth, chain, number)
            results = [enlarged(low, scale, "nearest"), enlarged(low, scale)]
            results += [one(low, scale=scale).array for one in (model, *rivals)]
            scores.append([evaluation.psnr(r, truth, protocol="sr-y", scale=scale) for r in results])
        before, plain, ours, *others = np.mean(scores, axis=0)
        known = "RealESRGAN-general-x4v3" if scale == 4 else "-"
        reference = f"{others[0]:.2f} ({known}, measured here)" if others else known
        yield Row(name, what, "sr-y/1", f"BSD100 ({len(scores)}, {folder_sha256(folder)[:10]})", plain + 1, ours, before,
                  ("bicubic", plain), reference, note="seams, drift and sharpness on real pictures: fidelity.py and the sheets")  # fmt: skip


def denoise(where: Where) -> Iterator[Row]:
    """Gaussian noise of a known level, and of an unknown one."""
    for sigma, bound, reference in (
        (15, 33.4, "FFDNet 33.87, BM3D 33.52"), (25, 30.7, "FFDNet 31.21, BM3D 30.71"), (50, 27.3, "FFDNet 27.96, BM3D 27.38"),
    ):  # fmt: skip
        yield benchmark_row(where, "drunet_s.restora", f"sigma {sigma}, PSNR", "CBSD68", "denoise-rgb", required=bound,
                            published=reference, sigma=sigma)  # fmt: skip
    yield from blind(where)


def blind(where: Where) -> Iterator[Row]:
    """The default denoiser with an estimated level."""
    folder = where.bench / "CBSD68"
    known = [c for c in zoo.list_models(task="denoise", bundled=True) if c.default] or zoo.list_models(
        task="denoise", bundled=True
    )
    name = known[0].name if known else "block_matching"
    errors = []
    for path in files(folder)[: where.limit]:
        clean = Picture.open(path).pixels
        noisy = clean / np.float32(255) + np.random.RandomState(0).normal(0, 25 / 255, clean.shape).astype(np.float32)
        errors.append(abs(noise_sigma(noisy.astype(np.float32)) / 25 - 1) * 100)
    share = float(np.mean([e <= 10 for e in errors]) * 100)
    data = f"CBSD68 ({len(errors)}, {folder_sha256(folder)[:10]})"
    yield Row("noise estimate", "sigma 25, mean error in %", "flat_noise", data, 10.0, float(np.mean(errors)), lower=True,
              note=f"{share:.0f} % of the pictures within 10 %")  # fmt: skip
    label = f"{name}, level estimated"
    if known:
        told = of(benched(name, folder, "denoise-rgb", None, where.limit, sigma=25), "model")
        result = evaluation.bench([_Unknowing(name)], folder, "denoise-rgb", sigma=25, limit=where.limit)
        yield Row(label, "sigma 25, PSNR: the one that is told, - 0.3", "denoise-rgb/1", named(result), (told or 0) - 0.3,
                  of(result, "model"), of(result, "input"), ("local Wiener 5x5", of(result, "baseline") or 0.0))  # fmt: skip
    else:
        yield Row(label, "sigma 25, PSNR: the one that is told, - 0.3", "denoise-rgb", "CBSD68", None)
    if known:
        result = evaluation.bench([_Unknowing(name)], where.bench / "polyu", "denoise-rgb", limit=where.limit)
        before = of(result, "input")
        yield Row(label, "camera noise, PSNR: above the input", "denoise-rgb/1", named(result), before, of(result, "model"), before,
                  ("local Wiener 5x5", of(result, "baseline") or 0.0))  # fmt: skip
    else:
        yield Row(label, "camera noise, PSNR: above the input", "denoise-rgb", "polyu", None)


class _Unknowing:
    """A denoiser that is not told the level, whatever a benchmark tells it."""

    def __new__(cls, name: str) -> Any:
        restorer = restora.load(name)
        told = restorer.check_controls

        def check(values: dict[str, Any]) -> Any:
            return told({**values, "sigma": "auto"} if "sigma" in restorer.controls.model_fields else values)

        restorer.check_controls = check  # type: ignore[method-assign]
        restorer.name = f"{name}, level estimated"
        return restorer


def dejpeg(where: Where) -> Iterator[Row]:
    """JPEG on grey pictures."""
    cards = zoo.list_models(task="dejpeg", bundled=True)
    name = next((c.name for c in cards if c.default), cards[0].name if cards else "dejpeg_s.restora")
    for quality, gain in ((10, 1.0), (30, 0.7)):
        yield benchmark_row(where, name, f"quality {quality}, PSNR: input + {gain}", "classic5", "jpeg-y", gain,
                            published="DnCNN-3: about +1.4" if quality == 10 else "-", quality=quality)  # fmt: skip


def deblur(where: Where) -> Iterator[Row]:
    """Motion blur, with no picture harmed."""
    name = "nafnet_s.restora"
    yield benchmark_row(where, name, "gopro-pairs, PSNR: input + 1.2", "gopro-pairs", "deblur-rgb", 1.2,
                        published="DMPHN: about +1.8 on like pairs")  # fmt: skip
    what = "gopro-pairs, worst change of a picture in dB"
    if installed(name) is None:
        yield Row(name, what, "deblur-rgb", "gopro-pairs", -0.3)
        return
    result = benched(name, where.bench / "gopro-pairs", "deblur-rgb", None, where.limit)
    rows = {r.kind: r for r in result.rows}
    pairs = list(zip(rows["model"].scores, rows["input"].scores, strict=True))
    other = [(a.psnr, b.psnr) for a, b in pairs if RECORDED not in a.image]
    if len(other) < len(pairs) and other:
        ours, before = np.mean(other, axis=0)
        yield Row(name, "the same without the recording that the training clip is from", "deblur-rgb/1", f"{named(result)}, {len(other)} of them",
                  float(before) + 1.2, float(ours), float(before))  # fmt: skip
    yield Row(name, what, "deblur-rgb/1", named(result), -0.3, min(a.psnr - b.psnr for a, b in pairs), 0.0)


def resolution(where: Where) -> Iterator[Row]:
    """Size-preserving super-resolution against bicubic."""
    name = "srrunet_s.restora"
    for scale in (2, 4, 8):
        what = f"x{scale}, LPIPS: below bicubic"
        if installed(name) is None:
            yield Row(name, what, "LPIPS 0.1", "Set14", None, lower=True)
            continue
        result = benched(name, where.bench / "Set14" / "HRx4", "sr-rgb", scale, where.limit, ("lpips",))
        plain = of(result, "baseline", "lpips") or 0.0
        yield Row(name, what, "LPIPS 0.1", f"Set14 {named(result)}", plain, of(result, "model", "lpips"),
                  of(result, "input", "lpips"), ("bicubic", plain), lower=True, digits=4)  # fmt: skip


def known_blur(where: Where) -> Iterator[Row]:
    """Networks for a known kernel, on the problems of `nonblind.py`."""
    names = [c.name for c in zoo.list_models(task="deconvolve", bundled=True)] or ["usrnet_s.restora"]
    count = 20 if where.limit is None else where.limit
    picked = nonblind.problems(where.data, None, count)
    rivals = {m: solving(Deconvolver(m, Settings(tile=0))) for m in ("wiener", "gddec")}
    for name in names:
        what = "nonblind.py, mean PSNR: best of GDDec and Wiener, + 1"
        if installed(name) is None:
            yield Row(name, what, "nonblind/1", "Set14 and CBSD68", None, published="USRNet-tiny")
            continue
        methods = {**rivals, name: solving(restora.load(name))}
        scores: dict[str, list[float]] = {"input": [], **{m: [] for m in methods}}
        for one in picked:
            problem = nonblind.make(*one)
            scores["input"].append(nonblind.error(problem.observed, problem.sharp))
            for method, solve in methods.items():
                scores[method].append(nonblind.error(evaluation.to_uint8(solve(problem)), problem.sharp))
        mean = {m: float(np.mean(v)) for m, v in scores.items()}
        rival = max(rivals, key=lambda m: mean[m])
        yield Row(name, what, "nonblind/1", f"{len(picked)} problems ({nonblind.checksum(where.data)[:10]})", mean[rival] + 1, mean[name],
                  mean["input"], (rival, mean[rival]), "USRNet-tiny")  # fmt: skip


def solving(restorer: restora.Restorer) -> Callable[[nonblind.Problem], Any]:
    """A restorer as a function of a problem."""
    return lambda p: restorer(p.observed, kernel=p.kernel, sigma=p.sigma, check=False).array


def automatic(where: Where) -> Iterator[Row]:
    """Clean photographs through the automatic restoration, and the size of everything."""
    folder = where.data / "train" / "validation"
    model, scores, kept = Automatic(), [], 0
    for path in files(folder)[: where.limit]:
        picture = Picture.open(path)
        result = model(picture)
        kept += result.report.kept
        scores.append(
            99.0 if result.report.kept else evaluation.psnr(result.array, picture.pixels, protocol="denoise-rgb")
        )
    yield Row("`restora restore`", "clean photographs, least PSNR (99: untouched)", "denoise-rgb/1",
              f"validation ({len(scores)}, {folder_sha256(folder)[:10]})", 45.0, min(scores),
              note=f"{kept} of {len(scores)} kept as they were")  # fmt: skip
    size = sum(c.weights.bytes for c in zoo.list_models(bundled=True)) / 1e6
    yield Row("all bundled weights", "megabytes", "-", "-", 25.0, size, lower=True)


PARTS: dict[str, Callable[[Where], Iterator[Row]]] = {
    "carn_m": carn, "small": small, "pcarn_m": perceptual, "realsr": real, "drunet_s": denoise, "dejpeg": dejpeg, "nafnet_s": deblur,
    "srrunet_s": resolution, "usrnet_s": known_blur, "auto": automatic,
}  # fmt: skip


# pictures


def files(folder: Path) -> list[Path]:
    """The pictures of a folder."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in READABLE)


def whole(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Cut to a multiple, in colour."""
    height, width = (n // multiple * multiple for n in pixels.shape[:2])
    cut = pixels[:height, :width]
    return np.ascontiguousarray(cut if cut.shape[2] == 3 else np.repeat(cut, 3, axis=2))


def degraded(pixels: np.ndarray, chain: Any, seed: int) -> np.ndarray:
    """Through a degradation, 8 bits."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None] / 255
    return evaluation.to_uint8(chain.seed(seed)(x)[0].permute(1, 2, 0).numpy())


def enlarged(pixels: np.ndarray, scale: int, method: str = "bicubic") -> np.ndarray:
    """By repetition or bicubic."""
    if method == "nearest":
        return pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    return evaluation.to_uint8(bicubic(pixels.astype(np.float32) / 255, scale))


# the table


def table(where: Where, only: str) -> Iterator[str]:
    """The lines, as they are measured."""
    yield from HEAD.split("\n")
    for name, part in PARTS.items():
        if only in name:
            try:
                for row in part(where):
                    yield row.line()
            except RestoraError as error:
                yield f"| {name} | - | - | - | - | - | - | failed: {error} | - | - |"


def metrics(data: Path) -> str:
    """Makes LPIPS work from the folder of data, unless the user has something better; a sentence about it."""
    from restora.evaluation.perceptual import lpips_model

    if not os.environ.get("RESTORA_METRICS"):
        found = [data / "weights" / n for n in ("squeezenet/SqueezeNet_fp16.onnx", "iqa-params/v0.1_squeeze.pth")]
        if all(p.is_file() for p in found):
            folder = tempfile.mkdtemp()
            for path in found:
                (Path(folder) / path.name).symlink_to(path.resolve())
            os.environ["RESTORA_METRICS"] = folder
    try:
        model = lpips_model()
    except RestoraError as error:
        return f"LPIPS was not measured: {error}"
    return f"LPIPS 0.1 through {model.backbone.name}{f' ({model.note})' if model.note else ''}."


def put(path: Path, text: str) -> None:
    """Replaces what stands between the markers."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"'{path}' has no place for the table: put the lines {BEGIN} and {END} where it belongs.")
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, help="pictures of each set; not the protocols' numbers")
    parser.add_argument("--only", default="", help=f"rows of {', '.join(PARTS)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a markdown file with the markers")
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    if chosen.write is not None and (chosen.limit is not None or chosen.only):
        raise SystemExit("Only the whole table is written: leave out --limit and --only.")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    data = chosen.data.resolve()
    if not (data / "bench").is_dir():
        raise SystemExit(f"'{chosen.data}' holds no folder bench/.")
    said = [metrics(data)]
    if chosen.limit is not None:
        said.append(f"Only the first {chosen.limit} pictures of each set: these are not the protocols' numbers.")
    lines = []
    for line in table(Where(data, chosen.limit), chosen.only):
        print(line, flush=True)
        lines.append(line)
    print("\n" + " ".join(said))
    if chosen.write is not None:
        put(chosen.write, "\n".join([*lines, "", *said]))
    sys.exit(1 if any("| failed:" in line for line in lines) else 0)


if __name__ == "__main__":
    main()

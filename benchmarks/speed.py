"""How fast networks run through the engine, against the same networks in plain torch, spandrel and ncnn.

1. Every family: the network in plain torch (float32, eager, contiguous tensors, the whole picture in one call), in a process as it
   is when torch is imported, against the engine with each backend and precision that is installed; in turn, minimum of the
   rounds. A precision counts only where its result differs from float32 by at least 50 dB on the photograph. Networks without
   weights at hand have random ones that pass signals on at their strength: there, no precision is checked. "Tuned": the plain way
   with the raised thresholds of malloc that the engine sets, which is what the code alone gains.
2. spandrel running the same weights its usual way (float32, eager), where it knows the architecture, in such a process, too.
3. ncnn running Real-ESRGAN general x4v3, where its weights are given (--weights FOLDER).

On a machine that has other work, `--processor` counts processor time instead of time passed; it says nothing about how well work
is divided, so it is for one thread.

What machine there is, is measured first: the multiply-add peak is taken from a 3x3 convolution of 64 to 64 channels on 256x256 pixels, channels last, which oneDNN runs at 95 % of what a bare loop of
multiply-adds reaches.

    python benchmarks/speed.py [--only NAME ...] [--threads 2] [--rounds 2] [--size 512] [--weights FOLDER] [--compile]
    python benchmarks/speed.py --threads 1 --processor                       on a busy machine
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FAITHFUL = 50.0
_CROP = 192  # side of the part on which precisions are compared
_clock = time.perf_counter


@dataclass(frozen=True)
class Case:
    """A network; `goal` and `goal_exact`: times as fast as plain torch, at the best precision and in float32. `weights`: a file
    below --weights, or the name of a bundled model."""

    name: str
    variant: str
    kind: str
    goal: float
    goal_exact: float = 0.0
    scale: int | None = None
    weights: str = ""
    spandrel: bool = True
    size: int = 0
    overrides: dict = field(default_factory=dict)
    controls: dict = field(default_factory=dict)


CASES = [
    Case("FSRCNN x4", "fsrcnn_x4", "plain", 1.8, weights="fsrcnn_x4.restora", spandrel=False),
    Case("SPAN x4", "span_x4", "plain", 0, weights="span_x4.restora"),
    Case(
        "SRVGG-32 x4", "srvgg_general_x4", "plain", 2.4, weights="realesr-general-x4v3/RealESRGAN_General_x4_v3.param"
    ),
    Case("CARN-M x4", "carn_m", "plain", 3.4, 1.5, 4, "carn/carn_m.pth", spandrel=False),
    Case("CARN x4", "carn", "plain", 3.1, 0, 4, spandrel=False),
    Case("DnCNN grey", "dncnn_gray", "plain", 0, weights="kair/dncnn_25.pth", spandrel=False),
    Case("DRUNet", "drunet_color", "plain", 2.4, controls={"sigma": 15.0}),
    Case("EDSR-baseline x2", "edsr_baseline_x2", "plain", 0),
    Case("RRDB-6 x4", "rrdbnet_6b_x4", "plain", 0, size=256),
    Case("NAFNet-32", "nafnet_gopro_width32", "gated", 3.5, 1.5),
    Case("MIMO-UNet", "mimo_unet", "plain", 0, spandrel=False, size=256),
    Case("SwinIR-light x4", "swinir_lightweight_x4", "window", 3.5, 2.0, size=256),
    Case("SwinIR x4", "swinir_classical_x4", "window", 3.75, 2.0, size=192),
    Case("HAT-S x2", "hat_s_x2", "window", 2.0, size=192),
    Case("Uformer-T", "uformer_t", "window", 2.0, size=256, spandrel=False),
    Case("Restormer", "restormer_deblur", "gated", 2.0, size=256, spandrel=False),
]


def photograph(side: int, data: Path | None) -> np.ndarray:
    """RGB, uint8: the package's own photograph, or the first of a folder that is large enough, its middle."""
    from restora.engine.photographs import crops
    from restora.networks.spec import NetworkSpec, exact

    (x,) = crops(NetworkSpec("deblur", exact(0)), side, 1, data)
    return (x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def network(case: Case, weights: Path | None) -> tuple[nn.Module, str]:
    """The network and what its weights are."""
    import restora
    from restora import networks, zoo
    from restora.engine import enliven

    if case.weights in {card.name for card in restora.list_models()}:
        return zoo.load_network(zoo.find(case.weights)), case.weights
    if case.weights and weights is not None and (weights / case.weights).exists():
        net, _ = zoo.identify_file(weights / case.weights, case.scale)
        return net, case.weights.split("/")[-1]
    torch.manual_seed(0)
    return enliven(networks.create(case.variant, **case.overrides)), "random"


def operator(case: Case, net: nn.Module) -> object:
    """The network as the engine runs it."""
    from restora.engine import NetworkOperator

    return NetworkOperator(net, case.scale, case.controls)


def plain_way(case: Case, net: nn.Module, scale: int, picture: np.ndarray) -> Callable[[], np.ndarray]:
    """The network as its authors' programs run it: contiguous float32 tensors, the whole picture, eager."""
    import copy

    from restora.degradation import rgb_to_ycbcr, ycbcr_to_rgb

    spec, controls = net.spec, operator(case, net).controls
    net = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    restore = getattr(net, "restore", net)
    multiple = math.lcm(spec.multiple_of, spec.tiling.window)
    below, right = (-n % multiple for n in picture.shape[:2])

    @torch.inference_mode()
    def run() -> np.ndarray:
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float().contiguous() / 255
        x = F.pad(x, (0, right, 0, below), mode="reflect") if below or right else x
        if spec.colour == "luma":
            ycbcr = rgb_to_ycbcr(x)
            chroma = F.interpolate(ycbcr[:, 1:], scale_factor=scale, mode="bicubic")
            y = ycbcr_to_rgb(torch.cat([restore(ycbcr[:, :1].contiguous(), **controls), chroma], dim=1))
        elif spec.channels == 1:
            y = torch.cat([restore(plane.contiguous(), **controls) for plane in x.split(1, 1)], dim=1)
        else:
            y = restore(x, **controls)
        y = y[..., : picture.shape[0] * scale, : picture.shape[1] * scale]
        return (y[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    return run


def spandrel_way(net: nn.Module, picture: np.ndarray) -> Callable[[], np.ndarray] | None:
    """spandrel with the same weights, or None where it does not know them."""
    from restora.errors import RestoraError
    from restora.zoo.spandrel_bridge import load_with_spandrel

    try:
        state = {k: v.detach().clone().contiguous() for k, v in net.state_dict().items()}
        bridged = load_with_spandrel(state)
    except RestoraError:
        return None
    if bridged.spec.channels != 3:
        return None

    @torch.inference_mode()
    def run() -> np.ndarray:
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float().contiguous() / 255
        return (bridged(x)[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    return run


class Bystander:
    """A process with plain torch, as it is when nobody has set anything: malloc as it comes, no engine. It takes its turn when
    `seconds` is called."""

    def __init__(self, case: Case, chosen: argparse.Namespace, side: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_stand_by, args=(theirs, case, chosen, side), daemon=True)
        self.process.start()
        theirs.close()
        self.names: list[str] = self.pipe.recv()

    def result(self, name: str) -> np.ndarray:
        """The picture that a way makes; it also warms up."""
        self.pipe.send((name, True))
        return self.pipe.recv()

    def seconds(self, name: str) -> float:
        """One turn."""
        self.pipe.send((name, False))
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join()


def _stand_by(pipe: Any, case: Case, chosen: argparse.Namespace, side: int) -> None:
    global _clock
    _clock = time.process_time if chosen.processor else time.perf_counter
    torch.set_num_threads(chosen.threads)
    net, _ = network(case, chosen.weights)
    picture = photograph(side, chosen.photos)
    ways: dict[str, Callable[[], np.ndarray] | None] = {
        "plain": plain_way(case, net, case.scale or net.spec.scales[0], picture),
        "spandrel": spandrel_way(net, picture) if case.spandrel else None,
    }
    known = {name: way for name, way in ways.items() if way is not None}
    pipe.send(list(known))
    while (asked := pipe.recv()) is not None:
        name, wanted = asked
        pipe.send(known[name]() if wanted else _once(known[name]))


def ncnn_way(folder: Path, picture: np.ndarray, threads: int) -> Callable[[], np.ndarray] | None:
    """ncnn on the CPU with its default options, whole picture."""
    try:
        import ncnn
    except ImportError:
        return None
    model = ncnn.Net()
    model.opt.use_vulkan_compute = False
    model.opt.num_threads = threads
    path = folder / "realesr-general-x4v3" / "RealESRGAN_General_x4_v3"
    model.load_param(str(path.with_suffix(".param")))
    model.load_model(str(path.with_suffix(".bin")))
    pixels = np.ascontiguousarray(picture)
    names = model.input_names()[0], model.output_names()[0]

    def run() -> np.ndarray:
        given = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB, pixels.shape[1], pixels.shape[0])
        given.substract_mean_normalize([], [1 / 255] * 3)
        extractor = model.create_extractor()
        extractor.input(names[0], given)
        _, result = extractor.extract(names[1])
        y = np.array(result).transpose(1, 2, 0)
        return np.rint(np.clip(y, 0, 1) * 255).astype(np.uint8)

    return run


def engine_way(
    case: Case, net: nn.Module, picture: np.ndarray, backend: str, precision: str
) -> Callable[[], np.ndarray]:
    """Through the engine, from uint8 to uint8, with the tiles that it chooses."""
    from restora.engine import Settings
    from restora.engine import run as restore

    settings = Settings("cpu", precision, backend=backend)
    return lambda: restore(operator(case, net), picture, settings=settings)[0]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


class Reference:
    """The result in float32 for a part of the picture, before rounding to 8 bits, and how far others are from it."""

    def __init__(self, case: Case, net: nn.Module, picture: np.ndarray) -> None:
        self.case, self.net = case, net
        self.part = picture[:_CROP, -_CROP:].astype(np.float32) / 255
        self.plain = self._restored("torch", "float32")

    def _restored(self, backend: str, precision: str) -> np.ndarray:
        from restora.engine import Settings
        from restora.engine import run as restore

        settings = Settings("cpu", precision, 0, backend=backend)
        return restore(operator(self.case, self.net), self.part, settings=settings)[0].clip(0, 1)

    def psnr(self, backend: str, precision: str) -> float:
        """Of the difference, in dB."""
        error = float(np.mean((self.plain.astype(np.float64) - self._restored(backend, precision)) ** 2))
        return math.inf if error == 0 else -10 * math.log10(error)


def interleaved(ways: dict[str, Callable[[], float]], rounds: int, budget: float) -> dict[str, float]:
    """The minimum of the seconds that each says it took; further rounds are left out once `budget` seconds have gone."""
    best = dict.fromkeys(ways, math.inf)
    started = time.perf_counter()
    for n in range(rounds):
        for name, way in ways.items():
            best[name] = min(best[name], way())
        if n + 1 < rounds and time.perf_counter() - started > budget * (n + 1) / rounds:
            break
    return best


def peak() -> dict[str, float]:
    """GFLOP/s of a convolution that nothing but arithmetic bounds."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.rand(1, 64, 256, 256).contiguous(memory_format=torch.channels_last)
    found = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        one, given = layer.to(dtype), x.to(dtype)
        with torch.inference_mode():
            one(given)
            seconds = min(_once(lambda one=one, given=given: one(given)) for _ in range(20))
        found[name] = 2 * 9 * 64 * 64 * 256 * 256 / seconds / 1e9
        layer = layer.float()
    return found


def _once(work: Callable[[], object]) -> float:
    started = _clock()
    work()
    return _clock() - started


def gflop(net: nn.Module, scale: int, side: int) -> float:
    """Two for each product, as torch counts them; 0 where it cannot."""
    from restora.errors import EngineError
    from restora.evaluation.profiling import count

    planes = (
        3 if net.spec.channels == 1 and net.spec.colour != "luma" else 1
    )  # a grey network sees the colours one by one
    try:
        return planes * 2 * count(net, scale, (side * scale, side * scale)).all_products / 1e9
    except EngineError:
        return 0.0


def measure(case: Case, chosen: argparse.Namespace, top: dict[str, float]) -> str:
    """A row of the table."""
    import copy

    from restora import networks
    from restora.engine import backends, cpu_has_bf16
    from restora.errors import RestoraError

    net, weights = network(case, chosen.weights)
    scale = case.scale or net.spec.scales[0]
    side = chosen.size or case.size or 512
    picture = photograph(side, chosen.photos)
    other = Bystander(case, chosen, side)
    ways = {"tuned": plain_way(case, net, scale, picture)}
    pairs = [("torch", "float32"), ("torch", "bf16"), ("openvino", "float32"), ("openvino", "bf16")]
    pairs += [("compile", "bf16")] if chosen.compile else []
    ours = networks.for_inference(copy.deepcopy(net))  # as restorers load it
    reference, faithful = Reference(case, ours, picture), {}
    for backend, precision in pairs:
        if not backends.installed(backend) or (precision == "bf16" and not cpu_has_bf16()):
            continue
        try:
            way = engine_way(case, ours, picture, backend, precision)
            way()
            faithful[f"{backend} {precision}"] = reference.psnr(backend, precision)
            ways[f"{backend} {precision}"] = way
        except RestoraError as error:
            print(f"<!-- {case.name} {backend} {precision}: {error} -->", flush=True)
    made = {name: other.result(name) for name in other.names}
    same = psnr(made["spandrel"], ways["torch float32"]()) if "spandrel" in made else math.nan
    timed = {name: functools.partial(_once, way) for name, way in ways.items()}
    timed |= {name: functools.partial(other.seconds, name) for name in other.names}
    seconds = interleaved(timed, chosen.rounds, chosen.budget)
    other.close()
    exact = min((n for n in faithful if n.endswith("float32")), key=seconds.__getitem__)
    # what random weights do to bf16 says nothing about trained ones: the fastest is shown, and that it is not checked
    best = min((n for n in faithful if faithful[n] >= FAITHFUL or weights == "random"), key=seconds.__getitem__)
    work = gflop(net, scale, side)
    rate, kind = work / seconds[best], best.split()[1]
    plain = seconds["plain"]
    against = f"{seconds['spandrel'] / seconds[best]:.2f}x ({_db(same)})" if "spandrel" in made else ""
    return (
        f"| {case.name} | {weights} | {side} | {work:.0f} | {plain:.3f} | {seconds['tuned']:.3f} | {exact.split()[0]} {seconds[exact]:.3f} | "
        f"{_met(plain / seconds[exact], case.goal_exact)} | {best} {seconds[best]:.3f} | {_met(plain / seconds[best], case.goal)} | "
        f"{seconds['tuned'] / seconds[best]:.2f}x | {_db(faithful[best]) if weights != 'random' else 'not checked'} | {rate:.0f} ({100 * rate / top[kind]:.0f} %) | {against} | "
        + ", ".join(f"{n} {plain / seconds[n]:.2f}x {_db(faithful[n])}" for n in faithful)
        + " |"
    )


def _db(value: float) -> str:
    return "exact" if value > 100 else "" if math.isnan(value) else f"{value:.1f} dB"


def _met(ratio: float, goal: float) -> str:
    return f"{ratio:.2f}x" + (f" (goal {goal:g}{'' if ratio >= goal else ', missed'})" if goal else "")


def against_ncnn(chosen: argparse.Namespace) -> list[str]:
    """Real-ESRGAN general x4v3 by ncnn and by the engine, the same weights."""
    from restora.engine import cpu_has_bf16

    case = next(c for c in CASES if c.variant == "srvgg_general_x4")
    net, _ = network(case, chosen.weights)
    picture = photograph(chosen.size or 512, chosen.photos)
    theirs = ncnn_way(chosen.weights, picture, chosen.threads)
    if theirs is None:
        return ["", "ncnn is not installed (`pip install ncnn`); its comparison was left out."]
    ways = {"ncnn": theirs}
    for backend in ("torch", "openvino"):
        for precision in ("float32", *(["bf16"] if cpu_has_bf16() else [])):
            ways[f"restora {backend} {precision}"] = engine_way(case, net, picture, backend, precision)
    results = {name: way() for name, way in ways.items()}
    seconds = interleaved({n: functools.partial(_once, w) for n, w in ways.items()}, chosen.rounds, chosen.budget)
    lines = [
        "",
        "| Real-ESRGAN general x4v3, same weights | seconds | against ncnn | difference from float32 |",
        "|---|---:|---:|---:|",
    ]
    for name in ways:
        same = psnr(results[name], results["restora torch float32"])
        lines.append(f"| {name} | {seconds[name]:.3f} | {seconds['ncnn'] / seconds[name]:.2f}x | {_db(same)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of names of the networks; ncnn for that comparison"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=0, help="side of the picture; by default 512, less for the slowest")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of rounds for a network")
    parser.add_argument("--weights", type=Path, help="folder of published checkpoints")
    parser.add_argument("--photos", type=Path, help="folder of photographs; by default the one of the package")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: a minute or two for each network")
    parser.add_argument("--processor", action="store_true", help="count processor time, for a machine with other work")
    chosen = parser.parse_args()

    from restora import engine

    if chosen.processor:
        global _clock
        _clock = time.process_time
    engine.keep_freed_memory()
    torch.set_num_threads(chosen.threads)
    top = peak()
    shown = hashlib.sha256(photograph(512, chosen.photos).tobytes()).hexdigest()[:12]
    clock = "processor time" if chosen.processor else "time passed"
    print(
        f"{', '.join(engine.machine(torch.device('cpu')))}; {chosen.threads} threads, load {os.getloadavg()[0]:.1f}; {clock}."
    )
    print(
        f"Peak by a 3x3 convolution: float32 {top['float32']:.0f}, bf16 {top['bf16']:.0f} GFLOP/s. Photograph {shown}.\n"
    )
    print(
        "| network | weights | side | GFLOP | plain torch, s | tuned, s | best in float32, s | gain | best of at least 50 dB, s | gain | of it the code's | "
        "difference | GFLOP/s (of peak) | against spandrel | all |\n|---|---|---:|---:|---:|---:|---|---:|---|---:|---:|---:|---:|---:|---|"
    )
    for case in CASES:
        if not chosen.only or any(part.lower() in case.name.lower() for part in chosen.only):
            print(measure(case, chosen, top), flush=True)
    if chosen.weights is not None and (not chosen.only or "ncnn" in chosen.only):
        print("\n".join(against_ncnn(chosen)), flush=True)


if __name__ == "__main__":
    main()

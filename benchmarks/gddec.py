"""GDDec as the survey has it against ours, and all methods, as SSIM against seconds.

    python benchmarks/gddec.py PICTURE [--size 256] [--kernel 31] [--sigma 1] [--iterations 200] [--plot gddec.svg]

The picture's middle is blurred by a camera shake (only what the kernel covers is kept), gets noise and is rounded to 8 bits. `literal` is
`GDDec.literal()`: bicubic start, spatial convolution, circular border, every one of T steps. After every few steps the SSIM with the
sharp picture is taken (`evaluation.ssim`, protocol deblur-rgb); the time for that is not counted. Seconds are of the processor, one thread.
The speed-up is the literal method's time to its best SSIM over ours to that SSIM; 20 is asked of it. A second row compares at equal
borders: the literal method on a picture that really is periodic.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from restora import evaluation, solvers
from restora.degradation import kernels
from restora.degradation.convolution import convolve
from restora.solvers import Problem, Solver, Step
from restora.solvers.gddec import GDDec

Curve = list[tuple[float, float]]
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")


def similarity(x: Tensor, sharp: Tensor) -> float:
    a, b = (evaluation.to_uint8(t[0].permute(1, 2, 0).clamp(0, 1).numpy()) for t in (x, sharp))
    return float(evaluation.ssim(a, b, protocol="deblur-rgb"))


def follow(solver: Solver, problem: Problem, sharp: Tensor, every: int) -> Curve:
    """SSIM after so many seconds of the solver's own work."""
    curve: Curve = [(0.0, similarity(problem.observed, sharp))]
    looking = 0.0
    start = time.process_time()

    def look(step: Step) -> None:
        nonlocal looking
        if step.done % every and step.done != step.total:
            return
        now = time.process_time()
        curve.append((now - start - looking, similarity(step.image().detach(), sharp)))
        looking += time.process_time() - now

    x = solver.solve(problem, monitor=look)
    curve.append((time.process_time() - start - looking, similarity(x, sharp)))
    return curve


def reached(curve: Curve, level: float) -> float:
    """Seconds to a level; infinity where it is never reached."""
    return next((seconds for seconds, value in curve if value >= level), float("inf"))


def drawing(curves: dict[str, Curve]) -> str:
    """The curves as SVG, seconds on a logarithmic axis."""
    width, height, left, bottom = 760, 460, 60, 50
    least = min(s for c in curves.values() for s, _ in c[1:])
    first, last = np.log10(max(least, 1e-3)) - 0.1, np.log10(max(s for c in curves.values() for s, _ in c)) + 0.1
    low = min(c[0][1] for c in curves.values()) - 0.01
    high = max(v for c in curves.values() for _, v in c) + 0.01

    def place(seconds: float, value: float) -> str:
        t = (np.log10(max(seconds, 10**first)) - first) / (last - first)
        u = (value - low) / (high - low)
        return f"{left + t * (width - left - 180):.1f},{height - bottom - u * (height - bottom - 20):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    ]
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for exponent in range(int(np.ceil(first)), int(np.floor(last)) + 1):
        x = place(10.0**exponent, low).split(",")[0]
        parts.append(f'<line x1="{x}" x2="{x}" y1="20" y2="{height - bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{height - bottom + 16}" text-anchor="middle">{10.0**exponent:g} s</text>')
    for value in np.linspace(low, high, 6):
        y = place(1.0, float(value)).split(",")[1]
        parts.append(f'<line x1="{left}" x2="{width - 180}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{value:.3f}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(place(s, v) for s, v in curve[1:])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = place(*curve[-1]).split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{width - 172}" y="{34 + 18 * number}" fill="{colour}">{name}</text>')
    parts.append('<text x="14" y="14">SSIM against seconds</text></svg>')
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="GDDec, literal and ours.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kernel", type=int, default=31)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--iterations", type=int, default=200, help="T of the literal method")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pixels = cv2.imread(str(arguments.picture), cv2.IMREAD_COLOR)
    side = arguments.size + arguments.kernel - 1
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    if top < 0 or left < 0:
        parser.error(f"the picture is smaller than {side}x{side}")
    part = pixels[top : top + side, left : left + side, ::-1].astype(np.float32) / 255
    wide = torch.from_numpy(part.copy()).permute(2, 0, 1)[None]
    kernel = kernels.trajectory(arguments.kernel, 2)
    generator = torch.Generator().manual_seed(0)

    def noisy(y: Tensor) -> Tensor:
        return ((y + arguments.sigma / 255 * torch.randn(y.shape, generator=generator)).clamp(0, 1) * 255).round() / 255

    inner = arguments.kernel // 2
    sharp = wide[..., inner:-inner, inner:-inner]
    problem = Problem(noisy(convolve(wide, kernel, "valid")), kernel, 1, arguments.sigma)
    circular = Problem(noisy(convolve(sharp, kernel, "circular")), kernel, 1, arguments.sigma, "circular")
    literal = GDDec.literal(arguments.iterations)
    curves = {"GDDec, literal": follow(literal, problem, sharp, 10)}
    for name in ("gddec", "wiener", "richardson-lucy", "total-variation", "hyper-laplacian", "auto"):
        curves[name] = follow(solvers.create(name), problem, sharp, 1)
    periodic = {"literal": follow(literal, circular, sharp, 10), "ours": follow(GDDec(), circular, sharp, 1)}
    digest = hashlib.sha256(arguments.picture.read_bytes()).hexdigest()[:16]
    print(f"picture {digest}, {arguments.size} pixels, kernel {arguments.kernel}, sigma {arguments.sigma:g}\n")
    print("| method | best SSIM | at s | last SSIM | at s | s to the literal method's best |")
    print("|---|---|---|---|---|---|")
    level = max(v for _, v in curves["GDDec, literal"])
    for name, curve in curves.items():
        best = max(curve, key=lambda point: point[1])
        print(
            f"| {name} | {best[1]:.4f} | {best[0]:.2f} | {curve[-1][1]:.4f} | {curve[-1][0]:.2f} | {reached(curve, level):.2f} |"
        )
    print()
    for border, slow, fast in (
        ("photograph", curves["GDDec, literal"], curves["gddec"]),
        ("periodic", periodic["literal"], periodic["ours"]),
    ):
        target = max(v for _, v in slow)
        print(
            f"{border}: literal {reached(slow, target):.2f} s to its best SSIM {target:.4f}, ours {reached(fast, target):.2f} s: "
            f"{reached(slow, target) / reached(fast, target):.0f} times faster (ours ends at {fast[-1][1]:.4f})"
        )
    if arguments.plot:
        arguments.plot.write_text(drawing(curves))


if __name__ == "__main__":
    main()

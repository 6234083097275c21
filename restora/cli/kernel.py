"""`restora kernel`: blur kernels made, looked at, checked, and estimated from a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restora.cli import _options as o

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from restora.degradation.kernel_files import Provenance
    from restora.solvers.kernel_estimation import KernelEstimate

_TRUNCATED = 0.01  # of the weight in the outermost ring: the kernel probably goes on beyond it
_FORMS = "gaussian:1.6, anisotropic:3:1:30, motion:25:30, disk:4, trajectory:31:7, or FILE[:INDEX]"

Kernel = Annotated[str, typer.Argument(help=f"{_FORMS}.", metavar="KERNEL")]


def register(app: typer.Typer) -> None:
    """Adds the group of commands."""
    group = typer.Typer(no_args_is_help=True, help="Make, show, check and estimate blur kernels.")
    app.add_typer(group, name="kernel")

    @group.command(epilog="Example: restora kernel show motion:25:30   restora kernel show k.png -o k_large.png --json")
    def show(
        kernel: Kernel,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="Draw it enlarged, with its numbers.")
        ] = None,
        as_json: o.Json = False,
    ) -> None:
        """Show a kernel: size, sum, centre, extent, as numbers and as a picture."""
        from restora.degradation import kernels

        k = _raw(kernel)
        facts = _facts(k, kernels.provenance(kernel))
        if output is not None:
            _draw(k, [kernel, *_lines(facts)], output)
        if as_json:
            _echo({"kernel": kernel, **facts, "picture": None if output is None else str(output)})
            return
        typer.echo(kernel)
        for line in _lines(facts):
            typer.echo(f"    {line}")
        typer.echo(_blocks(k))

    @group.command(
        epilog="Example: restora kernel make gaussian:1.6 -o k.npy   restora kernel make shaken.mat:3 --repair -o k.png"
    )
    def make(
        kernel: Kernel,
        output: Annotated[Path, typer.Option("-o", "--output", help=".npy, .npz, .txt, or .png (16 bits).")],
        repair: Annotated[
            bool, typer.Option("--repair", help="Centre it, drop negative values, bring the sum to 1.")
        ] = False,
        overwrite: o.Overwrite = False,
        as_json: o.Json = False,
    ) -> None:
        """Write a kernel from a formula, or convert one from another file."""
        from restora.degradation import kernels
        from restora.degradation.kernel_files import Provenance

        _free(output, overwrite)
        k = kernels.parse(kernel)
        k = kernels.repair(k) if repair else k
        kernels.save(output, k, kernels.provenance(kernel) or Provenance(source=kernel))
        for sentence in kernels.problems(k):
            typer.echo(f"Warning: {sentence} --repair mends it.", err=True)
        if as_json:
            _echo({"kernel": str(output), **_facts(k, kernels.provenance(output))})
        else:
            typer.echo(f"{output}: {k.shape[1]}x{k.shape[0]}")

    @group.command(
        epilog="Example: restora kernel check k.png --picture shaken.jpg   (exit code 1: something is wrong)"
    )
    def check(
        kernels_: Annotated[list[str], typer.Argument(help=f"{_FORMS}.", metavar="KERNEL...")],
        picture: Annotated[
            Path | None,
            typer.Option("-i", "--picture", help="The picture it is meant for: is the kernel too large for it?"),
        ] = None,
        as_json: o.Json = False,
    ) -> None:
        """Check kernels before use: centre, sign, sum, border, size, origin. Warnings do not count as faults."""
        from restora.degradation import kernels
        from restora.errors import RestoraError

        size = None
        if picture is not None:
            from restora.io import probe

            info = probe(picture)
            size = info.width, info.height
        bad = 0
        for text in kernels_:
            try:
                k = _raw(text)
                faults, warnings = _findings(k, text, kernels.provenance(text), size)
            except RestoraError as error:
                faults, warnings = [str(error)], []
            bad += bool(faults)
            if as_json:
                _echo({"kernel": text, "ok": not faults, "faults": faults, "warnings": warnings})
                continue
            typer.echo(f"{text}: {'fault' if faults else 'good, with a warning' if warnings else 'good'}")
            for sentence in faults:
                typer.echo(f"    Fault: {sentence}")
            for sentence in warnings:
                typer.echo(f"    Warning: {sentence}")
        if bad:
            raise typer.Exit(1)

    @group.command(
        epilog="Example: restora kernel estimate shaken.jpg -o k.npy --report sheet.png   "
        "then: restora deconvolve shaken.jpg --kernel k.npy"
    )
    def estimate(
        picture: Annotated[Path, typer.Argument(help="The blurred picture.", metavar="IN")],
        output: Annotated[Path, typer.Option("-o", "--output", help=".npy, .npz, .txt, or .png (16 bits).")],
        size: Annotated[
            int | None, typer.Option("--size", min=3, help="Odd side of the square to look in; found by itself.")
        ] = None,
        crop: Annotated[
            str | None,
            typer.Option("--crop", help="Part to look at, as left,top,width,height; a well-textured one by default."),
        ] = None,
        prior: Annotated[
            str, typer.Option("--prior", help="gradient, or dark-channel (slower; scenes with deep shadows).")
        ] = "gradient",
        report: Annotated[
            Path | None, typer.Option("--report", help="A sheet: the part, its sharp version, the kernel, the numbers.")
        ] = None,
        threads: o.Threads = None,
        overwrite: o.Overwrite = False,
        as_json: o.Json = False,
    ) -> None:
        """Estimate the kernel of a shaken or defocused picture, with a confidence. Ctrl-C keeps what there is."""
        from restora.degradation import kernels
        from restora.degradation.kernel_files import Provenance
        from restora.engine import set_threads
        from restora.io import Picture
        from restora.solvers import kernel_estimation

        _free(output, overwrite)
        if report is not None:
            _free(report, overwrite)
        box = _box(crop)
        set_threads(threads)
        source = _tensor(Picture.open(picture).pixels)
        from restora.cli._job import _Stop

        with _Stop() as stop:
            monitor = _Progress(as_json, lambda: stop.asked)
            found = kernel_estimation.estimate(source, size, prior=prior, crop=box, monitor=monitor)  # type: ignore[arg-type]
        monitor.end()
        kernels.save(output, found.kernel, Provenance(True, round(found.confidence, 4), picture.name))
        facts = _facts(found.kernel, kernels.provenance(output))
        if report is not None:
            _report(source, found, [f"confidence {found.confidence:.2f}", *_lines(facts)], report)
        if as_json:
            _echo(
                {
                    "event": "done",
                    "kernel": str(output),
                    **facts,
                    "crop": list(found.crop),
                    "agreement": found.agreement,
                    "notes": list(found.notes),
                    "report": None if report is None else str(report),
                }
            )
        else:
            height, width = found.kernel.shape
            typer.echo(f"{picture} -> {output} ({width}x{height}, confidence {found.confidence:.2f})")
            for note in found.notes:
                typer.echo(f"    {note}")
        if stop.asked:
            raise typer.Exit(130)


def _raw(text: str) -> Tensor:
    """A kernel as it stands, before any division or padding, so that what is wrong with it can be seen."""
    import torch

    from restora.degradation import kernel_files, kernels
    from restora.errors import UsageError

    place = kernels.file_of(text)
    if place is None:
        return kernels.parse(text)
    path, index = place
    found = kernel_files.read(path)
    if index is None and len(found) > 1:
        raise UsageError(f"'{path}' holds {len(found)} kernels; say which, as {path}:0 to {path}:{len(found) - 1}.")
    if not -len(found) <= (index or 0) < len(found):
        raise UsageError(f"'{path}' holds {len(found)} kernels; there is no number {index}.")
    k = torch.from_numpy(found[index or 0].copy())
    # a picture's grey levels have no scale of their own
    return (
        k / k.sum() if Path(path).suffix.lower() not in (".npy", ".npz", ".mat", ".txt", ".csv") and k.sum() > 0 else k
    )


def _facts(k: Tensor, provenance: Provenance | None) -> dict[str, Any]:
    """What there is to say of a kernel, as numbers; a kernel with NaN has a size only."""
    import torch

    height, width = k.shape
    facts: dict[str, Any] = {"width": width, "height": height}
    if bool(torch.isfinite(k).all()) and float(k.clamp(min=0).sum()) > 0:
        positive = k.double().clamp(min=0)
        rows, columns = (positive.sum(axis) > 1e-3 * positive.sum() / max(k.shape) for axis in (1, 0))
        down, right = (
            float(
                (
                    positive.sum(axis) * (torch.arange(k.shape[1 - axis], dtype=torch.float64) - k.shape[1 - axis] // 2)
                ).sum()
                / positive.sum()
            )
            for axis in (1, 0)
        )
        facts |= {
            "sum": round(float(k.double().sum()), 6),
            "centroid": [round(right, 3), round(down, 3)],
            "extent": [_span(columns), _span(rows)],
            "peak": round(float(k.max()), 6),
            "negative": round(float(k.double().clamp(max=0).abs().sum() / positive.sum()), 6),
        }
    facts["estimated"] = bool(provenance and provenance.estimated)
    facts["confidence"] = provenance.confidence if provenance else None
    facts["source"] = provenance.source if provenance else ""
    return facts


def _span(used: Tensor) -> int:
    places = used.nonzero().flatten()
    return int(places[-1] - places[0] + 1) if len(places) else 0


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"size {facts['width']}x{facts['height']}"]
    if "sum" in facts:
        right, down = facts["centroid"]
        lines += [
            f"sum {facts['sum']:.4g}, peak {facts['peak']:.3g}, negative part {facts['negative']:.2%}",
            f"centre of gravity {right:+.2f} px across, {down:+.2f} px down from the middle",
            f"extent {facts['extent'][0]}x{facts['extent'][1]}",
        ]
    else:
        lines.append("holds NaN or infinity, or nothing positive")
    if facts["estimated"]:
        confidence = "" if facts["confidence"] is None else f", confidence {facts['confidence']:.2f}"
        lines.append(f"estimated from '{facts['source']}'{confidence}")
    elif facts["source"]:
        lines.append(f"made from {facts['source']}")
    return lines


def _findings(
    k: Tensor, text: str, provenance: Provenance | None, size: tuple[int, int] | None
) -> tuple[list[str], list[str]]:
    """Faults, which falsify a deconvolution, and warnings."""
    from restora.degradation import kernels

    faults = [f"{s} `restora kernel make KERNEL --repair -o NEW` mends it." for s in kernels.problems(k)]
    warnings = []
    positive = k.double().nan_to_num(0, 0, 0).clamp(min=0)
    if min(k.shape) >= 5 and float(positive.sum()) > 0:
        ring = 1 - float(positive[1:-1, 1:-1].sum() / positive.sum())
        if ring > 0.5:
            warnings.append(
                f"{ring:.0%} of the weight lies at the border: was it drawn dark on white? Light on black is meant."
            )
        elif ring > _TRUNCATED and not _compact(text, provenance):
            warnings.append(
                f"{ring:.1%} of the weight lies at the border: the kernel is probably cut off; use a larger one."
            )
    if size is not None and (k.shape[1] > size[0] or k.shape[0] > size[1]):
        faults.append(f"It is larger than the picture of {size[0]}x{size[1]} pixels.")
    elif size is not None and (k.shape[1] * 4 > size[0] or k.shape[0] * 4 > size[1]):
        warnings.append(f"It is large for a picture of {size[0]}x{size[1]} pixels: a wide border will be guesswork.")
    if provenance and provenance.estimated:
        confidence = "" if provenance.confidence is None else f" (confidence {provenance.confidence:.2f})"
        warnings.append(
            f"It was estimated{confidence}: `restora deconvolve --robust` has a data term for uncertain kernels."
        )
    return faults, warnings


def _compact(text: str, provenance: Provenance | None) -> bool:
    """The kernel ends where it ends: its margins were cut off, or its formula has none."""
    source = text if provenance is None else provenance.source
    return bool(provenance and provenance.estimated) or source.lower().startswith(("disk:", "motion:", "trajectory"))


def _blocks(k: Tensor) -> str:
    """The kernel in characters, two rows a line, for a terminal; nothing for a kernel too wide for one."""
    import numpy as np

    a = np.nan_to_num(k.double().clamp(min=0).numpy(), posinf=0)
    if a.shape[1] > 100 or a.max() <= 0:
        return ""
    a = np.pad(np.sqrt(a / a.max()), ((0, a.shape[0] % 2), (0, 0))).reshape(-1, 2, a.shape[1]).mean(1)
    return "\n".join("    " + "".join(" .:-=+*#%@"[min(9, int(v * 10))] for v in row).rstrip() for row in a)


def _enlarged(k: Tensor, side: int) -> np.ndarray:
    """A kernel in grey, its pixels as squares, the middle marked: `H x W x 3`, uint8."""
    import numpy as np

    a = np.nan_to_num(k.double().numpy())
    grey = np.clip(a / max(a.max(), 1e-12), 0, 1)
    pixels = np.repeat((255 * grey ** (1 / 2.2)).round().astype(np.uint8)[..., None], 3, axis=2)
    pixels[a < 0] = (0, 64, 255)
    factor = max(1, side // max(k.shape))
    large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    y, x = (n // 2 * factor + factor // 2 for n in k.shape)
    reach = max(2, factor // 2)
    large[y, max(0, x - reach) : x + reach + 1] = (255, 64, 32)
    large[max(0, y - reach) : y + reach + 1, x] = (255, 64, 32)
    return large


def _draw(k: Tensor, lines: list[str], output: Path) -> None:
    from restora.evaluation.drawing import grid, labelled
    from restora.io import Picture

    large = _enlarged(k, 384)
    Picture.from_array(grid([[labelled(large, lines, max(480, large.shape[1]))]])).save(output)


def _report(source: Tensor, found: KernelEstimate, lines: list[str], output: Path) -> None:
    """The part of the picture, its sharp version, and the kernel, side by side."""
    import numpy as np

    from restora.evaluation.drawing import grid, labelled
    from restora.io import Picture

    left, top, width, height = found.crop
    part = source[0, :, top : top + height, left : left + width].permute(1, 2, 0).numpy()
    latent = found.latent[0].permute(1, 2, 0).numpy()
    tiles = [(part, "picture, the part looked at"), (latent, "sharp estimate (a cartoon, not a restoration)")]
    row = []
    for pixels, title in tiles:
        shown = np.broadcast_to((pixels.clip(0, 1) * 255).round().astype(np.uint8), (*pixels.shape[:2], 3))
        row.append(labelled(np.ascontiguousarray(shown), [title], max(320, width)))
    row.append(labelled(_enlarged(found.kernel, 320), [*lines, *found.notes], 480))
    Picture.from_array(grid([row])).save(output)


def _tensor(pixels: np.ndarray) -> Tensor:
    """`H x W x C` of any type -> `1 x C x H x W` in [0, 1]."""
    import numpy as np
    import torch

    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return torch.from_numpy(pixels.astype(np.float32) / top).permute(2, 0, 1)[None]


class _Progress:
    """A line that counts the rounds, on a terminal; JSON lines for machines. As a monitor it stops when asked to."""

    def __init__(self, as_json: bool, asked: Any) -> None:
        import sys

        self.as_json, self.asked, self.shown = as_json, asked, False
        self.live = sys.stderr.isatty() and not as_json

    def __call__(self, step: Any) -> bool:
        if self.live:
            side = step.kernel.shape[0]
            typer.echo(f"\rround {step.done} of {step.total}, kernel of {side}x{side} ", nl=False, err=True)
            self.shown = True
        elif self.as_json and (step.done % 10 == 0 or step.done == step.total):
            _echo({"event": "progress", "done": step.done, "total": step.total})
        return bool(self.asked())

    def end(self) -> None:
        if self.shown:
            typer.echo("", err=True)


def _free(output: Path, overwrite: bool) -> None:
    from restora.errors import UsageError

    if output.exists() and not overwrite:
        raise UsageError(f"'{output}' exists; choose another name, or --overwrite.")


def _box(text: str | None) -> tuple[int, int, int, int] | None:
    from restora.errors import UsageError

    if text is None:
        return None
    try:
        left, top, width, height = (int(n) for n in text.split(","))
    except ValueError as error:
        raise UsageError(f"A crop has the form left,top,width,height, not '{text}'.") from error
    return left, top, width, height


def _echo(facts: dict[str, Any]) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False))

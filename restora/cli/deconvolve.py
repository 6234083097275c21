"""`restora deconvolve`: undoes a blur that is known, or estimated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restora.cli import _options as o

_COMPARED = "wiener,rl,gddec,auto"
_METHOD = "Method"


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(
        epilog="Examples: restora deconvolve shaken.jpg --kernel motion:25:30 -o out/   "
        "restora deconvolve soft.tif --kernel disk:4 --method gddec --sigma 2   "
        "restora deconvolve shaken.jpg --kernel estimate --compare sheet.png"
    )
    @o.takes_job_flags
    def deconvolve(
        inputs: o.Inputs,
        flags: o.JobFlags,
        output: o.OutputPath = Path("restored"),
        kernel: Annotated[
            str,
            typer.Option(
                "-k",
                "--kernel",
                help="gaussian:SIGMA, motion:LENGTH:ANGLE, disk:RADIUS; a file (.png, .npy, .mat, .txt); or estimate.",
            ),
        ] = "",
        scale: Annotated[
            int,
            typer.Option("-s", "--scale", min=1, max=16, help="Whole factor of reduction after the blur, undone too."),
        ] = 1,
        sigma: Annotated[str, typer.Option(help="Noise level, 0 to 255, or auto.")] = "auto",
        method: Annotated[
            str,
            typer.Option(
                "--method", help="auto, wiener, rl, gddec, our-nonblind, usrnet, dpir ...; --list-methods names all."
            ),
        ] = "auto",
        model: o.Model = None,
        denoiser: Annotated[
            str | None,
            typer.Option(
                rich_help_panel=_METHOD,
                help="For auto, dpir, admm, red, our-nonblind: a model or file; or dct, tv, nlm; or none.",
            ),
        ] = None,
        enhancer: Annotated[
            str | None, typer.Option(rich_help_panel=_METHOD, help="SRRUNet weights, for our-nonblind.")
        ] = None,
        robust: Annotated[
            bool | None,
            typer.Option(
                "--robust/--no-robust",
                rich_help_panel=_METHOD,
                help="Data term for an uncertain kernel; by default for estimated ones.",
            ),
        ] = None,
        centre: Annotated[
            bool, typer.Option("--centre", "--center", rich_help_panel=_METHOD, help="Centre the kernel first.")
        ] = False,
        check: Annotated[
            bool,
            typer.Option(
                "--check/--no-check",
                rich_help_panel=_METHOD,
                help="Try the kernel's neighbours; tell when one suits better.",
            ),
        ] = True,
        linear: Annotated[
            bool, typer.Option("--linear", rich_help_panel=_METHOD, help="Work in linear light, in which lenses blur.")
        ] = False,
        seed: Annotated[int, typer.Option(min=0, rich_help_panel=_METHOD, help="Of methods that draw at random.")] = 0,
        extra: Annotated[
            list[str] | None,
            typer.Option("--set", rich_help_panel=_METHOD, help="An option of the method, as name=value."),
        ] = None,
        keep_steps: Annotated[
            Path | None, typer.Option(help="Folder for intermediate pictures, in a subfolder for each input.")
        ] = None,
        compare: Annotated[
            Path | None,
            typer.Option(help="Instead of results: a sheet of several methods with scores, seconds and the kernel."),
        ] = None,
        methods: Annotated[
            str, typer.Option("--methods", help="The methods on the sheet, joined by commas.")
        ] = _COMPARED,
        reference: Annotated[
            Path | None, typer.Option("-r", "--reference", help="The sharp picture, for scores on the sheet.")
        ] = None,
        list_methods: Annotated[
            bool,
            typer.Option("--list-methods", is_eager=True, callback=_print_methods, help="List the methods and stop."),
        ] = False,
    ) -> None:
        """Undo a known blur: camera shake, defocus, motion, with or without reduction and noise."""
        from restora.cli import _job
        from restora.errors import UsageError
        from restora.restorers import load

        if not kernel:
            raise UsageError(
                "Say how the picture was blurred: --kernel gaussian:1.6, motion:25:30, disk:4, a file, or estimate."
            )
        controls: dict[str, Any] = {
            "kernel": kernel, "scale": scale, "sigma": sigma, "robust": robust, "centre": centre, "check": check,
            "linear": linear, "seed": seed, "denoiser": denoiser, "enhancer": enhancer, "options": _pairs(extra),
        }  # fmt: skip
        if compare is not None:
            _sheet(inputs, compare, methods, reference, model, controls, flags)
            return
        chosen = None if model is not None and method == "auto" else method
        restorer = load(model, task="deconvolve", method=chosen, keep_steps=keep_steps, **flags.running)
        if flags.dry_run and kernel == "estimate":
            controls["kernel"] = "gaussian:2"
            typer.echo(
                "The time to estimate the kernel comes on top; a Gaussian of 2 pixels stands for it here.", err=True
            )
        restorer.check_controls(controls)

        def on_file(path: Path) -> None:
            restorer.label = path.stem  # type: ignore[attr-defined]

        _job.run(restorer, inputs, output, controls, "_deconvolve" if scale == 1 else f"_x{scale}", flags, on_file)


def _pairs(extra: list[str] | None) -> dict[str, str]:
    from restora.errors import UsageError

    found = {}
    for pair in extra or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set takes name=value, not '{pair}'.")
        found[name.strip()] = value
    return found


def _print_methods(wanted: bool) -> None:
    if wanted:
        from restora.restorers.deconvolve import methods

        for name, line in methods().items():
            typer.echo(f"{name:<18}{line}")
        raise typer.Exit


def _sheet(
    inputs: list[str],
    target: Path,
    methods: str,
    reference: Path | None,
    model: str | None,
    controls: dict[str, Any],
    flags: o.JobFlags,
) -> None:
    """The comparison of several methods on one picture."""
    import json

    from restora.engine import Settings, set_threads
    from restora.errors import UsageError
    from restora.evaluation import comparison
    from restora.io import Picture
    from restora.restorers import Restorer, load
    from restora.restorers.blur_kernel import BlurKernel
    from restora.restorers.deconvolve import Deconvolver, estimated

    if len(inputs) != 1 or not Path(inputs[0]).is_file():
        raise UsageError("--compare makes a sheet of one picture: name a single file.")
    set_threads(flags.threads)
    picture = Picture.open(inputs[0])
    found = estimated(picture.filled(), controls["scale"]) if controls["kernel"] == "estimate" else None
    kernel = found or BlurKernel.of(controls["kernel"])
    settings = Settings(flags.device, flags.precision, flags.tile, threads=flags.threads)
    restorers: list[Restorer] = [Deconvolver(m, settings) for m in methods.split(",") if m.strip()]
    if model is not None:
        restorers.append(load(model, task="deconvolve", **flags.running))
    done = comparison.compare(
        restorers,
        inputs[0],
        reference,
        settings=settings,
        inset=kernel.weights.numpy(),
        **{**controls, "kernel": kernel},
    )
    Picture.from_array(done.sheet).save(target)
    for note in [*kernel.notes, *done.notes]:
        typer.echo(f"Warning: {note}", err=True)
    for r in done.results:
        if flags.as_json:
            facts = {"method": r.name, "seconds": r.seconds, "psnr": r.psnr, "ssim": r.ssim, "protocol": done.protocol}
            typer.echo(json.dumps(facts, ensure_ascii=False))
        else:
            scores = f"  {r.psnr:.2f} dB  SSIM {r.ssim:.4f}  ({done.protocol})" if r.psnr is not None else ""
            typer.echo(f"{r.name:<24}{r.seconds:7.2f} s{scores}")
    if not flags.as_json:
        typer.echo(f"Sheet: {target}")

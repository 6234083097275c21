"""`restora restore`: look what a picture needs and do it; or the steps that are named, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restora.cli import _options as o

if TYPE_CHECKING:
    from restora.restorers import Automatic

_BY_ITSELF = "Where it chooses by itself"


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command(
        epilog="Examples: restora restore old.jpg -o out/ · restora restore scans/ --look · "
        "restora restore old.jpg --steps denoise=drunet.pth,upscale --set denoise.sigma=10 -o out/"
    )
    @o.takes_job_flags
    def restore(
        inputs: o.Inputs,
        flags: o.JobFlags,
        steps: Annotated[
            str | None,
            typer.Option(
                help="Steps in order, each a task or task=model: denoise=drunet.pth,upscale. By default they are chosen for each "
                "picture."
            ),
        ] = None,
        output: o.OutputPath = Path("restored"),
        look: Annotated[
            bool,
            typer.Option(
                "--look",
                rich_help_panel=_BY_ITSELF,
                help="Only tell what is found and what would be done, as --dry-run does.",
            ),
        ] = False,
        strength: Annotated[
            float | None,
            typer.Option(
                help="1 takes each step's result, 0 its input, between them a blend.",
                min=0,
                max=1,
                rich_help_panel=_BY_ITSELF,
            ),
        ] = None,
        scale: Annotated[
            float | None,
            typer.Option(
                "-s", "--scale", "--outscale", help="Enlarge by this factor at the end.", rich_help_panel=_BY_ITSELF
            ),
        ] = None,
        skip: Annotated[
            str | None,
            typer.Option(
                help="Steps not to take: denoise, dejpeg, deblur, deconvolve, separated by commas.",
                rich_help_panel=_BY_ITSELF,
            ),
        ] = None,
        extra: o.Set = None,
    ) -> None:
        """Restore pictures: look what each of them needs, do that, and say what was found and done. One that needs nothing is
        kept as it was.

        With --steps, take those instead, one after the other; between them 16 bits are kept. `restora models show MODEL` lists
        the controls of a step's model; --set step.name=value sets them.
        """
        from restora.cli import _job
        from restora.errors import UsageError
        from restora.restorers import Chain, load

        given = {"strength": strength, "scale": scale, "skip": skip}
        given = {k: v for k, v in given.items() if v is not None}
        if steps is None:
            automatic: Any = load(task="auto", **flags.running)
            controls = given | o.assignments(extra)
            automatic.check_controls(controls)
            if look or flags.dry_run:
                _tell(automatic, inputs, controls, flags)
            else:
                _job.run(automatic, inputs, output, controls, "_restored", flags)
            return
        if given or look:
            named = ", ".join(f"--{k}" for k in [*given, *(["look"] if look else [])])
            raise UsageError(
                f"{named} belong to the automatic choice; with --steps, --set step.name=value sets controls."
            )
        parts = []
        for step in steps.split(","):
            task, _, model = step.strip().partition("=")
            parts.append((task, load(model or None, task=task, **flags.running)))
        chain = Chain(parts)
        controls = o.with_estimates(chain, o.assignments(extra))
        chain.check_controls(controls)
        _job.run(chain, inputs, output, controls, "_" + "_".join(name for name, _ in chain.steps), flags)


def _tell(automatic: Automatic, inputs: list[str], controls: dict[str, Any], flags: o.JobFlags) -> None:
    """Prints what is found in each picture and what would be done; nothing is written."""
    import json

    from restora import jobs
    from restora.errors import RestoraError
    from restora.io import Picture

    checked = automatic.check_controls(controls)
    failed = False
    for file, _ in jobs.expand(inputs, not flags.no_recursive):
        try:
            chosen = automatic.plan(Picture.open(file), checked)
        except RestoraError as error:
            failed = True
            if flags.as_json:
                typer.echo(
                    json.dumps({"event": "failed", "source": str(file), "error": str(error)}, ensure_ascii=False)
                )
            else:
                typer.echo(f"would fail: {error}", err=True)
            continue
        if flags.as_json:
            facts = {"look": chosen.look.to_dict(), "plan": chosen.to_dict(), "text": chosen.paragraph(done=False)}
            typer.echo(json.dumps({"event": "look", "source": str(file), **facts}, ensure_ascii=False))
        else:
            typer.echo(f"{file}\n    {chosen.paragraph(done=False)}")
    if failed:
        raise typer.Exit(1)

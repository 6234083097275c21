"""Flags that several commands share, spelt as this field's users know them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

RUNNING, WRITING, DIVIDING = "How it runs", "How it is written", "How it is divided"


def _flag(*names: str, panel: str | None = None, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


Inputs = Annotated[
    list[str],
    typer.Argument(help="Pictures, folders, or quoted patterns such as 'scans/*.tif'.", metavar="INPUT..."),
]
OutputPath = Annotated[Path, _flag("-o", "--output", help="Folder for the results; or a file, for a single input.")]
Model = Annotated[
    str | None,
    _flag("-n", "--model", "--model_name", help="A name from `restora models list`, or a checkpoint file."),
]
Scale = Annotated[float | None, _flag("-s", "--scale", "--outscale", help="Scale factor from 1 to 32; any number.")]
Ensemble = Annotated[
    bool, _flag("-x", "--ensemble", help="Average over the eight flips and turns (8 times slower, slightly better).")
]
Set = Annotated[
    list[str] | None,
    _flag("--set", help="Another control of the model, as name=value; `restora models show MODEL` lists them."),
]
Tile = Annotated[
    int | None,
    _flag(
        "-t",
        "--tile",
        panel=RUNNING,
        min=0,
        help="Side of a tile in input pixels; 0 for one piece. Fits the memory by itself.",
    ),
]
Threads = Annotated[int | None, _flag("--threads", panel=RUNNING, min=1, help="CPU threads; all cores by default.")]
Device = Annotated[str, _flag("--device", panel=RUNNING, help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, _flag("--precision", panel=RUNNING, help="auto, float32, bf16, fp16 or int8.")]
Backend = Annotated[
    str,
    _flag(
        "--backend", panel=RUNNING, help="auto, torch, compile, openvino or onnxruntime; `restora tune` compares them."
    ),
]
Overwrite = Annotated[bool, _flag("--overwrite", panel=WRITING, help="Replace files that were not made by this job.")]
Flat = Annotated[bool, _flag("--no-recursive", panel=RUNNING, help="Leave out the subfolders of a folder.")]
Json = Annotated[bool, _flag("--json", help="Print JSON lines for machines.")]


@dataclass(frozen=True)
class JobFlags:
    """The flags of every command that takes files and gives files; a command gets them by `@takes_job_flags`."""

    tile: Tile = None
    device: Device = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    threads: Threads = None
    no_recursive: Flat = False
    dry_run: Annotated[
        bool, _flag("--dry-run", panel=RUNNING, help="Only say what would be done, with time and memory.")
    ] = False
    suffix: Annotated[
        str | None,
        _flag("--suffix", panel=WRITING, help="Put behind each name; what was done (_x4, _denoise) by default."),
    ] = None
    ext: Annotated[
        str, _flag("--ext", panel=WRITING, help="auto (as the input), png, jpg, webp, tif, bmp or avif.")
    ] = "auto"
    output_quality: Annotated[
        int | None,
        _flag(
            "-q",
            "--output-quality",
            panel=WRITING,
            min=1,
            max=100,
            help="1 to 100, for jpg, webp and avif (default 95).",
        ),
    ] = None
    overwrite: Overwrite = False
    workers: Annotated[
        int | None,
        _flag(
            "--workers",
            panel=DIVIDING,
            min=1,
            help="Processes that share the cores; small pictures go side by side in one anyway.",
        ),
    ] = None
    executor: Annotated[
        str, _flag("--executor", panel=DIVIDING, help="local, or ray (pip install restora\\[cluster]).")
    ] = "local"
    address: Annotated[
        str | None, _flag("--address", panel=DIVIDING, help="Of a Ray cluster: host:port or auto; else one is started.")
    ] = None
    shard: Annotated[
        str | None,
        _flag(
            "--shard",
            panel=DIVIDING,
            metavar="I/N",
            help="Only every N-th input from the I-th on; N such runs may share the output folder.",
        ),
    ] = None
    as_json: Json = False

    @property
    def crew(self) -> Any:
        """Who does the work, as `jobs.run_job` takes it.

        Raises:
            UsageError: an executor that is not there, or flags that do not go together.
        """
        from restora.errors import UsageError
        from restora.jobs import Crew

        if self.executor not in ("local", "ray"):
            raise UsageError(f"'{self.executor}' is no executor; there are local and ray.")
        if self.address is not None and self.executor != "ray":
            raise UsageError("--address belongs to --executor ray.")
        return Crew(self.workers, self.executor, self.address)

    @property
    def part(self) -> tuple[int, int] | None:
        """The shard, or None for all inputs.

        Raises:
            UsageError: it is not i/n with i from 1 to n.
        """
        from restora.errors import UsageError

        if self.shard is None:
            return None
        number, slash, count = self.shard.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UsageError(f"A shard is I/N with I from 1 to N, such as 3/8; '{self.shard}' was given.")
        return int(number), int(count)

    @property
    def running(self) -> dict[str, Any]:
        """What `restorers.load` takes."""
        names = ("device", "precision", "tile", "threads", "backend")
        return {name: getattr(self, name) for name in names}


def assignments(pairs: list[str] | None) -> dict[str, str]:
    """What `--set name=value` was given, by name.

    Raises:
        UsageError: one without an equals sign.
    """
    from restora.errors import UsageError

    values = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set takes name=value, not '{pair}'.")
        values[name.strip()] = value.strip()
    return values


def with_estimates(restorer: Any, controls: dict[str, Any]) -> dict[str, Any]:
    """The controls, completed: what the model needs, was not given and can be found from the picture is `auto`."""
    from restora.restorers.controls import AUTO, ESTIMATED

    needed = {
        name: AUTO
        for name, field in restorer.controls.model_fields.items()
        if field.is_required() and name.rpartition(".")[2] in ESTIMATED
    }
    return {**needed, **controls}


def takes_job_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the flags of `JobFlags` behind its own; they arrive together as its argument `flags`."""
    own = inspect.signature(command, eval_str=True).parameters
    hints = typing.get_type_hints(JobFlags, include_extras=True)
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in dataclasses.fields(JobFlags)
    ]

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        flags = JobFlags(**{p.name: values.pop(p.name) for p in shared})
        command(**values, flags=flags)

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values() if p.name != "flags"]
    signature = inspect.Signature([*keyword, *shared])
    wrapped.__signature__ = signature  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    del wrapped.__wrapped__  # else the signature of the bare command would be found behind it
    return wrapped

"""Flags that several commands share, spelt as this field's users know them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNNING, WRITING = "How it runs", "How it is written"

Inputs = Annotated[
    list[str], typer.Argument(help="Pictures, folders, or quoted patterns such as 'scans/*.tif'.", metavar="INPUT...")
]
OutputPath = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for the results; or a file, for a single input.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "-n", "--model", "--model_name", help="A name from `restora models list`, 'bicubic', or a checkpoint file."
    ),
]
Scale = Annotated[
    float | None, typer.Option("-s", "--scale", "--outscale", help="Scale factor from 1 to 32; any number.")
]
Ensemble = Annotated[
    bool,
    typer.Option("-x", "--ensemble", help="Average over the eight flips and turns (8 times slower, slightly better)."),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "-t",
        "--tile",
        help="Side of a tile in input pixels; 0 for one piece. Chosen to fit the memory.",
        min=0,
        rich_help_panel=RUNNING,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=RUNNING)]
Precision = Annotated[str, typer.Option("--precision", help="auto, float32, bf16 or fp16.", rich_help_panel=RUNNING)]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads; all cores by default.", min=1, rich_help_panel=RUNNING)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, with time and memory.", rich_help_panel=RUNNING)
]
Suffix = Annotated[
    str | None,
    typer.Option("--suffix", help="Put behind each name; '_x4' (the scale) by default.", rich_help_panel=WRITING),
]
Extension = Annotated[
    str, typer.Option("--ext", help="auto (as the input), png, jpg, webp, tif, bmp or avif.", rich_help_panel=WRITING)
]
Quality = Annotated[
    int | None,
    typer.Option(
        "-q",
        "--quality",
        help="1 to 100, for jpg, webp and avif (default 95).",
        min=1,
        max=100,
        rich_help_panel=WRITING,
    ),
]
OutputQuality = Annotated[
    int | None,
    typer.Option(
        "-q",
        "--output-quality",
        help="1 to 100, for jpg, webp and avif (default 95).",
        min=1,
        max=100,
        rich_help_panel=WRITING,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that were not made by this job.", rich_help_panel=WRITING)
]
Flat = Annotated[
    bool, typer.Option("--no-recursive", help="Leave out the subfolders of a folder.", rich_help_panel=RUNNING)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines for machines.")]

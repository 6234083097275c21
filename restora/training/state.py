"""The state of a run: what a checkpoint holds, written so that it is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from restora.errors import RecipeError
from restora.io import atomic_path

FORMAT = 2


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint under a temporary name and renames it."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, **content}, temporary)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint.

    Raises:
        RecipeError: it is damaged, or of another version of the trainer.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RecipeError(f"The checkpoint '{path}' cannot be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RecipeError(
            f"The checkpoint '{path}' was written by another version of the trainer and cannot be continued; start a new run "
            "from its weights with network.init_from."
        )
    return content


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of torch's own generators, which dropout and the like draw from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts the generators back."""
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Adds a JSON line to a log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut short by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def cut_lines(path: Path, step: int) -> None:
    """Takes away what a killed run logged behind its last checkpoint: the resumed one will log it again."""
    lines = read_lines(path)
    kept = [line for line in lines if line.get("step", 0) <= step]
    if len(kept) < len(lines):
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

"""The command line and the Python lines that do what a job did, ready to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# controls that have a flag of their own, by task; all others go through --set
_FLAGS: dict[str, dict[str, str]] = {
    "upscale": {"scale": "-s", "ensemble": "--ensemble"},
    "denoise": {"sigma": "--sigma", "ensemble": "--ensemble"},
    "deblur": {"mask": "--mask", "ensemble": "--ensemble"},
    "dejpeg": {"quality": "--quality", "ensemble": "--ensemble"},
    "deconvolve": {
        "kernel": "--kernel", "scale": "-s", "sigma": "--sigma", "centre": "--centre", "linear": "--linear",
        "seed": "--seed", "denoiser": "--denoiser",
    },
}  # fmt: skip


def file_of(value: Any) -> Any:
    """What stands for a mask or kernel of the studio outside it: the name under which it can be downloaded."""
    if isinstance(value, str) and value[:2] in ("m-", "k-"):
        return f"{'mask' if value[0] == 'm' else 'kernel'}_{value[2:]}.{'png' if value[0] == 'm' else 'npy'}"
    return value


def command(job: Mapping[str, Any], target: str) -> str:
    """The command; empty where there is none: for masks, and for what the command line cannot name."""
    blended = job["blend"] < 1 and (job["task"] in ("upscale", "deconvolve") or not job.get("by_name", True))
    if job["mask"] or blended or not job.get("by_name", True):
        return ""
    task, flags = job["task"], _FLAGS[job["task"]]
    parts = ["restora", task, _argument(job["name"])]
    parts += ["--method" if task == "deconvolve" and job.get("method") else "-n", job["model"]]
    for name, value in job["controls"].items():
        if value is None:
            continue
        value, flag = file_of(value), flags.get(name)
        if name.startswith("options."):
            parts += ["--set", f"{name.removeprefix('options.')}={_text(value)}"]
        elif name in ("check", "robust") and task == "deconvolve":
            parts.append(f"--{'' if value else 'no-'}{name}")
        elif flag is None:
            parts += ["--set", f"{name}={_text(value)}"]
        elif isinstance(value, bool):
            parts += [flag] if value else []
        else:
            parts += [flag, _text(value)]
    if job["blend"] < 1:
        parts += ["--strength", f"{job['blend']:g}"]
    parts += ["-o", _argument(target)]
    return shlex.join(parts)


def python(job: Mapping[str, Any], target: str) -> str:
    """The Python lines."""
    controls: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in job["controls"].items():
        if value is not None:
            place, key = (options, name.removeprefix("options.")) if name.startswith("options.") else (controls, name)
            place[key] = file_of(value)
    if options:
        controls["options"] = options
    set_ = "".join(f", {name}={value!r}" for name, value in controls.items())
    lines = ["import restora"]
    if job.get("by_name", True):
        task = f', task="{job["task"]}"' if job["task"] in ("deconvolve", "dejpeg") else ""
        made = f'restora.load("{job["model"]}"{task})'
    else:
        lines = ["from restora.restorers.classical import ClassicalDenoiser"]
        made = f'ClassicalDenoiser("{job["model"]}")'
    if job["mask"] or job["blend"] < 1:
        lines.append("from restora.studio.steering import Steered")
        mask = f', mask="{file_of(job["mask"])}"' if job["mask"] else ""
        made = f"Steered({made}, blend={job['blend']:g}{mask})"
    lines += ["", f"restorer = {made}", f"result = restorer({job['name']!r}{set_})", f"result.save({target!r})"]
    return "\n".join(lines)


def target_name(name: str, task: str, controls: Mapping[str, Any], scale: float, suffix: str) -> str:
    """How a result is called: what was done stands behind the name, as the command line has it."""
    mark = f"x{scale:g}" if task == "upscale" or scale != 1 else task
    return f"{Path(name).stem}_{mark}{suffix}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _argument(name: str) -> str:
    """A file name that no command line takes for a flag."""
    return f"./{name}" if name.startswith("-") else name

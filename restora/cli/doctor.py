"""`restora doctor`: what is installed, what is missing, what is fast here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from typing import Any

import typer

from restora.cli import _options as o

_CORE = ("torch", "numpy", "safetensors", "opencv-python-headless", "Pillow", "pydantic", "PyYAML", "typer", "rich")


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def doctor(as_json: o.Json = False) -> None:
        """Check the installation: what is there, what is missing, how fast this machine is."""
        from restora import __version__

        facts: dict[str, Any] = {
            "restora": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
        }
        problems: list[str] = []
        for name in _CORE:
            try:
                facts[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                if name == "opencv-python-headless" and importlib.util.find_spec("cv2"):
                    facts[name] = "another OpenCV package"
                    continue
                facts[name] = None
                problems.append(f"{name} is missing: pip install {name}")
        if facts["torch"]:
            _machine(facts, problems)
        _files(facts, problems)
        facts["problems"] = problems
        if as_json:
            typer.echo(json.dumps(facts, ensure_ascii=False))
        else:
            width = max(map(len, facts))
            for key, value in facts.items():
                if key != "problems":
                    typer.echo(f"{key:<{width}}  {'missing' if value is None else value}")
            typer.echo("No problem found." if not problems else "\n".join(f"Problem: {p}" for p in problems))
        if problems:
            raise typer.Exit(1)


def _machine(facts: dict[str, Any], problems: list[str]) -> None:
    import time

    import torch

    from restora import engine
    from restora.cli._report import size
    from restora.engine.backends import installed

    threads = engine.set_threads(None)
    facts["cpu threads"] = threads
    facts["cpu bf16"] = "native" if engine.cpu_has_bf16() else "not native (float32 is faster)"
    facts["memory free"] = size(engine.free_memory(torch.device("cpu")))
    facts["malloc tuned"] = engine.keep_freed_memory()
    cards = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    facts["cuda"] = ", ".join(cards) or "none"
    facts["mps"] = "yes" if torch.backends.mps.is_available() else "none"
    facts["backends"] = ", ".join(name for name in engine.BACKENDS if installed(name))
    here = [r for r in engine.records() if r.measured and r.machine == engine.machine(torch.device("cpu"))]
    facts["tuned"] = (
        ", ".join(_tuned(record) for record in here) or "nothing; `restora tune MODEL` finds the fastest way"
    )
    facts["auto device"] = str(engine.choose_device("auto"))
    x = torch.rand(1, 64, 256, 256).contiguous(memory_format=torch.channels_last)
    layer: Any = torch.nn.Conv2d(64, 64, 3, padding=1)
    layer = layer.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        layer(x)
        started = time.perf_counter()
        for _ in range(5):
            layer(x)
        seconds = (time.perf_counter() - started) / 5
    facts["convolution speed"] = (
        f"{2 * 9 * 64 * 64 * 256 * 256 / seconds / 1e9:.0f} GFLOP/s (float32, 3x3, {threads} threads)"
    )
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:  # noqa: BLE001 - a broken torchvision raises anything; Restora does not need it
            facts["torchvision"] = f"installed but broken ({type(error).__name__}); Restora does not use it"


def _tuned(record: Any) -> str:
    """A model that was tuned, and what was found."""
    from restora.engine.selection import best_of

    best = best_of(record.measured, None)
    return f"{record.model}: {best.backend} {best.precision}" if best is not None else f"{record.model}: nothing found"


def _files(facts: dict[str, Any], problems: list[str]) -> None:
    import os
    import shutil
    import tempfile

    from restora import zoo
    from restora.cli._report import size
    from restora.errors import RestoraError
    from restora.io import READABLE, WRITABLE

    facts["reads"] = " ".join(sorted(e[1:] for e in READABLE))
    facts["writes"] = " ".join(sorted(e[1:] for e in WRITABLE))
    facts["cache"] = str(zoo.cache_folder())
    scratch = os.environ.get("RESTORA_SCRATCH") or tempfile.gettempdir()
    facts["scratch"] = f"{scratch} ({size(shutil.disk_usage(scratch).free)} free)"
    try:
        models = zoo.list_models()
        for card in models:
            zoo.checked_path(card)
        facts["models"] = f"{len(models)}, all checksums verified"
    except RestoraError as error:
        facts["models"] = "damaged"
        problems.append(str(error))

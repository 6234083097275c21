"""torch.compile: the fastest for some networks where a C++ compiler is at hand, after half a minute to two of compiling."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import Tensor

from restora.engine.backends.base import Call, Unsupported, first_line, kept_file


def installed() -> bool:
    """Whether there is the compiler that torch.compile calls on a CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name)


class CompiledSession:
    """A network compiled for one size of tile; others are left to torch as it is, because each would take as long again.

    Raises:
        Unsupported: it cannot be compiled.
    """

    def __init__(self, call: Call, precision: str, shape: tuple[int, ...]) -> None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kept_file("compiled", "inductor")))
        self.shape, self.half = shape, precision == "bf16"
        options: dict[str, Any] = {"freezing": True} if self.half else {}
        self.program = torch.compile(call, dynamic=False, options=options)
        self.ready = False

    def __call__(self, *tensors: Tensor) -> Tensor | None:
        x = tensors[0]
        if tuple(x.shape) != self.shape:
            return None
        try:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half), torch.no_grad():
                y = self.program(x.contiguous(memory_format=torch.channels_last), *tensors[1:])
        except RuntimeError as error:
            if self.ready:
                raise
            raise Unsupported(f"torch.compile fails ({first_line(error)})") from error
        self.ready = True
        return y.float()

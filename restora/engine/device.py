"""Which device, which precision, and how much memory there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from restora.errors import UsageError

# what is 8-bit is so inside a backend; the engine around it computes in float32
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is the first of CUDA, MPS, CPU that is there.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is no device; use auto, cpu, cuda, cuda:1 or mps.") from error
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False):
        raise UsageError(
            f"There is no {device.type} device here; `restora doctor` lists what there is. Use --device cpu."
        )
    return device


def choose_precision(name: str, device: torch.device, half_safe: bool) -> torch.dtype:
    """The data type of a computation that is not a network's, or of one by its spec alone: ``auto`` is float32 on a CPU and
    fp16 on a CUDA card for networks that stand it. `engine.choose_way` knows more about networks.

    Raises:
        UsageError: not a precision, or fp16 on a CPU.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" and half_safe else torch.float32
    if name not in _DTYPES:
        raise UsageError(f"'{name}' is no precision; use auto, {', '.join(_DTYPES)}.")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is slow and fragile on a CPU; use bf16 or float32.")
    return _DTYPES[name]


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 natively (AVX-512 bf16 or AMX)."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def cpu_saturates_int8() -> bool:
    """Whether this CPU adds two 8-bit products in 16 bits, which overflow: x86 without VNNI. Weights of 7 bits fit there."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    exact = ("avx512_vnni", "avx_vnni", "amx_int8")
    return capabilities.get("architecture") == "x86_64" and not any(capabilities.get(name) for name in exact)


def free_memory(device: torch.device) -> int:
    """Bytes that may still be allocated: on the card, or in main memory within the limit of the control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = 4 << 30
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(available, _control_group_room())


def _control_group_room() -> int:
    """What a container's limit leaves, or no limit."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        if limit == "max":
            return 1 << 62
        # the page cache counts as used, but gives way
        cache = next(
            int(li.split()[1]) for li in (root / "memory.stat").read_text().splitlines() if li.startswith("file ")
        )
        return max(0, int(limit) - int((root / "memory.current").read_text()) + cache)
    except (OSError, ValueError, StopIteration):
        return 1 << 62

"""Peak memory of a piece of work."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType


class PeakMemory:
    """Measures how far a block raises the memory of this process (or of a CUDA card) above what it was.

    >>> with PeakMemory() as peak:
    ...     work = bytearray(50_000_000)
    >>> peak.bytes is None or peak.bytes > 40_000_000
    True

    On Linux the kernel's high-water mark is reset and read, or, where that is not allowed, the resident size is sampled;
    elsewhere `bytes` is None.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        self._stop, self._sampler, self._highest = threading.Event(), None, 0
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
            self._before: int | None = torch.cuda.memory_allocated(self.device)
            return self
        _trim()
        self._marked = _reset_mark()
        self._before = _resident("VmRSS")
        if not self._marked and self._before is not None:
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self._highest = max(self._highest, _resident("VmRSS") or 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler is not None:
            self._stop.set()
            self._sampler.join()
        if self.device.startswith("cuda"):
            import torch

            highest: int | None = torch.cuda.max_memory_allocated(self.device)
        else:
            highest = _resident("VmHWM") if self._marked else max(self._highest, _resident("VmRSS") or 0)
        if self._before is not None and highest:
            self.bytes = max(0, highest - self._before)


def _trim() -> None:
    """Hands freed memory back to the kernel (glibc), so that an earlier picture's does not hide this one's."""
    import ctypes
    import sys

    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _reset_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def _resident(key: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None

"""Batches made ahead in a thread of their own, while the network is busy."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import torch

from restora.training.batch import Batch


class Prefetcher:
    """Calls `make(step)` for one step after the other, at most `ahead` steps before it is asked for.

    What a step gets does not depend on when it was made, so that nothing here can change a run. `work` adds up the
    processor time that went into making batches, in seconds.
    """

    def __init__(self, make: Callable[[int], Batch], first: int, last: int, ahead: int) -> None:
        self._make, self._next, self._last = make, first, last
        self.work = 0.0
        self._stop = threading.Event()
        self._ready: queue.Queue[tuple[int, Batch | BaseException]] = queue.Queue(max(1, ahead))
        self._thread: threading.Thread | None = None
        if ahead:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _timed(self, step: int) -> Batch:
        tick = time.thread_time()
        try:
            return self._make(step)
        finally:
            self.work += time.thread_time() - tick

    def _run(self) -> None:
        # the network's threads would wait for ours: OpenMP and OpenCV keep this one to itself
        torch.set_num_threads(1)
        for step in range(self._next, self._last):
            try:
                made: Batch | BaseException = self._timed(step)
            except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the batch
                made = error
            while not self._stop.is_set():
                try:
                    self._ready.put((step, made), timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or isinstance(made, BaseException):
                return

    def batch(self, step: int) -> Batch:
        """The batch of a step; steps are asked for in order."""
        if self._thread is None:
            return self._timed(step)
        there, made = self._ready.get()
        if isinstance(made, BaseException):
            raise made
        assert there == step, f"step {there} was ready, {step} was asked"
        return made

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread is not None:
            while self._thread.is_alive():
                try:
                    self._ready.get_nowait()
                except queue.Empty:
                    self._thread.join(0.05)

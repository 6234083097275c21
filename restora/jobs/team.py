"""Who does the work of a job: this thread, several threads, several processes, or a Ray cluster."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from restora.engine import set_threads
from restora.jobs.worker import Outcome, Task, Tell, Worker

_TICK = 0.1  # seconds between two looks at whether the user wants to stop
_PATIENCE = 10.0  # seconds that a thread has to end


@dataclass(frozen=True)
class Crew:
    """How a job is divided. `workers`: processes, None for this one alone (``local``) or one a machine (``ray``). `executor`:
    ``local`` or ``ray``. `address`: of a Ray cluster that is there; None starts one on this machine."""

    workers: int | None = None
    executor: str = "local"
    address: str | None = None


class Team(Protocol):
    """Takes tasks and gives outcomes, in any order. Everything is called from one thread."""

    @property
    def places(self) -> int:
        """How many tasks may be given and not yet received."""

    def give(self, task: Task) -> None: ...
    def receive(self) -> Outcome:
        """Waits for the next outcome; events that come meanwhile are told."""

    def close(self) -> None:
        """Ends all work; what is not received is lost, and leaves no file behind."""


class Alone:
    """One task after the other, in the thread that asks for it."""

    places = 1

    def __init__(self, worker: Worker, tell: Tell, cancelled: Callable[[], bool]) -> None:
        self.worker, self.tell, self.cancelled = worker, tell, cancelled
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task

    def receive(self) -> Outcome:
        assert self.task is not None
        task, self.task = self.task, None
        return self.worker.do(task, self.tell, self.cancelled)

    def close(self) -> None:
        """Nothing is under way."""


class Threads:
    """Several threads around one `Worker`, which shares the cores out among them."""

    def __init__(self, worker: Worker, tell: Tell, cancelled: Callable[[], bool]) -> None:
        self.worker, self.tell, self.cancelled = worker, tell, cancelled
        self.places = worker.callers + 1  # one in stock
        self._before = torch.get_num_threads()
        self._closing = False
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[tuple[str, int, dict[str, Any]] | Outcome] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(worker.callers)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        def stopped() -> bool:
            return self._closing or self.cancelled()

        while (task := self._tasks.get()) is not None:
            self._said.put(
                Outcome(task.index, band=task.band) if stopped() else self.worker.do(task, self._say, stopped)
            )

    def _say(self, event: str, index: int, data: dict[str, Any]) -> None:
        self._said.put((event, index, data))

    def give(self, task: Task) -> None:
        self._tasks.put(task)

    def receive(self) -> Outcome:
        while True:
            # waiting in short turns, because a wait without end would not see a signal on every system
            with contextlib.suppress(queue.Empty):
                said = self._said.get(timeout=_TICK)
                if isinstance(said, Outcome):
                    return said
                self.tell(*said)

    def close(self) -> None:
        self._closing = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE)
        set_threads(self._before)  # threads that begin later take the number that was set last
        while True:
            try:
                said = self._said.get_nowait()
            except queue.Empty:
                return
            discard(said)


def discard(said: Any) -> None:
    """Removes the file of an outcome that nobody will receive."""
    if isinstance(said, Outcome) and said.held is not None:
        with contextlib.suppress(OSError):
            said.held.unlink(missing_ok=True)

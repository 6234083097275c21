"""A job on several processes of this machine. One that is killed is replaced, and its part is done again."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import restora
from restora.errors import EngineError
from restora.io import remove_stale
from restora.jobs.team import discard
from restora.jobs.worker import Outcome, Task, Tell

_ATTEMPTS = 3  # how often a file may cost a process its life
_TICK = 0.2
_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], value: Any) -> None:
    """Writes an object as a frame: its length, then its bytes."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def frames(stream: IO[bytes]) -> Any:
    """The objects that `send` wrote, until the stream ends, be it in the middle of one."""
    while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if len(data := stream.read(length)) < length:
            return
        yield pickle.loads(data)


class _Process:
    """A worker process and the tasks that it has."""

    def __init__(self, order: dict[str, Any], threads: int, said: queue.SimpleQueue) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join([str(Path(restora.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        }
        # Ctrl-C goes to all of a terminal's processes; this one is told by us, also while it still starts
        apart: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "restora.jobs.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            **apart,
        )
        self.tasks: dict[Any, Task] = {}
        self._said = said
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        self.send(order)

    def send(self, value: Any) -> None:
        assert self.child.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: the reader tells so
            send(self.child.stdin, value)

    def _listen(self) -> None:
        assert self.child.stdout is not None
        for value in frames(self.child.stdout):
            self._said.put((self, value))
        self._said.put((self, None))

    def give(self, task: Task) -> None:
        self.tasks[task.key] = task
        self.send(task)


class Processes:
    """`workers` processes, each with its share of `threads`.

    Args:
        parcel: restorer and controls, see `parcel.pack`. encoding: as `Output.encoding`.
    """

    def __init__(
        self,
        parcel: bytes,
        encoding: dict[str, Any],
        workers: int,
        threads: int,
        tell: Tell,
        cancelled: Callable[[], bool],
    ) -> None:
        self.tell, self.cancelled = tell, cancelled
        self.threads = max(1, threads // workers)
        self._order = {"parcel": parcel, "encoding": encoding, "threads": self.threads}
        self._said: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self._deaths: Counter[Any] = Counter()
        self._stopped = False
        self._folders: set[Path] = set()
        self._early: list[Outcome] = []
        self._crew = [self._started() for _ in range(workers)]
        # what a worker restores side by side, and one in stock
        self.places = workers * (self.threads + 2)

    def _started(self) -> _Process:
        return _Process(self._order, self.threads, self._said)

    def give(self, task: Task) -> None:
        self._folders.add(task.target.parent)
        min(self._crew, key=lambda p: len(p.tasks)).give(task)

    def receive(self) -> Outcome:
        while not self._early:
            if not self._stopped and self.cancelled():
                self._stopped = True
                for process in self._crew:
                    process.send("stop")
            try:
                process, value = self._said.get(timeout=_TICK)
            except queue.Empty:
                continue
            if value is None:
                self._replace(process)
            elif isinstance(value, Outcome):
                process.tasks.pop(value.key, None)
                return value
            else:
                self.tell(*value)
        return self._early.pop()

    def _replace(self, process: _Process) -> None:
        """Another process takes the place and the tasks of one that ended."""
        process.child.wait()
        for folder in self._folders:
            remove_stale(folder)
        if process not in self._crew:
            return
        self._crew.remove(process)
        self._crew.append(successor := self._started())
        for key, task in process.tasks.items():
            self._deaths[key] += 1
            if self._stopped:
                self._early.append(Outcome(task.index, band=task.band))
            elif self._deaths[key] < _ATTEMPTS:
                successor.give(task)
            else:
                error = EngineError(
                    f"'{task.source}': the process that restored it was ended {_ATTEMPTS} times (status "
                    f"{process.child.returncode}); memory may be short: try fewer --workers or a smaller --tile."
                )
                self._early.append(Outcome(task.index, error=str(error), band=task.band))

    def close(self) -> None:
        for process in self._crew:
            assert process.child.stdin is not None
            with contextlib.suppress(OSError):
                process.child.stdin.close()  # which ends it, after the tile in hand
        for process in self._crew:
            try:
                process.child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()
            process._reader.join()
            assert process.child.stdout is not None
            process.child.stdout.close()
        while not self._said.empty():
            discard(self._said.get()[1])
        for folder in self._folders:
            remove_stale(folder)

"""A job on a Ray cluster: this machine's cores, or many machines with a common folder for pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from restora.engine import usable_cores
from restora.errors import Cancelled, EngineError, MissingExtra, RestoraError, UsageError
from restora.io import identity, remove_stale
from restora.jobs.parcel import pack, unpack
from restora.jobs.team import Crew
from restora.jobs.worker import Outcome, Task, Tell, Worker, side_by_side
from restora.restorers import Restorer

_ATTEMPTS = 3
_TICK = 0.2
_REACH = 5.0  # seconds in which a machine has to answer


class _Hand:
    """The actor: a `Worker` on some machine of the cluster."""

    def __init__(self, parcel: bytes, encoding: dict[str, Any], threads: int) -> None:
        restorer, controls = unpack(parcel, threads)
        self.worker = Worker(restorer, controls, encoding, threads, alone=not side_by_side(restorer))

    def who(self) -> str:
        """Whose name its temporary files bear."""
        return identity()

    def do(self, task: Task) -> Outcome:
        """Restores one file."""
        return self.worker.do(task, lambda *_: None, lambda: False)


class Cluster:
    """Ray actors, one for each of `crew.workers`, with weights from the object store.

    Args:
        restorer: its settings say how many threads the workers on a machine share; None for all its cores.

    Raises:
        MissingExtra: Ray is not installed. UsageError: there is no cluster at that address, or it lacks cores.
        EngineError: Ray does not start here. Cancelled: `cancelled()` said so meanwhile.
    """

    def __init__(
        self,
        restorer: Restorer,
        controls: dict[str, Any],
        encoding: dict[str, Any],
        crew: Crew,
        tell: Tell,
        cancelled: Callable[[], bool],
    ) -> None:
        self.tell, self.cancelled = tell, cancelled
        self._folders: set[Path] = set()
        self._deaths: Counter[Any] = Counter()
        self._tasks: dict[Any, tuple[Any, Task]] = {}  # by reference: the actor and what it was given
        self._names: dict[Any, str] = {}
        self._ended: list[str] = []  # whose temporary files have no owner any more
        self.ray = _ray()
        self._started_it = not self.ray.is_initialized()
        if self._started_it:
            try:
                _connect(self.ray, crew.address, max(usable_cores(), crew.workers or 1))
            except RestoraError as error:
                if cancelled():  # Ctrl-C ends Ray's own processes too, while they start
                    raise Cancelled("Stopped on request, while Ray started.") from error
                raise
        self._crew: list[Any] = []
        try:
            self._hire(restorer, controls, encoding, crew)
        except BaseException:
            self.close()
            raise

    def _hire(self, restorer: Restorer, controls: dict[str, Any], encoding: dict[str, Any], crew: Crew) -> None:
        nodes = [int(n["Resources"].get("CPU", 0)) for n in self.ray.nodes() if n["Alive"]]
        nodes = [n for n in nodes if n]
        if not nodes:
            raise UsageError("The Ray cluster has no machine with cores.")
        count = crew.workers or len(nodes)
        each = -(-count // len(nodes))  # workers on a machine
        self.threads = max(1, (restorer.settings.threads or min(nodes)) // each)
        if sum(n // self.threads for n in nodes) < count:
            raise UsageError(
                f"{count} workers with {self.threads} threads each do not fit the cluster's machines "
                f"({', '.join(f'{n} cores' for n in nodes)}); ask for fewer --workers or --threads."
            )
        self._callers = self.threads + 1 if side_by_side(restorer) else 1
        # without a runtime_env, so that Ray takes processes which it has already started; their threads follow num_cpus
        self._kind = self.ray.remote(_Hand).options(num_cpus=self.threads, max_concurrency=self._callers)
        self._order = (self.ray.put(pack(restorer, controls)), encoding, self.threads)  # the weights go out once
        self._crew += [self._hired() for _ in range(count)]
        self.places = count * (self._callers + 1)

    def _hired(self) -> Any:
        hand = self._kind.remote(*self._order)
        self._names[hand] = hand.who.remote()
        return hand

    def give(self, task: Task) -> None:
        self._folders.add(task.target.parent)
        loads = Counter(hand for hand, _ in self._tasks.values())
        self._give(min(self._crew, key=lambda hand: loads[hand]), task)

    def _give(self, hand: Any, task: Task) -> None:
        # paths are the user's, which another machine has in no folder of its own
        there = dataclasses.replace(task, source=task.source.absolute(), target=task.target.absolute())
        self._tasks[hand.do.remote(there)] = hand, task
        self.tell("file", task.index, {})

    def receive(self) -> Outcome:
        while True:
            if self.cancelled():
                return self._dropped()
            ready, _ = self.ray.wait(list(self._tasks), num_returns=1, timeout=_TICK)
            if not ready:
                continue
            hand, task = self._tasks.pop(ready[0])
            try:
                return self.ray.get(ready[0])
            except self.ray.exceptions.RayActorError as error:
                self._replace(hand)
                self._deaths[task.key] += 1
                if self._deaths[task.key] >= _ATTEMPTS:
                    reason = EngineError(
                        f"'{task.source}': the worker that restored it was lost {_ATTEMPTS} times "
                        f"({str(error).splitlines()[0]})."
                    )
                    return Outcome(task.index, error=str(reason), band=task.band)
                self.give(task)
            except self.ray.exceptions.RayError as error:
                return Outcome(task.index, error=f"'{task.source}': {str(error).splitlines()[0]}", band=task.band)

    def _dropped(self) -> Outcome:
        """Ends the workers, and gives back a task undone."""
        for hand in self._crew:
            self._end(hand)
        self._crew = []
        _, task = self._tasks.popitem()[1]
        return Outcome(task.index, band=task.band)

    def _replace(self, hand: Any) -> None:
        if hand in self._crew:
            self._end(hand)
            self._crew[self._crew.index(hand)] = self._hired()

    def _end(self, hand: Any) -> None:
        """Ends a worker, and removes what it left half-written."""
        name = None
        with contextlib.suppress(self.ray.exceptions.RayError):
            name = self.ray.get(self._names.pop(hand), timeout=1)
        self.ray.kill(hand)
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.get(hand.who.remote(), timeout=_REACH)  # which it never answers: until then it may still write
        if name:
            self._ended.append(str(name))
            self._sweep()

    def _sweep(self) -> None:
        for folder in self._folders:
            remove_stale(folder, self._ended)

    def close(self) -> None:
        for hand in self._crew:
            self._end(hand)
        if self._started_it:
            self.ray.shutdown()
        self._sweep()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra(
            "Ray is not installed: `pip install restora[cluster]`, or leave out --executor ray."
        ) from error
    return ray


def _connect(ray: Any, address: str | None, cores: int) -> None:
    """Joins a cluster, or starts one of so many cores on this machine, without a dashboard.

    Raises:
        UsageError: there is none at `address`. EngineError: none can be started.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # "local": never one that happens to run here, which may be another user's
        options |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
    else:
        _look_for(address)
        options["address"] = address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(**options)
    except Exception as error:  # Ray raises what it is given by its parts, and Exception itself
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if address is None:
            raise EngineError(f"Ray did not start on this machine: {reason}") from error
        raise UsageError(f"No Ray cluster can be used at '{address}': {reason}") from error


def _look_for(address: str) -> None:
    """Ray itself would try for minutes to reach a machine where nobody listens.

    Raises:
        UsageError: `host:port` does not answer.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return  # auto, or something that Ray may know
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"No Ray cluster answers at '{address}' ({error}); `ray start --head` prints the address to give."
        ) from error

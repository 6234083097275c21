"""A worker process: takes an order and tasks from its standard input, gives events and outcomes on its standard output.

    python -m restora.jobs.serve

It ends when its input ends, so that none is left behind when the program that started it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from restora.jobs.parcel import unpack
from restora.jobs.processes import frames, send
from restora.jobs.team import Alone, Threads, discard
from restora.jobs.worker import Outcome, Task, Worker, side_by_side


def main() -> None:
    """Serves until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program that started us tells us
    incoming = frames(sys.stdin.buffer)
    outgoing = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not come between the frames
    talking = threading.Lock()
    stop = threading.Event()
    order = next(incoming, None)
    if order is None:
        return
    restorer, controls = unpack(order["parcel"], order["threads"])
    alone = not side_by_side(restorer)
    worker = Worker(restorer, controls, order["encoding"], order["threads"], alone)

    def say(value: object) -> None:
        try:
            with talking:
                send(outgoing, value)
        except OSError:  # nobody listens any more
            stop.set()

    def tell(event: str, index: int, data: dict) -> None:
        say((event, index, data))

    team = (Alone if alone else Threads)(worker, tell, stop.is_set)
    tasks: list[Task] = []
    changed = threading.Condition()
    ended = False

    def listen() -> None:
        nonlocal ended
        for value in incoming:
            if value == "stop":
                stop.set()
            else:
                with changed:
                    tasks.append(value)
                    changed.notify()
        stop.set()
        with changed:
            ended = True
            changed.notify()

    threading.Thread(target=listen, daemon=True).start()
    under_way = 0
    while True:
        with changed:
            while not (tasks or ended or under_way):
                changed.wait()
            given = [tasks.pop(0) for _ in range(min(len(tasks), team.places - under_way))]
            if ended and not given and not under_way:
                break
        for task in given:
            if stop.is_set():
                say(Outcome(task.index, band=task.band))
            else:
                team.give(task)
                under_way += 1
        if under_way:
            outcome = team.receive()
            under_way -= 1
            discard(outcome) if ended else say(outcome)
    team.close()


if __name__ == "__main__":
    main()

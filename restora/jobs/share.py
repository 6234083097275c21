"""A fixed amount of something (cores, bytes) that several threads share."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator


class Share:
    """`total` units. Who asks for some waits until they are free; first come, first served, so that nobody waits for ever."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Holds `amount` units, all of them where it is more, while the block runs."""
        amount = min(amount, self.total)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self.free >= amount)
                self.free -= amount
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.free += amount
                self._changed.notify_all()

"""News for everybody who listens: jobs that change, the queue that stops and goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from restora.errors import UsageError

_LISTENERS = 64
_HELD = 500  # messages that a listener may be behind
_BEAT = 15.0  # seconds between signs of life


class Events:
    """Messages go to every listener as server-sent events; `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def publish(self, kind: str, data: Any) -> None:
        """Sends a message; nobody waits for slow listeners."""
        if self._loop is None or self._loop.is_closed() or not self._listeners:
            return
        text = f"event: {kind}\ndata: {json.dumps(data)}\n\n"
        self._loop.call_soon_threadsafe(self._spread, text)

    def _spread(self, text: str | None) -> None:
        for queue in list(self._listeners):
            if queue.full():  # it sleeps: what it misses it will ask for when it wakes
                queue.get_nowait()
            queue.put_nowait(text)

    def listen(self) -> AsyncIterator[str]:
        """The stream of a new listener.

        Raises:
            UsageError: there are too many.
        """
        if len(self._listeners) >= _LISTENERS:
            raise UsageError("Too many pages listen to this studio; close some.")
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue(_HELD)
        self._listeners.add(queue)
        return self._stream(queue)

    async def _stream(self, queue: asyncio.Queue[str | None]) -> AsyncIterator[str]:
        try:
            yield "retry: 2000\n\n"
            while not self.closed:
                try:
                    text = await asyncio.wait_for(queue.get(), _BEAT)
                except TimeoutError:
                    text = ": alive\n\n"
                if text is None:
                    return
                yield text
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """Ends all streams."""
        self.closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spread, None)

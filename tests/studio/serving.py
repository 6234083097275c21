"""A studio in this process, and one in a process of its own that can be killed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.conftest import make_photo


def png(array: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    """An array as the bytes of a file."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, format, **options)
    return out.getvalue()


def photo_png(height: int = 60, width: int = 84, seed: int = 0) -> bytes:
    return png(make_photo(height, width, seed))


def upload(client: Any, data: bytes | None = None, name: str = "photo.png") -> str:
    """Sends a picture; returns its id."""
    answer = client.post("/api/files", files={"files": (name, data or photo_png())})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]["id"]


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def finished(client: Any, id: str) -> dict[str, Any]:
    """The job when it has come to its end."""

    def ended() -> dict[str, Any] | None:
        job = client.get(f"/api/jobs/{id}").json()
        return job if job["state"] in ("done", "failed", "cancelled") else None

    return until(ended)


def arrays(data: bytes) -> np.ndarray:
    """The pixels of an answer."""
    return np.asarray(Image.open(io.BytesIO(data)))


class Server:
    """`restora studio` in a process of its own, at a port that the system chose."""

    def __init__(self, folder: Path, *arguments: str, quick: bool = True) -> None:
        command = [
            sys.executable,
            "-m",
            "restora",
            "studio",
            "--no-browser",
            "--port",
            "0",
            "--state",
            str(folder),
            *arguments,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.said = []
        assert self.process.stderr is not None
        while "studio: http" not in (line := self.process.stderr.readline()):
            assert line, "the server ended: " + "".join(self.said)
            self.said.append(line)
        self.url = next(word for word in line.split() if word.startswith("http"))
        self.client = httpx.Client(base_url=self.url.partition("?")[0], timeout=120)

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        self.process.send_signal(signal.SIGKILL)
        self._gone()

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self._gone()

    def _gone(self) -> int:
        self.client.close()
        status = self.process.wait(30)
        assert self.process.stderr is not None
        self.said.append(self.process.stderr.read())
        self.process.stderr.close()
        return status

"""Runs the studio: one server for a state folder, on a free port, with a browser in front of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from restora.errors import MissingExtra, RestoraError, UsageError
from restora.studio.settings import StudioSettings, is_loopback

_TRIES = 50


class AlreadyRunning(RestoraError):
    """Another studio works with this folder; `url` is where."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        super().__init__(
            f"A studio already runs with the folder '{folder}'{f', at {url}' if url else ''}. "
            "Stop it, or set RESTORA_CACHE to another folder."
        )


def serve(settings: StudioSettings, say: Callable[[str], None], browser: bool = True) -> None:
    """Runs until Ctrl-C or SIGTERM.

    Args:
        say: gets the sentences for the user, the address (with the token, once) among them.

    Raises:
        MissingExtra: FastAPI or uvicorn are not installed. AlreadyRunning: with this folder. UsageError: no such address.
    """
    try:
        import multipart  # noqa: F401
        import uvicorn

        from restora.studio.app import create_app
    except ImportError as error:
        raise MissingExtra("The studio needs FastAPI and uvicorn: pip install 'restora[studio]'.") from error
    with _alone(settings.folder) as lock:
        sock = listen(settings.host, settings.port)
        wanted, port = settings.port, sock.getsockname()[1]
        settings = replace(settings, port=port)
        url = address(settings)
        _leave(lock, url)
        app = create_app(settings)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, server_header=False, lifespan="on",
            h11_max_incomplete_event_size=64 << 10, timeout_keep_alive=20,
        )  # fmt: skip
        server = uvicorn.Server(config)
        if wanted and port != wanted:
            say(f"Port {wanted} is taken; using {port}.")
        say(f"Restora studio: {url}   (Ctrl-C ends it)")
        if not is_loopback(settings.host):
            say(
                "Others can reach it, with this token only. The connection is not encrypted: use it in a network that you trust."
            )
        if browser:
            threading.Thread(target=_open, args=(server, url), daemon=True).start()
        _end_streams(app, server)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[sock])
        say("The studio has ended; jobs that were not done go on at the next start.")


def listen(host: str, port: int) -> socket.socket:
    """A socket at that port, or at the next free one; 0 lets the system choose.

    Raises:
        UsageError: the host is none of this machine's, or no port is free.
    """
    try:
        family, kind, proto, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"'{host}' is no address of this machine.") from error
    for number in range(port, min(port + _TRIES, 65536)) if port else (0,):
        sock = socket.socket(family, kind, proto)
        if os.name == "posix":  # elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((place[0], number, *place[2:]))
            sock.listen(256)
            return sock
        except OSError as error:
            sock.close()
            if error.errno in (99, 10049):  # not available here
                raise UsageError(f"'{host}' is no address of this machine.") from error
    raise UsageError(f"No port from {port} on is free; choose another with --port.")


def address(settings: StudioSettings) -> str:
    """What the user opens: with the token, where there is one."""
    host = settings.host
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname() if host else "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.port}/" + (f"?token={settings.token}" if settings.token else "")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[IO[str]]:
    """Holds the folder's lock, which goes with the process however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.name == "posix":
            folder.chmod(0o700)  # pictures and the token's address are the user's own
        lock = (folder / "server.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The studio cannot write to '{folder}' ({error.strerror}); set RESTORA_CACHE to another folder."
        ) from error
    with lock:
        try:
            _lock(lock)
        except OSError as error:
            lock.seek(0)
            raise AlreadyRunning(_told(lock.read()), folder) from error
        yield lock


def _lock(file: IO[str]) -> None:
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]


def _leave(lock: IO[str], url: str) -> None:
    """Writes where the server is, for the next who tries to start one."""
    lock.seek(0)
    lock.truncate()
    json.dump({"url": url, "pid": os.getpid()}, lock)
    lock.flush()


def _told(text: str) -> str:
    try:
        return str(json.loads(text).get("url", ""))
    except (ValueError, AttributeError):
        return ""


def _open(server: Any, url: str) -> None:
    """Opens the browser when the server answers."""
    for _ in range(200):
        if server.started:
            with contextlib.suppress(webbrowser.Error, OSError):
                webbrowser.open(url)
            return
        time.sleep(0.05)


def _end_streams(app: Any, server: Any) -> None:
    """Lets the event streams end as soon as the server is asked to: it would wait for them."""
    handle = server.handle_exit

    def ended(*arguments: Any) -> None:
        app.state.events.close()
        handle(*arguments)

    server.handle_exit = ended

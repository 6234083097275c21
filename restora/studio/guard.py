"""Who may ask, how much and how often: one middleware in front of every route.

A page of another site must not reach this server through the visitor's browser: the Host header has to name this server (DNS
rebinding), and what changes anything has to come from this server's own page (cross-site requests). Where others can reach the
server, every request carries the token.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from restora.studio.settings import StudioSettings, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

COOKIE = "restora_token"
_SAFE = ("GET", "HEAD", "OPTIONS")
_CLIENTS = 4096
_BURST = 4.0
_JSON_BYTES = 8 << 20  # of a body that is no upload
_HEADERS = (
    (b"content-security-policy",
     b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
     b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)  # fmt: skip


class TooLarge(Exception):
    """A body went on beyond the limit."""


class Rates:
    """A bucket of requests for each client: filled evenly, emptied by requests."""

    def __init__(self, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = a_second, max(1.0, a_second * _BURST), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """0 when the request may pass, else the seconds until one may."""
        with self._lock:
            now = self.clock()
            left, since = self._buckets.pop(client, (self.burst, now))
            left = min(self.burst, left + (now - since) * self.rate)
            passes = left >= 1
            self._buckets[client] = (left - passes, now)
            while len(self._buckets) > _CLIENTS:
                self._buckets.popitem(last=False)
            return 0.0 if passes else (1 - left) / self.rate


class Guard:
    """The middleware. Refusals are JSON with one sentence, as all errors are."""

    def __init__(self, app: Any, settings: StudioSettings) -> None:
        self.app, self.settings = app, settings
        self.rates = Rates(settings.limits.requests_a_second)
        self.alone = is_loopback(settings.host)
        own = socket.gethostname().lower()
        self.names = {"localhost", settings.host.lower().strip("[]"), *(h.lower() for h in settings.allowed_hosts)}
        if not self.alone:
            self.names |= {own, f"{own}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}

        async def reply(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {k.lower() for k, _ in message.get("headers", [])}
                message["headers"] = [*message.get("headers", []), *(h for h in _HEADERS if h[0] not in present)]
            await send(message)

        # a caller without the token must not use up the rate of one who has it, nor learn anything but that
        refusal = (
            self._host(headers) or self._origin(scope, headers) or self._rate(scope) or self._token(scope, headers)
        )
        refusal = refusal or self._length(scope, headers)
        if refusal:
            await _refuse(reply, *refusal)
        elif self._arrives(scope):
            await self._let_in(scope, reply)
        else:
            await self._counted(scope, receive, reply)

    # the checks: None, or status, sentence and further headers

    def _host(self, headers: dict[str, str]) -> tuple[Any, ...] | None:
        name = _hostname(headers.get("host", ""))
        if name is not None:
            if name in self.names:
                return None
            try:
                address = ipaddress.ip_address(name)
            except ValueError:
                pass
            else:  # an address cannot be rebound: who resolves no name is misled by none
                if address.is_loopback or not self.alone:
                    return None
        return 400, "This studio does not answer to that host name; use the address that it printed at its start."

    def _origin(self, scope: Scope, headers: dict[str, str]) -> tuple[Any, ...] | None:
        site = headers.get("sec-fetch-site", "none")
        page = scope["path"] in ("/", "/index.html") and headers.get("sec-fetch-mode") == "navigate"
        foreign = site not in ("same-origin", "none") and not page
        if (origin := headers.get("origin")) is not None and scope["method"] not in _SAFE:
            foreign = foreign or urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        if foreign:
            return 403, "The request came from a page of another site, which may not use this studio."
        return None

    def _rate(self, scope: Scope) -> tuple[Any, ...] | None:
        wait = self.rates.wait((scope.get("client") or ("?",))[0])
        if wait:
            after = str(max(1, round(wait + 0.5)))
            return 429, "Too many requests; wait a moment.", [(b"retry-after", after.encode())]
        return None

    def _token(self, scope: Scope, headers: dict[str, str]) -> tuple[Any, ...] | None:
        if self.settings.token is None:
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = [bearer.strip()] if scheme.lower() == "bearer" else []
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        given += [cookie.value] if cookie is not None else []
        given += [_query_token(scope)] if scope["path"] == "/" else []  # elsewhere it would lie about in logs
        if any(hmac.compare_digest(g.encode(), self.settings.token.encode()) for g in given):
            return None
        sentence = (
            "This studio needs its token: open the address that it printed at its start, or send it as a bearer token."
        )
        return 401, sentence, [(b"www-authenticate", b"Bearer")]

    def _length(self, scope: Scope, headers: dict[str, str]) -> tuple[Any, ...] | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18:
            return 400, "The Content-Length is no number."
        limit = self._limit(scope)
        return (413, _too_large(limit)) if int(length) > limit else None

    def _limit(self, scope: Scope) -> int:
        return self.settings.limits.upload_bytes if scope["path"] in ("/api/files", "/api/masks") else _JSON_BYTES

    def _arrives(self, scope: Scope) -> bool:
        """Whether somebody opens the page by the printed address."""
        return self.settings.token is not None and scope["path"] == "/" and bool(_query_token(scope))

    async def _let_in(self, scope: Scope, send: Send) -> None:
        """The token moves from the address into a cookie that no script and no other site can use."""
        cookie = f"{COOKIE}={self.settings.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and stops reading a body that is longer than it may be, whatever its headers said."""
        limit, read, started = self._limit(scope), 0, False

        def exceeded() -> bool:
            return read > limit and not started

        async def measured() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if exceeded():
                raise TooLarge
            return message

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if not exceeded():  # what the application makes of a body that was cut off is not the reason
                started = True
                await send(message)

        with contextlib.suppress(TooLarge):
            await self.app(scope, measured, watched)
        if exceeded():
            await _refuse(send, 413, _too_large(limit))


def _hostname(host: str) -> str | None:
    """The name in a Host header, without port; None where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if host and parts.hostname and not (parts.path or parts.username) else None


def _query_token(scope: Scope) -> str:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]


def _too_large(limit: int) -> str:
    return f"The upload is larger than the {limit / 1e6:.0f} MB that this studio takes at once."


async def _refuse(send: Send, status: int, sentence: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"error": sentence}).encode()
    fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # what is left of the request is not read: the connection ends
    fixed += [(b"connection", b"close")] if status in (401, 403, 413) else []
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})

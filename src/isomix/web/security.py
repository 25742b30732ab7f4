"""The gate before every route: host, origin, token, sizes, and the headers of every answer.

The order is part of it: the name that the browser asked for is checked before anything else (DNS rebinding), then where the request
comes from, then who sends it, then how large it is.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from isomix.web.text import without_paths

__all__ = ["CSP", "HEADERS", "Access", "Gate", "error_body"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CSP = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
MAX_JSON = 2_000_000
MAX_UPLOAD = 25_000_000
MAX_IN_FLIGHT = 1_200
UPLOADS = "/api/uploads"
OPEN = "/open"
PICTURE_TYPES = frozenset(
    f"image/{kind}" for kind in ("jpeg", "png", "webp", "gif", "avif", "bmp", "x-ms-bmp", "tiff", "heic", "heif")
)
PASSING = frozenset(("GET", "HEAD"))


@dataclass
class Access:
    """Who may come in: a token, tickets that work once, and the secret of the cookie.

    Attributes
    ----------
    port : int
        Also part of the cookie's name: cookies know no ports.
    hosts : frozenset of str
        Values of the Host header that are answered.
    any_address : bool
        The server listens on every address: then any address that is a number, with its port, is answered too. A rebound
        name is never a number.
    token : str
        Opens the door again and again; never printed.
    """

    port: int
    hosts: frozenset[str]
    any_address: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    _tickets: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"isomix-{self.port}"

    def new_ticket(self) -> str:
        """A ticket for the link that opens the studio once."""
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            self._tickets.add(ticket)
        return ticket

    def take(self, ticket: str) -> bool:
        """Use a ticket up; false if it is none, or was used."""
        with self._lock:
            found = next(
                (known for known in self._tickets if hmac.compare_digest(known.encode(), ticket.encode())), None
            )
            self._tickets.discard(found or "")
            return found is not None

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(self.token.encode(), token.encode())

    def answers(self, host: str) -> bool:
        """Whether a Host header names this server."""
        if host in self.hosts:
            return True
        if not self.any_address:
            return False
        name, colon, port = host.rpartition(":")
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return bool(colon) and port == str(self.port)

    def set_cookie(self) -> str:
        """The header that lets a browser in."""
        return f"{self.cookie}={self.secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"

    def lets_in(self, headers: dict[str, str]) -> bool:
        """Whether a request has the cookie or the token."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(token.strip()):
            return True
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self.secret.encode())


def error_body(message: str, code: str) -> bytes:
    """The one shape of every error: no traceback, no absolute path."""
    return json.dumps({"error": {"code": code, "message": without_paths(message)}}, ensure_ascii=True).encode()


class Gate:
    """ASGI application around another one."""

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # there is no WebSocket here
            return None
        guarded = _with_headers(send)
        refused = self._refusal(scope)
        if refused is not None:
            return await _answer(guarded, *refused)
        if self._in_flight >= MAX_IN_FLIGHT:
            return await _answer(guarded, 503, "too many requests at once; try again in a second", "busy", retry=True)
        self._in_flight += 1
        try:
            await self._pass_on(scope, receive, guarded)
        finally:
            self._in_flight -= 1
        return None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = MAX_UPLOAD if scope["path"] == UPLOADS else MAX_JSON
        started = too_large = False
        seen = 0

        async def counted() -> Message:
            nonlocal seen, too_large
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:  # what comes after is not read
                too_large = True
                return {"type": "http.disconnect"}
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if too_large and not started:
                return
            started = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception:
            if not too_large and not started:
                await _answer(send, 500, "this is a bug in isomix; the terminal says more", "bug")
            if not too_large:
                raise
        if too_large and not started:
            await _answer(send, 413, f"more than the {limit // 1_000_000} MB that are taken", "too-large", close=True)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        """Status, message and code of a request that goes no further."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key == "host" and key in headers:
                return 400, "two Host headers", "host"
            headers[key] = value.decode("latin-1")
        host, method, path = headers.get("host", ""), scope["method"], scope["path"]
        if not self.access.answers(host):
            return 421, "this server does not go by that name", "host"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "requests from other pages are not answered", "origin"
        if not _same_site(headers, method, path):
            return 403, "requests from other pages are not answered", "origin"
        if path != OPEN and not self.access.lets_in(headers):
            return 401, "no token: open the studio by its link", "token"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method not in PASSING:
            allowed = (
                PICTURE_TYPES
                if path == UPLOADS
                else {"application/x-www-form-urlencoded"}
                if path == OPEN
                else {"application/json"}
            )
            if kind not in allowed:
                return 415, f"content type {kind!a}, expected {', '.join(sorted(allowed))}", "content-type"
        limit = MAX_UPLOAD if path == UPLOADS else MAX_JSON
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "a length that is no number", "length"
        if len(length) > 12 or int(length) > limit:
            return 413, f"more than the {limit // 1_000_000} MB that are taken", "too-large"
        return None


def _same_site(headers: dict[str, str], method: str, path: str) -> bool:
    """Whether a request comes from our own pages, from the address bar, or from a program that is no browser."""
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return True
    # A link on another page may lead here: nothing happens by looking, and the cookie does not come along.
    page = not path.startswith(("/api/", "/static/"))
    return page and method in PASSING and headers.get("sec-fetch-mode") == "navigate"


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.decode("latin-1").lower() for name, _ in message.get("headers", [])}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k not in present]
            if "cache-control" not in present:
                extra.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sending


async def _answer(
    send: Send, status: int, message: str, code: str, *, retry: bool = False, close: bool = False
) -> None:
    body = error_body(message, code)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry:
        headers.append((b"retry-after", b"1"))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def ticket_of(query: bytes) -> str:
    """The ticket in the query of the link."""
    return parse_qs(query.decode("latin-1")).get("ticket", [""])[0][:200]

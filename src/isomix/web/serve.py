"""Serve one table on an address of this machine."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence

from isomix.errors import InputError
from isomix.web.app import create_app
from isomix.web.security import Access
from isomix.web.studio import Studio

__all__ = ["serve"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SHORTEST_TOKEN = 16


def serve(
    table: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 7317,
    token: str | None = None,
    model: str | None = None,
    read_only: bool = False,
    roots: Sequence[str | os.PathLike[str]] = (),
    open_browser: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve a table until Ctrl-C.

    Parameters
    ----------
    table : path-like
        Made by ``isomix embed``.
    host : str
        Address to listen on. Another one than this machine's own needs a token of at least 16 characters, chosen here or
        by you; what is sent is not encrypted.
    port : int
        0 takes any that is free.
    token : str, optional
        Opens the studio in any browser. Default: a random one that is never shown; the link that is said works once.
    model, read_only, roots
        As for :class:`Studio`.
    open_browser : bool
        Open the link in the user's browser.
    say : callable
        Gets the lines that the user should read, among them the link.

    Raises
    ------
    InputError
        The port is in use, the address is none of this machine, or the token is too short.
    TableError
        No table.
    """
    import uvicorn

    if token is not None and len(token) < SHORTEST_TOKEN:
        raise InputError(
            f"token: got {len(token)} characters, expected at least {SHORTEST_TOKEN}. Leave it out for a random one."
        )
    listening = _listen(host, port)
    try:
        studio = Studio(table, model=model, read_only=read_only, roots=roots)
    except BaseException:
        listening.close()
        raise
    port = listening.getsockname()[1]
    access = Access(port, _hosts(host, port), any_address=_is_any(host), token=token or secrets.token_urlsafe(32))
    shown = "127.0.0.1" if _is_any(host) else host
    link = f"http://{_bracketed(shown)}:{port}/open?ticket={access.new_ticket()}"
    say(f"{studio.path.name}: {len(studio.rows):,} pictures, {studio.rows.table.metadata.model}")
    say(f"open {link}")
    say("The link works once. Ctrl-C ends the studio.")
    if not _is_loopback(host):
        say("Others on this network can reach the studio with the link or the token; what is sent is not encrypted.")
    config = uvicorn.Config(
        create_app(studio, access), log_level="warning", access_log=False, server_header=False, date_header=False,
        limit_concurrency=None, timeout_keep_alive=20, h11_max_incomplete_event_size=65_536,
    )  # fmt: skip
    if open_browser:
        threading.Timer(0.6, webbrowser.open, [link]).start()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        studio.close()


def _listen(host: str, port: int) -> socket.socket:
    listening = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise InputError(
            f"port {port} of {host} cannot be listened on ({error.strerror or error}). Another studio may run there: open "
            "that one, or name another port, e.g. --port 0 for any that is free."
        ) from error
    return listening


def _hosts(host: str, port: int) -> frozenset[str]:
    names = {f"{name}:{port}" for name in LOOPBACK} if _is_loopback(host) or _is_any(host) else set()
    return frozenset({*names, f"{_bracketed(host)}:{port}"})


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::", "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

"""No network in the tests: names are not looked up, and nothing is reached beyond this machine.

``tests/conftest.py`` loads it into the process of the tests, and puts its folder first on ``PYTHONPATH``, so that programs
which the tests start load it too. What is tried is refused and written down; the test during which it happens fails.
It sees sockets of Python, not those that a compiled library opens by itself.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

ATTEMPTS, ALLOWED = "ISOMIX_TESTS_ATTEMPTS", "ISOMIX_TESTS_NETWORK"


def is_here(host: object) -> bool:
    """Whether a host is this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: raise on lookups and connections, but those of this machine."""
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # others are sockets of this machine
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if is_here(host) or os.environ.get(ALLOWED):
        return
    attempts = os.environ.get(ATTEMPTS)
    if attempts:
        with open(attempts, "a", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not imported for every program
            file.write(f"{event} {host!r} by {' '.join(sys.argv)[:200]}\n")
    raise OSError(f"no network in the tests: {event} {host!r}")


sys.addaudithook(refuse)

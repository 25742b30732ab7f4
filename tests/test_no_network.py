"""The net under the tests: nothing leaves this machine, in this process and in those that tests start."""

from __future__ import annotations

import http.server
import runpy
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

NO_NETWORK = Path(__file__).with_name("no_network")


@pytest.fixture
def own_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "attempts"
    path.touch()
    monkeypatch.setenv("ISOMIX_TESTS_ATTEMPTS", str(path))
    return path


def send_datagram(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"x", (host, 53))


@pytest.mark.parametrize("call", [
    lambda: socket.getaddrinfo("huggingface.co", 443),
    lambda: socket.gethostbyname("huggingface.co"),
    lambda: socket.create_connection(("203.0.113.1", 443), timeout=1),
    lambda: send_datagram("203.0.113.1"),
    lambda: urllib.request.urlopen("https://huggingface.co/api/models"),
])  # fmt: skip
def test_other_machines_are_refused_and_the_attempt_is_written_down(own_attempts, call):
    with pytest.raises(OSError, match="no network in the tests"):
        call()
    assert own_attempts.read_text().startswith("socket.")


def test_programs_are_refused_too(own_attempts):
    script = "import socket\ntry: socket.getaddrinfo('huggingface.co', 443)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert "huggingface.co" in own_attempts.read_text()


def test_this_machine_is_reached(own_attempts):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with socket.create_connection(("localhost", server.server_address[1]), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"501" in b"".join(iter(lambda: connection.recv(4096), b""))
    left, right = socket.socketpair()
    left.close(), right.close()
    assert own_attempts.read_text() == ""


def test_marked_tests_may(own_attempts, monkeypatch):
    hook = runpy.run_path(str(NO_NETWORK / "sitecustomize.py"))["refuse"]
    with pytest.raises(OSError, match="no network in the tests"):
        hook("socket.getaddrinfo", ("huggingface.co", 443))
    monkeypatch.setenv("ISOMIX_TESTS_NETWORK", "1")
    before = own_attempts.read_text()
    hook("socket.getaddrinfo", ("huggingface.co", 443))
    assert own_attempts.read_text() == before

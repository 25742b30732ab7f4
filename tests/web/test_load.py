"""1,000 requests at once on a real server, and the command that starts one."""

from __future__ import annotations

import asyncio
import collections
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest


def test_a_thousand_requests_at_once_are_all_answered(made, start_server):
    with start_server(made / "icons.lance") as (address, access):
        paths = ["/api/table", "/api/rows?rows=0-20", "/", "/static/js/main.js", "/api/votes", "/api/sheet?rows=0-40"]
        paths += [f"/api/picture/{row}?size={size}" for row in range(20) for size in (96, 256)]

        async def ask_all() -> list[int]:
            limits = httpx.Limits(max_connections=1000, max_keepalive_connections=0)
            headers = {"authorization": f"Bearer {access.token}"}
            async with httpx.AsyncClient(base_url=address, limits=limits, timeout=120, headers=headers) as client:

                async def one(number: int) -> int:
                    if number % 7 == 0:
                        body = {"query": f"row:{number % 67}", "band": [number % 90, 30], "k": 12}
                        return (await client.post("/api/search", json=body)).status_code
                    return (await client.get(paths[number % len(paths)])).status_code

                return await asyncio.gather(*(one(number) for number in range(1000)))

        codes = collections.Counter(asyncio.run(ask_all()))
        assert set(codes) <= {200, 202, 503}
        assert codes[200] > 900
        after = httpx.get(f"{address}/api/table", headers={"authorization": f"Bearer {access.token}"}, timeout=30)
        assert after.status_code == 200


def test_more_at_once_than_are_taken_are_told_to_come_back(served, monkeypatch):
    monkeypatch.setattr("isomix.web.security.MAX_IN_FLIGHT", 0)
    answer = served.client.get("/api/table")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_full_queue_of_pictures_says_so(served, monkeypatch):
    monkeypatch.setattr("isomix.web.pictures.WAITING", 0)
    answer = served.client.get("/api/picture/3?size=1024")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.fixture
def command(made):
    """Start ``isomix serve`` in a process of its own; gives it and the link that it says."""
    started = []

    def begin(*options: str):
        process = subprocess.Popen(
            [sys.executable, "-m", "isomix", "serve", str(made / "icons.lance"), "--no-open", "--read-only", *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        )
        started.append(process)
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            if not line:
                break
            said += line
        return process, said

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_serve_says_a_link_that_works_once_and_ends_with_ctrl_c(command):
    process, said = command("--port", "0", "--token", "chosen by the user")
    link = re.search(r"http://127\.0\.0\.1:\d+/open\?ticket=[\w-]+", said)[0]
    assert "chosen" not in said
    for until in range(100):
        try:
            first = httpx.get(link, timeout=10)
            break
        except httpx.ConnectError:
            assert until < 99
            time.sleep(0.1)
    assert first.status_code == 200
    assert httpx.get(link).status_code == 401
    address = link.partition("/open")[0]
    assert httpx.get(f"{address}/api/table").status_code == 401
    assert httpx.get(f"{address}/api/table", headers={"authorization": "Bearer chosen by the user"}).status_code == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    assert "ticket" not in out + err, "no log of requests"


def test_a_port_in_use_is_an_error_that_says_what_to_do(made, cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = cli("serve", made / "icons.lance", "--no-open", "--port", taken.getsockname()[1])
    assert result.code == 1
    assert "--port 0" in result.err
    assert "Traceback" not in result.err


def test_a_short_token_is_refused(made, cli):
    result = cli("serve", made / "icons.lance", "--no-open", "--port", 0, "--token", "short")
    assert result.code == 1
    assert "at least 16" in result.err


def test_an_address_that_is_not_of_this_machine_is_refused(made, cli, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = cli("serve", made / "icons.lance", "--no-open", "--port", 0, "--host", "nowhere.invalid")
    assert result.code == 1
    assert "nowhere.invalid cannot be listened on" in result.err


def test_no_table_and_an_empty_one(tmp_path, cli):
    assert "does not exist" in cli("serve", tmp_path / "none.lance", "--no-open").err
    assert cli("serve", tmp_path / "none.lance", "--no-open").code == 1


NASTY = [
    "",
    "0",
    "-1",
    "1e400",
    "9" * 30,
    "nan",
    "null",
    "true",
    "[]",
    "\x00",
    "%00",
    "../..",
    "é" * 50,
    "0-5,3",
    "s:x",
    "<b>",
    "' OR 1=1",
]


def test_whatever_is_thrown_at_the_described_api_no_answer_is_a_server_error(served, ask):
    """A small fuzz of every operation of the OpenAPI file; ``make fuzz`` throws much more at it (schemathesis)."""
    described = served.client.get("/api/openapi.json").json()
    bodies = [
        {},
        [],
        None,
        3,
        "x",
        {"rows": ["a"]},
        {"query": {"a": 1}},
        {"query": "row:0", "band": [10**30, "x"]},
        {"query": "row:0", "k": 1.5},
    ]
    tried = 0
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            for value in NASTY if method == "get" else bodies:
                where = path.replace("{row}", "0").replace("{name}", "0")
                if method == "get":
                    answer = served.client.get(where, params=dict.fromkeys(names, value))
                elif path == "/api/reload":
                    continue
                else:
                    kind = "image/png" if path == "/api/uploads" else "application/json"
                    content = b"x" if path == "/api/uploads" else __import__("json").dumps(value).encode()
                    answer = served.client.post(where, content=content, headers={"content-type": kind})
                tried += 1
                assert answer.status_code < 500, (method, path, value, answer.text)
    assert tried > 300


@pytest.mark.parametrize("path", ["/api/layout?k_top=100000", "/api/layout?k_top=100&k_bottom=92", "/api/sheet?rows="])
def test_what_a_fuzzer_found(served, ask, path):
    answer = ask(served.client, path)
    assert answer.status_code == 422 or answer.json()["adapted"] is False

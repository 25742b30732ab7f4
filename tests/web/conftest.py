"""A small table of the bundled pictures with hostile company, served in this process and by a real server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the studio needs isomix[web]")

import isomix
from isomix.store import embed
from isomix.web import Studio, create_app
from isomix.web.security import Access

HOST = "127.0.0.1:7317"
PICTURES = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    '=HYPERLINK("x").png',
    "red\x1b[31mtext.png",
    "\u202egnp.exe.png",
    "'; DROP TABLE x --.png",
]


class Served(NamedTuple):
    """A studio and how to talk to it."""

    studio: Studio
    access: Access
    client: Any
    stranger: Any


@pytest.fixture(scope="session")
def encoder():
    return isomix.load_encoder("embedded")


@pytest.fixture(scope="session")
def made(tmp_path_factory, encoder) -> Path:
    """A folder with a table of 72 pictures: ten classes, hostile names, a copy, a near copy, two splits."""
    folder = tmp_path_factory.mktemp("studio")
    source = folder / "pictures"
    for concept in sorted(path for path in PICTURES.iterdir() if path.is_dir())[:10]:
        for number, path in enumerate(sorted(concept.glob("*.png"))[:6]):
            target = source / concept.name / f"{number}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    first = sorted(source.rglob("*.png"))[0]
    shutil.copy(first, source / "copy.png")
    Image.open(first).convert("RGB").resize((60, 60)).save(source / "near.png")
    rng = np.random.default_rng(0)
    for number, name in enumerate(HOSTILE):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(source / f"{number}.png")
        (source / f"{number}.png").rename(source / name)
    listing = folder / "list.csv"
    with listing.open("w", newline="") as stream:
        import csv

        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        for number, path in enumerate(sorted(source.rglob("*.png"))):
            inside = path.relative_to(source)
            label = inside.parts[0] if len(inside.parts) > 1 else "<b>odd</b>"
            writer.writerow([str(inside), label, "test" if number % 4 == 0 else "train"])
    embed(listing, folder / "icons.lance", encoder, root=source)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    for name in ("pictures", "icons.lance"):
        shutil.copytree(made / name, tmp_path / name)
    shutil.copy(made / "icons.thumbnails.sqlite", tmp_path)
    for path in made.glob("*errors*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    return tmp_path


@pytest.fixture
def serve_here():
    """Serve a table in this process: ``serve_here(path, **options)`` gives a :class:`Served`."""
    from starlette.testclient import TestClient

    opened: list[Studio] = []

    def begin(path: Path, **options: Any) -> Served:
        studio = Studio(path, **options)
        opened.append(studio)
        access = Access(7317, frozenset({HOST}), token="a token for the tests of the studio")
        app = create_app(studio, access)
        headers = {"host": HOST}
        client = TestClient(
            app, base_url=f"http://{HOST}", headers={**headers, "authorization": f"Bearer {access.token}"}
        )
        return Served(studio, access, client, TestClient(app, base_url=f"http://{HOST}", headers=headers))

    yield begin
    for studio in opened:
        studio.close()


@pytest.fixture
def served(folder, serve_here) -> Served:
    return serve_here(folder / "icons.lance")


def settled(client: Any, path: str, seconds: float = 60.0, **options: Any) -> Any:
    """The answer once the work behind it is done."""
    until = time.monotonic() + seconds
    while True:
        answer = client.post(path, **options) if "json" in options else client.get(path, **options)
        waiting = answer.status_code == 202 or (
            path == "/api/search" and answer.status_code == 200 and answer.json()["working"]
        )
        if not waiting or time.monotonic() > until:
            return answer
        time.sleep(0.05)


@pytest.fixture
def ask():
    """Ask until the work is done: ``ask(client, "/api/bands")``."""
    return settled


@contextlib.contextmanager
def real_server(path: Path, **options: Any) -> Iterator[tuple[str, Access]]:
    """A server of uvicorn in a thread; gives its address and who may come in."""
    import uvicorn

    studio = Studio(path, **options)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(2048)
    port = listening.getsockname()[1]
    access = Access(port, frozenset({f"127.0.0.1:{port}"}))
    server = uvicorn.Server(uvicorn.Config(create_app(studio, access), log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}", access
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        studio.close()


@pytest.fixture(scope="session")
def start_server():
    """``with start_server(path) as (address, access)``."""
    return real_server


@pytest.fixture(scope="session")
def fingerprint_of():
    """Hash of every file of a table."""
    import hashlib

    def of(path: Path) -> str:
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if file.is_file():
                digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
        return digest.hexdigest()

    return of

"""The safety list of the studio, a test each: what others got wrong."""

from __future__ import annotations

import re
import struct
import zlib

import pytest

from isomix.web.app import routes_of
from isomix.web.security import CSP, Access, Gate

PNG = b"\x89PNG\r\n\x1a\n"


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    """A picture file that says how large it is, and holds what it likes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", data or zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def _calls(served):
    """Every route of the application with every method it takes."""
    from fastapi.routing import APIRoute

    app = routes_of(served.studio, served.access)

    def walk(routes):
        for route in routes:
            inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
            if inner and not isinstance(route, APIRoute):
                yield from walk(inner)
            else:
                yield route

    for route in walk(app.routes):
        path = re.sub(r"\{path:path\}", "js/main.js", route.path)
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield method, re.sub(r"\{\w+\}", "0", path)


def test_1_the_token_opens_again_and_again_the_link_once_and_neither_is_in_a_log(served, caplog):
    ticket = served.access.new_ticket()
    first = served.stranger.get(f"/open?ticket={ticket}")
    assert first.status_code == 200
    cookie = first.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    served.stranger.cookies.clear()
    assert served.stranger.get(f"/open?ticket={ticket}").status_code == 401
    assert served.stranger.get("/api/table", headers={"cookie": cookie.split(";")[0]}).status_code == 200
    assert served.stranger.get("/api/table", headers={"cookie": f"{served.access.cookie}=guess"}).status_code == 401
    assert served.stranger.get("/api/table", headers={"authorization": "Bearer guess"}).status_code == 401
    assert served.client.get("/api/table").status_code == 200
    secrets = (ticket, served.access.token, served.access.secret)
    assert not any(secret in text for secret in secrets for text in (caplog.text, repr(served.access)))


def test_1_the_token_typed_in_opens_too_and_a_wrong_one_does_not(served, monkeypatch):
    monkeypatch.setattr("isomix.web.routes.pages.WRONG_TOKEN_SECONDS", 0.0)
    assert served.stranger.post("/open", data={"token": "guess"}).status_code == 401
    answer = served.stranger.post("/open", data={"token": served.access.token})
    assert answer.status_code == 200
    assert served.access.cookie in answer.headers["set-cookie"]
    assert served.access.token not in answer.text


def test_2_every_route_wants_the_token(served):
    calls = list(_calls(served))
    assert len(calls) > 35
    for method, path in calls:
        headers = {"content-type": "application/x-www-form-urlencoded" if path == "/open" else "application/json"}
        if path == "/api/uploads":
            headers["content-type"] = "image/png"
        answer = served.stranger.request(method, path, headers=headers)
        assert answer.status_code == 401, (method, path, answer.status_code)
        assert "set-cookie" not in answer.headers


def test_2_a_route_that_is_added_tomorrow_wants_it_too(served):
    app = routes_of(served.studio, served.access)
    app.add_api_route("/tomorrow", lambda: {"secret": 1})
    from starlette.testclient import TestClient

    client = TestClient(Gate(app, served.access), base_url=str(served.client.base_url))
    assert client.get("/tomorrow").status_code == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:7317",
        "127.0.0.1",
        "127.0.0.1:7318",
        "127.0.0.1:7317.evil.example",
        "localhost:7317",
        "",
        "127.0.0.1:7317\t",
        "[::1]:7317",
    ],
)
def test_3_other_names_are_refused_before_the_token_is_looked_at(served, host):
    answer = served.client.get("/api/table", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host")


def test_3_on_every_address_numbers_are_answered_and_names_are_not():
    access = Access(80, frozenset({"127.0.0.1:80"}), any_address=True)
    assert access.answers("192.168.1.4:80")
    assert access.answers("[fe80::1]:80")
    assert not any(map(access.answers, ("rebound.example:80", "192.168.1.4:81", "192.168.1.4", "1.2.3.4.example:80")))


@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
])  # fmt: skip
def test_4_requests_from_other_pages_are_refused(served, headers):
    before = served.studio.side_file.revision
    body = {"rows": [0], "label": "x"}
    assert served.client.post("/api/labels", json=body, headers=headers).status_code == 403
    assert served.client.get("/api/table", headers=headers).status_code == 403
    assert served.studio.side_file.revision == before


def test_4_a_link_from_another_page_may_lead_here(served):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert served.client.get("/spectrum", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"]
)
def test_4_only_json_changes_anything(served, kind):
    answer = served.client.post("/api/labels", content='{"rows": [0], "label": "x"}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert served.client.post("/api/uploads", content=PNG, headers={"content-type": kind}).status_code == 415


def test_4_no_other_origin_is_allowed_to_read(served):
    answer = served.client.get("/api/table")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert served.client.options("/api/table", headers={"content-type": "application/json"}).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/table",
        "/api/rows?rows=x",
        "/nowhere",
        "/api/picture/0",
        "/static/js/main.js",
        "/open",
        "/api/export/report",
    ],
)
def test_5_every_answer_carries_the_headers_errors_too(served, path):
    for client in (served.client, served.stranger):
        answer = client.get(path)
        assert answer.headers["content-security-policy"] == CSP
        assert "'unsafe" not in CSP
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "cache-control" in answer.headers
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", [
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/js/..%5c..%5capp.py",
    "/api/picture/..%2f..%2fetc%2fpasswd", "/api/picture/-1", "/api/picture/99999", "/api/picture/1.5", "/api/uploads/..%2fx",
])  # fmt: skip
def test_6_no_path_of_a_request_reaches_the_disk(served, path):
    answer = served.client.get(path)
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text
    assert "import " not in answer.text


def test_6_a_picture_outside_of_the_tables_folder_is_not_read(folder, serve_here, tmp_path):
    table = serve_here(folder / "icons.lance")
    row = table.studio.rows.paths.index("copy.png")
    secret = tmp_path.parent / f"{tmp_path.name}-secret.png"
    (folder / "pictures" / "copy.png").rename(secret)
    (folder / "pictures" / "copy.png").symlink_to(secret)
    about = table.client.get(f"/api/rows?rows={row}").json()["rows"][0]
    assert (about["problem"], about["thumbnail"]) == ("outside", True)
    answer = table.client.get(f"/api/picture/{row}?size=1024")
    assert len(answer.content) < 5000, "the thumbnail that embed made, not the file"
    allowed = serve_here(folder / "icons.lance", roots=[secret.parent])
    assert allowed.client.get(f"/api/rows?rows={row}").json()["rows"][0]["problem"] == ""


def test_6_a_picture_of_the_table_that_became_a_bomb_is_not_decoded(folder, serve_here):
    row_of = serve_here(folder / "icons.lance").studio.rows.paths.index
    (folder / "pictures" / "copy.png").write_bytes(_png(60_000, 60_000))
    table = serve_here(folder / "icons.lance")
    row = row_of("copy.png")
    small = table.client.get(f"/api/picture/{row}?size=1024")
    assert small.headers["content-type"] == "image/webp", "the thumbnail that embed made"
    (folder / "icons.thumbnails.sqlite").unlink()
    again = serve_here(folder / "icons.lance")
    nothing = again.client.get(f"/api/picture/{row}?size=1024")
    assert (nothing.status_code, nothing.headers["content-type"]) == (200, "image/svg+xml")
    assert again.client.get(f"/api/sheet?rows={row},9").status_code == 200


def test_6_pictures_are_encoded_anew(folder, served):
    from PIL import Image

    path = folder / "pictures" / "copy.png"
    Image.open(path).convert("RGB").save(path, "PNG")
    path.write_bytes(path.read_bytes() + b"<script>alert(1)</script>")
    row = served.studio.rows.paths.index("copy.png")
    answer = served.client.get(f"/api/picture/{row}?size=256")
    assert answer.headers["content-type"] == "image/webp"
    assert b"script" not in answer.content


def test_8_uploads_are_cut_while_they_stream(served):
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"\xff" * 1_000_000

    answer = served.client.post("/api/uploads", content=endless(), headers={"content-type": "image/jpeg"})
    assert answer.status_code == 413
    assert (
        served.client.post(
            "/api/uploads", content=b"x", headers={"content-type": "image/jpeg", "content-length": "26000000"}
        ).status_code
        == 413
    )


@pytest.mark.parametrize(("content", "message"), [
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
    (b"", "no picture"),
    (PNG + b"rubbish", "cannot be|not a picture"),
    (_png(50_000, 50_000), "megapixels"),
    (_png(8_000, 8_000), "megapixels"),
    (_png(200, 200, b"no zlib stream"), "cannot be decoded"),
])  # fmt: skip
def test_8_uploads_that_are_no_pictures_or_bombs_are_refused_before_they_are_decoded(served, content, message):
    answer = served.client.post("/api/uploads", content=content, headers={"content-type": "image/png"})
    assert answer.status_code == 422
    assert re.search(message, answer.json()["error"]["message"])


def test_8_of_an_animation_the_first_frame_is_taken_and_time_is_limited(served, monkeypatch):
    from io import BytesIO

    from PIL import Image

    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    content = BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    answer = served.client.post("/api/uploads", content=content.getvalue(), headers={"content-type": "image/gif"})
    assert answer.status_code == 200
    name = answer.json()["query"].removeprefix("upload:")
    with Image.open(BytesIO(served.client.get(f"/api/uploads/{name}").content)) as image:
        red, _, blue = image.convert("RGB").getpixel((16, 16))
    assert red > 200 > blue

    import time

    monkeypatch.setattr("isomix.web.routes.search.UPLOAD_SECONDS", 0.05)
    monkeypatch.setattr("isomix.web.routes.search._embed", lambda *_: time.sleep(0.4))
    slow = served.client.post("/api/uploads", content=content.getvalue(), headers={"content-type": "image/gif"})
    assert slow.status_code == 422
    assert "longer than" in slow.json()["error"]["message"]


@pytest.mark.parametrize(
    "query",
    [
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
        "url:http://x/",
        "ftp://x",
        "upload:../x",
        "row:-1",
        "row:1e3",
        "row:٣",
        "text:  ",
    ],
)
def test_9_there_is_no_search_by_url_or_path(served, query, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name was looked up"))
    answer = served.client.post("/api/search", json={"query": query})
    assert answer.status_code == 422


@pytest.mark.parametrize(("path", "body"), [
    ("/api/search", {"query": "row:0", "k": 401}),
    ("/api/search", {"query": "row:0", "k": 0}),
    ("/api/search", {"query": "row:0", "unheard": 1}),
    ("/api/search", {"query": "text:" + "x" * 700}),
    ("/api/search", {"query": "row:0", "band": [10**9, 0]}),
    ("/api/search", {"query": "row:0", "band": [-1, 0]}),
    ("/api/rerank", {"queries": [f"row:{i}" for i in range(10)]}),
    ("/api/labels", {"rows": [10**12], "label": "x"}),
    ("/api/labels", {"rows": [], "label": "x"}),
    ("/api/labels", {"rows": [0], "label": "a\u0000b"}),
    ("/api/labels", {"rows": [0], "label": "x" * 500}),
    ("/api/verdicts", {"left": 0, "right": 1, "verdict": "delete"}),
    ("/api/votes", {"query": "row:0", "space": "", "choice": "plain"}),
])  # fmt: skip
def test_10_limits_on_what_is_asked(served, ask, path, body):
    answer = ask(served.client, path, json=body)
    if path == "/api/search" and "band" in body and answer.status_code == 200:  # the plain side answers all the same
        assert answer.json()["adapted"] is None
        assert answer.json()["reason"]
    else:
        assert answer.status_code == 422


def test_10_limits_on_bodies_rows_and_ranges(served):
    assert (
        served.client.post(
            "/api/labels", content=b"[" * 2_100_000, headers={"content-type": "application/json"}
        ).status_code
        == 413
    )
    assert served.client.post(
        "/api/labels", content=b"[" * 100_000, headers={"content-type": "application/json"}
    ).status_code in (400, 422)
    assert served.client.get("/api/rows?rows=0-999999999").status_code == 422
    assert served.client.get("/api/sheet?rows=" + ",".join(["0"] * 300)).status_code == 422
    answer = served.client.get("/api/picture/0", headers={"range": "bytes=" + ",".join(f"{i}-" for i in range(2000))})
    assert answer.status_code == 200, "a Range is not looked at"
    assert served.client.get("/api/table", headers={"content-length": "1e9"}).status_code == 400


def test_11_the_table_is_not_touched_by_a_session(folder, served, ask, fingerprint_of):
    before = fingerprint_of(folder / "icons.lance")
    client = served.client
    for name in ("one", "two"):
        client.post("/api/classes", json={"action": "add", "name": name})
    for row in range(12):
        client.post("/api/labels", json={"rows": [row], "label": "one" if row < 6 else "two"})
    client.post("/api/votes", json={"query": "row:3", "space": "isoclip", "choice": "adapted"})
    client.post("/api/verdicts", json={"left": 0, "right": 1, "verdict": "same"})
    client.get("/api/picture/3?size=256")
    for path in (
        "/api/bands",
        "/api/layout",
        "/api/duplicates",
        "/api/label-next",
        "/api/export/report",
        "/api/export/classifier",
    ):
        assert ask(client, path).status_code == 200
    assert fingerprint_of(folder / "icons.lance") == before
    assert served.studio.side_file.path.is_file()


def test_11_read_only_leaves_no_trace_at_all(folder, serve_here, ask):
    there = sorted(path.name for path in folder.iterdir())
    (folder / "icons.thumbnails.sqlite").unlink()
    table = serve_here(folder / "icons.lance", read_only=True)
    assert table.client.post("/api/labels", json={"rows": [0], "label": "x"}).status_code == 422
    assert (
        table.client.post("/api/votes", json={"query": "row:0", "space": "isoclip", "choice": "same"}).status_code
        == 422
    )
    assert table.client.post("/api/export/table-labels", json={}).status_code == 422
    assert table.client.get("/api/picture/0").status_code == 200
    assert ask(table.client, "/api/search", json={"query": "row:0"}).status_code == 200
    assert sorted(path.name for path in folder.iterdir()) == [name for name in there if "thumbnails" not in name]


def test_12_errors_have_no_traceback_and_no_absolute_path(folder, served, monkeypatch):
    import shutil

    def fails(*_):
        raise RuntimeError(f"secret at {folder}/icons.lance")

    from starlette.testclient import TestClient

    monkeypatch.setattr("isomix.web.routes.table.parse_rows", fails)
    client = TestClient(
        Gate(routes_of(served.studio, served.access), served.access),
        base_url=str(served.client.base_url),
        headers=served.client.headers,
        raise_server_exceptions=False,
    )
    answer = client.get("/api/rows?rows=0")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert str(folder) not in answer.text
    assert "secret" not in answer.text
    shutil.rmtree(folder / "icons.lance")
    gone = served.client.post("/api/reload", json={})
    assert gone.status_code == 422
    assert str(folder) not in gone.text
    assert "icons.lance" in gone.json()["error"]["message"]

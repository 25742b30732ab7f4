"""The pages themselves, the files they are made of, and the door."""

from __future__ import annotations

import asyncio
import mimetypes
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from isomix.web.security import Access, ticket_of

router = APIRouter(include_in_schema=False)
PAGES = ("", "spectrum", "map", "classes", "duplicates", "report")
KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}
WRONG_TOKEN_SECONDS = 0.7
DOOR = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>isomix studio</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/open?style"><main class="door"><h1>isomix studio</h1>{body}</main></html>"""
STYLE = """:root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.6 system-ui,sans-serif;
background:light-dark(#fbfbfa,#131416);color:light-dark(#16181d,#eceef1)}.door{max-width:30rem;padding:2rem}h1{font-size:1.4rem;letter-spacing:-.02em}
a{color:light-dark(#1a62d6,#7db0ff)}input,button{font:inherit;padding:.5rem .8rem;border-radius:8px;border:1px solid light-dark(#8a8f98,#6d737d);
background:none;color:inherit}form{display:flex;gap:.5rem;flex-wrap:wrap}"""


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Every file of the pages by its path, read once: no path of a request ever reaches the disk."""
    found: dict[str, tuple[bytes, str]] = {}

    def walk(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/")
            else:
                suffix = "." + entry.name.rpartition(".")[2]
                kind = KINDS.get(suffix) or mimetypes.guess_type(entry.name)[0] or "text/plain"
                found[prefix + entry.name] = (entry.read_bytes(), kind)

    walk(files("isomix.web") / "static", "")
    return found


def _page(request: Request) -> Response:
    content, kind = static_files()["index.html"]
    return Response(content, media_type=kind, headers={"cache-control": "no-cache"})


for page in PAGES:
    router.add_api_route(f"/{page}", _page, methods=["GET"], name=page or "search")


@router.get("/static/{path:path}")
def static(path: str) -> Response:
    """A file of the pages."""
    found = static_files().get(path)
    if found is None:
        return Response("no such file", 404, media_type="text/plain")
    return Response(found[0], media_type=found[1], headers={"cache-control": "no-cache"})


@router.get("/open")
def open_door(request: Request) -> Response:
    """Let a browser in by a link that works once."""
    if request.url.query == "style":
        return Response(STYLE, media_type="text/css")
    access: Access = request.app.state.access
    if access.take(ticket_of(request.url.query.encode())):
        return _come_in(access)
    return _door(
        "<p>This link was used already, or belongs to another session: a link works once.</p><p>A studio that is open makes another "
        "one (<i>Open elsewhere</i>, at the end of its menu); so does a new <code>isomix serve</code>.</p>"
        "<p>If you chose a token when you started it:</p>"
        '<form method="post" action="/open"><input type="password" name="token" aria-label="Token" autocomplete="current-password">'
        "<button>Open</button></form>"
    )


@router.post("/open")
async def open_by_token(request: Request) -> Response:
    """Let a browser in by the token."""
    from urllib.parse import parse_qs

    access: Access = request.app.state.access
    token = parse_qs((await request.body())[:2000].decode("utf-8", "replace")).get("token", [""])[0]
    if access.knows(token):
        return _come_in(access)
    await asyncio.sleep(WRONG_TOKEN_SECONDS)
    return _door('<p>That is not the token.</p><p><a href="/open">Try again</a></p>')


@router.post("/api/ticket")
def another_link(request: Request) -> dict[str, str]:
    """A link for another browser; it works once."""
    access: Access = request.app.state.access
    return {"link": f"{request.url.scheme}://{request.headers['host']}/open?ticket={access.new_ticket()}"}


def _come_in(access: Access) -> Response:
    # A redirect would not carry a strict cookie when the link was clicked on another page; this does.
    body = '<meta http-equiv="refresh" content="0;url=/"><p><a href="/">Go on to the studio</a></p>'
    return HTMLResponse(DOOR.format(body=body), headers={"set-cookie": access.set_cookie()})


def _door(body: str) -> Response:
    return HTMLResponse(DOOR.format(body=body), 401)

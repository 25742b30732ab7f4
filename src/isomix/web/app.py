"""The studio as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from isomix import __version__
from isomix.errors import ImageError, IsomixError, MissingExtraError, OfflineError
from isomix.web.jobs import Working
from isomix.web.pictures import DECODERS, Busy, Pictures
from isomix.web.routes import bands, classes, duplicates, layout, pages, report, search, table
from isomix.web.security import Access, Gate, error_body
from isomix.web.studio import Studio

__all__ = ["create_app", "routes_of"]


def routes_of(studio: Studio, access: Access) -> FastAPI:
    """The routes, without the gate before them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        studio.close()

    # The pages that describe an API would load scripts from elsewhere; the description itself stands behind the token.
    app = FastAPI(
        title="isomix studio",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.studio, app.state.access = studio, access
    app.state.pictures = Pictures(studio.thumbnails)
    app.state.decoding = asyncio.Semaphore(DECODERS)
    for module in (table, search, bands, layout, classes, duplicates, report, pages):
        app.include_router(module.router)
    app.add_exception_handler(IsomixError, _isomix_error)
    app.add_exception_handler(Working, _working)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def create_app(studio: Studio, access: Access) -> Gate:
    """The application of one studio.

    Parameters
    ----------
    studio : Studio
    access : Access
        Who may come in.
    """
    return Gate(routes_of(studio, access), access)


def _json(status: int, message: str, code: str, **headers: str) -> Response:
    return Response(error_body(message, code), status, headers, "application/json")


def _isomix_error(request: Request, error: Any) -> Response:
    status, code = 422, "input"
    if isinstance(error, OfflineError | MissingExtraError):
        status, code = 409, "not-at-hand"
    elif isinstance(error, ImageError):
        code = "picture"
    return _json(status, str(error), code)


def _working(request: Request, error: Any) -> Response:
    return _json(202, error.what, "working")


def _busy(request: Request, error: Any) -> Response:
    return _json(503, "too many pictures are waiting; try again in a second", "busy", **{"retry-after": "1"})


def _invalid(request: Request, error: Any) -> Response:
    found = [f"{'.'.join(str(part) for part in e['loc'][1:])}: {e['msg']}" for e in error.errors()[:5]]
    return _json(422, "; ".join(found) or "the request cannot be read", "input")


def _http_error(request: Request, error: Any) -> Response:
    return _json(error.status_code, str(error.detail), "http")

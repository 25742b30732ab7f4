"""A client of Qdrant for one collection: what its URL says, and errors of ours."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from isomix._extras import first_line, require
from isomix.errors import InputError, IsomixError, TableError

__all__ = ["Client"]

API_KEY = "QDRANT_API_KEY"
SECONDS = 60


def _parse(url: str) -> tuple[dict[str, Any], str, str]:
    """What the client wants, what messages say, and the collection."""
    parts = urlsplit(url)
    path, marker, name = parts.path.rpartition("/collections/")
    name = unquote(name.rstrip("/"))
    if not marker or not name or parts.query or parts.password:
        raise InputError(
            "the URL is not one of a Qdrant collection. Expected http(s)://host:6333/collections/NAME or "
            f"qdrant:///folder/collections/NAME; a key stands in the environment, {API_KEY}."
        )
    if parts.scheme == "qdrant" and not parts.netloc:
        folder = Path(unquote(path) or "/")
        if not (folder / "meta.json").is_file():
            raise InputError(
                f"{folder} is not a folder of Qdrant's local mode: it has no meta.json. Name the folder of its client."
            )
        return {"path": os.fspath(folder)}, f"qdrant://{path}", name
    scheme = "http" if parts.scheme == "qdrant" else parts.scheme
    try:
        port = parts.port or (443 if scheme == "https" else 6333)
    except ValueError:
        raise InputError(
            f"{parts.netloc}: the port is not a number. Qdrant's is 6333, unless it was changed."
        ) from None
    told = {
        "url": f"{scheme}://{parts.hostname}:{port}",
        "prefix": path.strip("/") or None,
        "api_key": os.environ.get(API_KEY) or None,
        "timeout": SECONDS,
        "check_compatibility": False,
    }
    return told, f"{scheme}://{parts.hostname}:{port}{path}", name


class Client:
    """A client whose errors are ours."""

    def __init__(self, url: str) -> None:
        qdrant = require("qdrant_client", "qdrant", "Qdrant")
        self.models: Any = qdrant.models
        told, self.place, self.collection = _parse(url)
        try:
            with self._quiet():
                self.raw: Any = qdrant.QdrantClient(**told)
        except RuntimeError as error:  # local mode: one process at a time
            raise TableError(f"{self.place} cannot be opened: {first_line(error)}.") from error

    @staticmethod
    @contextmanager
    def _quiet() -> Iterator[None]:
        """Local mode warns of its size, and a client of a key without TLS; both are the user's choice."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """What the server refuses, as an error of ours."""
        try:
            with self._quiet():
                yield
        except (IsomixError, GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:
            status = getattr(error, "status_code", None)
            advice = (
                f"The key is not the right one, or may not do this ({API_KEY})."
                if status in (401, 403)
                else "Is the server there, and does the URL name it?"
            )
            raise TableError(f"{what}: {_reason(error)}. {advice}") from error

    def scroll(self, collection: str, rows: int, **wanted: Any) -> Iterator[list[Any]]:
        """All points, in the order of their ids."""
        after: Any = None
        while True:
            with self.errors(f"{self.place}/collections/{collection}"):
                points, after = self.raw.scroll(collection, limit=rows, offset=after, **wanted)
            if points:
                yield points
            if after is None:
                return


def _reason(error: BaseException) -> str:
    content = getattr(error, "content", None)
    if isinstance(content, bytes):
        try:
            return str(json.loads(content)["status"]["error"]).rstrip(".")[:300]
        except (ValueError, KeyError, TypeError):
            pass
    return first_line(error)

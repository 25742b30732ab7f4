"""Small pictures beside a table, by the hash of the file's bytes: written by ``embed``, read by the studio.

``photos.lance`` has its thumbnails in ``photos.thumbnails.sqlite``. One file of SQLite holds many small values better than a
second table of Lance would: each is read alone, by its key, and one that is made later is not a new version of the whole.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from isomix._extras import require
from isomix.errors import TableError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["THUMBNAIL_SIDE", "Thumbnails", "make_thumbnail", "thumbnails_path"]

THUMBNAIL_SIDE = 96
"""Pixels of the longer side."""

QUALITY = 78
KEYS_AT_ONCE = 500


def thumbnails_path(table: str | os.PathLike[str]) -> Path:
    """The file of a table's thumbnails.

    Examples
    --------
    >>> thumbnails_path("photos.lance").name
    'photos.thumbnails.sqlite'
    """
    return Path(table).with_suffix(".thumbnails.sqlite")


def make_thumbnail(image: Image, side: int = THUMBNAIL_SIDE, quality: int = QUALITY) -> bytes:
    """A picture of mode RGB as WebP, at most ``side`` pixels wide and high, without metadata."""
    pil = require("PIL.Image", "app", "Thumbnails")
    width, height = image.size
    scale = min(1.0, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = image if scale == 1.0 else image.resize(size, pil.Resampling.BICUBIC, reducing_gap=2.0)
    content = BytesIO()
    small.save(content, "WEBP", quality=quality, method=2, exif=b"", icc_profile=b"")
    return content.getvalue()


class Thumbnails:
    """The thumbnails of one table; a file that does not exist yet is empty. Safe to use from several threads.

    Parameters
    ----------
    table : path-like
        The table they belong to.
    read_only : bool
        Never write: what is put in is forgotten.

    Raises
    ------
    TableError
        On use: the file is no file of SQLite, or the disk refuses.
    """

    def __init__(self, table: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = thumbnails_path(table)
        self.read_only = read_only
        self._lock = threading.Lock()

    def get(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Thumbnails by content hash; those that are not there are left out."""
        wanted = list(dict.fromkeys(keys))
        if not wanted or not self.path.is_file():
            return {}
        found: dict[str, bytes] = {}
        try:
            with closing(self._connect()) as database:
                if not self._begun(database):
                    return {}
                for start in range(0, len(wanted), KEYS_AT_ONCE):
                    some = wanted[start : start + KEYS_AT_ONCE]
                    marks = ", ".join("?" * len(some))
                    found.update(database.execute(f"SELECT key, webp FROM thumbnail WHERE key IN ({marks})", some))
        except sqlite3.Error as error:
            raise self._error("read", error) from error
        return found

    def put(self, pictures: Mapping[str, bytes]) -> None:
        """Add thumbnails, in one transaction."""
        if not pictures or self.read_only:
            return
        try:
            with self._lock, closing(self._connect()) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS thumbnail (key TEXT PRIMARY KEY, webp BLOB)")
                database.executemany("INSERT OR REPLACE INTO thumbnail VALUES (?, ?)", pictures.items())
        except sqlite3.Error as error:
            raise self._error("written", error) from error

    def keep_only(self, keys: Iterable[str]) -> None:
        """Drop all others."""
        if not self.path.is_file():
            return
        try:
            with self._lock, closing(self._connect()) as database, database:
                if not self._begun(database):
                    return
                present = {key for (key,) in database.execute("SELECT key FROM thumbnail")}
                gone = present - set(keys)
                database.executemany("DELETE FROM thumbnail WHERE key = ?", [(key,) for key in gone])
        except sqlite3.Error as error:
            raise self._error("written", error) from error

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def __len__(self) -> int:
        if not self.path.is_file():
            return 0
        try:
            with closing(self._connect()) as database:
                if not self._begun(database):
                    return 0
                return int(database.execute("SELECT COUNT(*) FROM thumbnail").fetchone()[0])
        except sqlite3.Error as error:
            raise self._error("read", error) from error

    def drop(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30)
        database.execute("PRAGMA page_size = 16384")  # of a new file: several pictures a page
        database.execute("PRAGMA trusted_schema = OFF")  # a file of a stranger runs nothing
        return database

    @staticmethod
    def _begun(database: sqlite3.Connection) -> bool:
        """Whether the first writer is past its first transaction: until then the file is there, and empty."""
        return database.execute("SELECT 1 FROM sqlite_master WHERE name = 'thumbnail'").fetchone() is not None

    def _error(self, verb: str, error: sqlite3.Error) -> TableError:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        cure = (
            "Make room, and run the same command again"
            if full
            else "It holds thumbnails only: delete it, and they are made again"
        )
        return TableError(f"{self.path} could not be {verb}: {error}. {cure}.")

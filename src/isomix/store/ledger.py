"""The ledger of failures: a second table, with one row for each file that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from isomix.errors import TableError
from isomix.store.lance_file import LanceFile
from isomix.store.schema import arrow

__all__ = ["LEDGER_ENDING", "Failure", "Ledger"]

LEDGER_ENDING = ".errors.lance"
"""What stands in the place of the table's ``.lance``."""


class Failure(NamedTuple):
    """One row of the ledger: a file that could not be read, and why.

    Attributes
    ----------
    id, path : str
    size, mtime_ns : int or None
        Of the file when it was tried; None when there was none.
    reason : str
    """

    id: str
    path: str
    size: int | None
    mtime_ns: int | None
    reason: str


class Ledger:
    """Failures of an embedding run; it exists on disk once there is one.

    Parameters
    ----------
    table_path : pathlib.Path
        Of the table it belongs to: ``photos.errors.lance`` lies beside ``photos.lance``.

    Attributes
    ----------
    path : pathlib.Path
    """

    def __init__(self, table_path: Path) -> None:
        self.path = table_path.with_name(f"{table_path.stem}{LEDGER_ENDING}")
        self._lance = LanceFile(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """All rows: id, path, size, mtime_ns, reason, time.

        Raises
        ------
        TableError
            Something else lies there.
        """
        if not self._lance.exists():
            return []
        names = self._lance.schema.names
        missing = [name for name in ("id", "path", "reason") if name not in names]
        if missing:
            raise TableError(
                f"{self.path} is not a ledger of isomix: it has no column {', '.join(missing)}. Move it away, and "
                "run embed again."
            )
        return [row for batch in self._lance.scan(names) for row in batch.to_pylist()]

    def add(self, failures: Sequence[Failure]) -> None:
        """Put failures in; an earlier one of the same file is replaced."""
        if not failures:
            return
        schema = _schema()
        if self._lance.exists():
            self.remove([failure.id for failure in failures])
        else:
            self._lance.create(schema)
        now = datetime.now(UTC)
        rows = [{**failure._asdict(), "time": now} for failure in failures]
        self._lance.append(arrow().Table.from_pylist(rows, schema=schema))

    def remove(self, ids: Sequence[str]) -> None:
        """Take files off it."""
        if ids and self._lance.exists():
            self._lance.delete_ids(list(ids))

    def drop(self) -> None:
        """Remove it from the disk."""
        self._lance.drop()


def _schema() -> Any:
    pa = arrow()
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("size", pa.int64()),
            pa.field("mtime_ns", pa.int64()),
            pa.field("reason", pa.string()),
            pa.field("time", pa.timestamp("us", tz="UTC")),
        ]
    )

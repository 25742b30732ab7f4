"""The lock of an embedding run, and the note that makes two tables change together.

A chunk of an embedding run goes into two tables, the images and the ledger of failures, and a process can be killed
between the two commits. Before the first of them the chunk's failures are written into the lock file, with the version
the table has then. The next run completes the ledger when the table has moved on since, and forgets the note when it
has not: the chunk is then done again, with the same files in the same batches.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from isomix._arrays import check_integer
from isomix.errors import TableError
from isomix.store.ledger import Failure
from isomix.store.table import EmbeddingTable
from isomix.store.units import Part

__all__ = ["Journal"]


class Journal:
    """Exclusive right to change a table, held as long as the context lasts; a killed process loses it at once.

    Parameters
    ----------
    table_path : pathlib.Path

    Raises
    ------
    TableError
        On entering: another process holds it.
    """

    def __init__(self, table_path: Path) -> None:
        self._path = table_path.with_name(f".{table_path.name}.lock")
        self._table_path = table_path
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        while True:
            try:
                file = self._path.open("a+b")
            except OSError as error:
                raise TableError(f"{self._path} cannot be written: {error.strerror}. Choose another place.") from error
            if not _lock(file):
                file.close()
                raise TableError(f"{self._table_path} is being written by another process. Wait until it has finished.")
            # The previous holder may have removed the file between our opening and our locking it.
            try:
                same = os.path.samestat(os.fstat(file.fileno()), self._path.stat())
            except FileNotFoundError:
                same = False
            if same:
                self._file = file
                return self
            file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        if self._read() is None:
            self._path.unlink(missing_ok=True)
        self._file.close()
        self._file = None

    def recover(self, table: EmbeddingTable) -> None:
        """Complete or forget the chunk during which an earlier run was killed."""
        note = self._read()
        if note is not None:
            try:
                counts = [check_integer(note[name], name) for name in ("rows", "version")]
                failures = [_failure(values) for values in note["failures"]]
            except (KeyError, TypeError, ValueError) as error:
                raise TableError(
                    f"{self._path} is not the note of a run that was killed: {error}. Delete it, and run the same command "
                    "again."
                ) from error
            rows, version = counts
            if rows == 0 or table.version > version:
                table.ledger.add(failures)
            self._write(b"")

    def commit(self, table: EmbeddingTable, part: Part) -> None:
        """Append a chunk's rows and its failures as if it were one commit."""
        rows, failures = len(part.ids), part.failures
        if failures:
            note = {"version": table.version, "rows": rows, "failures": failures}
            self._write(json.dumps(note).encode())
        if rows:
            part.append(table)
        if failures:
            table.ledger.add(failures)
            self._write(b"")

    def _read(self) -> dict[str, Any] | None:
        file = self._open_file()
        file.seek(0)
        try:
            note = json.loads(file.read())
        except (ValueError, RecursionError):  # nothing, or a note cut short: then neither table was touched
            return None
        return note if isinstance(note, dict) else None

    def _write(self, content: bytes) -> None:
        file = self._open_file()
        file.seek(0)
        file.truncate()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise TableError("the journal is used outside its context.")
        return self._file


def _failure(values: Any) -> Failure:
    """A failure as a note holds it.

    Raises
    ------
    TypeError, ValueError
        It is not one.
    """
    failure = Failure(*values)
    texts, numbers = (failure.id, failure.path, failure.reason), (failure.size, failure.mtime_ns)
    if not all(isinstance(text, str) for text in texts) or not re.fullmatch("[0-9a-f]+", failure.id):
        raise TypeError(f"a failure is {values!r:.200}, expected id, path, size, mtime_ns, reason")
    for number in numbers:
        if number is not None and check_integer(number, "size or mtime_ns", minimum=-(1 << 63)) >= 1 << 63:
            raise ValueError(f"a failure has the size or time {str(number)[:30]}")
    "".join(texts).encode()
    return failure


def _lock(file: BinaryIO) -> bool:
    """Take the operating system's lock on an open file without waiting; it ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True

"""The one place that talks to Lance: creating, reading and changing a table at a path, with errors of our own."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

from isomix._extras import require
from isomix._files import discard, remove_leftovers
from isomix.errors import InputError, IsomixError, TableError
from isomix.store.schema import arrow

__all__ = ["LanceFile", "check_table_path"]

SUFFIX = ".lance"
MAX_FRAGMENTS = 16
KEEP_OLD_VERSIONS = timedelta(hours=1)
"""Whoever has a table open reads the version of that moment, and loses it this long after it was replaced."""

IDS_PER_DELETE = 5000
UNFINISHED = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""Names that Lance writes under before it renames."""
UNBORN = {"data", "_transactions", "_versions"}
"""Folders that a creation leaves when it is killed before its first commit."""


def check_table_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a :class:`~pathlib.Path`, or say why no table can have that name.

    Raises
    ------
    InputError
    """
    target = Path(path)
    if target.suffix != SUFFIX or not re.fullmatch(r"[A-Za-z0-9_.-]+", target.stem):
        raise InputError(
            f"{target}: not a name for a table. Expected letters (a-z), digits, '_', '-' and '.', "
            "and the ending .lance, e.g. photos.lance."
        )
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder, so {target.name} cannot be there. Create it first.")
    return target


class LanceFile:
    """A Lance table at a path; thin, and the only user of the ``lance`` package (``pylance`` on PyPI).

    Once opened it shows the rows of that moment, and what is changed through this very object.

    Parameters
    ----------
    path : path-like
        Ends in ``.lance``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_table_path(path)
        self._opened: Any = None
        self._tried: set[tuple[int, str]] = set()

    def exists(self) -> bool:
        """Whether there is something at the path, other than the leftovers of a creation that was killed."""
        if not self.path.is_dir():
            return self.path.exists()
        return self.committed() or not {entry.name for entry in self.path.iterdir()} <= UNBORN

    def committed(self) -> bool:
        """Whether there is a commit on the disk now."""
        return any(self.path.glob("_versions/*.manifest"))

    def create(self, schema: Any, batches: Iterable[Any] = ()) -> None:
        """Create it where nothing is, in one commit; what is raised while the batches are made comes out as it is."""
        remove_leftovers(self.path)
        self._write(self.path, schema, batches, "create")

    def drop(self) -> None:
        """Remove it from the disk, if it is there.

        Raises
        ------
        TableError
            What is there is a folder of something else.
        """
        if self.path.is_dir() and self.exists() and not self.committed():
            raise TableError(f"{self.path} is a folder, but no Lance table, and is not removed. Name another table.")
        with self._errors("removed"):
            discard(self.path)
        self._opened = None
        self._tried.clear()

    @property
    def _dataset(self) -> Any:
        if self._opened is None:
            if not self.path.is_dir():
                raise TableError(f"{self.path} does not exist. Make a table with: isomix embed SOURCE -o {self.path}")
            with self._errors("opened"):
                self._opened = _lance().dataset(self.path)
        return self._opened

    @property
    def schema(self) -> Any:
        """Its Arrow schema."""
        with self._errors("opened"):
            return self._dataset.schema

    @property
    def version(self) -> int:
        """Number of the last commit."""
        return int(self._dataset.version)

    def count(self) -> int:
        """Rows in it."""
        with self._errors("read"):
            return int(self._dataset.count_rows())

    def scan(self, columns: Sequence[str], rows: int = 8192) -> Iterator[Any]:
        """Record batches of at most ``rows`` rows, in the order of the table."""
        with self._errors("read"):
            self._try_every_piece(columns)
            for batch in self._dataset.to_batches(columns=list(columns), batch_size=rows):
                yield _whole(batch)

    def take(self, offsets: Sequence[int], columns: Sequence[str]) -> Any:
        """An Arrow table of the rows at ``offsets``, which must be sorted and unique."""
        with self._errors("read"):
            return _whole(self._dataset.take(list(offsets), columns=list(columns)))

    def where(self, predicate: str, columns: Sequence[str]) -> Any:
        """An Arrow table of the rows for which an SQL predicate holds."""
        with self._errors("read"):
            self._try_every_piece(self._dataset.schema.names)
            return _whole(self._dataset.to_table(columns=list(columns), filter=predicate))

    def _try_every_piece(self, columns: Sequence[str]) -> None:
        """Read one row of every piece of the table, once a version, and so the description of every column in it.

        Rows that are scanned pass through Arrow's stream, which ends the whole process when an error's message holds a
        NUL, as the name of something unknown in a damaged file may. A row that is taken raises that error instead.
        """
        dataset = self._dataset
        version = int(dataset.version)
        fresh = [name for name in columns if (version, name) not in self._tried]
        if not fresh:
            return
        sizes = [fragment.count_rows() for fragment in dataset.get_fragments()]
        first = [end - size for end, size in zip(accumulate(sizes), sizes, strict=True) if size]
        if first:
            dataset.take(first, columns=fresh)
        self._tried.update((version, name) for name in fresh)

    def append(self, rows: Any) -> None:
        """Add rows at the end, in one commit."""
        with self._errors("written"):
            self._opened = _lance().write_dataset(rows, self._dataset, mode="append")

    def write_fragment(self, rows: Any) -> str:
        """Write rows into a file with a new name that no version knows yet; what to append, as JSON."""
        with self._errors("written"):
            written = require("lance.fragment", "app", "An embedding table").write_fragments(
                rows, self._dataset, schema=self.schema, max_rows_per_file=len(rows)
            )
            return json.dumps([fragment.to_json() for fragment in written])

    def append_fragments(self, fragments: Sequence[str], properties: Mapping[str, str]) -> None:
        """Add what was written by :meth:`write_fragment` at the end, in one commit that keeps ``properties``.

        Raises
        ------
        TableError
            A file of them is not there.
        """
        lance = _lance()
        with self._errors("written"):
            made = [
                lance.FragmentMetadata.from_json(json.dumps(each)) for text in fragments for each in json.loads(text)
            ]
            for fragment in made:
                for file in fragment.files:
                    if not (self.path / "data" / file.path).is_file():
                        raise TableError(
                            f"{self.path} has no file {file.path}, which was written for it: do all machines have the same "
                            "folder under this path?"
                        )
            append = lance.LanceOperation.Append(made)
            transaction = lance.Transaction(self.version, append, transaction_properties=dict(properties))
            self._opened = lance.LanceDataset.commit(self._dataset, transaction)

    def replace(self, schema: Any, batches: Iterable[Any]) -> None:
        """Replace schema and rows in one commit; ``batches`` may read from this very table.

        What is raised while the batches are made comes out as it is, and nothing is changed.
        """
        self._write(self._dataset, schema, batches, "overwrite")

    def _write(self, target: Any, schema: Any, batches: Iterable[Any], mode: str) -> None:
        raised: list[BaseException] = []

        def remembered() -> Iterator[Any]:
            try:
                yield from batches
            except GeneratorExit:  # the writer gave up first
                raise
            except BaseException as error:
                raised.append(error)
                raise RuntimeError("the batches could not be made") from error

        try:
            with self._errors("written"):
                reader = arrow().RecordBatchReader.from_batches(schema, remembered())
                self._opened = _lance().write_dataset(reader, target, mode=mode)
        except TableError:
            if raised:
                raise raised[0] from None
            raise

    def delete_ids(self, ids: Sequence[str]) -> None:
        """Remove the rows with these ids (hexadecimal strings)."""
        for start in range(0, len(ids), IDS_PER_DELETE):
            quoted = ", ".join(f"'{identifier}'" for identifier in ids[start : start + IDS_PER_DELETE])
            with self._errors("written"):
                self._dataset.delete(f"id IN ({quoted})")

    def drop_columns(self, names: Sequence[str]) -> None:
        """Remove columns."""
        with self._errors("written"):
            self._dataset.drop_columns(list(names))

    def tidy(self) -> None:
        """Merge many small fragments into few, keeping the order; drop versions and unfinished files older than an hour."""
        with self._errors("written"):
            if len(self._dataset.get_fragments()) > MAX_FRAGMENTS:
                self._dataset.optimize.compact_files()
            self._clean_up(KEEP_OLD_VERSIONS)
            self._remove_unfinished()

    def _clean_up(self, older_than: timedelta) -> None:
        self._dataset.cleanup_old_versions(older_than, error_if_tagged_old_versions=False)

    def compact(self) -> None:
        """Merge all fragments into few, and drop every version but the last and those with a name."""
        with self._errors("written"):
            self._dataset.optimize.compact_files()
            self._clean_up(timedelta(0))
            self._remove_unfinished()

    def versions(self) -> list[tuple[int, datetime, int]]:
        """Number, time and rows of the versions that are there, the oldest first."""
        with self._errors("read"):
            return [
                (int(each["version"]), each["timestamp"], int(each["metadata"].get("total_rows", 0)))
                for each in self._dataset.versions()
            ]

    def names(self) -> dict[str, int]:
        """Names of versions, which are kept as long as they have one."""
        with self._errors("read"):
            return {name: int(tag["version"]) for name, tag in self._dataset.tags.list().items()}

    def name_version(self, name: str, version: int) -> None:
        """Give a version a name."""
        with self._errors("written"):
            self._dataset.tags.create(name, version)

    def drop_name(self, name: str) -> None:
        """Let a version go by its number only."""
        with self._errors("written"):
            self._dataset.tags.delete(name)

    def restore(self, version: int) -> None:
        """Make a new version that is the same as an earlier one."""
        with self._errors("written"):
            self._dataset.checkout_version(version).restore()
        self._opened = None

    def _remove_unfinished(self) -> None:
        """Remove what killed writers of Lance left; a file of a writer at work is younger than an old version."""
        oldest = time.time() - KEEP_OLD_VERSIONS.total_seconds()
        for file in self.path.rglob(".tmp*"):
            with suppress(FileNotFoundError):
                if UNFINISHED.fullmatch(file.name) and file.is_file() and file.stat().st_mtime < oldest:
                    file.unlink()

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (IsomixError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except (
            BaseException
        ) as error:  # Lance's own errors have no common class, and a panic of its core is no Exception
            raise TableError(f"{self.path} could not be {verb}: {_reason(error)}. {_ADVICE[verb]}") from error


_WRITING = "Is there space left on the disk, and may you write there?"
_ADVICE = {
    "opened": "Is it a Lance table, and whole?",
    "read": "If another process has rewritten it, open it again; if not, a part of it is missing or damaged.",
    "created": _WRITING,
    "written": _WRITING,
    "removed": _WRITING,
}


def _whole(rows: Any) -> Any:
    """The same rows; Arrow's own error where text is none, or lists reach beyond their values."""
    rows.validate(full=True)
    return rows


def _lance() -> Any:
    return require("lance", "app", "An embedding table")


def _reason(error: BaseException) -> str:
    """First line of a message, without the places in Lance's source that it ends with."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"(, \S+\.rs:\d+(:\d+)?)+$", "", lines[0]).rstrip(".")

"""Rows that leave a table or come from another one, and the derived columns that follow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from isomix.encoders.lazy import MadeBy
from isomix.errors import InputError
from isomix.store.filters import ids_where
from isomix.store.journal import Journal
from isomix.store.lance_file import LanceFile, check_table_path
from isomix.store.ledger import Failure
from isomix.store.scan import row_id
from isomix.store.schema import TableMetadata, vector_matrix
from isomix.store.table import EmbeddingTable, check_is_plain
from isomix.store.thumbnails import Thumbnails

__all__ = ["ChangeReport", "delete_rows", "merge_tables"]

ROWS_AT_ONCE = 8192


@dataclass
class ChangeReport:
    """What changed in a table.

    Attributes
    ----------
    table : str
    before, rows : int
        Rows before and after.
    version : int
        Number of the version before, to go back to.
    added, removed, skipped : int
        Skipped: rows of another table whose file has a row already.
    dropped_columns : list of str
        Derived columns that are gone, as the rows that they stood for changed.
    """

    table: str
    before: int
    version: int
    rows: int = 0
    added: int = 0
    removed: int = 0
    skipped: int = 0
    dropped_columns: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def delete_rows(
    table_path: str | os.PathLike[str], names: Sequence[str] = (), *, where: str | None = None
) -> ChangeReport:
    """Remove rows from a table, and their thumbnails; the pictures themselves are never touched.

    Adapted columns keep the rows that stay; smoothed ones hold parts of those that go, and are dropped.

    Parameters
    ----------
    table_path : path-like
    names : sequence of str
        Ids, or paths as a search prints them.
    where : str, optional
        Or an SQL condition on the columns that are no vectors, e.g. ``"label = 'cat' AND split IS NULL"``.

    Raises
    ------
    InputError
        A name without a row, a condition that cannot be read, or nothing to remove by; nothing is removed.
    """
    if bool(names) == (where is not None):
        raise InputError("rows to remove: give names, or a condition (where), and not both.")
    with Journal(Path(table_path)) as journal:
        table = EmbeddingTable.open(table_path)
        journal.recover(table)
        report = ChangeReport(os.fspath(table_path), table.count, table.version)
        ids = _ids_of(table, names) if where is None else ids_where(table, where)
        derived = list(table.derived)
        if ids:
            table.delete(ids)
            Thumbnails(table.path).keep_only(filter(None, table.column("content_hash")))
        table.tidy()
        report.dropped_columns = [name for name in derived if name not in table.derived]
        report.rows, report.removed = table.count, len(ids)
    return report


def _ids_of(table: EmbeddingTable, names: Sequence[str]) -> list[str]:
    rows = table.rows(columns=["id", "path"])
    known = {row["id"]: row["id"] for row in rows} | {row["path"]: row["id"] for row in rows}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            f"{table.path} has no row {missing[0]!r} ({len(missing)} of the {len(names)} names). Give ids, or paths as "
            "`isomix search --paths` prints them below the table's folder. Nothing was removed."
        )
    return list(dict.fromkeys(known[name] for name in names))


def merge_tables(table_path: str | os.PathLike[str], *other_paths: str | os.PathLike[str]) -> ChangeReport:
    """Add the rows of other tables of the same model, one after another; a file that has a row already keeps it.

    The table is made where there is none. Paths outside of its root become absolute. Adapted and smoothed columns are
    dropped, as after a run of ``embed`` that adds rows; the ledgers are joined. The other tables are only read.

    Parameters
    ----------
    table_path, *other_paths : path-like

    Raises
    ------
    InputError
        One table twice, or pre-projection features in some of them only.
    FingerprintMismatchError
        They were made with different models.
    TableError
        One holds adapted vectors, or another process is writing.
    """
    if not other_paths:
        raise InputError("tables to add: got none. Name one or more.")
    path = check_table_path(table_path)
    others = [EmbeddingTable.open(other) for other in other_paths]
    with Journal(path) as journal:
        is_new = not LanceFile(path).exists()
        # Of a table that is yet to be made, the first one says what it will be.
        metadata = replace(others[0].metadata_at(path), derived={}) if is_new else EmbeddingTable.open(path).metadata
        for other in others:
            _check_joins(path, metadata, other)
        table = EmbeddingTable.create(path, metadata) if is_new else EmbeddingTable.open(path)
        check_is_plain(table)
        journal.recover(table)
        report = ChangeReport(os.fspath(table_path), table.count, table.version)
        known = set(table.column("id"))
        for other in others:
            _add_rows(table, other, known, report)
            _join_ledgers(table, other, known)
            thumbnails = Thumbnails(other.path)
            hashes = [digest for digest in other.column("content_hash") if digest]
            for start in range(0, len(hashes), ROWS_AT_ONCE):
                Thumbnails(table.path).put(thumbnails.get(hashes[start : start + ROWS_AT_ONCE]))
        table.tidy()
        report.rows = table.count
    return report


def _check_joins(path: Path, metadata: TableMetadata, other: EmbeddingTable) -> None:
    check_is_plain(other)
    if path.resolve() == other.path.resolve():
        raise InputError(f"{path} and {other.path} are one table. Name another.")
    made = other.metadata
    table = MadeBy(f"{path} was", metadata.model, metadata.projectors, metadata.fingerprint)
    table.check(made.model, projectors=made.projectors, encoder=made.fingerprint)
    if (metadata.feature_dim is None) != (made.feature_dim is None):
        raise InputError(
            f"one of {path} and {other.path} keeps pre-projection features, and the other does not. Embed again "
            "with the same choice of --keep-features."
        )


def _add_rows(table: EmbeddingTable, other: EmbeddingTable, known: set[str], report: ChangeReport) -> None:
    columns = [name for name in other.columns if name in table.columns and name not in other.derived]
    for batch in other.iter_batches(columns, rows=ROWS_AT_ONCE):
        values = _moved(batch, other, table)
        fresh = [i for i, identifier in enumerate(values["id"]) if identifier not in known]
        report.skipped += len(batch) - len(fresh)
        if not fresh:
            continue
        if not report.added:
            report.dropped_columns = table.drop_derived()
        known.update(values["id"][i] for i in fresh)
        table.append({name: _taken(column, fresh) for name, column in values.items()})
        report.added += len(fresh)


def _taken(column: Any, rows: list[int]) -> Any:
    return column[rows] if isinstance(column, np.ndarray) else [column[i] for i in rows]


def _path_in(table: EmbeddingTable, path: str, other: EmbeddingTable) -> str:
    """How a table calls a file of another one."""
    absolute = Path(os.path.normpath(other.root / path))
    inside = absolute.is_relative_to(table.root)
    return (absolute.relative_to(table.root) if inside else absolute).as_posix()


def _moved(batch: Any, other: EmbeddingTable, table: EmbeddingTable) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for spec in batch.schema:
        column = batch.column(spec.name)
        is_vector = hasattr(spec.type, "list_size")
        values[spec.name] = vector_matrix(column, spec.type.list_size) if is_vector else column.to_pylist()
    values["path"] = [_path_in(table, path, other) for path in values["path"]]
    values["id"] = [row_id(path) for path in values["path"]]
    return values


def _join_ledgers(table: EmbeddingTable, other: EmbeddingTable, known: set[str]) -> None:
    failures = []
    for row in other.errors():
        path = _path_in(table, row["path"], other)
        if row_id(path) not in known:
            failures.append(Failure(row_id(path), path, row["size"], row["mtime_ns"], row["reason"]))
    table.ledger.add(failures)

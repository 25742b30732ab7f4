"""PostgreSQL with pgvector: a column read page by page, and a side table written by COPY."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._extras import first_line
from isomix.errors import InputError, TableError
from isomix.exports.sql import MAX_INDEXED
from isomix.exports.sql_names import TableName, identifier, literal, table_name
from isomix.store.databases.base import Database, Target
from isomix.store.databases.copy_binary import pack, read_vectors
from isomix.store.databases.pictures import Pictures, readable
from isomix.store.databases.postgresql_connection import Connection
from isomix.store.formats.base import Block
from isomix.store.schema import arrow

__all__ = ["PostgresColumn", "PostgresTable"]

LOCK_SECONDS = 10
"""A run that was killed holds its lock until the server notices."""

PAGING = ("enable_hashjoin", "enable_mergejoin", "enable_sort", "enable_seqscan", "enable_bitmapscan", "jit")
"""Ways to make a page that read the whole table for each; without them it is read along the key's index."""
BY_SCRIPT = "isomix export sql"
"""``made_by`` in the record of a table that a trigger keeps in step."""


class PostgresColumn(Database):
    """A column of vectors: vector, halfvec, real[] or double precision[]; rows without a vector are passed over.

    Parameters
    ----------
    url : str
        As psql takes it.
    table : str
        ``table`` or ``schema.table``; see :func:`isomix.exports.sql_names.table_name`.
    column : str
    key : str, optional
        A column that is unique and never NULL. Default: the primary key.

    Raises
    ------
    InputError
        No such table or column; no key that rows could be read by.
    TableError
        The server cannot be reached, or refuses.
    MissingExtraError
    """

    layout = "postgresql"

    def __init__(self, url: str, table: str, column: str, key: str | None = None) -> None:
        self.table, self.raw_column = table_name(table), column
        self.connection = Connection(url)
        self.label = f"{self.connection.label}, {table}.{column}"
        self.path = Path(f"{table}.{column}")
        self.column, self.record = "embedding", {}
        try:
            self._look(key)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the session."""
        self.connection.raw.close()

    def _look(self, key: str | None) -> None:
        """Find column, key and record, count the rows."""
        self._find_types()
        self._find_column()
        self.key = self._find_key(key)
        self.other_fields = [arrow().field(self.key, arrow().string())]
        self.address = {"table": list(self.table), "column": self.raw_column, "key": self.key}
        self.rows = int(self.connection.value(f"SELECT count(*) FROM {self.table} s WHERE {self._present}", self.label))
        self.width = self._width()
        comment = self.connection.value(f"SELECT obj_description({self.oid}, 'pg_class')")
        self.record = read_comment(comment) or {}

    @property
    def _present(self) -> str:
        return f"s.{identifier(self.raw_column)} IS NOT NULL"

    def _find_types(self) -> None:
        schema = self.connection.value(
            "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = 'vector'"
        )
        if schema is None:
            raise InputError(
                f"{self.connection.label} does not have pgvector. Run there: CREATE EXTENSION vector; or name another database."
            )
        self.types = str(schema)

    def _find_column(self) -> None:
        what = f"{self.table.schema}.{self.table.name}"
        relation = self.connection.rows(
            f"SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = {literal(self.table.schema)} AND c.relname = {literal(self.table.name)}"
        )
        if not relation or relation[0][1] not in ("r", "p", b"r", b"p"):
            raise InputError(
                f"{self.connection.label} has no table {what}. Name it with its schema (--table schema.table), capitals as they "
                "are; a view has no key to read it by."
            )
        self.oid = int(relation[0][0])
        columns = {
            name: (kind, declared)
            for name, kind, declared in self.connection.rows(
                f"SELECT a.attname, t.typname, a.atttypmod FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
                f"WHERE a.attrelid = {self.oid} AND a.attnum > 0 AND NOT a.attisdropped"
            )
        }
        kinds = ("vector", "halfvec", "_float4", "_float8")
        if columns.get(self.raw_column, ("", 0))[0] not in kinds:
            of_vectors = ", ".join(name for name, (kind, _) in columns.items() if kind in kinds) or "none"
            raise InputError(
                f"{what} has no column {self.raw_column!r} of vectors (vector, halfvec, real[], double precision[]). "
                f"Columns of vectors: {of_vectors}."
            )
        kind, declared = columns[self.raw_column]
        self.declared = int(declared) if kind in ("vector", "halfvec") else -1
        self.dtype = np.dtype(np.float16 if kind == "halfvec" else np.float32)
        self._text_columns = [name for name, (kind, _) in columns.items() if kind in ("text", "varchar", "bpchar")]
        self._read = f"s.{identifier(self.raw_column)}::{self.types}.{'halfvec' if kind == 'halfvec' else 'vector'}"

    def _find_key(self, key: str | None) -> str:
        unique = self.connection.rows(
            f"SELECT a.attname, i.indisprimary FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
            f"AND a.attnum = i.indkey[0] WHERE i.indrelid = {self.oid} AND i.indisunique AND i.indisvalid "
            f"AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attnotnull ORDER BY i.indisprimary DESC, a.attnum"
        )
        names = [name for name, _ in unique]
        what, listed = f"{self.table.schema}.{self.table.name}", ", ".join(names) or "none"
        if key is not None:
            if key not in names:
                raise InputError(
                    f"{what} has no column {key!r} that is unique and NOT NULL, with an index. Columns that are: {listed}."
                )
            return key
        if not unique or not unique[0][1]:
            raise InputError(
                f"{what} has no primary key of one column, so that its rows have no names. Name a column that is unique and "
                f"NOT NULL (--key); columns that are: {listed}."
            )
        return str(names[0])

    def _width(self) -> int:
        if self.declared > 0:
            return self.declared
        found = self.connection.value(
            f"SELECT {self.types}.vector_dims({self._read}) FROM {self.table} s WHERE {self._present} LIMIT 1",
            self.label,
        )
        return int(found or 0)

    def page(self, after: str | None, rows: int, without: str | None = None) -> list[list[bytes | None]]:
        """Rows (key, key as text, vector) that follow a key, in order; not those that a side table has."""
        name = f"s.{identifier(self.key)}"
        conditions = [self._present]
        if after is not None:
            conditions.append(f"{name} > {literal(after)}")
        if without is not None:
            conditions.append(f"NOT EXISTS (SELECT FROM {without} t WHERE t.key = {name})")
        return self.connection.copy_out(
            f"SELECT {name}, {name}::text, {self._read} FROM {self.table} s WHERE {' AND '.join(conditions)} "
            f"ORDER BY {name} LIMIT {rows}",
            self.label,
        )

    def pages(self, rows: int, without: str | None = None) -> Iterator[Block]:
        """Blocks with their keys, as bytes and as text."""
        for setting in PAGING:
            self.connection.rows(f"SET {setting} = off")
        after: str | None = None
        start = 0
        while found := self.page(after, rows, without):
            keys, names = [bytes(row[0] or b"") for row in found], [bytes(row[1] or b"").decode() for row in found]
            vectors = read_vectors([bytes(row[2] or b"") for row in found], names, self.width, self.dtype)
            yield Block("0", start, vectors, (keys, names))
            after, start = names[-1], start + len(found)

    def _blocks(self, rows: int) -> Iterator[Block]:
        """All rows with their keys, as any source gives them."""
        pa = arrow()
        for block in self.pages(rows):
            yield block._replace(columns=pa.record_batch([pa.array(block.columns[1])], names=[self.key]))

    def names(self, block: Block) -> Sequence[str]:
        """Keys as text."""
        return list(block.columns[1])

    def target(self, name: str, width: int, dtype: np.dtype[Any]) -> PostgresTable:
        """A side table in the same database."""
        return PostgresTable(self, table_name(name, "target"), width, dtype)

    def pictures(self, rows: int) -> Pictures | None:
        """From columns of text, in the first thousand rows."""
        if not self._text_columns:
            return None
        listed = ", ".join(f"s.{identifier(name)}" for name in self._text_columns)
        found = self.connection.rows(
            f"SELECT {self._read}::real[], {listed} FROM {self.table} s WHERE {self._present} LIMIT 1000", self.label
        )
        pairs = ((dict(zip(self._text_columns, row[1:], strict=True)), np.asarray(row[0], np.float32)) for row in found)
        return readable(pairs, rows)


class PostgresTable(Target):
    """A side table ``(key, embedding)``; its comment says what made it."""

    def __init__(self, source: PostgresColumn, table: TableName, width: int, dtype: np.dtype[Any]) -> None:
        self.source, self.table = source, table
        self.name = f"{table.schema}.{table.name}"
        self.kind = "halfvec" if dtype == np.float16 else "vector"
        self.width, self._connection, self._by_script = width, source.connection, False
        if table == source.table:
            raise InputError(
                f"{self.name} is the source itself. Name another table: the plain embeddings stay what they are."
            )

    def record(self) -> Mapping[str, Any] | None:
        """From the table's comment."""
        found = self._connection.rows(
            "SELECT c.relkind, obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = {literal(self.table.schema)} AND c.relname = {literal(self.table.name)}"
        )
        if not found:
            return None
        record = read_comment(found[0][1])
        if record is None:
            raise InputError(
                f"{self.name} exists, and isomix did not make it. Name another target; it is left as it is."
            )
        self._by_script = record.get("made_by") == BY_SCRIPT
        return record

    def check_writable(self) -> None:
        """The schema is there, the role may make a table in it, and the server takes writes."""
        schema = literal(self.table.schema)
        found = self._connection.rows(
            f"SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'CREATE'), false), current_user, "
            f"current_setting('transaction_read_only') FROM (SELECT 1) one LEFT JOIN pg_namespace n ON n.nspname = {schema}"
        )
        there, may, user, read_only = found[0]
        if not there:
            raise InputError(
                f"there is no schema {self.table.schema}. Run: CREATE SCHEMA {identifier(self.table.schema)};"
            )
        if read_only == "on" or not may:
            why = (
                "its sessions are read-only" if read_only == "on" else f"it may not make tables in {self.table.schema}"
            )
            raise InputError(
                f"{self.name} cannot be made by the role {user}: {why}. Name a schema that it may write to, another role, or a "
                "file as the target (-o better.parquet)."
            )

    def create(self, record: Mapping[str, Any]) -> None:
        """In one transaction: the key's type and collation are those of the source."""
        what = f"{self.name} cannot be made"
        key = identifier(self.source.key)
        with self._connection.errors(what), self._connection.raw.transaction():
            self._connection.rows(
                f"CREATE TABLE {self.table} AS SELECT s.{key} AS key FROM {self.source.table} s WITH NO DATA", what
            )
            self._connection.rows(
                f"ALTER TABLE {self.table} ADD PRIMARY KEY (key), "
                f"ADD COLUMN embedding {self.source.types}.{self.kind}({self.width})",
                what,
            )
            self._connection.rows(
                f"COMMENT ON TABLE {self.table} IS {literal(json.dumps(record, sort_keys=True))}", what
            )

    def drop(self) -> None:
        """Remove the table; what depends on it keeps it."""
        if self._by_script:
            raise InputError(f"{self.name} is kept by a trigger. Undo it with the script of {BY_SCRIPT} instead.")
        self._connection.rows(f"DROP TABLE {self.table}", f"{self.name} cannot be dropped")

    def count(self) -> int:
        """Rows in it."""
        return int(self._connection.value(f"SELECT count(*) FROM {self.table}", self.name))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """An advisory lock of this session."""
        number = f"hashtextextended({literal(f'isomix {self.name}')}, 0)"
        self._connection.rows(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            self._connection.rows(f"SELECT pg_advisory_lock({number})", self.name)
        except TableError as error:
            raise InputError(
                f"another run writes to {self.name} ({first_line(error)}). Wait for it, or name another target."
            ) from None
        try:
            yield
        finally:
            if not self._connection.raw.closed:
                self._connection.rows(f"SELECT pg_advisory_unlock({number})", self.name)

    def missing(self, rows: int) -> Iterator[Block]:
        """Pages of the source without a row here."""
        return self.source.pages(rows, str(self.table))

    def write(self, block: Block, vectors: NDArray[Any], bad: Sequence[int]) -> None:
        """One COPY, which is one transaction; a row that a trigger wrote meanwhile is newer, and stays."""
        data = pack(block.columns[0], vectors, bad)
        with self._connection.errors(f"{self.name} cannot be written"):
            try:
                self._copy_in(str(self.table), data)
            except self._connection.duplicate:
                with self._connection.raw.transaction():
                    self._connection.rows(f"CREATE TEMPORARY TABLE isomix_page (LIKE {self.table}) ON COMMIT DROP")
                    self._copy_in("pg_temp.isomix_page", data)
                    self._connection.rows(
                        f"INSERT INTO {self.table} (key, embedding) SELECT key, embedding FROM pg_temp.isomix_page "
                        "ON CONFLICT (key) DO NOTHING"
                    )

    def _copy_in(self, table: str, data: bytes) -> None:
        query = f"COPY {table} (key, embedding) FROM STDIN (FORMAT binary)"
        with self._connection.raw.cursor() as cursor, cursor.copy(query.encode()) as copy:
            copy.write(data)

    def finish(self) -> tuple[int, int]:
        """Compare keys, once."""
        for setting in PAGING:
            self._connection.rows(f"RESET {setting}")
        self._connection.rows(f"ANALYZE {self.table}", self.name)
        key, source, present = identifier(self.source.key), self.source.table, self.source._present
        removed = self._connection.value(
            f"WITH gone AS (DELETE FROM {self.table} t WHERE NOT EXISTS (SELECT FROM {source} s WHERE s.{key} = t.key "
            f"AND {present}) RETURNING 1) SELECT count(*) FROM gone",
            self.name,
        )
        left = self._connection.value(
            f"SELECT count(*) FROM {source} s WHERE {present} AND NOT EXISTS (SELECT FROM {self.table} t WHERE t.key = s.{key})",
            self.name,
        )
        return int(removed), int(left)

    def undo(self) -> str:
        """One drop, or what the script brought."""
        if self._by_script:
            return f"-- {self.name}: the undo script of {BY_SCRIPT}"
        return f"DROP TABLE {self.table};"

    def hint(self) -> str:
        """An index, where pgvector can have one of this width."""
        if self.width > MAX_INDEXED[self.kind]:
            return f"no index: {self.width} numbers are more than pgvector indexes of a {self.kind}"
        return f"CREATE INDEX ON {self.table} USING hnsw (embedding {self.source.types}.{self.kind}_cosine_ops);"


def read_comment(text: str | None) -> dict[str, Any] | None:
    """The record that the comment of a side table is; None of any other comment."""
    try:
        record = json.loads(text or "")
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("space"), dict) and "source" in record else None

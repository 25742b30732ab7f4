"""Databases that hold vectors, by their URLs: PostgreSQL with pgvector, and Qdrant."""

from __future__ import annotations

from isomix.errors import InputError
from isomix.store.databases.base import Database, DatabaseReport, adapt_database

__all__ = ["Database", "DatabaseReport", "adapt_database", "is_database", "open_database"]

_POSTGRESQL = ("postgresql://", "postgres://")
_QDRANT = ("qdrant://", "http://", "https://")


def is_database(text: str) -> bool:
    """Whether a source is the URL of a database, by its scheme.

    Examples
    --------
    >>> is_database("postgresql://localhost/photos"), is_database("photos.parquet")
    (True, False)
    """
    return text.startswith((*_POSTGRESQL, *_QDRANT))


def open_database(url: str, *, table: str | None = None, column: str | None = None, key: str | None = None) -> Database:
    """Open what a URL names.

    Parameters
    ----------
    url : str
        ``postgresql://user@host/database``; ``http(s)://host:6333/collections/NAME`` or ``qdrant://host/collections/NAME`` of
        a Qdrant server, ``qdrant:///folder/collections/NAME`` of Qdrant's local mode.
    table : str, optional
        Of PostgreSQL: ``table`` or ``schema.table``.
    column : str, optional
        Of PostgreSQL: the column of the vectors. Of Qdrant: a named vector.
    key : str, optional
        Of PostgreSQL: a column that is unique and never NULL. Default: the primary key.

    Raises
    ------
    InputError, TableError, MissingExtraError
    """
    if url.startswith(_POSTGRESQL):
        if table is None or column is None:
            raise InputError("PostgreSQL: name the table and its column of vectors (--table, --column).")
        from isomix.store.databases.postgresql import PostgresColumn

        return PostgresColumn(url, table, column, key)
    if table is not None or key is not None:
        raise InputError("Qdrant: the URL names the collection, so leave out --table and --key.")
    from isomix.store.databases.qdrant import QdrantCollection

    return QdrantCollection(url, column)

"""A connection to PostgreSQL: queries whose values are quoted, errors of ours, and no password in any of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from isomix._extras import first_line, require
from isomix.errors import InputError, IsomixError, TableError
from isomix.store.databases.copy_binary import read_rows

__all__ = ["Connection"]

SECONDS_TO_CONNECT = 10


class Connection:
    """A connection whose errors are ours and never show a password."""

    def __init__(self, url: str) -> None:
        psycopg = require("psycopg", "postgresql", "PostgreSQL")
        self._error: type[Exception] = psycopg.Error
        self.duplicate: type[Exception] = psycopg.errors.UniqueViolation
        try:
            if (
                url.partition("?")[0].count("@") > 1
            ):  # the rest of a password would be read as host and database, and shown
                raise psycopg.ProgrammingError
            told = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            raise InputError(
                "the URL is not one of PostgreSQL. Expected postgresql://user@host:5432/database; in a user or password, "
                "write @ : / ? # % as %40 %3A %2F %3F %23 %25."
            ) from None
        host = told.get("host") or told.get("hostaddr") or ""
        name, port = told.get("dbname") or told.get("user") or "", told.get("port")
        user = f"{told['user']}@" if told.get("user") else ""
        inside = f"{user}{host}{f':{port}' if port else ''}"
        self.label = f"postgresql://{user}/{name}?host={host}" if "/" in host else f"postgresql://{inside}/{name}"
        told.setdefault("connect_timeout", str(SECONDS_TO_CONNECT))
        told.setdefault("application_name", "isomix")
        try:
            self.raw: Any = psycopg.connect(**told, autocommit=True)
        except psycopg.Error as error:
            raise TableError(
                f"{self.label} cannot be reached: {_reason(error)}. Is the server there, and are user, password and database "
                "right? A password may stand in PGPASSWORD or ~/.pgpass."
            ) from None
        self.rows("SET standard_conforming_strings = on")
        self.rows("SET client_encoding = 'UTF8'")

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """What the server refuses, as an error of ours."""
        try:
            yield
        except self._error as error:
            raise TableError(f"{what}: {_reason(error)}.") from error

    def rows(self, query: str, what: str = "") -> list[tuple[Any, ...]]:
        """The rows of a query, which holds its values quoted."""
        with self.errors(what or self.label):
            cursor = self.raw.execute(query.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, query: str, what: str = "") -> Any:
        """The first field of the first row, or None."""
        found = self.rows(query, what)
        return found[0][0] if found else None

    def copy_out(self, query: str, what: str) -> list[list[bytes | None]]:
        """The rows of a query as bytes."""
        command = f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()
        with self.errors(what), self.raw.cursor() as cursor, cursor.copy(command) as copy:
            data = b"".join(copy)
        return list(read_rows(data))


def _reason(error: BaseException) -> str:
    """The server's words, without a position in our query."""
    if isinstance(error, IsomixError):
        return first_line(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("LINE ", "^"))]
    return " ".join(told[:3]).rstrip(".")[:400] or type(error).__name__

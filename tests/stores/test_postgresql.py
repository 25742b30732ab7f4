"""``isomix adapt postgresql://``: whole columns, resumed after every kind of end, and refused in plain words."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from isomix import IsoCLIP
from isomix.errors import InputError, TableError
from isomix.exports.sql import sql_scripts
from isomix.exports.sql_names import table_name
from isomix.store import adapt, adapt_database, open_database
from isomix.store.databases.copy_binary import pack, read_rows, read_vectors

HELPERS = runpy.run_path(str(Path(__file__).with_name("stores_helpers.py")))
WIDTH, text, unit, command = (HELPERS[name] for name in ("WIDTH", "text", "unit", "command"))


def photos(database, rows=100, kind=f"vector({WIDTH})"):
    database.connection.execute(f"CREATE TABLE photos (id bigint PRIMARY KEY, embedding {kind})")
    E = unit(rows)
    database.fill("photos", [(3 * row, E[row]) for row in range(rows)])
    return E


def difference(database, space, table="photos_iso"):
    stored = database.connection.execute(
        "SELECT id, embedding::real[] FROM photos WHERE embedding IS NOT NULL"
    ).fetchall()
    found = database.vectors(table)
    assert sorted(found) == sorted(key for key, _ in stored)
    expected = space.transform(np.asarray([vector for _, vector in stored], np.float32))
    return max(float(np.abs(found[key] - row).max()) for (key, _), row in zip(stored, expected, strict=True))


def run(database, space, target="photos_iso", table="photos", column="embedding", key=None, **options):
    with open_database(database.url, table=table, column=column, key=key) as source:
        return adapt_database(source, target, space, **options)


def test_rows_are_those_of_numpy_and_the_source_is_untouched(database, space):
    photos(database, rows=500)
    before = database.connection.execute("SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM photos t").fetchone()
    report = run(database, space, rows_per_block=64)
    assert (report.rows, report.added, report.there, report.removed, report.left) == (500, 500, 0, 0, 0)
    assert difference(database, space) < 1e-6
    assert (
        before
        == database.connection.execute("SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM photos t").fetchone()
    )
    database.connection.execute(report.hint)
    schema = database.schema()
    database.connection.execute(report.undo)
    assert not any("photos_iso" in " ".join(each) for each in database.schema()) and schema


def test_a_second_run_adds_what_is_new_and_drops_what_is_gone(database, space):
    photos(database)
    run(database, space)
    execute = database.connection.execute
    execute("INSERT INTO photos VALUES (1, %s), (1000, %s), (2, NULL)", [text(v) for v in unit(2, seed=1)])
    execute("DELETE FROM photos WHERE id IN (0, 3)")
    execute("UPDATE photos SET embedding = NULL WHERE id = 6")
    report = run(database, space)
    assert (report.rows, report.there, report.added, report.removed) == (99, 100, 2, 3)
    assert difference(database, space) < 1e-6


def test_the_words_of_the_command_line(database, space, space_file, cli, tmp_path, monkeypatch):
    photos(database)
    words = ("adapt", database.url, "--table", "photos", "--column", "embedding", "--space", space_file)
    code, out, _ = cli(*words, "-o", "photos_iso", "--dry-run")
    assert code == 0 and "would write public.photos_iso; nothing was written" in out
    assert 'undo    DROP TABLE "public"."photos_iso";' in out and "100 vectors" in out
    assert "model: not checked" in out and "length: 1, of 100" in out
    assert not any("photos_iso" in " ".join(each) for each in database.schema())
    code, out, _ = cli(*words, "-o", "photos_iso", "--json")
    told = json.loads(out)
    assert code == 0 and told["added"] == 100 and told["space"]["fingerprint"] == space.fingerprint
    assert cli(*words, "-o", "photos_iso")[0] == 0
    code, out, _ = cli(*words, "-o", tmp_path / "better.parquet")
    assert code == 0 and "100 vectors" in out
    assert cli(*words, "-o", tmp_path / "better.npy", "--dry-run")[0] == 2
    assert cli("adapt", database.url, "--space", space_file, "-o", "x")[0] == 1  # no table
    assert cli("adapt", "x.npy", "--space", space_file, "-o", "y.npy", "--table", "t")[0] == 2


def test_a_file_as_the_target_keeps_the_keys(database, space, tmp_path):
    import pyarrow.parquet as pq

    E = photos(database)
    with open_database(database.url, table="photos", column="embedding") as source:
        adapt(source, tmp_path / "x.parquet", space, rows_per_block=30)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["id"].to_pylist() == [str(3 * row) for row in range(100)]
    assert np.abs(np.array(table["embedding"].to_pylist()) - space.transform(E)).max() < 1e-6


@pytest.mark.parametrize("kind", ["vector", f"halfvec({WIDTH})", "real[]", "double precision[]"])
@pytest.mark.parametrize("key", ["text", "uuid", "timestamptz", "numeric"])
def test_kinds_of_columns_and_keys(database, space, kind, key):
    made = {
        "text": "'It''s ' || chr(920 + n::int) || '\\' || n",
        "uuid": "md5(n::text)::uuid",
        "timestamptz": "'2020-01-01'::timestamptz + n * interval '1 second'",
        "numeric": "n / 7.0 - 3",
    }[key]
    execute = database.connection.execute
    execute(f"CREATE TABLE photos (id {key} PRIMARY KEY, embedding {kind})")
    E = unit(20)
    for row in range(20):
        execute(
            f"INSERT INTO photos SELECT {made}, %s::vector::real[]::{kind} FROM (SELECT {row}) s(n)", [text(E[row])]
        )
    report = run(database, space, rows_per_block=3, dtype="float32")
    assert report.added == 20
    assert difference(database, space) < 1e-6
    assert run(database, space, dtype="float32").added == 0


def test_half_precision(database, space):
    photos(database, kind=f"halfvec({WIDTH})")
    report = run(database, space)
    assert report.dtype == "float16"
    assert difference(database, space) < 1e-3
    kind = database.connection.execute("SELECT pg_typeof(embedding)::text FROM photos_iso LIMIT 1").fetchone()
    assert kind == ("halfvec",)


def test_hostile_names(database, space):
    execute = database.connection.execute
    name, column, key = 'a".b; DROP TABLE x; --', "Ünï %s $1", "k'e\ny"
    execute(
        f'CREATE TABLE "a"".b; DROP TABLE x; --" ("k\'e\ny" int PRIMARY KEY, "{column}" vector({WIDTH}))'.replace(
            "%s", "%s"
        ).encode()
    )
    E = unit(3)
    with database.connection.cursor() as cursor, cursor.copy('COPY "a"".b; DROP TABLE x; --" FROM STDIN') as copy:
        for row in range(3):
            copy.write_row((row, text(E[row])))
    quoted = '"' + name.replace('"', '""') + '"'
    report = run(database, space, target='"x"".y"', table=f"public.{quoted}", column=column)
    found = database.vectors('"x"".y"')
    assert report.added == 3 and report.undo == 'DROP TABLE "public"."x"".y";'
    assert np.abs(np.stack([found[row] for row in range(3)]) - space.transform(E)).max() < 1e-6
    with open_database(database.url, table=quoted, column=column, key=key) as source:
        assert source.rows == 3


@pytest.mark.parametrize(
    ("definition", "options", "words"),
    [
        ("id int PRIMARY KEY, embedding vector(33)", {}, "vectors of width 33, and the space maps width 32"),
        ("id int PRIMARY KEY, embedding text", {}, "Columns of vectors: none"),
        ("id int PRIMARY KEY, a vector(3), b halfvec(3)", {}, "Columns of vectors: a, b"),
        ("id int, embedding vector(32)", {}, "has no primary key of one column"),
        ("id int, embedding vector(32)", {"key": "id"}, "has no column 'id' that is unique and NOT NULL"),
        ("a int, b int, c int NOT NULL UNIQUE, embedding vector(32), PRIMARY KEY (a, b)", {}, "columns that are: c"),
        ("id int PRIMARY KEY, embedding vector(32)", {"table": "nothing"}, "has no table public.nothing"),
        ("id int PRIMARY KEY, embedding vector(32)", {"table": "a.b.c"}, "expected 'table' or 'schema.table'"),
        ("id int PRIMARY KEY, embedding vector(32)", {"target": "photos"}, "is the source itself"),
        ("id int PRIMARY KEY, embedding vector(32)", {"target": "nowhere.x"}, "there is no schema nowhere"),
        ("id int PRIMARY KEY, embedding vector(32)", {"target": "other"}, "isomix did not make it"),
        ("id int PRIMARY KEY, embedding vector(32)", {"target": "other", "overwrite": True}, "isomix did not make it"),
    ],
)
def test_refused_in_plain_words(database, space, definition, options, words):
    database.connection.execute(f"CREATE TABLE photos ({definition})")
    database.connection.execute("CREATE TABLE other (key int PRIMARY KEY, embedding vector(22))")
    if "embedding vector(3" in definition:
        width = 33 if "33" in definition else 32
        database.connection.execute(
            f"INSERT INTO photos (embedding, {'a, b, c' if 'a int' in definition else 'id'}) "
            f"VALUES (%s, {'1, 1, 1' if 'a int' in definition else '1'})",
            [text(unit(1, width)[0])],
        )
    before = database.schema()
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        run(database, space, **options)
    assert database.schema() == before


def test_several_widths_in_one_column(database, space):
    photos(database, kind="vector")
    database.connection.execute("INSERT INTO photos VALUES (100, %s)", [text(unit(1, 5)[0])])
    with pytest.raises(ValueError, match="the vector at 100 has width 5, and the first has 32"):
        run(database, space, rows_per_block=10)


def test_another_space_does_not_go_on_with_a_target(database, space):
    photos(database)
    run(database, space)
    other = IsoCLIP(space.projectors, band=(4, 6)).fit()
    with pytest.raises(InputError, match="holds vectors of another space"):
        run(database, other)
    with pytest.raises(InputError, match="made from"):
        run(database, space, dtype="float16")
    report = run(database, other, overwrite=True)
    assert (report.added, report.there) == (100, 0)
    assert difference(database, other) < 1e-6


def test_adapted_vectors_are_not_adapted_again(database, space):
    photos(database)
    run(database, space)
    with pytest.raises(InputError, match="adapted already"):
        run(database, space, target="twice", table="photos_iso")


def test_rows_without_a_direction(database, space):
    photos(database)
    database.connection.execute("INSERT INTO photos VALUES (100, %s), (101, NULL)", [text(np.zeros(WIDTH))])
    with pytest.raises(InputError, match=r"without a direction .*, at 100; "):
        run(database, space, rows_per_block=10)
    report = run(database, space, rows_per_block=10, skip_bad=True)
    assert report.skipped == ["100"] and 0 < report.there < 101
    found = database.vectors("photos_iso")
    assert found[100] is None and 101 not in found and len(found) == 101


def test_no_server_and_wrong_credentials_never_show_a_password(server, database, cli, space_file):
    host = server.url.partition("host=")[2]
    tail = ("--table", "t", "--column", "e", "-o", "x", "--space", space_file)
    for url, words in {
        "postgresql://me:hunter2@localhost:1/db": "cannot be reached",
        f"postgresql://guarded:hunter2@/postgres?host={host}": "password authentication failed",
        f"postgresql://guarded@/postgres?host={host}": "no password supplied",
        f"postgresql://me:hunter2@/nothing?host={host}": "role .me. does not exist",
        f"postgresql://postgres:hunter2@/nothing?host={host}": "database .nothing. does not exist",
        "postgresql://me:x@hunter2/w@localhost:5432/db": "not one of PostgreSQL",
        "postgresql://me:hunter2@localhost/db?no=such": "not one of PostgreSQL",
    }.items():
        code, out, err = cli("adapt", url, *tail)
        assert code == 1 and re.search(words, err.replace('"', ".")) and out == "", (url, err)
        assert "hunter2" not in err
    with pytest.raises(InputError, match=r"has no table public\.t"):
        open_database(server.to(database.name, "guarded", "s3cret"), table="t", column="e")


def test_a_role_that_may_only_read(database, space, tmp_path):
    E = photos(database)
    database.connection.execute("GRANT SELECT ON photos TO reader")
    names = {"table": "photos", "column": "embedding"}
    url = database.server.to(database.name, "reader")
    with open_database(url, **names) as source:
        with pytest.raises(InputError, match="may not make tables in public"):
            adapt_database(source, "photos_iso", space)
        adapt(source, tmp_path / "x.npy", space)
    assert np.abs(np.load(tmp_path / "x.npy") - space.transform(E)).max() < 1e-6
    with (
        open_database(f"{database.url}&options=-c%20default_transaction_read_only%3Don", **names) as source,
        pytest.raises(InputError, match="its sessions are read-only"),
    ):
        adapt_database(source, "photos_iso", space)
    database.connection.execute("REVOKE SELECT ON photos FROM reader")
    with pytest.raises(TableError, match="permission denied for table photos"):
        open_database(url, **names)


def test_two_runs_at_once(database, space, monkeypatch):
    photos(database)
    monkeypatch.setattr("isomix.store.databases.postgresql.LOCK_SECONDS", 1)
    with (
        open_database(database.url, table="photos", column="embedding") as source,
        source.target("photos_iso", 22, np.dtype("f4")).locked(),
        pytest.raises(InputError, match=r"another run writes to public\.photos_iso"),
    ):
        run(database, space)
    assert run(database, space).added == 100


def test_a_trigger_and_a_run_together(database, space, tmp_path):
    """The script keeps the table in step; the run fills it, at the speed of COPY."""
    photos(database)
    scripts = sql_scripts(space.affine_map(), space.describe(), table_name("photos"), "embedding", fill=False)
    (tmp_path / "x.sql").write_text(scripts.install)
    assert database.run_script(tmp_path / "x.sql").stderr == ""
    with open_database(database.url, table="photos", column="embedding") as source:
        place = source.target("isomix.vectors", space.n_components_, np.dtype("f4"))
        assert place.record()["made_by"] == "isomix export sql"
        blocks = list(place.missing(60))
        newer = unit(1, seed=5)[0]
        database.connection.execute("UPDATE photos SET embedding = %s WHERE id = 9", [text(newer)])
        for block in blocks:
            place.write(block, space.transform(block.vectors), [])
    assert difference(database, space, "isomix.vectors") < 1e-6
    report = run(database, space, target="isomix.vectors")
    assert report.added == 0 and "undo script" in report.undo
    with pytest.raises(InputError, match="kept by a trigger"):
        run(database, space, target="isomix.vectors", overwrite=True)


def test_ctrl_c_keeps_what_is_committed(database, space, space_file):
    photos(database, rows=30_000)
    process = subprocess.Popen(bulk(database, space_file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(database, 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on from there" in err
    there = database.connection.execute("SELECT count(*) FROM photos_iso").fetchone()[0]
    assert 0 < there < 30_000 and there % 2048 == 0
    report = run(database, space)
    assert (report.there, report.added) == (there, 30_000 - there)
    assert difference(database, space) < 1e-6


def bulk(database, space_file) -> list[str]:
    words = ("--table", "photos", "--column", "embedding", "-o", "photos_iso", "--space", space_file)
    return command("adapt", database.url, *words)


def wait_for(database, rows, table="photos_iso") -> None:
    """Until a table has so many rows."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        there = database.connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()[0]
        if there and database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= rows:
            return
        time.sleep(0.002)
    pytest.fail(f"{table} never had {rows} rows")


def test_killed_at_random_moments(database, space, space_file):
    """SIGKILL of the client, five times in one run; nothing is lost, nothing is there twice."""
    rows = 40_000
    photos(database, rows=rows)
    words = command(
        "adapt", database.url, "--table", "photos", "--column", "embedding", "-o", "photos_iso", "--space", space_file
    )
    rng = np.random.default_rng(int.from_bytes(os.urandom(4)))
    kills, reached = 0, 0
    for threshold in sorted(rng.integers(0, rows - 8192, 5)):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(database, max(int(threshold), reached))
        time.sleep(rng.uniform(0, 0.05))
        kills += process.poll() is None
        process.kill()
        process.wait()
        reached = database.connection.execute("SELECT count(*) FROM photos_iso").fetchone()[0]
        if reached >= rows - 4096:
            break
    assert kills >= 2
    report = run(database, space)
    assert report.left == 0
    assert difference(database, space) < 1e-6


def test_the_binary_format_comes_back():
    keys, vectors = [b"", b"a", bytes(16)], unit(3, 5)
    rows = list(read_rows(pack(keys, vectors, [1])))
    assert [row[0] for row in rows] == keys and rows[1][1] is None
    assert np.array_equal(read_vectors([rows[0][1], rows[2][1]], ["0", "2"], 5, np.dtype("f4")), vectors[[0, 2]])
    half = vectors.astype(np.float16)
    assert np.array_equal(read_vectors([row[1] for row in read_rows(pack(keys, half))], "012", 5, half.dtype), half)
    for damaged in (b"", pack(keys, vectors)[:-9], b"PGCOPY\n\xff\r\n\0"):
        with pytest.raises(ValueError, match="answer"):
            list(read_rows(damaged))

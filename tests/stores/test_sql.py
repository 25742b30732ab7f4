"""Vectors adapted inside PostgreSQL: the script, what its trigger keeps up, and what its undo leaves."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from isomix.exports.sql import sql_scripts
from isomix.exports.sql_names import table_name
from isomix.spaces import PCAWhitening

HELPERS = runpy.run_path(str(Path(__file__).with_name("stores_helpers.py")))
WIDTH, text, unit = HELPERS["WIDTH"], HELPERS["text"], HELPERS["unit"]

HOSTILE = [
    ('pho"tos', "em'bed"),
    ("Фото; DROP TABLE x; --", "vec tor"),
    ("$isomix$", "$$"),
    ("a\n\\! false\n", "%s:key"),
    ("select", "table"),
]


def install(database, space, tmp_path, table="photos", column="embedding", **options):
    """Write and run the script; return the path of the undo."""
    scripts = sql_scripts(space.affine_map(), space.describe(), table_name(table), column, **options)
    script, undo = tmp_path / "adapt.sql", tmp_path / "undo.sql"
    script.write_text(scripts.install, encoding="utf-8")
    undo.write_text(scripts.undo, encoding="utf-8")
    return database.run_script(script), undo


def photos(database, rows=50, kind=f"vector({WIDTH})"):
    database.connection.execute(f"CREATE TABLE photos (id bigint PRIMARY KEY, embedding {kind}, name text)")
    E = unit(rows)
    database.fill("photos", [(3 * row, E[row]) for row in range(rows)])
    return E


def difference(database, space, table="isomix.vectors", source="photos"):
    """Rows of the side table; the largest difference from what numpy makes of the column now."""
    stored = database.connection.execute(f"SELECT id, embedding::real[] FROM {source} WHERE embedding IS NOT NULL")
    expected = {key: space.transform(np.asarray([vector], np.float32))[0] for key, vector in stored.fetchall()}
    found = database.vectors(table)
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[key] - expected[key]).max()) for key in found)


def test_numbers_are_those_of_numpy(database, space, tmp_path):
    photos(database, rows=300)
    done, _ = install(database, space, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    worst = difference(database, space)
    print(f"largest difference from numpy: {worst:.2g}")
    assert worst < 1e-6
    plan = database.connection.execute(
        "SET enable_seqscan = off; EXPLAIN SELECT key FROM isomix.vectors ORDER BY embedding <=> "
        "(SELECT embedding FROM isomix.vectors WHERE key = 3) LIMIT 5"
    )
    while plan.nextset():
        pass
    assert any("vectors_cosine" in line for (line,) in plan.fetchall())


def test_changes_carry_over(database, space, tmp_path):
    photos(database)
    install(database, space, tmp_path)
    E, run = unit(9, seed=1), database.connection.execute
    run("INSERT INTO photos VALUES (1, %s), (2, NULL)", [text(E[0])])
    run("INSERT INTO photos VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding", [text(E[1])])
    run("UPDATE photos SET embedding = %s WHERE id = 3", [text(E[2])])
    run("UPDATE photos SET embedding = NULL WHERE id = 6")
    run("UPDATE photos SET embedding = %s WHERE id = 2", [text(E[3])])
    run("UPDATE photos SET name = 'x' WHERE id = 9")
    run("DELETE FROM photos WHERE id = 12")
    run("UPDATE photos SET id = id - 3 WHERE id > 12")  # every key becomes another row's
    assert difference(database, space) < 1e-6
    run("TRUNCATE photos")
    assert database.vectors("isomix.vectors") == {}


def test_undo_leaves_nothing_behind(database, space, tmp_path):
    photos(database)
    before = database.schema()
    _, undo = install(database, space, tmp_path)
    assert database.schema() > before
    done = database.run_script(undo)
    assert (done.returncode, done.stderr) == (0, "")
    assert database.schema() == before
    database.connection.execute("INSERT INTO photos VALUES (1, NULL)")


def test_undo_stops_where_somebody_depends_on_it(database, space, tmp_path):
    photos(database)
    _, undo = install(database, space, tmp_path)
    database.connection.execute("CREATE VIEW mine AS SELECT * FROM isomix.vectors")
    assert "view mine depends on" in database.run_script(undo).stderr
    assert difference(database, space) < 1e-6


@pytest.mark.parametrize(("table", "column"), HOSTILE)
def test_hostile_names(database, space, tmp_path, table, column):
    def quoted(name):
        return '"' + name.replace('"', '""') + '"'

    run = database.connection.execute
    run(f"CREATE SCHEMA {quoted(table)}")
    run(
        f"CREATE TABLE {quoted(table)}.{quoted(table)} ({quoted(table)} text PRIMARY KEY, {quoted(column)} vector({WIDTH}))".encode()
    )
    before = database.schema()
    E = unit(3)
    insert = f"INSERT INTO {quoted(table)}.{quoted(table)} VALUES ($1, $2)"
    run(f"PREPARE add (text, vector) AS {insert}".encode())
    for row in range(2):
        run("EXECUTE add('{}', '{}')".format(f"k{row}", text(E[row])))
    done, undo = install(
        database, space, tmp_path, f"{quoted(table)}.{quoted(table)}", column, key=table, schema=f"{table[:40]}i"
    )
    assert (done.returncode, done.stderr) == (0, "")
    run(f"EXECUTE add('k2', '{text(E[2])}')")
    found = database.vectors(f"{quoted(f'{table[:40]}i')}.vectors")
    assert np.abs(np.stack([found[f"k{row}"] for row in range(3)]) - space.transform(E)).max() < 1e-6
    assert database.run_script(undo).stderr == ""
    assert database.schema() == before


@pytest.mark.parametrize("kind", ["vector", f"halfvec({WIDTH})", "real[]", "double precision[]"])
def test_kinds_of_columns(database, space, tmp_path, kind):
    run = database.connection.execute
    run(f"CREATE TABLE photos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), embedding {kind})")
    for vector in unit(5):
        run(f"INSERT INTO photos (embedding) VALUES (%s::vector::real[]::{kind})", [text(vector)])
    done, _ = install(database, space, tmp_path)
    assert done.stderr == ""
    assert difference(database, space) < 1e-6


def test_half_precision_and_a_map_with_an_offset(database, tmp_path):
    E = photos(database)
    space = PCAWhitening(8).fit(unit(400, seed=3) + 0.2)
    mapped = space.affine_map()
    assert mapped.bias is not None
    done, _ = install(database, space, tmp_path, halfvec=True, schema="half")
    assert done.stderr == ""
    found = database.vectors("half.vectors")
    assert np.abs(np.stack([found[3 * row] for row in range(50)]) - mapped(E)).max() < 5e-4
    database.connection.execute(
        "UPDATE photos SET embedding = l2_normalize(embedding)::real[]::vector * array_fill(2, ARRAY[32])::vector"
    )
    done, _ = install(database, space, tmp_path, schema="other")
    assert "unit length" in done.stderr


def test_rows_without_a_direction_have_no_vector(database, space, tmp_path):
    photos(database)
    database.connection.execute("INSERT INTO photos VALUES (1, %s), (2, NULL)", [text(np.zeros(WIDTH))])
    done, _ = install(database, space, tmp_path)
    assert done.stderr == ""
    found = database.vectors("isomix.vectors")
    assert found[1] is None and 2 not in found and len(found) == 51


@pytest.mark.parametrize(
    ("definition", "options", "words"),
    [
        ("id int PRIMARY KEY, embedding vector(33)", {}, "holds vectors of width 33, expected 32"),
        ("id int PRIMARY KEY, embedding vector", {}, "holds vectors of width 3, expected 32"),
        ("id int PRIMARY KEY, embedding text", {}, "has no column embedding of vectors"),
        ("id int, embedding vector(32)", {}, "no column id that is unique and NOT NULL"),
        ("id int UNIQUE, embedding vector(32)", {}, "no column id that is unique and NOT NULL"),
        ("id int PRIMARY KEY, embedding vector(32)", {"table": "nothing"}, "there is no table public.nothing"),
        ("id int PRIMARY KEY, embedding vector(32)", {"table": "pg_catalog.pg_views"}, "there is no table"),
        ("id int PRIMARY KEY, embedding vector(32)", {"schema": "public"}, "already exists"),
    ],
)
def test_refused_before_anything_is_made(database, space, tmp_path, definition, options, words):
    database.connection.execute(f"CREATE TABLE photos ({definition})")
    if definition.endswith("vector"):
        database.connection.execute("INSERT INTO photos VALUES (1, '[1,2,3]')")
    before = database.schema()
    done, _ = install(database, space, tmp_path, **options)
    assert done.returncode != 0 and words in done.stderr
    assert database.schema() == before


def test_no_pgvector(server, database, space, tmp_path):
    database.connection.execute("DROP EXTENSION vector")
    database.connection.execute("CREATE TABLE photos (id int PRIMARY KEY, embedding real[])")
    done, _ = install(database, space, tmp_path)
    assert "pgvector 0.7 or newer is not in this database" in done.stderr


def test_vectors_of_another_width_are_refused_later_too(database, space, tmp_path):
    """A column without a width may get another model's vectors, and the type of any may be changed."""
    photos(database, kind="vector")
    install(database, space, tmp_path)
    run = database.connection.execute
    with pytest.raises(Exception, match="a vector of width 33, expected 32"):
        run("INSERT INTO photos VALUES (1, %s)", [text(unit(1, 33)[0])])
    run("TRUNCATE photos")
    run("ALTER TABLE photos ALTER COLUMN embedding TYPE vector(64)")


def test_a_stopped_filling_goes_on(database, space, tmp_path):
    photos(database, rows=60)
    done, _ = install(database, space, tmp_path, fill=False)
    assert done.stderr == "" and database.vectors("isomix.vectors") == {}
    run = database.connection.execute
    run("INSERT INTO isomix.vectors SELECT id, isomix.adapt(embedding) FROM photos WHERE id < 60")
    run("INSERT INTO photos VALUES (1, %s)", [text(unit(1, seed=2)[0])])  # by the trigger
    run("CALL isomix.fill(7)")
    assert len(database.vectors("isomix.vectors")) == 61
    assert difference(database, space) < 1e-6


def test_another_role_that_writes_the_source_needs_nothing_more(database, space, tmp_path):
    photos(database)
    install(database, space, tmp_path)
    run = database.connection.execute
    run("GRANT INSERT, SELECT ON photos TO reader")
    run("SET ROLE reader")
    run("INSERT INTO photos VALUES (1, %s)", [text(unit(1, seed=2)[0])])
    with pytest.raises(Exception, match="permission denied for schema isomix"):
        run("SELECT * FROM isomix.vectors")
    run("RESET ROLE")
    assert difference(database, space) < 1e-6


def test_pgvector_in_a_schema_of_its_own(database, space, tmp_path):
    run = database.connection.execute
    run("DROP EXTENSION vector")
    run('CREATE SCHEMA "Ext"')
    run('CREATE EXTENSION vector SCHEMA "Ext"')
    run(f'CREATE TABLE photos (id bigint PRIMARY KEY, embedding "Ext".vector({WIDTH}))')
    database.fill("photos", list(enumerate(unit(5))))
    done, undo = install(database, space, tmp_path)
    assert done.stderr == ""
    run("DELETE FROM photos WHERE id = 3")
    assert difference(database, space) < 1e-6
    assert database.run_script(undo).stderr == ""

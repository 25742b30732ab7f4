"""Tables that live: rows deleted and merged, versions kept and gone back to, with readers and derived columns."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from isomix.cli import app as app_module
from isomix.errors import FingerprintMismatchError, InputError, TableError
from isomix.spaces import IsoCLIP
from isomix.store import EmbeddingTable, adapt_column, embed, smooth_column
from isomix.store.changes import delete_rows, merge_tables
from isomix.store.filters import ids_where
from isomix.store.history import compact, drop_name, keep_version, restore_version, versions
from isomix.store.thumbnails import Thumbnails

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]


@pytest.fixture
def table(tmp_path):
    make_pictures(tmp_path / "p", [f"{label}/{i}.png" for label in ("a", "b") for i in range(5)])
    (tmp_path / "p" / "a" / "broken.png").write_bytes(b"no picture")
    embed(tmp_path / "p", tmp_path / "t.lance", TinyEncoder(), labels="folders")
    return tmp_path / "t.lance"


def space():
    return IsoCLIP(TinyEncoder().projectors, (3, 2)).fit()


def test_deleted_rows_go_with_their_thumbnails_and_the_rest_keeps_its_vectors(table):
    smooth_column(table, "isoclip", space())
    before = EmbeddingTable.open(table)
    report = delete_rows(table, ["a/1.png", before.column("id")[3]])
    after = EmbeddingTable.open(table)
    kept = [i for i, path in enumerate(before.column("path")) if path not in ("a/1.png", before.column("path")[3])]
    assert (report.before, report.removed, report.rows) == (10, 2, 8)
    assert report.dropped_columns == ["isoclip_smoothed", "isoclip_smoothed_plain"]
    for column in ("embedding", "isoclip"):
        assert after.embeddings(column).tobytes() == before.embeddings(column)[kept].tobytes()
    assert len(Thumbnails(table)) == 8
    assert all((before.root / path).is_file() for path in before.column("path"))
    assert before.count == 10  # who has it open reads on
    assert restore_version(table, report.version).count == 10
    assert (
        EmbeddingTable.open(table).embeddings("isoclip_smoothed").tobytes()
        == before.embeddings("isoclip_smoothed").tobytes()
    )


def test_deleting_by_a_condition(table):
    assert len(ids_where(EmbeddingTable.open(table), "label = 'a' AND width >= 10")) == 5
    assert delete_rows(table, where="label = 'a'").rows == 5
    assert delete_rows(table, where="label = 'no such'").removed == 0
    for wrong in ("label =", "no_such = 1", "embedding", "'; DROP TABLE x"):
        with pytest.raises(InputError, match="SQL condition"):
            delete_rows(table, where=wrong)
    with pytest.raises(InputError, match=r"no row 'c/9\.png'"):
        delete_rows(table, ["b/1.png", "c/9.png"])
    with pytest.raises(InputError, match="and not both"):
        delete_rows(table)
    assert EmbeddingTable.open(table).count == 5


def test_merged_rows_are_those_of_the_other_table(table, tmp_path):
    adapt_column(table, "isoclip", space())
    make_pictures(tmp_path / "elsewhere", [f"c/{i}.png" for i in range(4)], seed=1)
    (tmp_path / "elsewhere" / "bad.png").write_bytes(b"no picture")
    embed(tmp_path / "elsewhere", tmp_path / "o.lance", TinyEncoder(), labels="folders")
    first, other = EmbeddingTable.open(table), EmbeddingTable.open(tmp_path / "o.lance")
    report = merge_tables(table, tmp_path / "o.lance")
    merged = EmbeddingTable.open(table)
    assert (report.before, report.added, report.skipped, report.rows) == (10, 4, 0, 14)
    assert report.dropped_columns == ["isoclip"]
    assert merged.embeddings().tobytes() == np.concatenate([first.embeddings(), other.embeddings()]).tobytes()
    assert merged.column("label") == first.column("label") + other.column("label")
    assert all((merged.root / path).is_file() for path in merged.column("path"))
    assert sorted(Path(row["path"]).name for row in merged.errors()) == ["bad.png", "broken.png"]
    assert len(Thumbnails(table)) == 14
    assert merge_tables(table, tmp_path / "o.lance").skipped == 4
    assert EmbeddingTable.open(table).count == 14
    # The folder can be embedded again when it is said that rows from elsewhere stay.
    again = embed(tmp_path / "p", table, TinyEncoder(), labels="folders", keep_vanished=True)
    assert (again.rows, again.unchanged, again.vanished_kept) == (14, 10, 4)


def test_tables_that_do_not_belong_together_are_refused(table, tmp_path):
    embed(tmp_path / "p", tmp_path / "o.lance", TinyEncoder(seed=1))
    with pytest.raises(FingerprintMismatchError):
        merge_tables(table, tmp_path / "o.lance")
    embed(tmp_path / "p", tmp_path / "f.lance", TinyEncoder(), keep_features=True)
    with pytest.raises(InputError, match="features"):
        merge_tables(table, tmp_path / "f.lance")
    with pytest.raises(InputError, match="one table"):
        merge_tables(table, table)
    with pytest.raises(TableError):
        merge_tables(table, tmp_path / "none.lance")
    assert EmbeddingTable.open(table).count == 10


def test_versions_with_a_name_outlive_what_cleans_up(table, monkeypatch):
    monkeypatch.setattr("isomix.store.lance_file.KEEP_OLD_VERSIONS", time_of(0))
    number = keep_version(table, "before")
    delete_rows(table, where="label = 'a'")
    delete_rows(table, ["b/1.png"])
    found = versions(table)
    assert [each.names for each in found if each.names] == [["before"]]
    assert {each.rows for each in found} == {10, 4}
    assert found[0].number == number
    assert found[-1].time.timestamp() == pytest.approx(time.time(), abs=600)
    assert restore_version(table, "before").count == 10
    with pytest.raises(InputError, match="name of version"):
        keep_version(table, "before")
    for wrong in ("", "12", "a b", "../x"):
        with pytest.raises(InputError, match="name: got"):
            keep_version(table, wrong)
    for wrong in ("999", "no such", "-1"):
        with pytest.raises(InputError, match="no version"):
            restore_version(table, wrong)
    drop_name(table, "before")
    with pytest.raises(InputError, match="no version called"):
        drop_name(table, "before")
    before, after = compact(table)
    assert after < before
    assert [each.rows for each in versions(table)] == [10]


def time_of(seconds):
    from datetime import timedelta

    return timedelta(seconds=seconds)


def test_another_writer_is_waited_for_by_the_user(table):
    code = (
        "import sys, time; from pathlib import Path; from isomix.store.journal import Journal\n"
        "with Journal(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(table)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for change in (
            lambda: delete_rows(table, ["a/1.png"]),
            lambda: merge_tables(table, table.with_name("t.lance")),
            lambda: keep_version(table, "n"),
            lambda: restore_version(table, 1),
            lambda: compact(table),
        ):
            with pytest.raises(TableError, match="another process"):
                change()
        holder.kill()
    assert delete_rows(table, ["a/1.png"]).removed == 1


def test_the_command_says_how_to_go_back(table, tmp_path):
    if not app_module.app.registered_commands:
        app_module._register()

    def run(*arguments):
        return CliRunner().invoke(app_module.app, ["table", *map(str, arguments)])

    shutil.copytree(table, tmp_path / "copy.lance")
    deleted = run("delete", table, "--where", "label = 'a'")
    assert deleted.exit_code == 0, deleted.output
    assert "5 rows (5 removed)" in deleted.output
    number = deleted.output.split(f"restore {table} ")[1].split()[0]
    assert run("delete", table).exit_code == 2
    kept = run("keep", table, "small")
    assert "is kept as small" in kept.output
    assert "small" in run("versions", table).output
    assert f"10 rows, as in version {number}" in run("restore", table, number).output
    assert "5 rows" in run("restore", table, "small").output
    merged = run("merge", table, tmp_path / "copy.lance")
    assert "10 rows (5 added, 5 there already)" in merged.output
    assert "MB now" in run("compact", table).output
    assert "no longer" in run("keep", table, "small", "--drop").output

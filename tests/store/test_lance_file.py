"""Lance below the tables: tables that lancedb wrote go on, and what Lance says comes out as errors of our own."""

from __future__ import annotations

import contextlib
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from isomix.errors import FileFormatError, InputError, TableError
from isomix.spaces import IsoCLIP
from isomix.store import EmbeddingTable, adapt_column, embed
from isomix.store.lance_file import LanceFile

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]
PATHS = ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/2.png", "dog/3.png"]


@pytest.fixture
def golden(tmp_path):
    """A table that isomix 0.1 wrote with lancedb 0.40: three runs, a row removed, a ledger, a derived column."""
    return shutil.copytree(Path(__file__).with_name("golden"), tmp_path / "golden")


def test_a_table_of_lancedb_is_read(golden):
    table = EmbeddingTable.open(golden / "photos.lance", TinyEncoder())
    assert table.column("path") == PATHS
    assert table.column("label") == ["cat"] * 3 + ["dog"] * 3
    assert table.root == (golden / "photos").resolve()
    encoded = TinyEncoder().encode_image([golden / "photos" / path for path in PATHS], show_progress_bar=False)
    np.testing.assert_allclose(table.embeddings(), encoded.embeddings, atol=1e-3)
    np.testing.assert_allclose(table.embeddings("feature"), encoded.features, rtol=1e-5)
    space = IsoCLIP(TinyEncoder().projectors, band=(3, 2)).fit()
    np.testing.assert_allclose(table.embeddings("iso"), space.transform(table.embeddings()), atol=1e-3)
    assert [error["path"] for error in table.errors()] == ["dog/broken.png"]


def test_a_table_of_lancedb_is_continued(golden):
    encoder, path = TinyEncoder(), golden / "photos.lance"
    before = EmbeddingTable.open(path).embeddings()
    make_pictures(golden / "photos", ["dog/4.png"], seed=7)
    (golden / "photos" / "cat" / "1.png").unlink()
    (golden / "photos" / "dog" / "broken.png").unlink()
    report = embed(golden / "photos", path, encoder, labels="folders")
    assert (report.added, report.removed, report.changed, report.rows) == (1, 1, 0, 6)
    assert report.dropped_columns == ["iso"]
    assert encoder.pictures == 1
    table = EmbeddingTable.open(path)
    assert table.column("path") == [path for path in PATHS if path != "cat/1.png"] + ["dog/4.png"]
    np.testing.assert_array_equal(table.embeddings()[:5], np.delete(before, 1, axis=0))
    assert table.errors() == []
    adapt_column(path, "iso", IsoCLIP(encoder.projectors, band=(3, 2)).fit())
    assert EmbeddingTable.open(path).vector_dim("iso") == 11


def test_only_a_table_is_removed(tmp_path):
    folder = tmp_path / "photos.lance"
    folder.mkdir()
    (folder / "mine.txt").write_text("not a table")
    with pytest.raises(TableError, match="no Lance table"):
        LanceFile(folder).drop()
    assert (folder / "mine.txt").read_text() == "not a table"


def test_what_a_killed_creation_left_is_in_nobody_s_way(tmp_path):
    for name in ("data", "_transactions", "_versions"):
        (tmp_path / "t.lance" / name).mkdir(parents=True)
    table = LanceFile(tmp_path / "t.lance")
    assert not table.exists()
    table.create(pa.schema([("id", pa.string())]))
    assert LanceFile(tmp_path / "t.lance").count() == 0


def test_messages_do_not_name_lance_s_own_source(tmp_path):
    lance.write_dataset(pa.table({"id": ["a"]}), tmp_path / "t.lance")
    for manifest in (tmp_path / "t.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"damaged")
    with pytest.raises(TableError, match="could not be opened") as raised:
        LanceFile(tmp_path / "t.lance").count()
    assert ".rs:" not in str(raised.value)


def test_a_message_with_a_nul_ends_in_an_error_and_not_the_process(tmp_path):
    """In a process of its own, because without the care that is taken it would be aborted."""
    lance.write_dataset(pa.table({"id": ["a", "b"], "x": [1, 2]}), tmp_path / "t.lance")
    lance.write_dataset(pa.table({"id": ["c", "d"], "x": [3, 4]}), tmp_path / "t.lance", mode="append")
    damaged = 0
    for file in (tmp_path / "t.lance" / "data").iterdir():
        content = file.read_bytes()
        file.write_bytes(content.replace(b"encodings.ColumnEncoding", b"encodings.Colu\0\0Encoding"))
        damaged += file.read_bytes() != content
    assert damaged == 2
    for read in ("list(table.scan(['id', 'x']))", "table.where('x > 1', ['id'])"):
        script = (
            "import sys; from isomix.store.lance_file import LanceFile; from isomix.errors import TableError\n"
            f"table = LanceFile(sys.argv[1])\ntry:\n    {read}\nexcept TableError as error:\n    print(error)"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "t.lance")]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stderr
        assert "could not be read" in done.stdout


def test_a_type_that_does_not_exist_is_no_panic(tmp_path):
    lance.write_dataset(pa.table({"id": ["a"]}), tmp_path / "t.lance")
    for manifest in (tmp_path / "t.lance" / "_versions").glob("*.manifest"):
        content = manifest.read_bytes()
        assert b"string" in content
        manifest.write_bytes(content.replace(b"string", b"st\x16ing"))
    with pytest.raises(TableError, match="could not be opened"):
        EmbeddingTable.open(tmp_path / "t.lance")


def test_damaged_tables_give_errors_of_ours_only(golden, tmp_path, rng):
    files = sorted((golden / "photos.lance").rglob("*.*"))
    for case in range(30):
        copy = shutil.copytree(golden / "photos.lance", tmp_path / f"{case}.lance")
        file = copy / files[rng.integers(len(files))].relative_to(golden / "photos.lance")
        content = bytearray(file.read_bytes())
        place = int(rng.integers(len(content)))
        if case % 2:
            content[place : place + 8] = rng.bytes(8)
        else:
            del content[place:]
        file.write_bytes(content)
        with contextlib.suppress(TableError, FileFormatError, InputError):
            table = EmbeddingTable.open(copy)
            table.rows()
            table.embeddings()
            table.rows([0, 3])


def test_bytes_that_are_no_text_are_an_error_of_ours(tmp_path):
    text = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    lance.write_dataset(pa.table({"id": ["a"], "path": text}), tmp_path / "t.lance")
    table = LanceFile(tmp_path / "t.lance")
    for read in (lambda: list(table.scan(["path"])), lambda: table.take([0], ["path"])):
        with pytest.raises(TableError, match=r"could not be read: .*UTF8"):
            read()


def test_a_table_of_others_is_no_ledger(golden):
    shutil.rmtree(golden / "photos.errors.lance")
    lance.write_dataset(pa.table({"id": ["a"], "file": ["b"]}), golden / "photos.errors.lance")
    with pytest.raises(TableError, match="not a ledger of isomix: it has no column path, reason"):
        EmbeddingTable.open(golden / "photos.lance").errors()

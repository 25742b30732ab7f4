"""The embedding table: what goes in comes out, in order, with the metadata that says what it is."""

from __future__ import annotations

import json
import os
import runpy
from dataclasses import asdict, replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from isomix.errors import FingerprintMismatchError, InputError, TableError
from isomix.store import EmbeddingTable
from isomix.store.schema import TableMetadata

TinyEncoder = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))["TinyEncoder"]
METADATA = TableMetadata(
    model="tiny:0", fingerprint="f" * 64, projectors="p" * 64, preprocessing={"size": 8}, embedding_dim=6, root="photos"
)


def columns(start, count, rng):
    numbers = range(start, start + count)
    return {
        "id": [f"{i:04x}" for i in numbers],
        "path": [f"ünï/{i}.png" for i in numbers],
        "size": list(numbers),
        "embedding": rng.normal(size=(count, 6)).astype(np.float32),
        "label": ["a" if i % 2 else None for i in numbers],
    }


@pytest.fixture
def table(tmp_path, rng):
    made = EmbeddingTable.create(tmp_path / "t.lance", METADATA)
    for start in range(0, 30, 10):
        made.append(columns(start, 10, rng))
    return made


def test_round_trip(table, tmp_path):
    opened = EmbeddingTable.open(tmp_path / "t.lance")
    assert opened.metadata == METADATA
    assert len(opened) == opened.count == 30
    rng = np.random.default_rng(0)
    expected = np.concatenate([columns(s, 10, rng)["embedding"] for s in (0, 10, 20)]).astype(np.float16)
    assert opened.embeddings().dtype == np.float16
    np.testing.assert_array_equal(opened.embeddings(), expected)
    np.testing.assert_array_equal(np.concatenate(list(opened.iter_embeddings(rows=7))), expected)
    assert opened.column("path") == [f"ünï/{i}.png" for i in range(30)]
    assert opened.root == (tmp_path / "photos").resolve()
    assert "30 images" in repr(opened)


def test_rows_come_in_the_order_asked_for(table):
    assert [row["size"] for row in table.rows([21, 3, 3, 9])] == [21, 3, 3, 9]
    assert [row["size"] for row in table.rows(ids=["0014", "0001"], columns=["size"])] == [20, 1]
    assert "embedding" not in table.rows([0])[0]
    assert len(table.rows([0], columns=["embedding"])[0]["embedding"]) == 6
    assert table.rows([]) == table.rows(ids=[]) == []
    assert len(table.rows()) == 30


def test_offsets_count_what_is_left_after_a_deletion(table):
    table.delete(["0000", "0005", "ffff"])
    sizes = [row["size"] for row in table.rows()]
    assert sizes == [i for i in range(30) if i not in (0, 5)]
    assert [row["size"] for row in table.rows([0, 4, 27])] == [1, 6, 29]
    assert len(table.embeddings()) == 28


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.rows([30]),
        lambda t: t.rows([-1]),
        lambda t: t.rows(ids=["nope'; DROP"]),
        lambda t: t.rows([0], columns=["nothing"]),
        lambda t: t.embeddings("path"),
        lambda t: t.add_column("path", iter, 3, {}),
        lambda t: t.add_column("not a name", iter, 3, {}),
    ],
)
def test_what_is_not_there_is_said(table, call):
    with pytest.raises(InputError, match=r"t\.lance"):
        call(table)


def test_update_keeps_the_order(table):
    table.update({"0003": {"size": -3}, "0017": {"size": -23, "label": "z"}})
    rows = table.rows()
    assert [row["size"] for row in rows] == [-i if i in (3, 23) else i for i in range(30)]
    assert [rows[i]["label"] for i in (3, 23, 25)] == ["a", "z", "a"]
    assert EmbeddingTable.open(table.path).metadata == METADATA


def test_derived_column(table):
    table.add_column("half", lambda blocks: (block[:, :3] for block in blocks), 3, {"method": "first half"})
    for opened in (table, EmbeddingTable.open(table.path)):
        assert opened.derived == {"half": {"method": "first half"}}
        np.testing.assert_array_equal(opened.embeddings("half"), opened.embeddings()[:, :3])
        assert opened.vector_dim("half") == 3
    table.add_column("half", lambda blocks: (block[:, 2:4] for block in blocks), 2, {"method": "again"})
    np.testing.assert_array_equal(table.embeddings("half"), table.embeddings()[:, 2:4])
    assert table.drop_derived() == ["half"]
    assert EmbeddingTable.open(table.path).derived == {}
    assert table.drop_derived() == []


def test_an_error_while_a_column_is_made_changes_nothing(table):
    def fail(blocks):
        yield next(iter(blocks))
        raise InputError("row 12 is bad")

    with pytest.raises(InputError, match="row 12 is bad"):
        table.add_column("half", fail, 6, {})
    assert EmbeddingTable.open(table.path).count == 30
    assert EmbeddingTable.open(table.path).derived == {}


def test_tidy_keeps_rows_and_order(tmp_path, rng):
    made = EmbeddingTable.create(tmp_path / "t.lance", METADATA)
    for start in range(0, 60, 2):
        made.append(columns(start, 2, rng))
    before = made.embeddings()
    made.tidy()
    again = EmbeddingTable.open(tmp_path / "t.lance")
    np.testing.assert_array_equal(again.embeddings(), before)
    assert again.column("size") == list(range(60))
    assert sum(1 for _ in again.iter_embeddings()) == 1


def test_nothing_is_overwritten_unasked(table):
    with pytest.raises(TableError, match="exists already"):
        EmbeddingTable.create(table.path, METADATA)
    assert EmbeddingTable.create(table.path, METADATA, overwrite=True).count == 0


def test_two_equal_pictures_are_two_rows(tmp_path):
    made = EmbeddingTable.create(tmp_path / "t.lance", METADATA)
    same = {"path": ["a.png", "b.png"], "content_hash": ["00", "00"], "embedding": np.ones((2, 6))}
    made.append({"id": ["00", "01"], **same})
    assert made.count == 2


def test_wrong_encoder_is_named(table):
    encoder = TinyEncoder()
    with pytest.raises(FingerprintMismatchError, match=encoder.fingerprint[:12]):
        EmbeddingTable.open(table.path, encoder)


def test_tables_that_are_none(tmp_path):
    with pytest.raises(TableError, match="does not exist"):
        EmbeddingTable.open(tmp_path / "none.lance")
    (tmp_path / "folder.lance").mkdir()
    with pytest.raises(TableError, match="could not be opened"):
        EmbeddingTable.open(tmp_path / "folder.lance")
    lance.write_dataset(pa.table({"a": [1]}), tmp_path / "foreign.lance")
    with pytest.raises(TableError, match="not one of isomix"):
        EmbeddingTable.open(tmp_path / "foreign.lance")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(asdict(replace(METADATA, format=2))), "table format 2"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1}', "cannot be used"),
        (json.dumps(asdict(METADATA) | {"derived": [1]}), "cannot be used"),
        (json.dumps(asdict(METADATA) | {"derived": {"iso": 3}}), "cannot be used"),
        (json.dumps(asdict(METADATA) | {"root": None}), "cannot be used"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path, text, message):
    schema = pa.schema([("id", pa.string())], metadata={b"isomix": text.encode()})
    lance.write_dataset(schema.empty_table(), tmp_path / "t.lance")
    with pytest.raises(TableError, match=message):
        EmbeddingTable.open(tmp_path / "t.lance")


def test_empty_table(tmp_path):
    made = EmbeddingTable.create(tmp_path / "t.lance", METADATA)
    assert made.embeddings().shape == (0, 6)
    assert made.rows() == [] and made.errors() == []


def test_unfinished_files_of_killed_writers_go_once_they_are_old(table):
    old, young = table.path / "data" / ".tmpXyYaSK", table.path / ".tmpA1b2C3"
    others = [table.path / ".tmp", table.path / ".tmpXyYaSK.png", table.path / "data" / "tmpXyYaSK"]
    for file in (old, young, *others):
        file.write_bytes(b"half")
        os.utime(file, None if file == young else (0, 0))
    table.tidy()
    assert not old.exists(), "its writer is gone"
    assert young.exists(), "its writer may be at work"
    assert all(file.exists() for file in others), "not one of Lance's names"
    assert len(table) == 30

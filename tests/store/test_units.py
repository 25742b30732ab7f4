"""Rows that are written before the table knows them, and parts of a source in tables of their own."""

from __future__ import annotations

import json
import os
import runpy
import time
from pathlib import Path

import numpy as np
import pytest

from isomix.errors import InputError, TableError
from isomix.store import EmbeddingTable, embed
from isomix.store.changes import merge_tables
from isomix.store.embed import shard_path
from isomix.store.scan import scan
from isomix.store.thumbnails import Thumbnails
from isomix.store.units import Work, encode_files, joined

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
DAY = 86_400


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    HELPERS["make_pictures"](folder, [f"{'ab'[i % 2]}/{i:03d}.png" for i in range(50)])
    (folder / "a/010.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def table(photos, tmp_path):
    embed(photos, tmp_path / "t.lance", HELPERS["TinyEncoder"](), batch_size=4)
    return EmbeddingTable.open(tmp_path / "t.lance")


def columns_of(folder: Path, names: list[str]) -> dict[str, object]:
    """Rows of new pictures."""
    HELPERS["make_pictures"](folder, names, seed=3)
    files = scan(folder).files
    return joined(encode_files(files, HELPERS["TinyEncoder"](), Work(4, 1, 100.0, False, None))).columns


def content(path: Path) -> tuple[list[dict[str, object]], bytes]:
    table = EmbeddingTable.open(path)
    return table.rows(), table.embeddings().tobytes()


def test_a_fragment_is_no_row_until_it_is_appended(table, tmp_path):
    before, version = content(table.path), table.version
    columns = [columns_of(tmp_path / name, [f"{name}{i}.png" for i in range(5)]) for name in "xy"]
    fragments = [EmbeddingTable.open(table.path).write_fragment(each) for each in columns]  # by anybody
    assert content(table.path) == before and EmbeddingTable.open(table.path).version == version
    table.append_fragments(fragments, {"isomix.run": "r1"})
    opened = EmbeddingTable.open(table.path)
    assert opened.version == version + 1
    assert opened.column("path") == [*(row["path"] for row in before[0]), *columns[0]["path"], *columns[1]["path"]]
    vectors = np.concatenate([each["embedding"] for each in columns]).astype(np.float16)
    assert opened.embeddings().tobytes() == before[1] + vectors.tobytes()
    assert opened._lance._dataset.read_transaction(opened.version).transaction_properties == {"isomix.run": "r1"}


def test_a_fragment_on_another_disk(table, tmp_path):
    """A machine that has another folder under the same path: its rows would be nowhere."""
    before, version = content(table.path), table.version
    fragment = table.write_fragment(columns_of(tmp_path / "x", ["x.png"]))
    (table.path / "data" / json.loads(fragment)[0]["files"][0]["path"]).unlink()
    with pytest.raises(TableError, match=r"has no file .*\.lance, which was written for it: do all machines"):
        table.append_fragments([fragment], {})
    assert content(table.path) == before and EmbeddingTable.open(table.path).version == version


def test_what_nobody_appended_goes_after_a_week(table, photos, tmp_path):
    fragments = [table.write_fragment(columns_of(tmp_path / name, [f"{name}.png"])) for name in "xy"]
    old, young = (table.path / "data" / json.loads(each)[0]["files"][0]["path"] for each in fragments)
    os.utime(old, (time.time() - 8 * DAY,) * 2)
    os.utime(young, (time.time() - 6 * DAY,) * 2)
    before = content(table.path)
    embed(photos, table.path, HELPERS["TinyEncoder"](), batch_size=4)
    assert not old.exists() and young.exists()
    assert content(table.path) == before


@pytest.mark.parametrize("of", [1, 3, 7, 20])
def test_shards_in_order_are_one_run(table, photos, tmp_path, of):
    """20 parts of 13 batches: some are empty. Run in any order, and one of them twice."""
    encoder = HELPERS["TinyEncoder"]()
    whole = tmp_path / "photos.lance"
    for number in [*range(of, 0, -1), 1]:
        report = embed(photos, whole, encoder, batch_size=4, shard=(number, of))
        assert report.table == str(shard_path(whole, (number, of)))
    assert report.added == 0
    assert not whole.exists()
    parts = sorted(tmp_path.glob(f"photos.shard-*-of-{of}.lance"))  # as a shell lists them
    assert len(parts) == of
    merged = merge_tables(whole, *parts)
    assert (merged.before, merged.added, merged.skipped, merged.rows) == (0, 49, 0, 49)
    assert content(whole) == content(table.path)
    assert [row["path"] for row in EmbeddingTable.open(whole).errors()] == ["a/010.png"]
    assert len(Thumbnails(whole)) == len(Thumbnails(table.path)) == 49
    again = embed(photos, whole, encoder, batch_size=4)
    assert (again.added, again.removed, again.unchanged, again.known_failures) == (0, 0, 49, 1)


def test_a_shard_that_is_none(photos, tmp_path):
    for shard in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(InputError, match="shard"):
            embed(photos, tmp_path / "t.lance", HELPERS["TinyEncoder"](), shard=shard)
    assert not list(tmp_path.glob("*.lance"))


def test_merging_into_a_table_that_is_not_there(table, tmp_path):
    with pytest.raises(InputError, match="tables to add: got none"):
        merge_tables(tmp_path / "new.lance")
    with pytest.raises(TableError):
        merge_tables(tmp_path / "new.lance", table.path, tmp_path / "absent.lance")
    assert not (tmp_path / "new.lance").exists()

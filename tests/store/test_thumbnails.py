"""Thumbnails beside a table: written by the embedding run, by the hash of the file."""

from __future__ import annotations

import runpy
import sqlite3
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isomix.errors import TableError
from isomix.store import EmbeddingTable, embed
from isomix.store.thumbnails import THUMBNAIL_SIDE, Thumbnails, make_thumbnail, thumbnails_path

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]


@pytest.fixture
def source(tmp_path):
    make_pictures(tmp_path / "pictures", [f"{i}.png" for i in range(7)])
    Image.fromarray(np.zeros((400, 200, 3), np.uint8)).save(tmp_path / "pictures" / "tall.png", pnginfo=None)
    return tmp_path / "pictures"


def test_embed_writes_one_for_every_row(source, tmp_path):
    report = embed(source, tmp_path / "t.lance", TinyEncoder(), batch_size=2)
    table, small = EmbeddingTable.open(tmp_path / "t.lance"), Thumbnails(tmp_path / "t.lance")
    hashes = table.column("content_hash")
    found = small.get(hashes)
    assert set(found) == set(hashes)
    assert report.thumbnail_bytes == thumbnails_path(tmp_path / "t.lance").stat().st_size > 0
    row = table.column("path").index("tall.png")
    with Image.open(BytesIO(found[hashes[row]])) as image:
        assert image.format == "WEBP"
        assert image.size == (THUMBNAIL_SIDE // 2, THUMBNAIL_SIDE)
        assert not image.info.get("exif")


def test_without_thumbnails_there_is_no_file(source, tmp_path):
    report = embed(source, tmp_path / "t.lance", TinyEncoder(), thumbnails=False)
    assert report.thumbnail_bytes == 0
    assert not thumbnails_path(tmp_path / "t.lance").exists()


def test_a_second_run_keeps_what_is_there_and_drops_what_is_gone(source, tmp_path):
    embed(source, tmp_path / "t.lance", TinyEncoder())
    (source / "0.png").unlink()
    make_pictures(source, ["new.png"], seed=9)
    embed(source, tmp_path / "t.lance", TinyEncoder())
    small = Thumbnails(tmp_path / "t.lance")
    assert len(small) == 8
    assert set(small.get(EmbeddingTable.open(tmp_path / "t.lance").column("content_hash")))


def test_overwriting_a_table_begins_anew(source, tmp_path):
    embed(source, tmp_path / "t.lance", TinyEncoder())
    Thumbnails(tmp_path / "t.lance").put({"stale": b"x"})
    embed(source, tmp_path / "t.lance", TinyEncoder(), overwrite=True)
    assert not Thumbnails(tmp_path / "t.lance").get(["stale"])


def test_read_only_writes_nothing(tmp_path):
    small = Thumbnails(tmp_path / "t.lance", read_only=True)
    small.put({"a": b"b"})
    assert not small.path.exists()
    assert small.get(["a"]) == {}
    assert len(small) == 0


def test_another_file_under_that_name_is_an_error_that_says_what_to_do(tmp_path):
    thumbnails_path(tmp_path / "t.lance").write_bytes(b"no database" * 100)
    with pytest.raises(TableError, match="delete it"):
        Thumbnails(tmp_path / "t.lance").get(["a"])


def test_more_keys_than_one_question_takes(tmp_path):
    small = Thumbnails(tmp_path / "t.lance")
    many = {f"k{i}": make_thumbnail(Image.new("RGB", (2, 2))) for i in range(1200)}
    small.put(many)
    assert small.get(many) == many


def test_a_file_that_a_writer_has_just_begun_is_empty(tmp_path):
    small = Thumbnails(tmp_path / "t.lance")
    small.path.touch()  # SQLite makes the file before the first transaction ends
    assert small.get(["a"]) == {}
    assert len(small) == 0
    small.keep_only([])
    small.put({"a": b"b"})
    assert small.get(["a"]) == {"a": b"b"}


def test_a_full_disk_is_no_reason_to_delete_thumbnails(tmp_path, monkeypatch):
    thumbnails = Thumbnails(tmp_path / "t.lance")
    thumbnails.put({"a": b"x"})
    connect = sqlite3.connect

    def small(*arguments, **options):
        database = connect(*arguments, **options)
        database.execute("PRAGMA max_page_count = 2")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        with pytest.raises(TableError, match=r"full\. Make room, and run the same command again"):
            thumbnails.put({"b": bytes(1_000_000)})
    assert thumbnails.get(["a", "b"]) == {"a": b"x"}

"""The embedding run: rows in order, incremental, resumable after a kill, failures in the ledger."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from isomix.errors import FingerprintMismatchError, InputError, TableError
from isomix.store import EmbeddingTable, embed
from isomix.store import plan as plan_module
from isomix.store.journal import Journal
from isomix.store.ledger import Failure, Ledger
from isomix.store.scan import scan

run_module = importlib.import_module("isomix.store.embed")  # the package has the function under this name
units_module = importlib.import_module("isomix.store.units")
HELPER = Path(__file__).with_name("store_helpers.py")
HELPERS = runpy.run_path(str(HELPER))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]
STATE = ["id", "path", "size", "content_hash", "width", "height", "label", "caption", "split"]


@pytest.fixture(scope="module")
def encoder():
    return TinyEncoder()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    make_pictures(folder, [f"{i:03d}.png" for i in range(20)])
    return folder


def paths_of(table):
    return table.column("path")


def same_tables(first, second):
    one, two = EmbeddingTable.open(first), EmbeddingTable.open(second)
    assert one.rows(columns=STATE) == two.rows(columns=STATE)
    assert one.embeddings().tobytes() == two.embeddings().tobytes()
    ledger = [[(r["path"], r["reason"]) for r in sorted(t.errors(), key=lambda r: r["path"])] for t in (one, two)]
    assert ledger[0] == ledger[1]


def test_fresh_run_keeps_order_and_vectors(photos, tmp_path, encoder):
    seen = []
    report = embed(photos, tmp_path / "t.lance", encoder, batch_size=4, progress=lambda *state: seen.append(state))
    table = EmbeddingTable.open(tmp_path / "t.lance", encoder)
    assert (report.rows, report.added, report.failed, report.complete) == (20, 20, 0, True)
    assert paths_of(table) == [f"{i:03d}.png" for i in range(20)]
    direct = encoder.encode_image(sorted(photos.iterdir()), batch_size=4).embeddings
    np.testing.assert_array_equal(table.embeddings(), direct.astype(np.float16))
    row = table.rows([3])[0]
    assert (row["width"], row["height"]) == (10, 12)
    assert row["size"] == (photos / "003.png").stat().st_size
    assert seen[0] == (0, 20, 0) and seen[-1] == (20, 20, 0)
    assert table.metadata.root == "photos"
    assert not list(tmp_path.glob(".*.lock"))


def test_corrupt_file_in_the_middle_shifts_nothing(photos, tmp_path, encoder):
    embed(photos, tmp_path / "whole.lance", encoder, batch_size=4)
    good = EmbeddingTable.open(tmp_path / "whole.lance")
    (photos / "007.png").write_bytes((photos / "007.png").read_bytes()[:60])
    (photos / "011.png").write_bytes(b"")
    (photos / "012.png").write_text("text that is called a picture")
    report = embed(photos, tmp_path / "t.lance", encoder, batch_size=4)
    table = EmbeddingTable.open(tmp_path / "t.lance")
    assert (report.rows, report.failed, report.complete) == (17, 3, False)
    kept = [i for i in range(20) if i not in (7, 11, 12)]
    assert paths_of(table) == [f"{i:03d}.png" for i in kept]
    # Another batch size may round the last bit of float32 differently, so not byte by byte.
    np.testing.assert_allclose(table.embeddings(), good.embeddings()[kept], atol=1e-3)
    assert {r["path"]: bool(r["reason"]) for r in table.errors()} == {"007.png": True, "011.png": True, "012.png": True}


def test_second_run_is_incremental(photos, tmp_path):
    table_path = tmp_path / "t.lance"
    (photos / "015.png").write_bytes(b"broken")
    embed(photos, table_path, TinyEncoder(), batch_size=4)
    before = EmbeddingTable.open(table_path)
    vectors = dict(zip(paths_of(before), before.embeddings(), strict=True))

    encoder = TinyEncoder()
    report = embed(photos, table_path, encoder, batch_size=4)
    assert encoder.pictures == 0
    assert (report.unchanged, report.known_failures, report.complete) == (19, 1, False)

    make_pictures(photos, ["new.png"], seed=1)  # new
    make_pictures(photos, ["003.png"], seed=2)  # changed
    os.utime(photos / "004.png", ns=(1, 1))  # touched
    (photos / "005.png").unlink()  # vanished
    (photos / "006.png").write_bytes(b"no picture any more")
    report = embed(photos, table_path, encoder, batch_size=4)
    table = EmbeddingTable.open(table_path)
    assert encoder.pictures == 2
    assert (report.added, report.changed, report.touched, report.removed) == (1, 1, 1, 1)
    assert (report.failed, report.known_failures, report.unchanged) == (1, 1, 15)
    kept = [f"{i:03d}.png" for i in range(20) if i not in (3, 5, 6, 15)]
    assert paths_of(table) == [*kept, "003.png", "new.png"]
    for path, vector in zip(paths_of(table), table.embeddings(), strict=True):
        assert np.array_equal(vector, vectors.get(path)) == (path in kept)
    assert table.rows(columns=["path", "mtime_ns"])[3] == {"path": "004.png", "mtime_ns": 1}
    assert sorted(r["path"] for r in table.errors()) == ["006.png", "015.png"]

    make_pictures(photos, ["015.png"], seed=3)  # repaired
    report = embed(photos, table_path, encoder, batch_size=4)
    assert (report.added, report.known_failures, report.rows) == (1, 1, 19)
    assert [r["path"] for r in EmbeddingTable.open(table_path).errors()] == ["006.png"]
    assert embed(photos, table_path, encoder).touched == 0


def test_same_size_other_bytes_is_a_change(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    path = photos / "001.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    report = embed(photos, tmp_path / "t.lance", encoder)
    assert report.changed + report.failed == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_known_file_does_not_wait(photos, tmp_path):
    """A file is hashed after it was listed, and may be a pipe by then."""
    file = scan(photos).files[0]
    os.mkfifo(tmp_path / "pipe")
    hashed = []
    thread = threading.Thread(
        target=lambda: hashed.append(plan_module._hash_file(file._replace(location=tmp_path / "pipe"))), daemon=True
    )
    thread.start()
    thread.join(20)
    assert hashed == [""]


def test_vanished_rows_can_be_kept(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    (photos / "002.png").unlink()
    report = embed(photos, tmp_path / "t.lance", encoder, keep_vanished=True)
    assert (report.vanished_kept, report.removed, report.rows) == (1, 0, 20)


def test_a_source_without_any_known_file_changes_nothing(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    shutil.rmtree(photos)
    make_pictures(photos, ["other.png"], seed=1)
    with pytest.raises(InputError, match="none of the 20 files"):
        embed(photos, tmp_path / "t.lance", encoder)
    assert EmbeddingTable.open(tmp_path / "t.lance").count == 20


def test_moved_files_keep_their_rows_and_vectors(photos, tmp_path):
    """Nothing is encoded again, adapted columns stay, and a copy beside its original is a row of its own."""
    table_path = tmp_path / "t.lance"
    embed(photos, table_path, TinyEncoder(), labels="folders")
    before = EmbeddingTable.open(table_path)
    before.add_column("twice", lambda blocks: (2 * block for block in blocks), 16, {"method": "of a test"})
    vectors = dict(zip(paths_of(before), before.embeddings("twice"), strict=True))

    encoder = TinyEncoder()
    (photos / "cat").mkdir()
    (photos / "003.png").rename(photos / "cat" / "a.png")
    (photos / "005.png").rename(photos / "006b.png")
    report = embed(photos, table_path, encoder, labels="folders")
    table = EmbeddingTable.open(table_path)
    assert (encoder.pictures, report.moved, report.removed, report.unchanged, report.rows) == (0, 2, 0, 18, 20)
    names = {"003.png": "cat/a.png", "005.png": "006b.png"}
    assert paths_of(table) == [names.get(path, path) for path in paths_of(before)]
    for path, vector in vectors.items():
        place = paths_of(table).index(names.get(path, path))
        assert np.array_equal(table.embeddings("twice")[place], vector)
    assert table.column("label")[3] == "cat"
    assert embed(photos, table_path, encoder, labels="folders").unchanged == 20

    shutil.copy(photos / "000.png", photos / "copy.png")  # not moved: both are there
    report = embed(photos, table_path, encoder)
    assert (encoder.pictures, report.added, report.moved, report.unchanged, report.rows) == (1, 1, 0, 20, 21)
    (photos / "000.png").rename(photos / "x.png")
    shutil.copy(photos / "x.png", photos / "y.png")  # one row for two files: the first of them gets it
    report = embed(photos, table_path, encoder)
    assert (encoder.pictures, report.added, report.moved, report.rows) == (2, 1, 1, 22)
    assert sorted(paths_of(EmbeddingTable.open(table_path))) == sorted(f.path for f in scan(photos).files)


def test_a_folder_whose_files_have_all_moved_is_no_missing_drive(photos, tmp_path):
    embed(photos, tmp_path / "t.lance", TinyEncoder())
    (photos / "2024").mkdir()
    for path in photos.glob("*.png"):
        path.rename(photos / "2024" / path.name)
    encoder = TinyEncoder()
    report = embed(photos, tmp_path / "t.lance", encoder)
    assert (encoder.pictures, report.moved, report.rows) == (0, 20, 20)


def test_a_killed_run_loses_no_moved_row(photos, tmp_path, monkeypatch):
    """Stopped before the row moves or right after, and run again: the table of an undisturbed run."""

    class Crash(BaseException):
        pass

    for name in ("whole", "before", "after"):
        embed(photos, tmp_path / f"{name}.lance", TinyEncoder())
    (photos / "003.png").rename(photos / "z.png")
    (photos / "004.png").unlink()
    embed(photos, tmp_path / "whole.lance", TinyEncoder())
    original = EmbeddingTable.update
    for when in ("before", "after"):

        def crash(self, values, when=when):
            if when == "after":
                original(self, values)
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(EmbeddingTable, "update", crash)
            with pytest.raises(Crash):
                embed(photos, tmp_path / f"{when}.lance", TinyEncoder())
        encoder = TinyEncoder()
        embed(photos, tmp_path / f"{when}.lance", encoder)
        assert encoder.pictures == 0
        same_tables(tmp_path / "whole.lance", tmp_path / f"{when}.lance")


def test_a_shorter_list_says_what_becomes_of_the_other_rows(photos, tmp_path, encoder):
    names = [f"photos/{i:03d}.png" for i in range(20)]
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(names))
    embed(listing, tmp_path / "t.lance", encoder)
    listing.write_text("\n".join(names[:15]))
    (photos / "019.png").unlink()
    report = embed(listing, tmp_path / "t.lance", encoder, keep_vanished=True)
    assert (report.vanished_kept, report.removed, report.rows) == (5, 0, 20)
    report = embed(listing, tmp_path / "t.lance", encoder)
    assert (report.removed, report.removed_present, report.rows) == (5, 4, 15)


def test_retry_of_known_failures(photos, tmp_path, encoder):
    report = embed(photos, tmp_path / "t.lance", encoder, max_megapixels=1e-5)
    assert (report.failed, report.rows) == (20, 0)
    assert embed(photos, tmp_path / "t.lance", encoder).known_failures == 20
    report = embed(photos, tmp_path / "t.lance", encoder, retry=True)
    assert (report.added, report.failed, report.rows) == (20, 0, 20)
    assert EmbeddingTable.open(tmp_path / "t.lance").errors() == []


def test_table_of_another_model(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    other = TinyEncoder(seed=1)
    with pytest.raises(FingerprintMismatchError, match=r"tiny:0.*tiny:1"):
        embed(photos, tmp_path / "t.lance", other)
    assert embed(photos, tmp_path / "t.lance", other, overwrite=True).added == 20
    assert EmbeddingTable.open(tmp_path / "t.lance").metadata.model == "tiny:1"


def test_features_are_kept_when_asked_for(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder, keep_features=True)
    table = EmbeddingTable.open(tmp_path / "t.lance")
    expected = encoder.encode_image(sorted(photos.iterdir())).features
    assert table.embeddings("feature").dtype == np.float32
    np.testing.assert_array_equal(table.embeddings("feature"), expected)
    embed(photos, tmp_path / "plain.lance", encoder)
    with pytest.raises(InputError, match="without pre-projection features"):
        embed(photos, tmp_path / "plain.lance", encoder, keep_features=True)


def test_another_root_is_refused(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    make_pictures(tmp_path / "elsewhere", ["a.png"])
    with pytest.raises(InputError, match="was made from"):
        embed(tmp_path / "elsewhere", tmp_path / "t.lance", encoder)


def test_folder_and_table_can_move_together(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    moved = tmp_path / "moved"
    moved.mkdir()
    photos.rename(moved / "photos")
    (tmp_path / "t.lance").rename(moved / "t.lance")
    assert embed(moved / "photos", moved / "t.lance", encoder).unchanged == 20


def test_derived_columns_go_when_rows_come(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    table = EmbeddingTable.open(tmp_path / "t.lance")
    table.add_column("half", lambda blocks: (block[:, :8] for block in blocks), 8, {"method": "first half"})
    make_pictures(photos, ["new.png"], seed=1)
    report = embed(photos, tmp_path / "t.lance", encoder)
    assert report.dropped_columns == ["half"]
    assert EmbeddingTable.open(tmp_path / "t.lance").derived == {}


# --- killed runs ------------------------------------------------------------------------------------------------------


def run_child(source, table, delay):
    return subprocess.Popen([sys.executable, str(HELPER), str(source), str(table), str(delay)])


def test_killed_and_started_again(tmp_path, encoder):
    photos = tmp_path / "photos"
    make_pictures(photos, [f"{i:03d}.png" for i in range(150)])
    for broken in (0, 10, 40, 41, 149):
        (photos / f"{broken:03d}.png").write_bytes(b"broken")
    embed(photos, tmp_path / "whole.lance", encoder, batch_size=4)
    table_path = tmp_path / "killed.lance"
    kills = 0
    for extra in (0.1, 0.6, None):
        child = run_child(photos, table_path, 0.02)
        if extra is not None:
            deadline = time.monotonic() + 30
            rows_before = count_rows(table_path)
            while count_rows(table_path) <= rows_before and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(extra / 4)
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                kills += 1
        child.wait(60)
    assert kills >= 2
    assert child.returncode == 0
    same_tables(tmp_path / "whole.lance", table_path)
    assert not list(tmp_path.glob(".*.lock"))


def count_rows(path):
    try:
        return EmbeddingTable.open(path).count
    except (TableError, InputError):
        return -1


@pytest.mark.parametrize("where", ["delete", "append", "ledger", "ledger_done"])
def test_stopped_between_any_two_commits(photos, tmp_path, encoder, monkeypatch, where):
    """A crash at each step of a chunk's commit, then the same call: the same table."""
    for broken in (0, 9):
        (photos / f"{broken:03d}.png").write_bytes(b"broken")
    monkeypatch.setattr(units_module, "CHUNK_BATCHES", 2)
    embed(photos, tmp_path / "whole.lance", encoder, batch_size=4)

    class Crash(BaseException):
        pass

    owner, name = (Ledger, "add") if where.startswith("ledger") else (EmbeddingTable, where)
    original = getattr(owner, name)
    calls = []

    def crash(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            if where == "ledger_done":
                original(self, *arguments)
            raise Crash
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, crash)
        with pytest.raises(Crash):
            embed(photos, tmp_path / "t.lance", encoder, batch_size=4)
    embed(photos, tmp_path / "t.lance", encoder, batch_size=4)
    same_tables(tmp_path / "whole.lance", tmp_path / "t.lance")


def test_leftovers_of_a_killed_creation_do_not_block(photos, tmp_path, encoder):
    (tmp_path / "t.lance" / "_versions").mkdir(parents=True)
    (tmp_path / "t.lance" / "_transactions").mkdir()
    assert embed(photos, tmp_path / "t.lance", encoder).added == 20


def test_two_runs_do_not_interleave(photos, tmp_path, encoder):
    with Journal(tmp_path / "t.lance"), pytest.raises(TableError, match="another process"):
        embed(photos, tmp_path / "t.lance", encoder)
    assert embed(photos, tmp_path / "t.lance", encoder).added == 20


def test_journal_note_cut_short_is_forgotten(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    (tmp_path / ".t.lance.lock").write_text('{"version": 1, "rows": 4, "fail')
    embed(photos, tmp_path / "t.lance", encoder)
    assert EmbeddingTable.open(tmp_path / "t.lance").errors() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": None},
        {"version": "1"},
        {"failures": 5},
        {"failures": [["00", "a.png", 3, 4]]},
        {"failures": [["00') OR ('1' = '1", "a.png", 3, 4, "no picture"]]},
        {"failures": [["00", 7, 3, 4, "no picture"]]},
        {"failures": [["00", "a.png", 1 << 70, 4, "no picture"]]},
        {"failures": [["00", "\ud800", 3, 4, "no picture"]]},
    ],
)
def test_a_journal_that_isomix_did_not_write_is_refused(photos, tmp_path, encoder, changes):
    embed(photos, tmp_path / "t.lance", encoder)
    note = {"version": 0, "rows": 1, "failures": [["00", "a.png", 3, 4, "no picture"]]}
    lock = tmp_path / ".t.lance.lock"
    lock.write_text(json.dumps({**note, **changes}))
    with pytest.raises(TableError, match=r"\.t\.lance\.lock is not the note.*Delete it"):
        embed(photos, tmp_path / "t.lance", encoder)
    lock.write_text(json.dumps(note))
    with Journal(tmp_path / "t.lance") as journal:
        journal.recover(EmbeddingTable.open(tmp_path / "t.lance"))
    assert [row["path"] for row in EmbeddingTable.open(tmp_path / "t.lance").errors()] == ["a.png"]


def test_disk_errors_are_table_errors(photos, tmp_path, encoder):
    """A limit on the size of files stands for a full disk."""
    code = f"""
import resource, runpy, sys
from isomix.errors import TableError
from isomix.store import embed
TinyEncoder = runpy.run_path({str(HELPER)!r})["TinyEncoder"]
import lance
resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
try:
    embed({str(photos)!r}, {str(tmp_path / "t.lance")!r}, TinyEncoder())
except TableError as error:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 7


# --- sources ----------------------------------------------------------------------------------------------------------


def test_folder_scan(tmp_path):
    folder = tmp_path / "photos"
    make_pictures(
        folder, ["b/2.png", "b/10.png", "a.JPG", "ünï/cafe\u0301.png", "ünï/日本.png", ".hidden.png", ".git/x.png"]
    )
    (folder / "note.txt").write_text("no picture")
    (folder / "b" / "again").symlink_to(folder)  # a loop
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "twin").symlink_to(folder / "b")
    found = scan(folder)
    paths = [file.path for file in found.files]
    assert paths == sorted(paths)
    assert set(paths) == {
        "a.JPG", "b/10.png", "b/2.png", "self.png", "twin/10.png", "twin/2.png", "ünï/cafe\u0301.png", "ünï/日本.png"
    }  # fmt: skip
    assert found.ignored == 1
    assert len({file.id for file in found.files}) == len(paths)
    assert next(file for file in found.files if file.path == "self.png").problem


def test_labels_from_folders(tmp_path):
    make_pictures(tmp_path, ["cat/1.png", "cat/more/2.png", "dog/3.png", "4.png"])
    labels = {file.path: file.annotations["label"] for file in scan(tmp_path, labels="folders").files}
    assert labels == {"cat/1.png": "cat", "cat/more/2.png": "cat", "dog/3.png": "dog", "4.png": None}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep file names in Unicode")
def test_name_that_is_not_utf8_goes_to_the_ledger(photos, tmp_path, encoder):
    (photos / "004.png").rename(os.fsdecode(os.fsencode(photos) + b"/\xff.png"))
    report = embed(photos, tmp_path / "t.lance", encoder)
    assert (report.added, report.failed) == (19, 1)
    assert EmbeddingTable.open(tmp_path / "t.lance").errors()[0]["path"] == "\\xff.png"
    assert embed(photos, tmp_path / "t.lance", encoder).known_failures == 1


def test_list_of_paths(photos, tmp_path, encoder):
    listing = tmp_path / "list.txt"
    outside = make_pictures(tmp_path.parent / f"{tmp_path.name}-outside", ["x.png"], seed=5)[0]
    lines = ["photos/003.png", "photos/001.png", "./photos/003.png", "", "photos/missing.png", "photos", str(outside)]
    listing.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    report = embed(listing, tmp_path / "t.lance", encoder)
    table = EmbeddingTable.open(tmp_path / "t.lance")
    assert paths_of(table) == ["photos/003.png", "photos/001.png", str(outside)]
    assert report.duplicates == ["photos/003.png"]
    reasons = {r["path"]: r["reason"] for r in table.errors()}
    assert reasons["photos"] == "a folder, not a file"
    assert set(reasons) == {"photos", "photos/missing.png"}


def test_missing_drive_behind_a_list_changes_nothing(photos, tmp_path, encoder):
    (tmp_path / "list.txt").write_text("photos/003.png\nphotos/001.png\n")
    embed(tmp_path / "list.txt", tmp_path / "t.lance", encoder)
    photos.rename(tmp_path / "unmounted")
    with pytest.raises(InputError, match="is the drive there"):
        embed(tmp_path / "list.txt", tmp_path / "t.lance", encoder)


def test_csv_with_annotations(photos, tmp_path, encoder):
    listing = tmp_path / "list.csv"
    listing.write_text('filepath,title,label,split\nphotos/001.png,"a, b",cat,train\nphotos/000.png,,dog,\n')
    embed(listing, tmp_path / "t.lance", encoder)
    rows = EmbeddingTable.open(tmp_path / "t.lance").rows(columns=["path", "caption", "label", "split"])
    assert rows == [
        {"path": "photos/001.png", "caption": "a, b", "label": "cat", "split": "train"},
        {"path": "photos/000.png", "caption": None, "label": "dog", "split": None},
    ]
    listing.write_text("filepath\tlabel\nphotos/001.png\tlion\nphotos/000.png\tdog\n")
    listing.rename(tmp_path / "list.tsv")
    report = embed(tmp_path / "list.tsv", tmp_path / "t.lance", encoder)
    assert (report.touched, report.unchanged) == (1, 1)
    table = EmbeddingTable.open(tmp_path / "t.lance")
    assert table.column("label") == ["lion", "dog"]
    assert table.column("caption") == ["a, b", None]


def test_root_of_a_list(photos, tmp_path, encoder):
    (tmp_path / "lists").mkdir()
    listing = tmp_path / "lists" / "list.txt"
    listing.write_text("003.png\n")
    assert embed(listing, tmp_path / "t.lance", encoder, root=photos).added == 1


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "list.txt", "empty"),
        ("name,label\na.png,b\n", "list.csv", "no column of paths"),
        ("path\n", "list.csv", "empty"),
        ("\0\0binary", "picture", "binary"),
    ],
)
def test_bad_lists(tmp_path, encoder, content, name, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        embed(tmp_path / name, tmp_path / "t.lance", encoder)
    assert not (tmp_path / "t.lance").exists()


def test_bad_sources_and_names(photos, tmp_path, encoder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        embed(tmp_path / "empty", tmp_path / "t.lance", encoder)
    with pytest.raises(InputError, match="does not exist"):
        embed(tmp_path / "nothing", tmp_path / "t.lance", encoder)
    for name in ("t", "a table.lance", "t.csv"):
        with pytest.raises(InputError, match="not a name for a table"):
            embed(photos, tmp_path / name, encoder)
    with pytest.raises(InputError, match="not a folder"):
        embed(photos, tmp_path / "nowhere" / "t.lance", encoder)
    with pytest.raises(InputError, match="labels"):
        scan(photos, labels="files")


def test_closed_folder_keeps_its_rows(photos, tmp_path, encoder, monkeypatch):
    make_pictures(photos, ["sub/a.png", "sub/b.png"], seed=3)
    embed(photos, tmp_path / "t.lance", encoder)
    real = os.scandir

    def scandir(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = embed(photos, tmp_path / "t.lance", encoder)
    assert (report.closed_folders, report.rows, report.complete) == (["sub"], 22, False)


def test_ledger_replaces_and_removes(photos, tmp_path, encoder):
    embed(photos, tmp_path / "t.lance", encoder)
    table = EmbeddingTable.open(tmp_path / "t.lance")
    table.ledger.add([Failure("00", "a.png", 1, 2, "first"), Failure("01", "b.png", None, None, "other")])
    table.ledger.add([Failure("00", "a.png", 1, 2, "second")])
    assert {r["path"]: r["reason"] for r in table.errors()} == {"a.png": "second", "b.png": "other"}
    table.ledger.remove(["00", "01"])
    assert table.errors() == []


def test_a_table_removed_during_the_run_is_said(photos, tmp_path):
    """Not as pictures that could not be read, and not by making half a table."""
    path = tmp_path / "t.lance"

    class Removing(TinyEncoder):
        def forward_pixels(self, pixels):
            shutil.rmtree(path, ignore_errors=True)
            return super().forward_pixels(pixels)

    with pytest.raises(TableError, match="removed while it was being written"):
        embed(photos, path, Removing(), batch_size=2)
    assert not path.exists()

"""Converting stored embeddings: round trips between all layouts, columns kept, nothing half written."""

from __future__ import annotations

import itertools
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from isomix.errors import FileFormatError, InputError, IsomixWarning
from isomix.spaces import IsoCLIP
from isomix.store import EmbeddingTable, adapt, adapt_column, convert, embed, open_embeddings

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]

NAMES = ["t.npy", "t.npz", "t.safetensors", "t.parquet", "t.fvecs", "t.faiss", "t.lance", "t"]
EXTRA = ["path", "label", "size", "content_hash"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("convert")
    make_pictures(folder / "photos", [f"{label}/é {i}.png" for label in ("a", "b") for i in range(6)])
    embed(folder / "photos", folder / "t.lance", TinyEncoder(), labels="folders")
    return folder / "t.lance"


def contents(path, modality="image"):
    source = open_embeddings(path, modality=modality)
    blocks = list(source.blocks(5))
    columns = {}
    if source.other_fields:
        found = pa.Table.from_batches([block.columns for block in blocks])
        columns = {name: found[name].to_pylist() for name in found.column_names}
    return np.concatenate([block.vectors for block in blocks]), columns


def names_of(columns):
    return {("path" if name == "image_path" else name): values for name, values in columns.items()}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(NAMES, 2)))
def test_round_trip_between_every_pair_of_layouts(table, tmp_path, first, second):
    for place in ("one", "two", "back"):
        (tmp_path / place).mkdir()
    convert(table, tmp_path / "one" / first)
    report = convert(
        tmp_path / "one" / first, tmp_path / "two" / second, dtype="float16" if second == "t.lance" else None
    )
    convert(tmp_path / "two" / second, tmp_path / "back" / "t.lance", dtype="float16")
    before, after = EmbeddingTable.open(table), EmbeddingTable.open(tmp_path / "back" / "t.lance")
    assert report.rows == after.count == before.count == 12
    assert after.embeddings().tobytes() == before.embeddings().tobytes()
    assert after.rows() == before.rows()
    assert after.root == before.root
    assert after.metadata.fingerprint == before.metadata.fingerprint
    given, wanted = names_of(contents(tmp_path / "two" / second)[1]), contents(table)[1]
    assert {name: given[name] for name in EXTRA} == {name: wanted[name] for name in EXTRA}
    # The table at the end goes on as if it had been made by embed.
    again = embed(before.root, tmp_path / "back" / "t.lance", TinyEncoder(), labels="folders")
    assert (again.unchanged, again.added) == (12, 0)


def test_arrays_beside_the_vectors_become_columns_and_come_back(tmp_path):
    rows = np.random.default_rng(0).normal(size=(9001, 4)).astype(np.float32)
    ids, words = np.arange(9001) * 3, np.array([f"é{i}" for i in range(9001)])
    np.savez_compressed(tmp_path / "s.npz", emb=rows, ids=ids, words=words, other=np.zeros(3))
    report = convert(tmp_path / "s.npz", tmp_path / "t.parquet")
    assert (report.columns, report.lost) == (["ids", "words"], ["other"])
    found = pq.read_table(tmp_path / "t.parquet")
    assert found["ids"].to_pylist() == ids.tolist()
    assert found["words"].to_pylist() == words.tolist()
    report = convert(tmp_path / "t.parquet", tmp_path / "u.npy")
    assert report.beside == "u.npy.rows.parquet"
    vectors, columns = contents(tmp_path / "u.npy")
    np.testing.assert_array_equal(vectors, rows)
    assert columns == {"ids": ids.tolist(), "words": words.tolist()}
    save_file({"emb": rows, "ids": ids}, tmp_path / "s.safetensors")
    assert convert(tmp_path / "s.safetensors", tmp_path / "folder").columns == ["ids"]
    assert contents(tmp_path / "folder")[1] == {"ids": ids.tolist()}
    assert convert(tmp_path / "folder", tmp_path / "v.parquet").columns == ["ids"]


def test_columns_beside_follow_into_adapted_vectors(table, tmp_path):
    convert(table, tmp_path / "v.npy")
    space = IsoCLIP(TinyEncoder().projectors, (3, 2)).fit()
    assert adapt(tmp_path / "v.npy", tmp_path / "z.parquet", space).dropped_columns == []
    assert pq.read_table(tmp_path / "z.parquet")["path"].to_pylist() == EmbeddingTable.open(table).column("path")


def test_the_adapted_column_of_a_table_stays_adapted(table, tmp_path):
    subprocess.run(["cp", "-r", str(table), str(tmp_path / "t.lance")], check=True)
    space = IsoCLIP(TinyEncoder().projectors, (3, 2)).fit()
    adapt_column(tmp_path / "t.lance", "isoclip", space)
    report = convert(tmp_path / "t.lance", tmp_path / "z.npz", column="isoclip")
    assert report.lost == ["embedding"]
    assert convert(tmp_path / "t.lance", tmp_path / "e.npz").lost == ["isoclip"]
    convert(tmp_path / "z.npz", tmp_path / "back.lance", dtype="float16")
    back = EmbeddingTable.open(tmp_path / "back.lance")
    assert back.metadata.space["method"] == "isoclip"
    with pytest.raises(InputError, match="adapted already"):
        adapt(tmp_path / "back.lance", tmp_path / "again.npy", space)


def test_a_table_of_foreign_vectors_needs_a_model_and_paths(tmp_path):
    rows = np.random.default_rng(0).normal(size=(5, 192)).astype(np.float16)
    rows /= np.linalg.norm(rows.astype(np.float32), axis=1, keepdims=True).astype(np.float16)
    paths = make_pictures(tmp_path / "p", [f"{i}.png" for i in range(5)])
    relative = [path.relative_to(tmp_path).as_posix() for path in paths]
    pq.write_table(pa.table({"image_path": relative, "e": list(rows), "id": list("abcde")}), tmp_path / "s.parquet")
    target = tmp_path / "t.lance"
    with pytest.raises(InputError, match="--model"):
        convert(tmp_path / "s.parquet", target)
    report = convert(tmp_path / "s.parquet", target, model="embedded")
    assert report.lost == ["id"]
    made = EmbeddingTable.open(target)
    assert made.column("path") == relative
    assert all((made.root / path).is_file() for path in relative)
    assert len(set(made.column("id"))) == 5
    with pytest.raises(InputError, match="says that"):
        convert(target, tmp_path / "u.lance", model="hf:some/other")
    np.save(tmp_path / "bare.npy", rows)
    with pytest.raises(InputError, match="no column of paths"):
        convert(tmp_path / "bare.npy", tmp_path / "u.lance", model="embedded")
    np.save(tmp_path / "wide.npy", rows[:, :100])
    with pytest.raises(InputError, match="width 100"):
        convert(tmp_path / "wide.npy", tmp_path / "u.lance", model="embedded")
    twice = [relative[0]] * 5
    pq.write_table(pa.table({"path": twice, "e": list(rows)}), tmp_path / "twice.parquet")
    with pytest.raises(InputError, match="row 1 has the path"):
        convert(tmp_path / "twice.parquet", tmp_path / "u.lance", model="embedded")
    pq.write_table(pa.table({"path": [None, *relative[1:]], "e": list(rows)}), tmp_path / "null.parquet")
    with pytest.raises(InputError, match="row 0 has no path"):
        convert(tmp_path / "null.parquet", tmp_path / "u.lance", model="embedded")
    assert not (tmp_path / "u.lance").exists()
    assert not list(tmp_path.glob(".*"))


def test_what_does_not_fit_is_refused(tmp_path):
    rows = np.random.default_rng(0).normal(size=(8, 4))
    np.save(tmp_path / "s.npy", rows)
    with pytest.raises(InputError, match="float64"):
        convert(tmp_path / "s.npy", tmp_path / "t.parquet")
    convert(tmp_path / "s.npy", tmp_path / "t.parquet", dtype="float32")
    with pytest.raises(InputError, match="exists already"):
        convert(tmp_path / "s.npy", tmp_path / "t.parquet", dtype="float32")
    with pytest.raises(InputError, match="the source itself"):
        convert(tmp_path / "s.npy", tmp_path / "s.npy", overwrite=True)
    with pytest.raises(InputError, match="dtype"):
        convert(tmp_path / "s.npy", tmp_path / "u.npy", dtype="int8")
    with pytest.raises(InputError, match=r"'\.csv'"):
        convert(tmp_path / "s.npy", tmp_path / "u.csv")
    rows[5, 2] = 1e6
    np.save(tmp_path / "large.npy", rows)
    with pytest.raises(InputError, match="row 5 has numbers too large"):
        convert(tmp_path / "large.npy", tmp_path / "u.npy", dtype="float16")
    np.save(tmp_path / "empty.npy", rows[:0].astype(np.float32))
    assert convert(tmp_path / "empty.npy", tmp_path / "u.parquet").rows == 0


def test_columns_of_other_vectors_are_left_aside(tmp_path):
    rows = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    pq.write_table(pa.table({"id": range(8), "e": list(rows)}), tmp_path / "s.parquet")
    convert(tmp_path / "s.parquet", tmp_path / "t.npy")
    assert open_embeddings(tmp_path / "t.npy").other_columns == ["id"]
    np.save(tmp_path / "t.npy", rows[::-1])
    with pytest.warns(IsomixWarning, match="other vectors"):
        assert open_embeddings(tmp_path / "t.npy").other_columns == []
    convert(tmp_path / "s.parquet", tmp_path / "t.npy", overwrite=True)
    (tmp_path / "t.npy.rows.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(FileFormatError, match="parquet"):
        open_embeddings(tmp_path / "t.npy")
    np.save(tmp_path / "bare.npy", rows)
    convert(tmp_path / "bare.npy", tmp_path / "t.fvecs")
    convert(tmp_path / "s.parquet", tmp_path / "t.fvecs", overwrite=True)
    assert (tmp_path / "t.fvecs.rows.parquet").exists()
    convert(tmp_path / "bare.npy", tmp_path / "t.fvecs", overwrite=True)
    assert not (tmp_path / "t.fvecs.rows.parquet").exists()


def test_killed_at_any_moment_the_old_target_or_the_new_one_is_whole(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60_000, 64)).astype(np.float32)
    for name, ids in (("old", np.zeros(60_000, np.int64)), ("new", np.arange(60_000))):
        np.savez(tmp_path / f"{name}.npz", emb=rows if name == "new" else -rows, ids=ids)
    convert(tmp_path / "old.npz", tmp_path / "t.npy")
    command = [
        sys.executable,
        "-m",
        "isomix",
        "convert",
        str(tmp_path / "new.npz"),
        str(tmp_path / "t.npy"),
        "--overwrite",
    ]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - started
    convert(tmp_path / "old.npz", tmp_path / "t.npy", overwrite=True)
    for moment in np.linspace(0.5, 1.0, 6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(moment * whole)
            process.kill()
        vectors = np.load(tmp_path / "t.npy")
        assert any(np.array_equal(vectors, sign * rows) for sign in (1, -1))
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / "t.npy")[1] == {"ids": list(range(60_000))}
    assert not list(tmp_path.glob(".*"))


def test_memory_does_not_grow_with_the_rows(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's own memory is read from /proc")
    code = (
        "import re, sys; from isomix.store import convert; convert(*sys.argv[1:3]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    peaks = []
    for rows in (20_000, 600_000):
        array = np.lib.format.open_memmap(tmp_path / f"{rows}.npy", "w+", np.float16, (rows, 128))
        array[:] = 1
        array.flush()
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{rows}.npy"), str(tmp_path / f"{rows}.parquet")],
            check=True,
            capture_output=True,
        )
        peaks.append(int(ran.stdout))
    assert peaks[1] - peaks[0] < 60_000  # kB; the vectors are 150 MB

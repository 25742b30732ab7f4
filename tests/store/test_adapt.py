"""Adapting stored embeddings: equal to transform, whole or not at all, never twice, bounded memory."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from isomix.errors import (
    FileFormatError,
    FingerprintMismatchError,
    InputError,
    IsomixWarning,
    ModalityError,
    TableError,
)
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, TextPCA
from isomix.store import EmbeddingTable, adapt, adapt_column, embed, open_embeddings
from isomix.store.threads import overlapped

HELPERS = runpy.run_path(str(Path(__file__).with_name("store_helpers.py")))
TinyEncoder, make_pictures = HELPERS["TinyEncoder"], HELPERS["make_pictures"]


@pytest.fixture(scope="module")
def encoder():
    return TinyEncoder()


@pytest.fixture(scope="module")
def space(encoder):
    return IsoCLIP(encoder.projectors, band=(3, 2)).fit()


@pytest.fixture
def stored(rng):
    return rng.normal(size=(1000, 16)).astype(np.float16)


@pytest.fixture
def table(tmp_path, encoder):
    make_pictures(tmp_path / "photos", [f"{i:03d}.png" for i in range(30)])
    embed(tmp_path / "photos", tmp_path / "photos.lance", encoder, labels="folders")
    return tmp_path / "photos.lance"


def vectors(path, **options):
    return np.concatenate([block.vectors for block in open_embeddings(path, **options).blocks(10_000)])


def assert_close(result, space, stored):
    assert result.shape == (len(stored), space.n_components_)
    np.testing.assert_allclose(result, space.transform(stored), atol=1e-3)


@pytest.mark.parametrize("name", ["t.npy", "t.npz", "t.safetensors", "t.parquet", "t.fvecs", "t.index", "folder"])
@pytest.mark.parametrize("rows_per_block", [64, 100_000])
def test_adapt_equals_transform_in_every_layout(tmp_path, space, stored, name, rows_per_block):
    np.save(tmp_path / "s.npy", stored)
    report = adapt(tmp_path / "s.npy", tmp_path / name, space, rows_per_block=rows_per_block)
    assert (report.rows, report.width_before, report.width, report.layout) == (1000, 16, 11, "npy")
    assert_close(vectors(tmp_path / name), space, stored)
    assert not list(tmp_path.glob(".*"))
    # Adapted vectors are known by their record, and not adapted again.
    with pytest.raises(InputError, match="adapted already"):
        adapt(tmp_path / name, tmp_path / "again.npy", space)


@pytest.mark.parametrize(("before", "after"), [("float16", "float16"), ("float32", "float32"), ("float64", "float32")])
def test_precision_stays_that_of_the_source(tmp_path, space, stored, before, after):
    np.save(tmp_path / "s.npy", stored.astype(before))
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    assert np.load(tmp_path / "t.npy").dtype == after


def test_float32_is_exact(tmp_path, space, stored):
    np.save(tmp_path / "s.npy", stored.astype(np.float32))
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    result = np.load(tmp_path / "t.npy")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, space.transform(stored.astype(np.float32)), atol=1e-6)


def test_same_bytes_every_time(tmp_path, space, stored):
    np.save(tmp_path / "s.npy", stored)
    for name in ("a.npy", "b.npy"):
        adapt(tmp_path / "s.npy", tmp_path / name, space, rows_per_block=128)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_clip_retrieval_folder(tmp_path, space, stored):
    source = tmp_path / "source"
    for name in ("img_emb", "metadata", "text_emb"):
        (source / name).mkdir(parents=True)
    for part, rows in enumerate(np.array_split(stored, 12)):
        np.save(source / "img_emb" / f"img_emb_{part}.npy", rows)
        pq.write_table(
            pa.table({"image_path": [str(part)] * len(rows)}), source / "metadata" / f"metadata_{part}.parquet"
        )
    adapt(source, tmp_path / "target", space, rows_per_block=50)
    for part, rows in enumerate(np.array_split(stored, 12)):
        assert_close(np.load(tmp_path / "target" / "img_emb" / f"img_emb_{part}.npy"), space, rows)
    for path in (source / "metadata").iterdir():
        assert (tmp_path / "target" / "metadata" / path.name).read_bytes() == path.read_bytes()
    record = json.loads((tmp_path / "target" / "isomix.json").read_text())
    assert record["space"]["fingerprint"] == space.fingerprint
    assert (record["rows"], record["width"]) == (1000, 11)
    for again in ("target", "target/img_emb", "target/img_emb/img_emb_3.npy"):
        with pytest.raises(InputError, match="adapted already"):
            adapt(tmp_path / again, tmp_path / "again.npy", space)


def test_the_other_half_of_a_clip_retrieval_folder_stays(tmp_path, encoder, space, stored):
    source, target = tmp_path / "source", tmp_path / "target"
    for half in ("img_emb", "text_emb"):
        (source / half).mkdir(parents=True)
        np.save(source / half / f"{half}_0.npy", stored)
    adapt(source, target, space)
    assert (target / "text_emb/text_emb_0.npy").read_bytes() == (source / "text_emb/text_emb_0.npy").read_bytes()
    assert adapt(source, tmp_path / "t.npy", space).dropped_columns == ["text_emb"]
    # The record of the adapted half says nothing about this one.
    text_space = IsoCLIP(encoder.projectors, (3, 2), modality="text").fit()
    for place in ("text_emb", "text_emb/text_emb_0.npy", ""):
        assert adapt(target / place, tmp_path / "u.npy", text_space, overwrite=True).rows == 1000
    with pytest.raises(InputError, match="adapted already"):
        adapt(target, tmp_path / "again.npy", space)


def test_arrays_beside_the_vectors_stay_or_are_named(tmp_path, space, stored):
    ids = np.arange(1000) * 7
    np.savez(tmp_path / "s.npz", emb=stored, ids=ids, names=np.array(["a", "b"]))
    save_file({"emb": stored, "ids": ids}, tmp_path / "s.safetensors", metadata={"made by": "someone"})
    assert adapt(tmp_path / "s.npz", tmp_path / "t.npz", space).dropped_columns == []
    assert adapt(tmp_path / "s.safetensors", tmp_path / "t.safetensors", space).dropped_columns == []
    for path in ("t.npz", "t.safetensors"):
        found = np.load(tmp_path / path) if path == "t.npz" else load_file(tmp_path / path)
        np.testing.assert_array_equal(found["ids"], ids)
        assert_close(found["emb"], space, stored)
    assert np.load(tmp_path / "t.npz")["names"].tolist() == ["a", "b"]
    with safe_open(tmp_path / "t.safetensors", "numpy") as opened:
        assert opened.metadata()["made by"] == "someone"
    assert adapt(tmp_path / "s.npz", tmp_path / "folder", space).dropped_columns == ["names"]
    assert adapt(tmp_path / "s.safetensors", tmp_path / "t.parquet", space).dropped_columns == []
    for path in ("folder/metadata/metadata_0.parquet", "t.parquet"):
        assert pq.read_table(tmp_path / path)["ids"].to_pylist() == ids.tolist()


@pytest.mark.parametrize("name", ["t.npy", "t.npz", "t.safetensors", "t.parquet", "folder"])
def test_a_source_that_becomes_shorter_gives_no_target(tmp_path, space, stored, name):
    (tmp_path / "in").mkdir()
    for part in range(3):
        pq.write_table(pa.table({"emb": list(stored)}), tmp_path / "in" / f"{part}.parquet")

    def shorten(done, total):
        pq.write_table(pa.table({"emb": list(stored[:400])}), tmp_path / "in" / "2.parquet")

    with pytest.raises(FileFormatError, match="3000 rows when it was opened and gave 2400"):
        adapt(tmp_path / "in", tmp_path / name, space, rows_per_block=50, progress=shorten)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_other_columns_of_parquet_stay(tmp_path, space, stored):
    columns = {"id": range(1000), "vector": list(stored.astype(np.float32)), "caption": ["c", None] * 500}
    original = pa.table(columns).replace_schema_metadata({"made by": "someone"})
    (tmp_path / "in").mkdir()
    pq.write_table(original.slice(0, 600), tmp_path / "in" / "0.parquet")
    pq.write_table(original.slice(600), tmp_path / "in" / "1.parquet")
    adapt(tmp_path / "in", tmp_path / "out", space)
    adapt(tmp_path / "in", tmp_path / "one.parquet", space)
    for path in (tmp_path / "out", tmp_path / "one.parquet"):
        result = pq.read_table(path)
        assert result.column_names == ["id", "vector", "caption"]
        for name in ("id", "caption"):
            assert result[name].to_pylist() == original[name].to_pylist()
        assert result.schema.metadata[b"made by"] == b"someone"
        assert_close(vectors(path), space, stored)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.parquet", "1.parquet"]
    assert adapt(tmp_path / "in", tmp_path / "v.npy", space).dropped_columns == []
    beside = pq.read_table(tmp_path / "v.npy.rows.parquet")
    assert {name: beside[name].to_pylist() for name in beside.column_names} == {
        name: original[name].to_pylist() for name in ("id", "caption")
    }


def test_bad_rows_are_named_or_kept_in_place(tmp_path, space, stored):
    stored[300] = np.nan
    stored[301] = 0
    stored[700, 3] = np.inf
    np.save(tmp_path / "s.npy", stored)
    with pytest.raises(InputError, match="300, 301"):
        adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, rows_per_block=512)
    assert [p.name for p in tmp_path.iterdir()] == ["s.npy"]
    for name in ("t.npy", "t.parquet", "folder"):
        report = adapt(tmp_path / "s.npy", tmp_path / name, space, skip_bad=True, rows_per_block=100)
        assert report.skipped_rows == [300, 301, 700]
        result = vectors(tmp_path / name)
        assert np.flatnonzero(np.isnan(result).any(axis=1)).tolist() == [300, 301, 700]
        good = np.delete(np.arange(1000), [300, 301, 700])
        assert_close(result[good], space, stored[good])
    for record in ("t.npy.isomix.json", "t.parquet.isomix.json", "folder/isomix.json"):
        assert json.loads((tmp_path / record).read_text())["skipped_rows"] == [300, 301, 700]
    assert pq.read_table(tmp_path / "t.parquet")["embedding"].null_count == 3


def test_rows_that_the_space_sends_to_zero_are_named_by_their_numbers_in_the_source(tmp_path, rng):
    sentences = rng.normal(size=(40, 16))
    sentences[:, 10:] = 0
    space = TextPCA().fit(sentences)
    rows = rng.normal(size=(300, 16)).astype(np.float32)
    rows[[130, 290], :10], rows[291] = 0, np.nan
    np.save(tmp_path / "s.npy", rows)
    with pytest.raises(InputError, match=": 130;"):
        adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, rows_per_block=100)
    report = adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, rows_per_block=100, skip_bad=True, dtype="float32")
    assert report.skipped_rows == [130, 290, 291]
    good = np.delete(np.arange(300), report.skipped_rows)
    assert_close(vectors(tmp_path / "t.npy")[good], space, rows[good])


def test_nothing_half_and_nothing_overwritten(tmp_path, space, stored, monkeypatch):
    np.save(tmp_path / "s.npy", stored)
    (tmp_path / "t.npy").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)

    def stop(done, total):
        if done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, overwrite=True, rows_per_block=100, progress=stop)
    assert (tmp_path / "t.npy").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.npy", "t.npy"]
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, overwrite=True)
    adapt(tmp_path / "s.npy", tmp_path / "folder", space)
    adapt(tmp_path / "s.npy", tmp_path / "folder", space, overwrite=True)
    assert_close(vectors(tmp_path / "folder"), space, stored)
    with pytest.raises(InputError, match="source itself"):
        adapt(tmp_path / "s.npy", tmp_path / "s.npy", space, overwrite=True)


def test_leftovers_of_killed_runs_are_removed(tmp_path, space, stored):
    np.save(tmp_path / "s.npy", stored)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for number in ("", "-0", "-12"):
        (tmp_path / f".t.{child.pid}{number}.part.npy").write_bytes(b"half")
    (tmp_path / f".t.{os.getpid() if os.getpid() != 1 else 2}x.part.npy").write_bytes(b"not ours")
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    left = [p.name for p in tmp_path.iterdir() if p.name.startswith(".t.")]
    assert left == [f".t.{os.getpid() if os.getpid() != 1 else 2}x.part.npy"]


def test_record_of_a_replaced_file_is_left_aside(tmp_path, space, stored):
    np.save(tmp_path / "s.npy", stored)
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    np.save(tmp_path / "t.npy", stored)
    with pytest.warns(IsomixWarning, match="describes other vectors"):
        adapt(tmp_path / "t.npy", tmp_path / "u.npy", space)


def test_a_record_belongs_to_the_bytes_beside_it(tmp_path, space, stored):
    np.save(tmp_path / "s.npy", stored)
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    adapted = np.load(tmp_path / "t.npy")
    np.save(tmp_path / "t.npy", adapted + np.float16(1))  # as wide, and by someone else
    with pytest.warns(IsomixWarning, match="describes other vectors"):
        assert open_embeddings(tmp_path / "t.npy").record == {}


KILLED = """
import os, runpy, sys
from pathlib import Path
from isomix.spaces import load_space
from isomix.store import adapt

source, target, space, points = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
seen = 0

def counted(act):
    def call(*arguments):
        global seen
        if seen == points:
            os._exit(9)
        seen += 1
        return act(*arguments)
    return call

for name in ("rename", "replace", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
adapt(source, target, load_space(space), overwrite=True)
"""


def test_a_kill_at_any_rename_leaves_vectors_with_their_record(tmp_path, space, encoder, stored):
    """Old vectors with the old record, or new ones with the new: told by the space that each record names."""
    other = IsoCLIP(encoder.projectors, (2, 3)).fit()  # as wide as the first
    other.save(tmp_path / "other.safetensors")
    expected = {space.fingerprint: space.transform(stored), other.fingerprint: other.transform(stored)}
    np.save(tmp_path / "s.npy", stored)
    seen = set()
    for points in range(20):
        adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, overwrite=True)
        arguments = [tmp_path / "s.npy", tmp_path / "t.npy", tmp_path / "other.safetensors", points]
        code = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False).returncode
        found = open_embeddings(tmp_path / "t.npy").record["space"]["fingerprint"]
        np.testing.assert_allclose(np.load(tmp_path / "t.npy"), expected[found], atol=1e-3)
        seen.add(found)
        if code == 0:
            break
        assert code == 9
    assert (code, found, seen) == (0, other.fingerprint, set(expected))
    assert "before" not in json.loads((tmp_path / "t.npy.isomix.json").read_text())
    assert points >= 3


def test_what_does_not_fit_is_refused(tmp_path, space, stored, encoder):
    np.save(tmp_path / "s.npy", stored)
    np.save(tmp_path / "narrow.npy", stored[:, :10])
    np.save(tmp_path / "empty.npy", stored[:0])
    (tmp_path / "text_emb").mkdir()
    np.save(tmp_path / "text_emb" / "text_emb_0.npy", stored)
    text_space = IsoCLIP(encoder.projectors, band=(3, 2), modality="text").fit()
    target = tmp_path / "t.npy"
    with pytest.raises(InputError, match="width 10"):
        adapt(tmp_path / "narrow.npy", target, space)
    with pytest.raises(InputError, match="no rows"):
        adapt(tmp_path / "empty.npy", target, space)
    with pytest.raises(ModalityError, match="text embeddings"):
        adapt(tmp_path / "text_emb", target, space)
    with pytest.raises(InputError, match=r"ends in '\.csv'"):
        adapt(tmp_path / "s.npy", tmp_path / "t.csv", space)
    with pytest.raises(InputError, match="not a folder"):
        adapt(tmp_path / "s.npy", tmp_path / "no" / "t.npy", space)
    with pytest.raises(InputError, match="says which model"):
        adapt(tmp_path / "s.npy", tmp_path / "t.lance", space)
    with pytest.raises(InputError, match="dtype"):
        adapt(tmp_path / "s.npy", target, space, dtype="int8")
    assert not target.exists()
    assert not list(tmp_path.glob(".*"))
    adapt(tmp_path / "text_emb", target, text_space)


def test_table_to_table(table, tmp_path, space, encoder):
    adapt(table, tmp_path / "iso.lance", space)
    before, after = EmbeddingTable.open(table), EmbeddingTable.open(tmp_path / "iso.lance", encoder)
    assert after.rows() == before.rows()
    assert after.root == before.root
    assert_close(after.embeddings(), space, before.embeddings())
    assert after.metadata.space["fingerprint"] == space.fingerprint
    with pytest.raises(InputError, match="adapted already"):
        adapt(tmp_path / "iso.lance", tmp_path / "t.npy", space)
    with pytest.raises(TableError, match="not a model's own embeddings"):
        embed(tmp_path / "photos", tmp_path / "iso.lance", encoder)


def test_table_to_clip_retrieval(table, tmp_path, space):
    adapt(table, tmp_path / "out", space)
    metadata = pq.read_table(tmp_path / "out" / "metadata" / "metadata_0.parquet")
    assert metadata["image_path"].to_pylist() == EmbeddingTable.open(table).column("path")
    assert_close(
        np.load(tmp_path / "out" / "img_emb" / "img_emb_0.npy"), space, EmbeddingTable.open(table).embeddings()
    )


def test_derived_column(table, tmp_path, space, encoder):
    report = adapt_column(table, "iso", space)
    opened = EmbeddingTable.open(table)
    assert (report.rows, report.width) == (30, 11)
    assert opened.derived["iso"]["fingerprint"] == space.fingerprint
    assert_close(opened.embeddings("iso"), space, opened.embeddings())
    rebuilt = IsoCLIP(encoder.projectors, band=(1, 1)).fit()
    adapt_column(table, "iso", rebuilt)
    assert_close(EmbeddingTable.open(table).embeddings("iso"), rebuilt, opened.embeddings())
    with pytest.raises(InputError, match="adapted already"):
        adapt(table, tmp_path / "t.npy", space, column="iso")
    with pytest.raises(InputError, match="derived column"):
        adapt_column(table, "path", space)


def test_a_column_built_again_and_again_does_not_grow_the_table(table, space, monkeypatch):
    from isomix.store import lance_file

    monkeypatch.setattr(lance_file, "KEEP_OLD_VERSIONS", timedelta(microseconds=1))
    sizes = []
    for _ in range(4):
        adapt_column(table, "iso", space)
        sizes.append(sum(path.stat().st_size for path in table.rglob("*.lance")))
    assert len(set(sizes)) == 1
    assert_close(EmbeddingTable.open(table).embeddings("iso"), space, EmbeddingTable.open(table).embeddings())


def test_space_of_another_model(table, tmp_path):
    other = IsoCLIP(TinyEncoder(seed=1).projectors, band=(3, 2)).fit()
    for call in (lambda: adapt(table, tmp_path / "t.npy", other), lambda: adapt_column(table, "iso", other)):
        with pytest.raises(FingerprintMismatchError, match="tiny:0"):
            call()


def test_spaces_without_projectors_work_too(tmp_path, rng, stored):
    np.save(tmp_path / "s.npy", stored)
    space = TextPCA().fit(rng.normal(size=(40, 16)))
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    assert_close(np.load(tmp_path / "t.npy"), space, stored)


def test_blocks_under_way_are_bounded(monkeypatch):
    under_way = peak = 0

    def items():
        nonlocal under_way, peak
        for i in range(200):
            under_way += 1
            peak = max(peak, under_way)
            yield i

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    for i, (item, result) in enumerate(overlapped(items(), lambda i: -i)):
        assert (item, result) == (i, -i)
        under_way -= 1
    assert peak <= 6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_rows(tmp_path, rng):
    projectors = Projectors(rng.normal(size=(256, 256)), rng.normal(size=(256, 256)))
    IsoCLIP(projectors, band=(50, 50)).fit().save(tmp_path / "iso.safetensors")
    block = rng.normal(size=(20_000, 256)).astype(np.float16)
    peaks = []
    for repeats in (3, 15):  # 30 and 150 MB
        source = tmp_path / f"{repeats}.npz"  # a stream: no memory map that would count as resident
        np.savez(source, embeddings=np.tile(block, (repeats, 1)))
        code = f"""
from isomix import load_space
from isomix.store import adapt
space = load_space({str(tmp_path / "iso.safetensors")!r})
adapt({str(source)!r}, {str(tmp_path / f"out{repeats}.npy")!r}, space, rows_per_block=4096)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 30


def test_a_record_that_cannot_be_written_again_is_left_aside(tmp_path, space, rng):
    np.save(tmp_path / "s.npy", rng.standard_normal((5, space.projectors.embedding_dim)).astype(np.float32))
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space)
    record = tmp_path / "t.npy.isomix.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "source": "\ud800"}))
    adapt(tmp_path / "s.npy", tmp_path / "t.npy", space, overwrite=True)
    assert json.loads(record.read_text())["space"]["method"] == "isoclip"

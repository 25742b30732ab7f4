"""Layouts of stored embeddings: found, read in order and in blocks, written and read again, refused when broken."""

from __future__ import annotations

import contextlib
import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from isomix.errors import FileFormatError, InputError
from isomix.store.convert import convert
from isomix.store.duplicates import find_duplicates
from isomix.store.formats import Job, lost_columns, open_embeddings, write_embeddings
from isomix.store.formats.base import natural_key

FILES = [".npy", ".npz", ".safetensors", ".fvecs", ".parquet", ".index"]


def read(source, rows=7):
    blocks = list(source.blocks(rows))
    starts = [block.start for block in blocks]
    assert starts == list(np.cumsum([0, *(len(block.vectors) for block in blocks)])[:-1])
    assert max(len(block.vectors) for block in blocks) <= rows
    return np.concatenate([block.vectors for block in blocks])


def write_file(path, array):
    """Each layout as its own tools write it."""
    suffix = path.suffix
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez_compressed(path, features=array, labels=np.arange(len(array)))
    elif suffix == ".safetensors":
        save_file({"image": array, "labels": np.arange(len(array))}, path)
    elif suffix == ".fvecs":
        rows = np.empty((len(array), array.shape[1] + 1), np.float32)
        rows[:, 0] = np.array([array.shape[1]], np.int32).view(np.float32)
        rows[:, 1:] = array
        rows.tofile(path)
    elif suffix == ".parquet":
        pq.write_table(pa.table({"name": [f"n{i}" for i in range(len(array))], "emb": list(array)}), path)
    else:
        index = faiss.IndexFlatIP(array.shape[1])
        index.add(array)
        faiss.write_index(index, str(path))
    return path


def clip_retrieval(folder, sizes, rng, modality="img"):
    arrays = []
    for name in (f"{modality}_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for part, rows in enumerate(sizes):
        arrays.append(rng.normal(size=(rows, 6)).astype(np.float16))
        np.save(folder / f"{modality}_emb" / f"{modality}_emb_{part}.npy", arrays[-1])
        table = pa.table({"image_path": [f"{part}/{i}.jpg" for i in range(rows)], "caption": ["c"] * rows})
        pq.write_table(table, folder / "metadata" / f"metadata_{part}.parquet")
    return np.concatenate(arrays)


@pytest.mark.parametrize("suffix", FILES)
def test_files_are_read_and_written(tmp_path, rng, suffix):
    array = rng.normal(size=(40, 6)).astype(np.float32)
    source = open_embeddings(write_file(tmp_path / f"in{suffix}", array))
    assert (source.rows, source.width, source.dtype) == (40, 6, np.float32)
    np.testing.assert_array_equal(read(source), array)

    target = tmp_path / f"out{suffix}"
    job = Job(source, 4, np.dtype(np.float32), {"space": {"method": "cut", "modality": "image"}})
    write_embeddings(target, target, ((block, block.vectors[:, :4]) for block in source.blocks(7)), job)
    again = open_embeddings(target)
    np.testing.assert_array_equal(read(again), array[:, :4])
    if suffix == ".safetensors":
        assert load_file(target)["image"].shape == (40, 4)
        np.testing.assert_array_equal(load_file(target)["labels"], np.arange(40))
    if suffix == ".npz":
        np.testing.assert_array_equal(np.load(target)["features"], array[:, :4])
        np.testing.assert_array_equal(np.load(target)["labels"], np.arange(40))
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(target), array[:, :4])
    if suffix == ".index":
        assert faiss.read_index(str(target)).metric_type == faiss.METRIC_INNER_PRODUCT


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 50), width=st.integers(1, 9), block=st.integers(1, 60), half=st.booleans())
def test_npy_and_npz_at_any_size(tmp_path_factory, rows, width, block, half):
    folder = tmp_path_factory.mktemp("sizes")
    array = np.arange(rows * width, dtype=np.float16 if half else np.float64).reshape(rows, width)
    for suffix in (".npy", ".npz"):
        source = open_embeddings(write_file(folder / f"in{suffix}", array))
        assert np.array_equal(read(source, block), array)


def test_natural_order():
    names = ["emb_10.npy", "emb_9.npy", "emb_1.npy", "emb_010b.npy", "emb_1²2.npy"]
    assert [p.name for p in sorted(map(Path, names), key=natural_key)] == [
        "emb_1.npy",
        "emb_1²2.npy",
        "emb_9.npy",
        "emb_10.npy",
        "emb_010b.npy",
    ]


def test_clip_retrieval_folder(tmp_path, rng):
    array = clip_retrieval(tmp_path, [3, 5, 2, 1, 1, 1, 1, 1, 1, 1, 4], rng)  # part 10 comes after part 9
    source = open_embeddings(tmp_path)
    assert (source.layout, source.rows, source.modality) == ("clip-retrieval", 21, "image")
    np.testing.assert_array_equal(read(source, 2), array)
    assert open_embeddings(tmp_path / "img_emb").modality == "image"
    np.testing.assert_array_equal(read(open_embeddings(tmp_path / "img_emb"), 100), array)
    with pytest.raises(InputError, match="text_emb"):
        open_embeddings(tmp_path, modality="text")


def test_clip_retrieval_parts_must_be_aligned(tmp_path, rng):
    clip_retrieval(tmp_path, [3, 5], rng)
    np.save(tmp_path / "img_emb" / "img_emb_1.npy", np.ones((4, 6), np.float16))
    with pytest.raises(FileFormatError, match=r"metadata_1\.parquet has 5 rows.*has 4"):
        open_embeddings(tmp_path)


def test_parquet_folder_and_missing_lists(tmp_path, rng):
    for part in (2, 10):
        vectors = [None, *rng.normal(size=(3, 6)).astype(np.float32)]
        pq.write_table(pa.table({"vector": vectors, "i": range(4)}), tmp_path / f"part{part}.parquet")
    source = open_embeddings(tmp_path)
    assert (source.layout, source.rows, source.column) == ("parquet folder", 8, "vector")
    found = read(source, 3)
    assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == [0, 4]
    assert [block.part for block in source.blocks(100)] == ["part2", "part10"]


def test_parquet_column_is_guessed_or_named(tmp_path, rng):
    lists = list(rng.normal(size=(3, 6)).astype(np.float32))
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"first": lists, "second": lists, "ids": [[1], [2], [3]]}), path)
    with pytest.raises(InputError, match=r"first, second"):
        open_embeddings(path)
    with pytest.raises(InputError, match="'ids'"):
        open_embeddings(path, column="ids")
    assert open_embeddings(path, column="second").column == "second"
    pq.write_table(pa.table({"image_embedding": lists, "embedding": lists}), path)
    with pytest.raises(InputError, match=r"image_embedding, embedding.*--column"):
        open_embeddings(path)
    pq.write_table(pa.table({"anything": lists, "ids": [[1], [2], [3]]}), path)
    assert open_embeddings(path).column == "anything"


def test_lists_of_different_lengths(tmp_path):
    pq.write_table(pa.table({"emb": [[1.0, 2.0], [1.0]]}), tmp_path / "p.parquet")
    with pytest.raises(FileFormatError, match="not all 2 numbers long"):
        read(open_embeddings(tmp_path / "p.parquet"))


def test_faiss_indexes_that_hold_no_vectors(tmp_path, rng):
    array = rng.normal(size=(300, 8)).astype(np.float32)
    index = faiss.index_factory(8, "IVF4,Flat")
    index.train(array)
    index.add(array)
    faiss.write_index(index, str(tmp_path / "ivf.index"))
    with pytest.raises(FileFormatError, match="IndexIVFFlat"):
        open_embeddings(tmp_path / "ivf.index")


def made_with_ids(array):
    index = faiss.IndexIDMap(faiss.IndexFlatIP(array.shape[1]))
    index.add_with_ids(array, 7 * np.arange(len(array))[::-1])
    return index


def made_with_ids_that_reconstruct(array):
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(array.shape[1]))
    index.add_with_ids(array, 7 * np.arange(len(array))[::-1])
    return index


def made_as_graph(array):
    index = faiss.IndexHNSWFlat(array.shape[1], 8, faiss.METRIC_INNER_PRODUCT)
    index.add(array)
    return index


def made_as_graph_with_ids(array):
    index = faiss.IndexIDMap(faiss.IndexHNSWFlat(array.shape[1], 8))
    index.add_with_ids(array, 7 * np.arange(len(array))[::-1])
    return index


@pytest.mark.filterwarnings("ignore:the graph of an IndexHNSWFlat")
@pytest.mark.parametrize("make", [made_with_ids, made_with_ids_that_reconstruct, made_as_graph, made_as_graph_with_ids])
def test_faiss_indexes_with_ids_or_a_graph(tmp_path, rng, make):
    """The vectors as they were added, and the ids with them, to every layout that has room for them."""
    array = rng.normal(size=(300, 8)).astype(np.float32)
    index = make(array)
    faiss.write_index(index, str(tmp_path / "made.index"))
    source = open_embeddings(tmp_path / "made.index")
    assert np.array_equal(read(source, 64), array)
    ids = 7 * np.arange(300)[::-1]
    has_ids = "ids" in make.__name__
    assert source.other_columns == (["id"] if has_ids else [])
    job = Job(source, 8, np.dtype(np.float32), {})
    for name in ("t.index", "t.parquet"):
        pairs = ((block, block.vectors) for block in source.blocks(64))
        write_embeddings(tmp_path / name, tmp_path / name, pairs, job)
        assert lost_columns(tmp_path / name, source) == []
    assert not (tmp_path / "t.index.rows.parquet").exists(), "the index holds its ids itself"
    again = faiss.read_index(str(tmp_path / "t.index"))
    assert again.metric_type == index.metric_type
    assert np.array_equal(read(open_embeddings(tmp_path / "t.index")), array)
    if has_ids:
        assert np.array_equal(faiss.vector_to_array(again.id_map), ids)
        assert pq.read_table(tmp_path / "t.parquet").column("id").to_pylist() == ids.tolist()


@pytest.mark.parametrize("make", [made_with_ids, made_as_graph, made_as_graph_with_ids])
def test_damaged_faiss_indexes_with_ids_or_a_graph(tmp_path, rng, make):
    path = tmp_path / "made.index"
    faiss.write_index(make(rng.normal(size=(30, 8)).astype(np.float32)), str(path))
    content = path.read_bytes()
    for cut in range(0, len(content) - 1, 97):
        path.write_bytes(content[:cut])
        with pytest.raises(FileFormatError):
            open_embeddings(path)
    path.write_bytes(content[:37] + b"\xff" * 8 + content[45:])  # a graph, or an index within, of 2**64 items
    with pytest.raises(FileFormatError):
        open_embeddings(path)
    path.write_bytes(content[:37] * 9 + content)  # ids of ids of ids
    with pytest.raises(FileFormatError):
        open_embeddings(path)


@pytest.mark.parametrize("suffix", [*FILES, ".faiss"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"garbage " * 40])
def test_garbage_is_refused_by_name(tmp_path, suffix, content):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"bad\."):
        open_embeddings(path)


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_files_cut_short_are_refused(tmp_path, rng, suffix, keep):
    path = write_file(tmp_path / f"cut{suffix}", rng.normal(size=(100, 6)).astype(np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) - 1])
    with pytest.raises(FileFormatError, match=r"cut\."):
        read(open_embeddings(path))


@pytest.mark.parametrize("suffix", FILES)
def test_damaged_files_give_errors_of_ours_only(tmp_path, rng, suffix):
    whole = write_file(tmp_path / f"whole{suffix}", rng.normal(size=(60, 6)).astype(np.float32)).read_bytes()
    path = tmp_path / f"damaged{suffix}"
    for case in range(150):
        content = bytearray(whole)
        place = rng.integers(0, min(len(content), 400) if case % 2 else len(content))
        if case % 3 == 0:
            content[place : place + 8] = rng.bytes(8)
        elif case % 3 == 1:
            content[place : place + 4] = b"\xff\xff\xff\x7f"
        else:
            del content[place : place + int(rng.integers(1, 40))]
        path.write_bytes(content)
        with contextlib.suppress(FileFormatError, InputError):
            source = open_embeddings(path)
            assert source.rows * source.width < 10_000
            assert sum(len(block.vectors) for block in source.blocks(7)) <= source.rows


def deep_json(folder):
    (folder / "x.npy.isomix.json").write_text("[" * 100_000)
    np.save(folder / "x.npy", np.ones((3, 4), np.float32))
    return folder / "x.npy"


def huge_npy(folder):
    with (folder / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (2**50, 2**9)})
        stream.write(bytes(400))
    return folder / "x.npy"


def huge_fortran(folder):
    with (folder / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": True, "shape": (2**30, 2**9)})
        stream.write(bytes(400))
    return folder / "x.npy"


def huge_npz(folder):
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("a.npy", huge_npy(folder).read_bytes())
    return folder / "x.npz"


def huge_safetensors(folder):
    (folder / "x.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    return folder / "x.safetensors"


def deep_safetensors(folder):
    header = b'{"a":' * 60_000
    (folder / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder / "x.safetensors"


def huge_faiss(folder):
    header = (
        b"IxF2" + (512).to_bytes(4, "little") + (2**33).to_bytes(8, "little") + bytes(17) + (1).to_bytes(4, "little")
    )
    (folder / "x.index").write_bytes(header + (2**42).to_bytes(8, "little") + bytes(64))
    return folder / "x.index"


def huge_hnsw(folder):
    (folder / "x.index").write_bytes(b"IHNf" + b"\xff" * 200)
    return folder / "x.index"


@pytest.mark.parametrize(
    "make", [deep_json, huge_npy, huge_fortran, huge_npz, huge_safetensors, deep_safetensors, huge_faiss, huge_hnsw]
)
def test_a_header_is_not_believed(tmp_path, make):
    """What it announces is compared with the size of the file before anything of that size is made."""
    path = make(tmp_path)
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=r"x\."):
        open_embeddings(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".fvecs", ".index"])
def test_a_file_that_shrinks_while_it_is_read(tmp_path, rng, suffix):
    path = write_file(tmp_path / f"s{suffix}", rng.normal(size=(3000, 60)).astype(np.float32))
    blocks = open_embeddings(path).blocks(100)
    next(blocks)
    os.truncate(path, 200_000)
    with pytest.raises(FileFormatError, match=r"s\."):
        list(blocks)


def test_column_by_column(tmp_path, rng):
    array = np.asfortranarray(rng.normal(size=(40, 6)))
    np.save(tmp_path / "f.npy", array)
    np.testing.assert_array_equal(read(open_embeddings(tmp_path / "f.npy")), array)


def test_arrays_that_are_no_embeddings(tmp_path, rng):
    path = tmp_path / "x.npy"
    for array, message in [
        (np.zeros((3, 4), np.int8), "int8"),
        (np.zeros(3), r"shape \(3,\)"),
        (np.array([{}, {}], object), "pickled objects are never read"),
    ]:
        np.save(path, array, allow_pickle=True)
        with pytest.raises(FileFormatError, match=message):
            open_embeddings(path)
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 2)), b=np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"a \(2, 2\), b \(2, 3\)"):
        open_embeddings(tmp_path / "x.npz")
    assert open_embeddings(tmp_path / "x.npz", column="b").width == 3
    with pytest.raises(InputError, match="'c'"):
        open_embeddings(tmp_path / "x.npz", column="c")


def test_folders_of_npy_must_agree(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 4)))
    with pytest.raises(FileFormatError, match="must agree"):
        open_embeddings(tmp_path)


def test_unknown_layouts_list_the_known_ones(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3")
    for path in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(InputError, match="clip-retrieval folder"):
            open_embeddings(path)
    with pytest.raises(InputError, match="does not exist"):
        open_embeddings(tmp_path / "nothing.npy")


# ---------------------------------------------------------------------- columns that are damaged


def invalid_text(rows: int) -> pa.Array:
    """An array of text whose bytes are no UTF-8; Arrow makes it without a look at them."""
    offsets = np.arange(rows + 1, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(b"\xff" * rows))


@pytest.mark.parametrize("code", [0x110000, 0xD800])
def test_numbers_that_are_no_characters_are_no_names(tmp_path, rng, code):
    names = np.array(["a.png", "b.png", "c.png"])
    names.view(np.uint32)[6] = code
    np.savez(tmp_path / "a.npz", embeddings=rng.standard_normal((3, 4)).astype(np.float32), path=names)
    with pytest.raises(FileFormatError, match="text in path that is no Unicode"):
        find_duplicates(tmp_path / "a.npz")


def test_bytes_that_are_no_text_are_no_names(tmp_path, rng):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(3 * 192).astype(np.float16)), 192)
    pq.write_table(pa.table({"path": invalid_text(3), "embedding": vectors}), tmp_path / "a.parquet")
    with pytest.raises(FileFormatError, match="not a file with text in path"):
        find_duplicates(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="the column path cannot become path"):
        convert(tmp_path / "a.parquet", tmp_path / "a.lance", model="embedded")


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [2], "data_offsets": [0, 8]},
        {"dtype": 3, "shape": [2], "data_offsets": [0, 8]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, float("nan")]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, True]},
        [],
        None,
    ],
)
def test_a_header_that_describes_no_tensor(tmp_path, entry):
    whole = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    header = json.dumps({"embeddings": whole, "other": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))
    with pytest.raises(FileFormatError, match="damaged safetensors header"):
        open_embeddings(tmp_path / "a.safetensors")

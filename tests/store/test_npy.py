"""Headers of numpy's files are held against the bytes that are there."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from isomix.errors import FileFormatError
from isomix.store.formats import open_embeddings
from isomix.store.formats.npy import load_npy, load_npz


def npy(shape: object, *, descr: str = "<f4", fortran: bool = False, values: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values


LONG_HEADER = b"\x93NUMPY\x02\x00" + (4_000_000_000).to_bytes(4, "little") + b"{'descr': '<f4'}" * 4


@pytest.mark.parametrize("fortran", [False, True])
def test_no_rows_are_one_empty_block(tmp_path: Path, fortran: bool) -> None:
    (tmp_path / "a.npy").write_bytes(npy((0, 4), fortran=fortran))
    (block,) = open_embeddings(tmp_path / "a.npy").blocks(8)
    assert block.vectors.shape == (0, 4)


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", [(-1, 4), (-4, -4), (4, -1)])
def test_negative_shapes(tmp_path: Path, shape: tuple[int, int], fortran: bool) -> None:
    (tmp_path / "a.npy").write_bytes(npy(shape, fortran=fortran))
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy(shape, fortran=fortran))
    for path in (tmp_path / "a.npy", tmp_path / "a.npz"):
        with pytest.raises(FileFormatError, match="announces the shape"):
            open_embeddings(path)


def test_a_header_of_gigabytes_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(LONG_HEADER)
    for read in (open_embeddings, load_npy):
        with pytest.raises(FileFormatError, match="announced to be 4,000,000,000 bytes long, expected at most 10,000"):
            read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((1 << 40,)), "4,398,046,511,104 bytes of values are announced, and 64 are there"),
        (npy((5, 4)), "80 bytes of values are announced, and 64 are there"),
        (npy((4, -4)), "announces the shape"),
        (npy((2,), descr="|O"), "pickled objects"),
        (b"\x93NUMPY\x09\x00", "Invalid version|not a"),
        (b"no array", "magic"),
        (b"", "magic"),
    ],
)
def test_arrays_that_cannot_be_loaded(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        load_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(FileFormatError, match=message):
        load_npz(tmp_path / "a.npz")


def test_what_numpy_saves_is_loaded(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {
        "wide": rng.standard_normal((3, 5)).astype(np.float16),
        "columns": np.asfortranarray(rng.standard_normal((4, 6))),
        "names": np.array(["a", "bcd"]),
        "none": np.zeros((0, 3)),
        "one": np.array(7),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = load_npz(tmp_path / "a.npz", tuple(arrays))
    for name, array in arrays.items():
        np.save(tmp_path / "a.npy", array)
        for read in (found[name], load_npy(tmp_path / "a.npy")):
            np.testing.assert_array_equal(read, array)
            assert read.dtype == array.dtype and read.flags.writeable


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(FileFormatError, match="lacks text; it holds x"):
        load_npz(tmp_path / "a.npz", ("x", "text"))


def test_an_archive_that_holds_less_than_it_says(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.savez(content, x=np.ones((9, 4)))
    (tmp_path / "a.npz").write_bytes(content.getvalue()[:100])
    with pytest.raises(FileFormatError, match=r"not a \.npz file"):
        load_npz(tmp_path / "a.npz")

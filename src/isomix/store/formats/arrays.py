"""Layouts that are one array in one file: .npy, .npz, .safetensors and .fvecs."""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from isomix._arrays import blocks
from isomix._safetensors import PartialSafetensors, open_local
from isomix.errors import FileFormatError, InputError, ModelError
from isomix.store.formats.base import Block, Job, Pairs, Source, check_floats, read_record, reading
from isomix.store.formats.lists import Lists
from isomix.store.formats.npy import npy_header

__all__ = [
    "ArraySource",
    "NpzSource",
    "SafetensorsSource",
    "open_fvecs",
    "open_npy",
    "open_safetensors",
    "write_fvecs",
    "write_npy",
    "write_npz",
    "write_safetensors",
]

RECORD_KEY = "isomix_record"
COPIED_BYTES = 1 << 24
_SAFETENSORS_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
_NUMBERS = {
    **_SAFETENSORS_DTYPES,
    **{f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
}


class ArraySource(Source):
    """Rows that follow one another in a file, each with a few bytes in front perhaps; never whole in memory.

    Parameters
    ----------
    path : pathlib.Path
    layout : str
    dtype : numpy.dtype
    shape : sequence of int
    offset : int
        Where the first row begins.
    before : bytes
        What stands in front of every row.
    column : str
        What the array is called, where the layout names it.
    record : dict, optional
        Default: what is recorded beside the file.

    Raises
    ------
    FileFormatError
        No embeddings, or fewer bytes than the rows take.
    """

    def __init__(
        self,
        path: Path,
        layout: str,
        dtype: np.dtype[Any],
        shape: Sequence[int],
        offset: int,
        *,
        before: bytes = b"",
        column: str = "embedding",
        record: dict[str, Any] | None = None,
    ) -> None:
        self.path, self.layout, self.dtype, self.column = path, layout, dtype, column
        self.rows, self.width = check_floats(path, shape, dtype)
        self._offset, self._before = offset, before
        self._row_bytes = len(before) + self.width * dtype.itemsize
        size = path.stat().st_size
        if offset + self.rows * self._row_bytes > size:
            raise FileFormatError(
                f"{path} has {size} bytes, and {self.rows} rows of width {self.width} take "
                f"{offset + self.rows * self._row_bytes}: it was cut short. Copy it again."
            )
        self.record = read_record(path, self.width) if record is None else record

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Rows in order; read, not mapped, so that the file does not count as memory of the process.

        Raises
        ------
        FileFormatError
            The file has become shorter since it was opened.
        """
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            for part in blocks(self.rows, rows) if self.rows else [slice(0, 0)]:
                yield Block("0", part.start, self._read(stream, part))

    def _read(self, stream: BinaryIO, part: slice) -> NDArray[Any]:
        count = part.stop - part.start
        values = np.fromfile(stream, np.uint8, count * self._row_bytes)
        if len(values) < count * self._row_bytes:
            raise FileFormatError(
                f"{self.path} ends before row {part.stop}: it was cut while it was read. Copy it again."
            )
        if self._before:
            table = values.reshape(count, self._row_bytes)
            front, values = np.split(table, [len(self._before)], axis=1)
            wrong = (front != np.frombuffer(self._before, np.uint8)).any(axis=1)
            if wrong.any():
                raise FileFormatError(
                    f"{self.path} is not a .fvecs file of one width: row {part.start + int(wrong.argmax())} does not have "
                    f"width {self.width}. Write it again."
                )
        return np.ascontiguousarray(values).view(self.dtype).reshape(count, self.width)


class FortranSource(ArraySource):
    """A .npy file that is stored column by column, mapped into memory."""

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Rows in order, gathered from all over the file."""
        if not self.rows:  # nothing cannot be mapped
            yield from super()._blocks(rows)
            return
        array = np.memmap(self.path, self.dtype, "r", self._offset, (self.rows, self.width), "F")
        for part in blocks(self.rows, rows):
            yield Block("0", part.start, np.ascontiguousarray(array[part]))


def open_npy(path: Path, column: str | None = None) -> ArraySource:
    """Open a .npy file."""
    with reading(path, "a .npy file with numbers"), path.open("rb") as stream:
        shape, fortran, dtype = npy_header(stream)
        return (FortranSource if fortran else ArraySource)(path, "npy", dtype, shape, stream.tell())


def open_fvecs(path: Path, column: str | None = None) -> ArraySource:
    """Open a .fvecs file: each row is its width as int32, then that many float32."""
    with path.open("rb") as stream:
        width = int.from_bytes(stream.read(4), "little", signed=True)
    size, row_bytes = path.stat().st_size, 4 + 4 * width
    if width < 1 or size % row_bytes:
        raise FileFormatError(f"{path} is not a .fvecs file: its size does not fit rows of width {width}.")
    shape, width_bytes = (size // row_bytes, width), width.to_bytes(4, "little")
    return ArraySource(path, "fvecs", np.dtype("<f4"), shape, 0, before=width_bytes)


def open_safetensors(path: Path, column: str | None = None) -> ArraySource:
    """Open the one two-dimensional float tensor of a .safetensors file, or the one called ``column``."""
    try:
        stored = open_local(path)
    except ModelError as error:
        raise FileFormatError(str(error)) from error
    with reading(path, "a .safetensors file"):
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in stored.entries.items()}
        name = _one_matrix(path, shapes, column)
        entry, shape = stored.entries[name], shapes[name]
        dtype = np.dtype(_SAFETENSORS_DTYPES.get(entry["dtype"], "V1"))
        if dtype.kind != "f":
            raise FileFormatError(
                f"{path} ({name}) holds {entry['dtype']}, expected F16, F32 or F64. Convert it first."
            )
        begin, end = (int(n) for n in entry["data_offsets"])
        if begin < 0 or end - begin != dtype.itemsize * math.prod(shape):
            raise FileFormatError(f"{path}: the size of {name} contradicts its shape {shape}. Copy the file again.")
        record = json.loads(stored.metadata.get(RECORD_KEY, "{}"))
        source = SafetensorsSource(
            path, "safetensors", dtype, shape, stored.data_start + begin, column=name, record=record
        )
    source.stored = stored
    source.other_arrays = [other for other in stored.entries if other != name]
    return source


class SafetensorsSource(ArraySource):
    """One tensor of a .safetensors file, which may hold others beside it."""

    stored: PartialSafetensors

    def bring_lists(self) -> None:
        """Let the blocks bring tensors of numbers with one value a row as columns."""
        lists = {
            name: np.dtype(_NUMBERS[entry["dtype"]])
            for name, entry in self.stored.entries.items()
            if entry["shape"] == [self.rows] and entry["dtype"] in _NUMBERS
        }
        if lists:
            self.bring(Lists(self.path, lists, partial(self._list_streams, list(lists))))

    @contextmanager
    def _list_streams(self, names: list[str]) -> Iterator[list[IO[bytes]]]:
        with ExitStack() as opened:
            streams: list[IO[bytes]] = [opened.enter_context(self.path.open("rb")) for _ in names]
            for name, stream in zip(names, streams, strict=True):
                stream.seek(self.stored.data_start + self.stored.entries[name]["data_offsets"][0])
            yield streams


class NpzSource(Source):
    """One array of a .npz file, read as a stream: it is never whole in memory, compressed or not."""

    layout = "npz"

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        with reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
            headers = {
                name.removesuffix(".npy"): _member_header(archive, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
            self.column = _one_matrix(path, {name: header[0] for name, header in headers.items()}, column)
            shape, fortran, self.dtype, begin = headers[self.column]
            self.rows, self.width = check_floats(path, shape, self.dtype, self.column)
            size = archive.getinfo(f"{self.column}.npy").file_size
            if size != begin + self.rows * self.width * self.dtype.itemsize:
                raise FileFormatError(
                    f"{path}: the size of {self.column} contradicts its shape {shape}. Copy the file again."
                )
        if fortran:
            raise FileFormatError(
                f"{path} ({self.column}) is stored column by column. Save it with np.ascontiguousarray."
            )
        self.other_arrays = [name for name in headers if name != self.column]
        self.lists = {
            name: dtype
            for name, (shape, _, dtype, _) in headers.items()
            if shape == (self.rows,) and dtype.kind in "biufUS" and dtype.itemsize
        }
        """Arrays with one value a row."""
        self.record = read_record(path, self.width)

    def bring_lists(self) -> None:
        """Let the blocks bring what has one value a row as columns."""
        if self.lists:
            self.bring(Lists(self.path, self.lists, self._list_streams))

    @contextmanager
    def _list_streams(self) -> Iterator[list[IO[bytes]]]:
        with ExitStack() as opened:
            archive = opened.enter_context(zipfile.ZipFile(self.path))
            streams = [opened.enter_context(archive.open(f"{name}.npy")) for name in self.lists]
            for stream in streams:
                npy_header(stream)
            yield streams

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Rows as they come out of the archive."""
        with (
            reading(self.path, "a .npz file"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.column}.npy") as stream,
        ):
            npy_header(stream)
            for part in blocks(self.rows, rows):
                count = part.stop - part.start
                content = stream.read(count * self.width * self.dtype.itemsize)
                if len(content) < count * self.width * self.dtype.itemsize:
                    raise FileFormatError(f"{self.path} ends before row {part.stop}. Copy it again.")
                yield Block("0", part.start, np.frombuffer(content, self.dtype).reshape(count, self.width))


def _member_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    with archive.open(name) as stream:
        return (*npy_header(stream), stream.tell())


def _one_matrix(path: Path, shapes: dict[str, tuple[int, ...]], column: str | None) -> str:
    """The name asked for, or the only two-dimensional one."""
    names = [name for name, shape in shapes.items() if len(shape) == 2]
    listed = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:10]) or "nothing"
    if column is not None:
        if column not in shapes:
            raise InputError(f"{path} has no array {column!r}; it holds {listed}.")
        return column
    if len(names) != 1:
        raise InputError(f"{path} holds {listed}: not one matrix, but {len(names)}. Name the one to use (--column).")
    return names[0]


def _npy_bytes(rows: int, job: Job) -> bytes:
    """Header of a .npy file; numpy pads it so that its length does not depend on the number of rows."""
    stream = io.BytesIO()
    header = {"descr": job.dtype.str, "fortran_order": False, "shape": (rows, job.width)}
    npy_format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _write_rows(stream: IO[bytes], pairs: Pairs) -> int:
    rows = 0
    for _, vectors in pairs:
        stream.write(np.ascontiguousarray(vectors).data)
        rows += len(vectors)
    return rows


def write_npy(path: Path, pairs: Pairs, job: Job) -> None:
    """Write .npy; how many rows there are turns out at the end."""
    with path.open("wb") as stream:
        stream.write(_npy_bytes(0, job))
        rows = _write_rows(stream, pairs)
        stream.seek(0)
        stream.write(_npy_bytes(rows, job))


def write_safetensors(path: Path, pairs: Pairs, job: Job) -> None:
    """Write .safetensors: the vectors under their name in the source, or ``embeddings``; other tensors are copied."""
    source = job.source
    stored, others = (source.stored, source.other_arrays) if isinstance(source, SafetensorsSource) else (None, ())
    shape = (source.rows, job.width)
    end = shape[0] * shape[1] * job.dtype.itemsize
    kind = {2: "F16", 4: "F32"}[job.dtype.itemsize]
    name = "embeddings" if stored is None else source.column
    tensors: dict[str, Any] = {name: {"dtype": kind, "shape": shape, "data_offsets": (0, end)}}
    metadata = {RECORD_KEY: json.dumps(job.record, sort_keys=True, ensure_ascii=False)}
    copied: list[tuple[int, int]] = []
    if stored is not None:
        metadata = {**stored.metadata, **metadata}
        copied = [tuple(stored.entries[other]["data_offsets"]) for other in others]
        for other, (first, last) in zip(others, copied, strict=True):
            tensors[other] = {**stored.entries[other], "data_offsets": (end, end + last - first)}
            end += last - first
    header = json.dumps({"__metadata__": metadata, **tensors}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        _write_rows(stream, pairs)
        if stored is not None:
            for first, last in copied:
                for part in blocks(last - first, COPIED_BYTES):
                    begin = stored.data_start + first + part.start
                    stream.write(stored.read(begin, begin + part.stop - part.start))


def write_npz(path: Path, pairs: Pairs, job: Job) -> None:
    """Write .npz, uncompressed: the vectors under their name in the source, or ``embeddings``; other arrays are copied."""
    source = job.source if isinstance(job.source, NpzSource) else None
    name = source.column if source else "embeddings"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(_member(name), "w", force_zip64=True) as stream:
            stream.write(_npy_bytes(job.source.rows, job))
            _write_rows(stream, pairs)
        if source is not None:
            with zipfile.ZipFile(source.path) as original:
                for other in source.other_arrays:
                    with (
                        original.open(f"{other}.npy") as read,
                        archive.open(_member(other), "w", force_zip64=True) as stream,
                    ):
                        shutil.copyfileobj(read, stream, COPIED_BYTES)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))


def write_fvecs(path: Path, pairs: Pairs, job: Job) -> None:
    """Write .fvecs, which is float32 by definition."""
    with path.open("wb") as stream:
        for _, vectors in pairs:
            rows = np.empty((len(vectors), job.width + 1), "<i4")
            rows[:, 0] = job.width
            rows[:, 1:] = np.ascontiguousarray(vectors, "<f4").view("<i4")
            stream.write(rows.data)

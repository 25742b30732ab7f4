"""Layouts that are one array in one file: .npy, .npz, .safetensors and .fvecs."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from isomix._arrays import blocks
from isomix._safetensors import open_local
from isomix.errors import FileFormatError, InputError, ModelError
from isomix.store.formats.base import Block, Job, Pairs, Source, check_floats, read_record

__all__ = [
    "NpySource",
    "NpzSource",
    "open_fvecs",
    "open_npy",
    "open_safetensors",
    "write_fvecs",
    "write_npy",
    "write_npz",
    "write_safetensors",
]

RECORD_KEY = "isomix_record"
_SAFETENSORS_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


class NpySource(Source):
    """An array that can be mapped into memory."""

    def __init__(self, path: Path, layout: str, array: NDArray[Any], record: dict[str, Any] | None = None) -> None:
        self.layout, self.path, self._array, self.dtype = layout, path, array, array.dtype
        self.rows, self.width = check_floats(path, array.shape, array.dtype)
        self.record = read_record(path, self.width) if record is None else record

    def blocks(self, rows: int) -> Iterator[Block]:
        """Rows in order; read, not mapped, so that the file does not count as memory of the process."""
        array = self._array
        parts = blocks(self.rows, rows) if self.rows else [slice(0, 0)]
        if not (isinstance(array, np.memmap) and array.flags.c_contiguous and self.rows):
            yield from (Block("0", part.start, array[part]) for part in parts)
            return
        with self.path.open("rb") as stream:
            stream.seek(array.offset)
            for part in parts:
                values = np.fromfile(stream, self.dtype, (part.stop - part.start) * self.width)
                yield Block("0", part.start, values.reshape(-1, self.width))


def open_npy(path: Path, column: str | None = None) -> NpySource:
    """Map a .npy file."""
    try:
        return NpySource(path, "npy", np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path} is not a .npy file with numbers ({error}). Was it cut short?") from error


def open_fvecs(path: Path, column: str | None = None) -> NpySource:
    """Map a .fvecs file: each row is its width as int32, then that many float32."""
    size = path.stat().st_size
    raw = np.memmap(path, "<i4", mode="r") if size and size % 4 == 0 else np.empty(0, np.int32)
    width = int(raw[0]) if raw.size else 0
    if width < 1 or raw.size % (width + 1):
        raise FileFormatError(f"{path} is not a .fvecs file: its size does not fit rows of width {width}.")
    table = raw.reshape(-1, width + 1)
    if (table[:, 0] != width).any():
        raise FileFormatError(f"{path} is not a .fvecs file of one width: not every row has width {width}.")
    return NpySource(path, "fvecs", table[:, 1:].view("<f4"))


def open_safetensors(path: Path, column: str | None = None) -> NpySource:
    """Map the one two-dimensional float tensor of a .safetensors file, or the one called ``column``."""
    try:
        stored = open_local(path)
    except ModelError as error:
        raise FileFormatError(str(error)) from error
    shapes = {name: tuple(entry["shape"]) for name, entry in stored.entries.items()}
    name = _one_matrix(path, shapes, column)
    entry, shape = stored.entries[name], shapes[name]
    dtype = np.dtype(_SAFETENSORS_DTYPES.get(entry["dtype"], "V1"))
    if dtype.kind != "f":
        raise FileFormatError(f"{path} ({name}) holds {entry['dtype']}, expected F16, F32 or F64. Convert it first.")
    begin, end = entry["data_offsets"]
    if end - begin != dtype.itemsize * math.prod(shape):
        raise FileFormatError(f"{path}: the size of {name} contradicts its shape {shape}. Copy the file again.")
    with path.open("rb") as stream:
        begin += 8 + int.from_bytes(stream.read(8), "little")
    array: NDArray[Any] = np.memmap(path, dtype, "r", begin, shape) if math.prod(shape) else np.empty(shape, dtype)
    record = json.loads(stored.metadata.get(RECORD_KEY, "{}"))
    source = NpySource(path, "safetensors", array, record)
    source.column = name
    return source


class NpzSource(Source):
    """One array of a .npz file, read as a stream: it is never whole in memory, compressed or not."""

    layout = "npz"

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                headers = {
                    name.removesuffix(".npy"): _npy_header(archive, name)
                    for name in archive.namelist()
                    if name.endswith(".npy")
                }
        except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
            raise FileFormatError(f"{path} is not a .npz file ({error}). Was it cut short?") from error
        self.column = _one_matrix(path, {name: header[0] for name, header in headers.items()}, column)
        shape, fortran, self.dtype = headers[self.column]
        self.rows, self.width = check_floats(path, shape, self.dtype, self.column)
        if fortran:
            raise FileFormatError(
                f"{path} ({self.column}) is stored column by column. Save it with np.ascontiguousarray."
            )
        self.record = read_record(path, self.width)

    def blocks(self, rows: int) -> Iterator[Block]:
        """Rows as they come out of the archive."""
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.column}.npy") as stream:
            _skip_header(stream)
            for part in blocks(self.rows, rows):
                count = part.stop - part.start
                content = stream.read(count * self.width * self.dtype.itemsize)
                if len(content) < count * self.width * self.dtype.itemsize:
                    raise FileFormatError(f"{self.path} ends before row {part.stop}. Copy it again.")
                yield Block("0", part.start, np.frombuffer(content, self.dtype).reshape(count, self.width))


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    with archive.open(name) as stream:
        return _skip_header(stream)


def _skip_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    return read(stream)


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
    """Write .safetensors with the one tensor ``embeddings``."""
    shape = (job.source.rows, job.width)
    code = {2: "F16", 4: "F32"}[job.dtype.itemsize]
    tensor = {"dtype": code, "shape": shape, "data_offsets": (0, shape[0] * shape[1] * job.dtype.itemsize)}
    text = json.dumps(job.record, sort_keys=True, ensure_ascii=False)
    header = json.dumps({"__metadata__": {RECORD_KEY: text}, "embeddings": tensor}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        _write_rows(stream, pairs)


def write_npz(path: Path, pairs: Pairs, job: Job) -> None:
    """Write .npz, uncompressed, under the name that the array has in the source."""
    name = job.source.column if job.source.layout == "npz" else "embeddings"
    with (
        zipfile.ZipFile(path, "w") as archive,
        archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as stream,
    ):
        stream.write(_npy_bytes(job.source.rows, job))
        _write_rows(stream, pairs)


def write_fvecs(path: Path, pairs: Pairs, job: Job) -> None:
    """Write .fvecs, which is float32 by definition."""
    with path.open("wb") as stream:
        for _, vectors in pairs:
            rows = np.empty((len(vectors), job.width + 1), "<i4")
            rows[:, 0] = job.width
            rows[:, 1:] = np.ascontiguousarray(vectors, "<f4").view("<i4")
            stream.write(rows.data)

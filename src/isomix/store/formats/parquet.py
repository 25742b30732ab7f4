"""Parquet: a file, or a folder of files, with one column of vectors; every other column is carried over unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from isomix._extras import require
from isomix.errors import FileFormatError, InputError
from isomix.store.formats.base import Block, Job, Pairs, Source, check_floats, natural_key, reading
from isomix.store.schema import vector_array, vector_matrix, vector_type

__all__ = ["ParquetSource", "nullable_vectors", "vector_column", "write_parquet", "write_parquet_folder"]


def _arrow(module: str = "pyarrow") -> Any:
    return require(module, "app", "Parquet")


class ParquetSource(Source):
    """One parquet file, or a folder of them in natural order."""

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        self.layout = "parquet folder" if path.is_dir() else "parquet"
        self._files = sorted(path.glob("*.parquet"), key=natural_key) if path.is_dir() else [path]
        with reading(path, "parquet"), ExitStack() as opened:
            footers = [opened.enter_context(self._open(file)) for file in self._files]
            self._read_footers(footers, column)

    def _open(self, file: Path) -> Any:
        return _arrow("pyarrow.parquet").ParquetFile(file, pre_buffer=False)

    def _read_footers(self, footers: list[Any], column: str | None) -> None:
        self.schema = footers[0].schema_arrow
        for file, footer in zip(self._files, footers, strict=True):
            if not footer.schema_arrow.equals(self.schema):
                raise FileFormatError(f"{file} has other columns than {self._files[0]}. Adapt the files one by one.")
        self.column = vector_column(self.path, self.schema, column)
        self.other_fields = [field for field in self.schema if field.name != self.column]
        self.rows = sum(footer.metadata.num_rows for footer in footers)
        kind = self.schema.field(self.column).type
        self.dtype = np.dtype(kind.value_type.to_pandas_dtype())
        fixed = _arrow().types.is_fixed_size_list(kind)
        self.width = kind.list_size if fixed else self._first_width(footers)
        check_floats(self.path, (self.rows, self.width), self.dtype, self.column)
        text = (self.schema.metadata or {}).get(b"isomix")
        self.record = dict(json.loads(text)) if text else {}

    def _first_width(self, footers: list[Any]) -> int:
        for opened in footers:
            for batch in opened.iter_batches(1024, columns=[self.column]):
                present = batch.column(0).drop_null()
                if len(present):
                    return len(present[0])
        raise FileFormatError(f"{self.path} has no vectors in its column {self.column!r}. Name another (--column).")

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Record batches, split into the vectors and the rest; a missing list becomes a NaN row."""
        start = 0
        for file in self._files:
            with reading(file, "parquet"), self._open(file) as opened:
                for batch in opened.iter_batches(rows):
                    vectors = vector_matrix(batch.column(self.column), self.width)
                    part = file.stem if self.path.is_dir() else "0"
                    yield Block(part, start, vectors, batch.drop_columns([self.column]))
                    start += len(batch)


def vector_column(path: Path, schema: Any, column: str | None) -> str:
    """The column that was named, or the only one of float lists.

    Raises
    ------
    InputError
    """
    pa = _arrow()
    lists = [
        field.name
        for field in schema
        if (
            pa.types.is_list(field.type)
            or pa.types.is_large_list(field.type)
            or pa.types.is_fixed_size_list(field.type)
        )
        and pa.types.is_floating(field.type.value_type)
    ]
    listed = ", ".join(lists) or "none"
    if column is not None:
        if column not in lists:
            raise InputError(f"{path} has no column {column!r} of float lists; columns of float lists: {listed}.")
        return column
    if len(lists) != 1:
        raise InputError(
            f"{path}: which column holds the vectors? Columns of float lists: {listed}. Name one (--column)."
        )
    return lists[0]


def nullable_vectors(vectors: np.ndarray[Any, Any]) -> Any:
    """An Arrow array of fixed-size lists in which NaN rows are null."""
    pa = _arrow()
    missing = np.isnan(vectors[:, 0])
    if not missing.any():
        return vector_array(vectors)
    values = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=pa.array(missing))


def _target_schema(job: Job) -> Any:
    pa = _arrow()
    source = job.source
    vectors = pa.field(source.column, vector_type(job.width, job.dtype.name))
    if isinstance(source, ParquetSource):
        schema = source.schema.set(source.schema.get_field_index(source.column), vectors)
        metadata = dict(schema.metadata or {})
    else:
        schema = pa.schema([*source.other_fields, vectors])
        metadata = {}
    metadata[b"isomix"] = json.dumps(job.record, sort_keys=True, ensure_ascii=False).encode()
    return schema.with_metadata(metadata)


def _batch(schema: Any, block: Block, column: str, vectors: np.ndarray[Any, Any]) -> Any:
    arrays = [nullable_vectors(vectors) if name == column else block.columns.column(name) for name in schema.names]
    return _arrow().record_batch(arrays, schema=schema)


def write_parquet(path: Path, pairs: Pairs, job: Job) -> None:
    """Write one parquet file; columns keep their places."""
    schema = _target_schema(job)
    with _arrow("pyarrow.parquet").ParquetWriter(path, schema) as writer:
        for block, vectors in pairs:
            writer.write_batch(_batch(schema, block, job.source.column, vectors))


def write_parquet_folder(path: Path, pairs: Pairs, job: Job) -> None:
    """Write a folder of parquet files with the names of the source's."""
    schema = _target_schema(job)
    path.mkdir()
    for part, group in groupby(pairs, key=lambda pair: pair[0].part):
        with _arrow("pyarrow.parquet").ParquetWriter(path / f"{part}.parquet", schema) as writer:
            for block, vectors in group:
                writer.write_batch(_batch(schema, block, job.source.column, vectors))

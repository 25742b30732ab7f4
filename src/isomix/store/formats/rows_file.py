"""Columns of vectors whose layout holds none: ``vectors.npy`` has its ids, paths and labels in ``vectors.npy.rows.parquet``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isomix._extras import require
from isomix._files import writing
from isomix.errors import FileFormatError, IsomixWarning
from isomix.store.formats.base import Block, Pairs, content_mark, reading

__all__ = ["RowsFile", "find_rows_file", "rows_file_path", "with_rows_file"]

KEY = b"isomix"


def rows_file_path(path: Path) -> Path:
    """Where the columns of the vectors at ``path`` stand.

    Examples
    --------
    >>> rows_file_path(Path("vectors.npy")).name
    'vectors.npy.rows.parquet'
    """
    return path.with_name(f"{path.name}.rows.parquet")


class RowsFile:
    """Columns beside vectors, a row each, in the order of the vectors.

    Attributes
    ----------
    path : pathlib.Path
    fields : list of pyarrow.Field
    """

    def __init__(self, path: Path, fields: list[Any]) -> None:
        self.path, self.fields = path, fields

    def attach(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """The same blocks with the columns of their rows."""
        pa = require("pyarrow", "app", "Parquet")
        with reading(self.path, "parquet"), _parquet().ParquetFile(self.path, pre_buffer=False) as opened:
            schema = pa.schema(self.fields)
            batches = opened.iter_batches(8192)
            waiting = pa.table({field.name: pa.array([], field.type) for field in self.fields}, schema)
            for block in blocks:
                while len(waiting) < len(block.vectors):
                    more = pa.Table.from_batches([next(batches)]).replace_schema_metadata()
                    waiting = pa.concat_tables([waiting, more])
                taken = waiting.slice(0, len(block.vectors)).combine_chunks()
                waiting = waiting.slice(len(block.vectors))
                arrays = [_one_chunk(taken.column(field.name), field.type) for field in self.fields]
                yield block._replace(columns=pa.record_batch(arrays, schema=schema))


def find_rows_file(path: Path, rows: int) -> RowsFile | None:
    """The columns beside the vectors at ``path``, if there are any and they belong to this very file.

    Raises
    ------
    FileFormatError
        They are damaged, or not as many.
    """
    beside = rows_file_path(path)
    if not path.is_file() or not beside.is_file():
        return None
    with reading(beside, "parquet"), _parquet().ParquetFile(beside, pre_buffer=False) as opened:
        described = json.loads((opened.metadata.metadata or {}).get(KEY, b"{}"))
        fields, held = list(opened.schema_arrow.remove_metadata()), opened.metadata.num_rows
    if not isinstance(described, dict) or described.get("file") != content_mark(path):
        warnings.warn(
            f"{beside.name} holds the columns of other vectors than those in {path.name} and is left aside.",
            IsomixWarning,
            stacklevel=2,
        )
        return None
    if held != rows:
        raise FileFormatError(f"{beside} has {held} rows, and {path.name} has {rows}. Remove it, or restore it.")
    return RowsFile(beside, fields)


@contextmanager
def with_rows_file(final: Path, temporary: Path, pairs: Pairs, fields: list[Any]) -> Iterator[Pairs]:
    """Pairs that leave their columns beside ``final`` as they pass; the file gets its name when the block ends well.

    Parameters
    ----------
    final : pathlib.Path
        Target of the vectors.
    temporary : pathlib.Path
        Where the vectors are written before they get that name.
    pairs : iterator of (Block, ndarray)
    fields : list of pyarrow.Field
        Of the blocks' columns.
    """
    schema = require("pyarrow", "app", "Parquet").schema(fields)
    with writing(rows_file_path(final)) as beside, _parquet().ParquetWriter(beside, schema) as writer:

        def passing() -> Pairs:
            for block, vectors in pairs:
                writer.write_batch(block.columns)
                yield block, vectors

        yield passing()
        writer.add_key_value_metadata({KEY: json.dumps({"file": content_mark(temporary)}).encode()})


def _one_chunk(column: Any, kind: Any) -> Any:
    pa = require("pyarrow", "app", "Parquet")
    return column.chunk(0) if column.num_chunks else pa.array([], kind)


def _parquet() -> Any:
    return require("pyarrow.parquet", "app", "Parquet")

"""Lance tables of others, LanceDB's among them: one column of vectors; every other column is brought along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isomix.errors import InputError
from isomix.store.formats.base import Block, Source
from isomix.store.formats.parquet import vector_column
from isomix.store.lance_file import LanceFile
from isomix.store.schema import KEY, vector_matrix

__all__ = ["LanceTableSource", "is_of_others"]


def is_of_others(path: Path) -> bool:
    """Whether a Lance table is there that isomix did not make."""
    file = LanceFile(path)
    return file.committed() and KEY not in (file.schema.metadata or {})


class LanceTableSource(Source):
    """A Lance table with a column of fixed-size lists of floats; only read."""

    layout = "lance"

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path, self._file = path, LanceFile(path)
        schema = self._file.schema
        self.column = vector_column(path, schema, column)
        kind = schema.field(self.column).type
        if not hasattr(kind, "list_size"):
            raise InputError(
                f"{path}: the lists of {self.column!r} may have any length, expected vectors of one (a fixed-size list). "
                "Cast the column first."
            )
        self.width, self.dtype = int(kind.list_size), np.dtype(kind.value_type.to_pandas_dtype())
        self.other_fields = [field for field in schema if field.name != self.column]
        self.rows, self.record = self._file.count(), {}

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Rows in the order of the table; a missing vector becomes a NaN row."""
        start = 0
        for batch in self._file.scan([*self.other_columns, self.column], rows):
            vectors = vector_matrix(batch.column(self.column), self.width)
            yield Block("0", start, vectors, batch.drop_columns([self.column]))
            start += len(batch)

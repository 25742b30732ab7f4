"""isomix's own tables among the layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isomix.errors import InputError
from isomix.store.formats.base import Block, Job, Pairs, Source
from isomix.store.lance_file import LanceFile
from isomix.store.scan import PATH_COLUMNS, row_id
from isomix.store.schema import ANNOTATIONS, arrow, table_schema, vector_array, vector_matrix
from isomix.store.table import EmbeddingTable

__all__ = ["TableSource", "table_columns", "write_table"]

PLAIN_COLUMNS = ("size", "mtime_ns", "content_hash", "width", "height", *ANNOTATIONS)


class TableSource(Source):
    """An embedding table: its rows without the other vectors."""

    layout = "isomix table"
    modality = "image"

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        self.table = EmbeddingTable.open(path)
        self.column = column or "embedding"
        self.rows, self.width = self.table.count, self.table.vector_dim(self.column)
        schema = self.table.schema
        self.dtype = np.dtype(schema.field(self.column).type.value_type.to_pandas_dtype())
        self.other_fields = [field for field in schema if not hasattr(field.type, "list_size")]
        self.other_arrays = [f.name for f in schema if hasattr(f.type, "list_size") and f.name != self.column]
        space = self.table.derived.get(self.column, self.table.metadata.space)
        self.record = {"space": space} if space else {}

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Rows in the order of the table."""
        start = 0
        for batch in self.table.iter_batches([*self.other_columns, self.column], rows=rows):
            vectors = vector_matrix(batch.column(self.column), self.width)
            yield Block("0", start, vectors, batch.drop_columns([self.column]))
            start += len(batch)


def table_columns(names: Sequence[str]) -> dict[str, str]:
    """Columns of a table → columns of a source that become them; ids are made from the paths."""
    known = {field: field for field in PLAIN_COLUMNS if field in names}
    path = next((name for name in PATH_COLUMNS if name in names), None)
    return known if path is None else {**known, "path": path}


def write_table(path: Path, final: Path, pairs: Pairs, job: Job) -> None:
    """Write a table at ``path``, which will be renamed to ``final``.

    Raises
    ------
    InputError
        It is not known which model made the vectors, or which files they belong to.
    """
    taken = table_columns(job.source.other_columns)
    if job.table is None:
        raise InputError(
            f"{final}: a table says which model made its vectors, and {job.source.path} does not. Name a target that ends "
            "in .npy or .parquet, or a folder; or make a table of the plain vectors: isomix convert ... --model MODEL"
        )
    if "path" not in taken:
        raise InputError(
            f"{final}: a table needs the files behind the vectors, and {job.source.path} has no column of paths. It has "
            f"{', '.join(job.source.other_columns) or 'no columns'}; expected one of {', '.join(PATH_COLUMNS)}."
        )
    if job.dtype != np.float16:
        raise InputError(
            f"{final}: a table holds float16, and {job.dtype} was asked for. Allow the rounding with --dtype float16, or "
            "use .npy or .parquet."
        )
    metadata = replace(
        job.table,
        embedding_dim=job.width,
        feature_dim=None,
        space=job.record.get("space"),
        derived={},
    )
    schema = table_schema(metadata)
    seen: set[str] = set()

    def batches() -> Iterator[Any]:
        pa = arrow()
        for block, vectors in pairs:
            columns = [
                vector_array(vectors) if field.name == "embedding" else _column(block, field, taken) for field in schema
            ]
            batch = pa.record_batch(columns, schema=schema)
            _check_ids(batch.column("id"), block.start, seen, job.source.path)
            yield batch

    LanceFile(path).create(schema, batches())


def _column(block: Block, field: Any, taken: Mapping[str, str]) -> Any:
    pa = arrow()
    if field.name == "id":
        paths = _column(block, pa.field("path", pa.string(), nullable=False), taken)
        return pa.array([row_id(path) for path in paths.to_pylist()], pa.string())
    if field.name not in taken:
        return pa.nulls(len(block.vectors), field.type)
    try:
        values = block.columns.column(taken[field.name]).cast(field.type)
        values.validate(full=True)  # text that is none
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the column {taken[field.name]} cannot become {field.name} ({field.type}): {error}."
        ) from error
    if values.null_count and not field.nullable:
        missing = values.is_null().to_pylist().index(True) + block.start
        raise InputError(f"row {missing} has no {taken[field.name]}. Every row of a table has one.")
    return values


def _check_ids(ids: Any, start: int, seen: set[str], path: Path) -> None:
    for row, identifier in enumerate(ids.to_pylist(), start):
        if identifier in seen:
            raise InputError(f"{path}: row {row} has the path of an earlier row. A table has one row a file.")
        seen.add(identifier)

"""isomix's own tables among the layouts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isomix.errors import InputError
from isomix.store.formats.base import Block, Job, Pairs, Source
from isomix.store.lance_file import LanceFile
from isomix.store.schema import arrow, table_schema, vector_array, vector_matrix
from isomix.store.table import EmbeddingTable

__all__ = ["TableSource", "write_table"]


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
        self.other_columns = [field.name for field in self.other_fields]
        space = self.table.derived.get(self.column, self.table.metadata.space)
        self.record = {"space": space} if space else {}

    def blocks(self, rows: int) -> Iterator[Block]:
        """Rows in the order of the table."""
        start = 0
        for batch in self.table.iter_batches([*self.other_columns, self.column], rows=rows):
            vectors = vector_matrix(batch.column(self.column), self.width)
            yield Block("0", start, vectors, batch.drop_columns([self.column]))
            start += len(batch)


def write_table(path: Path, final: Path, pairs: Pairs, job: Job) -> None:
    """Write a table of adapted vectors at ``path``, which will be renamed to ``final``.

    Raises
    ------
    InputError
        The source is not a table, so that files, hashes and models of the rows are not known.
    """
    source = job.source
    if not isinstance(source, TableSource):
        raise InputError(
            f"{final}: a table needs the files behind the vectors, and {source.path} is a {source.layout}. "
            "Name a target that ends in .npy or .parquet, or a folder."
        )
    if job.dtype != np.float16:
        raise InputError(f"{final}: a table holds float16, and {job.dtype} was asked for. Use .npy or .parquet for it.")
    root, folder = source.table.root, final.resolve().parent
    metadata = replace(
        source.table.metadata,
        embedding_dim=job.width,
        feature_dim=None,
        space=dict(job.record["space"]),
        derived={},
        root=os.path.relpath(root, folder) if root.is_relative_to(folder) else os.fspath(root),
    )
    schema = table_schema(metadata)

    def batches() -> Iterator[Any]:
        pa = arrow()
        for block, vectors in pairs:
            columns = [
                vector_array(vectors) if name == "embedding" else block.columns.column(name) for name in schema.names
            ]
            yield pa.record_batch(columns, schema=schema)

    LanceFile(path).create(schema, batches())

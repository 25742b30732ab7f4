"""What an embedding table holds: its columns and the metadata that says which model made it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._extras import require
from isomix.errors import FileFormatError, TableError

__all__ = [
    "ANNOTATIONS",
    "TableMetadata",
    "arrow",
    "relative_root",
    "rows_table",
    "table_schema",
    "vector_array",
    "vector_matrix",
    "vector_type",
]

FORMAT_VERSION = 1
KEY = b"isomix"
ANNOTATIONS = ("label", "caption", "split")


@dataclass(frozen=True)
class TableMetadata:
    """Stored in the table's schema, as JSON.

    Attributes
    ----------
    model : str
        What :func:`isomix.load_encoder` understands, e.g. ``"embedded"``.
    fingerprint : str
        Of the encoder: weights and preprocessing.
    projectors : str
        Fingerprint of the encoder's projectors; what a space made from projectors is checked against.
    preprocessing : dict
        How a picture became pixels.
    embedding_dim : int
        Width d of the embeddings.
    feature_dim : int or None
        Width of the pre-projection features, where they are kept.
    root : str
        Folder that relative paths start from; itself relative to the table's folder when it lies below it.
    space : dict or None
        Description of the space that the embeddings were mapped with; None for a model's own embeddings.
    derived : dict of str to dict
        Column of adapted vectors → description of its space.
    isomix_version : str
    format : int
    """

    model: str
    fingerprint: str
    projectors: str
    preprocessing: Mapping[str, Any]
    embedding_dim: int
    feature_dim: int | None = None
    root: str = ""
    space: Mapping[str, Any] | None = None
    derived: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    isomix_version: str = ""
    format: int = FORMAT_VERSION

    def with_derived(self, column: str, description: Mapping[str, Any]) -> TableMetadata:
        """The same, with one more derived column."""
        return replace(self, derived={**self.derived, column: dict(description)})

    def encode(self) -> dict[bytes, bytes]:
        """Schema metadata for Arrow."""
        return {KEY: json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False).encode()}

    @classmethod
    def decode(cls, metadata: Mapping[bytes, bytes] | None, where: str) -> TableMetadata:
        """Read schema metadata.

        Raises
        ------
        TableError
            The table was not made by isomix, or by a newer one.
        """
        text = (metadata or {}).get(KEY)
        if text is None:
            raise TableError(
                f"{where} is a Lance table, but not one of isomix (no metadata). Make one with: isomix embed"
            )
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{where}: its isomix metadata cannot be read ({error}).") from error
        return cls.from_values(values, where)

    @classmethod
    def from_values(cls, values: Any, where: str) -> TableMetadata:
        """Check what was read as JSON.

        Raises
        ------
        TableError
        """
        if not isinstance(values, dict):
            raise TableError(f"{where}: its isomix metadata cannot be read (no JSON object).")
        version = values.get("format")
        if version != FORMAT_VERSION:
            raise TableError(
                f"{where}: table format {version!r}, this isomix reads format {FORMAT_VERSION} "
                f"(written by isomix {values.get('isomix_version', 'unknown')}). Install a matching isomix."
            )
        try:
            found = cls(**values)
        except TypeError as error:
            raise TableError(f"{where}: its isomix metadata cannot be used ({error}).") from error
        texts = (found.model, found.fingerprint, found.projectors, found.root)
        objects = (found.preprocessing, found.derived, found.space or {}, *_values(found.derived))
        if not (all(isinstance(v, str) for v in texts) and all(isinstance(v, Mapping) for v in objects)):
            raise TableError(
                f"{where}: its isomix metadata cannot be used (a value of another type). Make the table again."
            )
        return found


def relative_root(root: Path, table: Path) -> str:
    """The folder that a table's paths start from, as its metadata says it: relative to the table's folder if below it."""
    folder = table.resolve().parent
    return os.path.relpath(root, folder) if root.is_relative_to(folder) else os.fspath(root)


def _values(mapping: Any) -> tuple[Any, ...]:
    return tuple(mapping.values()) if isinstance(mapping, Mapping) else ()


def arrow() -> Any:
    """The package pyarrow, imported when it is needed."""
    return require("pyarrow", "app", "An embedding table")


def vector_type(width: int, dtype: str = "float16") -> Any:
    """Arrow type of a column of vectors."""
    pyarrow = arrow()
    return pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(dtype)), width)


def table_schema(metadata: TableMetadata) -> Any:
    """Arrow schema of a new table: one row an image."""
    pa = arrow()
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("content_hash", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("embedding", vector_type(metadata.embedding_dim)),
    ]
    if metadata.feature_dim is not None:
        fields.append(pa.field("feature", vector_type(metadata.feature_dim, "float32")))
    fields += [pa.field(name, pa.string()) for name in ANNOTATIONS]
    return pa.schema(fields, metadata=metadata.encode())


def rows_table(schema: Any, columns: Mapping[str, Any]) -> Any:
    """Rows as an Arrow table; columns that are left out become null, matrices become vectors."""
    pa = arrow()
    arrays = []
    for spec in schema:
        values = columns.get(spec.name)
        if values is None:
            arrays.append(pa.nulls(len(columns["id"]), spec.type))
        elif isinstance(values, np.ndarray) and values.ndim == 2:
            dtype = spec.type.value_type.to_pandas_dtype()
            arrays.append(vector_array(values.astype(dtype, copy=False)))
        else:
            arrays.append(pa.array(values, spec.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def vector_array(matrix: NDArray[Any]) -> Any:
    """A matrix as an Arrow array of fixed-size lists."""
    pa = arrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).ravel()), matrix.shape[1])


def vector_matrix(array: Any, width: int) -> NDArray[Any]:
    """An Arrow array of lists as a matrix, without a copy where every list is there; missing lists become NaN rows."""
    if array.null_count == 0:
        values = array.flatten().to_numpy(zero_copy_only=False)
        if len(values) != len(array) * width:
            raise FileFormatError(f"the lists of this column are not all {width} numbers long. Repair the file first.")
        return np.asarray(values.reshape(len(array), width))
    present = ~np.asarray(array.is_null())
    dense = vector_matrix(array.drop_null(), width)
    matrix = np.full((len(array), width), np.nan, dense.dtype)
    matrix[present] = dense
    return matrix

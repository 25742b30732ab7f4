"""The embedding table: one row an image, in a Lance table beside a ledger of the files that could not be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix.encoders.lazy import MadeBy
from isomix.errors import InputError, TableError
from isomix.store.lance_file import LanceFile
from isomix.store.ledger import Ledger
from isomix.store.schema import (
    TableMetadata,
    arrow,
    relative_root,
    rows_table,
    table_schema,
    vector_array,
    vector_matrix,
    vector_type,
)

if TYPE_CHECKING:
    from isomix.encoders.base import Encoder

__all__ = ["SMOOTHED", "EmbeddingTable", "check_is_plain", "space_beside"]

SMOOTHED = "smoothing"
"""Method of the derived columns in which every row depends on all rows of the table."""


class EmbeddingTable:
    """Embeddings of pictures on disk, with the model that made them.

    Use :meth:`create` or :meth:`open`. Columns: ``id``, ``path``, ``size`` (bytes), ``mtime_ns``, ``content_hash``
    (BLAKE2b-256 of the file's bytes), ``width`` and ``height`` (pixels), ``embedding`` (float16, unit rows),
    ``feature`` (float32, where kept), ``label``, ``caption``, ``split``, and derived columns of adapted vectors. An
    open table shows the rows of the moment it was opened.

    Attributes
    ----------
    path : pathlib.Path
    metadata : TableMetadata
        Model, fingerprints, preprocessing, widths.
    ledger : Ledger
        The files that could not be read.
    """

    path: Path
    metadata: TableMetadata

    def __init__(self, lance: LanceFile) -> None:
        self._lance = lance
        self.ledger = Ledger(lance.path)
        self.path = lance.path
        self.metadata = TableMetadata.decode(lance.schema.metadata, os.fspath(lance.path))

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], metadata: TableMetadata, *, overwrite: bool = False
    ) -> EmbeddingTable:
        """Create an empty table.

        Raises
        ------
        TableError
            There is one already and ``overwrite`` is false, or the disk refuses.
        """
        lance = LanceFile(path)
        if lance.exists() and not overwrite:
            raise TableError(f"{lance.path} exists already. Name another table, or allow it to be overwritten.")
        Ledger(lance.path).drop()
        space_beside(lance.path).unlink(missing_ok=True)
        lance.drop()
        lance.create(table_schema(metadata))
        return cls(lance)

    @classmethod
    def open(cls, path: str | os.PathLike[str], encoder: Encoder | None = None) -> EmbeddingTable:
        """Open a table.

        Parameters
        ----------
        path : path-like
        encoder : Encoder, optional
            Check that it is the one that made the table.

        Raises
        ------
        TableError
            No table of isomix, or of a format this version does not read.
        FingerprintMismatchError
            It was made with another model or preprocessing.
        """
        table = cls(LanceFile(path))
        if encoder is not None:
            table.made_by.check_encoder(encoder)
        return table

    @property
    def made_by(self) -> MadeBy:
        """The model that made it, to check another one against."""
        made = self.metadata
        return MadeBy(f"{self.path} was", made.model, made.projectors, made.fingerprint)

    @property
    def count(self) -> int:
        """Number of images."""
        return self._lance.count()

    def __len__(self) -> int:
        return self.count

    @property
    def version(self) -> int:
        """Number of the last commit."""
        return self._lance.version

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return list(self.schema.names)

    @property
    def derived(self) -> dict[str, Mapping[str, Any]]:
        """Columns of adapted vectors, with the description of the space of each."""
        return {name: space for name, space in self.metadata.derived.items() if name in self.columns}

    @property
    def root(self) -> Path:
        """Folder that relative paths start from."""
        return (self.path.parent / self.metadata.root).resolve()

    def metadata_at(self, path: Path) -> TableMetadata:
        """What a copy of this table at ``path`` has to say."""
        return replace(self.metadata, root=relative_root(self.root, path))

    @property
    def schema(self) -> Any:
        """Arrow schema of its columns."""
        return self._lance.schema

    def iter_batches(self, columns: Sequence[str], *, rows: int = 8192) -> Iterator[Any]:
        """Arrow record batches of some columns, in the order of the table; each has at most ``rows`` rows."""
        return self._lance.scan(columns, rows)

    def vector_dim(self, column: str = "embedding") -> int:
        """Width of a column of vectors.

        Raises
        ------
        InputError
            No such column.
        """
        names = [f.name for f in self.schema if hasattr(f.type, "list_size")]
        if column not in names:
            raise InputError(f"{self.path} has no vectors called {column!r}; it has {', '.join(names)}.")
        return int(self.schema.field(column).type.list_size)

    def iter_embeddings(self, column: str = "embedding", *, rows: int = 8192) -> Iterator[NDArray[Any]]:
        """Vectors block by block, in the order of the table; each block has at most ``rows`` rows."""
        width = self.vector_dim(column)
        for batch in self.iter_batches([column], rows=rows):
            yield vector_matrix(batch.column(0), width)

    def embeddings(self, column: str = "embedding") -> NDArray[Any]:
        """All vectors of a column, shape (n, width), as they are stored (float16; features float32)."""
        width = self.vector_dim(column)
        dtype = self.schema.field(column).type.value_type.to_pandas_dtype()
        result = np.empty((self.count, width), dtype)
        start = 0
        for block in self.iter_embeddings(column):
            result[start : start + len(block)] = block
            start += len(block)
        return result

    def vectors_at(self, indices: ArrayLike, column: str = "embedding") -> NDArray[Any]:
        """Vectors of some rows, shape (m, width), in the order asked for; as they are stored."""
        width = self.vector_dim(column)
        unique, back = np.unique(np.asarray(indices, np.int64).ravel(), return_inverse=True)
        found = self._lance.take(unique.tolist(), [column]).column(0).combine_chunks()
        return vector_matrix(found, width)[back]

    def rows(
        self,
        indices: ArrayLike | None = None,
        *,
        ids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows as dictionaries, in the order asked for.

        Parameters
        ----------
        indices : array_like of int, optional
            Row numbers, as a search returns them. Neither ``indices`` nor ``ids``: all rows.
        ids : sequence of str, optional
        columns : sequence of str, optional
            Default: all but the vectors.

        Raises
        ------
        InputError
            A row or column that does not exist.
        """
        wanted = self._check_columns(columns)
        if ids is not None:
            return self._rows_by_id(list(ids), wanted)
        if indices is None:
            batches = (batch.to_pylist() for batch in self.iter_batches(wanted))
            return [row for batch in batches for row in batch]
        asked = np.asarray(indices, dtype=np.int64).ravel()
        if asked.size and (asked.min() < 0 or asked.max() >= self.count):
            raise InputError(
                f"row numbers {asked.min()} to {asked.max()}, but {self.path} has rows 0 to {self.count - 1}."
            )
        unique, back = np.unique(asked, return_inverse=True)
        found = self._lance.take(unique.tolist(), wanted).to_pylist() if unique.size else []
        return [found[i] for i in back]

    def _rows_by_id(self, ids: list[str], columns: list[str]) -> list[dict[str, Any]]:
        quoted = ", ".join("'" + identifier.replace("'", "''") + "'" for identifier in ids)
        extra = [] if "id" in columns else ["id"]
        found = self._lance.where(f"id IN ({quoted})", [*columns, *extra]).to_pylist() if ids else []
        by_id = {row["id"]: {name: row[name] for name in columns} for row in found}
        missing = [identifier for identifier in ids if identifier not in by_id]
        if missing:
            raise InputError(f"{self.path} has no row with the id {missing[0]!r} ({len(missing)} such ids).")
        return [by_id[identifier] for identifier in ids]

    def _check_columns(self, columns: Sequence[str] | None) -> list[str]:
        if columns is None:
            return [f.name for f in self.schema if not hasattr(f.type, "list_size")]
        unknown = [name for name in columns if name not in self.columns]
        if unknown:
            raise InputError(f"{self.path} has no column {unknown[0]!r}; it has {', '.join(self.columns)}.")
        return list(columns)

    def column(self, name: str) -> list[Any]:
        """All values of one column, in the order of the table."""
        return [row[name] for row in self.rows(columns=[name])]

    def append(self, columns: Mapping[str, Any]) -> None:
        """Add rows at the end, in one commit.

        Parameters
        ----------
        columns : mapping
            Column → values; matrices for vectors. Columns that are left out become null.
        """
        self._lance.append(rows_table(self.schema, columns))

    def write_fragment(self, columns: Mapping[str, Any]) -> str:
        """Write rows, as for :meth:`append`, into a file that the table does not know yet; what to append, as JSON."""
        return self._lance.write_fragment(rows_table(self.schema, columns))

    def append_fragments(self, fragments: Sequence[str], properties: Mapping[str, str]) -> None:
        """Add rows that :meth:`write_fragment` wrote, in any process, in one commit that keeps ``properties``."""
        self._lance.append_fragments(fragments, properties)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows, and with them the smoothed columns, which hold parts of them; ids that are not there are ignored."""
        self._drop([name for name, made in self.derived.items() if made.get("method") == SMOOTHED])
        self._lance.delete_ids(list(ids))

    def update(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Change scalar columns of some rows; every row keeps its place.

        Parameters
        ----------
        values : mapping of id to mapping of column to value
        """
        pa = arrow()
        schema = self.schema
        changed = sorted({name for row in values.values() for name in row})

        def batches() -> Iterator[Any]:
            for batch in self.iter_batches(schema.names):
                ids = batch.column("id").to_pylist()
                if any(identifier in values for identifier in ids):
                    for name in changed:
                        old = batch.column(name).to_pylist()
                        new = [values.get(i, {}).get(name, before) for i, before in zip(ids, old, strict=True)]
                        position = schema.get_field_index(name)
                        batch = batch.set_column(
                            position, schema.field(position), pa.array(new, schema.field(name).type)
                        )
                yield batch

        self._lance.replace(schema, batches())

    def add_column(
        self,
        name: str,
        blocks: Callable[[Iterable[NDArray[Any]]], Iterator[NDArray[Any]]],
        width: int,
        description: Mapping[str, Any],
    ) -> None:
        """Add or rebuild a derived column of vectors, in one commit.

        Parameters
        ----------
        name : str
        blocks : callable
            Gets the embeddings block by block, and yields the vectors of each block in the same order (float16).
        width : int
        description : mapping
            Of the space; goes into the metadata.

        Raises
        ------
        InputError
            The name belongs to a column that is not derived.
        """
        pa = arrow()
        if not name.isidentifier() or (name in self.columns and name not in self.derived):
            raise InputError(
                f"{name!r} cannot name a derived column of {self.path}: expected letters, digits and '_', and none of "
                f"{', '.join(c for c in self.columns if c not in self.derived)}."
            )
        kept = [spec for spec in self.schema if spec.name != name]
        metadata = self.metadata.with_derived(name, description)
        schema = pa.schema([*kept, pa.field(name, vector_type(width))], metadata=metadata.encode())
        source_width = self.vector_dim("embedding")

        def batches() -> Iterator[Any]:
            waiting: list[Any] = []

            def inputs() -> Iterator[NDArray[Any]]:
                for batch in self.iter_batches([spec.name for spec in kept]):
                    waiting.append(batch)
                    yield vector_matrix(batch.column("embedding"), source_width)

            for vectors in blocks(inputs()):
                batch = waiting.pop(0)
                yield pa.record_batch(
                    [*batch.columns, vector_array(vectors.astype(np.float16, copy=False))], schema=schema
                )

        self._lance.replace(schema, batches())
        self.metadata = metadata

    def drop_derived(self) -> list[str]:
        """Drop every derived column, because rows are about to change; returns their names."""
        return self._drop(list(self.derived))

    def _drop(self, names: list[str]) -> list[str]:
        if names:
            self._lance.drop_columns(names)
        return names

    def check_still_there(self) -> None:
        """Raise :class:`TableError` when somebody has removed it from the disk since it was opened."""
        if not self._lance.committed():
            raise TableError(f"{self.path} was removed while it was being written. Run the same command again.")

    def tidy(self) -> None:
        """Merge the many small pieces that appending leaves; rows keep their order."""
        self._lance.tidy()

    def errors(self) -> list[dict[str, Any]]:
        """The ledger: path, size, mtime_ns, reason and time of every file that could not be read."""
        return self.ledger.rows()

    def __repr__(self) -> str:
        return f"EmbeddingTable({os.fspath(self.path)!r}, {self.count} images, model={self.metadata.model!r})"


def space_beside(path: Path) -> Path:
    """Where the space that a table was smoothed in is kept."""
    return path.with_suffix(".space.safetensors")


def check_is_plain(table: EmbeddingTable) -> None:
    """Raise :class:`TableError` when a table's embeddings are adapted ones."""
    space = table.metadata.space
    if space is not None:
        raise TableError(
            f"{table.path} holds vectors adapted with {space.get('method')!r}, not a model's own embeddings. "
            "Use the table they were made from."
        )

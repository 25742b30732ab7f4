"""faiss indexes that hold the vectors as they were added, one after the other: flat ones, also under ids or a graph."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from isomix._extras import require
from isomix.errors import FileFormatError, IsomixWarning
from isomix.store.formats.arrays import ArraySource
from isomix.store.formats.base import Block, Job, Pairs

__all__ = ["FaissSource", "write_faiss"]

_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_ID_MAPS = {b"IxMp": "IndexIDMap", b"IxM2": "IndexIDMap2"}
_HNSW = b"IHNf"
_OTHERS = {
    b"IwFl": "IndexIVFFlat",
    b"IwPQ": "IndexIVFPQ",
    b"IwSq": "IndexIVFScalarQuantizer",
    b"IHNp": "IndexHNSWPQ",
    b"IHNs": "IndexHNSWSQ",
    b"IxPT": "IndexPreTransform",
    b"IxPq": "IndexPQ",
    b"IxSQ": "IndexScalarQuantizer",
}
_HEADER = struct.Struct("<4siqqq?i")
"""Kind, width, number of vectors, two numbers that are not used, whether it is trained, metric."""
_WITHOUT_ARGUMENT = (0, 1)
"""Metrics that have none: inner product and Euclidean distance. Others are followed by one float32."""
_GRAPH = (8, 4, 4, 8, 4)
"""Bytes of an item of the five arrays of a graph, each after its length; five int32 follow."""
_GRAPH_NUMBERS = 5 * 4


class _Header(NamedTuple):
    kind: bytes
    width: int
    rows: int
    metric: int


class FaissSource(ArraySource):
    """The vectors of an index, read without faiss: headers, then the vectors, then their ids if it has any.

    Attributes
    ----------
    metric : int
        faiss's number of its metric.
    kinds : tuple of str
        What lies around the flat index, from the outside: of ``IndexIDMap``, ``IndexIDMap2`` and ``IndexHNSWFlat``.
    """

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        kinds: list[str] = []
        with path.open("rb") as stream:
            headers = [_read_header(path, stream)]
            while headers[-1].kind not in _FLAT:
                kind = headers[-1].kind
                if len(headers) > 2:
                    raise FileFormatError(f"{path} holds indexes within indexes, expected two at most: it is damaged.")
                if kind == _HNSW:
                    _skip_graph(path, stream, size)
                kinds.append(_ID_MAPS.get(kind, "IndexHNSWFlat"))
                headers.append(_read_header(path, stream))
            _, width, rows, self.metric = headers[-1]
            count = int.from_bytes(stream.read(8), "little")
            if width < 1 or rows < 0 or count != rows * width or any(head[1:3] != (width, rows) for head in headers):
                raise FileFormatError(
                    f"{path} announces {[head.rows for head in headers]} vectors of width {[head.width for head in headers]} "
                    f"and holds {count} numbers: it is damaged. Write it again."
                )
            super().__init__(path, "faiss", np.dtype("<f4"), (rows, width), stream.tell())
        self.kinds = tuple(kinds)
        self._ids_at = 0
        if any(kind.startswith("IndexIDMap") for kind in kinds):
            self._find_ids(size)

    def _find_ids(self, size: int) -> None:
        import pyarrow as pa

        at = self._offset + self.rows * self._row_bytes
        with self.path.open("rb") as stream:
            stream.seek(at)
            count = int.from_bytes(stream.read(8), "little")
        if count != self.rows or at + 8 + 8 * count > size:
            raise FileFormatError(
                f"{self.path} has {self.rows} vectors and {count} ids: it is damaged. Write it again."
            )
        self._ids_at = at + 8
        self.other_fields = [pa.field("id", pa.int64())]

    @property
    def has_ids(self) -> bool:
        """Whether the vectors have ids."""
        return self._ids_at > 0

    def _blocks(self, rows: int) -> Iterator[Block]:
        """Rows in order, with their ids as a column ``id`` where the index has them."""
        if not self.has_ids:
            yield from super()._blocks(rows)
            return
        import pyarrow as pa

        with self.path.open("rb") as stream:
            stream.seek(self._ids_at)
            for block in super()._blocks(rows):
                ids = np.fromfile(stream, "<i8", len(block.vectors))
                if len(ids) < len(block.vectors):
                    raise FileFormatError(f"{self.path} was cut while it was read. Copy it again.")
                yield block._replace(columns=pa.record_batch({"id": ids}))


def _read_header(path: Path, stream: BinaryIO) -> _Header:
    header = stream.read(_HEADER.size)
    kind = header[:4]
    if kind in _OTHERS:
        raise FileFormatError(
            f"{path} is a faiss {_OTHERS[kind]}, which has no plain list of the vectors. isomix reads IndexFlatIP, "
            "IndexFlatL2, IndexHNSWFlat, and both under IndexIDMap. Adapt the embeddings it was built from, and build the "
            "index again; or, in faiss: index.reconstruct_n(0, index.ntotal) into a .npy file, rounded as the index has it."
        )
    if kind not in (*_FLAT, *_ID_MAPS, _HNSW) or len(header) < _HEADER.size:
        raise FileFormatError(f"{path} is not a flat faiss index, or cut short (it begins with {kind!r}).")
    _, width, rows, _, _, _, metric = _HEADER.unpack(header)
    stream.seek(0 if metric in _WITHOUT_ARGUMENT else 4, 1)
    return _Header(kind, width, rows, metric)


def _skip_graph(path: Path, stream: BinaryIO, size: int) -> None:
    """Go to where the vectors of an HNSW index begin."""
    for item in _GRAPH:
        count = int.from_bytes(stream.read(8), "little")
        if count * item > size - stream.tell():
            raise FileFormatError(f"{path}: its graph is longer than the file: it is damaged. Write it again.")
        stream.seek(count * item, 1)
    stream.seek(_GRAPH_NUMBERS, 1)


def write_faiss(path: Path, pairs: Pairs, job: Job) -> None:
    """Write a flat index (float32), with the metric and the ids of the source; inner product for other sources.

    faiss holds an index whole, so memory is that of the file.
    """
    faiss: Any = require("faiss", "faiss", "A faiss index")
    source = job.source if isinstance(job.source, FaissSource) else None
    index = faiss.IndexFlat(job.width, faiss.METRIC_INNER_PRODUCT if source is None else source.metric)
    kinds = () if source is None else source.kinds
    wrapper = next((kind for kind in kinds if kind.startswith("IndexIDMap")), "")
    if "IndexHNSWFlat" in kinds:
        warnings.warn(
            "the graph of an IndexHNSWFlat is not built anew: the target is a flat index, which searches exactly.",
            IsomixWarning,
            stacklevel=2,
        )
    if wrapper:
        index = getattr(faiss, wrapper)(index)
    for block, vectors in pairs:
        rows = np.ascontiguousarray(vectors, np.float32)
        if wrapper:
            index.add_with_ids(rows, block.columns.column("id").to_numpy())
        else:
            index.add(rows)
    faiss.write_index(index, str(path))

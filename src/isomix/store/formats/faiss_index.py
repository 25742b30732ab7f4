"""Flat faiss indexes: the only ones that hold the vectors as they were added, one after the other."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from isomix._extras import require
from isomix.errors import FileFormatError
from isomix.store.formats.arrays import ArraySource
from isomix.store.formats.base import Job, Pairs

__all__ = ["FaissSource", "write_faiss"]

_FLAT = (b"IxFI", b"IxF2", b"IxFl")
_OTHERS = {
    b"IHNf": "IndexHNSWFlat",
    b"IwFl": "IndexIVFFlat",
    b"IwPQ": "IndexIVFPQ",
    b"IwSq": "IndexIVFScalarQuantizer",
    b"IxM2": "IndexIDMap2",
    b"IxMp": "IndexIDMap",
    b"IxPT": "IndexPreTransform",
    b"IxPq": "IndexPQ",
    b"IxSQ": "IndexScalarQuantizer",
}
_HEADER = struct.Struct("<4siqqq?i")
"""Kind, width, number of vectors, two numbers that are not used, whether it is trained, metric."""
_WITHOUT_ARGUMENT = (0, 1)
"""Metrics that have none: inner product and Euclidean distance. Others are followed by one float32."""


class FaissSource(ArraySource):
    """A flat index, read without faiss: a header, then the vectors.

    Attributes
    ----------
    metric : int
        faiss's number of its metric.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            header = stream.read(_HEADER.size)
            kind = header[:4]
            if kind in _OTHERS:
                raise FileFormatError(
                    f"{path} is a faiss {_OTHERS[kind]}; isomix reads flat indexes only, which hold the vectors as they were "
                    "added. Adapt the embeddings it was built from, and build the index again."
                )
            if kind not in _FLAT or len(header) < _HEADER.size:
                raise FileFormatError(f"{path} is not a flat faiss index, or cut short (it begins with {kind!r}).")
            _, width, rows, _, _, _, self.metric = _HEADER.unpack(header)
            stream.seek(0 if self.metric in _WITHOUT_ARGUMENT else 4, 1)
            count = int.from_bytes(stream.read(8), "little")
            if width < 1 or rows < 0 or count != rows * width:
                raise FileFormatError(
                    f"{path} announces {rows} vectors of width {width} and holds {count} numbers: it is damaged. Write it again."
                )
            super().__init__(path, "faiss", np.dtype("<f4"), (rows, width), stream.tell())


def write_faiss(path: Path, pairs: Pairs, job: Job) -> None:
    """Write a flat index (float32) with the metric of the source; inner product for other sources.

    faiss holds an index whole, so memory is that of the file.
    """
    faiss: Any = require("faiss", "faiss", "A faiss index")
    metric = job.source.metric if isinstance(job.source, FaissSource) else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexFlat(job.width, metric)
    for _, vectors in pairs:
        index.add(np.ascontiguousarray(vectors, np.float32))
    faiss.write_index(index, str(path))

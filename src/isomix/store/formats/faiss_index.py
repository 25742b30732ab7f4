"""Flat faiss indexes: the only ones that still hold the vectors as they were added."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isomix._arrays import blocks
from isomix._extras import require
from isomix.errors import FileFormatError
from isomix.store.formats.base import Block, Job, Pairs, Source, read_record

__all__ = ["FaissSource", "write_faiss"]


def _faiss() -> Any:
    return require("faiss", "faiss", "A faiss index")


class FaissSource(Source):
    """A flat index. faiss reads and writes an index as a whole, so memory is that of the file."""

    layout = "faiss"
    dtype = np.dtype(np.float32)

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            index = _faiss().read_index(str(path))
        except RuntimeError as error:
            raise FileFormatError(f"{path} is not a faiss index ({str(error).splitlines()[0]}).") from error
        if not isinstance(index, _faiss().IndexFlat):
            raise FileFormatError(
                f"{path} is a faiss {type(index).__name__}, which holds codes or a structure around the vectors, not "
                "the vectors themselves. Adapt the embeddings it was built from, and build the index again."
            )
        self.index = index
        self.rows, self.width = int(index.ntotal), int(index.d)
        self.record = read_record(path, self.width)

    def blocks(self, rows: int) -> Iterator[Block]:
        """Vectors as they were added."""
        for part in blocks(self.rows, rows):
            yield Block("0", part.start, self.index.reconstruct_n(part.start, part.stop - part.start))


def write_faiss(path: Path, pairs: Pairs, job: Job) -> None:
    """Write a flat index (float32) with the metric of the source; inner product for other sources."""
    faiss = _faiss()
    metric = job.source.index.metric_type if isinstance(job.source, FaissSource) else faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexFlat(job.width, metric)
    for _, vectors in pairs:
        index.add(np.ascontiguousarray(vectors, np.float32))
    faiss.write_index(index, str(path))

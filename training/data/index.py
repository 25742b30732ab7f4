"""The index of the data set: what every picture shows, where it comes from, and in which split it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from isomix.errors import InputError

__all__ = ["Index", "Rows"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """Columns of ``index.parquet``, one entry a row of ``pictures.npy``."""

    source: NDArray[Any]
    concept: NDArray[Any]
    captions: list[list[str]]
    kind: NDArray[Any]
    topic: NDArray[Any]
    split: NDArray[Any]
    seen: NDArray[Any]

    @classmethod
    def read(cls, dataset: Path) -> Index:
        """Read the index of the data set in a folder."""
        path = dataset / "index.parquet"
        if not path.is_file():
            raise InputError(f"{path} is not there. Make the data set first: python -m training split.")
        table = pyarrow.parquet.read_table(path)

        def column(name: str) -> NDArray[Any]:
            return np.array([value or "" for value in table[name].to_pylist()])

        captions = [list(row or ()) for row in table["captions"].to_pylist()]
        names = ("kind", "topic", "split", "seen_by_first_weights")
        return cls(column("source"), column("concept"), captions, *map(column, names))

    def rows(self, split: str, kind: str = "") -> Rows:
        """Rows of a split, of one kind of picture if one is named."""
        chosen = (self.split == split) & ((self.kind == kind) if kind else True)
        return np.flatnonzero(chosen)

    def unseen(self, split: str, kind: str = "", source: str = "") -> Rows:
        """The same, without what the first weights may have been trained on, or a near-duplicate of it."""
        rows = self.rows(split, kind)
        return rows[(self.seen[rows] == "no") & ((self.source[rows] == source) if source else True)]

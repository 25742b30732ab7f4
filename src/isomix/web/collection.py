"""The rows of a table, held in memory: what the pages show goes on when the table changes or vanishes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.store import EmbeddingTable
from isomix.web.text import printable

__all__ = ["Collection"]

COLUMNS = ("id", "path", "label", "caption", "split", "width", "height", "content_hash")
Singles = NDArray[np.float32]


@dataclass
class Collection:
    """Columns and vectors of one version of a table.

    Attributes
    ----------
    table : EmbeddingTable
    ids, paths, hashes : list of str
    labels, captions, splits : list of str or None
    sizes : list of (int, int)
    roots : tuple of pathlib.Path
        Folders that pictures may be read from, resolved.
    """

    table: EmbeddingTable
    ids: list[str]
    paths: list[str]
    hashes: list[str]
    labels: list[str | None]
    captions: list[str | None]
    splits: list[str | None]
    sizes: list[tuple[int | None, int | None]]
    roots: tuple[Path, ...]

    @classmethod
    def read(cls, path: Path, roots: tuple[Path, ...] = ()) -> Collection:
        """Read a table's columns."""
        table = EmbeddingTable.open(path)
        if not len(table):
            raise InputError(f"{path} has no rows yet. Embed some pictures first: isomix embed FOLDER -o {path}")
        rows = table.rows(columns=list(COLUMNS))
        column = {name: [row[name] for row in rows] for name in COLUMNS}
        return cls(
            table,
            column["id"],
            column["path"],
            [value or "" for value in column["content_hash"]],
            column["label"],
            column["caption"],
            column["split"],
            list(zip(column["width"], column["height"], strict=True)),
            tuple(dict.fromkeys(root.resolve() for root in (table.root, *roots))),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def vectors(self) -> Singles:
        """Unit embeddings, shape (n, d)."""
        return np.ascontiguousarray(normalize_rows(self.table.embeddings().astype(np.float32)))

    def column_vectors(self, name: str) -> Singles:
        """Unit rows of a column of adapted vectors."""
        return np.ascontiguousarray(normalize_rows(self.table.embeddings(name).astype(np.float32)))

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Row number by id."""
        return {identifier: number for number, identifier in enumerate(self.ids)}

    def file(self, row: int) -> tuple[Path | None, str]:
        """Where the picture of a row may be read, or None and the reason: ``"missing"`` or ``"outside"``."""
        try:
            real = (self.table.root / self.paths[row]).resolve()
            if not any(real.is_relative_to(root) for root in self.roots):
                return None, "outside"
            return (real, "") if real.is_file() else (None, "missing")
        except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, a circle of links
            return None, "missing"

    def describe(self, row: int, mine: dict[str, str]) -> dict[str, Any]:
        """What the pages show of a row; nothing in it is trusted to be printable."""
        _, problem = self.file(row)
        width, height = self.sizes[row]
        path = printable(self.paths[row])
        return {
            "row": row,
            "id": self.ids[row],
            "path": path,
            "name": path.rsplit("/", 1)[-1],
            "label": None if self.labels[row] is None else printable(self.labels[row]),
            "mine": mine.get(self.ids[row]),
            "split": None if self.splits[row] is None else printable(self.splits[row]),
            "caption": None if self.captions[row] is None else printable(self.captions[row]),
            "width": width,
            "height": height,
            "version": self.hashes[row][:16] or self.ids[row][:16],
            "problem": problem,
        }

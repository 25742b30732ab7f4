"""Near-duplicates of stored embeddings, with their files: groups within one source, leaks between splits or two sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import as_matrix
from isomix.errors import InputError
from isomix.neighbors import duplicates, near_pairs, split_leaks
from isomix.store.formats import Source, bring_columns, open_embeddings
from isomix.store.formats.base import reading
from isomix.store.formats.tables import TableSource
from isomix.store.scan import PATH_COLUMNS

__all__ = ["DuplicateReport", "Leak", "Member", "find_duplicates"]

NAMES = (*PATH_COLUMNS, "id", "ids", "key")
"""Columns by which a row is called; the first that is there counts."""


@dataclass(frozen=True)
class Member:
    """A row of a group.

    Attributes
    ----------
    row : int
    name : str
        Its path, or its id, or its number.
    split : str or None
    cosine : float
        With the first row of the group.
    same_bytes : bool
        Its file is that of the first row, byte for byte.
    """

    row: int
    name: str
    split: str | None
    cosine: float
    same_bytes: bool


@dataclass(frozen=True)
class Leak:
    """Two near-duplicates that should have been kept apart.

    Attributes
    ----------
    left, right : int
        Rows: of one source, or of the first and of the second.
    left_name, right_name : str
    left_split, right_split : str or None
    cosine : float
    same_bytes : bool
    """

    left: int
    right: int
    left_name: str
    right_name: str
    left_split: str | None
    right_split: str | None
    cosine: float
    same_bytes: bool


@dataclass
class DuplicateReport:
    """What was found; nothing is ever deleted.

    Attributes
    ----------
    source, other : str
        ``other`` is empty unless two sources were compared.
    rows, other_rows : int
    threshold : float
    groups : list of list of Member
        The largest first. Every member is a near-duplicate of the first, so that one could keep the first alone.
    leaks : list of Leak
        By descending cosine: between splits of one source, or between two sources.
    root, other_root : str
        Where relative paths start.
    """

    source: str
    rows: int
    threshold: float
    groups: list[list[Member]] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    other: str = ""
    other_rows: int = 0
    root: str = ""
    other_root: str = ""

    @property
    def spare(self) -> int:
        """Rows beyond the first of every group."""
        return sum(len(group) - 1 for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class _Stored(NamedTuple):
    source: Source
    vectors: NDArray[Any]
    names: Sequence[str]
    hashes: Sequence[str | None]
    splits: Sequence[str | None]
    root: Path

    def same_bytes(self, row: int, other: _Stored, other_row: int) -> bool:
        return self.hashes[row] is not None and self.hashes[row] == other.hashes[other_row]


def find_duplicates(
    source: str | os.PathLike[str],
    other: str | os.PathLike[str] | None = None,
    *,
    column: str | None = None,
    threshold: float = 0.97,
    max_pairs: int = 1_000_000,
) -> DuplicateReport:
    """Find near-duplicates in stored embeddings, or between two of them.

    Use plain embeddings: an adapted space is more about what pictures show, and less about which picture it is.
    Memory: the vectors as they are stored, their names, and blocks; pairs are counted, never all kept.

    Parameters
    ----------
    source : path-like
        Table, or any layout of :func:`isomix.store.formats.open_embeddings`.
    other : path-like, optional
        Compare with these instead, e.g. a training set with its test set.
    column : str, optional
        Where the vectors are, in layouts that name them.
    threshold : float
        Smallest cosine of two near-duplicates, in (-1, 1].
    max_pairs : int
        Most leaks that are listed; more are an error that says so.

    Returns
    -------
    DuplicateReport

    Raises
    ------
    InputError
        Unusable vectors or threshold, widths or models that differ, too many leaks.
    """
    first = _read(source, column)
    report = DuplicateReport(os.fspath(source), len(first.vectors), float(threshold), root=os.fspath(first.root))
    if other is None:
        for rows in duplicates(first.vectors, threshold=threshold, method="community"):
            report.groups.append(_members(first, rows))
        if len({split for split in first.splits if split is not None}) > 1:
            splits = np.array([split or "" for split in first.splits])
            pairs = split_leaks(first.vectors, splits, threshold=threshold, max_pairs=max_pairs)
            report.leaks = _leaks(first, first, pairs)
            report.leaks = [leak for leak in report.leaks if None not in (leak.left_split, leak.right_split)]
        return report
    second = _read(other, column)
    _check_comparable(first, second)
    report.other, report.other_rows, report.other_root = os.fspath(other), len(second.vectors), os.fspath(second.root)
    report.leaks = _leaks(
        first, second, near_pairs(first.vectors, second.vectors, threshold=threshold, max_pairs=max_pairs)
    )
    return report


def _read(path: str | os.PathLike[str], column: str | None) -> _Stored:
    source = open_embeddings(path, column=column)
    bring_columns(source, Path("columns.parquet"))
    vectors = np.empty((source.rows, source.width), source.dtype.newbyteorder("="))
    wanted = [name for name in ("content_hash", "split") if name in source.other_columns]
    naming = next((name for name in NAMES if name in source.other_columns), None)
    columns: dict[str, list[Any]] = {name: [] for name in [*wanted, *([naming] if naming else [])]}
    for block in source.blocks(4096):
        vectors[block.start : block.start + len(block.vectors)] = block.vectors
        for name, values in columns.items():
            with reading(source.path, f"a file with text in {name}"):
                values += block.columns.column(name).to_pylist()
    names = [str(name) for name in columns[naming]] if naming else [str(row) for row in range(source.rows)]
    none: list[None] = [None] * source.rows
    root = source.table.root if isinstance(source, TableSource) else source.path.resolve().parent
    splits = [None if split is None else str(split) for split in columns.get("split", none)]
    return _Stored(source, vectors, names, columns.get("content_hash", none), splits, root)


def _check_comparable(first: _Stored, second: _Stored) -> None:
    one, other = first.source, second.source
    if one.width != other.width:
        raise InputError(
            f"{one.path} holds vectors of width {one.width} and {other.path} of width {other.width}: they are of different "
            "models. Embed both with the same."
        )
    if isinstance(one, TableSource) and isinstance(other, TableSource):
        made = other.table.metadata
        one.table.made_by.check(made.model, projectors=made.projectors, encoder=made.fingerprint)


def _members(stored: _Stored, rows: NDArray[np.int64]) -> list[Member]:
    unit = as_matrix(stored.vectors[rows], "embeddings")
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = np.minimum(unit @ unit[0], 1.0)
    order = [0, *(1 + np.argsort(-cosines[1:], kind="stable"))]
    centre = int(rows[0])
    return [
        Member(
            int(rows[i]),
            stored.names[rows[i]],
            stored.splits[rows[i]],
            round(float(cosines[i]), 6),
            i > 0 and stored.same_bytes(centre, stored, int(rows[i])),
        )
        for i in order
    ]


def _leaks(first: _Stored, second: _Stored, pairs: Any) -> list[Leak]:
    return [
        Leak(
            int(i),
            int(j),
            first.names[i],
            second.names[j],
            first.splits[i],
            second.splits[j],
            round(min(float(score), 1.0), 6),
            first.same_bytes(int(i), second, int(j)),
        )
        for i, j, score in zip(pairs.left, pairs.right, pairs.scores, strict=True)
    ]

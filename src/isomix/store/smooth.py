"""Smoothed columns of a table: how they are made, told from one another, and searched."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats
from isomix.errors import InputError, TableError
from isomix.neighbors import search
from isomix.neighbors.expansion import MOMENT_ROWS
from isomix.neighbors.kinship import (
    QUERY_NEIGHBORS,
    QUERY_STRENGTH,
    STRENGTH,
    Background,
    evenly,
    expanded,
    without_self,
)
from isomix.store.adapt import Progress, adapt_column
from isomix.store.journal import Journal
from isomix.store.table import SMOOTHED, EmbeddingTable, space_beside

if TYPE_CHECKING:
    from isomix.spaces import Space

__all__ = [
    "SmoothReport",
    "SmoothedColumn",
    "expand_in_table",
    "smooth_column",
    "smoothed_column",
    "smoothed_columns",
    "smoothed_gone",
]

Rows = Literal["adapted", "plain"]


@dataclass
class SmoothReport:
    """What was smoothed.

    Attributes
    ----------
    table : str
    rows : int
    column : str
        Of the adapted vectors, in which neighbours were found.
    smoothed, smoothed_plain : str
        Columns of the averaged rows: adapted ones, for pictures as queries, and plain ones, for sentences.
    width : int
        Of the adapted vectors.
    space : dict
    mass, strength : float
    k : int
    seconds : float
    """

    table: str
    rows: int
    column: str
    smoothed: str
    smoothed_plain: str
    width: int
    space: dict[str, Any]
    mass: float
    strength: float
    k: int
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def smooth_column(
    table_path: str | os.PathLike[str], name: str, space: Space, *, progress: Progress | None = None
) -> SmoothReport:
    """Adapt a table's vectors (:func:`adapt_column`) and smooth them: three derived columns.

    ``<name>`` holds the adapted vectors, ``<name>_smoothed`` each averaged with its nearest, and ``<name>_smoothed_plain`` the
    plain vectors averaged over the same neighbours, for sentences as queries. The last two depend on all rows at once. They are
    never mended: a run that adds, changes or removes a row drops them, a search says so, and this makes them again.

    A space that a search cannot make again from the model alone, any but IsoCLIP, is kept beside the table
    (``photos.space.safetensors``), and searches of pictures use it from then on.

    Parameters
    ----------
    table_path : path-like
    name : str
        Of the column of adapted vectors.
    space : Space
        Fitted.
    progress : callable, optional
        Called with (rows adapted, rows).

    Raises
    ------
    InputError
        Fewer than two rows, and as :func:`adapt_column`.
    ModalityError, FingerprintMismatchError, TableError

    Notes
    -----
    Adapted and plain vectors are held in memory, twice each in float32.
    """
    from isomix.neighbors import Smoothing

    started = time.monotonic()
    adapt_column(table_path, name, space, progress=progress)
    with Journal(Path(table_path)):
        table = EmbeddingTable.open(table_path)
        smoothing = Smoothing().fit(table.embeddings(name))
        described = {
            "method": SMOOTHED,
            "column": name,
            "parameters": {"k": smoothing.k_, "alpha": smoothing.alpha_, "strength": smoothing.strength_},
            "mass": smoothing.mass_,
            "space": space.describe(),
        }
        of: dict[Rows, tuple[str, Floats]] = {
            "adapted": (f"{name}_smoothed", smoothing.gallery_),
            "plain": (f"{name}_smoothed_plain", smoothing.average(table.embeddings())),
        }
        for rows, (column, vectors) in of.items():
            table.add_column(column, _in_blocks(vectors), vectors.shape[1], _identified({**described, "rows": rows}))
        table.tidy()
        if space.method == "isoclip":
            space_beside(table.path).unlink(missing_ok=True)
        else:
            space.save(space_beside(table.path))
    return SmoothReport(
        table=os.fspath(table_path),
        rows=table.count,
        column=name,
        smoothed=of["adapted"][0],
        smoothed_plain=of["plain"][0],
        width=space.n_components_,
        space=space.describe(),
        mass=smoothing.mass_,
        strength=smoothing.strength_,
        k=smoothing.k_,
        seconds=time.monotonic() - started,
    )


def _in_blocks(vectors: Floats) -> Any:
    def blocks(inputs: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        start = 0
        for block in inputs:
            yield vectors[start : start + len(block)]
            start += len(block)

    return blocks


def _identified(description: dict[str, Any]) -> dict[str, Any]:
    words = [description["space"]["fingerprint"], description["rows"], description["parameters"], SMOOTHED]
    return {**description, "fingerprint": hashlib.sha256(repr(words).encode()).hexdigest()}


class SmoothedColumn(NamedTuple):
    """A smoothed column of a table, and how it was made: from ``column``, the adapted rows before they were averaged."""

    name: str
    space: Mapping[str, Any]
    k: int
    alpha: float
    strength: float
    rows: Rows
    column: str

    @property
    def note(self) -> str:
        """What a search in it says."""
        rows = "plain rows smoothed" if self.rows == "plain" else "smoothed"
        return f"{rows} over neighbours in {self.space.get('method')}, strength {self.strength:.2f}"


def smoothed_columns(table: EmbeddingTable, rows: Rows) -> Iterator[SmoothedColumn]:
    """The smoothed columns of adapted or plain rows, the one made last first."""
    for name, description in reversed(table.derived.items()):
        if description.get("method") != SMOOTHED or description.get("rows") != rows:
            continue
        try:
            column = SmoothedColumn(
                name, description["space"], **description["parameters"], rows=rows, column=description["column"]
            )
        except (KeyError, TypeError) as error:
            raise TableError(
                f"{table.path}: what it says of its column {name!r} cannot be used ({error}). Make the column again with: "
                f"isomix adapt {table.path} --smooth"
            ) from error
        yield column


def smoothed_column(table: EmbeddingTable, rows: Rows, space: Space | None = None) -> SmoothedColumn | None:
    """The smoothed column of adapted or plain rows; of one space, or of any (the one made last)."""
    found = smoothed_columns(table, rows)
    return next((c for c in found if space is None or c.space.get("fingerprint") == space.fingerprint), None)


def smoothed_gone(table: EmbeddingTable, rows: Rows) -> str:
    """What to say where the table had smoothed columns before its rows changed; empty where it had none."""
    gone = [of for name, of in table.metadata.derived.items() if name not in table.columns]
    if not any(of.get("method") == SMOOTHED and of.get("rows") == rows for of in gone):
        return ""
    return f"not smoothed: pictures changed since; isomix adapt {table.path} --smooth smooths them again"


def expand_in_table(
    table: EmbeddingTable, column: SmoothedColumn, space: Space, vectors: Floats, own: list[str | None]
) -> Floats:
    """Queries averaged with their nearest rows, as :meth:`isomix.Smoothing.transform`, by reading few rows of the table.

    Parameters
    ----------
    table : EmbeddingTable
    column : SmoothedColumn
        Of adapted rows.
    space : Space
        That of the column.
    vectors : ndarray, shape (m, d)
        Plain embeddings of the queries.
    own : list of str or None
        Ids of the queries' own rows, which take no part.

    Returns
    -------
    ndarray, shape (m, k)
        Unit rows in the space.
    """
    Q = space.transform(vectors)
    if not column.strength:
        return Q
    k = min(QUERY_NEIGHBORS, table.count - 1)
    if k < 1:
        raise InputError(f"{table.path} has {table.count} row, and expanding needs two. Leave --expand out.")
    _, found = search(Q, table.iter_embeddings(column.name), k + 1)
    ids = [row["id"] for row in table.rows(found.ravel(), columns=["id"])]
    others = without_self(np.array(ids).reshape(found.shape), np.array([each or "" for each in own]))
    near = space.transform(table.vectors_at(found[others])).reshape(len(Q), k, -1)
    sample = space.transform(table.vectors_at(evenly(table.count, MOMENT_ROWS)))
    thresholds = Background.of([sample]).thresholds(Q)
    return expanded(Q, near, thresholds, column.strength * QUERY_STRENGTH / STRENGTH, column.alpha)

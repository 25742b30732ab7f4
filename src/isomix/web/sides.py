"""The two sides of a comparison: the plain space, and an adapted one whose band may be moved by hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isomix.errors import InputError
from isomix.neighbors.live import LiveRanking, Ranking, places, rank_rows
from isomix.web.library import Directions

__all__ = ["LIVE_ELEMENTS", "Band", "Column", "Found", "Plain", "Query", "Side"]

LIVE_ELEMENTS = 110_000_000
"""Numbers in a table's embeddings up to which a band is ranked over all rows at every tick."""

CANDIDATES = 5_000
KEPT_QUERIES = 32
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    """One query: its embedding, and its own row, -1 without one."""

    key: str
    kind: str
    name: str
    vector: Singles
    row: int = -1


class Found(NamedTuple):
    """What one query found on one side.

    Attributes
    ----------
    rows, scores : ndarray, shape (k,)
    similarities : ndarray of float32, shape (n,)
        With all rows; -inf for the query itself and for rows that were not ranked.
    band : (int, int) or None
        The band that was ranked.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    similarities: Singles
    band: tuple[int, int] | None

    def places(self, rows: NDArray[np.int64]) -> list[int | None]:
        """Places of rows in this ranking; None for those that were not ranked."""
        ranked = np.isfinite(self.similarities[rows])
        found = places(self.similarities, rows)
        return [int(place) if known else None for place, known in zip(found, ranked, strict=True)]


class Side(Protocol):
    """A space that queries are ranked in."""

    def rank(self, queries: list[Query], k: int, band: tuple[int, int] | None, *, exact: bool) -> list[Found]:
        """The best rows of every query."""


def _split(ranking: Ranking, band: tuple[int, int] | None) -> list[Found]:
    return [
        Found(rows[np.isfinite(scores)], scores[np.isfinite(scores)], similarities, band)
        for rows, scores, similarities in zip(ranking.rows, ranking.scores, ranking.similarities, strict=True)
    ]


class Plain:
    """The cosine of the embeddings as they are stored."""

    def __init__(self, vectors: Singles) -> None:
        self.vectors = vectors
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Found] = OrderedDict()

    def rank(
        self, queries: list[Query], k: int, band: tuple[int, int] | None = None, *, exact: bool = True
    ) -> list[Found]:
        """The best rows of every query; what a query found is kept while a band is moved."""
        enough = min(k, len(self.vectors) - 1)
        with self._lock:
            asked = [query for query in queries if len(self._kept.get(query.key, _NOTHING).rows) < enough]
            if asked:
                vectors = np.stack([query.vector for query in asked])
                ranking = rank_rows(self.vectors, vectors, k, [query.row for query in asked])
                for query, found in zip(asked, _split(ranking, None), strict=True):
                    self._kept[query.key] = found
            for query in queries:
                self._kept.move_to_end(query.key)
            result = [self._kept[query.key] for query in queries]
            while len(self._kept) > max(KEPT_QUERIES, len(queries)):
                self._kept.popitem(last=False)
        return [one._replace(rows=one.rows[:k], scores=one.scores[:k]) for one in result]


_NOTHING = Found(np.empty(0, np.int64), np.empty(0), np.empty(0, np.float32), None)


class Column:
    """Vectors that the table holds: the band is what it was when they were made.

    Parameters
    ----------
    vectors : ndarray, shape (n, k)
        Unit rows that are ranked.
    own : ndarray, shape (n, k), or None
        Unit rows that stand for the table's rows as queries. Another array where ``vectors`` are smoothed: a query is not.
    adapt : callable
        Unit rows for other queries; for all, where ``own`` is None.
    """

    def __init__(self, vectors: Singles, own: Singles | None, adapt: Callable[[list[Query]], Singles]) -> None:
        self.vectors, self.own, self.adapt = vectors, own, adapt

    def rank(self, queries: list[Query], k: int, band: tuple[int, int] | None, *, exact: bool) -> list[Found]:
        """The best rows of every query."""
        units = [self.adapt([q])[0] if self.own is None or q.row < 0 else self.own[q.row] for q in queries]
        return _split(rank_rows(self.vectors, np.stack(units), k, [query.row for query in queries]), None)


class Band:
    """A space whose band is moved by hand.

    Parameters
    ----------
    directions : Directions
    rows : ndarray, shape (n, d)
        Unit embeddings.
    plain : Plain
        Chooses the candidates of a table that is too large to be ranked whole.
    """

    def __init__(self, directions: Directions, rows: Singles, plain: Plain) -> None:
        self.directions, self.rows, self.plain = directions, rows, plain
        self.whole = rows.size <= LIVE_ELEMENTS
        self._live = LiveRanking(rows, directions.coordinates, directions.gram) if self.whole else None
        self._some: OrderedDict[str, tuple[NDArray[np.int64], LiveRanking]] = OrderedDict()

    def prepare(self) -> None:
        """Compute what is computed once a table."""
        if self._live is not None:
            _ = self._live.norms

    @property
    def candidates(self) -> int | None:
        """Rows that are ranked for a query; None for all."""
        return None if self.whole else min(CANDIDATES, len(self.rows))

    def rank(self, queries: list[Query], k: int, band: tuple[int, int] | None, *, exact: bool) -> list[Found]:
        """The best rows of every query in a band; without ``exact``, in the one on multiples of 16 beside it."""
        if band is None:
            raise InputError("band: got none, expected how many directions to cut at either end, e.g. [150, 50].")
        vectors = [query.vector for query in queries]
        if self._live is not None:
            used = band if exact else self._live.snap(*band)
            ranking = self._live.rank(np.stack(vectors), *used, k=k, without=[query.row for query in queries])
            return _split(ranking, used)
        return [self._rank_some(query, vector, k, band, exact) for query, vector in zip(queries, vectors, strict=True)]

    def _rank_some(self, query: Query, vector: Singles, k: int, band: tuple[int, int], exact: bool) -> Found:
        if query.key not in self._some:
            (near,) = self.plain.rank([query], CANDIDATES)
            rows = np.sort(near.rows)
            live = LiveRanking(self.rows[rows], self.directions.coordinates, self.directions.gram)
            self._some[query.key] = (rows, live)
            while len(self._some) > KEPT_QUERIES:
                self._some.popitem(last=False)
        rows, live = self._some[query.key]
        used = band if exact else live.snap(*band)
        (found,) = _split(live.rank(vector[None], *used, k=k), used)
        similarities = np.full(len(self.rows), -np.inf, np.float32)
        similarities[rows] = found.similarities
        return Found(rows[found.rows], found.scores, similarities, used)

"""Ranking all rows by the cosine within a band of directions, fast enough to move the band by hand.

An embedding e has coordinates c = C e along r directions, and its vector of a band b has the inner products
c_bᵀ G_bb c_b'. For IsoCLIP, C = Uᵀ W⁺ and G = Uᵀ Wᵀ W U, which is not the identity: sums over directions are not sums over
blocks of them. What is exact all the same (this project):

* numerators: one product of the stored embeddings with C_bᵀ G_bb C_b e_q, whatever the band;
* norms: c_bᵀ G_bb c_b of every band that begins and ends at a multiple of 16 directions is a number a row, computed once
  in float64; another band adds at most 30 directions, whose share needs one thin product;
* order: the best rows are scored again in float64.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, as_matrix, blocks, check_integer
from isomix.errors import InputError

__all__ = ["BLOCK", "LiveRanking", "Ranking", "places", "rank_rows", "rank_similarities", "similarities"]

BLOCK = 16
RESCORED = 200
ROWS_A_PIECE = 1024
SMALL_PRODUCT = 900_000
"""Multiplications up to which OpenBLAS multiplies without copying the rows first: two thirds of the time, for nine queries."""

Rows = NDArray[np.int64]
Singles = NDArray[np.float32]


class Ranking(NamedTuple):
    """The best rows of every query in one band.

    Attributes
    ----------
    rows : ndarray of int64, shape (q, k)
        Best first; equal scores by the lower number.
    scores : ndarray of float64, shape (q, k)
        Cosines.
    similarities : ndarray of float32, shape (q, n)
        Cosines with all rows; see :func:`places`.
    k_top, k_bottom : int
        The band that was ranked: the one asked for, or the one on multiples of 16 beside it.
    """

    rows: Rows
    scores: Doubles
    similarities: Singles
    k_top: int
    k_bottom: int


class LiveRanking:
    """Rank the rows of a table in any band of directions.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
        What is stored; kept as float32. A row whose norm in some band is zero has the similarity 0 there.
    coordinates : array_like, shape (r, d)
        C, the map to coordinates along the directions, the most important direction first.
    gram : array_like, shape (r, r), optional
        G, the inner products of the directions. Default: the identity (orthonormal directions, as those of Text PCA).

    Attributes
    ----------
    count : int
        n.
    n_directions : int
        r.

    Raises
    ------
    InputError
        Shapes that do not belong together.

    Notes
    -----
    Memory: 4 n d bytes for the embeddings, and 2 n B (B + 1) for the norms with B = ceil(r / 16): 205 and 211 MB at
    100,000 x 512 with 512 directions. Above some 200,000 rows a tick takes more than 50 ms on two cores (``python
    benches/bench_studio.py``); rank a table's candidates then: ``LiveRanking(embeddings[candidates], ...)``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> E, C = rng.normal(size=(9, 4)), np.eye(4)
    >>> live = LiveRanking(E, C)
    >>> live.rank(E[:1], 1, 0, k=2).rows
    array([[0, 1]])
    """

    def __init__(self, embeddings: ArrayLike, coordinates: ArrayLike, gram: ArrayLike | None = None) -> None:
        C = as_matrix(coordinates, "coordinates", min_rows=1)
        X = as_matrix(embeddings, "embeddings", width=C.shape[1], width_of="the map to coordinates", min_rows=1)
        self._X: Singles = np.ascontiguousarray(X, np.float32)
        self._C: Doubles = np.asarray(C, np.float64)
        self.count, self.n_directions = len(self._X), len(self._C)
        self._G: Doubles | None = None
        if gram is not None:
            G = np.asarray(as_matrix(gram, "gram", width=self.n_directions, width_of="the directions"), np.float64)
            if len(G) != self.n_directions:
                raise InputError(f"gram: got shape {G.shape}, expected ({self.n_directions}, {self.n_directions}).")
            self._G = (G + G.T) / 2
        self._edges = np.array([*range(0, self.n_directions, BLOCK), self.n_directions])

    def snap(self, k_top: int, k_bottom: int) -> tuple[int, int]:
        """The nearest band, as (k_top, k_bottom), that begins and ends at a multiple of 16 directions."""
        start, stop = self._check(k_top, k_bottom)
        first = min(round(start / BLOCK), len(self._edges) - 2)
        last = int(np.abs(self._edges - stop).argmin())
        return int(self._edges[first]), int(self.n_directions - self._edges[max(last, first + 1)])

    def rank(
        self, queries: ArrayLike, k_top: int, k_bottom: int, *, k: int = 12, without: ArrayLike | None = None
    ) -> Ranking:
        """Rank all rows for every query in one band.

        Parameters
        ----------
        queries : array_like, shape (q, d)
        k_top, k_bottom : int
            Directions to leave out at either end. A band on multiples of 16 is the fastest.
        k : int
            Rows to give; all of them if there are fewer.
        without : array_like of int, shape (q,), optional
            A row that must not be found by each query, its own; -1 for none.

        Returns
        -------
        Ranking
        """
        start, stop = self._check(k_top, k_bottom)
        Q = np.asarray(as_matrix(queries, "queries", width=self._X.shape[1], nonzero_rows=True), np.float64)
        band = slice(start, stop)
        k = min(check_integer(k, "k", minimum=1), self.count)
        with _one_thread_each():
            towards, lengths = self._towards(Q, band)
            units = towards / np.maximum(lengths, 1e-300)[:, None]
            scores = similarities(self._X, units, self._inverse_norms(start, stop))
            _leave_out(scores, without)
            candidates, found = rank_similarities(scores, min(self.count, max(2 * k, RESCORED // len(Q))))
            exact = self._rescore(candidates, Q, towards, lengths, band)
        exact[np.isneginf(found)] = -np.inf
        order = np.lexsort((candidates, -exact), axis=1)[:, :k]
        rows, best = np.take_along_axis(candidates, order, axis=1), np.take_along_axis(exact, order, axis=1)
        return Ranking(rows, best, scores, start, self.n_directions - stop)

    # ------------------------------------------------------------------ parts

    def _check(self, k_top: int, k_bottom: int) -> tuple[int, int]:
        top, bottom = check_integer(k_top, "k_top"), check_integer(k_bottom, "k_bottom")
        if top + bottom >= self.n_directions:
            raise InputError(
                f"k_top={top} and k_bottom={bottom} leave none of {self.n_directions} directions. "
                f"Choose k_top + k_bottom of at most {self.n_directions - 1}."
            )
        return top, self.n_directions - bottom

    def _gram(self, rows: slice | NDArray[np.intp], columns: slice | NDArray[np.intp]) -> Doubles:
        if self._G is not None:
            return self._G[rows][:, columns]
        every = np.arange(self.n_directions)
        return np.equal.outer(every[rows], every[columns]).astype(np.float64)

    def _towards(self, Q: Doubles, band: slice) -> tuple[Doubles, Doubles]:
        """C_bᵀ G_bb C_b e for every query, and its norm within the band."""
        c = Q @ self._C[band].T
        weighted = c if self._G is None else c @ self._G[band, band]
        return weighted @ self._C[band], np.sqrt(np.maximum(np.einsum("qr,qr->q", weighted, c), 0.0))

    def _rescore(self, candidates: Rows, Q: Doubles, towards: Doubles, lengths: Doubles, band: slice) -> Doubles:
        unique, back = np.unique(candidates, return_inverse=True)
        X = self._X[unique].astype(np.float64)
        c = X @ self._C[band].T
        weighted = c if self._G is None else c @ self._G[band, band]
        norms = np.sqrt(np.maximum(np.einsum("nr,nr->n", weighted, c), 0.0))
        scale = norms[:, None] * lengths
        cosines = np.divide(X @ towards.T, scale, out=np.zeros_like(scale), where=scale > 0)
        return np.take_along_axis(cosines.T, back.reshape(candidates.shape), axis=1)

    def _inverse_norms(self, start: int, stop: int) -> Singles:
        squares = self._squares(start, stop)
        positive = squares > 0
        return np.divide(
            1.0, np.sqrt(squares, where=positive, out=np.ones_like(squares)), where=positive, out=np.zeros_like(squares)
        )

    def _squares(self, start: int, stop: int) -> Singles:
        """Squared norm of every row within the directions from ``start`` to ``stop``; (n,)."""
        first = -(-start // BLOCK)
        last = len(self._edges) - 1 if stop == self.n_directions else stop // BLOCK
        if first >= last:  # the band lies within two blocks
            return self._thin(np.arange(start, stop), np.arange(0))
        inner = np.arange(self._edges[first], self._edges[last])
        outer = np.r_[start : inner[0], inner[-1] + 1 : stop]
        whole = self.norms[_place(first, last)]
        return whole if not outer.size else np.maximum(whole + self._thin(outer, inner), 0.0)

    def _thin(self, outer: NDArray[np.intp], inner: NDArray[np.intp]) -> Singles:
        """c_pᵀ (G_pp c_p + 2 G_pi c_i), what the directions ``outer`` add to the squared norm within ``inner``."""
        beside = self._gram(outer, outer) @ self._C[outer]
        if inner.size and self._G is not None:
            beside += 2.0 * self._gram(outer, inner) @ self._C[inner]
        maps = np.concatenate([self._C[outer], beside]).astype(np.float32).T
        result = np.empty(self.count, np.float32)

        def piece(rows: slice) -> None:
            both = self._X[rows] @ maps
            np.einsum("nr,nr->n", both[:, : len(outer)], both[:, len(outer) :], out=result[rows])

        _in_threads(piece, self.count)
        return np.maximum(result, 0.0) if not inner.size else result

    @cached_property
    def norms(self) -> Singles:
        """Squared norms of all rows in every band of whole blocks, shape (B (B + 1) / 2, n), by the last block and then the
        first; computed on first use.
        """
        n_blocks = len(self._edges) - 1
        padding = n_blocks * BLOCK - self.n_directions
        C = np.pad(self._C, ((0, padding), (0, 0))).T
        G = None if self._G is None else np.pad(self._G, (0, padding))
        table = np.empty((_place(0, n_blocks + 1), self.count), np.float32)

        def piece(rows: slice) -> None:
            c = self._X[rows].astype(np.float64) @ C
            blocked = c.reshape(len(c), n_blocks, BLOCK)
            bands = np.zeros((n_blocks, len(c)))  # of those that end with block b: one for every first block
            for b in range(n_blocks):
                if G is None:
                    bands[: b + 1] += np.einsum("nr,nr->n", blocked[:, b], blocked[:, b])
                else:
                    own, seen = slice(b * BLOCK, (b + 1) * BLOCK), slice(0, (b + 1) * BLOCK)
                    beside = (c[:, own] @ G[own, seen]).reshape(len(c), b + 1, BLOCK)
                    sums = np.einsum("nbr,nbr->nb", beside, blocked[:, : b + 1]).T
                    sums[:b] *= 2.0  # what two blocks have to do with one another counts from either side
                    bands[: b + 1] += sums[::-1].cumsum(axis=0)[::-1]
                table[_place(0, b + 1) : _place(0, b + 2), rows] = bands[: b + 1]

        _in_threads(piece, self.count)
        return table


def _place(first: int, last: int) -> int:
    """Number of the band of the blocks from ``first`` to before ``last``, counted by ``last``."""
    return last * (last - 1) // 2 + first


def similarities(rows: Singles, queries: ArrayLike, inverse_norms: Singles | None = None) -> Singles:
    """Inner products of every query with every row, divided by the rows' norms; (q, n).

    Parameters
    ----------
    rows : ndarray of float32, shape (n, d)
    queries : array_like, shape (q, d)
    inverse_norms : ndarray of float32, shape (n,), optional
        One over the norm of each row. Default: rows of unit length.
    """
    transposed = np.ascontiguousarray(np.asarray(queries, np.float32).T)
    result = np.empty((transposed.shape[1], len(rows)), np.float32)

    step = max(64, SMALL_PRODUCT // max(transposed.size, 1))

    def piece(part: slice) -> None:
        own, products = rows[part], np.empty((part.stop - part.start, transposed.shape[1]), np.float32)
        for start in range(0, len(own), step):
            np.matmul(own[start : start + step], transposed, out=products[start : start + step])
        if inverse_norms is None:
            result[:, part] = products.T
        else:
            np.multiply(products.T, inverse_norms[part], out=result[:, part])

    _in_threads(piece, len(rows))
    return result


def rank_similarities(values: Singles, k: int) -> tuple[Rows, Singles]:
    """Rows and values of the k largest of every query, best first; equal ones by the lower number."""
    n = values.shape[1]
    k = min(k, n)
    rows = np.empty((len(values), k), np.int64)

    def piece(queries: slice) -> None:
        for i in range(queries.start, queries.stop):
            own = values[i]
            least = np.partition(own, n - k)[n - k]
            above, equal = np.flatnonzero(own > least), np.flatnonzero(own == least)
            found = np.concatenate([above, equal[: k - len(above)]])
            rows[i] = found[np.lexsort((found, -own[found]))]

    _in_threads(piece, len(values), 1 if n > ROWS_A_PIECE else len(values))
    return rows, np.take_along_axis(values, rows, axis=1)


def places(values: Singles, rows: ArrayLike) -> Rows:
    """Place of some rows in the ranking of one query, by counting; 1 is the best.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Similarities of one query with all rows.
    rows : array_like of int, shape (m,)

    Examples
    --------
    >>> import numpy as np
    >>> places(np.array([0.1, 0.9, 0.5, 0.5], np.float32), [1, 3])
    array([1, 3])
    """
    asked = np.asarray(rows, np.int64)
    found = np.empty(len(asked), np.int64)
    if not asked.size:
        return found
    before = np.flatnonzero(values >= values[asked].min())  # what can stand before any of them, mostly few
    near = values[before]
    for i, row in enumerate(asked):
        own = values[row]
        ties = np.count_nonzero(near[: np.searchsorted(before, row)] == own)
        found[i] = 1 + np.count_nonzero(near > own) + ties
    return found


_lock = threading.RLock()


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """One thread in each linear algebra call: the calls are small, and the threads are ours."""
    with _lock, _controller().limit(limits=1, user_api="blas"):  # the number of threads belongs to the process
        yield


def _in_threads(function: Callable[[slice], None], n: int, size: int = ROWS_A_PIECE) -> None:
    """Apply to pieces of ``range(n)``, a thread a core; of rows, pieces that stay in the cache."""
    if n <= size:
        return function(slice(0, n))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with _one_thread_each(), ThreadPoolExecutor(cores) as pool:
        for _ in pool.map(function, blocks(n, size)):
            pass
    return None


def rank_rows(rows: Singles, queries: ArrayLike, k: int, without: ArrayLike | None = None) -> Ranking:
    """Rank unit rows by their cosine with every query, as :meth:`LiveRanking.rank` does within a band.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, d)
        Unit rows.
    queries : array_like, shape (q, d)
    k : int
    without : array_like of int, shape (q,), optional
        As in :meth:`LiveRanking.rank`.
    """
    Q = np.asarray(as_matrix(queries, "queries", width=rows.shape[1], nonzero_rows=True), np.float64)
    unit = Q / np.linalg.norm(Q, axis=1, keepdims=True)
    with _one_thread_each():
        scores = similarities(rows, unit)
        _leave_out(scores, without)
        k = min(check_integer(k, "k", minimum=1), len(rows))
        found, values = rank_similarities(scores, min(len(rows), 2 * k))
    exact = np.einsum("qkd,qd->qk", rows[found].astype(np.float64), unit)
    exact[np.isneginf(values)] = -np.inf
    order = np.lexsort((found, -exact), axis=1)[:, :k]
    return Ranking(np.take_along_axis(found, order, axis=1), np.take_along_axis(exact, order, axis=1), scores, 0, 0)


def _leave_out(scores: Singles, without: ArrayLike | None) -> None:
    if without is not None:
        own = np.asarray(without, np.int64)
        scores[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf

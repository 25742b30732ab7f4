"""Smoothing of a gallery: every row becomes the mean of itself and its nearest, and queries follow."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from isomix._arrays import Doubles, Floats, Indices, as_matrix, blocks, check_integer, working_dtype
from isomix._estimators import check_fit_rows, check_fitted, check_rows
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.neighbors.exact import search
from isomix.neighbors.kinship import (
    ALPHA,
    BLOCK_ROWS,
    NEIGHBORS,
    QUERY_NEIGHBORS,
    QUERY_STRENGTH,
    STRENGTH,
    Background,
    evenly,
    expanded,
    mean_with_neighbors,
    median_mass,
    neighbor_weights,
)

__all__ = ["Smoothing"]

MASS_ROWS = 5000
RECALL_ROWS = 1000


class FittedSpace(Protocol):
    """What :class:`Smoothing` asks of a space."""

    def transform(self, X: Any, /) -> Floats:
        """Unit rows."""


class Smoothing(TransformerMixin, BaseEstimator):
    """Gallery smoothing and query expansion: pictures of one thing lend each other what they share.

    Every row of the gallery becomes the mean of itself and its nearest rows, and a query the mean of itself and the first rows
    that it finds. Both need no label and no training, and come after any space.

    Parameters
    ----------
    k : int, optional
        Neighbours of a row. Default: 10. Where the gallery has fewer other rows, all of them.
    alpha : float, optional
        Power of the weights. Default: 3.
    strength : float, optional
        Joint weight of a row's neighbours; the row itself weighs 1. 0: no smoothing and no expansion, the right choice
        where a query looks for the very same picture or thing and not for its kind. Default: twice the gallery's
        cohesive mass, which is 0 for a gallery without clusters.
    space : Space, optional
        A fitted space in which neighbours are found and weighed, while the rows given are averaged. For search with text:
        the plain rows of the pictures, averaged over neighbours of an adapted space, still lie in the space of the text.
    backend : {"exact", "faiss"}
        What finds the neighbours, as in :func:`isomix.search`. For an approximate index give it to ``fit``.

    Attributes
    ----------
    gallery_ : ndarray, shape (n, d)
        Smoothed unit rows in the dtype given to ``fit``; search these. With ``strength_`` 0, the rows as they were given.
    mass_ : float
        Cohesive mass: how many neighbours' worth of kin a row has, median over at most 5,000 rows.
    strength_ : float
    k_ : int
    alpha_ : float
    indices_ : ndarray of int, shape (n, min(k_ + 1, n - 1))
        Neighbours, nearest first; one more than is averaged, for leaving one out.
    cosines_ : ndarray, shape as ``indices_``
    thresholds_ : ndarray of float64, shape (n,)
        Above which a similarity with this row is more than background.
    recall_ : float
        Share of the true neighbours among those found, on at most 1,000 rows; 1 for ``backend="exact"``.

    Raises
    ------
    InputError
        On ``fit``: fewer than two rows, NaN, rows of zeros, a parameter out of range. On ``transform``: rows of another width.

    Notes
    -----
    For a row r with the threshold b (mean plus half a standard deviation of its similarities to all others) and its k nearest,
    z_j = (s_j - b) / (1 - b) cut to [1e-6, 1], and the smoothed row is the unit row of
    r + strength Σ z_j^alpha g_j / Σ z^alpha. The default strength is 2 M with the cohesive mass M of
    :func:`isomix.neighbors.kinship.cohesive_mass`. A query is averaged with its 5 nearest of the smoothed gallery in a joint
    weight of strength / 4, by its similarities to them *before* smoothing; the rows averaged are those before smoothing.

    Database-side augmentation: Arandjelović and Zisserman, *Three things everyone should know to improve object retrieval*,
    CVPR 2012. Weights by a power of the similarity: Radenović, Tolias and Chum, TPAMI 2019. Background, fixed joint weight
    and cohesive mass are this project's; ``docs/gallery.md`` has what they gain, and where they do not.

    The neighbour graph costs one product of the gallery with itself, by blocks: no n x n matrix exists. Beside the rows given,
    memory is two arrays of their size (unit rows and ``gallery_``), 12 to 16 bytes for each of the n (k + 1) neighbours and the
    blocks of :func:`isomix.search`. Not exactly reproduced by another order of the rows where similarities tie.

    Examples
    --------
    >>> import numpy as np
    >>> from isomix import Smoothing, search
    >>> rng = np.random.default_rng(0)
    >>> kinds = rng.normal(size=(20, 64))
    >>> G = np.repeat(kinds, 8, axis=0) + rng.normal(size=(160, 64))
    >>> Q = kinds + rng.normal(size=kinds.shape)
    >>> S = Smoothing().fit(G)
    >>> scores, rows = search(S.transform(Q), S.gallery_, k=8)
    >>> right = lambda rows: float((rows // 8 == np.arange(20)[:, None]).mean())
    >>> right(search(Q, G, k=8)[1]), right(rows)
    (0.9625, 0.99375)
    """

    def __init__(
        self,
        k: int | None = None,
        alpha: float | None = None,
        strength: float | None = None,
        space: FittedSpace | None = None,
        *,
        backend: str = "exact",
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.strength = strength
        self.space = space
        self.backend = backend

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, *, index: Any = None) -> Self:
        """Find the neighbours of every row of a gallery, and average.

        Parameters
        ----------
        X : array_like, shape (n, d)
            The gallery; rows are compared by cosine.
        y : ignored
        index : faiss.Index, optional
            With ``backend="faiss"``: an inner-product index over the unit rows (in ``space``, where there is one), in this
            order. Default: a flat one.

        Returns
        -------
        Smoothing
            This object.
        """
        self.k_ = NEIGHBORS if self.k is None else check_integer(self.k, "k", minimum=1)
        self.alpha_ = ALPHA if self.alpha is None else _at_least_zero(self.alpha, "alpha")
        given = np.asarray(X)
        rows = normalize_rows(check_fit_rows(self, X, "gallery", min_rows=2), "gallery")
        own = (
            rows
            if self.space is None
            else normalize_rows(as_matrix(self.space.transform(rows), "gallery in the space"))
        )
        self.k_ = min(self.k_, len(rows) - 1)
        self._rows, self._own = rows, own
        self.indices_, self.cosines_ = self._graph(index)
        self.background_ = Background.of([own])
        self.thresholds_ = self.background_.thresholds(own, within=True)
        some = evenly(len(own), MASS_ROWS)
        self.mass_ = median_mass(own, some, self.indices_[some], self.cosines_[some], self.thresholds_[some])
        self.strength_ = STRENGTH * self.mass_ if self.strength is None else _at_least_zero(self.strength, "strength")
        self.gallery_ = self.average(rows) if self.strength_ else given.copy()
        if given.dtype.kind == "f":
            self.gallery_ = self.gallery_.astype(given.dtype, copy=False)
        order = np.argsort(self.indices_[:, : self.k_], axis=None, kind="stable")
        self._holders = order, np.searchsorted(self.indices_[:, : self.k_].ravel()[order], np.arange(len(rows) + 1))
        return self

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None, **fit_params: Any) -> Floats:
        """``fit(X).gallery_``: the smoothed gallery, and not its rows as queries, each of which would find itself."""
        return self.fit(X, y, **fit_params).gallery_

    def _graph(self, index: Any) -> tuple[Indices, Floats]:
        wanted = min(self.k_ + 1, len(self._own) - 1)
        if index is not None and self.backend == "exact":
            raise InputError("index: got one with backend='exact', which makes none. Use Smoothing(backend='faiss').")
        target = self._own if index is None else index
        if index is not None and getattr(index, "ntotal", None) != len(self._own):
            raise InputError(
                f"index: expected a faiss index with the {len(self._own)} rows of the gallery, in their order."
            )
        cosines, found = search(self._own, target, wanted, exclude_self=True, normalize=False, backend=self.backend)
        self.recall_ = 1.0 if self.backend == "exact" else self._recall(found)
        if (found < 0).any():
            raise InputError(
                f"index: it found fewer than {wanted} neighbours for some rows. Let it search more of its lists "
                "(nprobe, efSearch), or use backend='exact'."
            )
        return found.astype(np.intp, copy=False), cosines.astype(self._own.dtype, copy=False)

    def _recall(self, found: NDArray[np.int64]) -> float:
        some = evenly(len(found), RECALL_ROWS)
        _, nearest = search(self._own[some], self._own, found.shape[1] + 1, normalize=False)
        hits = [np.isin(found[i], row[row != i][: found.shape[1]]).mean() for i, row in zip(some, nearest, strict=True)]
        return float(np.mean(hits))

    def average(self, X: ArrayLike) -> Floats:
        """Other rows of the same pictures, averaged over the same neighbours with the same weights.

        Parameters
        ----------
        X : array_like, shape (n, any)
            In the order of the gallery.

        Returns
        -------
        ndarray, shape (n, any)
            Unit rows; float64 if float64 came in, else float32.
        """
        check_fitted(self)
        given = as_matrix(X, "rows", keep_half=True)
        if len(given) != len(self._own):
            raise InputError(f"rows: got {len(given)}, expected the {len(self._own)} of the gallery.")
        rows = normalize_rows(np.asarray(given, working_dtype(given.dtype)), "rows")
        result = np.empty_like(rows)
        for part in blocks(len(rows), BLOCK_ROWS):
            near = rows[self.indices_[part, : self.k_]]
            result[part] = mean_with_neighbors(rows[part], near, self._weights(part))
        return result

    def _weights(self, rows: slice) -> Doubles:
        return neighbor_weights(self.cosines_[rows, : self.k_], self.thresholds_[rows], self.strength_, self.alpha_)

    def transform(self, X: ArrayLike) -> Floats:
        """Expanded queries, for a search in ``gallery_``.

        Parameters
        ----------
        X : array_like, shape (m, d)
            Queries in the space of the gallery. A picture of the gallery finds itself among its own neighbours; to measure
            all against all, see ``leave_one_out_scores``.

        Returns
        -------
        ndarray, shape (m, d)
            Unit rows; float64 if float64 came in, else float32.

        Raises
        ------
        InputError
            Another width, NaN, rows of zeros; or this smoothing has a ``space``.
        NotFittedError
        """
        given = check_rows(self, X, "queries")
        if self.space is not None:
            raise InputError(
                "queries of a smoothing with a space are texts, and texts are not expanded: search gallery_ with them as "
                "they are. For pictures, use Smoothing().fit(space.transform(gallery))."
            )
        rows = normalize_rows(as_matrix(given, "queries"), "queries")
        if not self.strength_:
            return rows
        k = min(QUERY_NEIGHBORS, len(self._own))
        _, found = search(rows, self.gallery_, k)
        return self._expand(rows, found.astype(np.intp), self.background_.thresholds(rows))

    def _expand(self, queries: Floats, found: Indices, thresholds: Doubles) -> Floats:
        result = np.empty_like(queries)
        strength = self.strength_ * QUERY_STRENGTH / STRENGTH
        for part in blocks(len(queries), BLOCK_ROWS):
            result[part] = expanded(queries[part], self._own[found[part]], thresholds[part], strength, self.alpha_)
        return result

    def leave_one_out_scores(self, rows: slice | ArrayLike, *, expand: bool = False) -> Floats:
        """Cosines of gallery rows as queries with all rows, smoothed as if the query were not there.

        The only right way to judge all against all: in ``gallery_`` itself, a row that has the query among its neighbours
        contains it. Equal to deleting row i, averaging the n - 1 others again and searching them with row i, for every i.
        Strength and thresholds stay those of the fit, numbers about the whole gallery like ``alpha``.

        Parameters
        ----------
        rows : slice or array_like of int, shape (m,)
            Which rows are queries.
        expand : bool
            Expand them, too, in the gallery without themselves.

        Returns
        -------
        ndarray, shape (m, n)
            ``-inf`` for the query itself.

        Notes
        -----
        Only the rows that have i among their k nearest change, k of them on average: their lists lose i and gain their next
        neighbour. Over all rows, O(n k² d) beside the product.
        """
        check_fitted(self)
        if self.space is not None:
            raise InputError(
                "leave_one_out_scores: this smoothing is for queries of another kind, so no query is in its gallery. "
                "Use Smoothing().fit(space.transform(gallery)) for pictures against pictures."
            )
        queries = np.arange(len(self._own))[rows if isinstance(rows, slice) else np.asarray(rows, np.intp)]
        Q = self._own[queries]
        smoothed = np.asarray(self.gallery_ if self.strength_ else self._own, Q.dtype)
        place, changed, mended = self._without(queries)

        def scores(X: Floats) -> Floats:
            found = X @ smoothed.T
            found[place, changed] = np.einsum("md,md->m", X[place], mended)
            found[np.arange(len(queries)), queries] = -np.inf
            return np.asarray(found)

        found = scores(Q)
        if not expand or not self.strength_:
            return found
        k = min(QUERY_NEIGHBORS, len(self._own) - 1)
        top = np.argpartition(-found, k - 1, axis=1)[:, :k]
        return scores(self._expand(Q, top, self.thresholds_[queries]))

    def _without(self, queries: Indices) -> tuple[Indices, Indices, Floats]:
        """Place of a query, row that had it among its neighbours, and what that row is without it."""
        width = self.indices_.shape[1]
        order, starts = self._holders
        if not self.strength_:
            empty = np.zeros(0, np.intp)
            return empty, empty, np.zeros((0, self._own.shape[1]), self._own.dtype)
        held = [order[starts[i] : starts[i + 1]] for i in queries]
        place = np.repeat(np.arange(len(queries)), [len(each) for each in held])
        row, position = np.divmod(np.concatenate(held), self.k_)
        # Without the neighbour at a position, the list is that of the others, and the next one moves up.
        others = np.array([[c for c in range(width) if c != p][: self.k_] for p in range(self.k_)], np.intp)
        result = self._own[row]
        if others.shape[1]:
            for part in blocks(len(row), BLOCK_ROWS):
                lists = others[position[part]]
                near = self._own[np.take_along_axis(self.indices_[row[part]], lists, 1)]
                cosines = np.take_along_axis(self.cosines_[row[part]], lists, 1)
                weights = neighbor_weights(cosines, self.thresholds_[row[part]], self.strength_, self.alpha_)
                result[part] = mean_with_neighbors(result[part], near, weights)
        return place, row, result


def _at_least_zero(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
        raise InputError(f"{name}: got {value!r}, expected a number of at least 0.")
    return float(value)

"""Search by cosine: exact top-k by blocked matrix products, of bounded memory, whose results do not depend on the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Floats, as_matrix, blocks, check_integer, working_dtype
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.neighbors.blocked import GalleryBlock, as_gallery, gallery_blocks, pair_scores, rounding_slack
from isomix.neighbors.indexed import search_faiss

__all__ = ["BACKENDS", "search", "search_exact"]

CANDIDATE_CHUNK = 1 << 18
Rows = NDArray[np.int64]


def search(
    queries: ArrayLike,
    gallery: ArrayLike | Iterator[ArrayLike],
    k: int = 10,
    *,
    exclude_self: bool = False,
    normalize: bool = True,
    backend: str = "exact",
    expand: int | None = None,
    **options: Any,
) -> tuple[Floats, Rows]:
    """Find the k nearest gallery rows of every query by cosine.

    Parameters
    ----------
    queries : array_like, shape (n, d)
        float16, float32 or float64.
    gallery : array_like, shape (m, d), or iterator of such arrays
        Memory-mapped arrays are read block by block; an iterator gives the gallery piece by piece, compared in the precision of
        the queries. With ``backend="faiss"`` also an inner-product index built elsewhere.
    k : int
        Neighbours per query.
    exclude_self : bool
        Query i is gallery row i and must not find itself.
    normalize : bool
        Compare by cosine. Without it, by plain inner product.
    backend : {"exact", "faiss"}
        ``exact`` is a blocked matrix product; ``faiss`` is ``IndexFlatIP``, or the index handed in.
    expand : int, optional
        Search twice: average each query with the ``expand`` nearest rows, and search with that (5 is a good number). For queries
        and a gallery of one modality in one space, by cosine. How much the rows weigh depends on how far the gallery consists of
        groups; among strangers nothing changes. It costs a second search and one of 100 rows. A gallery that is searched often is
        better smoothed once, with its queries: :class:`isomix.Smoothing`.
    **options
        Of the backend: ``query_block`` (1024) and ``gallery_block`` (8192) of ``exact``, which never change the result.

    Returns
    -------
    scores : ndarray, shape (n, k)
        Best first; float64 if float64 came in (``exact``), else float32. ``-inf`` where the gallery has fewer than k rows.
    rows : ndarray of int64, shape (n, k)
        Gallery row numbers, ``-1`` where there is none.

    Raises
    ------
    InputError
        Different widths, NaN, rows of zeros, k below 1, an unknown backend; ``expand`` with an iterator, an index, inner products
        or ``exclude_self``.
    MissingExtraError
        ``backend="faiss"`` without the extra ``faiss``.

    Notes
    -----
    ``exact`` scores the candidates in float64 and rounds once, so that equal rows get equal scores and the result depends neither
    on the block sizes nor on the BLAS library. Equal scores are ordered by the lower row number. Beside the inputs it holds
    n x k results, one block of the gallery as float32, and some five bytes per element of one block of scores: about 120 MB with the
    default blocks and d = 512, whatever the size of the gallery. ``faiss`` promises no order of equal scores.

    Examples
    --------
    >>> import numpy as np
    >>> gallery = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    >>> scores, rows = search(np.array([[0.0, 1.0]]), gallery, k=2)
    >>> scores
    array([[1. , 0.8]])
    >>> rows
    array([[2, 1]])
    """
    if backend not in BACKENDS:
        raise InputError(f"backend: got {backend!r}, expected one of {', '.join(sorted(BACKENDS))}.")
    k = check_integer(k, "k", minimum=1)
    if expand is not None:
        if exclude_self or not normalize:
            raise InputError(
                f"expand: got {expand!r} with {'exclude_self' if exclude_self else 'normalize=False'}. A row of the gallery would "
                "be averaged with itself (see Smoothing.leave_one_out_scores), and weights are by cosine: leave one of the two out."
            )
        from isomix.neighbors.expansion import expand_queries

        queries = expand_queries(queries, gallery, expand, partial(search, backend=backend, **options))
    return BACKENDS[backend](queries, gallery, k, exclude_self=exclude_self, normalize=normalize, **options)


def search_exact(
    queries: ArrayLike,
    gallery: ArrayLike | Iterator[ArrayLike],
    k: int,
    *,
    exclude_self: bool,
    normalize: bool,
    query_block: int = 1024,
    gallery_block: int = 8192,
) -> tuple[Floats, Rows]:
    """Backend ``"exact"`` of :func:`isomix.search`.

    A product in float32 finds the candidates of a block: everything that may, within its rounding error, beat the k-th best
    so far. Only those are scored in float64, and merged by (score, row number).

    Parameters
    ----------
    queries, gallery, k, exclude_self, normalize
        As in :func:`isomix.search`.
    query_block, gallery_block : int
        Sides of the largest block of scores; they change speed and memory, never the result.
    """
    query_block = check_integer(query_block, "query_block", minimum=1)
    gallery_block = check_integer(gallery_block, "gallery_block", minimum=1)
    Q = as_matrix(queries, "queries", nonzero_rows=normalize)
    G = gallery if isinstance(gallery, Iterator) else as_gallery(gallery)
    dtype = Q.dtype if isinstance(G, Iterator) else np.result_type(Q.dtype, working_dtype(G.dtype))
    Q = Q.astype(dtype, copy=False)
    unit = normalize_rows(Q, "queries") if normalize else Q
    best = _Best(Q.shape[0], k, dtype)
    for block in gallery_blocks(G, gallery_block, dtype, width=Q.shape[1], nonzero_rows=normalize):
        for part in blocks(Q.shape[0], query_block):
            scores = unit[part] @ block.rows.T
            if normalize:
                scores /= block.norms
            if exclude_self:
                _blank_diagonal(scores, part.start, block.start)
            i, j = best.candidates(scores, part, _slack(unit[part], block, normalize))
            for some in blocks(i.size, CANDIDATE_CHUNK):
                exact = pair_scores(Q[part], block.rows, i[some], j[some], normalize=normalize)
                best.merge(i[some] + part.start, j[some] + block.start, exact)
    return best.scores, best.rows


def _slack(queries: Floats, block: GalleryBlock, normalize: bool) -> NDArray[np.float64]:
    """Rounding error of every query's scores in this block, shape (q,)."""
    slack = np.full(len(queries), rounding_slack(queries.shape[1], queries.dtype))
    if not normalize:
        slack *= np.linalg.norm(queries.astype(np.float64), axis=1) * float(block.norms.max())
    return slack


def _blank_diagonal(scores: Floats, query_start: int, gallery_start: int) -> None:
    own = np.arange(query_start, query_start + scores.shape[0]) - gallery_start
    inside = (own >= 0) & (own < scores.shape[1])
    scores[np.flatnonzero(inside), own[inside]] = -np.inf


class _Best:
    """The k best rows of every query so far, by descending score, then ascending row number."""

    def __init__(self, n: int, k: int, dtype: np.dtype[Any]) -> None:
        self.k = k
        self.scores: Floats = np.full((n, k), -np.inf, dtype)
        self.rows: Rows = np.full((n, k), -1, np.int64)

    def candidates(
        self, scores: Floats, part: slice, slack: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions in this block of scores that may belong to the k best of their query."""
        least = (self.scores[part, -1] - slack).astype(scores.dtype)
        above = scores > least[:, None]
        width = scores.shape[1]
        if width > self.k and np.count_nonzero(above) > 4 * self.k * scores.shape[0]:
            kth = np.partition(scores, width - self.k, axis=1)[:, width - self.k]
            above &= scores > (kth - 2.0 * slack).astype(scores.dtype)[:, None]
        i, j = np.divmod(np.flatnonzero(above), width)
        return i, j

    def merge(self, i: NDArray[np.intp], j: NDArray[np.intp], scores: NDArray[np.float64]) -> None:
        """Let the rows ``j`` compete for the places of their queries ``i``."""
        touched = np.unique(i)
        query = np.concatenate([np.repeat(touched, self.k), i])
        row = np.concatenate([self.rows[touched].ravel(), j])
        score = np.concatenate([self.scores[touched].ravel(), scores.astype(self.scores.dtype)])
        order = np.lexsort((row, -score, query))
        first = np.searchsorted(query[order], touched)
        keep = order[first[:, None] + np.arange(self.k)]
        self.scores[touched], self.rows[touched] = score[keep], row[keep]


BACKENDS: dict[str, Callable[..., tuple[Floats, Rows]]] = {"exact": search_exact, "faiss": search_faiss}
"""Backend name to function; all take ``(queries, gallery, k, *, exclude_self, normalize, **options)``."""

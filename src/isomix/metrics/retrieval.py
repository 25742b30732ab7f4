"""Retrieval metrics of embeddings with labels, or of scores with relevance: blocked, and exact under ties and negative scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Floats, as_matrix, blocks, check_integer
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.metrics.bootstrap import bootstrap_intervals
from isomix.metrics.ranking import Ranking, rank_relevant

if TYPE_CHECKING:
    from isomix.neighbors import Smoothing

__all__ = ["retrieval_metrics", "scores_metrics"]

SCORE_BLOCK_BYTES = 1 << 24
Labels = NDArray[Any]
Members = NDArray[np.intp]


def retrieval_metrics(
    embeddings: ArrayLike,
    labels: ArrayLike,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    *,
    remove_self: bool = False,
    smoothing: Smoothing | None = None,
    expand: bool = False,
    ks: Sequence[int] = (1, 5, 10),
    return_per_query: bool = False,
    confidence: float | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score retrieval by cosine: gallery rows with the query's label are relevant.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
        Queries; float16, float32 or float64.
    labels : array_like, shape (n,)
        Class names, numbers, or for captions the image they describe.
    gallery : array_like, shape (m, d), optional
        Default: all against all, every query removed from its own gallery.
    gallery_labels : array_like, shape (m,), optional
        Needed with ``gallery``.
    remove_self : bool
        The i-th query is the i-th gallery row in another form (turned into the other modality, say): no query finds itself.
    smoothing : Smoothing, optional
        Smooth the gallery first; it is fitted here, on a copy. All against all, every query searches the others as they are
        smoothed without it (:meth:`isomix.Smoothing.leave_one_out_scores`): a query never smooths the rows it is judged by.
    expand : bool
        With ``smoothing``: expand the queries, too.
    ks : sequence of int
        Cutoffs of precision@k and recall@k.
    return_per_query : bool
        Add ``"per_query"``: metric name to values of shape (n,), NaN for skipped queries.
    confidence : float, optional
        Add ``"intervals"``: metric name to (lower, upper), a bootstrap over queries, e.g. at 0.95.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        The figures below, means over queries in [0, 1], and ``n_queries`` (scored) and ``n_skipped`` (without any relevant row
        in the gallery, in no mean).

        =============================  =====================================================================================
        mean_average_precision         average precision over the whole gallery; equal scores are one threshold
        mean_average_precision_at_r    AP@R: precision at the relevant ranks among the first R, summed, divided by R
        r_precision                    precision among the first R
        precision_at_<k>               relevant among the first k, divided by k
        recall_at_<k>                  1 if any of the first k is relevant (hit rate, as the retrieval literature uses it)
        mean_reciprocal_rank           1 / rank of the first relevant row
        ndcg                           binary gain, discount 1 / log2(1 + rank), over the whole gallery
        =============================  =====================================================================================

        R is the number of relevant rows in the gallery, the query itself not counted.

    Raises
    ------
    InputError
        Unusable arrays, labels that do not match them, or no query with a relevant row; ``smoothing`` with ``remove_self``,
        where a query's own row would smooth the others.

    Notes
    -----
    Names are those of pytorch-metric-learning; AP@R is defined in Musgrave et al. (2020), *A metric learning reality check*,
    eq. 1. ``mean_average_precision`` is scikit-learn's ``average_precision_score``: independent of the order of equal scores.
    The rank-based figures order equal scores by gallery row number. Scores are products of unit rows in float32 (float64 if
    float64 came in), so that ties are ties of these rounded products.

    Beside copies of the inputs, memory is bounded by two blocks of scores of 16 MB and the ranks of their relevant rows.

    Examples
    --------
    >>> import numpy as np
    >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.9]])
    >>> figures = retrieval_metrics(embeddings, ["cat", "cat", "dog", "dog"], ks=(1,))
    >>> figures["mean_average_precision"], figures["recall_at_1"], figures["n_queries"]
    (1.0, 1.0, 4)
    """
    if (gallery is None) != (gallery_labels is None):
        raise InputError(
            "gallery and gallery_labels: got one without the other. Give both, or neither to search all against all."
        )
    queries = normalize_rows(as_matrix(embeddings, "embeddings", min_rows=1), "embeddings")
    targets = queries if gallery is None else _unit_gallery(gallery, queries.shape[1])
    own = gallery is None or remove_self
    if own and len(queries) != len(targets):
        raise InputError(
            f"remove_self: got {len(queries)} queries and {len(targets)} gallery rows, expected the same rows."
        )
    smoothed = _fit_smoothing(smoothing, targets, expand=expand, remove_self=remove_self and gallery is not None)
    classes, query_classes, members = _group(
        _check_labels(labels, queries.shape[0], "labels"),
        None if gallery_labels is None else _check_labels(gallery_labels, targets.shape[0], "gallery_labels"),
    )
    dtype = np.result_type(queries, targets)
    if smoothed is not None and gallery is not None:
        queries, targets = smoothed.transform(queries) if expand else queries, smoothed.gallery_
    queries, targets = queries.astype(dtype, copy=False), targets.astype(dtype, copy=False)

    def relevant(query: int) -> Members:
        rows = members[query_classes[query]]
        return rows[rows != query] if own else rows

    def score_blocks() -> Iterator[tuple[int, Floats]]:
        for part in blocks(queries.shape[0], _block_rows(targets.shape[0], dtype.itemsize)):
            if smoothed is not None and gallery is None:
                yield part.start, smoothed.leave_one_out_scores(part, expand=expand)
                continue
            scores = queries[part] @ targets.T
            if own:
                scores[np.arange(part.stop - part.start), np.arange(part.start, part.stop)] = -np.inf
            yield part.start, scores

    collector = _Collector(queries.shape[0], targets.shape[0] - int(own), ks)
    collector.run(score_blocks(), relevant)
    if np.isnan(collector.values).all():
        raise InputError(
            f"no query has a relevant row in the gallery: {len(classes)} classes, and none of the {queries.shape[0]} query labels "
            f"occurs {'twice' if own else 'in gallery_labels'}. Check that the labels mean the same on both sides."
        )
    return collector.summary(return_per_query, confidence, n_resamples, seed)


def scores_metrics(
    scores: ArrayLike,
    relevant: ArrayLike,
    *,
    ks: Sequence[int] = (1, 5, 10),
    return_per_query: bool = False,
    confidence: float | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score a matrix of similarities made elsewhere; definitions and results are those of :func:`isomix.retrieval_metrics`.

    Parameters
    ----------
    scores : array_like, shape (n, m)
        Larger is more similar; negative scores are scores like any other.
    relevant : array_like of bool, shape (n, m)
        Which gallery items are relevant to which query.
    ks, return_per_query, confidence, n_resamples, seed
        As in :func:`isomix.retrieval_metrics`.

    Raises
    ------
    InputError
        Different shapes, NaN, or no relevant item at all.

    Examples
    --------
    >>> import numpy as np
    >>> figures = scores_metrics(np.array([[-0.2, -0.1, -0.3]]), np.array([[True, False, True]]), ks=(1,))
    >>> round(figures["mean_average_precision"], 3)
    0.583
    """
    S = as_matrix(scores, "scores", min_rows=1)
    mask = np.asarray(relevant)
    if mask.dtype != np.bool_ or mask.shape != S.shape:
        raise InputError(f"relevant: got {mask.dtype} of shape {mask.shape}, expected bool of shape {S.shape}.")
    if not mask.any():
        raise InputError("relevant: no query has a relevant item, so there is nothing to score.")
    collector = _Collector(S.shape[0], S.shape[1], ks)
    score_blocks = ((part.start, S[part]) for part in blocks(S.shape[0], _block_rows(S.shape[1], S.itemsize)))
    collector.run(score_blocks, lambda query: np.flatnonzero(mask[query]))
    return collector.summary(return_per_query, confidence, n_resamples, seed)


def _fit_smoothing(
    smoothing: Smoothing | None, gallery: Floats, *, expand: bool, remove_self: bool
) -> Smoothing | None:
    if smoothing is None:
        if expand:
            raise InputError("expand: got True without smoothing, expected smoothing=isomix.Smoothing() beside it.")
        return None
    if remove_self:
        raise InputError(
            "smoothing: got it with remove_self, but the gallery row of a query would smooth the others. Leave out gallery and "
            "remove_self to search all against all, or delete the queries from the gallery."
        )
    from sklearn.base import clone

    fitted: Smoothing = clone(smoothing).fit(gallery)
    return fitted


def _unit_gallery(gallery: ArrayLike, width: int) -> Floats:
    rows = as_matrix(gallery, "gallery", width=width, width_of="that of the queries", min_rows=1)
    return normalize_rows(rows, "gallery")


def _block_rows(n_gallery: int, itemsize: int) -> int:
    return max(1, SCORE_BLOCK_BYTES // (itemsize * n_gallery))


def _check_labels(labels: ArrayLike, n: int, name: str) -> Labels:
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InputError(f"{name}: got shape {array.shape}, expected ({n},), one label for every embedding.")
    missing = [
        i for i, label in enumerate(array.tolist()) if label is None or label != label
    ]  # NaN differs from itself
    if missing:
        raise InputError(
            f"{name}: row {missing[0]} has no label ({len(missing)} such rows). Drop those rows or label them."
        )
    return array


def _group(labels: Labels, gallery_labels: Labels | None) -> tuple[Labels, NDArray[np.intp], list[Members]]:
    """Classes, the class of every query, and the gallery rows of every class."""
    n = len(labels)
    both = labels if gallery_labels is None else np.concatenate([labels, gallery_labels])
    if gallery_labels is not None and (labels.dtype.kind in "OUST") != (gallery_labels.dtype.kind in "OUST"):
        raise InputError(
            f"labels are {labels.dtype} and gallery_labels are {gallery_labels.dtype}; expected both to be names or both numbers."
        )
    try:
        classes, inverse = np.unique(both, return_inverse=True)
    except TypeError as error:
        raise InputError(
            f"labels: cannot be compared with one another ({error}). Use one type for all of them."
        ) from error
    in_gallery = inverse if gallery_labels is None else inverse[n:]
    order = np.argsort(in_gallery, kind="stable")
    counts = np.bincount(in_gallery, minlength=len(classes))
    return classes, inverse[:n], np.split(order, np.cumsum(counts)[:-1])


class _Collector:
    """Figures of every query, filled block by block."""

    def __init__(self, n_queries: int, n_gallery: int, ks: Sequence[int]) -> None:
        self.ks = [check_integer(k, "ks", minimum=1) for k in ks]
        self.names = [
            "mean_average_precision",
            "mean_average_precision_at_r",
            "r_precision",
            "mean_reciprocal_rank",
            "ndcg",
            *(f"precision_at_{k}" for k in self.ks),
            *(f"recall_at_{k}" for k in self.ks),
        ]
        self.values = np.full((n_queries, len(self.names)), np.nan)
        self._discount = 1.0 / np.log2(np.arange(2, n_gallery + 2))
        self._ideal = np.cumsum(self._discount)

    def run(self, score_blocks: Iterator[tuple[int, Floats]], relevant: Callable[[int], Members]) -> None:
        """Rank every query; ``relevant`` maps a query number to the numbers of its relevant items."""
        with ThreadPoolExecutor(1) as pool:  # the next product is computed while this one is ranked
            waiting = pool.submit(next, score_blocks, None)
            while (block := waiting.result()) is not None:
                waiting = pool.submit(next, score_blocks, None)
                start, scores = block
                items = [relevant(query) for query in range(start, start + len(scores))]
                scored = [i for i, some in enumerate(items) if len(some)]
                if scored:
                    rankings = [rank_relevant(scores[i], items[i]) for i in scored]
                    self.values[np.add(scored, start)] = self._figures(rankings)

    def _figures(self, rankings: list[Ranking]) -> NDArray[np.float64]:
        sizes = np.array([len(ranking.ranks) for ranking in rankings])
        starts = np.cumsum(sizes) - sizes
        ranks = np.concatenate([ranking.ranks for ranking in rankings])
        precisions = np.concatenate([ranking.precisions for ranking in rankings])
        within = ranks <= np.repeat(sizes, sizes)
        place = np.arange(1, len(ranks) + 1) - np.repeat(starts, sizes)

        def total(values: NDArray[Any]) -> NDArray[np.float64]:
            return np.add.reduceat(values, starts, dtype=np.float64)

        columns = [
            total(precisions) / sizes,
            total(within * place / ranks) / sizes,
            total(within) / sizes,
            1.0 / ranks[starts],
            total(self._discount[ranks - 1]) / self._ideal[sizes - 1],
            *(total(ranks <= k) / k for k in self.ks),
            *(ranks[starts] <= k for k in self.ks),
        ]
        return np.stack(columns, axis=1)

    def summary(self, per_query: bool, confidence: float | None, n_resamples: int, seed: int) -> dict[str, Any]:
        values = self.values[~np.isnan(self.values[:, 0])]
        result: dict[str, Any] = dict(zip(self.names, values.mean(axis=0).tolist()))
        result |= {"n_queries": len(values), "n_skipped": len(self.values) - len(values)}
        if confidence is not None:
            intervals = bootstrap_intervals(
                lambda weights: weights @ values / weights.sum(),
                len(values),
                confidence=confidence,
                n_resamples=n_resamples,
                seed=seed,
            )
            result["intervals"] = {name: (low, high) for name, (low, high) in zip(self.names, intervals.tolist())}
        if per_query:
            result["per_query"] = dict(zip(self.names, self.values.T.copy()))
        return result

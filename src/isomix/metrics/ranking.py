"""Where the relevant items of a query stand among all its scores, without sorting all of them; average precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]

__all__ = ["Ranking", "average_precisions", "rank_relevant"]


class Ranking(NamedTuple):
    """Places of the R relevant items of one query, best first.

    Attributes
    ----------
    ranks : ndarray of int, shape (R,)
        Places from 1 on; equal scores are ordered by item number.
    n_relevant_from, n_from : ndarray of int, shape (R,)
        How many relevant items, and how many items, score at least as much as this one: equal scores are one threshold, so
        their order does not matter.
    """

    ranks: Integers
    n_relevant_from: Integers
    n_from: Integers

    @property
    def precisions(self) -> NDArray[np.float64]:
        """Precision from the best item down to each relevant one, shape (R,); their mean is the average precision."""
        return np.asarray(self.n_relevant_from / self.n_from, np.float64)


def average_precisions(scores: NDArray[np.floating[Any]], relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of every query: the mean over its relevant items of the precision from the best item down to them.

    The one definition of this project, in metrics and in the choice of bands alike. Equal scores are one threshold, so that
    their order does not matter; scikit-learn's ``average_precision_score`` is the same. Revisited Oxford and Paris define
    another one, see :func:`isomix.metrics.revisited_average_precision`.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (q, n)
        Larger is better. Finite, or ``-inf`` for an item that does not take part, relevant or not.
    relevant : ndarray of bool, shape (q, n)

    Returns
    -------
    ndarray of float64, shape (q,)
        NaN for a query without a relevant item.

    Examples
    --------
    >>> import numpy as np
    >>> average_precisions(np.array([[0.9, 0.5, 0.5], [0.1, 0.2, -np.inf]]), np.array([[1, 0, 1], [0, 0, 1]], bool))
    array([0.83333333,        nan])
    """
    values = np.full(len(scores), np.nan)
    for query, (row, items) in enumerate(zip(scores, relevant & (scores > -np.inf), strict=True)):
        places = np.flatnonzero(items)
        if places.size:
            values[query] = rank_relevant(row, places).precisions.mean()
    return values


def rank_relevant(scores: NDArray[np.floating[Any]], relevant: NDArray[np.intp]) -> Ranking:
    """Rank the relevant items of one query.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (n,)
        Larger is better. Finite, or ``-inf`` for an item that does not take part.
    relevant : ndarray of int, shape (R,)
        Numbers of the relevant items, R ≥ 1, without repetition, with finite scores.

    Returns
    -------
    Ranking

    Notes
    -----
    Scores fall into bins by a monotone map. Items of a bin without a relevant one are only counted; the few others are sorted.
    The result is exact for any scores: the bins only decide how many have to be sorted.

    Examples
    --------
    >>> import numpy as np
    >>> rank_relevant(np.array([0.1, 0.9, 0.5, 0.5]), np.array([1, 3]))
    Ranking(ranks=array([1, 3]), n_relevant_from=array([1, 2]), n_from=array([1, 3]))
    """
    own = np.sort(scores[relevant])[::-1]
    n_bins = 1 << min(16, max(12, (64 * len(own) - 1).bit_length()))
    bins = _bins(scores, float(own[-1]), float(scores.max()), n_bins)
    own_bins = np.sort(bins[relevant])[::-1]
    shared = np.zeros(n_bins, np.bool_)
    shared[own_bins] = True
    counts = np.bincount(bins, minlength=n_bins)
    counts[shared] = 0
    near = np.flatnonzero(shared[bins])
    up_to = np.cumsum(counts)
    higher = up_to[-1] - up_to[own_bins]  # counted items above each relevant one

    candidates = scores[near]
    ordered = np.sort(candidates)
    below = np.searchsorted(ordered, own, side="left")
    from_here = higher + (len(near) - below)
    if (np.searchsorted(ordered, own, side="right") - below).max() == 1:  # no score equals a relevant one
        return Ranking(from_here, np.arange(1, len(own) + 1), from_here)
    order = np.argsort(-candidates, kind="stable")
    is_relevant = np.zeros(len(scores), np.bool_)
    is_relevant[relevant] = True
    places = np.flatnonzero(is_relevant[near[order]])
    return Ranking(higher + places + 1, np.searchsorted(-own, -own, side="right"), from_here)


def _bins(scores: NDArray[np.floating[Any]], low: float, high: float, n_bins: int) -> NDArray[np.intp]:
    """A bin in [0, n_bins) for every score, monotone in it; scores below ``low`` may share bin 0."""
    # The floor of the span keeps the rounding error of a place below one bin, and all places finite.
    span = max(high - low, 1e-2 * max(abs(low), abs(high)), 1e-30)
    scale = (n_bins - 4) / span
    place = scores * scores.dtype.type(scale)
    place -= scores.dtype.type(low * scale - 1.0)
    return np.maximum(place, 0, out=place).astype(np.intp)

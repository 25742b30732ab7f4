"""Which shots the weights are chosen by: the shots of the fit, each left out in turn, or validation pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isomix._arrays import Doubles, Floats, Indices
from isomix.fewshot.moments import ClassMoments

__all__ = ["SAMPLED_ROWS", "HeldOut", "leave_one_out", "validation_shots"]

SAMPLED_ROWS = 512


@dataclass(frozen=True)
class HeldOut:
    """Shots that the weights are chosen by.

    Attributes
    ----------
    X : ndarray, shape (n, d)
        Unit rows.
    y : ndarray, shape (n,)
        Class numbers.
    weights : ndarray, shape (n,)
    source : {"leave-one-out", "few-validation", "validation"}
        ``"leave-one-out"``: the rows are shots of the fit, and each must be judged by the classifier without it.
    rows : ndarray, shape (n,)
        Their numbers among all shots; empty for validation shots, like the next three.
    X_all, y_all, weights_all : ndarray
        Every shot, of which ``X`` may be a part.
    """

    X: Floats
    y: Indices
    weights: Doubles
    source: str
    rows: Indices
    X_all: Floats
    y_all: Indices
    weights_all: Doubles

    @property
    def from_shots(self) -> bool:
        """Whether the rows have to be left out."""
        return self.source == "leave-one-out"


def leave_one_out(
    X: Floats, y: Indices, weights: Doubles, moments: ClassMoments, max_rows: int | None = None
) -> HeldOut | None:
    """Shots that can be left out, because their class has others; None if there are none.

    At most ``max_rows`` of them, taken in turn from the classes: what is estimated from them, one number for each candidate
    weight, has a standard error of a few percent there at most, and the cost stays that of a few fits. Default: 512 (1 + 6 / K)
    at K shots a class, because the more shots there are, the less a wrong weight costs.
    """
    rows = np.flatnonzero(moments.counts[y] - weights > 1e-9 * moments.counts[y])
    if not rows.size or moments.degrees_of_freedom <= 1:
        return None
    if max_rows is None:
        max_rows = int(SAMPLED_ROWS * (1.0 + 6.0 * np.count_nonzero(moments.counts) / moments.total))
    if rows.size > max_rows:
        order = np.argsort(y[rows], kind="stable")
        ranked = y[rows][order]
        # In each round the classes come in a scattered order, so that a cut round is not the first half of the alphabet.
        scattered = (ranked * 2654435761) % 4294967296
        rows = np.sort(rows[order[np.lexsort((scattered, _turns(ranked)))][:max_rows]])
    return HeldOut(X[rows], y[rows], weights[rows], "leave-one-out", rows, X, y, weights)


def validation_shots(X: Floats, y: Indices, moments: ClassMoments, source: str) -> HeldOut:
    """Validation pictures; for ``"few-validation"`` the first min(K, 4) of each class, K the largest number of its shots."""
    if source == "few-validation":
        limit = int(min(max(moments.counts.max(), 1.0), 4.0))
        order = np.argsort(y, kind="stable")
        rows = np.sort(order[_turns(y[order]) < limit])
        X, y = X[rows], y[rows]
    return HeldOut(X, y, np.ones(len(y)), source, y[:0], X[:0], y[:0], np.zeros(0))


def _turns(labels: Indices) -> Indices:
    """How many equal labels stand before each of the sorted ``labels``."""
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    return np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))

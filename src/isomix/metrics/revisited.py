"""The revisited Oxford and Paris protocol: trapezoidal average precision with junk, Easy, Medium and Hard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import as_matrix, check_integer
from isomix.errors import InputError

__all__ = ["DIFFICULTIES", "revisited_average_precision", "revisited_metrics"]

DIFFICULTIES = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
"""Difficulty to the groups that count as relevant and those that are removed from the ranking."""

Rows = NDArray[np.integer[Any]]


def revisited_average_precision(ranking: ArrayLike, ok: ArrayLike, junk: ArrayLike = ()) -> float:
    """Average precision of one query as the Oxford buildings benchmarks define it.

    Parameters
    ----------
    ranking : array_like of int, shape (n,)
        Database rows, best first.
    ok : array_like of int, shape (R,)
        Relevant rows, R ≥ 1. One that the ranking leaves out counts as never found.
    junk : array_like of int
        Rows taken out of the ranking before anything is counted.

    Returns
    -------
    float
        Area under the precision-recall curve by the trapezoidal rule. It differs from
        :func:`sklearn.metrics.average_precision_score`, which takes steps.

    Raises
    ------
    InputError
        No relevant row, a row both relevant and junk, or a row twice in the ranking.

    Notes
    -----
    Philbin et al. (2007); Radenović et al. (2018), *Revisiting Oxford and Paris*, section 3.3. With the j-th relevant row (from
    0) at the place r_j (from 0, junk removed): AP = 1/R Σ_j ½ (j / r_j + (j + 1) / (r_j + 1)), where j / r_j = 1 for r_j = 0.

    Examples
    --------
    >>> revisited_average_precision([3, 0, 4, 1, 2], ok=[0, 2], junk=[3])
    0.7083333333333333
    """
    places, n_ok = _places(_rows(ranking, "ranking"), _rows(ok, "ok"), _rows(junk, "junk"))
    before = np.ones(len(places))
    later = places > 0
    found = np.arange(len(places))
    before[later] = found[later] / places[later]
    return float((before + (found + 1) / (places + 1)).sum() / (2.0 * n_ok))


def revisited_metrics(
    scores: ArrayLike, ground_truth: Sequence[Mapping[str, ArrayLike]], *, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, dict[str, float | int]]:
    """Score a retrieval run on revisited Oxford or Paris.

    Parameters
    ----------
    scores : array_like, shape (n_queries, n_database)
        Larger is more similar; equal scores are ordered by row number.
    ground_truth : sequence of mappings, one a query
        With the database rows of ``"easy"``, ``"hard"`` and ``"junk"``, as in the ``gnd`` lists of the benchmark.
    ks : sequence of int
        Cutoffs of the mean precision at k.

    Returns
    -------
    dict
        ``"easy"``, ``"medium"`` and ``"hard"``, each with ``mean_average_precision``, ``precision_at_<k>``, ``n_queries`` and
        ``n_skipped`` (queries without a relevant row of that difficulty, in no mean). Precision at k divides by the place of
        the last relevant row where that is smaller than k, as the official evaluation does.

    Raises
    ------
    InputError
        Shapes or groups that do not fit, or a difficulty without any relevant row.
    """
    S = as_matrix(scores, "scores", min_rows=1)
    if len(ground_truth) != len(S):
        raise InputError(
            f"ground_truth: got {len(ground_truth)} queries, expected {len(S)}, one for every row of scores."
        )
    cutoffs = [check_integer(k, "ks", minimum=1) for k in ks]
    groups = [
        {name: _group(truth, name, i, S.shape[1]) for name in ("easy", "hard", "junk")}
        for i, truth in enumerate(ground_truth)
    ]
    rankings = [np.argsort(-row, kind="stable") for row in S]
    result: dict[str, dict[str, float | int]] = {}
    for difficulty, (ok_names, junk_names) in DIFFICULTIES.items():
        figures = []
        for ranking, group in zip(rankings, groups):
            ok, junk = _join(group[name] for name in ok_names), _join(group[name] for name in junk_names)
            if len(ok):
                places, _ = _places(ranking, ok, junk)
                precision = [np.count_nonzero(places < k) / min(k, places[-1] + 1) for k in cutoffs]
                figures.append([revisited_average_precision(ranking, ok, junk), *precision])
        if not figures:
            raise InputError(f"ground_truth: no query has a relevant row for {difficulty} ({' or '.join(ok_names)}).")
        names = ["mean_average_precision", *(f"precision_at_{k}" for k in cutoffs)]
        result[difficulty] = {
            **dict(zip(names, np.mean(figures, axis=0).tolist())),
            "n_queries": len(figures),
            "n_skipped": len(rankings) - len(figures),
        }
    return result


def _places(ranking: Rows, ok: Rows, junk: Rows) -> tuple[Rows, int]:
    """Places of the relevant rows, from 0, after junk has been removed; and how many relevant rows there are."""
    both = np.intersect1d(ok, junk)
    if not len(ok) or len(both):
        what = f"row {both[0]} is both relevant and junk" if len(both) else "there is no relevant row"
        raise InputError(f"ok and junk: {what}. Skip such a query, or mend its ground truth.")
    if len(np.unique(ranking)) != len(ranking):
        raise InputError("ranking: a row stands in it twice; expected every database row once, best first.")
    relevant = np.isin(ranking, ok)
    return np.flatnonzero(relevant[relevant | ~np.isin(ranking, junk)]), len(np.unique(ok))


def _rows(values: ArrayLike, name: str) -> Rows:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{name}: got {array.dtype} of shape {array.shape}, expected a list of row numbers.")
    return array.astype(np.int64)


def _group(truth: Mapping[str, ArrayLike], name: str, query: int, n: int) -> Rows:
    if name not in truth:
        raise InputError(
            f"ground_truth: query {query} has no {name!r}; expected easy, hard and junk (empty lists are fine)."
        )
    rows = _rows(truth[name], f"ground_truth[{query}][{name!r}]")
    if len(rows) and not 0 <= rows.min() <= rows.max() < n:
        raise InputError(
            f"ground_truth[{query}][{name!r}]: rows {rows.min()} to {rows.max()}, but the scores have {n} columns."
        )
    return rows


def _join(parts: Iterable[Rows]) -> Rows:
    return np.concatenate(list(parts))

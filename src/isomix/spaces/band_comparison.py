"""Every band of a grid scored on a sample in one pass, and whether the best of them replaces the one that holds without it.

The similarity matrix of the sample is extended direction by direction, so a grid costs little more than a few bands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, Floats, blocks
from isomix.metrics import average_precisions
from isomix.spaces.bands import Band

__all__ = [
    "MEAN_AVERAGE_PRECISION",
    "NEIGHBOR_CONTRAST",
    "WHOLE",
    "Comparison",
    "band_grid",
    "by_contrast",
    "by_labels",
    "by_relevance",
    "compare",
    "decide",
    "neighbor_contrasts",
    "soft_average_precisions",
]

WHOLE = Band(0, 0)
NEIGHBORS = 5
QUERY_BLOCK = 128
MEAN_AVERAGE_PRECISION, NEIGHBOR_CONTRAST = "mean average precision", "neighbor contrast"
Criterion = Callable[[Floats, slice], Floats]
"""Similarities of a block of queries, and which queries they are, to a score of each."""


class Comparison(NamedTuple):
    """Bands scored on a sample, and whether the best of them replaces the one that holds without it.

    Attributes
    ----------
    band : Band
        ``best`` if ``strong``, else ``reference``.
    reference : Band
    best : Band
        Of the bands compared; of equal ones, the one that cuts least.
    criterion : {"mean average precision", "neighbor contrast"}
    scores : dict of Band to float
        Mean score of every band.
    gain : float
        Score of ``best`` minus that of ``reference``.
    standard_error : float
        Of ``gain``, from the paired differences over the queries.
    strong : bool
        Whether the gain is as many standard errors as it takes.
    """

    band: Band
    reference: Band
    best: Band
    criterion: str
    scores: dict[Band, float]
    gain: float
    standard_error: float
    strong: bool


def band_grid(rank: int, prior: Band | None = None) -> list[Band]:
    """The bands that are compared.

    k_top in steps that grow from 1 to 5/8 of the rank, k_bottom in sixteenths to a quarter and in eighths to 5/8, and the
    prior's own two numbers.

    Examples
    --------
    >>> band_grid(8)[:4]
    [Band(k_top=0, k_bottom=0), Band(k_top=0, k_bottom=1), Band(k_top=0, k_bottom=2), Band(k_top=0, k_bottom=3)]
    """
    fine = [2**power for power in range(rank.bit_length()) if 2**power < rank / 16]
    tops = {0, *fine, *(round(rank * sixteenth / 16) for sixteenth in range(1, 11))}
    bottoms = {round(rank * sixteenth / 16) for sixteenth in (0, 1, 2, 3, 4, 6, 8, 10)}
    if prior is not None:
        tops, bottoms = tops | {prior.k_top}, bottoms | {prior.k_bottom}
    fewest = max(1, rank // 16)
    return [Band(top, bottom) for top in sorted(tops) for bottom in sorted(bottoms) if rank - top - bottom >= fewest]


def compare(
    coordinates: Floats, gram: Doubles, bands: Sequence[Band], n_queries: int, criterion: Criterion
) -> dict[Band, Doubles]:
    """The score of every query for every band.

    Parameters
    ----------
    coordinates : ndarray, shape (m, r)
        Coordinates of the rows, queries first: an adapted vector is F[:, band] c[band].
    gram : ndarray of float64, shape (r, r)
        FᵀF.
    bands : sequence of Band
    n_queries : int
    criterion : callable
        From :func:`by_labels`, for one.

    Returns
    -------
    dict of Band to ndarray of float64, shape (n_queries,)
        NaN for a query without a score.
    """
    per_query: dict[Band, list[Floats]] = {band: [] for band in bands}
    for queries in blocks(n_queries, QUERY_BLOCK):
        for band, similarities in _similarities(coordinates, gram, queries, bands):
            own = np.arange(queries.start, queries.stop)
            similarities[own - queries.start, own] = -np.inf
            per_query[band].append(criterion(similarities, queries))
    return {band: np.concatenate(parts).astype(np.float64) for band, parts in per_query.items()}


def by_labels(labels: NDArray[Any]) -> Criterion:
    """Average precision of rows with the query's label."""
    return lambda similarities, queries: average_precisions(similarities, labels[queries, None] == labels)


def by_relevance(relevance: Floats) -> Criterion:
    """Average precision with graded relevance, (n_queries, m)."""
    return lambda similarities, queries: soft_average_precisions(similarities, relevance[queries])


def by_contrast(similarities: Floats, queries: slice) -> Floats:
    """How far the nearest neighbours stand out."""
    return neighbor_contrasts(similarities)


def decide(
    values: Mapping[Band, Doubles],
    reference: Band = WHOLE,
    errors: float = 2.0,
    criterion: str = MEAN_AVERAGE_PRECISION,
) -> Comparison:
    """The best band if it beats ``reference`` by as many standard errors, otherwise ``reference``.

    Parameters
    ----------
    values : mapping of Band to ndarray, shape (q,)
        Score of every query, NaN where it has none; must hold ``reference``.
    reference : Band
        The prior, or the whole spectrum.
    errors : float
    criterion : str
        What the values are.
    """
    scores = {band: float(np.nanmean(scored)) for band, scored in values.items()}
    best = max(scores, key=lambda band: (round(scores[band], 12), -band.k_top, -band.k_bottom))
    differences = values[best] - values[reference]
    differences = differences[np.isfinite(differences)]
    gain = scores[best] - scores[reference]
    error = float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("inf")
    strong = best != reference and gain >= errors * error
    return Comparison(best if strong else reference, reference, best, criterion, scores, gain, error, strong)


def _similarities(
    coordinates: Floats, gram: Doubles, queries: slice, bands: Sequence[Band]
) -> Iterator[tuple[Band, Floats]]:
    """Cosines (queries x sample) for every band; for one k_top the matrix only ever grows by new directions."""
    C = np.asarray(coordinates, np.float32)
    G = gram.astype(np.float32)
    rank = C.shape[1]
    for top in sorted({band.k_top for band in bands}):
        ends = sorted({rank - band.k_bottom for band in bands if band.k_top == top})
        products = np.zeros((queries.stop - queries.start, len(C)), np.float32)
        squares = np.zeros(len(C), np.float32)
        start = top
        for end in ends:
            old, new = slice(top, start), slice(start, end)
            # z = F_old c_old + F_new c_new, so z zᵀ grows by the products that hold F_new c_new.
            mixed = C[:, old] @ G[old, new]
            inner = C[:, new] @ G[new, new]
            products += (mixed[queries] + inner[queries]) @ C[:, new].T
            products += C[queries, new] @ mixed.T
            squares += np.einsum("ij,ij->i", 2 * mixed + inner, C[:, new])
            norms = np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))
            yield Band(top, rank - end), products / norms[queries, None] / norms
            start = end


def soft_average_precisions(similarities: Floats, relevance: Floats) -> Doubles:
    """Average precision of every row with relevance in [0, 1]: Σ_k r_k (r_1 + … + r_k) / k, divided by Σ_k r_k.

    With 0 and 1 it is the usual one, but equal similarities are not one threshold.

    Parameters
    ----------
    similarities : ndarray, shape (q, n)
        -inf marks the query itself, once in every row.
    relevance : ndarray, shape (q, n)

    Returns
    -------
    ndarray of float64, shape (q,)
        NaN for a row without relevance.

    Examples
    --------
    >>> import numpy as np
    >>> soft_average_precisions(np.array([[-np.inf, 3, 2, 1]]), np.array([[1, 0.5, 0, 0.5]]))
    array([0.41666667])
    """
    order = np.argsort(-similarities, axis=1)[:, :-1]
    gains = np.take_along_axis(np.asarray(relevance, np.float64), order, axis=1)
    precisions = np.cumsum(gains, axis=1) / np.arange(1, order.shape[1] + 1)
    total = gains.sum(axis=1)
    return np.asarray((precisions * gains).sum(axis=1) / np.where(total > 0, total, np.nan))


def neighbor_contrasts(similarities: Floats, k: int = NEIGHBORS) -> Floats:
    """For every row, (mean of the k largest - mean of all) / standard deviation of all.

    Parameters
    ----------
    similarities : ndarray, shape (q, n)
        -inf marks the query itself; such entries do not count.
    k : int

    Returns
    -------
    ndarray, shape (q,)
    """
    valid = np.isfinite(similarities)
    counts = valid.sum(axis=1)
    values = np.where(valid, similarities, 0).astype(np.float64)
    mean = values.sum(axis=1) / counts
    variance = (values**2).sum(axis=1) / counts - mean**2
    largest = -np.partition(-similarities, k - 1, axis=1)[:, :k]
    return np.asarray((largest.mean(axis=1) - mean) / np.sqrt(np.maximum(variance, 1e-12)))

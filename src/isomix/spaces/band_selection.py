"""Choosing a band of directions from a sample of embeddings, with labels or without.

With labels the criterion is mean average precision; the nearest sentence of a bank may stand in for the label. Without
either, the spectrum proposes what stands out at its top, and the embeddings confirm or refuse it by the *neighbour
contrast* (this project): by how many standard deviations of its similarities an embedding's nearest neighbours stand above
the average. A direction shared by all pictures lifts every similarity and adds nothing to it.
All bands are scored in one pass: the similarity matrix of a sample is extended direction by direction.
``docs/bands.md`` shows how close the choice comes to the best band of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats, as_matrix, blocks
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.metrics import average_precisions
from isomix.spaces.bands import Band
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.spectrum import leading_outliers

__all__ = [
    "Choice",
    "Sample",
    "automatic_band",
    "band_grid",
    "choose",
    "decide",
    "draw_sample",
    "nearest_rows",
    "neighbor_contrasts",
    "subsample",
]

MAX_ROWS = 2000
MAX_PSEUDO_LABELLED = 20_000
MAX_QUERIES = 500
MAX_ROWS_PER_CLASS = 20
NEIGHBORS = 5
MIN_ROWS = 50
QUERY_BLOCK = 128
SIGNIFICANT = 2.0


class Sample(NamedTuple):
    """Rows of a gallery on which bands are compared.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        The first ``n_queries`` of them are the queries, all of them the gallery.
    n_queries : int
    labels : ndarray of int64, shape (m,), or None
    """

    rows: NDArray[np.int64]
    n_queries: int
    labels: NDArray[np.int64] | None


class Choice(NamedTuple):
    """The chosen band and what speaks for it.

    Attributes
    ----------
    band : Band
    criterion : {"neighbor contrast", "mean average precision"}
    scores : dict of Band to float
        Mean score of every band of the grid.
    gain : float
        Score of the best band minus that of the whole spectrum.
    standard_error : float
        Of ``gain``, from the paired differences over the queries.
    strong : bool
        The gain is at least two standard errors; otherwise ``band`` is the whole spectrum.
    best : Band
        The best of the grid; of equal ones, the one that cuts least.
    """

    band: Band
    criterion: str
    scores: dict[Band, float]
    gain: float
    standard_error: float
    strong: bool
    best: Band


def automatic_band(
    operator: InterModalOperator,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    modality: str = "image",
    bank: ArrayLike | None = None,
) -> tuple[str, Choice | None, Band]:
    """The band of ``IsoCLIP(projectors, band="auto").fit(X, y, bank=bank)``, for who has the operator already.

    Parameters
    ----------
    operator : InterModalOperator
    X : array_like, shape (n, d), optional
        Stored embeddings; pre-projection features, shape (n, d_in), for a head with a bias.
    y : array_like, shape (n,), optional
        Their labels.
    modality : {"image", "text"}
    bank : array_like, shape (m, d), optional
        Embeddings of the other modality. Without labels, the nearest of them stands in for the label of a row.

    Returns
    -------
    source : {"labels", "sentences", "embeddings", "spectrum"}
        "sentences": by the bank.
    choice : Choice or None
        None without ``X``.
    band : Band

    Raises
    ------
    InputError
        Fewer than 50 rows, another width, NaN, or labels that do not fit.
    """
    proposed = Band(leading_outliers(operator.S), 0)
    if X is None:
        return "spectrum", None, proposed
    side, d = operator.side(modality), operator.projectors.embedding_dim
    array = np.asarray(X)
    width, name = (d, "embeddings") if side.bias is None else (side.width, "pre-projection features")
    source = "embeddings" if y is None else "labels"
    if y is None and bank is not None:
        array = as_matrix(subsample(array), name, width=width, keep_half=True)
        sentences = as_matrix(bank, "bank", width=d, width_of="the embeddings", nonzero_rows=True)
        affine = None if side.bias is None else operator.weight(modality)
        source, y = "sentences", nearest_rows(array, normalize_rows(sentences), affine)
    sample = draw_sample(len(array), y)
    rows = as_matrix(array[sample.rows], name, width=width)
    # Contrast alone chose bands that cost a lot (docs/bands.md), so it may only refuse what the spectrum proposes.
    bands = sorted({Band(0, 0), proposed}) if sample.labels is None else band_grid(operator.rank)
    projected = operator.projected(modality)
    choice = choose(operator.coordinates(rows, modality), projected.T @ projected, sample, bands)
    return source if choice.criterion == "mean average precision" else "embeddings", choice, choice.band


def subsample(rows: NDArray[Any]) -> NDArray[Any]:
    """At most 20,000 rows, of which the nearest of a bank is looked for."""
    return rows[np.random.default_rng(0).permutation(len(rows))[:MAX_PSEUDO_LABELLED]]


def nearest_rows(rows: Floats, bank: Floats, affine: Doubles | None = None) -> NDArray[np.int64]:
    """For every row the number of the unit row of ``bank`` with the largest cosine; block by block.

    Parameters
    ----------
    rows : ndarray, shape (n, d)
        Embeddings; with ``affine``, features of shape (n, d_in).
    bank : ndarray, shape (m, d)
    affine : ndarray, shape (d, d_in + 1), optional
        [W b], which makes embeddings of features.
    """
    towards, offset = bank.astype(np.float32), np.zeros(len(bank), np.float32)
    if affine is not None:
        towards, offset = towards @ affine[:, :-1].astype(np.float32), towards @ affine[:, -1].astype(np.float32)
    nearest = [
        (np.asarray(rows[block], np.float32) @ towards.T + offset).argmax(axis=1) for block in blocks(len(rows), 2048)
    ]
    return np.concatenate(nearest)


def band_grid(rank: int) -> list[Band]:
    """The bands that are compared: k_top in steps that grow from 1 to 5/8 of the rank, k_bottom in eighths up to 5/8.

    Examples
    --------
    >>> band_grid(8)[:4]
    [Band(k_top=0, k_bottom=0), Band(k_top=0, k_bottom=1), Band(k_top=0, k_bottom=2), Band(k_top=0, k_bottom=3)]
    """
    fine = [2**power for power in range(rank.bit_length()) if 2**power < rank / 16]
    coarse = [round(rank * sixteenth / 16) for sixteenth in range(1, 11)]
    tops = sorted({0, *fine, *coarse})
    bottoms = sorted({round(rank * eighth / 8) for eighth in range(6)})
    fewest = max(1, rank // 16)
    return [Band(top, bottom) for top in tops for bottom in bottoms if rank - top - bottom >= fewest]


def draw_sample(n: int, labels: ArrayLike | None, seed: int = 0) -> Sample:
    """A random sample of at most 2,000 rows, whole classes where there are labels, 500 of them queries.

    Raises
    ------
    InputError
        Fewer than 50 rows, or as many labels as rows are not given.
    """
    if n < MIN_ROWS:
        raise InputError(
            f"got {n} embeddings to choose a band from, expected at least {MIN_ROWS}. Give the band instead."
        )
    rng = np.random.default_rng(seed)
    if labels is None:
        rows = rng.permutation(n)[:MAX_ROWS]
        return Sample(rows, min(MAX_QUERIES, len(rows)), None)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    if codes.shape != (n,):
        raise InputError(f"labels: got shape {np.shape(labels)}, expected ({n},), one for each embedding.")
    chosen: list[NDArray[np.int64]] = []
    for code in rng.permutation(codes.max() + 1):
        members = rng.permutation(np.flatnonzero(codes == code))[:MAX_ROWS_PER_CLASS]
        if len(members) > 1:
            chosen.append(members)
        if sum(map(len, chosen)) >= MAX_ROWS:
            break
    if not chosen:
        return draw_sample(n, None, seed)  # a label for every row says nothing about similarity
    rows = rng.permutation(np.concatenate(chosen))
    return Sample(rows, min(MAX_QUERIES, len(rows)), codes[rows])


def choose(coordinates: Floats, gram: Doubles, sample: Sample, bands: Sequence[Band]) -> Choice:
    """Score every band on the sample and choose one.

    Parameters
    ----------
    coordinates : ndarray, shape (m, r)
        Coordinates of the sampled rows, in the order of ``sample.rows``: an adapted vector is F[:, band] c[band].
    gram : ndarray of float64, shape (r, r)
        FᵀF.
    sample : Sample
    bands : sequence of Band
        Must hold ``Band(0, 0)``, the whole spectrum, which every other band has to beat.
    """
    labels = sample.labels
    criterion: Callable[[Floats, slice], Floats]
    if labels is None:
        name, criterion = "neighbor contrast", lambda similarities, queries: neighbor_contrasts(similarities)
    else:
        name = "mean average precision"

        def criterion(similarities: Floats, queries: slice) -> Floats:
            return average_precisions(similarities, labels[queries, None] == labels)

    per_query: dict[Band, list[Floats]] = {band: [] for band in bands}
    for start in range(0, sample.n_queries, QUERY_BLOCK):
        queries = slice(start, min(start + QUERY_BLOCK, sample.n_queries))
        for band, similarities in _similarities(coordinates, gram, queries, bands):
            own = np.arange(queries.start, queries.stop)
            similarities[own - queries.start, own] = -np.inf
            per_query[band].append(criterion(similarities, queries))
    return decide({band: np.concatenate(parts).astype(np.float64) for band, parts in per_query.items()}, name)


def decide(values: Mapping[Band, Doubles], criterion: str) -> Choice:
    """The best band if it beats the whole spectrum by two standard errors, otherwise the whole spectrum.

    Parameters
    ----------
    values : mapping of Band to ndarray, shape (q,)
        Score of every query, NaN where it has none; must hold ``Band(0, 0)``.
    criterion : str
        What the values are.
    """
    scores = {band: float(np.nanmean(scored)) for band, scored in values.items()}
    whole = Band(0, 0)
    best = max(scores, key=lambda band: (round(scores[band], 12), -band.k_top, -band.k_bottom))
    differences = values[best] - values[whole]
    differences = differences[np.isfinite(differences)]
    gain = scores[best] - scores[whole]
    error = float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("inf")
    strong = best != whole and gain >= SIGNIFICANT * error
    return Choice(best if strong else whole, criterion, scores, gain, error, strong, best)


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

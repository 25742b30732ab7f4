"""Rows of a gallery on which bands are compared, and what makes two of them relevant to each other without labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Doubles, Floats, blocks
from isomix.errors import InputError

__all__ = ["MIN_ROWS", "Sample", "draw_sample", "nearest_rows", "same_sentence", "subsample"]

MIN_ROWS = 50
MAX_ROWS = 2000
MAX_ROWS_PER_CLASS = 20
MAX_QUERIES = 500
MAX_PSEUDO_LABELLED = 20_000
SENTENCE_BLOCK = 4096


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


def draw_sample(n: int, labels: ArrayLike | None, seed: int = 0) -> Sample:
    """A random sample of about 2,000 rows at most, whole classes where there are labels, 500 of them queries.

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
    counts = np.bincount(codes)
    if counts.max() < 2:
        return draw_sample(n, None, seed)  # a label for every row says nothing about similarity
    if n <= MAX_ROWS:
        rows = rng.permutation(n)
        return Sample(rows, min(MAX_QUERIES, n), codes[rows])
    per_class = max(MAX_ROWS_PER_CLASS, MAX_ROWS // len(counts))
    chosen: list[NDArray[np.int64]] = []
    for code in rng.permutation(np.flatnonzero(counts > 1)):
        chosen.append(rng.permutation(np.flatnonzero(codes == code))[:per_class])
        if sum(map(len, chosen)) >= MAX_ROWS:
            break
    rows = rng.permutation(np.concatenate(chosen))
    return Sample(rows, min(MAX_QUERIES, len(rows)), codes[rows])


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


def same_sentence(rows: Floats, bank: Floats, n_queries: int, logit_scale: float) -> NDArray[np.float32]:
    """Probability that a query and a row mean the same sentence: P Pᵀ with P = softmax(logit_scale · E bankᵀ).

    Parameters
    ----------
    rows : ndarray, shape (m, d)
        E, unit rows; the first ``n_queries`` are the queries.
    bank : ndarray, shape (c, d)
        Unit rows; read block by block, so c may be large.
    n_queries : int
    logit_scale : float
        The model's own.

    Returns
    -------
    ndarray of float32, shape (n_queries, m)

    Examples
    --------
    >>> import numpy as np
    >>> same_sentence(np.eye(3)[[0, 0, 1]], np.eye(3), 1, 100.0).round(3)
    array([[1., 1., 0.]], dtype=float32)
    """
    E, T = np.asarray(rows, np.float32), np.asarray(bank, np.float32)
    largest, total = np.full(len(E), -np.inf, np.float32), np.zeros(len(E), np.float32)
    for block in blocks(len(T), SENTENCE_BLOCK):
        logits = np.float32(logit_scale) * (E @ T[block].T)
        before, largest = largest, np.maximum(largest, logits.max(axis=1))
        total = total * np.exp(before - largest) + np.exp(logits - largest[:, None]).sum(axis=1)
    same = np.zeros((n_queries, len(E)), np.float32)
    for block in blocks(len(T), SENTENCE_BLOCK):
        P = np.exp(np.float32(logit_scale) * (E @ T[block].T) - largest[:, None]) / total[:, None]
        same += P[:n_queries] @ P.T
    return same

"""Queries that look again: averaged with the first rows that they find, for a gallery as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from isomix._arrays import Floats, as_matrix, blocks, check_integer, working_dtype
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.neighbors.blocked import as_gallery, check_widths
from isomix.neighbors.kinship import (
    BLOCK_ROWS,
    NEIGHBORS,
    QUERY_STRENGTH,
    Background,
    evenly,
    expanded,
    median_mass,
    without_self,
)

__all__ = ["expand_queries"]

MOMENT_ROWS = 4096
MASS_ROWS = 100


def expand_queries(
    queries: ArrayLike,
    gallery: ArrayLike | Iterator[ArrayLike],
    expand: int,
    search: Callable[[Floats, Any, int], tuple[Floats, Any]],
) -> Floats:
    """Average every query with its ``expand`` nearest rows, in a joint weight of half the gallery's cohesive mass.

    As :meth:`isomix.Smoothing.transform`, for a gallery that is not smoothed and whose neighbour graph is not known: its
    cohesive mass is estimated on at most 100 rows, its background on at most 4,096.

    Parameters
    ----------
    queries : array_like, shape (m, d)
    gallery : array_like, shape (n, d)
    expand : int
    search : callable
        Of queries, gallery and k; scores and rows.

    Returns
    -------
    ndarray, shape (m, d)
        Unit rows.
    """
    expand = check_integer(expand, "expand", minimum=1)
    if isinstance(gallery, Iterator) or hasattr(gallery, "ntotal"):
        raise InputError(
            "expand: the gallery is an iterator or an index, and rows that were found are read again. Give an array."
        )
    Q, G = as_matrix(queries, "queries", nonzero_rows=True), as_gallery(gallery)
    check_widths(Q.shape[1], G.shape[1])
    if len(G) < 4:  # too few for neighbours of neighbours
        return Q

    def unit(rows: Any) -> Floats:
        found = np.asarray(G[rows])
        return normalize_rows(np.asarray(found, np.result_type(Q.dtype, working_dtype(found.dtype))), "gallery")

    Q = normalize_rows(Q, "queries")
    some = evenly(len(G), MASS_ROWS)
    sample = unit(some)
    k = min(max(NEIGHBORS + 1, expand), len(G))
    cosines, found = search(np.concatenate([Q.astype(sample.dtype, copy=False), sample]), G, k)
    background = Background.of([unit(evenly(len(G), MOMENT_ROWS))])._replace(n=len(G))
    others = without_self(found[len(Q) :], some)
    near, s = (each[len(Q) :][others].reshape(len(some), k - 1) for each in (found, cosines))
    rows, local = np.unique(near[:, :NEIGHBORS], return_inverse=True)
    thresholds = background.thresholds(sample, within=True)
    mass = median_mass(unit(rows), some, local.reshape(len(some), -1), s, thresholds)
    result = np.empty_like(Q)
    for part in blocks(len(Q), BLOCK_ROWS):
        rows = found[: len(Q)][part, :expand]
        neighbors = unit(rows.ravel()).reshape(*rows.shape, -1).astype(Q.dtype, copy=False)
        result[part] = expanded(Q[part], neighbors, background.thresholds(Q[part]), QUERY_STRENGTH * mass)
    return result

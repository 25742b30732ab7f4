"""How much of a neighbour's similarity is kinship: what lies above the background, and how well neighbours agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, Floats, Indices, blocks

__all__ = [
    "ALPHA",
    "NEIGHBORS",
    "QUERY_NEIGHBORS",
    "QUERY_STRENGTH",
    "STRENGTH",
    "Background",
    "above_background",
    "cohesive_mass",
    "evenly",
    "expanded",
    "mean_with_neighbors",
    "median_mass",
    "neighbor_weights",
    "without_self",
]

NEIGHBORS = 10
"""Rows that a row of a gallery is averaged with."""
QUERY_NEIGHBORS = 5
"""Rows that a query is averaged with."""
ALPHA = 3.0
STRENGTH = 2.0
"""Joint weight of a row's neighbours, in units of the gallery's cohesive mass; the row itself weighs 1."""
QUERY_STRENGTH = 0.5
BACKGROUND_DEVIATIONS = 0.5
COHESION_POWER = 4.0
LEAST = 1e-6
BLOCK_ROWS = 1024


class Background(NamedTuple):
    """First and second moments of a gallery of unit rows.

    From them follow the mean and the deviation of any row's similarities to all rows of the gallery, without computing these.

    Attributes
    ----------
    n : int
    mean : ndarray of float64, shape (d,)
    second : ndarray of float64, shape (d, d)
        Mean of the outer products, not centred.
    """

    n: int
    mean: Doubles
    second: Doubles

    @classmethod
    def of(cls, pieces: Iterable[Floats]) -> Background:
        """Moments of unit rows that come in pieces of shape (b, d), one at least; (2 n d²) operations."""
        n, mean, second = 0, np.zeros(0), np.zeros((0, 0))
        for piece in pieces:
            if not n:
                mean, second = np.zeros(piece.shape[1]), np.zeros((piece.shape[1],) * 2)
            for part in blocks(len(piece), BLOCK_ROWS):
                rows = piece[part].astype(np.float64)
                mean += rows.sum(axis=0)
                second += rows.T @ rows
            n += len(piece)
        return cls(n, mean / n, second / n)

    def thresholds(self, rows: Floats, *, within: bool = False) -> Doubles:
        """Mean plus half a standard deviation of each row's similarities to the gallery; (m,).

        It is what a row has in common with rows of no kin.

        Parameters
        ----------
        rows : ndarray, shape (m, d)
            Unit rows.
        within : bool
            They are rows of the gallery, and the similarity of each with itself does not count.
        """
        found = np.empty(len(rows))
        count = self.n - int(within)
        for part in blocks(len(rows), BLOCK_ROWS):
            block = rows[part].astype(np.float64)
            own = np.einsum("ij,ij->i", block, block) if within else np.zeros(len(block))
            mean = (self.n * (block @ self.mean) - own) / count
            square = (self.n * np.einsum("ij,ij->i", block @ self.second, block) - own**2) / count
            found[part] = mean + BACKGROUND_DEVIATIONS * np.sqrt(np.maximum(square - mean**2, 0.0))
        return found


def above_background(similarities: Floats, thresholds: Floats) -> Doubles:
    """What of a similarity is kinship: z = (s - b) / (1 - b), cut to [1e-6, 1], with b the threshold of the row.

    Parameters
    ----------
    similarities : ndarray, shape (m, ...)
    thresholds : ndarray, shape (m,)

    Examples
    --------
    >>> import numpy as np
    >>> above_background(np.array([[1.0, 0.75, 0.1]]), np.array([0.5])).tolist()
    [[1.0, 0.5, 1e-06]]
    """
    b = np.asarray(thresholds, np.float64).reshape(-1, *[1] * (np.ndim(similarities) - 1))
    return np.asarray(np.clip((similarities - b) / np.maximum(1.0 - b, 1e-9), LEAST, 1.0))


def neighbor_weights(similarities: Floats, thresholds: Floats, strength: float | Doubles, alpha: float) -> Doubles:
    """Weights of the neighbours of some rows, w_j = strength z_j^alpha / Σ z^alpha; (m, k).

    Parameters
    ----------
    similarities : ndarray, shape (m, k)
    thresholds : ndarray, shape (m,)
    strength : float, or ndarray of shape (m,)
        What the weights of a row add up to. For a gallery it is the same for every row: a row that is smoothed more than
        others has lost more of its noise, is nearer to everything, and can no longer be compared with them.
    alpha : float

    Notes
    -----
    cosine^alpha is the weight of alpha query expansion (Radenović, Tolias and Chum, *Fine-tuning CNN image retrieval with no
    human annotation*, TPAMI 2019). The background in the place of zero and the fixed sum are this project's.
    """
    weights = above_background(similarities, thresholds) ** alpha
    return np.asarray(np.reshape(strength, (-1, 1)) * weights / weights.sum(axis=1, keepdims=True))


def cohesive_mass(similarities: Floats, gram: Floats, thresholds: Floats) -> Doubles:
    """How many neighbours' worth of kin a row has, from 0 to k; (m,).

    With z of :func:`above_background` and w = z³: c = mean of z_jl over pairs of neighbours, weighted by w_j w_l, over the mean
    of z_j weighted by w_j, and the mass is Σ w · min(c, 1)⁴. In a cluster the neighbours are as near to each other as to the
    row, and c is 1. Where they are merely the nearest of many strangers, they were selected for their nearness to the row
    alone, and c is less: about 0.15 among random rows.

    Parameters
    ----------
    similarities : ndarray, shape (m, k)
        Of a row with its neighbours, k ≥ 2.
    gram : ndarray, shape (m, k, k)
        Of the neighbours with one another.
    thresholds : ndarray, shape (m,)

    Examples
    --------
    Three neighbours, as near to one another as to the row, and three that are strangers to one another:

    >>> import numpy as np
    >>> near, b = np.full((1, 3), 0.8), np.zeros(1)
    >>> np.round(cohesive_mass(near, np.full((1, 3, 3), 0.8), b), 3), np.round(cohesive_mass(near, np.zeros((1, 3, 3)), b), 3)
    (array([1.536]), array([0.]))
    """
    z, mutual = above_background(similarities, thresholds), above_background(gram, thresholds)
    w = z**3
    total = w.sum(axis=1)
    pairs = 1.0 - np.eye(w.shape[1])
    among = np.einsum("mj,mjl,ml->m", w, mutual * pairs, w) / np.einsum("mj,mj->m", w @ pairs, w)
    near = (w * z).sum(axis=1) / total
    return np.asarray(total * np.minimum(among / near, 1.0) ** COHESION_POWER)


def median_mass(own: Floats, rows: Indices, neighbors: Indices, cosines: Floats, thresholds: Floats) -> float:
    """Cohesive mass M of a gallery: the median over some of its rows; 0 with fewer than three neighbours to agree.

    Parameters
    ----------
    own : ndarray, shape (n, d)
        The gallery, unit rows.
    rows : ndarray of int, shape (m,)
        Which of them.
    neighbors, cosines : ndarray, shape (m, k)
        Theirs; at most the first 10 count.
    thresholds : ndarray, shape (m,)
    """
    k = min(NEIGHBORS, neighbors.shape[1])
    if k < 3:
        return 0.0
    found = np.empty(len(rows))
    for part in blocks(len(rows), BLOCK_ROWS):
        near = own[neighbors[part, :k]]
        found[part] = cohesive_mass(cosines[part, :k], near @ near.transpose(0, 2, 1), thresholds[part])
    return float(np.median(found))


def evenly(n: int, most: int) -> Indices:
    """Numbers of at most ``most`` of n rows, evenly spaced."""
    return np.arange(0, n, 1 + (n - 1) // most)


def without_self(found: NDArray[Any], own: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the k + 1 neighbours found by every row are another row, k of each; (m, k + 1).

    Where a row did not find itself, because copies came before it, the last one is left out.

    Parameters
    ----------
    found : ndarray, shape (m, k + 1)
        Numbers or ids of the neighbours.
    own : ndarray, shape (m,)
        Numbers or ids of the rows themselves.

    Examples
    --------
    >>> without_self(np.array([[0, 4], [7, 8]]), np.array([0, 9]))
    array([[False,  True],
           [ True, False]])
    """
    others: NDArray[np.bool_] = found != own[:, None]
    others[others.all(axis=1), -1] = False
    return others


def mean_with_neighbors(rows: Floats, neighbors: Floats, weights: Doubles) -> Floats:
    """Unit rows of x + Σ w_j x_j; (m, d), in the dtype of ``rows``.

    Parameters
    ----------
    rows : ndarray, shape (m, d)
    neighbors : ndarray, shape (m, k, d)
    weights : ndarray, shape (m, k)
    """
    mean = rows + np.matmul(weights.astype(rows.dtype)[:, None], neighbors)[:, 0]
    return np.asarray(mean / np.sqrt(np.einsum("ij,ij->i", mean, mean))[:, None], rows.dtype)


def expanded(queries: Floats, neighbors: Floats, thresholds: Floats, strength: float, alpha: float = ALPHA) -> Floats:
    """Queries averaged with rows that they found; unit rows, (m, d).

    Parameters
    ----------
    queries : ndarray, shape (m, d)
        Unit rows.
    neighbors : ndarray, shape (m, k, d)
        Unit rows.
    thresholds : ndarray, shape (m,)
    strength : float
        Joint weight of the neighbours.
    alpha : float
    """
    cosines = np.matmul(neighbors, queries[:, :, None])[:, :, 0]
    return mean_with_neighbors(queries, neighbors, neighbor_weights(cosines, thresholds, strength, alpha))

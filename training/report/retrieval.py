"""Mean average precision of tasks under every method, with intervals over concepts and every band of the grid in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats, blocks
from isomix.linalg import normalize_rows
from isomix.metrics import average_precisions, bootstrap_intervals
from isomix.projectors import Projectors
from isomix.spaces.band_comparison import band_grid
from isomix.spaces.bands import Band
from isomix.spaces.operator import InterModalOperator
from training.report.tasks import Task

__all__ = ["Grid", "mean_interval", "task_precisions"]

Doubles = NDArray[np.float64]
QUERY_BLOCK = 256


def task_precisions(Z: Floats, task: Task) -> Doubles:
    """Average precision of every query of a task.

    Parameters
    ----------
    Z : ndarray, shape (n_items, k)
        Unit rows.
    task : Task

    Returns
    -------
    ndarray of float64, shape (n_queries,)
        See :func:`isomix.metrics.average_precisions`.
    """
    result = np.empty(len(task.queries))
    gallery = Z[task.gallery].T
    labels, groups = task.labels[task.gallery], task.groups[task.gallery]
    for part in blocks(len(task.queries), QUERY_BLOCK):
        queries = task.queries[part]
        scores = Z[queries] @ gallery
        excluded = task.groups[queries][:, None] == groups
        scores[excluded] = -np.inf
        result[part] = average_precisions(scores, task.labels[queries][:, None] == labels)
    return result


class Grid:
    """Adapted embeddings of the items of a task for every band of the grid, from one decomposition.

    Parameters
    ----------
    projectors : Projectors
    features : ndarray, shape (n_items, d_in)
        Pre-projection features of ``modality``.
    modality : {"image", "text"}
    """

    def __init__(self, projectors: Projectors, features: Floats, modality: str = "image") -> None:
        operator = InterModalOperator(projectors)
        embeddings = projectors.side(modality).project(np.asarray(features, np.float64))
        self._coordinates = operator.coordinates(embeddings, modality).astype(np.float32)
        self._projected = operator.projected(modality).astype(np.float32)
        self.bands = band_grid(operator.rank)

    def embeddings(self, band: Band) -> Floats:
        """Unit rows, z = F c over the directions of the band; ``Band(0, 0)`` gives the plain embeddings."""
        directions = slice(band.k_top, self._coordinates.shape[1] - band.k_bottom)
        return normalize_rows(self._coordinates[:, directions] @ self._projected[:, directions].T)

    def precisions(self, task: Task) -> dict[Band, Doubles]:
        """Average precision of every query for every band."""
        return {band: task_precisions(self.embeddings(band), task) for band in self.bands}


def mean_interval(values: Doubles, clusters: NDArray[Any], n_resamples: int, seed: int) -> dict[str, Any]:
    """Mean over queries and its 95 % interval when whole concepts are drawn again.

    Queries of one concept succeed or fail together, so drawing single queries would give intervals that are too narrow.
    """
    codes = np.unique(clusters, return_inverse=True)[1]
    sums, counts = np.bincount(codes, values), np.bincount(codes).astype(np.float64)
    interval = bootstrap_intervals(
        lambda weights: np.array([weights @ sums / (weights @ counts)]), len(sums), n_resamples=n_resamples, seed=seed
    )[0]
    return {"mean": float(values.mean()), "interval": [float(end) for end in interval]}

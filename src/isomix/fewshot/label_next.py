"""Which pictures to label next: typical ones while labels are few, doubtful ones later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import MiniBatchKMeans

from isomix._arrays import Floats, as_matrix, check_integer
from isomix.errors import InputError
from isomix.fewshot.base import FewShotClassifier
from isomix.linalg import normalize_rows

__all__ = ["FEW_A_CLASS", "Suggestion", "label_next"]

FEW_A_CLASS = 5
MAX_CANDIDATES = 20_000
MAX_CLUSTERS = 500
NEIGHBORS = 20
POOL = 10


class Suggestion(NamedTuple):
    """Rows to label next, the most useful first.

    Attributes
    ----------
    rows : ndarray of int64, shape (k,)
    rule : {"typical", "doubtful"}
    """

    rows: NDArray[np.int64]
    rule: str


def label_next(
    embeddings: ArrayLike,
    labels: Sequence[str | None],
    *,
    k: int = 12,
    classifier: FewShotClassifier | None = None,
    seed: int = 0,
) -> Suggestion:
    """Choose pictures whose labels would help most.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
        Of a large table a random sample of 20,000 rows without a label is looked at.
    labels : sequence of str or None, length n
        None: not labelled yet.
    k : int
    classifier : FewShotClassifier, optional
        Fitted on the labelled rows. Without one, the rule is ``"typical"``.
    seed : int

    Returns
    -------
    Suggestion

    Raises
    ------
    InputError
        Shapes that do not belong together.

    Notes
    -----
    With fewer than five labels a class, typical examples: rows are clustered into as many clusters as there are labels and
    wishes, and of the largest clusters without a label the row with the nearest 20 neighbours is taken (TypiClust; Hacohen et
    al., *Active Learning on a Budget*, arXiv 2202.02794). A small budget is worth more on what is common than on what is
    doubtful; that turns round later, and then the rows with the smallest margin between the two likeliest classes are taken,
    far apart from one another (the spreading by the farthest point is this project's).
    """
    X = as_matrix(embeddings, "embeddings", nonzero_rows=True, keep_half=True)
    k = check_integer(k, "k", minimum=1)
    if len(labels) != len(X):
        raise InputError(f"labels: got {len(labels)}, expected {len(X)}, one (or None) for every embedding.")
    known = np.array([label is not None for label in labels], bool)
    free = np.flatnonzero(~known)
    rng = np.random.default_rng(seed)
    if len(free) > MAX_CANDIDATES:
        free = np.sort(rng.choice(free, MAX_CANDIDATES, replace=False))
    n_classes = len({label for label in labels if label is not None})
    few = known.sum() < FEW_A_CLASS * max(n_classes, 1)
    if classifier is None or few or not len(free):
        return Suggestion(_typical(X, np.flatnonzero(known), free, k, seed), "typical")
    return Suggestion(_doubtful(X, free, classifier, k), "doubtful")


def _typical(X: Floats, known: NDArray[np.intp], free: NDArray[np.intp], k: int, seed: int) -> NDArray[np.int64]:
    if not len(free):
        return np.empty(0, np.int64)
    rows = np.concatenate([known, free])
    unit = normalize_rows(np.asarray(X[rows], np.float32))
    n_clusters = min(len(known) + k, MAX_CLUSTERS, len(rows))
    clusters = MiniBatchKMeans(n_clusters, n_init=1, batch_size=1024, random_state=seed).fit_predict(unit)
    labelled = np.bincount(clusters[: len(known)], minlength=n_clusters)
    sizes = np.bincount(clusters, minlength=n_clusters)
    chosen: list[int] = []
    taken = np.zeros(len(rows), bool)
    taken[: len(known)] = True
    while len(chosen) < min(k, len(free)):
        # Clusters with fewer labels first, among them the larger one.
        order = np.lexsort((-sizes, labelled))
        cluster = next(int(c) for c in order if (~taken[clusters == c]).any())
        members = np.flatnonzero(clusters == cluster)
        density = np.where(taken[members], -np.inf, _density(unit[members]))
        best = int(members[density.argmax()])
        taken[best] = True
        labelled[cluster] += 1
        chosen.append(int(rows[best]))
    return np.array(chosen, np.int64)


def _density(unit: Floats) -> Floats:
    """One over the mean distance to the nearest 20 rows of the cluster."""
    if len(unit) > 2000:  # the middle of a large cluster is its typical place
        return np.asarray(unit @ unit.mean(axis=0))
    distances = np.sqrt(np.maximum(2.0 - 2.0 * unit @ unit.T, 0.0))
    near = min(NEIGHBORS + 1, len(unit))
    nearest = np.partition(distances, near - 1, axis=1)[:, :near]
    return np.asarray(1.0 / np.maximum(nearest.mean(axis=1), 1e-6))


def _doubtful(X: Floats, free: NDArray[np.intp], classifier: FewShotClassifier, k: int) -> NDArray[np.int64]:
    two = np.sort(classifier.predict_proba(X[free]), axis=1)[:, -2:]
    order = np.argsort(two[:, 1] - two[:, 0], kind="stable")[: POOL * k]
    pool = free[order]
    unit = normalize_rows(np.asarray(X[pool], np.float32))
    chosen = [0]
    nearest = unit @ unit[0]
    while len(chosen) < min(k, len(pool)):
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, unit @ unit[chosen[-1]])
    return np.asarray(pool[chosen], np.int64)

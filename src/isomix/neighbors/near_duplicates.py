"""Near-duplicates by a cosine threshold: pairs, groups, and leaks between splits, without an n x n matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Floats, as_matrix, check_integer
from isomix.errors import InputError
from isomix.neighbors.blocked import as_gallery, gallery_blocks, pair_scores, rounding_slack

__all__ = ["Pairs", "duplicates", "near_pairs", "split_leaks"]

ROWS, COLUMNS = 1024, 8192
EDGES_AT_ONCE = 1 << 20
Rows = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of similar rows, by descending score, then row numbers.

    Attributes
    ----------
    left, right : ndarray of int64, shape (p,)
    scores : ndarray of float32 or float64, shape (p,)
        Cosines.
    """

    left: Rows
    right: Rows
    scores: Floats


def near_pairs(
    embeddings: ArrayLike,
    other: ArrayLike | None = None,
    *,
    threshold: float = 0.95,
    max_pairs: int = 10_000_000,
) -> Pairs:
    """Find all pairs of rows whose cosine is at least ``threshold``.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
    other : array_like, shape (m, d), optional
        Compare with these rows. Default: the rows among themselves, each pair once with left < right.
    threshold : float
        In (-1, 1]. 1 finds exact duplicates up to a factor.
    max_pairs : int
        Stop with an error instead of filling the memory (24 bytes a pair).

    Returns
    -------
    Pairs

    Raises
    ------
    InputError
        Unusable arrays or threshold, or more than ``max_pairs`` pairs.

    Examples
    --------
    >>> import numpy as np
    >>> near_pairs(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])).left
    array([0])
    """
    return _collect(embeddings, other, threshold, max_pairs, keep=None)


def split_leaks(
    embeddings: ArrayLike, splits: ArrayLike, *, threshold: float = 0.95, max_pairs: int = 10_000_000
) -> Pairs:
    """Find near-duplicate pairs whose rows stand in different splits: training pictures that come back in the test set.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
    splits : array_like, shape (n,)
        Split of every row, e.g. ``"train"`` and ``"test"``.
    threshold, max_pairs
        As in :func:`near_pairs`.

    Returns
    -------
    Pairs
        With left < right.
    """
    names = np.asarray(splits)
    n = as_gallery(embeddings, "embeddings").shape[0]
    if names.shape != (n,):
        raise InputError(f"splits: got shape {names.shape}, expected ({n},), one split for every embedding.")
    return _collect(embeddings, None, threshold, max_pairs, keep=lambda i, j: names[i] != names[j])


def duplicates(
    embeddings: ArrayLike,
    *,
    threshold: float = 0.95,
    method: Literal["components", "community"] = "components",
    min_size: int = 2,
) -> list[Rows]:
    """Group near-duplicate rows.

    Parameters
    ----------
    embeddings : array_like, shape (n, d)
    threshold : float
        Smallest cosine of two duplicates, in (-1, 1].
    method : {"components", "community"}
        ``components``: chains of duplicates are one group (connected components of the pairs). ``community``: greedily, the
        row with the most neighbours and all its free neighbours, so that every member is a duplicate of the group's first row.
    min_size : int
        Smallest group returned.

    Returns
    -------
    list of ndarray of int64
        Row numbers, the largest group first, equal sizes by their first row. Rows ascend, but for the centre of a community,
        which stands first.

    Raises
    ------
    InputError
        Unusable arrays or arguments.

    Notes
    -----
    Pairs are used block by block and never stored, so that memory stays linear in n even when all rows are duplicates. The
    greedy rule of ``community`` is that of ``community_detection`` in sentence-transformers, with one difference: a row that
    belongs to a group is never the centre of another.

    Examples
    --------
    >>> import numpy as np
    >>> duplicates(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]]))
    [array([0, 2])]
    """
    min_size = check_integer(min_size, "min_size", minimum=2)
    methods: dict[str, Callable[[Floats, float, int], list[Rows]]] = {
        "components": _components,
        "community": _communities,
    }
    if method not in methods:
        raise InputError(f"method: got {method!r}, expected one of {', '.join(methods)}.")
    groups = methods[method](as_gallery(embeddings, "embeddings"), _check_threshold(threshold), min_size)
    return sorted(groups, key=lambda group: (-len(group), int(group[0])))


def _check_threshold(threshold: float) -> float:
    if not -1.0 < threshold <= 1.0:
        raise InputError(f"threshold: got {threshold!r}, expected a cosine in (-1, 1]; 0.95 is a usual choice.")
    return float(threshold)


def _blocks_of_pairs(left: Floats, right: Floats | None, threshold: float) -> Iterator[Pairs]:
    """All pairs from ``threshold`` up, unordered, a block at a time; without ``right`` those with left < right."""
    dtype = np.result_type(np.float32, left.dtype, left.dtype if right is None else right.dtype)
    slack = rounding_slack(left.shape[1], dtype)
    gallery = left if right is None else right
    name = "embeddings" if right is None else "other"
    for above in gallery_blocks(left, ROWS, dtype, width=left.shape[1], nonzero_rows=True, name="embeddings"):
        unit = above.rows / above.norms[:, None]
        first = above.start if right is None else 0
        for block in gallery_blocks(gallery[first:], COLUMNS, dtype, width=left.shape[1], nonzero_rows=True, name=name):
            scores = unit @ block.rows.T
            scores /= block.norms
            i, j = np.divmod(np.flatnonzero(scores >= threshold - slack), scores.shape[1])
            if right is None:
                upper = above.start + i < first + block.start + j
                i, j = i[upper], j[upper]
            cosine = scores[i, j]
            unsure = np.flatnonzero(np.abs(cosine - threshold) <= slack)
            cosine[unsure] = pair_scores(above.rows, block.rows, i[unsure], j[unsure], normalize=True)
            keep = cosine >= dtype.type(threshold)
            yield Pairs(above.start + i[keep], first + block.start + j[keep], cosine[keep])


def _collect(
    embeddings: ArrayLike,
    other: ArrayLike | None,
    threshold: float,
    max_pairs: int,
    keep: Callable[[Rows, Rows], NDArray[np.bool_]] | None,
) -> Pairs:
    threshold = _check_threshold(threshold)
    left = as_gallery(embeddings, "embeddings")
    right = None if other is None else as_gallery(other, "other")
    found = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    total = 0
    for pairs in _blocks_of_pairs(left, right, threshold):
        if keep is not None:
            wanted = keep(pairs.left, pairs.right)
            pairs = Pairs(pairs.left[wanted], pairs.right[wanted], pairs.scores[wanted])
        if len(pairs.left):
            found.append(pairs)
        total += len(pairs.left)
        if total > max_pairs:
            raise InputError(
                f"more than {max_pairs} pairs have a cosine of at least {threshold}. Raise the threshold or max_pairs, or use "
                "isomix.neighbors.duplicates, which groups rows without listing pairs."
            )
    left_rows, right_rows, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((right_rows, left_rows, -scores))
    return Pairs(left_rows[order], right_rows[order], scores[order])


def _components(embeddings: Floats, threshold: float, min_size: int) -> list[Rows]:
    component = np.arange(embeddings.shape[0])
    waiting: list[Pairs] = []
    n_waiting = 0
    for pairs in _blocks_of_pairs(embeddings, None, threshold):
        if len(pairs.left):
            waiting.append(pairs)
            n_waiting += len(pairs.left)
        if n_waiting > EDGES_AT_ONCE:
            component, waiting, n_waiting = _merge(component, waiting), [], 0
    return _groups(_merge(component, waiting), min_size)


def _merge(component: Rows, pairs: list[Pairs]) -> Rows:
    """Component of every row after the components of paired rows have been joined."""
    if not pairs:
        return component
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = (component[np.concatenate(rows)] for rows in zip(*((p.left, p.right) for p in pairs), strict=True))
    n = len(component)
    joined = connected_components(coo_array((np.ones(len(i), np.bool_), (i, j)), shape=(n, n)), directed=False)[1]
    return np.asarray(joined[component], np.int64)


def _groups(component: Rows, min_size: int) -> list[Rows]:
    order = np.argsort(component, kind="stable")
    starts = np.flatnonzero(np.diff(component[order], prepend=-1))
    return [group for group in np.split(order, starts[1:]) if len(group) >= min_size]


def _communities(embeddings: Floats, threshold: float, min_size: int) -> list[Rows]:
    n = embeddings.shape[0]
    degree = np.zeros(n, np.int64)
    for pairs in _blocks_of_pairs(embeddings, None, threshold):
        degree += np.bincount(pairs.left, minlength=n) + np.bincount(pairs.right, minlength=n)
    by_degree = np.argsort(-degree, kind="stable")
    centres = by_degree[degree[by_degree] >= min_size - 1]
    free = np.ones(n, np.bool_)
    groups = []
    while centres.size:
        # Neighbours are found again, for no more centres at a time than memory holds; many others are taken by then.
        size = max(1, int(np.searchsorted(np.cumsum(degree[centres[:ROWS]]), EDGES_AT_ONCE)))
        batch, centres = centres[:size], centres[size:]
        neighbours = _neighbours(embeddings, batch, threshold)
        for centre, near in zip(batch, neighbours, strict=True):
            members = near[free[near] & (near != centre)]
            if free[centre] and len(members) >= min_size - 1:
                groups.append(np.concatenate([[centre], members]))
                free[groups[-1]] = False
        centres = centres[free[centres]]
    return groups


def _neighbours(embeddings: Floats, centres: Rows, threshold: float) -> list[Rows]:
    rows = as_matrix(embeddings[centres], "embeddings")
    parts = [(pairs.left, pairs.right) for pairs in _blocks_of_pairs(rows, embeddings, threshold)]
    left, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((right, left))
    return np.split(right[order], np.searchsorted(left[order], np.arange(1, len(centres))))

"""Identical rows: one picture under two labels, one picture twice, two classes with one text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats
from isomix.errors import InputError

__all__ = ["check_one_label_each", "first_twins"]

Indices = NDArray[np.intp]


def first_twins(matrix: Floats) -> Indices:
    """Number of the first row that equals each row bit for bit; (n,).

    Examples
    --------
    >>> import numpy as np
    >>> first_twins(np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]))
    array([0, 1, 0])
    """
    rows = np.ascontiguousarray(matrix) + 0.0  # -0.0 becomes 0.0
    twins = np.arange(len(rows))
    # Equal rows have equal sums of their bits under fixed random odd factors; only rows that share a sum are compared.
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64) | np.uint64(1)
    sums = rows.view(f"u{rows.dtype.itemsize}") @ factors
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    first: dict[bytes, int] = {}
    for i in np.flatnonzero(counts[inverse] > 1):
        twins[i] = first.setdefault(rows[i].tobytes(), int(i))
    return twins


def check_one_label_each(twins: Indices, y: Indices, classes: NDArray[Any]) -> None:
    """Raise :class:`InputError` when rows that are the same shot carry different labels."""
    bad = np.flatnonzero(y != y[twins])
    if bad.size:
        row = int(bad[0])
        more = f" ({bad.size} such rows)" if bad.size > 1 else ""
        raise InputError(
            f"rows {int(twins[row])} and {row} are the same shot with two labels, {classes[y[twins[row]]].item()!r} and "
            f"{classes[y[row]].item()!r}{more}. Keep one of them."
        )

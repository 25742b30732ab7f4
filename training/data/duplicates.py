"""Training pictures that come back among the held-out ones, found in small raw pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isomix.neighbors import near_pairs

__all__ = ["leaks"]


def leaks(
    pixels: NDArray[np.float32], splits: Sequence[str], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the split "train" whose cosine with a held-out row reaches a threshold, and the held-out rows.

    Parameters
    ----------
    pixels : ndarray of float32, shape (n, d)
        From :func:`training.data.pixels.small_pixels`.
    splits : sequence of str, n of them
        All but "train" and "dropped" are held out.
    threshold : float

    Returns
    -------
    train, held_out : ndarray of int64
        Ascending, each row once.
    """
    # A picture of one flat colour has no direction to compare.
    usable = np.linalg.norm(pixels, axis=1) > 0
    names = np.array(splits)
    train = np.flatnonzero(usable & (names == "train"))
    held_out = np.flatnonzero(usable & (names != "train") & (names != "dropped"))
    if not len(train) or not len(held_out):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pairs = near_pairs(pixels[train], pixels[held_out], threshold=threshold)
    return np.unique(train[pairs.left]), np.unique(held_out[pairs.right])

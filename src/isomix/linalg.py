"""Unit rows, and the principal directions of rows."""

from __future__ import annotations

import numpy as np

from isomix._arrays import Doubles, Floats, blocks, check_nonzero_rows

__all__ = ["normalize_rows", "principal_directions"]

BLOCK_ROWS = 512


def normalize_rows(matrix: Floats, name: str = "embeddings") -> Floats:
    """Rows scaled to unit Euclidean length; the dtype stays (norms are accumulated in float64).

    Parameters
    ----------
    matrix : ndarray, shape (n, d)
        float32 or float64.
    name : str
        What the rows are called in the error.

    Raises
    ------
    InputError
        A row is all zeros.

    Examples
    --------
    >>> import numpy as np
    >>> normalize_rows(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    check_nonzero_rows(matrix, name)
    result = np.empty_like(matrix)
    for rows in blocks(len(matrix), BLOCK_ROWS):  # in the cache
        largest = np.abs(matrix[rows]).max(axis=1, keepdims=True)
        scaled = matrix[rows] / largest  # no overflow or underflow of the squares
        norms = np.sqrt(np.einsum("ij,ij->i", scaled, scaled, dtype=np.float64))[:, None]
        np.divide(scaled, norms.astype(matrix.dtype, copy=False), out=result[rows])
    return result


def principal_directions(matrix: Floats, *, center: bool, rtol: float = 1e-6) -> tuple[Doubles, Doubles, Doubles]:
    """Principal directions of the rows of ``matrix``, by descending singular value.

    Parameters
    ----------
    matrix : ndarray, shape (n, d)
    center : bool
        Subtract the mean row first.
    rtol : float
        Directions whose singular value is at most ``rtol`` times the largest are left out.

    Returns
    -------
    directions : ndarray, shape (r, d)
        Orthonormal rows; the entry of largest magnitude of each is positive.
    singular_values : ndarray, shape (r,)
    mean : ndarray, shape (d,)
        Zeros without ``center``.
    """
    import scipy.linalg

    values = np.asarray(matrix, np.float64)
    mean = values.mean(axis=0) if center else np.zeros(values.shape[1])
    _, S, Vt = scipy.linalg.svd(values - mean, full_matrices=False)
    rank = int(np.count_nonzero(rtol * S[0] < S)) if S.size else 0
    directions = Vt[:rank]
    signs = np.where(directions[np.arange(rank), np.abs(directions).argmax(axis=1)] < 0, -1.0, 1.0)
    return np.asarray(directions * signs[:, None]), S[:rank], mean

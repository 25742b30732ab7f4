"""Pure functions on matrices: unit rows, the spectrum of a product of projectors, bases of text embeddings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isomix._arrays import Doubles, Floats, blocks, check_nonzero_rows

__all__ = ["ProductSVD", "coordinate_map", "normalize_rows", "principal_directions", "svd_of_product"]

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


class ProductSVD(NamedTuple):
    """Thin singular value decomposition of Psi = W_imageᵀ W_text, cut at its numerical rank.

    Attributes
    ----------
    U : ndarray, shape (d_image, r)
        Left singular vectors: directions of the pre-projection image features.
    S : ndarray, shape (r,)
        Singular values, descending.
    V : ndarray, shape (d_text, r)
        Right singular vectors: directions of the pre-projection text features.
    """

    U: Doubles
    S: Doubles
    V: Doubles


def svd_of_product(image: Floats, text: Floats, *, rtol: float | None = None) -> ProductSVD:
    """Singular value decomposition of Psi = imageᵀ text without forming Psi.

    With the thin QR decompositions imageᵀ = Q_i R_i and textᵀ = Q_t R_t, Psi = Q_i (R_i R_tᵀ) Q_tᵀ, so that only a
    matrix of at most d x d has to be decomposed. Everything is computed in float64.

    Parameters
    ----------
    image : ndarray, shape (d, d_image)
        Image projector, out x in.
    text : ndarray, shape (d, d_text)
        Text projector, out x in.
    rtol : float, optional
        Singular values up to ``rtol`` times the largest count as zero. Default: the rounding of the stored weights,
        which is the larger dimension times epsilon for float64, and twice float32's epsilon for anything else (the
        rounding errors of stored weights are independent of one another, so they do not add up with the dimension).

    Returns
    -------
    ProductSVD
        Of rank r ≤ min(d, d_image, d_text).
    """
    import scipy.linalg

    if rtol is None:
        double = image.dtype == np.float64 and text.dtype == np.float64
        sizes = max(*image.shape, *text.shape)
        rtol = float(sizes * np.finfo(np.float64).eps if double else 2.0 * np.finfo(np.float32).eps)
    Q_i, R_i = scipy.linalg.qr(np.asarray(image, np.float64).T, mode="economic")
    Q_t, R_t = scipy.linalg.qr(np.asarray(text, np.float64).T, mode="economic")
    U, S, Vt = scipy.linalg.svd(R_i @ R_t.T, full_matrices=False, lapack_driver="gesdd")
    rank = int(np.count_nonzero(rtol * S[0] < S)) if S.size else 0
    U, V = Q_i @ U[:, :rank], Q_t @ Vt[:rank].T
    # LAPACK leaves the signs to chance; the largest entry of each left vector is made positive.
    signs = np.where(U[np.abs(U).argmax(axis=0), np.arange(rank)] < 0, -1.0, 1.0) if rank else np.ones(0)
    return ProductSVD(U * signs, S[:rank], V * signs)


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
    values = np.asarray(matrix, np.float64)
    mean = values.mean(axis=0) if center else np.zeros(values.shape[1])
    import scipy.linalg

    _, S, Vt = scipy.linalg.svd(values - mean, full_matrices=False)
    rank = int(np.count_nonzero(rtol * S[0] < S)) if S.size else 0
    directions = Vt[:rank]
    signs = np.where(directions[np.arange(rank), np.abs(directions).argmax(axis=1)] < 0, -1.0, 1.0)
    return np.asarray(directions * signs[:, None]), S[:rank], mean


def coordinate_map(weight: Doubles, directions: Doubles) -> Doubles:
    """U_kᵀ W⁺: from embeddings to their coordinates along directions of the pre-projection features.

    Least squares by a pivoted QR decomposition, four times faster than a pseudo-inverse.

    Parameters
    ----------
    weight : ndarray of float64, shape (d, d_in)
        W, out x in.
    directions : ndarray of float64, shape (d_in, k)
        U_k, orthonormal columns in the row space of W.

    Returns
    -------
    ndarray of float64, shape (k, d)
    """
    tolerance = max(weight.shape) * float(np.finfo(np.float64).eps)
    import scipy.linalg

    solution = scipy.linalg.lstsq(weight.T, directions, cond=tolerance, lapack_driver="gelsy")[0]
    return np.asarray(solution.T)

"""What every blocked product of embeddings needs: checked blocks with norms, float64 scores, rounding bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import Floats, as_array, as_matrix, blocks, check_finite_rows, check_nonzero_rows
from isomix.errors import InputError

__all__ = ["GalleryBlock", "as_gallery", "check_widths", "gallery_blocks", "pair_scores", "rounding_slack"]

PAIR_CHUNK = 1 << 23  # bytes of one gathered operand in pair_scores


class GalleryBlock(NamedTuple):
    """Some consecutive rows of a gallery.

    Attributes
    ----------
    start : int
        Number of the first row.
    rows : ndarray, shape (b, d)
        In the dtype of the product; a view of the gallery where it had that dtype already.
    norms : ndarray, shape (b,)
        Euclidean lengths of the rows.
    """

    start: int
    rows: Floats
    norms: Floats


def as_gallery(values: ArrayLike, name: str = "gallery") -> Floats:
    """Return ``values`` as they are, when they look like a matrix of embeddings; their contents are checked block by block.

    Raises
    ------
    InputError
        Not a two-dimensional array of float16, float32 or float64.
    """
    array = as_array(values, name)
    as_matrix(array[:0] if array.ndim == 2 else array, name)
    return array


def check_widths(query_width: int, gallery_width: int) -> None:
    """Raise :class:`InputError` when queries and gallery have different widths."""
    if query_width != gallery_width:
        raise InputError(
            f"queries: got width {query_width}, expected {gallery_width} (the gallery's). "
            "Both must come from the same model and space."
        )


def gallery_blocks(
    gallery: Floats | Iterator[ArrayLike],
    size: int,
    dtype: np.dtype[Any],
    *,
    width: int,
    nonzero_rows: bool,
    name: str = "gallery",
) -> Iterator[GalleryBlock]:
    """Blocks of at most ``size`` rows, converted to ``dtype`` and checked one at a time.

    Parameters
    ----------
    gallery : ndarray of shape (m, d), or iterator of such arrays
        Whole, or in pieces.
    size : int
    dtype : dtype
    width : int
        Expected d.
    nonzero_rows : bool
        Refuse rows of zeros.
    name : str

    Raises
    ------
    InputError
        Another width, NaN, infinite values or a refused row of zeros; the message has the row's number.
    """
    start = 0
    for piece in gallery if isinstance(gallery, Iterator) else (gallery,):
        rows_of_piece = as_gallery(piece, name)
        check_widths(width, rows_of_piece.shape[1])
        for part in blocks(rows_of_piece.shape[0], size):
            rows = np.asarray(rows_of_piece[part], dtype)
            yield GalleryBlock(start + part.start, rows, _norms(rows, start + part.start, name, nonzero_rows))
        start += rows_of_piece.shape[0]


def _norms(rows: Floats, start: int, name: str, nonzero_rows: bool) -> Floats:
    squares = np.einsum("ij,ij->i", rows, rows)
    # Squares within these limits prove a finite row with a direction, without another pass over it.
    if np.all((squares > 1e-30) & (squares < 1e30)):
        return np.asarray(np.sqrt(squares))
    check_finite_rows(rows, name, start=start)
    if nonzero_rows:
        check_nonzero_rows(rows, name, start=start)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=np.finfo(rows.dtype).tiny)
    return np.asarray(largest[:, 0] * np.linalg.norm(rows / largest, axis=1))


def pair_scores(
    left: Floats, right: Floats, i: NDArray[np.intp], j: NDArray[np.intp], *, normalize: bool
) -> NDArray[np.float64]:
    """Inner products or cosines of the pairs (left[i], right[j]) in float64, the same whatever block a row stands in.

    Parameters
    ----------
    left, right : ndarray, shape (m, d) and (n, d)
    i, j : ndarray of int, shape (p,)
    normalize : bool
        Cosines instead of inner products.

    Returns
    -------
    ndarray of float64, shape (p,)
    """
    scores = np.empty(i.size)
    for part in blocks(i.size, max(1, PAIR_CHUNK // (8 * max(1, left.shape[1])))):
        a, b = left[i[part]].astype(np.float64), right[j[part]].astype(np.float64)
        dots = np.einsum("ij,ij->i", a, b)
        if normalize:
            dots /= np.sqrt(np.einsum("ij,ij->i", a, a)) * np.sqrt(np.einsum("ij,ij->i", b, b))
        scores[part] = dots
    return scores


def rounding_slack(width: int, dtype: np.dtype[Any]) -> float:
    """How far a product of two unit vectors may be off when it is accumulated in ``dtype``.

    8 sqrt(d) u with the unit roundoff u: rounding errors behave as independent (Higham and Mary 2019, *A new approach to
    probabilistic rounding error analysis*), which fails with a probability of about 1e-14.
    """
    return float(8.0 * np.sqrt(max(1, width)) * np.finfo(dtype).eps / 2.0 + 4.0 * np.finfo(dtype).eps)

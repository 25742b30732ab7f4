"""Checks and conversions of the arrays that users hand in.

One place decides what a matrix of embeddings may look like: float16, float32 or float64, two-dimensional, finite,
no zero rows. Results are float32 unless float64 came in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix.errors import InputError

__all__ = [
    "Doubles",
    "Floats",
    "Indices",
    "as_array",
    "as_matrix",
    "bit_sums",
    "blocks",
    "check_finite_rows",
    "check_integer",
    "check_nonzero_rows",
    "first_identical",
    "working_dtype",
]

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Indices = NDArray[np.intp]


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float64 for float64, float32 for everything else that holds real numbers."""
    return np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices that cover ``range(n)`` in runs of at most ``size``."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _first(indices: NDArray[np.integer[Any]], limit: int = 5) -> str:
    shown = ", ".join(str(int(i)) for i in indices[:limit])
    return shown + (f" and {len(indices) - limit} more" if len(indices) > limit else "")


def as_array(values: Any, name: str) -> NDArray[Any]:
    """``values`` as an array; tensors without their gradient and from wherever they are, bfloat16 as float32.

    Raises
    ------
    InputError
        What cannot become an array.

    Examples
    --------
    >>> as_array([1.0, 2.0], "embeddings")
    array([1., 2.])
    """
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{name}: a {type(values).__name__} cannot become an array ({error}). Convert it first: rows of one width, "
            "float16, float32 or float64; for a list of tensors, torch.stack(rows)."
        ) from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def as_matrix(
    values: ArrayLike,
    name: str,
    *,
    width: int | None = None,
    width_of: str = "",
    nonzero_rows: bool = False,
    keep_half: bool = False,
    min_rows: int = 0,
) -> Floats:
    """Return ``values`` as a finite two-dimensional float array, or say what is wrong with it.

    Parameters
    ----------
    values : array_like, shape (n, d)
        float16, float32 or float64; integers are refused, because quantised embeddings need their scale.
    name : str
        What the array is called in the message, e.g. ``"embeddings"``.
    width : int, optional
        Required number of columns.
    width_of : str
        What has that width, for the message, e.g. ``"the image projector's output"``.
    nonzero_rows : bool
        Refuse rows of zeros (they have no direction).
    keep_half : bool
        Leave float16 as it is, for callers that convert block by block.
    min_rows : int
        Smallest number of rows.

    Returns
    -------
    ndarray, shape (n, d)
        float64 if float64 came in, else float32 (or float16 with ``keep_half``). A view where possible.

    Raises
    ------
    InputError
        Wrong dtype, number of dimensions, width, NaN or infinite values, zero rows, too few rows.
    """
    array = as_array(values, name)
    if array.dtype.kind != "f":
        raise InputError(
            f"{name}: got dtype {array.dtype}, expected float16, float32 or float64. "
            "Convert first; for quantised vectors undo the quantisation."
        )
    if array.ndim != 2:
        hint = " Use array[None, :] for a single vector." if array.ndim == 1 else ""
        raise InputError(f"{name}: got shape {array.shape}, expected two dimensions (rows, width).{hint}")
    if width is not None and array.shape[1] != width:
        of = f" ({width_of})" if width_of else ""
        raise InputError(f"{name}: got width {array.shape[1]}, expected {width}{of}.")
    if array.shape[0] < min_rows:
        raise InputError(f"{name}: got {array.shape[0]} rows, expected at least {min_rows}.")
    target = array.dtype if keep_half and array.dtype == np.float16 else working_dtype(array.dtype)
    matrix = np.asarray(array, dtype=target)
    for rows in blocks(matrix.shape[0], 65536):
        check_finite_rows(matrix[rows], name, start=rows.start)
        if nonzero_rows:
            check_nonzero_rows(matrix[rows], name, start=rows.start)
    return matrix


def check_finite_rows(matrix: Floats, name: str, *, start: int = 0) -> None:
    """Raise :class:`InputError` when a row holds NaN or infinite values; ``start`` is the first row's number."""
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name}: NaN or infinite (inf) values in row {_first(np.flatnonzero(~finite) + start)}. "
            "Drop such rows, or encode them again (a half-precision overflow looks like this)."
        )


def check_nonzero_rows(matrix: Floats, name: str, *, start: int = 0) -> None:
    """Raise :class:`InputError` when a row holds nothing but zeros; ``start`` is the first row's number."""
    zero = np.flatnonzero(~matrix.any(axis=1)) if matrix.shape[1] else np.arange(matrix.shape[0])
    if zero.size:
        raise InputError(
            f"{name}: row {_first(zero + start)} is all zeros and has no direction. "
            "Drop such rows: they usually stand for pictures that could not be read."
        )


def check_integer(value: object, name: str, *, minimum: int = 0) -> int:
    """Return ``value`` as an int of at least ``minimum``; bools and fractions are refused."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < minimum:
        raise InputError(f"{name}: got {value!r}, expected an integer of at least {minimum}.")
    return int(value)


def bit_sums(rows: Floats) -> NDArray[np.uint64]:
    """Sums of the bits of every row under fixed random odd factors; (n,). Equal rows have equal sums, others hardly ever."""
    rows = np.ascontiguousarray(rows) + rows.dtype.type(0.0)  # -0.0 becomes 0.0
    factors = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], np.uint64) | np.uint64(1)
    return np.asarray(rows.view(f"u{rows.dtype.itemsize}") @ factors, np.uint64)


def first_identical(matrix: Floats) -> Indices:
    """Number of the first row that equals each row bit for bit; (n,).

    Examples
    --------
    >>> import numpy as np
    >>> first_identical(np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]))
    array([0, 1, 0])
    """
    rows = np.ascontiguousarray(matrix) + 0.0  # -0.0 becomes 0.0
    first_rows = np.arange(len(rows))
    _, inverse, counts = np.unique(bit_sums(rows), return_inverse=True, return_counts=True)  # only these are compared
    first: dict[bytes, int] = {}
    for i in np.flatnonzero(counts[inverse] > 1):
        first_rows[i] = first.setdefault(rows[i].tobytes(), int(i))
    return first_rows

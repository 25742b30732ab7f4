"""The scikit-learn side of every estimator: its input checks, with errors of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from isomix._arrays import Floats, as_array, check_finite_rows, working_dtype
from isomix.errors import InputError, NotFittedError

__all__ = ["check_fit_rows", "check_fitted", "check_rows"]

FLOATS = (np.float64, np.float32, np.float16)


def check_fit_rows(estimator: BaseEstimator, X: ArrayLike, name: str, *, min_rows: int = 1) -> Floats:
    """Validate the matrix given to ``fit`` and record its width and column names on the estimator.

    Returns
    -------
    ndarray, shape (n, d)
        float64 if float64 (or integers) came in, else float32.

    Raises
    ------
    InputError
    """
    if hasattr(X, "detach") or getattr(getattr(X, "dtype", None), "name", "") == "bfloat16":
        X = as_array(X, name)
    try:
        matrix = validate_data(estimator, X, dtype=FLOATS, ensure_min_samples=min_rows, ensure_all_finite=False)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    check_finite_rows(matrix, name)
    return np.asarray(matrix, working_dtype(matrix.dtype))


def check_rows(estimator: BaseEstimator, X: ArrayLike, name: str) -> NDArray[Any]:
    """Validate shape, dtype and width of a matrix given to a fitted estimator; half precision stays as it is.

    Values are not looked at: callers find NaN and zero rows in the result of their own product, at no cost.

    Raises
    ------
    InputError, NotFittedError
    """
    check_fitted(estimator)
    tensor = hasattr(X, "detach")
    array = (
        as_array(X, name) if tensor or getattr(getattr(X, "dtype", None), "name", "") == "bfloat16" else np.asarray(X)
    )
    X = array if tensor else X
    if array.dtype.kind in "USVMm":
        raise InputError(f"{name}: got dtype {array.dtype}, expected float16, float32 or float64.")
    plain = array.ndim == 2 and array.dtype.kind == "f" and array.shape[0] > 0
    try:
        if plain:
            validate_data(estimator, X, reset=False, skip_check_array=True)
        else:  # scikit-learn's words for sparse, complex, text, missing dimensions and the like
            array = validate_data(estimator, X, reset=False, dtype=FLOATS)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    return array


def check_fitted(estimator: BaseEstimator) -> None:
    """Raise :class:`isomix.errors.NotFittedError` before ``fit``."""
    try:
        check_is_fitted(estimator)
    except ValueError as error:
        raise NotFittedError(
            f"this {type(estimator).__name__} is not fitted yet. Call fit first, or load a saved one."
        ) from error

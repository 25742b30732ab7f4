"""What ``fit`` and ``predict`` are given, checked: rows, labels and weights of shots, and blocks of queries."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from isomix._arrays import (
    Doubles,
    Floats,
    Indices,
    check_finite_rows,
    check_nonzero_rows,
    first_identical,
    working_dtype,
)
from isomix._estimators import check_fit_rows, check_rows
from isomix.errors import InputError, IsomixWarning
from isomix.linalg import normalize_rows

__all__ = [
    "all_classes",
    "check_labels",
    "check_number",
    "check_one_label_each",
    "check_something_each",
    "read_shots",
    "read_validation",
    "unique_shots",
    "unit_rows",
]

UNIT_TOLERANCE = 1e-2


def check_number(
    value: object, name: str, *, highest: float = np.inf, positive: bool = False, chosen: bool = False
) -> None:
    """Raise :class:`InputError` unless ``value`` is a finite number from 0 to ``highest``, or None where it is chosen."""
    if value is None and chosen:
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and 0.0 <= float(value) <= highest and float(value) < np.inf and not (positive and not value):  # type: ignore[arg-type]
        return
    wanted = (
        "a positive number" if positive else "a number of at least 0" if highest == np.inf else "a number from 0 to 1"
    )
    raise InputError(f"{name}: got {value!r}, expected {wanted}{', or None (chosen)' if chosen else ''}.")


def read_shots(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool
) -> tuple[Floats, NDArray[Any], Doubles]:
    """Unscaled rows (n, d), labels (n,) and weights (n,) of the shots with a positive weight.

    Parameters
    ----------
    estimator : BaseEstimator
        Whose width is recorded (``reset``) or checked.

    Raises
    ------
    InputError
    """
    if y is None:
        raise InputError(f"{type(estimator).__name__}.fit requires y to be passed, but the target y is None.")
    if reset:
        matrix = check_fit_rows(estimator, X, "images")
    else:
        array = check_rows(estimator, X, "images")
        matrix = np.asarray(array, working_dtype(array.dtype))
        check_finite_rows(matrix, "images")
    check_labels(y, "y")
    try:
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        with warnings.catch_warnings():  # one shot a class is no regression
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(labels)
        weights = np.asarray(_check_sample_weight(sample_weight, matrix, dtype=np.float64), np.float64)
    except ValueError as error:
        raise InputError(
            f"labels or weights: {error} Give one string or integer, and at most one weight, a row."
        ) from error
    if len(labels) != len(matrix):
        raise InputError(
            f"images and labels: got {len(matrix)} rows and {len(labels)} labels, expected one label a row."
        )
    if (weights < 0).any():
        raise InputError(f"sample_weight: got {weights.min():g}, expected weights of at least 0.")
    check_nonzero_rows(matrix, "images")
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    if np.abs(lengths - 1.0).max() > UNIT_TOLERANCE:
        warnings.warn(
            f"images: rows have lengths from {lengths.min():.3g} to {lengths.max():.3g}; they were scaled to length 1.",
            IsomixWarning,
            stacklevel=4,
        )
    used = weights > 0
    return matrix[used], labels[used], weights[used]


def check_labels(labels: Any, name: str) -> None:
    """Raise :class:`InputError` for labels that are bytes, None, or strings that UTF-8 cannot write."""
    array = np.asarray(labels) if hasattr(labels, "dtype") else labels
    if isinstance(array, np.ndarray) and array.dtype.kind not in "SUO":
        return
    for i, label in enumerate(array if isinstance(array, list | tuple | np.ndarray) else []):
        if isinstance(label, bytes):
            raise InputError(
                f"{name}: label {i} is bytes ({label!r}), expected a string. Decode them: "
                f"[label.decode() for label in {name}]."
            )
        if label is None:
            raise InputError(
                f"{name}: label {i} is None, expected a string or an integer. Give one string or integer a row; leave rows "
                "without a label out."
            )
        if isinstance(label, str) and not label.isascii():
            try:
                label.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{name}: label {i}, {label!r}, is not UTF-8 (a file name in another encoding, perhaps). Write it anew: "
                    "label.encode('utf-8', 'surrogateescape').decode('latin-1')."
                ) from error


def read_validation(
    estimator: BaseEstimator, validation: Any, classes: NDArray[Any], name: str = "validation"
) -> tuple[Floats, Indices]:
    """Unit rows (m, d) and class numbers (m,) of the pair ``validation=(embeddings, labels)``, or of another ``name``.

    Raises
    ------
    InputError
    """
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise InputError(f"{name}: got {type(validation).__name__}, expected two arrays, {name}=(embeddings, labels).")
    array = check_rows(estimator, validation[0], f"{name} images")
    matrix = np.asarray(array, working_dtype(array.dtype))
    check_finite_rows(matrix, f"{name} images")
    check_labels(validation[1], f"{name} labels")
    matrix, labels = normalize_rows(matrix, f"{name} images"), np.asarray(validation[1])
    if labels.shape != (len(matrix),):
        raise InputError(
            f"{name}: got {len(matrix)} rows and labels of shape {labels.shape}, expected one label a row."
        )
    unknown = labels[~np.isin(labels, classes)]
    if unknown.size:
        raise InputError(
            f"{name}: labels {np.unique(unknown)[:5].tolist()!r} are no classes of the shots or texts. Leave their "
            "pictures out, or give text of them."
        )
    return matrix, np.searchsorted(classes, labels).astype(np.intp)


def all_classes(labels: NDArray[Any], more: list[Any]) -> NDArray[Any]:
    """Sorted labels of the shots and of whatever else names classes; :class:`InputError` for fewer than two, or mixed types."""
    try:
        classes = np.unique(labels)
        if more:
            extra = np.array(more, dtype=object) if labels.dtype == object else np.asarray(more)
            if (extra.dtype.kind in "US") != (labels.dtype.kind in "US") and labels.dtype != object:
                raise TypeError(f"labels of kinds {labels.dtype} and {extra.dtype}")
            classes = np.union1d(classes, extra)
    except TypeError as error:
        raise InputError(f"labels in y and text cannot be put in one order ({error}). Use one type for all.") from error
    if len(classes) < 2:
        raise InputError(
            f"got {len(classes)} class ({classes.tolist()!r}), expected at least two classes with pictures or text."
        )
    return classes


def check_something_each(classes: NDArray[Any], labels: NDArray[Any], has_text: NDArray[np.bool_]) -> None:
    """Raise :class:`InputError` for classes without text and pictures."""
    neither = classes[~has_text & ~np.isin(classes, labels)]
    if neither.size:
        raise InputError(
            f"classes {neither[:5].tolist()!r} have neither text nor pictures with a positive weight. Give one of the two, leave "
            "them out, or announce them with partial_fit(..., classes=[...]) if pictures come later."
        )


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


def unique_shots(
    matrix: Floats, labels: NDArray[Any], weights: Doubles, classes: NDArray[Any]
) -> tuple[Floats, Indices, Doubles]:
    """Unit rows; a picture given twice becomes one shot of twice the weight, so that leaving it out leaves it out."""
    numbers = np.searchsorted(classes, labels).astype(np.intp)
    twins = first_identical(matrix)
    check_one_label_each(twins, numbers, classes)
    kept = np.unique(twins)
    if len(kept) < len(matrix):
        weights = np.asarray(np.bincount(twins, weights, minlength=len(matrix)), np.float64)[kept]
        matrix, numbers = matrix[kept], numbers[kept]
    return normalize_rows(matrix, "images"), numbers, weights


def unit_rows(block: Floats, start: int) -> Floats:
    """Unit rows; one pass for the ordinary lengths, :func:`normalize_rows` and a look at every value for the others."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", block, block)
    if ((squares > 1e-12) & (squares < 1e12)).all():
        return np.asarray(block / np.sqrt(squares)[:, None])
    check_finite_rows(block, "images", start=start)
    return normalize_rows(block, "images")

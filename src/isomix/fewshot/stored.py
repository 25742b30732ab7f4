"""What a saved classifier holds, checked before anything is computed from it: a file may come from anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._documents import Document
from isomix.errors import FileFormatError
from isomix.fewshot.pool_trust import Pool

__all__ = ["check_prediction", "check_stored", "moment_problems", "read_labels"]

TEMPERATURES = (1e-3, 1e4)
"""Wider than what calibration chooses from."""
LARGEST_COEFFICIENT = 1e30
"""Whose products with unit rows float32 can hold."""
UNIT = 1e-2
_LABELS = {"U": str, "O": str, "i": int, "u": int, "b": bool}


def check_stored(
    document: Document, path: str | os.PathLike[str], sources: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    """Raise :class:`FileFormatError` with every problem found.

    Parameters
    ----------
    document : Document
        Whose tensors have the right shapes.
    path : path-like
        For the message.
    sources : tuple of str
        Where weights may come from.
    kept : tuple of str
        Names of the shots, their class numbers and weights; empty for a classifier that keeps none.
    """
    parameters, tensors = document.parameters, document.tensors
    problems = [
        *_of_labels(parameters, len(tensors["counts"])),
        *_of_numbers(parameters, sources),
        *moment_problems(tensors["counts"], tensors["means"], tensors["scatter"], ""),
        *_of_texts(tensors),
        *_of_pool(parameters, tensors),
        *(_of_shots([tensors.get(name) for name in kept], tensors) if kept else ()),
    ]
    if problems:
        raise FileFormatError(f"{os.fspath(path)} cannot be used: " + "; ".join(problems) + ".")


def read_labels(parameters: Mapping[str, Any]) -> NDArray[Any]:
    """The checked labels; strings are as wide as the longest, whatever the file says."""
    kind = _kind(parameters)
    return np.array(parameters["labels"], {"U": str, "O": object}.get(kind, parameters["label_dtype"]))


def check_prediction(coef: Any, intercept: Any, logits: NDArray[Any], path: str | os.PathLike[str]) -> None:
    """Raise :class:`FileFormatError` where the weights of a file lead to numbers that are not finite in float32."""
    numbers = [np.asarray(array) for array in (coef, intercept, logits) if array is not None]
    if not all(np.isfinite(array).all() and np.abs(array).max(initial=0.0) < LARGEST_COEFFICIENT for array in numbers):
        raise FileFormatError(
            f"{os.fspath(path)} cannot be used: its weights give logits that are not finite. Fit the classifier again."
        )


def _kind(parameters: Mapping[str, Any]) -> str:
    dtype = parameters.get("label_dtype")
    if dtype == "object":
        return "O"
    found = re.fullmatch(r"[<>|=]?([iubU])\d{1,9}", dtype) if isinstance(dtype, str) else None
    return found[1] if found else ""


def _of_labels(parameters: Mapping[str, Any], n_classes: int) -> Iterator[str]:
    labels, kind = parameters.get("labels"), _kind(parameters)
    if not kind:
        yield f"label_dtype is {parameters.get('label_dtype')!r}, expected strings or integers"
    if not isinstance(labels, list) or len(labels) != n_classes or n_classes < 2:
        found = f"{len(labels)} labels" if isinstance(labels, list) else f"labels of type {type(labels).__name__}"
        yield f"{found} for {n_classes} classes, expected one each and at least two"
        return
    wanted = _LABELS.get(kind, str)
    wrong = [label for label in labels if type(label) is not wanted]
    if wrong:
        yield f"label {wrong[0]!r} is a {type(wrong[0]).__name__}, expected {wanted.__name__}"
    elif len(set(labels)) < len(labels):
        yield f"label {next(label for label in labels if labels.count(label) > 1)!r} stands there more than once"
    elif labels != sorted(labels):
        yield "the labels are not in order"


def _of_numbers(parameters: Mapping[str, Any], sources: tuple[str, ...]) -> Iterator[str]:
    temperature: Any = parameters.get("temperature")
    if not _is_number(temperature) or not TEMPERATURES[0] <= temperature <= TEMPERATURES[1]:
        yield f"temperature is {temperature!r}, expected a number from {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g}"
    scale = parameters.get("logit_scale")
    if scale is not None and not (_is_number(scale) and 0 < scale < LARGEST_COEFFICIENT):
        yield f"logit_scale is {scale!r}, expected a number above 0"
    if parameters.get("weight_tier") not in sources:
        yield f"weights from {parameters.get('weight_tier')!r}, expected one of {', '.join(sources)}"
    learned = parameters.get("learned")
    if not isinstance(learned, dict) or not isinstance(parameters.get("arguments"), dict):
        yield "learned or arguments is missing, expected an object"
        return
    for name, value in learned.items():
        if value is not None and not (_is_number(value) and 0 <= value < LARGEST_COEFFICIENT):
            yield f"weight {name!r} is {value!r}, expected a number of at least 0"
    for name, value in parameters["arguments"].items():
        if _is_number(value) and not abs(value) < LARGEST_COEFFICIENT:
            yield f"argument {name!r} is {value!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def moment_problems(counts: NDArray[Any], means: NDArray[Any], scatter: NDArray[Any], what: str) -> Iterator[str]:
    """What keeps arrays from being the moments of unit rows; ``what`` stands in front of each."""
    if any(array.dtype.kind != "f" for array in (counts, means, scatter)):
        yield f"{what}counts, means or scatter are no floats"
        return
    if (counts < 0).any() or not counts.any():
        yield f"{what}counts from {counts.min():g} to {counts.max():g}, expected at least 0 each and some above"
    lengths = np.sqrt(np.einsum("ij,ij->i", means, means, dtype=np.float64))
    if (lengths > 1.0 + UNIT).any():
        yield f"{what}means up to a length of {lengths.max():.3g}, expected means of unit rows"
    largest, total = float(np.abs(scatter).max(initial=0.0)), float(counts.sum())
    if largest > total * (1.0 + UNIT) or (np.diag(scatter) < 0).any():
        yield f"{what}scatter up to {largest:.3g} of {total:g} unit rows, expected at most that, and no variance below 0"
    elif np.abs(scatter - scatter.T).max(initial=0.0) > 1e-5 * largest:
        yield f"{what}scatter is not symmetric"


def _of_texts(tensors: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    text, known = tensors["text"], tensors["has_text"]
    if text.dtype.kind != "f" or known.dtype.kind not in "biu" or not np.isin(known, (0, 1)).all():
        yield f"text and has_text of dtypes {text.dtype} and {known.dtype}, expected floats, and true or false"
        return
    if not _unit(text[known.astype(bool)]) or text[~known.astype(bool)].any():
        yield "text rows are neither of unit length nor, without text, zero"
    if np.count_nonzero((tensors["counts"] > 0) | known.astype(bool)) < 2:
        yield "fewer than two classes have pictures or text"
    if "prompts" in tensors:
        prompts, numbers = tensors["prompts"], tensors["prompt_counts"]
        if prompts.dtype.kind != "f" or numbers.dtype.kind not in "iu" or (numbers < 0).any():
            yield "prompts or prompt_counts of a wrong dtype, or counts below 0"
        elif sum(numbers.tolist()) != len(prompts) or not ((numbers > 0) == known.astype(bool)).all():
            yield f"prompt_counts of {sum(numbers.tolist())} prompts do not belong to the {len(prompts)} there are"
        elif not _unit(prompts):
            yield "prompts are not of unit length"


def _of_pool(parameters: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    pool = parameters.get("pool")
    if "pool" not in parameters:
        return
    expected = [name for name in Pool._fields if name != "term"]
    if not isinstance(pool, dict) or sorted(pool) != sorted(expected):
        yield f"pool is {pool!r:.80}, expected an object of {', '.join(expected)}"
        return
    wrong = [name for name in expected if not _is_number(pool[name]) or not abs(pool[name]) < LARGEST_COEFFICIENT]
    if wrong:
        yield f"pool: {wrong[0]} is {pool[wrong[0]]!r:.80}, expected a number"
    elif not 0 < pool["weight"] <= 1:
        yield f"pool: weight is {pool['weight']!r}, expected a number above 0, up to 1"
    if any(tensors[name].dtype.kind != "f" for name in ("pool_coef", "pool_intercept")):
        yield "pool_coef or pool_intercept are no floats"


def _of_shots(shots: list[Any], tensors: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    (X, y, weights), counts, width = shots, tensors["counts"], tensors["means"].shape[1]
    if X is None or y is None or weights is None:
        yield "the shots are missing"
    elif X.ndim != 2 or X.shape[1] != width or not (y.shape == weights.shape == X.shape[:1]):
        yield f"shots, class numbers and weights of shapes {X.shape}, {y.shape} and {weights.shape} (width {width})"
    elif X.dtype.kind != "f" or y.dtype.kind not in "iu" or weights.dtype.kind != "f":
        yield f"shots, class numbers and weights of dtypes {X.dtype}, {y.dtype} and {weights.dtype}"
    elif (y < 0).any() or (y >= len(counts)).any():
        yield f"shots of class numbers beyond the {len(counts)} classes"
    elif (weights <= 0).any() or not np.allclose(np.bincount(y, weights, minlength=len(counts)), counts, 1e-6, 1e-9):
        yield "the weights of the shots do not sum up to the counts"
    elif not _unit(X):
        yield "shots are not of unit length"


def _unit(rows: NDArray[Any]) -> bool:
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return bool((np.abs(squares - 1.0) < UNIT).all())

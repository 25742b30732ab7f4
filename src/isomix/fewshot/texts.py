"""The ``text=`` argument: class text embeddings as an array or a mapping, one vector or several prompts a class."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, as_matrix, first_identical
from isomix.errors import InputError, IsomixWarning
from isomix.linalg import normalize_rows

__all__ = ["ClassTexts", "labels_of", "read_texts", "warn_identical"]

ENCODE_FIRST = "Encode the sentences first: encoder.encode_text(sentences).embeddings."
WIDTH_OF = "the image embeddings; both must come from the same model"


class ClassTexts(NamedTuple):
    """Text embeddings of some classes.

    Attributes
    ----------
    vectors : ndarray of float64, shape (C, d)
        Unit rows: the normalised mean over the normalised prompts of a class; zero for a class without text.
    known : ndarray of bool, shape (C,)
        Which classes have text.
    prompts : list of ndarray, shape (p, d) each
        The normalised prompts; p = 0 for a class without text.
    """

    vectors: Doubles
    known: NDArray[np.bool_]
    prompts: list[Doubles]


def labels_of(text: Any) -> list[Any]:
    """Labels that a mapping names; none for arrays, which go by the order of the sorted classes."""
    return list(text) if isinstance(text, Mapping) else []


def read_texts(text: Any, classes: NDArray[Any], width: int) -> ClassTexts:
    """Bring ``text`` into the order of ``classes``.

    Parameters
    ----------
    text : array_like (C, d) or (C, p, d), list of C arrays (p, d), mapping of label to (d,) or (p, d) array or None, or None
    classes : ndarray, shape (C,)
        Sorted labels.
    width : int
        Width d of the image embeddings.

    Raises
    ------
    InputError
        Wrong number of classes or width, unusable values, or a label of the mapping that is not a class.
    """
    if text is None:
        entries: list[Any] = [None] * len(classes)
    elif isinstance(text, Mapping):
        known = set(classes.tolist())
        unknown = [label for label in text if label not in known]
        if unknown:
            raise InputError(
                f"text: labels {unknown[:5]!r} are not among the {len(classes)} classes (first: {classes[:3].tolist()!r}). "
                "Use the same labels as in y, of the same type."
            )
        entries = [text.get(label) for label in classes.tolist()]
    else:
        array = _as_array(text)
        if array.dtype.kind in "US":
            raise InputError(f"text: got strings, expected embeddings. {ENCODE_FIRST}")
        if (array.dtype.kind != "O" and array.ndim not in (2, 3)) or len(array) != len(classes):
            raise InputError(
                f"text: got shape {array.shape}, expected ({len(classes)}, {width}) or ({len(classes)}, prompts, {width}): "
                "one entry for each class, in the order of the sorted labels. Use a mapping {label: vector} to name the "
                "classes, also those that have text and no pictures."
            )
        if array.ndim == 2 and array.dtype.kind == "f":
            rows = as_matrix(array, "text", width=width, width_of=WIDTH_OF, nonzero_rows=True)
            unit = np.asarray(normalize_rows(rows.astype(np.float64)), np.float64)
            return ClassTexts(unit, np.ones(len(classes), bool), list(unit[:, None]))
        entries = list(array)
    vectors, has_text, prompts = np.zeros((len(classes), width)), np.zeros(len(classes), bool), []
    for i, (label, entry) in enumerate(zip(classes.tolist(), entries, strict=True)):
        rows = _prompts(entry, label, width)
        prompts.append(rows)
        if len(rows):
            has_text[i] = True
            mean = rows.mean(axis=0, keepdims=True)
            vectors[i] = rows[0] if len(rows) == 1 else normalize_rows(mean, f"mean prompt of class {label!r}")[0]
    return ClassTexts(vectors, has_text, prompts)


def _as_array(text: Any) -> NDArray[Any]:
    """As an array; of objects, one a class, where the classes differ in their number of prompts."""
    try:
        return np.atleast_1d(np.asarray(text))
    except ValueError:
        entries = np.empty(len(text), dtype=object)
        entries[:] = list(text)
        return entries


def _prompts(entry: Any, label: Any, width: int) -> Doubles:
    if entry is None:
        return np.zeros((0, width))
    array = np.asarray(entry)
    if array.dtype.kind != "f":
        raise InputError(
            f"text of class {label!r}: got {type(entry).__name__} of dtype {array.dtype}, expected embeddings. "
            f"{ENCODE_FIRST}"
        )
    rows = as_matrix(
        array[None] if array.ndim == 1 else array,
        f"text of class {label!r}",
        width=width,
        width_of=WIDTH_OF,
        nonzero_rows=True,
        min_rows=1,
    )
    return np.asarray(normalize_rows(rows.astype(np.float64)))


def warn_identical(texts: ClassTexts, classes: NDArray[Any]) -> None:
    """Warn about classes with the same text: nothing but their pictures can tell them apart."""
    places = np.flatnonzero(texts.known)
    twins = places[first_identical(texts.vectors[places])]
    later = np.flatnonzero(twins != places)
    if later.size:
        pairs = ", ".join(f"{classes[twins[j]].item()!r} and {classes[places[j]].item()!r}" for j in later[:5])
        more = f" and {later.size - 5} more" if later.size > 5 else ""
        warnings.warn(
            f"text: the classes {pairs}{more} have identical text embeddings, so only their pictures tell them apart. "
            "Use names or prompts that differ.",
            IsomixWarning,
            stacklevel=4,
        )

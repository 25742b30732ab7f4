"""The ``text=`` argument: class text embeddings as an array or a mapping, one vector or several prompts a class."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Doubles, as_array, as_matrix, first_identical
from isomix.errors import InputError, IsomixWarning
from isomix.linalg import normalize_rows

__all__ = ["ClassTexts", "labels_of", "read_texts", "warn_identical", "warn_misspelt"]

ENCODE_FIRST = "Encode the sentences first: encoder.encode_text(sentences).embeddings."
COMPARED_NAMES = 50_000
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

    def some(self, wanted: NDArray[np.bool_]) -> ClassTexts:
        """Of some classes."""
        if wanted.all():
            return self
        return ClassTexts(self.vectors[wanted], self.known[wanted], [self.prompts[i] for i in np.flatnonzero(wanted)])


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
    if hasattr(text, "detach"):
        return np.atleast_1d(as_array(text, "text"))
    try:
        return np.atleast_1d(np.asarray(text))
    except ValueError:
        entries = np.empty(len(text), dtype=object)
        entries[:] = list(text)
        return entries


def _prompts(entry: Any, label: Any, width: int) -> Doubles:
    if entry is None:
        return np.zeros((0, width))
    array = as_array(entry, f"text of class {label!r}")
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


def warn_misspelt(
    text: Any, classes: NDArray[Any], with_images: Collection[Any], announced: Collection[Any] = ()
) -> None:
    """Warn about classes that a misspelt name has made: one spelling has the pictures, another one the text.

    A class without pictures and one without text are both legitimate. What is suspicious is that both kinds are there at once,
    or that a name is nearly that of another class.

    Parameters
    ----------
    text : what ``fit`` was given
        Only a mapping names classes. A label that it maps to None is meant to have no text.
    classes : ndarray, shape (C,)
        Sorted labels.
    with_images : collection of labels
        Those that have pictures.
    announced : collection of labels
        Those that the user has listed, which are meant as they are.
    """
    if not isinstance(text, Mapping) or not text:
        return
    names, meant = classes.tolist(), set(announced)
    untold = [label for label in names if label not in text and label not in meant]
    unseen = [
        label for label in names if text.get(label) is not None and label not in with_images and label not in meant
    ]
    both, few = bool(untold and unseen), (len(untold) + len(unseen)) * len(names) <= COMPARED_NAMES
    if not both and not few:  # hundreds of new classes are no slips
        return
    cutoff, suspects = 0.6 if both else 0.8, {}
    for label in untold + unseen:
        near = _nearest(label, [other for other in names if other != label], cutoff) if few else None
        if both or near is not None:
            suspects[label] = near
    if not suspects:
        return

    def listed(labels: list[Any]) -> str:
        shown = [
            f"{label!r}" + (f" (near {suspects[label]!r})" if suspects[label] is not None else "")
            for label in labels[:5]
        ]
        return ", ".join(shown) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")

    kinds = {"pictures and no text": untold, "text and no pictures": unseen}
    said = {what: listed([label for label in labels if label in suspects]) for what, labels in kinds.items()}
    words = "; ".join(f"{what}: {labels}" for what, labels in said.items() if labels)
    warnings.warn(
        f"text: misspelt labels? {words}. Each label is a class of its own. "
        "Spell them as in y. If they are meant, write text={label: None} for a class without text; for one without "
        "pictures, warnings.filterwarnings('ignore', 'text: misspelt', isomix.errors.IsomixWarning).",
        IsomixWarning,
        stacklevel=3,
    )


def _nearest(label: Any, others: list[Any], cutoff: float) -> Any:
    """The label whose name is nearest, if one is near; names that differ in numbers alone are a series, no slip."""
    written = {_plain(other): other for other in others}
    name = _plain(label)
    if name in written:
        return written[name]
    series = re.sub(r"\d+", "0", name)
    some = [other for other in written if re.sub(r"\d+", "0", other) != series and _differ_in_a_word(name, other)]
    close = difflib.get_close_matches(name, some, 1, cutoff)
    return written[close[0]] if close else None


def _plain(label: Any) -> str:
    """A name without case, underscores, hyphens and doubled spaces."""
    return " ".join(re.sub(r"[_-]", " ", str(label).casefold()).split())


def _differ_in_a_word(one: str, other: str) -> bool:
    """False for "class a" and "class b", whose words are other words rather than the same one misspelt."""
    words, others = one.split(), other.split()
    if len(words) != len(others):
        return True
    pairs = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
    return all(min(len(a), len(b)) > 2 and difflib.SequenceMatcher(None, a, b).ratio() >= 0.6 for a, b in pairs)

"""Cross-validation of a few-shot classifier over its own shots."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from isomix.errors import InputError
from isomix.fewshot.base import FewShotClassifier

__all__ = ["CrossValidation", "cross_validate"]


@dataclass(frozen=True)
class CrossValidation:
    """Accuracy on shots that the classifier had not seen.

    Attributes
    ----------
    accuracy : float
    n : int
        Shots judged, every one once.
    folds : int
    confusions : list of (str, str, int)
        True label, predicted label and how often, most frequent first.
    suspects : list of (int, str, str)
        Number, label and prediction of every shot taken for another class, those first whose prediction leads by most:
        where labels may be wrong, and where to look first.
    """

    accuracy: float
    n: int
    folds: int
    confusions: list[tuple[Any, Any, int]]
    suspects: list[tuple[int, Any, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The same as values for JSON."""
        return asdict(self)


def cross_validate(
    classifier: FewShotClassifier, X: ArrayLike, y: ArrayLike, text: Any = None, *, folds: int = 5, seed: int = 0
) -> CrossValidation | None:
    """Stratified k-fold cross-validation; weights are chosen anew in every fold.

    Parameters
    ----------
    classifier : FewShotClassifier
        Cloned, not changed.
    X : array_like, shape (n, d)
    y : array_like, shape (n,)
    text : as in ``fit``
    folds : int
        At most; a class with fewer shots lowers it. 0: no cross-validation.
    seed : int
        Of the shuffle.

    Returns
    -------
    CrossValidation or None
        None where a class has a single shot, or with ``folds=0``.
    """
    labels: NDArray[Any] = np.asarray(y)
    matrix = np.asarray(X)
    if folds == 1 or folds < 0:
        raise InputError(f"folds: got {folds}, expected 0 for none or at least 2.")
    if not len(labels) or not folds:
        return None
    usable = min(folds, int(np.unique(labels, return_counts=True)[1].min()))
    if usable < 2:
        return None
    guesses = np.empty(len(labels), object)
    leads = np.empty(len(labels))
    for train, held in StratifiedKFold(usable, shuffle=True, random_state=seed).split(matrix, labels):
        fitted = clone(classifier).set_params(calibrate=False).fit(matrix[train], labels[train], text)
        logits = fitted.logits(matrix[held])
        guesses[held] = fitted.classes_[logits.argmax(axis=1)].tolist()
        leads[held] = logits.max(axis=1) - logits[np.arange(len(held)), np.searchsorted(fitted.classes_, labels[held])]
    wrong = np.flatnonzero(guesses != np.array(labels.tolist(), object))
    suspects = [(int(i), labels[i].item(), guesses[i]) for i in sorted(wrong, key=lambda i: (-leads[i], i))]
    pairs = Counter((label, guess) for _, label, guess in suspects)
    confusions = [(t, g, count) for (t, g), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))]
    return CrossValidation(1.0 - len(wrong) / len(labels), len(labels), usable, confusions, suspects)

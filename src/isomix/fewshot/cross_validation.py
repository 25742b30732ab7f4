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
    """

    accuracy: float
    n: int
    folds: int
    confusions: list[tuple[Any, Any, int]]

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
    guesses = np.empty_like(labels)
    for train, held in StratifiedKFold(usable, shuffle=True, random_state=seed).split(matrix, labels):
        fitted = clone(classifier).set_params(calibrate=False).fit(matrix[train], labels[train], text)
        guesses[held] = fitted.predict(matrix[held])
    wrong = Counter((t, g) for t, g in zip(labels.tolist(), guesses.tolist(), strict=True) if t != g)
    confusions = [(t, g, count) for (t, g), count in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))]
    return CrossValidation(float(np.mean(guesses == labels)), len(labels), usable, confusions)

"""scikit-learn's estimator checks on every registered classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from isomix.fewshot import APE, CLASSIFIERS, FewShotClassifier
from isomix.fewshot.texts import labels_of

# The checks know no text=, and their data are no unit rows: those two notes are not what is checked here.
pytestmark = pytest.mark.filterwarnings("ignore::isomix.errors.IsomixWarning")


def expected_failures(estimator: Any) -> dict[str, str]:
    zeros = "its integer data hold a row of zeros, which has no direction and is refused"
    if isinstance(estimator, APE):
        one_channel = "one of its two channels is selected, on which some rows are zero"
        return {"check_estimators_dtypes": zeros, "check_classifier_data_not_an_array": one_channel}
    return {"check_estimators_dtypes": zeros}


def made_up_text(X: Any, y: Any, sample_weight: Any) -> Any:
    """The mean row of every label turned a little towards a common gap; None for what a classifier has to refuse."""
    try:
        rows, labels = np.asarray(X), np.asarray(y).ravel()
        if np.iscomplexobj(rows) or rows.ndim != 2 or len(rows) != len(labels) or not all(labels == labels):
            return None
        rows = rows.astype(np.float64)
        if not np.isfinite(rows).all():
            return None
        weights = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        used = weights > 0
        rows, labels, weights = rows[used], labels[used], weights[used]
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        text = [np.average(unit[labels == c], axis=0, weights=weights[labels == c]) + 0.1 for c in np.unique(labels)]
        return np.stack(text)
    except (TypeError, ValueError, IndexError):
        return None


def supplied_with_text(cls: type[FewShotClassifier]) -> type[FewShotClassifier]:
    """A subclass whose ``fit`` makes up the texts."""

    def fit(self: Any, X: Any, y: Any, text: Any = None, sample_weight: Any = None) -> Any:
        if not labels_of(text):
            text = made_up_text(X, y, sample_weight)
        if text is None:  # the classifier refuses unusable rows only after it has seen that there is a text
            text = np.ones((1, 1))
        return cls.fit(self, X, y, text, sample_weight)

    made = type(f"{cls.__name__}WithText", (cls,), {"fit": fit, "__module__": __name__})
    globals()[made.__name__] = made  # picklable
    return made


ESTIMATORS = [(supplied_with_text(cls) if cls.needs_text else cls)() for cls in CLASSIFIERS.values()]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)

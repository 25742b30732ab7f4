"""Cross-validation: accuracy, confusions, and the shots whose labels are suspicious."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.fewshot import LDA, MixedPrototypes, NearestClassMean
from isomix.fewshot.cross_validation import cross_validate


@pytest.fixture
def clusters(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ten rows around each of three directions."""
    X = np.repeat(np.eye(3, 12), 10, axis=0) + 0.1 * rng.normal(size=(30, 12))
    return X / np.linalg.norm(X, axis=1, keepdims=True), np.repeat(["a", "b", "c"], 10)


def test_suspects_are_the_shots_under_a_wrong_label_the_clearest_first(clusters) -> None:
    X, y = clusters
    labels = y.copy()
    labels[3], labels[12] = "b", "c"
    X[12] = (1.0 * X[12] + 0.9 * X[25]) / np.linalg.norm(1.0 * X[12] + 0.9 * X[25])  # between both
    found = cross_validate(NearestClassMean(logit_scale=50.0), X, labels)
    assert found.suspects == [(3, "b", "a"), (12, "c", "b")]
    assert found.accuracy == pytest.approx(28 / 30)
    assert sorted(found.confusions) == [("b", "a", 1), ("c", "b", 1)]
    assert cross_validate(NearestClassMean(logit_scale=50.0), X, y).suspects == []


def test_labels_may_be_numbers(clusters) -> None:
    X, y = clusters
    labels = np.array([{"a": 0, "b": 1, "c": 2}[label] for label in y])
    labels[3] = 1
    assert cross_validate(LDA(), X, labels).suspects == [(3, 1, 0)]


def test_a_prediction_may_have_a_longer_name_than_any_label(clusters) -> None:
    X, y = clusters
    labels = y.copy()
    labels[y == "c"] = "a"  # what looks like c now lies between its text and the wrong mean
    texts = {"a": np.eye(3, 12)[0], "b": np.eye(3, 12)[1], "a long name": np.eye(3, 12)[2]}
    texts = {label: text[None] for label, text in texts.items()}
    found = cross_validate(MixedPrototypes(mixing_weight=0.0), X, labels, texts)
    assert {guess for _, _, guess in found.suspects} == {"a long name"}


def test_nothing_to_validate(clusters) -> None:
    X, y = clusters
    assert cross_validate(NearestClassMean(), X[[0, 10, 20]], y[[0, 10, 20]]) is None
    assert cross_validate(NearestClassMean(), X, y, folds=0) is None

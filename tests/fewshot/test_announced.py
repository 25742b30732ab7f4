"""``partial_fit(X, y, classes=...)``: classes that have no picture and no text yet."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isomix.errors import InputError, IsomixWarning
from isomix.fewshot import CLASSIFIERS, ProjectAndMix, load_classifier
from isomix.linalg import normalize_rows

ALL = ["ant", "bee", "cow", "dog"]


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Four classes of four shots, texts of all, queries."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(4, 12))
    X = normalize_rows(np.repeat(centres, 4, axis=0) + 0.6 * rng.normal(size=(16, 12)))
    T = normalize_rows(centres + 0.6 * rng.normal(size=(4, 12)) + 2.0)
    return X, np.repeat(ALL, 4), dict(zip(ALL, T, strict=True)), normalize_rows(rng.normal(size=(30, 12)))


@pytest.mark.parametrize("method", list(CLASSIFIERS))
def test_a_class_of_nothing_is_known_and_never_predicted(problem: Any, method: str, tmp_path: Path) -> None:
    """The others are judged as if it was not there; once it has pictures, it is a class like any other."""
    X, y, T, Q = problem
    there = y != "cow"
    text = {label: row for label, row in T.items() if label != "cow"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", IsomixWarning)
        clf = CLASSIFIERS[method]().partial_fit(X[there], y[there], text, classes=ALL)
    assert clf.classes_.tolist() == ALL and clf.counts_.tolist() == [4, 4, 0, 4]
    without = CLASSIFIERS[method]().fit(X[there], y[there], text)
    chances = clf.predict_proba(Q)
    assert chances.shape == (30, 4) and (chances[:, 2] == 0.0).all() and np.isfinite(chances).all()
    np.testing.assert_allclose(chances[:, [0, 1, 3]], without.predict_proba(Q), atol=1e-6)
    np.testing.assert_array_equal(clf.predict(Q), without.predict(Q))
    assert clf.temperature_ == without.temperature_ and clf.weights_ == without.weights_

    clf.save(tmp_path / "clf.safetensors")
    again = load_classifier(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(again.predict_proba(Q), chances)
    for one in (clf, again):
        one.partial_fit(X[~there], y[~there])
        assert one.counts_.tolist() == [4, 4, 4, 4]
        if method != "zero-shot":
            found = one.predict(X)
            assert (found[~there] == "cow").any() and (one.predict_proba(X)[~there, 2] > 0).all()


def test_a_text_alone_makes_it_predictable(problem: Any) -> None:
    X, y, T, _ = problem
    there = y != "cow"
    text = {label: row for label, row in T.items() if label != "cow"}
    clf = ProjectAndMix().partial_fit(X[there], y[there], text, classes=ALL)
    clf.partial_fit(X[:1], y[:1], text={"cow": T["cow"]})
    assert (clf.predict(X[~there]) == "cow").any()


def test_without_any_text(problem: Any) -> None:
    """A stream as scikit-learn's users write it."""
    X, y, _, Q = problem
    clf = ProjectAndMix()
    for batch in (slice(0, 8), slice(8, 12), slice(12, 16)):
        clf.partial_fit(X[batch], y[batch], classes=ALL)
        assert clf.classes_.tolist() == ALL and clf.predict_proba(Q).shape == (30, 4)
        seen = set(clf.predict(X).tolist())
        assert seen == set(y[: batch.stop].tolist())
    assert clf.intercept_[3] > -np.inf


def test_linear_coefficients_say_it_too(problem: Any) -> None:
    X, y, _, Q = problem
    clf = ProjectAndMix().partial_fit(X[:8], y[:8], classes=ALL)
    assert (clf.intercept_[2:] == -np.inf).all() and np.isfinite(clf.coef_).all()
    np.testing.assert_allclose(clf.logits(Q), Q @ clf.coef_.T + clf.intercept_)
    assert clf.decision_function(Q).shape == (30, 4)


def test_a_text_array_has_a_row_for_every_announced_class(problem: Any) -> None:
    X, y, T, _ = problem
    clf = ProjectAndMix().partial_fit(X[:8], y[:8], text=np.stack(list(T.values())), classes=ALL)
    assert clf.has_text_.all() and (clf.predict(X) == y).mean() > 0.5
    with pytest.raises(InputError, match="expected \\(4, 12\\)"):
        ProjectAndMix().partial_fit(X[:8], y[:8], text=np.stack(list(T.values()))[:2], classes=ALL)


def test_what_the_first_call_cannot_do(problem: Any) -> None:
    X, y, T, _ = problem
    with pytest.raises(
        InputError, match=r"got 1 class \(\['ant'\]\), expected at least two classes with pictures or text"
    ):
        ProjectAndMix().partial_fit(X[:4], y[:4], classes=ALL)
    unfitted = ProjectAndMix()
    with pytest.raises(InputError, match="one type"):
        unfitted.partial_fit(X[:8], y[:8], classes=[1, 2])
    assert not hasattr(unfitted, "classes_")
    with pytest.raises(InputError, match=r"'cow'.*announce them with partial_fit"):
        ProjectAndMix().fit(X[:8], y[:8], text={**T, "cow": None})

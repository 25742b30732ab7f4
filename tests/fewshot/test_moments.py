"""Class moments, and shrinkage against scikit-learn's estimators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf, oas

from isomix.errors import InputError
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.shrinkage import precision_times, shrink


def problem(seed: int, n: int = 40, d: int = 7, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, n_classes, n), rng.integers(1, 4, n).astype(float)


@given(st.integers(0, 1000))
def test_moments_of_parts_merge_to_the_moments_of_the_whole(seed: int) -> None:
    X, y, w = problem(seed)
    whole = ClassMoments.of(X, y, 4, w)
    parts = ClassMoments.of(X[:9], y[:9], 4, w[:9]).merge(ClassMoments.of(X[9:], y[9:], 4, w[9:]))
    np.testing.assert_allclose(parts.means, whole.means, atol=1e-12)
    np.testing.assert_allclose(parts.scatter, whole.scatter, atol=1e-10)
    np.testing.assert_array_equal(parts.counts, whole.counts)


@given(st.integers(0, 1000))
def test_a_weight_is_a_frequency(seed: int) -> None:
    X, y, w = problem(seed)
    again = np.repeat(np.arange(len(X)), w.astype(int))
    weighted, repeated = ClassMoments.of(X, y, 4, w), ClassMoments.of(X[again], y[again], 4, np.ones(len(again)))
    np.testing.assert_allclose(weighted.scatter, repeated.scatter, atol=1e-10)
    np.testing.assert_allclose(weighted.means, repeated.means, atol=1e-12)
    assert weighted.fourth == pytest.approx(repeated.fourth)


@pytest.mark.parametrize(("method", "reference"), [("ledoit-wolf", ledoit_wolf), ("oas", oas)])
@pytest.mark.parametrize("n", [6, 40, 400])
def test_shrinkage_is_scikit_learns_on_the_residuals(method: str, reference: object, n: int) -> None:
    X, y, _ = problem(1, n=n)
    moments = ClassMoments.of(X, y, 4, np.ones(n))
    residuals = X - moments.means[y]
    expected, _ = reference(residuals, assume_centered=True)  # type: ignore[operator]
    square = float((moments.scatter**2).sum())
    slope, ridge = shrink(method, np.trace(moments.scatter), square, moments.fourth, moments.total, 7)
    np.testing.assert_allclose(slope * moments.scatter + ridge * np.eye(7), expected, rtol=1e-10, atol=1e-12)


def test_kubokawa_srivastava_is_the_formula_of_gda() -> None:
    X, y, _ = problem(2)
    moments = ClassMoments.of(X, y, 4, np.ones(len(X)))
    residuals = X - moments.means[y]
    S, n, d = np.cov(residuals.T), len(X), X.shape[1]
    precision = d * np.linalg.pinv((n - 1) * S + np.trace(S) * np.eye(d))
    np.testing.assert_allclose(
        precision_times(moments, "kubokawa-srivastava", moments.means), moments.means @ precision, rtol=1e-10
    )


def test_without_scatter_the_covariance_is_the_identity() -> None:
    X = np.eye(3)
    moments = ClassMoments.of(X, np.arange(3), 3, np.ones(3))
    np.testing.assert_array_equal(precision_times(moments, "oas", X), X)


def test_bad_shrinkage() -> None:
    moments = ClassMoments.of(*problem(0)[:2], 4, np.ones(40))
    for bad in ("oracle", 0.0, 1.5, True, None):
        with pytest.raises(InputError, match="shrinkage"):
            precision_times(moments, bad, moments.means)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="partial_fit"):
        precision_times(moments.merge(moments), "ledoit-wolf", moments.means)


def test_a_class_without_shots_changes_nothing() -> None:
    X, y, w = problem(3)
    moments = ClassMoments.of(X, y, 4, w)
    wider = moments.take(np.array([0, 2, 3, 5]), 6)
    assert wider.degrees_of_freedom == moments.degrees_of_freedom
    np.testing.assert_array_equal(wider.means[[0, 2, 3, 5]], moments.means)
    assert not wider.means[[1, 4]].any()

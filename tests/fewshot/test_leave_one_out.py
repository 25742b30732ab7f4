"""Closed-form leave-one-out against classifiers fitted again without each shot."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.fewshot import LDA, MixedPrototypes, TextAlignedPrototypes
from isomix.fewshot.held_out import leave_one_out, validation_shots
from isomix.fewshot.leave_one_out import MixedCosines, discriminant_without
from isomix.fewshot.moments import ClassMoments
from isomix.fewshot.prototypes import TextDirections
from isomix.fewshot.shrinkage import SHRINKAGE_METHODS
from isomix.fewshot.weights import brier_score, coordinate_search
from isomix.linalg import normalize_rows


def problem(n_classes: int = 4, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unequal shots (2, 3, ...), and text of every class."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, d))
    y = np.repeat(np.arange(n_classes), np.arange(n_classes) + 2)
    X = normalize_rows(centres[y] + 0.5 * rng.normal(size=(len(y), d)))
    T = normalize_rows(centres + 0.7 * rng.normal(size=(n_classes, d)))
    return X, y, T, rng.integers(1, 3, len(y)).astype(float)


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("shrinkage", [*SHRINKAGE_METHODS, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_discriminant_is_that_of_a_refit(shrinkage: str | float, weighted: bool) -> None:
    X, y, _, w = problem()
    w = w if weighted else np.ones(len(y))
    moments = ClassMoments.of(X, y, 4, w)
    held_out = leave_one_out(X, y, w, moments)
    assert held_out is not None and len(held_out.y) == len(y)
    logits = discriminant_without(held_out, moments, moments.means, shrinkage, footing=False)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        refit = LDA(shrinkage=shrinkage).fit(X[rest], y[rest], sample_weight=w[rest])
        np.testing.assert_allclose(
            centred(logits[i : i + 1]), centred(refit.logits(X[i : i + 1])), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize(("cls", "k"), [(MixedPrototypes, 0), (TextAlignedPrototypes, 2)])
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_mixed_cosines_are_those_of_a_refit(cls: type, k: int, a: float) -> None:
    X, y, T, w = problem()
    moments = ClassMoments.of(X, y, 4, w)
    held_out = leave_one_out(X, y, w, moments)
    assert held_out is not None
    cosines = MixedCosines(
        held_out, moments, moments.means, T, TextDirections.of(T).vectors if k else None, footing=False
    )(a, k)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        arguments = {"n_directions": k} if k else {}
        refit = cls(a, logit_scale=1.0, **arguments).fit(X[rest], y[rest], text=T, sample_weight=w[rest])
        np.testing.assert_allclose(cosines[i : i + 1], refit.logits(X[i : i + 1]), atol=1e-12)


def test_equal_footing_takes_off_what_a_missing_shot_adds() -> None:
    """Averaged over many draws, the own logit is what the whole classifier gives a new picture, and not without footing."""
    rng = np.random.default_rng(0)
    C, K, d = 30, 3, 20
    centres = 2.0 * rng.normal(size=(C, d)) / np.sqrt(d)
    y = np.repeat(np.arange(C), K)
    own, unfooted, fresh = [], [], []
    for _ in range(30):
        X, new = (centres[y] + 0.5 * rng.normal(size=(C * K, d)) for _ in range(2))
        moments = ClassMoments.of(X, y, C, np.ones(len(y)))
        held_out = leave_one_out(X, y, np.ones(len(y)), moments)
        assert held_out is not None
        for out, footing in ((own, True), (unfooted, False)):
            logits = discriminant_without(held_out, moments, moments.means, 0.5, footing=footing)
            out.append(centred(logits)[np.arange(len(y)), y].mean())
        again = validation_shots(new, y, moments, "validation")
        W = np.linalg.solve(
            0.5 * moments.scatter / len(y) + 0.5 * np.trace(moments.scatter) / len(y) / d * np.eye(d), moments.means.T
        )
        logits = again.X @ W - 0.5 * np.einsum("ij,ji->i", moments.means, W)
        fresh.append(centred(logits)[np.arange(len(y)), y].mean())
    assert abs(np.mean(own) - np.mean(fresh)) < 0.25 * abs(np.mean(unfooted) - np.mean(fresh))


def test_rows_are_taken_in_turn_and_single_shots_left_alone() -> None:
    X, y, _, _ = problem(n_classes=5)
    y[0] = 1  # class 0 has one shot left
    moments = ClassMoments.of(X, y, 5, np.ones(len(y)))
    held_out = leave_one_out(X, y, np.ones(len(y)), moments, max_rows=8)
    assert held_out is not None
    assert np.bincount(held_out.y, minlength=5).tolist() == [0, 2, 2, 2, 2]
    single = ClassMoments.of(X[:2], np.array([0, 1]), 2, np.ones(2))
    assert leave_one_out(X[:2], np.array([0, 1]), np.ones(2), single) is None


def test_few_takes_min_k_4_a_class() -> None:
    X, y, _, _ = problem()
    moments = ClassMoments.of(X[y < 2], y[y < 2], 4, np.ones(5))  # at most 3 shots
    assert np.bincount(validation_shots(X, y, moments, "few-validation").y).tolist() == [2, 3, 3, 3]
    assert len(validation_shots(X, y, moments, "validation").y) == len(y)


def test_cooled_score_does_not_see_the_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # drawn with the probabilities of these logits
    held_out = validation_shots(logits, y, ClassMoments.of(logits, y, 3, np.ones(200)), "validation")

    def score(scale: float, halvings: int) -> float:
        return brier_score(lambda rows: scale * logits[rows], held_out, halvings)

    scores = [score(scale, 7) for scale in (8.0, 16.0, 64.0)]
    assert scores[1:] == pytest.approx(scores[:1] * 2)
    assert score(64.0, 0) > scores[0] + 0.01


def test_search_follows_a_diagonal_valley() -> None:
    grid = list(range(9))
    found = coordinate_search(
        lambda p: (p["a"] - p["b"]) ** 2 * 10 + (p["a"] + p["b"] - 14) ** 2, {"a": grid, "b": grid}, {"a": 0, "b": 0}
    )
    assert found == {"a": 7, "b": 7}

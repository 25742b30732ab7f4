"""The temperature: found on held-out shots, by default where weights are searched on them, and of no effect on labels."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from isomix.errors import InputError, IsomixWarning
from isomix.fewshot import CLASSIFIERS, LDA, ProjectAndMix
from isomix.fewshot.calibration import calibrated_temperature, sampled_rows
from isomix.fewshot.held_out import HeldOut, validation_shots
from isomix.fewshot.moments import ClassMoments
from isomix.linalg import normalize_rows

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def problem() -> Problem:
    """Shots, labels, texts, queries and their labels: ten classes of four shots, hard to tell apart."""
    rng = np.random.default_rng(3)
    centres = normalize_rows(rng.normal(size=(10, 16)))
    y, q = np.repeat(np.arange(10), 4), np.repeat(np.arange(10), 60)

    def pictures(labels: np.ndarray) -> np.ndarray:
        return normalize_rows(centres[labels] + 0.4 * rng.normal(size=(len(labels), 16)))

    return pictures(y), y, normalize_rows(centres + 0.1 * rng.normal(size=(10, 16))), pictures(q), q


def held_out_logits(n: int, scale: float) -> tuple[np.ndarray, HeldOut]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    rows = normalize_rows(logits)
    return scale * logits, validation_shots(rows, y, ClassMoments.of(rows, y, 3, np.ones(n)), "validation")


@pytest.mark.parametrize("scale", [0.02, 0.3, 5.0, 100.0])
def test_the_true_temperature_is_found(scale: float) -> None:
    assert calibrated_temperature(*held_out_logits(4000, scale)) == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("scale", [0.02, 1.0, 100.0])
def test_newtons_steps_end_where_a_general_minimiser_does(scale: float) -> None:
    logits, held_out = held_out_logits(40, scale)
    own, doubt = np.arange(40), 1.0 / 42.0
    rivals = np.where(np.eye(3, dtype=bool)[held_out.y], -np.inf, logits).max(1)
    right = (1 - doubt) * logits[own, held_out.y] + doubt * rivals

    def loss(u: float) -> float:
        return float((np.log(np.exp(logits * np.exp(-u)).sum(1)) - np.exp(-u) * right).mean())

    best = np.exp(minimize_scalar(loss, bounds=(-5, 7), method="bounded", options={"xatol": 1e-7}).x)
    assert calibrated_temperature(logits, held_out) == pytest.approx(best, rel=1e-3)


def test_shots_that_are_all_right_and_labels_that_say_nothing_keep_the_temperature_in_its_bounds() -> None:
    logits, held_out = held_out_logits(40, 1.0)
    sure = np.eye(3)[held_out.y] * 1e-9
    assert calibrated_temperature(sure, held_out) == pytest.approx(1e-2, rel=1e-3)
    assert calibrated_temperature(1e6 * np.roll(np.eye(3)[held_out.y], 1, axis=1), held_out) == pytest.approx(
        1e3, rel=1e-3
    )
    assert np.isfinite(calibrated_temperature(np.zeros_like(logits), held_out))


def test_at_most_512_rows_that_leave_out_no_class() -> None:
    """Also where the labels go round: every k-th row would be of some classes only."""
    rows = sampled_rows(4000)
    assert len(rows) == len(set(rows)) == 512 and rows.max() < 4000
    assert len(set(rows % 8)) == 8
    assert sampled_rows(512) == slice(None)


@pytest.mark.parametrize(
    "method", [name for name, kind in CLASSIFIERS.items() if name not in ("zero-shot", "lda", "nearest-class-mean")]
)
def test_calibrated_by_default_where_weights_are_searched(problem: Problem, method: str) -> None:
    X, y, T, Q, _ = problem
    kind = CLASSIFIERS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("error", IsomixWarning)
        clf = kind().fit(X, y, text=T)
    plain = kind(calibrate=False).fit(X, y, text=T)
    assert clf.weight_tier_ == "leave-one-out" and clf.weights_ == plain.weights_
    assert clf.temperature_ != 1.0 and plain.temperature_ == 1.0
    np.testing.assert_array_equal(clf.logits(Q), plain.logits(Q))
    np.testing.assert_array_equal(clf.predict(Q), plain.predict(Q))
    assert clf.temperature_ == kind(calibrate=True).fit(X, y, text=T).temperature_


def test_the_default_mends_overconfidence(problem: Problem) -> None:
    """Mean confidence 0.97 at an accuracy of 0.72 without it."""
    X, y, T, Q, q = problem

    def gap(clf: ProjectAndMix) -> float:
        return abs(float(clf.predict_proba(Q).max(axis=1).mean()) - float((clf.predict(Q) == q).mean()))

    assert gap(ProjectAndMix(calibrate=False).fit(X, y, text=T)) > 0.2
    assert gap(ProjectAndMix().fit(X, y, text=T)) < 0.05


def test_not_calibrated_where_nothing_is_searched(problem: Problem) -> None:
    X, y, T, _, _ = problem
    found = ProjectAndMix().fit(X, y, text=T)
    with warnings.catch_warnings():
        warnings.simplefilter("error", IsomixWarning)
        given = ProjectAndMix(**found.weights_).fit(X, y, text=T)
        one = ProjectAndMix().fit(X[::4], y[::4], text=T)
    assert (given.weight_tier_, given.temperature_) == ("given", 1.0)
    assert (one.weight_tier_, one.temperature_) == ("prior", 1.0)
    assert LDA().fit(X, y).temperature_ == 1.0 != LDA(calibrate=True).fit(X, y).temperature_


def test_validation_pictures_set_the_temperature(problem: Problem) -> None:
    X, y, T, Q, q = problem
    clf = ProjectAndMix().fit(X, y, text=T, validation=(Q, q))
    assert clf.weight_tier_ == "validation"
    all_rows = ProjectAndMix(calibrate=True).fit(X, y, text=T, validation=(Q, q)).temperature_
    assert clf.temperature_ != all_rows  # 512 of 600
    assert clf.temperature_ == pytest.approx(all_rows, rel=0.1)


@pytest.mark.parametrize("calibrate", ["yes", None, 2])
def test_what_calibrate_may_be(problem: Problem, calibrate: object) -> None:
    X, y, T, _, _ = problem
    with pytest.raises(InputError, match="expected 'auto', True or False"):
        ProjectAndMix(calibrate=calibrate).fit(X, y, text=T)  # type: ignore[arg-type]


def test_it_costs_next_to_nothing() -> None:
    """Processor time of the temperature itself against that of the fit that it is part of."""
    rng = np.random.default_rng(0)
    T = normalize_rows(rng.normal(size=(100, 512)))
    y = np.repeat(np.arange(100), 16)
    X = normalize_rows(0.5 * T[y] + rng.normal(size=(1600, 512)) / 512**0.5).astype(np.float32)

    def seconds(calibrate: object) -> float:
        start = time.process_time()
        ProjectAndMix(calibrate=calibrate).fit(X, y, T)  # type: ignore[arg-type]
        return time.process_time() - start

    pairs = [(seconds("auto"), seconds(False)) for _ in range(9)]
    assert np.median([auto / plain for auto, plain in pairs]) < 1.25  # 1.03 on a quiet machine

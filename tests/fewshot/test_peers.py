"""The peers against small worked examples and refits, and the shrinkage report."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from isomix.errors import InputError, IsomixWarning
from isomix.fewshot import (
    APE,
    GDA,
    LDA,
    TIMO,
    MixedPrototypes,
    ProKeR,
    ProtoCLIP,
    TipAdapter,
    ZeroShot,
    shrinkage_report,
)
from isomix.fewshot.held_out import leave_one_out
from isomix.fewshot.leave_one_out import discriminant_without
from isomix.fewshot.timo import GuidedTextCosine, PromptedDiscriminant
from isomix.linalg import normalize_rows

Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def problem() -> Problem:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(4, 8))
    y = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0])
    X = normalize_rows(centres[y] + 0.7 * rng.normal(size=(13, 8)))
    return X, y, normalize_rows(centres + rng.normal(size=(4, 8))), normalize_rows(rng.normal(size=(9, 8)))


def test_tip_adapter(problem: Problem) -> None:
    X, y, T, Q = problem
    expected = 100 * Q @ T.T + 0.8 * np.exp(-3.0 * (1 - Q @ X.T)) @ np.eye(4)[y]
    np.testing.assert_allclose(TipAdapter(0.8, 3.0).fit(X, y, text=T).logits(Q), expected)


def test_gda(problem: Problem) -> None:
    X, y, T, Q = problem
    mu = np.stack([X[y == c].mean(0) for c in range(4)])
    R = X - mu[y]
    S, n, d = np.cov(R.T), len(X), 8
    W = d * np.linalg.inv((n - 1) * S + np.trace(S) * np.eye(d)) @ mu.T
    expected = 100 * Q @ T.T + 0.5 * (Q @ W - 0.5 * np.einsum("ij,ji->i", mu, W))
    found = GDA(0.5).fit(X, y, text=T).logits(Q)
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), rtol=1e-9
    )


def test_proker(problem: Problem) -> None:
    X, y, T, Q = problem

    def kernel(A: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-4.0 / 2 * ((A[:, None] - X[None]) ** 2).sum(2)))

    residual = np.eye(4)[y] - softmax(100 * X @ T.T, axis=1)
    expected = 100 * Q @ T.T + 2.0 * kernel(Q) @ np.linalg.solve(kernel(X) / 0.3 + np.eye(13), residual)
    np.testing.assert_allclose(ProKeR(2.0, 0.3, bandwidth=4.0).fit(X, y, text=T).logits(Q), expected, rtol=1e-9)


def test_proto_clip(problem: Problem) -> None:
    X, y, T, Q = problem
    Z = normalize_rows(np.stack([X[y == c].mean(0) for c in range(4)]))

    def by(P: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(-7.0 * ((Q[:, None] - P[None]) ** 2).sum(2), axis=1))

    np.testing.assert_allclose(ProtoCLIP(0.4, 7.0).fit(X, y, text=T).predict_proba(Q), 0.4 * by(Z) + 0.6 * by(T))


def test_ape(problem: Problem) -> None:
    X, y, T, Q = problem
    products = np.array([[T[i] * T[j] for j in range(4) if j != i] for i in range(4)]).reshape(-1, 8).mean(0)
    kept = np.sort(np.argsort(0.7 * products - 0.3 * T.var(0))[:5])
    vote = np.exp(-0.1 * -np.log(softmax(100 * X @ T.T, axis=1)[np.arange(13), y]))
    cache = np.exp(-3.0 * (1 - normalize_rows(Q[:, kept]) @ normalize_rows(X[:, kept]).T)) @ (
        np.eye(4)[y] * vote[:, None]
    )
    clf = APE(0.8, 3.0, n_channels=5).fit(X, y, text=T)
    assert clf.channels_.tolist() == kept.tolist()
    np.testing.assert_allclose(clf.logits(Q), 100 * Q @ T.T + 0.8 * cache)
    with pytest.raises(InputError, match="n_channels"):
        APE(n_channels=9).fit(X, y, text=T)


@pytest.mark.parametrize("cls", [TipAdapter, APE, ProKeR])
def test_held_out_residuals_are_those_of_a_refit(problem: Problem, cls: type) -> None:
    X, y, T, _ = problem
    clf = cls(1.0, 2.0).fit(X, y, text=T)
    held_out = leave_one_out(X, y, np.ones(13), clf.moments_)
    assert held_out is not None
    values = {"sharpness": 2.0}
    residual = clf._sum.parts[1].term.held_out_logits(held_out, values)
    for i in range(13):
        rest = np.arange(13) != i
        refit = cls(1.0, 2.0).fit(X[rest], y[rest], text=T)._sum.parts[1].term.logits(X[i : i + 1], values)[0]
        if cls is not ProKeR:  # equal footing: rivals keep all their keys
            refit[y[i]] *= clf.counts_[y[i]] / (clf.counts_[y[i]] - 1)
        np.testing.assert_allclose(residual[i], refit, atol=1e-10)


@pytest.mark.parametrize("cls", [TipAdapter, APE, ProKeR, GDA, ProtoCLIP, TIMO])
def test_weights_are_chosen(problem: Problem, cls: type) -> None:
    X, y, T, Q = problem
    clf = cls().fit(X, y, text=T)
    assert clf.weight_tier_ == "leave-one-out"
    assert cls().fit(X[:4], y[:4], text=T).weight_tier_ in ("prior", "given")
    assert cls().fit(X, y, text=T, validation=(X, y)).weight_tier_ == "validation"
    assert np.isfinite(clf.predict_proba(Q)).all()


@pytest.mark.parametrize("cls", [TipAdapter, GDA, ProKeR])
def test_alpha_zero_is_zero_shot(problem: Problem, cls: type) -> None:
    X, y, T, Q = problem
    np.testing.assert_array_equal(cls(0.0).fit(X, y, text=T).predict(Q), ZeroShot().fit(X, y, text=T).predict(Q))


def test_bad_weights(problem: Problem) -> None:
    X, y, T, _ = problem
    for clf in (
        TipAdapter(-1.0),
        TipAdapter(1.0, -2.0),
        GDA(-1.0),
        ProtoCLIP(2.0),
        ProtoCLIP(0.5, 0.0),
        ProKeR(bandwidth=0.0),
    ):
        with pytest.raises(InputError, match="expected"):
            clf.fit(X, y, text=T)


def test_report_recovers_known_bias_and_variance() -> None:
    rng = np.random.default_rng(0)
    C, K, d = 400, 5, 30
    M, sigma, delta = rng.normal(size=(C, d)), 0.5, 0.4
    # Large offsets make normalisation a mere scaling, and the report's quantities known.
    offset = np.zeros(d)
    offset[0] = 100.0
    X = normalize_rows(np.repeat(M, K, 0) + sigma * rng.normal(size=(C * K, d)) + offset) * 100
    T = normalize_rows(M + delta * rng.normal(size=(C, d)) + offset) * 100
    report = shrinkage_report(MixedPrototypes(0.5).fit(X / 100, np.repeat(np.arange(C), K), text=T / 100))
    assert report.image_variance * 1e4 == pytest.approx(sigma**2 * (d - 1), rel=0.05)
    # Regression on a noisy text leaves delta² / (1 + delta²) of the spread.
    bias = delta**2 / (1 + delta**2) * (d - 1)
    assert report.text_bias_squared.mean() * 1e4 == pytest.approx(bias, rel=0.05)
    assert report.pooled_weight == pytest.approx(bias / (bias + sigma**2 * (d - 1) / K), abs=0.02)
    assert report.chosen_weight == 0.5
    axes = report.plot()
    assert axes.get_legend() is not None


def test_report_needs_text_and_a_second_shot(problem: Problem) -> None:
    X, y, T, _ = problem
    with pytest.raises(InputError, match="text"):
        shrinkage_report(LDA().fit(X, y))
    with pytest.raises(InputError, match="second shot"):
        shrinkage_report(MixedPrototypes(0.5).fit(X[:4], y[:4], text=T))
    assert MixedPrototypes("shrinkage").fit(X, y, text=T).mixing_weight_ == pytest.approx(
        shrinkage_report(MixedPrototypes(0.1).fit(X, y, text=T)).pooled_weight
    )


@pytest.fixture
def prompts(problem: Problem) -> np.ndarray:
    """Three prompts of each class, (C, p, d)."""
    rng = np.random.default_rng(1)
    rows = problem[2][:, None] + 0.4 * rng.normal(size=(4, 3, 8))
    return np.asarray(rows / np.linalg.norm(rows, axis=2, keepdims=True))


def plain_timo(
    X: np.ndarray, y: np.ndarray, P: np.ndarray, Q: np.ndarray, weight: float, lengths: np.ndarray | None = None
) -> np.ndarray:
    """100 q·t_c + 0.5 (q·W_c + b_c) with gamma 20, class by class; ``lengths`` overrules the cosines m_cp."""
    texts, samples, labels, counts = [], [*X], [*y], [1.0] * len(X)
    for c in range(4):
        u = X[y == c].mean(0)
        m = P[c] @ u / np.linalg.norm(u)
        t = softmax(20.0 * m / np.linalg.norm(m)) @ P[c]
        texts.append(t / np.linalg.norm(t))
        samples += [*(P[c] * (m if lengths is None else lengths[c])[:, None])]
        labels, counts = [*labels, *[c] * 3], [*counts, *[weight] * 3]
    Z, z, w = np.array(samples), np.array(labels), np.array(counts)
    mu = np.stack([np.average(Z[z == c], axis=0, weights=w[z == c]) for c in range(4)])
    R = Z - mu[z]
    S, n = (w[:, None] * R).T @ R, w.sum()
    W = 8 * np.linalg.solve(S + np.trace(S) / (n - 1) * np.eye(8), mu.T)
    return np.asarray(100 * Q @ np.array(texts).T + 0.5 * (Q @ W - 0.5 * np.einsum("ij,ji->i", mu, W)))


def centred(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def test_timo(problem: Problem, prompts: np.ndarray) -> None:
    X, y, _, Q = problem
    for weight in (0.1, 1.0):
        found = TIMO(0.5, 20.0, prompt_weight=weight).fit(X, y, text=prompts).logits(Q)
        np.testing.assert_allclose(centred(found), centred(plain_timo(X, y, prompts, Q, weight)), rtol=1e-9)


def test_timo_reduces_to_its_parts(problem: Problem, prompts: np.ndarray) -> None:
    X, y, T, Q = problem
    gda = GDA(0.5).fit(X, y, text=prompts).logits(Q)
    np.testing.assert_allclose(TIMO(0.5, 0.0, prompt_weight=0.0).fit(X, y, text=prompts).logits(Q), gda)
    one = TIMO(0.0, 100.0).fit(X, y, text=T).logits(Q)  # one prompt a class: nothing to weigh
    np.testing.assert_allclose(one, ZeroShot().fit(X, y, text=T).logits(Q))
    with pytest.raises(InputError, match="ledoit-wolf"):
        TIMO(shrinkage="ledoit-wolf").fit(X, y, text=prompts)
    for bad in (TIMO(gamma=-1.0), TIMO(prompt_weight=-0.1), TIMO(np.inf)):
        with pytest.raises(InputError, match="expected a number of at least 0"):
            bad.fit(X, y, text=prompts)


def test_timo_at_one_shot(problem: Problem, prompts: np.ndarray) -> None:
    X, y, T, Q = problem
    clf = TIMO().fit(X[:4], y[:4], text=prompts)
    assert (clf.weight_tier_, clf.gamma_, clf.ensemble_weight_) == ("prior", 50.0, 0.0)
    np.testing.assert_allclose(clf.logits(Q), 100 * Q @ clf.prototypes_.T)
    # Prompts are samples too, so that a given weight has a covariance to work with; a single prompt of weight 0.1 has not.
    TIMO(0.5, prompt_weight=1.0).fit(X[:4], y[:4], text=prompts)
    with pytest.warns(IsomixWarning, match="more prompts"):
        TIMO(0.5).fit(X[:4], y[:4], text=T)


def test_timo_leaves_out_one_shot(problem: Problem, prompts: np.ndarray) -> None:
    """Exactly a refit, but for the lengths of the prompts, which stay those with all shots."""
    X, y, _, _ = problem
    clf = TIMO(0.5, 20.0).fit(X, y, text=prompts)
    held_out = leave_one_out(X, y, np.ones(13), clf.moments_)
    assert held_out is not None
    texts, images = (part.term for part in clf._sum.parts)
    assert isinstance(texts, GuidedTextCosine) and isinstance(images, PromptedDiscriminant)
    found = texts.held_out_logits(held_out, {"gamma": 20.0}) + 0.5 * discriminant_without(
        held_out, images.moments, images.means, "kubokawa-srivastava", footing=False
    )
    lengths = np.einsum("cpd,cd->cp", prompts, normalize_rows(clf.means_))
    for i in range(13):
        rest = np.arange(13) != i
        refit = plain_timo(X[rest], y[rest], prompts, X[i : i + 1], 0.1, lengths)
        np.testing.assert_allclose(centred(found[i : i + 1]), centred(refit), atol=1e-9)


def test_timo_with_ragged_prompts_and_missing_classes(problem: Problem, prompts: np.ndarray) -> None:
    X, y, _, Q = problem
    ragged = {0: prompts[0], 1: prompts[1, :1], 2: prompts[2, :2], 3: None, 4: prompts[3]}
    clf = TIMO(0.5, 20.0).fit(X, y, text=ragged)
    assert clf.classes_.tolist() == [0, 1, 2, 3, 4]
    assert np.isfinite(clf.logits(Q)).all()
    np.testing.assert_allclose(clf.prototypes_[1], prompts[1, 0])
    twice = TIMO().fit(np.r_[X, X[:1]], [*y, y[0]], text=prompts)
    weighted = TIMO().fit(X, y, text=prompts, sample_weight=np.r_[2.0, np.ones(12)])
    np.testing.assert_allclose(twice.logits(Q), weighted.logits(Q))

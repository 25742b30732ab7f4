"""The pool of unlabelled pictures: the algebra against a dense computation, trust, files, updates, bad input."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

from isomix._documents import Document, read_document, write_document
from isomix.errors import FileFormatError, InputError, IsomixWarning
from isomix.fewshot import CLASSIFIERS, GDA, LDA, MixedPrototypes, ProjectAndMix, TextAlignedPrototypes, load_classifier
from isomix.fewshot.pool import ROUNDS, SHRINKAGE, PoolRows, class_term
from isomix.fewshot.pool_trust import Members, pool_mass, trust
from isomix.linalg import normalize_rows
from isomix.neighbors.kinship import Background, cohesive_mass
from isomix.spaces import TextPCA

LABELS = np.array(["ant", "bee", "cow", "dog", "elk"])
TAKERS = (ProjectAndMix, GDA, MixedPrototypes, TextAlignedPrototypes)


def pictures(n: int, seed: int, classes: int = 5, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of ``classes`` clusters in sixteen dimensions, ``n`` of each, and class numbers; centres do not depend on seed."""
    centres = np.random.default_rng(0).normal(size=(5, 16))
    y = np.repeat(np.arange(classes), n)
    noisy = centres[y] + noise * np.random.default_rng(seed + 1).normal(size=(len(y), 16))
    return np.asarray(normalize_rows(noisy)), y


@pytest.fixture
def task():
    """X, y, T and a pool of 100: clusters far enough apart to be trusted, texts that are roughly right."""
    X, y = pictures(2, 1, noise=1.0)
    centres = np.random.default_rng(0).normal(size=(5, 16))
    T = np.asarray(normalize_rows(centres + 0.8 * np.random.default_rng(9).normal(size=(5, 16)) + 1.0))
    return X, LABELS[y], T, pictures(20, 2)[0]


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def labels_loss(clf, X: np.ndarray, labels: np.ndarray) -> float:
    """Brier score at the temperature that suits the classifier best."""
    L, own = clf.logits(X), labels[:, None] == clf.classes_
    return min(float(((softmax(L / t) - own) ** 2).sum(1).mean()) for t in (0.25, 0.5, 1, 2, 4, 8, 16))


def dense(U: np.ndarray, start: np.ndarray, prior: np.ndarray, counts: np.ndarray, weight: float):
    """The same by the definition: for every row, classes whose means are computed without it."""
    m, d = U.shape
    R = softmax(start)
    for _ in range(ROUNDS):
        mu = R.T @ U / R.sum(0)[:, None]
        S = sum(R[i, c] * np.outer(U[i] - mu[c], U[i] - mu[c]) for i in range(m) for c in range(len(mu))) / m
        P = np.linalg.inv((1 - SHRINKAGE) * S + SHRINKAGE * np.trace(S) / d * np.eye(d))
        W = counts + R.sum(0)
        nu = (counts[:, None] * prior + R.T @ U) / W[:, None]
        g = nu.mean(0)
        variance = np.mean([(u - g) @ P @ (u - g) for u in U])
        G = np.empty((m, len(mu)))
        for i in range(m):
            for c in range(len(mu)):
                left = W[c] - R[i, c]
                v = (W[c] * nu[c] - R[i, c] * U[i]) / left - g
                G[i, c] = (U[i] - g) @ P @ v - 0.5 * (v @ P @ v - variance * (1 / left - 1 / W[c]))
        scale = weight * start.std(1).mean() / G.std(1).mean()
        R = softmax(start + scale * G)
    return scale * (nu - g) @ P, -scale * np.array([(0.5 * (v - g) + g) @ P @ (v - g) for v in nu])


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_term_is_that_of_the_definition(task, weight):
    *_, T, U = task
    counts = np.array([3.0, 4.0, 2.0, 5.0, 3.0])
    coef, intercept = dense(U[::4], 20 * U[::4] @ T.T, T, counts, weight)
    term = class_term(PoolRows(U[::4], 16), lambda block: 20 * block @ T.T, T, counts, weight, least_share=0.0)
    np.testing.assert_allclose(term.coef, coef, atol=1e-9)
    np.testing.assert_allclose(term.intercept, intercept, atol=1e-9)
    # Shares below 1/64 are not left out: next to nothing changes.
    term = class_term(PoolRows(U[::4], 16), lambda block: 20 * block @ T.T, T, counts, weight)
    np.testing.assert_allclose(term.coef, coef, atol=1e-2 * np.abs(coef).max())
    single = class_term(
        PoolRows(U[::4].astype(np.float32), 16), lambda b: 20 * b @ T.T.astype(b.dtype), T, counts, weight
    )
    np.testing.assert_allclose(single.coef, term.coef, atol=1e-4 * np.abs(coef).max())


def test_blocks_change_nothing(task, monkeypatch):
    *_, T, U = task
    whole = class_term(PoolRows(U, 16), lambda b: 20 * b @ T.T, T, np.full(5, 3.0), 1.0)
    monkeypatch.setattr("isomix.fewshot.pool.BLOCK_NUMBERS", 80)
    pieces = class_term(PoolRows(U, 16), lambda b: 20 * b @ T.T, T, np.full(5, 3.0), 1.0)
    np.testing.assert_allclose(pieces.coef, whole.coef, atol=1e-10)
    # The unit of lambda from every second row, across the borders of blocks, against the same from all rows.
    monkeypatch.setattr("isomix.fewshot.pool.SPREAD_ROWS", 50)
    sampled = class_term(PoolRows(U, 16), lambda b: 20 * b @ T.T, T, np.full(5, 3.0), 1.0)
    np.testing.assert_allclose(sampled.coef, whole.coef, atol=0.2 * np.abs(whole.coef).max())


def test_the_mass_is_that_of_all_neighbours():
    U = pictures(8, 3)[0]
    S = U @ U.T
    np.fill_diagonal(S, -np.inf)
    near = np.argsort(-S, axis=1)[:, :10]
    gram = np.einsum("ijd,ikd->ijk", U[near], U[near])
    masses = cohesive_mass(np.take_along_axis(S, near, 1), gram, Background.of([U]).thresholds(U, within=True))
    everything = np.ones(len(U), bool)
    assert pool_mass(PoolRows(U, 16), everything) == pytest.approx(float(np.median(masses)))
    assert pool_mass(PoolRows(U[:3], 16), everything[:3]) == 0.0


@pytest.mark.parametrize("count", [0, 100, 400])
def test_strangers_are_not_counted_and_not_looked_at(count):
    """Members of 16 classes in 64 dimensions, and strangers in clusters tighter than theirs."""
    rng = np.random.default_rng(3)
    T = np.asarray(normalize_rows(rng.normal(size=(16, 64))))
    U = np.asarray(normalize_rows(np.repeat(T, 25, axis=0) + 0.15 * rng.normal(size=(400, 64))))
    few = np.asarray(normalize_rows(np.repeat(T, 8, axis=0) + 0.15 * rng.normal(size=(128, 64))))
    centres = rng.normal(size=(10, 64))
    strangers = np.repeat(centres - (centres @ T.T) @ np.linalg.pinv(T).T, count // 10, axis=0)
    pool = np.concatenate([U, normalize_rows(strangers + 0.05 * rng.normal(size=strangers.shape)) if count else U[:0]])
    like = (pool @ T.T).max(axis=1)
    members = Members.of(like, (few @ T.T).max(axis=1))
    assert members.share == pytest.approx(400 / (400 + count), rel=0.15)
    mass, alone = (pool_mass(PoolRows(rows, 64), like[: len(rows)] >= members.threshold) for rows in (pool, U))
    assert mass == pytest.approx(alone, rel=1e-6)
    assert members.below == pytest.approx(100 / (100 + count), rel=0.3)
    if count:
        np.testing.assert_array_equal(members.weights(like)[400:], members.below)


def test_rows_that_count_nothing_are_not_there(task):
    *_, T, U = task
    whole, halves = PoolRows(U, 16), PoolRows(U, 16)
    halves.weights = np.where(np.arange(len(U)) % 2, 1.0, 0.0)
    kept = PoolRows(U[1::2], 16)
    terms = [class_term(rows, lambda b: 20 * b @ T.T, T, np.full(5, 3.0), 1.0) for rows in (halves, kept, whole)]
    np.testing.assert_allclose(terms[0].coef, terms[1].coef, atol=1e-10)
    assert np.abs(terms[0].coef - terms[2].coef).max() > 1e-3


def test_trust():
    assert trust(2.0, 10.0, 1.0) == trust(2.0, 10.0, 0.75, 0.0) == 1.0
    assert trust(0.75, 4.5, 0.625) == pytest.approx(0.125)
    assert (
        trust(0.5, 10.0, 1.0) == trust(2.0, 3.0, 1.0) == trust(2.0, 10.0, 0.5) == trust(2.0, 10.0, 1.0, -0.001) == 0.0
    )


@pytest.mark.parametrize("kind", TAKERS)
def test_a_good_pool_is_used_and_helps(task, kind):
    X, y, T, U = task
    labels = LABELS[np.repeat(np.arange(5), 20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IsomixWarning)
        without, with_pool = kind().fit(X, y, text=T), kind().fit(X, y, text=T, unlabelled=U)
    assert with_pool.pool_.weight > 0.5
    assert with_pool.pool_.rows == 100
    assert with_pool.weights_ == without.weights_
    before, after = (labels_loss(clf, U, labels) for clf in (without, with_pool))
    assert after < before
    fresh, numbers = pictures(40, 5)
    assert labels_loss(with_pool, fresh, LABELS[numbers]) < labels_loss(without, fresh, LABELS[numbers])
    assert with_pool.score(fresh, LABELS[numbers]) >= without.score(fresh, LABELS[numbers])
    np.testing.assert_allclose(
        with_pool.logits(fresh), fresh @ with_pool.coef_.T + with_pool.intercept_, atol=1e-9
    )  # one product


def test_calibrated_logits_keep_their_temperature(task):
    X, y, T, U = task
    without = ProjectAndMix(calibrate=True).fit(X, y, text=T)
    fitted = ProjectAndMix(calibrate=True).fit(X, y, text=T, unlabelled=U)
    assert fitted.temperature_ == without.temperature_ != 1.0
    pool = fitted.pool_
    added = (fitted.logits(U) - without.logits(U)) / fitted.temperature_
    np.testing.assert_allclose(added, U @ pool.term.coef.T + pool.term.intercept, atol=1e-9)
    # lambda 1: the term differs between classes as much as the classifier, but that here each row is among its means
    ratio = added.std(1).mean() / (without.logits(U) / fitted.temperature_).std(1).mean()
    assert ratio == pytest.approx(pool.weight, rel=0.1)


@pytest.mark.parametrize("kind", TAKERS)
@pytest.mark.parametrize("which", ["no rows", "10 rows", "strangers", "one a class"])
def test_a_pool_that_is_not_trusted_changes_no_bit(task, kind, which):
    X, y, T, U = task
    pool = {
        "no rows": U[:0],
        "10 rows": U[::10],
        "strangers": np.random.default_rng(0).normal(size=(200, 16)),
        "one a class": U[::20],
    }[which]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IsomixWarning)
        without, with_pool = kind().fit(X, y, text=T), kind().fit(X, y, text=T, unlabelled=pool)
    np.testing.assert_array_equal(with_pool.coef_, without.coef_)
    np.testing.assert_array_equal(with_pool.logits(U), without.logits(U))
    np.testing.assert_array_equal(with_pool.predict_proba(U), without.predict_proba(U))
    assert with_pool.pool_ is None if which == "no rows" else with_pool.pool_.weight == 0.0


def test_shots_and_copies_are_dropped(task):
    X, y, T, U = task
    fitted = ProjectAndMix().fit(X, y, text=T, unlabelled=np.concatenate([X, U, U[:7], U[3:4]]))
    assert (fitted.pool_.rows, fitted.pool_.dropped) == (100, len(X) + 8)
    np.testing.assert_array_equal(fitted.coef_, ProjectAndMix().fit(X, y, text=T, unlabelled=U).coef_)
    copies = 3.0 * np.concatenate([U, U]).astype(np.float32)  # of any length and precision
    assert ProjectAndMix().fit(X, y, text=T, unlabelled=copies).pool_.dropped == 100
    only_shots = ProjectAndMix().fit(X, y, text=T, unlabelled=X)
    assert only_shots.pool_ is None
    np.testing.assert_array_equal(only_shots.coef_, ProjectAndMix().fit(X, y, text=T).coef_)


def test_classes_missing_from_the_pool_keep_their_mean(task):
    X, y, T, _ = task
    fresh, numbers = pictures(40, 5)
    without = ProjectAndMix().fit(X, y, text=T)
    for classes in (1, 4):  # everything is an ant; no elk
        pool = pictures(40, 2, classes)[0]
        fitted = ProjectAndMix().fit(X, y, text=T, unlabelled=pool)
        missing = numbers >= classes
        lost = without.score(fresh[missing], LABELS[numbers[missing]]) - fitted.score(
            fresh[missing], LABELS[numbers[missing]]
        )
        assert lost <= 0.03, classes
        assert fitted.score(pool, LABELS[np.repeat(np.arange(classes), 40)]) >= without.score(
            pool, LABELS[np.repeat(np.arange(classes), 40)]
        )


def test_a_file_has_the_pool_and_takes_another(task, tmp_path):
    X, y, T, U = task
    fitted = ProjectAndMix(calibrate=True).fit(X, y, text=T, unlabelled=U)
    fitted.save(tmp_path / "with.safetensors")
    loaded = load_classifier(tmp_path / "with.safetensors")
    np.testing.assert_array_equal(loaded.logits(U), fitted.logits(U))
    assert loaded.pool_[:-1] == fitted.pool_[:-1]
    without = ProjectAndMix(calibrate=True).fit(X, y, text=T)
    without.save(tmp_path / "without.safetensors")
    assert "pool" not in read_document(tmp_path / "without.safetensors", "classifier").parameters
    later = load_classifier(tmp_path / "without.safetensors").use_pool(U, shots=(X, y))
    np.testing.assert_array_equal(later.logits(U), fitted.logits(U))
    later = load_classifier(tmp_path / "without.safetensors").use_pool(U)  # judged by class means
    assert later.pool_.gain != fitted.pool_.gain
    np.testing.assert_allclose(later.logits(U), fitted.logits(U), atol=1e-9)
    # The next pool takes the place of the first, and an empty one leaves none.
    other = pictures(30, 8)[0]
    np.testing.assert_array_equal(loaded.use_pool(other).logits(U), later.use_pool(other).logits(U))
    np.testing.assert_array_equal(loaded.use_pool(U[:0]).logits(U), without.logits(U))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 2.0}, "pool: weight is 2.0"),
        ({"gain": None}, "pool: gain is None"),
        ({"mass": "much"}, "pool: mass is 'much'"),
        ({"more": 1}, "expected an object of weight, rows"),
    ],
)
def test_a_file_with_a_wrong_pool_is_refused(task, tmp_path, change, message):
    X, y, T, U = task
    path = tmp_path / "c.safetensors"
    ProjectAndMix().fit(X, y, text=T, unlabelled=U).save(path)
    document = read_document(path, "classifier")
    pool = {**document.parameters["pool"], **change}
    parameters = {**document.parameters, "pool": pool}
    write_document(path, Document("classifier", document.method, parameters, document.tensors, document.source))
    with pytest.raises(FileFormatError, match=message):
        load_classifier(path)


def test_partial_fit_drops_the_pool(task):
    X, y, T, U = task
    fitted = ProjectAndMix().fit(X, y, text=T, unlabelled=U)
    more, numbers = pictures(1, 7)
    with pytest.warns(IsomixWarning, match="use_pool"):
        fitted.partial_fit(more, LABELS[numbers])
    expected = ProjectAndMix().fit(X, y, text=T).partial_fit(more, LABELS[numbers])
    np.testing.assert_array_equal(fitted.logits(U), expected.logits(U))
    assert fitted.pool_ is None
    assert fitted.use_pool(U).pool_.weight > 0


def test_with_a_space_and_classes_without_pictures_or_text(task):
    X, y, T, U = task
    space = TextPCA(4).fit(T)
    assert ProjectAndMix(space=space).fit(X, y, text=T, unlabelled=U).pool_.weight > 0
    texts = dict(zip(LABELS.tolist(), T, strict=True))
    kept = y != "elk"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IsomixWarning)
        fitted = ProjectAndMix().fit(X[kept], y[kept], text={**texts, "ant": None}, unlabelled=U)
    assert fitted.pool_.weight > 0
    assert np.isfinite(fitted.logits(U)).all()


def test_half_precision(task):
    X, y, T, U = task
    half = ProjectAndMix().fit(X, y, text=T, unlabelled=U.astype(np.float16))
    whole = ProjectAndMix().fit(X, y, text=T, unlabelled=U)
    np.testing.assert_allclose(half.predict_proba(U), whole.predict_proba(U), atol=0.02)


def test_no_matrix_of_pool_by_classes(task):
    rng = np.random.default_rng(0)
    C, m = 500, 20_000
    T = np.asarray(normalize_rows(rng.normal(size=(C, 16)))).astype(np.float32)
    rows = PoolRows(rng.normal(size=(m, 16)).astype(np.float32), 16)
    tracemalloc.start()
    class_term(rows, lambda b: 30 * b @ T.T, T.astype(np.float64), np.full(C, 3.0), 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 20 MB of block, of numbers for each row and of the sample, against 40 MB for float32 responsibilities alone, 80 with logits
    assert peak < m * C * 4


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (np.full((20, 16), np.nan), "unlabelled: NaN"),
        (np.ones((20, 15)), "unlabelled: got width 15, expected 16"),
        (np.zeros((20, 16)), "unlabelled: row 0"),
        (np.ones(16), "two dimensions"),
        (np.ones((20, 16), np.int8), "int8"),
    ],
)
def test_bad_pools(task, pool, message):
    X, y, T, _ = task
    with pytest.raises(InputError, match=message):
        ProjectAndMix().fit(X, y, text=T, unlabelled=pool)
    with pytest.raises(InputError, match=message):
        ProjectAndMix().fit(X, y, text=T).use_pool(pool)


def test_bad_shots_of_a_pool(task):
    X, y, T, U = task
    fitted = ProjectAndMix().fit(X, y, text=T)
    with pytest.raises(InputError, match="shots: labels"):
        fitted.use_pool(U, shots=(X, np.full(len(X), "fly")))
    with pytest.raises(InputError, match=r"expected two arrays, shots=\(embeddings, labels\)"):
        fitted.use_pool(U, shots=X)


def test_shots_that_object(task):
    X, y, T, U = task
    texts = T[[1, 2, 3, 4, 0]]  # every name is wrong, and so the pool's classes are
    fitted = ProjectAndMix().fit(X, y, text=texts, unlabelled=U)
    assert fitted.pool_.gain is not None
    assert (fitted.pool_.weight == 0) == (fitted.pool_.gain < 0)
    assert "not used: it would make" in fitted.pool_.explanation()


def test_classifiers_that_take_none(task):
    X, y, T, U = task
    assert {cls for cls in CLASSIFIERS.values() if cls.takes_pool} == set(TAKERS)
    with pytest.raises(InputError, match="LDA takes no unlabelled pictures; GDA, MixedPrototypes, ProjectAndMix"):
        LDA().fit(X, y, unlabelled=U)
    with pytest.raises(InputError, match="no text"):
        ProjectAndMix().fit(X, y, unlabelled=U)
    with pytest.raises(InputError, match="no text"):
        ProjectAndMix().fit(X, y).use_pool(U)
    with pytest.raises(InputError, match=r"one class|got 1 class"):
        ProjectAndMix().fit(X[:2], y[:2], text=T[:1], unlabelled=U)

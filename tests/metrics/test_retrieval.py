from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, ndcg_score

import isomix
from isomix.errors import InputError
from isomix.metrics import (
    average_precisions,
    bootstrap_intervals,
    classification_metrics,
    retrieval_metrics,
    revisited_average_precision,
    revisited_metrics,
    scores_metrics,
)
from isomix.metrics.ranking import rank_relevant

KS = (1, 2, 5, 10)


def by_definition(scores, relevant, ks=KS):
    """Every metric of one query, straight from its definition, with a full stable sort."""
    hits = relevant[np.argsort(-scores, kind="stable")]
    n_relevant = hits.sum()
    ranks = np.flatnonzero(hits) + 1
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    ideal = (1 / np.log2(np.arange(2, n_relevant + 2))).sum()
    return {
        "mean_average_precision": average_precision_score(relevant, scores),
        "mean_average_precision_at_r": (precision * hits)[:n_relevant].sum() / n_relevant,
        "r_precision": hits[:n_relevant].mean(),
        "mean_reciprocal_rank": 1 / ranks[0],
        "ndcg": (1 / np.log2(1 + ranks)).sum() / ideal,
        **{f"precision_at_{k}": hits[:k].sum() / k for k in ks},
        **{f"recall_at_{k}": float(hits[:k].any()) for k in ks},
    }


def means(queries):
    return {name: np.mean([query[name] for query in queries]) for name in queries[0]}


def assert_same(actual, expected, **tolerance):
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, err_msg=name, **(tolerance or {"rtol": 1e-12}))


@given(
    n=st.integers(1, 60),
    levels=st.sampled_from([1, 2, 5, 40, 10**6]),
    offset=st.sampled_from([-1.0, 0.0, 0.7, 1000.0]),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e30]),
    double=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=200, deadline=None)
def test_every_metric_equals_its_definition(n, levels, offset, scale, double, seed):
    generator = np.random.default_rng(seed)
    scores = ((generator.integers(levels, size=(3, n)) / levels + offset) * scale).astype(
        np.float64 if double else np.float32
    )
    relevant = generator.random((3, n)) < generator.random()
    relevant[:, generator.integers(n)] = True
    figures = scores_metrics(scores, relevant, ks=KS)
    assert_same(figures, means([by_definition(s, r) for s, r in zip(scores, relevant, strict=True)]))
    assert figures["n_queries"] == 3


def test_many_scores_fall_into_many_bins(rng):
    for n_relevant in (1, 60, 3000):
        scores = rng.normal(0.6, 0.06, size=20_000).astype(np.float32)
        scores[rng.integers(20_000, size=300)] = scores[0]
        relevant = np.zeros(20_000, bool)
        relevant[rng.choice(20_000, n_relevant, replace=False)] = True
        assert_same(scores_metrics(scores[None], relevant[None], ks=KS), by_definition(scores, relevant))


def test_negative_scores_stay_relevant():
    # torchmetrics 1.9 counts a relevant item with a score of zero or less as irrelevant.
    scores, relevant = np.array([[-0.1, -0.2, -0.3, 0.0]]), np.array([[True, False, True, False]])
    figures = scores_metrics(scores, relevant, ks=(1,))
    assert figures["mean_average_precision"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    shifted = scores_metrics(scores + 5, relevant, ks=(1,))
    assert shifted == figures


def test_ties_by_hand():
    scores, relevant = np.array([[0.5, 0.5, 0.9, 0.5]]), np.array([[False, True, False, True]])
    figures = scores_metrics(scores, relevant, ks=(1, 2, 3))
    assert figures["mean_average_precision"] == 2 / 4  # one threshold holds both relevant items, and all four items
    assert figures["mean_reciprocal_rank"] == 1 / 3  # row 0 comes before row 1
    assert figures["precision_at_3"] == 1 / 3
    assert figures["r_precision"] == 0.0
    backwards = scores_metrics(scores[:, ::-1], relevant[:, ::-1], ks=(1,))
    assert backwards["mean_average_precision"] == 2 / 4


def test_ndcg_equals_scikit_learn(rng):
    scores, relevant = rng.normal(size=(4, 30)), rng.random((4, 30)) < 0.3
    assert scores_metrics(scores, relevant)["ndcg"] == pytest.approx(ndcg_score(relevant, scores))


def exact_embeddings(rng, n, d=16):
    """Rows of length 1 whose products are exact in any order: ties are true ties."""
    rows = np.zeros((n, d))
    for row in rows:
        row[rng.choice(d, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_against_all_without_the_query_itself(rng, dtype):
    embeddings, labels = exact_embeddings(rng, 80), rng.integers(7, size=80)
    labels[3] = 99
    scores = embeddings @ embeddings.T
    expected = []
    for i in np.flatnonzero(labels != 99):
        others = np.delete(np.arange(80), i)
        expected.append(by_definition(scores[i, others], labels[others] == labels[i]))
    figures = retrieval_metrics(embeddings.astype(dtype), labels, ks=KS)
    assert_same(figures, means(expected))
    assert (figures["n_queries"], figures["n_skipped"]) == (79, 1)


def test_against_a_gallery_in_small_blocks(rng, monkeypatch):
    queries, gallery = exact_embeddings(rng, 30), exact_embeddings(rng, 90)
    names = np.array(["ant", "bee", "cat", "dog"])
    labels, gallery_labels = names[rng.integers(4, size=30)], names[rng.integers(3, size=90)]
    expected = [
        by_definition(queries[i] @ gallery.T, gallery_labels == labels[i])
        for i in range(30)
        if labels[i] in gallery_labels
    ]
    whole = retrieval_metrics(queries, labels, gallery, gallery_labels, ks=KS, return_per_query=True)
    assert_same(whole, means(expected))
    assert whole["n_skipped"] == np.sum(labels == "dog") == np.isnan(whole["per_query"]["ndcg"]).sum()
    assert_same({name: np.nanmean(values) for name, values in whole["per_query"].items()}, means(expected))
    monkeypatch.setattr(isomix.metrics.retrieval, "SCORE_BLOCK_BYTES", 3000)
    blocked = retrieval_metrics(queries, list(labels), gallery, list(gallery_labels), ks=KS)
    assert_same(blocked, means(expected))


def test_lengths_of_rows_do_not_matter(rng):
    embeddings, labels = exact_embeddings(rng, 40), rng.integers(5, size=40)
    lengths = 2.0 ** rng.integers(-8, 8, size=(40, 1))
    assert retrieval_metrics(embeddings, labels) == retrieval_metrics(embeddings * lengths, labels)


def test_bootstrap_of_queries(rng):
    embeddings, labels = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(5, size=200)
    embeddings[:, 0] += labels
    figures = retrieval_metrics(embeddings, labels, confidence=0.9, seed=3, return_per_query=True)
    assert figures["intervals"] == retrieval_metrics(embeddings, labels, confidence=0.9, seed=3)["intervals"]
    values = figures["per_query"]["mean_average_precision"]
    low, high = figures["intervals"]["mean_average_precision"]
    half_width = 1.645 * values.std() / np.sqrt(200)
    assert low == pytest.approx(values.mean() - half_width, abs=half_width / 4)
    assert high == pytest.approx(values.mean() + half_width, abs=half_width / 4)
    assert figures["intervals"].keys() == figures["per_query"].keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.eye(3), [0, 1, 2]), "no query has a relevant row"),
        ((np.eye(3), [0, 0, 0], np.eye(3), [1, 1, 1]), "occurs in gallery_labels"),
        ((np.eye(1), [0]), "no query has a relevant row"),
        ((np.eye(3), [0, 0]), r"labels: got shape \(2,\), expected \(3,\)"),
        ((np.eye(3), [0, 0, 1], np.eye(3)), "one without the other"),
        ((np.eye(3), [0, 0, 1], np.eye(4), [0, 0, 1, 1]), "gallery: got width 4, expected 3"),
        ((np.eye(3), [0, 0, 1], np.eye(3), ["a", "b", "c"]), "both to be names or both numbers"),
        ((np.eye(3), ["a", None, "a"]), "row 1 has no label"),
        ((np.eye(3), [0.0, np.nan, 0.0]), "row 1 has no label"),
        ((np.eye(3), np.array([0, "a", 0], object)), "one type for all of them"),
        ((np.zeros((2, 3)), [0, 0]), "all zeros"),
        ((np.full((2, 3), np.nan), [0, 0]), "NaN"),
        ((np.empty((0, 3)), []), "at least 1"),
    ],
)
def test_unusable_input_of_retrieval_metrics(arguments, message):
    with pytest.raises(InputError, match=message):
        retrieval_metrics(*arguments)


def test_unusable_input_of_scores_metrics():
    with pytest.raises(InputError, match="expected bool"):
        scores_metrics(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(InputError, match="no query has a relevant item"):
        scores_metrics(np.ones((1, 2)), np.zeros((1, 2), bool))
    with pytest.raises(InputError, match="ks: got 0"):
        scores_metrics(np.ones((1, 2)), np.ones((1, 2), bool), ks=[0])


def test_ranks_of_an_item_that_takes_no_part():
    ranking = rank_relevant(np.array([-np.inf, 0.2, 0.1, 0.3]), np.array([1, 2]))
    assert ranking.ranks.tolist() == ranking.n_from.tolist() == [2, 3]


def test_memory_is_bounded():
    script = """
        import numpy as np, resource
        from isomix import retrieval_metrics
        rng = np.random.default_rng(0)
        embeddings = rng.standard_normal((8000, 64), dtype=np.float32)
        retrieval_metrics(embeddings[:100], np.zeros(100))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        retrieval_metrics(embeddings, rng.integers(500, size=8000))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    output = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert int(output.stdout) <= 120  # MB; all scores at once would be 256 MB


def test_plain_number_of_real_embeddings(shared_data):
    with np.load(shared_data / "vitb32_caltech101.npz") as data:
        figures = retrieval_metrics(data["test"], data["test_labels"], data["val"], data["val_labels"])
    assert 100 * figures["mean_average_precision"] == pytest.approx(78.9, abs=0.3)


# --- revisited Oxford and Paris


def test_oxford_average_precision_with_junk_by_hand():
    # Without row 3 (junk) the ranking is 0, 4, 1, 2; relevant rows stand at places 0 and 3:
    # (1 + 1/1)/2 at the first, (1/3 + 2/4)/2 at the second, divided by 2 relevant rows.
    expected = (1.0 + (1 / 3 + 2 / 4) / 2) / 2
    assert revisited_average_precision([3, 0, 4, 1, 2], ok=[0, 2], junk=[3]) == pytest.approx(expected)
    assert revisited_average_precision([0, 3, 4, 1, 2], ok=[0, 2], junk=[3]) == pytest.approx(expected)
    assert revisited_average_precision([3, 0, 4, 1, 2], ok=[0, 2]) < expected
    assert revisited_average_precision([3, 0, 4], ok=[0, 2], junk=[3]) == pytest.approx(1 / 2)  # row 2 is never found
    assert revisited_average_precision([0, 2, 1], ok=[2, 0]) == 1.0


def test_difficulties():
    # Ranking of the first query: 0, 1, 2, 3, 4, 5.
    scores = np.array([[6.0, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]])
    truth = [
        {"easy": [1], "hard": [3], "junk": [0]},
        {"easy": [], "hard": [5, 0], "junk": []},
    ]
    figures = revisited_metrics(scores, truth, ks=(1, 5))
    assert figures["easy"]["mean_average_precision"] == 1.0  # rows 0 and 3 are gone, row 1 comes first
    assert (figures["easy"]["n_queries"], figures["easy"]["n_skipped"]) == (1, 1)
    # Places 0 and 2 of 1, 2, 3, 4, 5; places 0 and 5 of 5, 4, 3, 2, 1, 0.
    first, second = (1 + (1 / 2 + 2 / 3) / 2) / 2, (1 + (1 / 5 + 2 / 6) / 2) / 2
    assert figures["medium"]["mean_average_precision"] == pytest.approx((first + second) / 2)
    assert figures["medium"]["precision_at_1"] == 1.0
    assert figures["medium"]["precision_at_5"] == pytest.approx((2 / 3 + 1 / 5) / 2)
    # Place 1 of 2, 3, 4, 5.
    assert figures["hard"]["mean_average_precision"] == pytest.approx(((0 / 1 + 1 / 2) / 2 + second) / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: revisited_average_precision([0, 1], ok=[]), "no relevant row"),
        (lambda: revisited_average_precision([0, 1], ok=[0], junk=[0]), "both relevant and junk"),
        (lambda: revisited_average_precision([0, 0], ok=[0]), "stands in it twice"),
        (lambda: revisited_average_precision([0.5], ok=[0]), "row numbers"),
        (lambda: revisited_metrics(np.ones((2, 3)), [{}]), "got 1 queries, expected 2"),
        (lambda: revisited_metrics(np.ones((1, 3)), [{"easy": [0], "hard": []}]), "no 'junk'"),
        (lambda: revisited_metrics(np.ones((1, 3)), [{"easy": [3], "hard": [], "junk": []}]), "3 columns"),
        (lambda: revisited_metrics(np.ones((1, 3)), [{"easy": [0], "hard": [], "junk": []}]), "hard"),
    ],
)
def test_unusable_ground_truth(call, message):
    with pytest.raises(InputError, match=message):
        call()


# --- classification


def test_classification_metrics(rng):
    labels = rng.choice(["ant", "bee", "cat"], p=[0.7, 0.2, 0.1], size=400)
    predictions = np.where(rng.random(400) < 0.6, labels, "ant")
    figures = classification_metrics(labels, predictions, confidence=0.95)
    assert figures["accuracy"] == np.mean(labels == predictions)
    assert figures["mean_per_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predictions))
    low, high = figures["intervals"]["accuracy"]
    assert low < figures["accuracy"] < high
    half_width = 1.96 * np.sqrt(figures["accuracy"] * (1 - figures["accuracy"]) / 400)
    assert high - low == pytest.approx(2 * half_width, rel=0.15)
    assert "expected_calibration_error" not in figures


def test_expected_calibration_error_by_hand():
    labels, predictions = np.array([1, 1, 1, 1]), np.array([1, 0, 1, 1])
    # Bins of width 0.5: {0.5 and 0.3: one of two right, mean 0.4}, {0.9 and 0.7: both right, mean 0.8}.
    figures = classification_metrics(labels, predictions, [0.5, 0.3, 0.9, 0.7], n_bins=2)
    assert figures["expected_calibration_error"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)
    both = np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    wide = classification_metrics(labels, predictions, both, n_bins=1)
    assert wide["expected_calibration_error"] == pytest.approx(abs(0.75 - np.mean([0.9, 0.6, 0.8, 0.7])))


def test_a_calibrated_classifier_has_no_calibration_error(rng):
    certainty = rng.uniform(0.5, 1.0, size=200_000)
    right = rng.random(200_000) < certainty
    figures = classification_metrics(np.ones(200_000, int), right.astype(int), certainty)
    assert figures["expected_calibration_error"] < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1]), "same shape"),
        (([], []), "n ≥ 1"),
        (([1, 2], ["1", "2"]), "both names or both numbers"),
        (([1, 2], [1, 2], [0.5]), "probabilities: got shape"),
        (([1, 2], [1, 2], [0.5, 3.0]), "softmax"),
    ],
)
def test_unusable_input_of_classification_metrics(arguments, message):
    with pytest.raises(InputError, match=message):
        classification_metrics(*arguments)


def test_unusable_bootstrap():
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(InputError, match="share between 0 and 1"):
            bootstrap_intervals(lambda weights: weights, 3, confidence=confidence)
    with pytest.raises(InputError, match="number of samples"):
        bootstrap_intervals(lambda weights: weights, 0)


@given(st.integers(0, 10_000), st.booleans())
def test_average_precisions_are_those_of_scikit_learn_and_leave_out_what_takes_no_part(seed, ties):
    rng = np.random.default_rng(seed)
    shape = (4, int(rng.integers(2, 30)))
    scores = rng.integers(-2, 3, shape).astype(np.float32) if ties else rng.normal(size=shape)
    relevant, out = rng.random(shape) < 0.4, rng.random(shape) < 0.2
    scores[out] = -np.inf
    for row, hits, absent, value in zip(scores, relevant, out, average_precisions(scores, relevant)):
        if (hits & ~absent).any():
            assert value == pytest.approx(average_precision_score(hits[~absent], row[~absent]))
        else:
            assert np.isnan(value)

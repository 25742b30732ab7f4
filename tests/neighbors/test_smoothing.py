from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import isomix
from isomix import Smoothing, TextPCA, search
from isomix.errors import InputError, NotFittedError
from isomix.neighbors.kinship import Background, above_background, cohesive_mass, median_mass, neighbor_weights


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def clusters(seed=0, kinds=12, each=9, d=24, noise=0.8):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(kinds, d))
    return unit(np.repeat(centres, each, axis=0) + noise * rng.normal(size=(kinds * each, d)))


def by_hand(G, k, alpha, strength, thresholds, others=None):
    """The definition, row by row; ``others``: the rows that exist."""
    exists = np.ones(len(G), bool) if others is None else others
    result = np.full(G.shape, np.nan)
    for r in np.flatnonzero(exists):
        candidates = np.flatnonzero(exists & (np.arange(len(G)) != r))
        s = G[candidates] @ G[r]
        near = candidates[np.lexsort((candidates, -s))[:k]]
        z = np.clip((G[near] @ G[r] - thresholds[r]) / (1 - thresholds[r]), 1e-6, 1)
        mean = G[r] + (strength * (z**alpha / (z**alpha).sum()) @ G[near] if len(near) else 0)
        result[r] = mean / np.linalg.norm(mean)
    return result


def expanded_by_hand(q, rows, smoothed, threshold, strength, alpha, k=5):
    near = np.argsort(-(smoothed @ q), kind="stable")[:k]
    z = np.clip((rows[near] @ q - threshold) / (1 - threshold), 1e-6, 1)
    mean = q + strength / 4 * (z**alpha / (z**alpha).sum()) @ rows[near]
    return mean / np.linalg.norm(mean)


# ---------------------------------------------------------------------- the definition


def test_three_rows_with_everything_given() -> None:
    G = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    S = Smoothing(k=1, alpha=0, strength=0.5).fit(G)
    assert S.indices_[:, 0].tolist() == [1, 0, 1]
    # norm(g + g_near / 2); the row in the middle has cosines 0.8 and 0.6
    np.testing.assert_allclose(S.gallery_, unit(np.array([[1.4, 0.3], [1.3, 0.6], [0.4, 1.3]])), atol=1e-15)


@given(
    n=st.integers(2, 30), d=st.integers(2, 6), k=st.integers(1, 12), alpha=st.floats(0, 6), seed=st.integers(0, 2**16)
)
@settings(max_examples=40, deadline=None)
def test_the_gallery_equals_the_definition(n, d, k, alpha, seed) -> None:
    G = unit(np.random.default_rng(seed).normal(size=(n, d)) + 0.3)
    S = Smoothing(k=k, alpha=alpha, strength=1.5).fit(G)
    np.testing.assert_allclose(S.gallery_, by_hand(S._own, k, alpha, 1.5, S.thresholds_), atol=1e-10)


def test_thresholds_are_mean_and_half_a_deviation_of_the_similarities_to_all_others() -> None:
    G = clusters()
    cosines = G @ G.T
    others = cosines[~np.eye(len(G), dtype=bool)].reshape(len(G), -1)
    expected = others.mean(axis=1) + 0.5 * others.std(axis=1)
    np.testing.assert_allclose(Smoothing().fit(G).thresholds_, expected, atol=1e-12)
    queries = clusters(1)
    to_all = queries @ G.T
    found = Background.of([G[:40], G[40:]]).thresholds(queries)
    np.testing.assert_allclose(found, to_all.mean(axis=1) + 0.5 * to_all.std(axis=1), atol=1e-12)


def test_the_mass_equals_the_definition() -> None:
    G = clusters()
    S = Smoothing().fit(G)
    masses = []
    for r in range(len(G)):
        near = S.indices_[r, :10]
        z = above_background((G[near] @ G[r])[None], S.thresholds_[[r]])[0]
        mutual = above_background((G[near] @ G[near].T)[None], S.thresholds_[[r]])[0]
        w = z**3
        pairs = [(i, j) for i in range(10) for j in range(10) if i != j]
        among = sum(w[i] * w[j] * mutual[i, j] for i, j in pairs) / sum(w[i] * w[j] for i, j in pairs)
        masses.append(w.sum() * min(among / ((w * z).sum() / w.sum()), 1) ** 4)
    assert S.mass_ == pytest.approx(np.median(masses), rel=1e-9)
    assert S.strength_ == pytest.approx(2 * S.mass_)


def test_weights_of_a_row_add_up_to_the_strength() -> None:
    rng = np.random.default_rng(0)
    weights = neighbor_weights(rng.uniform(-1, 1, (7, 4)), rng.uniform(-1, 1, 7), 1.7, 3.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.7)


def test_one_twin_among_strangers_is_not_a_group() -> None:
    """w is 1 for the twin and next to nothing for the rest: no pair of neighbours agrees."""
    near = np.array([[1.0, -0.5, -0.5]])
    assert cohesive_mass(near, np.full((1, 3, 3), -0.5), np.zeros(1))[0] < 1e-6


def test_queries_equal_the_definition() -> None:
    G, Q = clusters(), clusters(0, noise=1.0)[::9]
    S = Smoothing().fit(G)
    assert S.strength_ > 0.1
    cosines = Q @ G.T
    thresholds = cosines.mean(axis=1) + 0.5 * cosines.std(axis=1)
    expected = [expanded_by_hand(q, G, S.gallery_, b, S.strength_, 3) for q, b in zip(Q, thresholds, strict=True)]
    np.testing.assert_allclose(S.transform(Q), expected, atol=1e-12)


# ---------------------------------------------------------------------- leaving one out


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize(("n", "k"), [(40, None), (40, 3), (8, None), (6, 5), (3, 2), (2, 1)])
def test_leaving_one_out_equals_deleting_it_and_averaging_again(n, k, expand) -> None:
    G = clusters(3)[:n]
    S = Smoothing(k=k, strength=1.3).fit(G)
    found = S.leave_one_out_scores(slice(None), expand=expand)
    for i in range(n):
        others = np.arange(n) != i
        gallery = by_hand(G, 10 if k is None else k, 3, 1.3, S.thresholds_, others)
        query = G[i]
        if expand:
            query = expanded_by_hand(query, G[others], gallery[others], S.thresholds_[i], 1.3, 3)
        np.testing.assert_allclose(found[i, others], gallery[others] @ query, atol=1e-10)
        assert found[i, i] == -np.inf


def test_leaving_one_out_in_blocks_is_the_same() -> None:
    S = Smoothing().fit(clusters())
    whole = S.leave_one_out_scores(slice(None), expand=True)
    parts = [S.leave_one_out_scores(np.arange(a, min(a + 13, 108)), expand=True) for a in range(0, 108, 13)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-14)


# ---------------------------------------------------------------------- whether at all


def test_strangers_are_left_alone() -> None:
    S = Smoothing().fit(unit(np.random.default_rng(0).normal(size=(400, 512))))
    assert S.mass_ < 1e-3
    np.testing.assert_allclose(np.einsum("ij,ij->i", S.gallery_, S._own), 1.0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_strength_zero_gives_everything_back_bit_for_bit(dtype) -> None:
    G = (3 * clusters()).astype(dtype)
    S = Smoothing(strength=0).fit(G)
    assert S.gallery_.dtype == dtype
    np.testing.assert_array_equal(S.gallery_, G)
    S.gallery_[0] = 0
    assert G[0].any()
    np.testing.assert_array_equal(search(S.transform(G[:5]), G, 3)[1], search(G[:5], G, 3)[1])


@pytest.mark.parametrize("expand", [False, True])
def test_metrics_judge_every_query_in_a_gallery_without_it(expand) -> None:
    """All against all equals deleting the query and averaging again; the leaky way gives another, better figure."""
    G = clusters(noise=1.2)
    labels = np.repeat(np.arange(12), 9)
    plain = isomix.retrieval_metrics(G, labels)["mean_average_precision"]
    found = isomix.retrieval_metrics(G, labels, smoothing=Smoothing(strength=1.3), expand=expand, return_per_query=True)
    S = Smoothing(strength=1.3).fit(G)
    for i in range(0, len(G), 7):
        others = np.arange(len(G)) != i
        gallery = by_hand(G, 10, 3, 1.3, S.thresholds_, others)[others]
        query = expanded_by_hand(G[i], G[others], gallery, S.thresholds_[i], 1.3, 3) if expand else G[i]
        alone = isomix.metrics.average_precisions((gallery @ query)[None], (labels[others] == labels[i])[None])
        assert found["per_query"]["mean_average_precision"][i] == pytest.approx(alone[0], abs=1e-9)
    leaky = S.gallery_ @ G.T
    np.fill_diagonal(leaky, -np.inf)
    same = (labels[:, None] == labels) & ~np.eye(len(G), dtype=bool)
    leaked = isomix.metrics.average_precisions(leaky.T, same).mean()
    assert plain + 0.02 < isomix.retrieval_metrics(G, labels, smoothing=Smoothing())["mean_average_precision"] < leaked


def test_a_label_of_its_own_gains_nothing_from_smoothing() -> None:
    """Rows without any structure: what leaks would show as a gain over chance."""
    G = unit(np.random.default_rng(0).normal(size=(300, 8)))
    labels = np.random.default_rng(1).integers(0, 10, 300)
    plain, smoothed = (
        isomix.retrieval_metrics(G, labels, smoothing=s)["mean_average_precision"]
        for s in (None, Smoothing(strength=2))
    )
    assert abs(smoothed - plain) < 0.005


def test_metrics_of_queries_and_a_gallery() -> None:
    G, Q = clusters(noise=1.6), clusters(0, noise=1.7)[::9]
    labels = np.repeat(np.arange(12), 9)
    S = Smoothing().fit(G)
    for expand in (False, True):
        expected = isomix.retrieval_metrics(S.transform(Q) if expand else Q, labels[::9], S.gallery_, labels)
        assert isomix.retrieval_metrics(Q, labels[::9], G, labels, smoothing=Smoothing(), expand=expand) == expected


def test_metrics_refuse_what_would_leak() -> None:
    G, labels = clusters(), np.repeat(np.arange(12), 9)
    with pytest.raises(InputError, match="remove_self"):
        isomix.retrieval_metrics(G, labels, G, labels, remove_self=True, smoothing=Smoothing())
    with pytest.raises(InputError, match="expand: got True without smoothing"):
        isomix.retrieval_metrics(G, labels, expand=True)


def test_duplicates_by_the_hundred() -> None:
    G = np.concatenate([clusters(), np.repeat(clusters(5)[:2], 150, axis=0)])
    S = Smoothing().fit(G)
    np.testing.assert_allclose(S.gallery_[-300:], G[-300:], atol=1e-12)  # the mean of copies is the copy
    assert np.isfinite(S.leave_one_out_scores(np.arange(50), expand=True)).sum() == 50 * len(G) - 50
    everything = Smoothing().fit(np.repeat(G[:1], 60, axis=0))
    np.testing.assert_allclose(everything.gallery_, np.repeat(G[:1], 60, axis=0), atol=1e-12)


# ---------------------------------------------------------------------- two spaces


def test_neighbours_of_a_space_average_the_rows_given() -> None:
    G = clusters()
    space = TextPCA(6).fit(np.random.default_rng(1).normal(size=(50, 24)))
    S = Smoothing(space=space).fit(G)
    adapted = Smoothing().fit(space.transform(G))
    assert S.mass_ == pytest.approx(adapted.mass_)
    np.testing.assert_array_equal(S.indices_, adapted.indices_)
    weights = neighbor_weights(S.cosines_[:, :10], S.thresholds_, S.strength_, 3.0)
    np.testing.assert_allclose(
        S.gallery_, unit(G + np.einsum("nk,nkd->nd", weights, G[S.indices_[:, :10]])), atol=1e-12
    )
    np.testing.assert_allclose(adapted.average(G), S.gallery_, atol=1e-12)
    for call in (lambda: S.transform(G[:2]), lambda: S.leave_one_out_scores([0])):
        with pytest.raises(InputError, match=r"Smoothing\(\)\.fit\(space"):
            call()


# ---------------------------------------------------------------------- scikit-learn, precision, backends


def test_it_is_an_estimator() -> None:
    G = clusters()
    S = Smoothing(k=4, strength=0.5)
    assert clone(S).get_params() == {"k": 4, "alpha": None, "strength": 0.5, "space": None, "backend": "exact"}
    np.testing.assert_array_equal(S.fit_transform(G), S.gallery_)
    copy = pickle.loads(pickle.dumps(S))
    np.testing.assert_array_equal(copy.transform(G[:3]), S.transform(G[:3]))
    pipeline = make_pipeline(TextPCA(6), Smoothing()).fit(G)
    assert pipeline.transform(G[:3]).shape == (3, 6)


def test_half_and_single_precision_agree_with_double_and_lengths_do_not_matter() -> None:
    G = clusters().astype(np.float16)
    double = Smoothing(strength=1.0).fit(G.astype(np.float64))
    single = Smoothing(strength=1.0).fit(G.astype(np.float32) * 7)
    half = Smoothing(strength=1.0).fit(G)
    assert (single.gallery_.dtype, half.gallery_.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(single.gallery_, double.gallery_, atol=1e-6)
    np.testing.assert_allclose(half.gallery_.astype(float), double.gallery_, atol=1e-3)
    assert half.transform(G[:2]).dtype == np.float32


def test_faiss_gives_the_same_graph_and_an_index_states_its_recall() -> None:
    faiss = pytest.importorskip("faiss")
    G = clusters(kinds=40).astype(np.float32)
    exact, flat = Smoothing().fit(G), Smoothing(backend="faiss").fit(G)
    assert (exact.recall_, flat.recall_) == (1.0, 1.0)
    np.testing.assert_allclose(flat.gallery_, exact.gallery_, atol=1e-5)
    coarse = faiss.IndexFlatIP(24)
    index = faiss.IndexIVFFlat(coarse, 24, 4, faiss.METRIC_INNER_PRODUCT)
    index.train(G)
    index.add(G)
    assert 0.3 < Smoothing(backend="faiss").fit(G, index=index).recall_ < 1
    with pytest.raises(InputError, match="360 rows of the gallery"):
        Smoothing(backend="faiss").fit(G, index=faiss.IndexFlatIP(24))
    with pytest.raises(InputError, match="backend='faiss'"):
        Smoothing().fit(G, index=index)
    few = faiss.IndexIVFFlat(coarse, 24, 120, faiss.METRIC_INNER_PRODUCT)
    few.train(np.concatenate([G] * 2))
    few.add(G)
    with pytest.raises(InputError, match="fewer than 11 neighbours"):
        Smoothing(backend="faiss").fit(G, index=few)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k": 0}, "k: got 0"),
        ({"k": 2.5}, "k: got 2.5"),
        ({"alpha": -1}, "alpha: got -1"),
        ({"alpha": np.nan}, "alpha: got nan"),
        ({"strength": "much"}, "strength: got 'much'"),
        ({"strength": True}, "strength: got True"),
        ({"backend": "lance"}, "backend: got 'lance'"),
    ],
)
def test_parameters_out_of_range(parameters, message) -> None:
    with pytest.raises(InputError, match=message):
        Smoothing(**parameters).fit(clusters())


def test_bad_rows() -> None:
    G = clusters()
    with pytest.raises(InputError, match="minimum of 2"):
        Smoothing().fit(G[:1])
    broken = G.copy()
    broken[7, 0] = np.nan
    with pytest.raises(InputError, match="row 7"):
        Smoothing().fit(broken)
    broken[7] = 0
    with pytest.raises(InputError, match="row 7 is all zeros"):
        Smoothing().fit(broken)
    with pytest.raises(NotFittedError):
        Smoothing().transform(G)
    S = Smoothing().fit(G)
    with pytest.raises(InputError, match="24"):
        S.transform(G[:, :5])
    broken[7] = np.inf
    with pytest.raises(InputError, match="row 7"):
        S.transform(broken)
    with pytest.raises(InputError, match="got 3, expected the 108"):
        S.average(G[:3])


def test_a_gallery_of_two_and_one_smaller_than_k() -> None:
    two = Smoothing().fit(np.eye(2))
    assert (two.k_, two.mass_) == (1, 0.0)
    np.testing.assert_array_equal(two.gallery_, np.eye(2))
    assert Smoothing(k=10).fit(clusters()[:6]).k_ == 5


# ---------------------------------------------------------------------- search(expand=)


def test_search_expands_as_the_definition_says() -> None:
    G, Q = clusters(kinds=11), clusters(0, kinds=11, noise=1.0)[::9]
    S = Smoothing().fit(G)
    expected = []
    for q in Q:
        cosines = G @ q
        expected.append(expanded_by_hand(q, G, G, cosines.mean() + 0.5 * cosines.std(), S.strength_, 3, 4))
    scores, rows = search(Q, G, 7, expand=4)
    expected_scores, expected_rows = search(np.array(expected), G, 7)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-9)


def test_the_mass_of_a_sample_is_that_of_the_gallery() -> None:
    G = clusters(kinds=60)
    S = Smoothing().fit(G)
    some = np.arange(0, len(G), 5)
    sample = median_mass(G, some, S.indices_[some], S.cosines_[some], S.thresholds_[some])
    assert sample == pytest.approx(S.mass_, rel=0.2)


def test_expansion_of_copies_and_of_a_small_gallery() -> None:
    G = np.repeat(clusters()[:3], 50, axis=0)
    np.testing.assert_allclose(search(G[:1], G, 3, expand=5)[0], 1.0)
    np.testing.assert_array_equal(search(G[:1], G[:3], 3, expand=5)[1], search(G[:1], G[:3], 3)[1])
    assert search(clusters()[:2].astype(np.float16), clusters().astype(np.float16), 3, expand=50)[0].dtype == np.float32


def test_expand_is_refused_where_it_means_nothing() -> None:
    G = clusters()
    for options in ({"expand": 0}, {"expand": 3, "exclude_self": True}, {"expand": 3, "normalize": False}):
        with pytest.raises(InputError, match="expand: got"):
            search(G, G, 3, **options)
    with pytest.raises(InputError, match="Give an array"):
        search(G, iter([G]), 3, expand=3)
    with pytest.raises(InputError, match="width"):
        search(G[:, :3], G, 3, expand=3)

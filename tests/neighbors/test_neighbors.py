from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isomix
from isomix.errors import InputError
from isomix.neighbors import BACKENDS, duplicates, near_pairs, search, split_leaks
from isomix.neighbors.blocked import rounding_slack


def brute_force(queries, gallery, k, exclude_self=False):
    Q, G = queries.astype(np.float64), gallery.astype(np.float64)
    cosine = (Q @ G.T) / np.linalg.norm(Q, axis=1)[:, None] / np.linalg.norm(G, axis=1)
    cosine = cosine.astype(np.result_type(np.float32, queries.dtype, gallery.dtype))
    if exclude_self:
        np.fill_diagonal(cosine, -np.inf)
    rows = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosine, rows, axis=1), rows


@given(
    n=st.integers(1, 9),
    m=st.integers(1, 40),
    d=st.integers(1, 8),
    k=st.integers(1, 12),
    blocks=st.tuples(st.integers(1, 10), st.integers(1, 17)),
    half=st.booleans(),
    repeated=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_search_equals_brute_force_whatever_the_blocks(n, m, d, k, blocks, half, repeated, seed):
    generator = np.random.default_rng(seed)
    gallery = generator.normal(size=(m, d)).astype(np.float16 if half else np.float32)
    if repeated:
        gallery = gallery[generator.integers(m, size=m)]
    queries = generator.normal(size=(n, d)).astype(np.float32)
    scores, rows = search(queries, gallery, k, query_block=blocks[0], gallery_block=blocks[1])
    assert scores.shape == rows.shape == (n, k)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64
    found = min(k, m)
    expected_scores, _ = brute_force(queries, gallery, k)
    np.testing.assert_allclose(scores[:, :found], expected_scores, atol=2e-7)
    assert np.all(scores[:, found:] == -np.inf)
    assert np.all(rows[:, found:] == -1)
    whole_scores, whole_rows = search(queries, gallery, k)
    np.testing.assert_array_equal(scores, whole_scores)
    np.testing.assert_array_equal(rows, whole_rows)
    for query_scores, query_rows in zip(scores[:, :found], rows[:, :found], strict=True):
        assert len(set(query_rows.tolist())) == found
        order = np.lexsort((query_rows, -query_scores))
        np.testing.assert_array_equal(order, np.arange(found))


def test_equal_rows_score_the_same_and_the_lower_row_number_wins(rng):
    gallery = np.repeat(rng.normal(size=(3, 512)), 200, axis=0).astype(np.float32)
    queries = rng.normal(size=(5, 512)).astype(np.float32)
    scores, rows = search(queries, gallery, 250, gallery_block=97)
    assert np.all(np.ptp(scores[:, :200], axis=1) == 0)
    np.testing.assert_array_equal(rows[:, :200], rows[:, :1] + np.arange(200))
    assert set((rows[:, 0] % 200).tolist()) == {0}


def test_a_gallery_that_keeps_getting_better_is_searched_exactly(rng):
    query = np.ones((1, 2), np.float32)
    angles = np.linspace(1.5, 0.01, 5000)
    gallery = np.stack([1 + np.sin(angles), 1 - np.sin(angles)], axis=1).astype(np.float32)
    _, rows = search(query, gallery, 3, gallery_block=64)
    np.testing.assert_array_equal(rows, [[4999, 4998, 4997]])


def test_exclude_self(rng):
    rows = rng.normal(size=(50, 8))
    scores, found = search(rows, rows, 49, exclude_self=True, query_block=7, gallery_block=11)
    expected_scores, expected = brute_force(rows, rows, 49, exclude_self=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-14)
    _, padded = search(rows, rows, 50, exclude_self=True)
    assert np.all(padded[:, -1] == -1)


def test_float64_stays_float64(rng):
    rows = rng.normal(size=(4, 3))
    scores, _ = search(rows, rows, 1)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, 1.0, atol=1e-15)


def test_lengths_do_not_matter_unless_told(rng):
    queries, gallery = rng.normal(size=(3, 6)), rng.normal(size=(20, 6))
    lengths = rng.uniform(0.01, 100, size=(20, 1))
    np.testing.assert_array_equal(search(queries, gallery, 5)[1], search(queries * 7, gallery * lengths, 5)[1])
    products = queries @ (gallery * lengths).T
    scores, rows = search(queries, gallery * lengths, 5, normalize=False, gallery_block=6)
    np.testing.assert_array_equal(rows, np.argsort(-products, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :5])
    assert search(queries, np.zeros((2, 6)), 2, normalize=False)[0].tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("factor", [1e-30, 1e25])
def test_very_short_and_very_long_rows(rng, factor):
    queries, gallery = rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=(20, 6)).astype(np.float32)
    expected = search(queries, gallery, 4)
    actual = search(queries, gallery * np.float32(factor), 4)
    np.testing.assert_array_equal(actual[1], expected[1])
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-6)


def test_a_memory_mapped_half_precision_gallery(rng, tmp_path):
    gallery = rng.normal(size=(300, 16)).astype(np.float16)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    for actual, expected in zip(search(gallery[:5], mapped, 3), search(gallery[:5], gallery, 3), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_gallery_in_pieces(rng):
    queries, gallery = rng.normal(size=(4, 16)).astype(np.float32), rng.normal(size=(50, 16)).astype(np.float16)
    for backend in BACKENDS:
        pieces = (gallery[start:stop] for start, stop in ((0, 20), (20, 20), (20, 23), (23, 50)))
        for actual, expected in zip(
            search(queries, pieces, 6, backend=backend), search(queries, gallery, 6), strict=True
        ):
            np.testing.assert_allclose(actual, expected, atol=1e-6)
    with pytest.raises(InputError, match=r"gallery: NaN or infinite .* in row 21\."):
        search(queries, iter([gallery[:20], np.array([gallery[0], gallery[0] * np.nan])]))
    with pytest.raises(InputError, match="got width 16, expected 15"):
        search(queries, iter([gallery, gallery[:, 1:]]))


def test_an_empty_gallery_and_no_queries():
    scores, rows = search(np.ones((2, 3)), np.empty((0, 3)), 2)
    assert np.all(scores == -np.inf)
    assert np.all(rows == -1)
    assert search(np.empty((0, 3), np.float32), np.ones((2, 3)), 2)[1].shape == (0, 2)


@pytest.mark.parametrize(
    ("queries", "gallery", "options", "message"),
    [
        (np.ones((1, 3)), np.ones((2, 4)), {}, "got width 3, expected 4"),
        (np.ones((1, 3)), np.ones((2, 3)), {"k": 0}, "k: got 0"),
        (np.ones((1, 3)), np.ones((2, 3)), {"backend": "hnsw"}, "exact, faiss"),
        (np.ones((1, 3)), np.ones((2, 3)), {"gallery_block": 0}, "gallery_block"),
        (np.zeros((1, 3)), np.ones((2, 3)), {}, "queries: row 0 is all zeros"),
        (np.ones((1, 3)), np.array([[1.0, 1, 1], [0, 0, 0]]), {"gallery_block": 1}, "gallery: row 1 is all zeros"),
        (
            np.ones((1, 3)),
            np.array([[1, 1, 1], [0, np.nan, 0]], np.float16),
            {},
            r"gallery: NaN or infinite .* in row 1\.",
        ),
        (np.ones((1, 3)), np.ones((2, 3), np.int8), {}, "got dtype int8"),
        (np.ones(3), np.ones((2, 3)), {}, "queries: got shape"),
    ],
)
def test_unusable_input_is_named(queries, gallery, options, message):
    with pytest.raises(InputError, match=message):
        search(queries, gallery, **options)


def test_peak_memory_does_not_grow_with_the_gallery():
    script = """
        import numpy as np, resource, sys
        from isomix import search
        queries = np.random.default_rng(0).standard_normal((1000, 512), dtype=np.float32)
        gallery = np.random.default_rng(1).standard_normal((int(sys.argv[1]), 512), dtype=np.float32).astype(np.float16)
        search(queries[:2], gallery[:64], 10)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        search(queries, gallery, 10)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), "40000"]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown <= 150  # MB; all scores at once would be 160 MB, the gallery as float32 80 MB


def test_real_embeddings_find_their_class(shared_data):
    with np.load(shared_data / "vitb32_caltech101.npz") as data:
        test, labels = data["test"], data["test_labels"]
        val, val_labels = data["val"], data["val_labels"]
    _, rows = isomix.search(test, val, 1)
    # A reference made with float64 products of everything at once.
    _, expected = brute_force(test, val, 1)
    np.testing.assert_array_equal(rows, expected)
    assert np.mean(val_labels[rows[:, 0]] == labels) > 0.8


class TestFaiss:
    faiss = pytest.importorskip("faiss")

    def test_agrees_with_exact(self, rng):
        queries, gallery = rng.normal(size=(6, 16)).astype(np.float32), rng.normal(size=(90, 16)).astype(np.float16)
        for options in ({}, {"normalize": False}):
            expected_scores, expected = search(queries, gallery, 7, **options)
            scores, rows = search(queries, gallery, 7, backend="faiss", **options)
            np.testing.assert_array_equal(rows, expected)
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)

    def test_exclude_self_and_missing(self, rng):
        rows = rng.normal(size=(5, 4)).astype(np.float32)
        for exclude_self in (False, True):
            scores, found = search(rows, rows, 6, backend="faiss", exclude_self=exclude_self)
            expected_scores, expected = search(rows, rows, 6, exclude_self=exclude_self)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_allclose(scores, expected_scores, atol=1e-6)

    def test_an_index_made_elsewhere(self, rng):
        gallery = rng.normal(size=(30, 4)).astype(np.float32)
        gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
        index = self.faiss.IndexFlatIP(4)
        index.add(gallery)
        _, rows = search(gallery[:3] * 5, index, 1, backend="faiss")
        assert rows.ravel().tolist() == [0, 1, 2]
        with pytest.raises(InputError, match="METRIC_INNER_PRODUCT"):
            search(gallery, self.faiss.IndexFlatL2(4), 1, backend="faiss")
        with pytest.raises(InputError, match="got width 3, expected 4"):
            search(np.ones((1, 3)), index, 1, backend="faiss")


def test_backends_are_listed():
    assert set(BACKENDS) == {"exact", "faiss"}


def test_rounding_slack_bounds_real_errors(rng):
    for d in (2, 64, 512, 1024):
        Q = rng.normal(size=(64, d))
        Q = (Q / np.linalg.norm(Q, axis=1, keepdims=True)).astype(np.float32)
        error = np.abs((Q @ Q.T).astype(np.float64) - Q.astype(np.float64) @ Q.T.astype(np.float64)).max()
        assert error < rounding_slack(d, np.dtype(np.float32)) < 1e-4


# --- duplicates


def copies(rng, n=120, d=16):
    """Distinct rows, then slightly moved copies of some of them."""
    rows = rng.normal(size=(n, d))
    rows[100:110] = rows[:10] * rng.uniform(0.5, 2, size=(10, 1)) + 1e-4 * rng.normal(size=(10, d))
    rows[110:115] = rows[0]
    return rows.astype(np.float32)


def test_near_pairs_equal_brute_force(rng, monkeypatch):
    import isomix.neighbors.near_duplicates as module

    monkeypatch.setattr(module, "ROWS", 13)
    monkeypatch.setattr(module, "COLUMNS", 29)
    rows = copies(rng)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for threshold in (0.999, 0.3):
        i, j = np.nonzero(np.triu(unit @ unit.T >= threshold, 1))
        pairs = near_pairs(rows, threshold=threshold)
        assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == set(
            zip(i.tolist(), j.tolist(), strict=True)
        )
        assert np.all(np.diff(pairs.scores) <= 0)
    across = near_pairs(rows[:100], rows[100:], threshold=0.999)
    assert set(zip(across.left.tolist(), across.right.tolist(), strict=True)) == {
        *((i, i) for i in range(10)),
        *((0, i) for i in range(10, 15)),
    }


def test_threshold_one_finds_exact_duplicates_only(rng):
    pairs = near_pairs(copies(rng).astype(np.float64)[:, :3], threshold=1.0)
    assert set(pairs.left.tolist()) | set(pairs.right.tolist()) == {0, 110, 111, 112, 113, 114}


def test_too_many_pairs_are_refused():
    with pytest.raises(InputError, match="more than 100 pairs"):
        near_pairs(np.ones((50, 3)), threshold=0.9, max_pairs=100)


def test_components_chain_and_communities_do_not():
    angles = np.deg2rad([0, 10, 20, 90, 95, 200])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    threshold = float(np.cos(np.deg2rad(12)))
    assert [g.tolist() for g in duplicates(rows, threshold=threshold)] == [[0, 1, 2], [3, 4]]
    assert [g.tolist() for g in duplicates(rows, threshold=threshold, method="community")] == [[1, 0, 2], [3, 4]]
    assert [g.tolist() for g in duplicates(rows, threshold=threshold, min_size=3)] == [[0, 1, 2]]
    chain = np.stack([np.cos(a := np.deg2rad([0, 10, 20, 30, 40])), np.sin(a)], axis=1)
    assert [len(g) for g in duplicates(chain, threshold=threshold)] == [5]
    assert [g.tolist() for g in duplicates(chain, threshold=threshold, method="community")] == [[1, 0, 2], [3, 4]]


@pytest.mark.parametrize("method", ["components", "community"])
def test_groups_do_not_depend_on_the_chunks(rng, monkeypatch, method):
    import isomix.neighbors.near_duplicates as module

    rows = copies(rng)
    expected = duplicates(rows, threshold=0.99, method=method)
    assert [len(group) for group in expected] == [7, *[2] * 9]
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(module, "COLUMNS", 10)
    monkeypatch.setattr(module, "EDGES_AT_ONCE", 3)
    for actual, group in zip(duplicates(rows, threshold=0.99, method=method), expected, strict=True):
        np.testing.assert_array_equal(actual, group)


def test_rows_that_are_all_the_same():
    for method in ("components", "community"):
        (group,) = duplicates(np.ones((3000, 4), np.float16), method=method)
        np.testing.assert_array_equal(group, np.arange(3000))


def test_leaks_between_splits(rng):
    splits = np.array(["train"] * 105 + ["test"] * 15)
    leaks = split_leaks(copies(rng), splits, threshold=0.999)
    found = set(zip(leaks.left.tolist(), leaks.right.tolist(), strict=True))
    assert found == {*((i, 100 + i) for i in range(5, 10)), *((i, j) for i in (0, 100) for j in range(110, 115))}
    with pytest.raises(InputError, match="one split for every embedding"):
        split_leaks(copies(rng), splits[1:])


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": -1.0}, {"method": "dbscan"}, {"min_size": 1}])
def test_unusable_options_of_duplicates(options):
    with pytest.raises(InputError):
        duplicates(np.ones((3, 2)), **options)

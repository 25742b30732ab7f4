"""Live ranking gives what a search in the adapted vectors gives, whatever the band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isomix
from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.neighbors.live import BLOCK, LiveRanking, places, rank_rows, rank_similarities
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, TextPCA
from isomix.spaces.operator import InterModalOperator

WIDTH, ROWS = 72, 300


def _pair(seed: int = 0) -> tuple[Projectors, np.ndarray]:
    """Projectors with a spectrum that falls, and unit embeddings in half precision, as they are stored."""
    rng = np.random.default_rng(seed)
    fall = np.geomspace(1.0, 1e-2, WIDTH)[:, None]
    projectors = Projectors(
        (rng.normal(size=(WIDTH, WIDTH)) @ (fall * rng.normal(size=(WIDTH, 96)))).astype(np.float32),
        rng.normal(size=(WIDTH, 80)).astype(np.float32),
    )
    embeddings = normalize_rows(projectors.project_image(rng.normal(size=(ROWS, 96))))
    return projectors, embeddings.astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def pair():
    return _pair()


@pytest.fixture(scope="module")
def live(pair):
    projectors, embeddings = pair
    operator = InterModalOperator(projectors)
    projected = operator.projected("image")
    return LiveRanking(embeddings, operator.coordinate_map("image"), projected.T @ projected)


@settings(max_examples=25)
@given(st.integers(0, WIDTH - 1), st.integers(0, WIDTH - 1))
def test_every_band_is_ranked_as_its_adapted_vectors_are(pair, live, k_top, k_bottom):
    if k_top + k_bottom >= live.n_directions - 1:
        return
    projectors, embeddings = pair
    adapted = IsoCLIP(projectors, (k_top, k_bottom)).fit().transform(embeddings.astype(np.float64))
    scores, rows = isomix.search(adapted[:3], adapted, 8)
    found = live.rank(embeddings[:3], k_top, k_bottom, k=8)
    np.testing.assert_allclose(found.scores, scores, atol=1e-8)
    np.testing.assert_array_equal(found.rows, rows)
    # In float32, of which a band of a few small directions loses the most; the best rows are scored again.
    kept = live.n_directions - k_top - k_bottom
    np.testing.assert_allclose(found.similarities, adapted[:3] @ adapted.T, atol=2e-4 if kept >= BLOCK else 5e-3)
    assert (found.k_top, found.k_bottom) == (k_top, k_bottom)


@settings(max_examples=40)
@given(st.integers(0, WIDTH), st.integers(0, WIDTH))
def test_a_snapped_band_begins_and_ends_at_a_block_and_is_no_further_than_half_of_one(live, k_top, k_bottom):
    if k_top + k_bottom >= live.n_directions:
        with pytest.raises(InputError, match="leave none"):
            live.snap(k_top, k_bottom)
        return
    top, bottom = live.snap(k_top, k_bottom)
    end = live.n_directions - bottom
    assert top % BLOCK == 0
    assert end % BLOCK == 0 or end == live.n_directions
    assert top < end
    if end - top > BLOCK:  # narrower ones are widened to a block
        assert abs(top - k_top) <= BLOCK
        assert abs(bottom - k_bottom) <= BLOCK


def test_norms_are_those_of_the_adapted_vectors_in_every_band_of_blocks(pair, live):
    projectors, embeddings = pair
    operator = InterModalOperator(projectors)
    coordinates = embeddings.astype(np.float64) @ operator.coordinate_map("image").T  # not normalised again
    projected = operator.projected("image")
    edges = [*range(0, live.n_directions, BLOCK), live.n_directions]
    row = 0
    for j in range(1, len(edges)):
        for i in range(j):
            band = slice(edges[i], edges[j])
            vectors = coordinates[:, band] @ projected[:, band].T
            np.testing.assert_allclose(live.norms[row], (vectors**2).sum(axis=1), rtol=1e-5)
            row += 1
    assert row == len(live.norms)


def test_sums_over_directions_are_not_exact_which_is_why_blocks_know_one_another(pair):
    projectors, embeddings = pair
    operator = InterModalOperator(projectors)
    coordinates = embeddings.astype(np.float64) @ operator.coordinate_map("image").T
    projected = operator.projected("image")
    naive = (coordinates[:, :32] ** 2 * (projected[:, :32] ** 2).sum(axis=0)).sum(axis=1)
    right = ((coordinates[:, :32] @ projected[:, :32].T) ** 2).sum(axis=1)
    assert np.abs(naive / right - 1).max() > 0.05


def test_orthonormal_directions_need_no_gram_matrix(rng):
    bank, embeddings = rng.normal(size=(60, 40)), normalize_rows(rng.normal(size=(200, 40)))
    space = TextPCA(n_components=23).fit(bank)
    live = LiveRanking(embeddings, TextPCA(n_components=40).fit(bank).operator_)
    adapted = space.transform(embeddings)
    scores, rows = isomix.search(adapted[:4], adapted, 6)
    found = live.rank(embeddings[:4], 0, 40 - 23, k=6)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)


def test_a_query_does_not_find_its_own_row_when_it_is_told_so(live, pair):
    _, embeddings = pair
    found = live.rank(embeddings[:2], 16, 0, k=ROWS, without=[0, -1])
    assert 0 not in found.rows[0][np.isfinite(found.scores[0])]
    assert found.rows[1, 0] == 1
    plain = rank_rows(embeddings, embeddings[:2], 5, [0, -1])
    assert 0 not in plain.rows[0]
    assert plain.rows[1, 0] == 1


def test_equal_similarities_go_by_the_lower_row(rng):
    values = np.round(rng.normal(size=(2, 500)), 1).astype(np.float32)
    rows, found = rank_similarities(values, 60)
    for own, order, scores in zip(values, rows, found, strict=True):
        expected = np.lexsort((np.arange(500), -own))[:60]
        np.testing.assert_array_equal(order, expected)
        np.testing.assert_array_equal(scores, own[expected])
        np.testing.assert_array_equal(places(own, order), np.arange(1, 61))


@pytest.mark.parametrize("call", [
    lambda: LiveRanking(np.eye(3), np.eye(4)),
    lambda: LiveRanking(np.eye(3), np.eye(3), np.eye(2)),
    lambda: LiveRanking(np.eye(3), np.eye(3)).rank(np.eye(3)[:1], 2, 1),
    lambda: LiveRanking(np.eye(3), np.eye(3)).rank(np.eye(3)[:1], -1, 0),
    lambda: LiveRanking(np.eye(3), np.eye(3)).rank(np.zeros((1, 3)), 0, 0),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_pieces_and_threads_do_not_change_the_result(pair, monkeypatch):
    projectors, embeddings = pair
    operator = InterModalOperator(projectors)
    projected = operator.projected("image")
    arguments = embeddings, operator.coordinate_map("image"), projected.T @ projected
    whole = LiveRanking(*arguments).rank(embeddings[:2], 7, 9, k=20)
    monkeypatch.setattr("isomix.neighbors.live.ROWS_A_PIECE", 17)
    pieces = LiveRanking(*arguments).rank(embeddings[:2], 7, 9, k=20)
    np.testing.assert_array_equal(whole.rows, pieces.rows)
    np.testing.assert_allclose(whole.scores, pieces.scores, atol=1e-12)

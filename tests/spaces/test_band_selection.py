"""Bands and component counts chosen from embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.errors import InputError
from isomix.metrics import average_precisions
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, TextPCA
from isomix.spaces.band_selection import (
    _similarities,
    band_grid,
    decide,
    draw_sample,
    neighbor_contrasts,
)
from isomix.spaces.bands import Band
from isomix.spaces.spectrum import leading_outliers


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mean_average_precision(Z, y):
    S = (Z @ Z.T).astype(np.float64)
    np.fill_diagonal(S, -np.inf)
    return float(np.nanmean(average_precisions(S, y[:, None] == y)))


@pytest.fixture
def shared_direction(rng):
    """Projectors with one huge common direction, and classes that live in the others."""
    d, classes, per_class = 24, 30, 8
    Q_i, Q_t = np.linalg.qr(rng.normal(size=(d, d)))[0], np.linalg.qr(rng.normal(size=(d, d)))[0]
    scales = np.r_[30.0, np.linspace(3, 2, d - 1)]
    pair = Projectors((Q_t * scales) @ Q_i.T, Q_t)
    centres = np.repeat(rng.normal(size=(classes, d - 1)), per_class, axis=0)
    coordinates = np.column_stack(
        [3 * rng.normal(size=classes * per_class), centres + 0.5 * rng.normal(size=centres.shape)]
    )
    return pair, pair.project_image(coordinates @ Q_i.T), np.repeat(np.arange(classes), per_class)


@pytest.mark.parametrize("with_labels", [False, True])
def test_auto_finds_the_direction_that_says_nothing(shared_direction, with_labels):
    pair, E, y = shared_direction
    iso = IsoCLIP(pair, band="auto").fit(E, y if with_labels else None)
    assert iso.band_.k_top >= 1 if with_labels else iso.band_ == (1, 0)
    assert iso.band_source_ == ("labels" if with_labels else "embeddings")
    assert iso.band_evidence_.strong
    assert iso.band_evidence_.gain > 2 * iso.band_evidence_.standard_error
    assert mean_average_precision(iso.transform(E), y) > mean_average_precision(unit(E), y) + 0.1


@pytest.mark.parametrize("biased", [False, True])
def test_the_nearest_sentence_stands_in_for_the_label(shared_direction, biased):
    pair, E, y = shared_direction
    rows = np.linalg.solve(pair.image, E.T).T if biased else E
    if biased:
        pair = Projectors(pair.image, pair.text, image_bias=np.full(24, 0.01))
    bank = np.stack([rows[y == label].mean(0) for label in np.unique(y)])
    common = np.linalg.svd(pair.image)[2 if biased else 0]
    bank -= np.outer(bank @ (common[0] if biased else common[:, 0]), common[0] if biased else common[:, 0])
    sentences = unit(bank @ pair.image.T if biased else bank)
    iso = IsoCLIP(pair, band="auto").fit(rows, bank=sentences)
    assert iso.band_source_ == "sentences"
    assert iso.band_evidence_.criterion == "mean average precision"
    assert iso.band_.k_top >= 1
    assert iso.band_ == IsoCLIP(pair, band="auto").fit(rows, y).band_
    assert IsoCLIP(pair, band="auto").fit(rows, y, bank=sentences).band_source_ == "labels"
    with pytest.raises(InputError, match=r"bank.*width|bank.*24"):
        IsoCLIP(pair, band="auto").fit(rows, bank=sentences[:, 1:])


def test_embeddings_may_refuse_what_the_spectrum_proposes_and_propose_nothing(shared_direction, rng):
    pair, _, y = shared_direction
    coordinates = 0.05 * rng.normal(size=(len(y), 24))
    angles = 2 * np.pi * rng.random(30)[y]
    coordinates[:, :2] += np.column_stack(
        [np.cos(angles), np.sin(angles)]
    )  # groups that the first direction tells apart
    refused = IsoCLIP(pair, band="auto").fit(coordinates @ np.linalg.svd(pair.image)[0].T)
    assert (refused.band_, refused.band_source_) == (Band(0, 0), "embeddings")
    assert not refused.band_evidence_.strong
    assert set(refused.band_evidence_.scores) == {Band(0, 0), Band(1, 0)}


def test_auto_without_embeddings_sees_the_jump_only(shared_direction):
    pair, _, _ = shared_direction
    iso = IsoCLIP(pair, band="auto").fit()
    assert (iso.band_, iso.band_source_, iso.band_evidence_) == (Band(1, 0), "spectrum", None)


def test_auto_cuts_nothing_where_nothing_speaks_for_it(rng):
    Q = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    pair = Projectors(Q, Q)
    E = rng.normal(size=(400, 24))
    iso = IsoCLIP(pair, band="auto").fit(E)
    assert iso.band_ == (0, 0)
    assert not iso.band_evidence_.strong


def test_one_pass_equals_one_run_a_band(rng):
    C, F = rng.normal(size=(40, 12)), rng.normal(size=(9, 12))
    for band, S in _similarities(C, F.T @ F, slice(3, 10), band_grid(12)):
        kept = slice(band.k_top, 12 - band.k_bottom)
        Z = unit(C[:, kept] @ F[:, kept].T)
        np.testing.assert_allclose(S, Z[3:10] @ Z.T, atol=1e-4)


def test_neighbor_contrast_by_hand():
    S = np.array([[-np.inf, 3.0, 1.0, 1.0, 1.0, 0.0, 1.0]])
    values = S[0, 1:]
    expected = (3.0 - values.mean()) / values.std()
    assert neighbor_contrasts(S, k=1)[0] == pytest.approx(expected)


@pytest.mark.parametrize("rank", [1, 2, 5, 192, 512, 768])
def test_grid_is_legal_and_holds_the_whole_spectrum(rank):
    bands = band_grid(rank)
    assert Band(0, 0) in bands
    assert len(set(bands)) == len(bands) < 150
    assert all(band.k_top + band.k_bottom < rank for band in bands)


def test_sample_is_bounded_and_repeatable(rng):
    sample = draw_sample(100_000, rng.integers(0, 500, 100_000))
    again = draw_sample(100_000, np.random.default_rng(0).integers(0, 500, 100_000))
    assert len(sample.rows) <= 2020
    assert sample.n_queries == 500
    assert len(np.unique(sample.rows)) == len(sample.rows)
    np.testing.assert_array_equal(sample.rows, again.rows)
    assert draw_sample(60, np.arange(60)).labels is None


def test_too_few_embeddings(shared_direction):
    pair, E, y = shared_direction
    with pytest.raises(InputError, match="at least 50"):
        IsoCLIP(pair, band="auto").fit(E[:49])
    with pytest.raises(InputError, match="one for each embedding"):
        IsoCLIP(pair, band="auto").fit(E, y[:-1])
    with pytest.raises(InputError, match="gallery"):
        TextPCA("auto").fit(E)


def test_leading_outliers():
    assert leading_outliers(np.array([4.0] * 16)) == 0
    assert leading_outliers(np.array([100.0, 99, 50, 49] + [40.0] * 28)) == 2
    assert leading_outliers(np.array([1.0])) == 0


def test_text_pca_on_real_embeddings_is_close_to_the_best_count(shared_data):
    """ViT-B/32 on Caltech101: the count chosen on the validation split without labels, judged on the test split."""
    bank = np.load(shared_data / "vitb32_imagenet_fewshot.npz")["text"].astype(np.float32)
    data = np.load(shared_data / "vitb32_caltech101.npz")
    chosen = TextPCA("auto").fit(bank, gallery=data["val"])
    E, y = data["test"][::2].astype(np.float32), data["test_labels"][::2]
    best = max(mean_average_precision(TextPCA(k).fit(bank).transform(E), y) for k in (64, 96, 128, 192, 256, 320, 384))
    assert mean_average_precision(chosen.transform(E), y) > best - 0.005


def test_a_band_has_to_beat_the_whole_spectrum_by_two_standard_errors(rng):
    plain = rng.random(100)
    clear = decide({Band(0, 0): plain, Band(1, 0): plain + 0.1}, "score")
    assert (clear.band, clear.best) == (Band(1, 0), Band(1, 0))
    unclear = decide({Band(0, 0): plain, Band(1, 0): plain + rng.normal(0.001, 1, 100)}, "score")
    assert unclear.band == Band(0, 0)

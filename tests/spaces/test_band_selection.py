"""Bands and component counts chosen from embeddings."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isomix.errors import InputError
from isomix.metrics import average_precisions
from isomix.projectors import Projectors
from isomix.spaces import IsoCLIP, TextPCA, load_space
from isomix.spaces.band_comparison import (
    _similarities,
    band_grid,
    by_labels,
    compare,
    decide,
    neighbor_contrasts,
    soft_average_precisions,
)
from isomix.spaces.bands import Band, has_preset
from isomix.spaces.controls import turned_projectors
from isomix.spaces.defaults import fit_isoclip
from isomix.spaces.gallery_sample import draw_sample, same_sentence
from isomix.spaces.operator import InterModalOperator
from isomix.spaces.spectrum import cliff, leading_outliers, prior_band


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
    evidence = iso.band_evidence_
    assert evidence["strong"]
    assert evidence["gain"] > 2 * evidence["standard_error"]
    assert (evidence["band"], evidence["from"]) == (str(iso.band_), iso.band_source_)
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
    assert iso.band_evidence_["criterion"] == "mean average precision"
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
    evidence = refused.band_evidence_
    assert (evidence["strong"], evidence["compared"], evidence["criterion"]) == (False, 2, "neighbor contrast")


def test_auto_without_embeddings_sees_the_jump_only(shared_direction):
    pair, _, _ = shared_direction
    iso = IsoCLIP(pair, band="auto").fit()
    assert (iso.band_, iso.band_source_) == (Band(1, 0), "spectrum")
    assert "no embeddings were looked at" in iso.band_evidence_["why"]


def test_auto_cuts_nothing_where_nothing_speaks_for_it(rng):
    Q = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    pair = Projectors(Q, Q)
    E = rng.normal(size=(400, 24))
    iso = IsoCLIP(pair, band="auto").fit(E)
    assert iso.band_ == (0, 0)
    assert iso.band_evidence_ == {"band": "0/0", "from": "embeddings", "why": "nothing stands out in the spectrum"}


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


def test_a_band_has_to_beat_what_holds_without_it_by_standard_errors(rng):
    plain = rng.random(100)
    clear = decide({Band(0, 0): plain, Band(1, 0): plain + 0.1})
    assert (clear.band, clear.best, clear.reference) == (Band(1, 0), Band(1, 0), Band(0, 0))
    unclear = decide({Band(0, 0): plain, Band(1, 0): plain + rng.normal(0.001, 1, 100)})
    assert unclear.band == Band(0, 0)
    noise = rng.normal(0, 0.1, 100)
    better = {Band(0, 0): plain, Band(3, 1): plain + 0.2, Band(4, 1): plain + 0.2 + noise - noise.mean() + 0.015}
    assert decide(better, Band(3, 1), 1.0).band == Band(4, 1)
    assert decide(better, Band(3, 1), 2.0).band == Band(3, 1)


# ------------------------------------------------------------------------------------------- what the spectrum says


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("rank", "behind"), [(64, 4), (512, 50), (768, 150)])
def test_the_cliff_is_found_where_it_is(rank, behind, scale):
    S = scale * np.r_[np.linspace(9, 5, 3), np.linspace(4, 3, rank - behind - 3), np.linspace(2, 0.1, behind)]
    assert cliff(S) == behind
    assert prior_band(S) == (min(round(150 / 512 * rank), rank - behind - rank // 16), behind)


@pytest.mark.parametrize(
    "S",
    [
        np.ones(512),
        1 / np.arange(1.0, 513),
        np.arange(1.0, 513) ** -0.5,
        np.exp(-np.arange(512) / 100),
        np.linspace(2, 1, 512),
        np.linspace(2, 0.01, 512),
    ],
    ids=["flat", "power law", "square root", "exponential", "slope", "steep slope"],
)
def test_a_spectrum_without_a_cliff_suggests_nothing(S):
    assert cliff(S) == 0
    assert prior_band(S) is None


def test_random_projectors_and_the_embedded_model_suggest_nothing(rng):
    for shape in ((512, 512), (512, 768), (192, 256)):
        assert prior_band(np.linalg.svd(rng.normal(size=shape), compute_uv=False)) is None
    for spec in ("embedded", "embedded:as-trained"):
        pair = Projectors.from_pretrained(spec)
        for projectors in (pair, pair.text_only()):
            assert IsoCLIP(projectors, "auto").fit().band_ == (0, 0)
    assert cliff(np.array([4.0, 1.0])) == 0
    assert prior_band(np.r_[np.linspace(4, 3, 24), np.linspace(1, 0.5, 4)]) is None  # too few to tell


@pytest.fixture
def trained(rng):
    """A text projector with the spectrum of a trained CLIP, and a gallery with what it cannot express in it."""
    d, behind = 64, 6
    left, right = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    S = np.r_[np.linspace(4, 3, d - behind), np.linspace(1.5, 0.5, behind)]
    c = rng.normal(size=(200, d))
    c[:, -behind:] *= 2.5
    return Projectors(text=(left * S) @ right.T), c @ left.T


def test_pictures_confirm_the_prior_and_what_are_none_refuse_it(trained, rng):
    pair, E = trained
    iso = IsoCLIP(pair, "auto").fit(E)
    assert (iso.band_, iso.band_source_) == ((19, 6), "embeddings")
    assert iso.band_evidence_["prior"] == "19/6"
    assert iso.band_evidence_["cliff_energy"] > 2
    assert IsoCLIP(pair, "auto").fit().band_ == (19, 6)
    for projectors, rows in (
        (turned_projectors(pair), E),
        (pair.replace(text=pair.text.T), E),
        (pair, rng.normal(size=(200, 64))),
    ):
        refused = IsoCLIP(projectors, "auto").fit(rows)
        assert (refused.band_, refused.band_source_) == ((0, 0), "embeddings")
        assert refused.band_evidence_["cliff_energy"] < 2
        assert "the embeddings do not" in refused.band_evidence_["why"]


def test_the_prior_is_for_images_and_the_same_for_the_pair(trained):
    pair, E = trained
    both = Projectors(np.eye(64, 80), pair.text)
    assert IsoCLIP(both, "auto").fit(E).band_ == IsoCLIP(pair, "auto").fit(E).band_ == (19, 6)
    for projectors in (pair, both):
        assert IsoCLIP(projectors, "auto", modality="text").fit().band_ == (0, 0)


def test_what_was_decided_is_short_json_saved_with_the_space_and_repeatable(tmp_path, trained, rng):
    pair, E = trained
    bank = rng.normal(size=(40, 64))
    for arguments in ({}, {"X": E}, {"X": E, "bank": bank}, {"X": E, "y": rng.integers(0, 20, 200)}):
        iso = IsoCLIP(pair, "auto").fit(**arguments)
        assert len(json.dumps(iso.band_evidence_)) < 600
        again = IsoCLIP(pair, "auto").fit(**arguments)
        assert again.band_evidence_ == iso.band_evidence_
        iso.save(tmp_path / "iso.safetensors")
        loaded = load_space(tmp_path / "iso.safetensors")
        assert loaded.band_evidence_ == iso.band_evidence_
        assert loaded.describe() == iso.describe()
    assert IsoCLIP(pair, (1, 1)).fit().band_evidence_ is None


# ---------------------------------------------------------------------------------------------------- soft relevance


def test_soft_average_precision_is_the_usual_one_for_zeros_and_ones(rng):
    S = rng.normal(size=(5, 30))
    S[:, 3] = -np.inf
    relevant = rng.random((5, 30)) < 0.3
    relevant[4] = False
    np.testing.assert_allclose(soft_average_precisions(S, relevant), average_precisions(S, relevant), atol=1e-12)
    assert np.isnan(soft_average_precisions(S, relevant)[4])


def test_the_same_sentence_in_blocks_equals_the_formula(rng, monkeypatch):
    E, bank = unit(rng.normal(size=(9, 6))), unit(rng.normal(size=(23, 6)))
    logits = 20 * E @ bank.T
    P = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    monkeypatch.setattr("isomix.spaces.gallery_sample.SENTENCE_BLOCK", 5)
    np.testing.assert_allclose(same_sentence(E, bank, 4, 20.0), P[:4] @ P.T, atol=1e-5)


def test_the_default_of_the_verbs():
    assert has_preset("openclip:ViT-B-32/openai")
    assert not has_preset("hf:someone/else") and not has_preset("")
    assert not has_preset("embedded", "text")


def test_where_nothing_is_preset_the_verbs_take_the_automatic_band_of_their_rows(trained):
    pair, E = trained
    assert fit_isoclip(pair, "preset", lambda: E).band_source_ == "embeddings"
    assert fit_isoclip(pair, "preset", lambda: E[:49]).band_source_ == "spectrum"
    with pytest.raises(InputError, match="at least 50"):
        fit_isoclip(pair, "auto", lambda: E[:49])

    def unread():
        raise AssertionError("no row is needed")

    given = fit_isoclip(pair, (3, 1), unread, compact=False)
    assert (given.band_, given.n_components_) == ((3, 1), 64)
    named = fit_isoclip(Projectors.from_pretrained("embedded"), "preset", unread)
    assert (named.band_, named.band_source_) == ((0, 72), "preset")
    by_name = fit_isoclip(Projectors.from_pretrained("embedded:as-trained"), "preset", unread, backbone="embedded")
    assert by_name.band_source_ == "preset"


# --------------------------------------------------------------------------------------- OpenAI ViT-B/32, real vectors


@pytest.fixture(scope="module")
def real(shared_data):
    text = np.load(shared_data / "projectors" / "openai_vitb32_text.npz")["text"]
    bank = np.load(shared_data / "vitb32_imagenet_fewshot.npz")["text"].astype(np.float32)
    data = np.load(shared_data / "vitb32_caltech101.npz")
    chosen = data["test_labels"] % 2 == 1  # half of the classes, for time
    return Projectors(text=text), data["test"][chosen].astype(np.float32), data["test_labels"][chosen], bank


@pytest.fixture(scope="module")
def grid(real):
    """Mean average precision of every band, all pictures against all."""
    pair, E, y, _ = real
    operator = InterModalOperator(pair)
    C, F = operator.coordinates(E, "image"), operator.projected("image")
    order = np.random.default_rng(1).permutation(len(y))
    values = compare(C[order], F.T @ F, band_grid(512, Band(150, 50)), 300, by_labels(y[order]))
    return {band: 100 * float(np.nanmean(scored)) for band, scored in values.items()}


@pytest.mark.parametrize(("way", "most"), [("spectrum", 1.5), ("embeddings", 1.5), ("sentences", 1.0), ("labels", 1.0)])
@pytest.mark.parametrize("as_pair", [False, True])
def test_on_real_embeddings_the_choice_is_near_the_best_of_the_grid(real, grid, way, most, as_pair):
    pair, E, y, bank = real
    if as_pair:
        pair = Projectors(np.eye(512, 768), pair.text)
    given = {"spectrum": {}, "embeddings": {"X": E}, "sentences": {"X": E, "bank": bank}, "labels": {"X": E, "y": y}}
    band = IsoCLIP(pair, "auto").fit(**given[way]).band_
    assert grid[band] > max(grid.values()) - most
    assert grid[band] > grid[Band(0, 0)] + 2


def test_on_real_embeddings_the_control_cuts_nothing(real):
    pair, E, _, bank = real
    for seed in range(3):
        turned = turned_projectors(pair, seed)
        iso = IsoCLIP(turned, "auto").fit(E)
        assert (iso.band_, iso.band_evidence_["prior"]) == ((0, 0), "150/50")
    assert IsoCLIP(pair.replace(text=pair.text.T), "auto").fit(E).band_ == (0, 0)
    # Sentences are no pictures of it, either.
    assert IsoCLIP(pair, "auto").fit(bank).band_evidence_["cliff_energy"] < 1


def test_the_cliffs_of_a_chinese_clip(shared_data):
    data = np.load(shared_data / "projectors" / "chinese_clip_vitb16_finetuned.npz")
    pair = Projectors(data["image"], data["text"])
    assert IsoCLIP(pair, "auto").fit().band_ == (150, 86)
    assert IsoCLIP(pair.text_only(), "auto").fit().band_ == (150, 76)

"""Text PCA: the rival that needs no projectors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from isomix.errors import InputError, ModelError
from isomix.linalg import normalize_rows
from isomix.metrics import retrieval_metrics
from isomix.projectors import Projectors
from isomix.spaces import RandomDirections, TextPCA, load_space
from isomix.spaces.controls import turned_projectors

ZERO_ROWS = "its integer data has rows of zeros, which have no direction and are refused on purpose"


@parametrize_with_checks([TextPCA()], expected_failed_checks=lambda _: {"check_estimators_dtypes": ZERO_ROWS})
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_equals_scikit_learns_directions(rng):
    bank = rng.normal(size=(40, 8))
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    pca = TextPCA(3).fit(bank)
    reference = PCA(3).fit(bank).components_
    np.testing.assert_allclose(np.abs(pca.operator_ @ reference.T), np.eye(3), atol=1e-10)


def test_default_keeps_half_and_clamps_to_the_bank(rng):
    assert TextPCA().fit(rng.normal(size=(40, 8))).n_components_ == 4
    assert TextPCA().fit(rng.normal(size=(4, 8))).n_components_ == 3
    with pytest.raises(InputError, match="only 3 directions"):
        TextPCA(4).fit(rng.normal(size=(4, 8)))
    with pytest.raises(InputError, match="n_components"):
        TextPCA(0).fit(rng.normal(size=(4, 8)))


def test_bank_of_equal_sentences(rng):
    with pytest.raises(InputError, match="only 0 directions"):
        TextPCA().fit(np.tile(rng.normal(size=8), (5, 1)))


def test_save_and_load(tmp_path, rng):
    pca = TextPCA(3).fit(rng.normal(size=(40, 8)))
    pca.save(tmp_path / "pca.safetensors")
    again = load_space(tmp_path / "pca.safetensors")
    E = rng.normal(size=(5, 8)).astype(np.float32)
    np.testing.assert_array_equal(again.transform(E), pca.transform(E))
    assert again.fingerprint == pca.fingerprint


# ------------------------------------------------------------------------------------------------- behind the cliff


@pytest.fixture
def trained(rng):
    """A text projector with the spectrum of a trained CLIP, and sentences that spread as it says."""
    left, right = (np.linalg.qr(rng.normal(size=(64, 64)))[0] for _ in range(2))
    S = np.r_[np.linspace(4, 3, 58), np.linspace(1.5, 0.1, 6)]
    return Projectors(text=(left * S) @ right.T, source="hf:a/b"), left, rng.normal(size=(300, 64)) * S @ left.T


def test_the_cliff_is_cut_and_the_directions_lie_in_what_is_left(trained, rng):
    pair, left, bank = trained
    pca = TextPCA(projectors=pair).fit(bank)
    assert (pca.cliff_, pca.n_components_) == (6, 20)  # five sixteenths
    np.testing.assert_allclose(pca.operator_ @ pca.operator_.T, np.eye(20), atol=1e-10)
    np.testing.assert_allclose(pca.operator_ @ left[:, -6:], 0, atol=1e-10)
    basis = left[:, :-6]
    by_hand = TextPCA(20).fit(normalize_rows(bank) @ basis).operator_ @ basis.T
    np.testing.assert_allclose(pca.operator_.T @ pca.operator_, by_hand.T @ by_hand, atol=1e-8)
    with_pair = TextPCA(projectors=Projectors(rng.normal(size=(64, 70)), pair.text)).fit(bank)
    np.testing.assert_array_equal(with_pair.operator_, pca.operator_)
    with pytest.raises(InputError, match="only 58 directions"):
        TextPCA(59, projectors=pair).fit(bank)


def test_projectors_without_a_cliff_change_nothing(rng):
    bank = rng.normal(size=(80, 64))
    pca = TextPCA(projectors=Projectors(text=rng.normal(size=(64, 70)))).fit(bank)
    assert pca.cliff_ == 0
    np.testing.assert_array_equal(pca.operator_, TextPCA().fit(bank).operator_)


def test_a_bank_of_another_model_is_refused(trained):
    pair, _, bank = trained
    for wrong in (turned_projectors(pair), pair.replace(text=pair.text.T)):
        with pytest.raises(ModelError, match="do not spread as this text projector says"):
            TextPCA(projectors=wrong).fit(bank)
    with pytest.raises(InputError, match="width"):
        TextPCA(projectors=pair).fit(bank[:, :63])
    with pytest.raises(InputError, match=r"expected isomix\.Projectors"):
        TextPCA(projectors=pair.text).fit(bank)


def test_save_and_load_behind_the_cliff(tmp_path, trained, rng):
    pair, _, bank = trained
    pca = TextPCA(projectors=pair).fit(bank)
    pca.save(tmp_path / "a.safetensors")
    again = load_space(tmp_path / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    E = rng.normal(size=(5, 64))
    np.testing.assert_array_equal(again.transform(E), pca.transform(E))
    assert again.describe() == pca.describe()
    assert (again.describe()["cliff"], again.describe()["source"]["model"]) == (6, "hf:a/b")
    np.testing.assert_array_equal(again.fit(bank).operator_, pca.operator_)


def test_the_count_behind_the_cliff_may_be_chosen_from_a_gallery(trained, rng):
    pair, left, bank = trained
    E = np.repeat(rng.normal(size=(30, 64)), 5, axis=0) + 0.1 * rng.normal(size=(150, 64))
    pca = TextPCA("auto", projectors=pair).fit(bank, gallery=E)
    assert pca.cliff_ == 6
    assert pca.choice_.criterion == "mean average precision"
    np.testing.assert_allclose(pca.operator_ @ left[:, -6:], 0, atol=1e-10)


def test_on_real_embeddings_the_cliff_cut_first_is_the_best_space(shared_data):
    data = np.load(shared_data / "vitb32_caltech101.npz")
    E, y = normalize_rows(data["test"].astype(np.float32)), data["test_labels"]
    bank = np.load(shared_data / "vitb32_imagenet_fewshot.npz")["text"].astype(np.float32)
    pair = Projectors(text=np.load(shared_data / "projectors" / "openai_vitb32_text.npz")["text"])

    def precision(space):
        return 100 * retrieval_metrics(space.transform(E), y)["mean_average_precision"]

    recommended = TextPCA(projectors=pair).fit(bank)
    assert (recommended.cliff_, recommended.n_components_) == (50, 160)
    assert precision(recommended) == pytest.approx(84.2, abs=0.06)
    assert precision(TextPCA().fit(bank)) == pytest.approx(83.4, abs=0.06)
    assert precision(RandomDirections(160).fit(E)) < 77.7

"""Text PCA: the rival that needs no projectors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from isomix.errors import InputError
from isomix.spaces import TextPCA, load_space

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

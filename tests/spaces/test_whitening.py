"""Whitening, plain and pre-projection spaces."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from isomix.errors import InputError
from isomix.spaces import SPACES, PCAWhitening, Plain, PreProjection, ZCAWhitening, load_space

ZERO_ROWS = "its integer data has rows of zeros, which have no direction and are refused on purpose"


@parametrize_with_checks(
    [PCAWhitening(), ZCAWhitening(), Plain()],
    expected_failed_checks=lambda space: {"check_estimators_dtypes": ZERO_ROWS} if isinstance(space, Plain) else {},
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_pca_whitening_equals_scikit_learn(rng):
    X = rng.normal(size=(60, 8)) * np.arange(1, 9) + 5
    reference = PCA(5, whiten=True).fit(X).transform(X)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    Z = PCAWhitening(5).fit(X).transform(X)
    np.testing.assert_allclose(Z @ Z.T, reference @ reference.T, atol=1e-10)


def test_zca_has_the_cosines_of_pca(rng):
    X = rng.normal(size=(60, 8)) * np.arange(1, 9) + 5
    Z, P = ZCAWhitening().fit(X).transform(X), PCAWhitening().fit(X).transform(X)
    assert Z.shape == P.shape
    np.testing.assert_allclose(Z @ Z.T, P @ P.T, atol=1e-10)


def test_shrinkage_leads_back_to_the_centred_cosine(rng):
    X = rng.normal(size=(60, 8)) * np.arange(1, 9)
    centred = X - X.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    Z = ZCAWhitening(shrinkage=1e9).fit(X).transform(X)
    np.testing.assert_allclose(Z @ Z.T, centred @ centred.T, atol=1e-6)


def test_more_components_than_axes(rng):
    with pytest.raises(InputError, match="only 3 axes"):
        PCAWhitening(5).fit(rng.normal(size=(4, 8)))
    with pytest.raises(InputError, match="shrinkage"):
        PCAWhitening(shrinkage=-1).fit(rng.normal(size=(4, 8)))


def test_every_space_can_be_saved(tmp_path, rng):
    X = rng.normal(size=(30, 6))
    for space in (PCAWhitening(3), ZCAWhitening(), Plain(), PreProjection()):
        space.fit(X).save(tmp_path / "space.safetensors")
        again = load_space(tmp_path / "space.safetensors")
        assert type(again) is type(space)
        np.testing.assert_array_equal(again.transform(X), space.transform(X))
        assert again.fingerprint == space.fingerprint


def test_registry_names_every_space():
    assert set(SPACES) >= {"isoclip", "text-pca", "pca-whitening", "zca-whitening", "plain", "pre-projection"}

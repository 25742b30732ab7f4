"""The pure functions under everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isomix.errors import InputError
from isomix.linalg import normalize_rows, principal_directions, svd_of_product


@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_svd_of_product_equals_the_svd_of_the_product(d, d_image, d_text, seed):
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(d, d_image)), rng.normal(size=(d, d_text))
    U, S, V = svd_of_product(image, text)
    psi = image.T @ text
    expected = np.linalg.svd(psi, compute_uv=False)[: len(S)]
    assert len(S) == np.linalg.matrix_rank(psi)
    np.testing.assert_allclose(S, expected, rtol=1e-9, atol=1e-12 * expected[0])
    np.testing.assert_allclose((U * S) @ V.T, psi, atol=1e-12 * expected[0])
    np.testing.assert_allclose(U.T @ U, np.eye(len(S)), atol=1e-12)
    np.testing.assert_allclose(V.T @ V, np.eye(len(S)), atol=1e-12)


def test_rank_of_a_low_rank_pair_stored_in_float32(rng):
    image = (rng.normal(size=(64, 20)) @ rng.normal(size=(20, 96))).astype(np.float32)
    text = rng.normal(size=(64, 64)).astype(np.float32)
    assert len(svd_of_product(image, text).S) == 20


def test_signs_do_not_depend_on_the_decomposition(rng):
    image, text = rng.normal(size=(6, 9)), rng.normal(size=(6, 7))
    U, _, V = svd_of_product(image, text)
    U2, _, V2 = svd_of_product(-image, -text)
    np.testing.assert_allclose(U, U2, atol=1e-12)
    np.testing.assert_allclose(V, V2, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_normalize_rows_at_extreme_scales(rng, scale):
    rows = (rng.normal(size=(5, 7)) * scale).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(normalize_rows(rows), axis=1), 1, rtol=1e-6)


def test_normalize_rows_refuses_zeros():
    with pytest.raises(InputError, match="row 1 is all zeros"):
        normalize_rows(np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_principal_directions_are_orthonormal_and_sorted(rng):
    rows = rng.normal(size=(30, 6)) * np.arange(1, 7)
    directions, singular_values, mean = principal_directions(rows, center=True)
    np.testing.assert_allclose(directions @ directions.T, np.eye(6), atol=1e-12)
    assert (np.diff(singular_values) < 0).all()
    np.testing.assert_allclose(mean, rows.mean(0))


def test_principal_directions_drop_what_is_not_there(rng):
    rows = rng.normal(size=(4, 6))
    assert len(principal_directions(rows, center=True)[0]) == 3
    assert len(principal_directions(rows, center=False)[0]) == 4

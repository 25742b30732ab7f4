"""The inter-modal operator: its decomposition, and coordinates along its directions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isomix.errors import InputError
from isomix.linalg import normalize_rows
from isomix.projectors import Projectors
from isomix.spaces.operator import InterModalOperator, svd_of_product


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
    assert len(svd_of_product(image, text)[1]) == 20


def test_signs_do_not_depend_on_the_decomposition(rng):
    image, text = rng.normal(size=(6, 9)), rng.normal(size=(6, 7))
    U, _, V = svd_of_product(image, text)
    U2, _, V2 = svd_of_product(-image, -text)
    np.testing.assert_allclose(U, U2, atol=1e-12)
    np.testing.assert_allclose(V, V2, atol=1e-12)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_coordinates_along_all_directions_give_the_embeddings_back(rng, modality):
    operator = InterModalOperator(Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 7))))
    E = normalize_rows(rng.normal(size=(5, 6)))
    rebuilt = operator.coordinates(7 * E, modality) @ operator.projected(modality).T
    np.testing.assert_allclose(rebuilt, E, atol=1e-12)


def test_a_bias_is_one_more_column(rng):
    pair = Projectors(rng.normal(size=(6, 9)), rng.normal(size=(6, 7)), image_bias=rng.normal(size=6))
    operator, H = InterModalOperator(pair), rng.normal(size=(5, 9))
    assert operator.U.shape == (10, 6)
    rebuilt = operator.coordinates(H, "image") @ operator.projected("image").T
    np.testing.assert_allclose(rebuilt, pair.project_image(H), atol=1e-12)
    with pytest.raises(InputError, match=r"expected 9 \(the image projector's input\)"):
        operator.coordinates(H[:, 1:], "image")


def test_an_operator_that_is_there_is_used_again(rng):
    operator = InterModalOperator(Projectors(rng.normal(size=(4, 5)), rng.normal(size=(4, 4))))
    assert InterModalOperator.of(operator) is operator
    assert InterModalOperator.of(operator.projectors).rank == operator.rank == 4

"""Unit rows and principal directions."""

from __future__ import annotations

import numpy as np
import pytest

from isomix.errors import InputError
from isomix.linalg import normalize_rows, principal_directions


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

"""Conversion between half and single precision: the same numbers as numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isomix.store.half import to_half, to_single

ALL = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(-1, 256)


def test_every_half_becomes_its_single():
    result = to_single(ALL, np.empty(ALL.shape, np.float32))
    with np.errstate(invalid="ignore"):
        expected = ALL.astype(np.float32)
    np.testing.assert_array_equal(result, expected)
    finite = np.isfinite(expected)
    assert np.array_equal(np.signbit(result[finite]), np.signbit(expected[finite]))


def test_finite_halves_come_back():
    finite = ALL[np.isfinite(ALL)]
    assert np.array_equal(to_half(finite.astype(np.float32)).view(np.uint16), finite.view(np.uint16))


@pytest.mark.parametrize("scale", [1.0, 65504.0])
def test_rounding_is_numpys(rng, scale):
    values = (rng.uniform(-1, 1, (300, 311)) * scale).astype(np.float32)
    values = values[np.abs(values) >= 2.0**-14]
    assert np.array_equal(to_half(values).view(np.uint16), values.astype(np.float16).view(np.uint16))


def test_ties_go_to_even(rng):
    halves = np.arange(0x0400, 0x7BFF, dtype=np.uint16).view(np.float16)
    following = np.nextafter(halves, np.float16(np.inf))
    middle = (halves.astype(np.float32) + following.astype(np.float32)) / 2
    assert np.array_equal(to_half(middle), middle.astype(np.float16))


@given(arrays(np.float32, (3, 7), elements=st.floats(-(2.0**-14), 2.0**-14, width=32)))
def test_subnormal_halves_are_one_step_away_at_most(values):
    difference = to_half(values).astype(np.float64) - values.astype(np.float16).astype(np.float64)
    assert np.abs(difference).max() <= 2.0**-24
    assert np.abs(to_half(values).astype(np.float64) - values).max() <= 2.0**-25 * 1.001

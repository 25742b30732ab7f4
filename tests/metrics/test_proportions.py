"""The sign test and Wilson's interval against their definitions and SciPy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from isomix.errors import InputError
from isomix.metrics.proportions import sign_test, wilson_interval


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (14, 6), (15, 5), (5, 15), (10, 10), (60, 41)])
def test_sign_test_is_the_two_sided_binomial_test_at_a_half(wins, losses):
    expected = binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (9, 10), (50, 100), (0, 40)])
def test_wilson_interval_is_that_of_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_more_right_than_there_are_is_refused():
    with pytest.raises(InputError, match="at most 3"):
        wilson_interval(4, 3)

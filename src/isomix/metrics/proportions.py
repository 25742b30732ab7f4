"""Statements about counts: an interval for a share, and a test of which of two sides wins more often."""

from __future__ import annotations

from math import comb, sqrt

from isomix._arrays import check_integer
from isomix.errors import InputError

__all__ = ["sign_test", "wilson_interval"]

NORMAL_95 = 1.959963984540054


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact sign test; ties are left out beforehand (Dixon & Mood, JASA 1946).

    Parameters
    ----------
    wins, losses : int
        How often either side was better.

    Examples
    --------
    >>> sign_test(9, 1)
    0.021484375
    >>> sign_test(3, 3)
    1.0
    """
    wins, losses = check_integer(wins, "wins"), check_integer(losses, "losses")
    n = wins + losses
    tail = sum(comb(n, i) for i in range(max(wins, losses), n + 1))
    return min(1.0, 2 * tail / 2**n)


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, right out of n (Wilson, JASA 1927).

    Examples
    --------
    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    right, n = check_integer(right, "right"), check_integer(n, "n", minimum=1)
    if right > n:
        raise InputError(f"right: got {right} out of {n}, expected at most {n}.")
    share, z2 = right / n, NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)

"""How long one query takes: warm, one at a time, always beside the plain method."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from isomix._arrays import check_integer

__all__ = ["measure_latency"]


def measure_latency(
    query: Callable[[], object], plain: Callable[[], object], *, repeats: int = 20, warm_up: int = 3
) -> dict[str, Any]:
    """Time a query by a method and by the plain one, in turns, so that a busy machine slows both.

    Parameters
    ----------
    query, plain : callable
        Answer one query each.
    repeats : int
        Timed calls of each.
    warm_up : int
        Calls of each before.

    Returns
    -------
    dict
        ``median_ms``, ``quartiles_ms`` (first and third), ``plain_median_ms``, ``ratio_to_plain`` (median of the ratios
        of neighbouring calls) and ``repeats``.
    """
    repeats = check_integer(repeats, "repeats", minimum=1)
    for _ in range(warm_up):
        query()
        plain()
    own, other = np.empty(repeats), np.empty(repeats)
    for i in range(repeats):
        other[i], own[i] = _seconds(plain), _seconds(query)
    first, third = np.percentile(own, [25, 75])
    return {
        "median_ms": 1e3 * float(np.median(own)),
        "quartiles_ms": [1e3 * float(first), 1e3 * float(third)],
        "plain_median_ms": 1e3 * float(np.median(other)),
        "ratio_to_plain": float(np.median(own / other)),
        "repeats": repeats,
    }


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

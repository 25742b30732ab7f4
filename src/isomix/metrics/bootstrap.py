"""Bootstrap intervals over queries or samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import check_integer
from isomix.errors import InputError

__all__ = ["bootstrap_intervals"]

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def bootstrap_intervals(
    statistic: Statistic, n: int, *, confidence: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap: how far a figure moves when the n samples are drawn again, with replacement.

    Parameters
    ----------
    statistic : callable
        Takes weights of shape (n,), how often each sample was drawn, and returns figures of shape (m,).
    n : int
        Number of samples.
    confidence : float
        Share of the resampled figures inside the interval, in (0, 1).
    n_resamples : int
    seed : int

    Returns
    -------
    ndarray of float64, shape (m, 2)
        Lower and upper ends.

    Raises
    ------
    InputError
        ``confidence`` outside (0, 1), or no sample.

    Notes
    -----
    The percentile interval of Efron (1979), *Bootstrap methods: another look at the jackknife*. It says how much the figure owes
    to the choice of the queries; it knows nothing of the choice of gallery, model or prompt.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([0.0, 1.0, 1.0, 1.0])
    >>> bootstrap_intervals(lambda weights: weights[None] @ values / weights.sum(), 4).tolist()
    [[0.25, 1.0]]
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence: got {confidence!r}, expected a share between 0 and 1, e.g. 0.95.")
    n = check_integer(n, "number of samples", minimum=1)
    generator = np.random.default_rng(check_integer(seed, "seed"))
    figures: list[NDArray[Any]] = []
    for _ in range(check_integer(n_resamples, "n_resamples", minimum=1)):
        weights = np.bincount(generator.integers(n, size=n), minlength=n).astype(np.float64)
        figures.append(statistic(weights))
    tail = (1.0 - confidence) / 2.0
    return np.asarray(np.quantile(np.stack(figures), [tail, 1.0 - tail], axis=0).T)

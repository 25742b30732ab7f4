"""Probabilities that hold: one temperature, chosen on held-out shots."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from isomix._arrays import Floats
from isomix.errors import InputError, IsomixWarning
from isomix.fewshot.held_out import SAMPLED_ROWS, HeldOut
from isomix.fewshot.weights import HELD_OUT_SOURCES, HeldOutLogits, Values

__all__ = ["calibrated_temperature", "check_calibrate", "sampled_rows", "temperature"]

Rows = slice | NDArray[np.intp]

LOWEST, HIGHEST = 1e-2, 1e3
"""Temperatures to choose from."""
STEPS = 40
PRECISION = 1e-4
"""Relative, of the temperature."""


def check_calibrate(value: object) -> None:
    """Raise :class:`InputError` unless ``value`` is ``"auto"``, True or False."""
    if not isinstance(value, bool | np.bool_) and not (isinstance(value, str) and value == "auto"):
        raise InputError(f"calibrate: got {value!r}, expected 'auto', True or False.")


def temperature(
    calibrate: bool | str, tier: str, logits: HeldOutLogits | None, values: Values, held_out: HeldOut | None
) -> float:
    """What a fitted classifier divides its logits by.

    Parameters
    ----------
    calibrate : {"auto", True, False}
        The classifier's argument. ``"auto"``: only where weights have been chosen on held-out shots, and on at most 512 of them,
        so that it costs next to nothing.
    tier : str
        Where the weights come from.
    logits : callable
        Of the held-out shots at any weights; None, like ``held_out``, where nothing can be left out.
    values : mapping
        The weights in use.
    """
    if not calibrate or (calibrate == "auto" and tier not in HELD_OUT_SOURCES):
        return 1.0
    if held_out is None or logits is None:
        warnings.warn(
            "calibrate=True: at one shot a class nothing can be left out, so the probabilities are not calibrated. "
            "Give more shots, or validation=(embeddings, labels).",
            IsomixWarning,
            stacklevel=4,
        )
        return 1.0
    rows = sampled_rows(len(held_out.y)) if calibrate == "auto" else slice(None)
    return calibrated_temperature(logits(values, slice(None)), held_out, rows)


def sampled_rows(n: int) -> Rows:
    """At most 512 of ``n`` held-out rows, the same ones every time, in no step with the order of the labels."""
    if n <= SAMPLED_ROWS:
        return slice(None)
    return np.sort(np.random.default_rng(0).permutation(n)[:SAMPLED_ROWS])


def calibrated_temperature(logits: Floats, held_out: HeldOut, rows: Rows = slice(None)) -> float:
    """Temperature T > 0 with the least log-loss of softmax(logits / T) on held-out shots (Guo et al., ICML 2017).

    The log-loss is convex in 1 / T, so Newton's steps find it, with bisection where a step would leave what is left to search.

    Labels count as right with probability (n + 1) / (n + 2) for n shots (Platt 1999), and else as the best of the other classes
    (this project; Platt has two classes): a few shots that are all classified correctly must not make the classifier certain of
    everything.

    Parameters
    ----------
    logits : ndarray, shape (n, C)
        Of all held-out shots.
    held_out : HeldOut
    rows : slice or ndarray of int
        Which of them to look at.
    """
    shifted, weights = logits[rows], held_out.weights[rows]
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    doubt = 1.0 / (weights.sum() + 2.0)
    places = np.arange(len(shifted)), held_out.y[rows]
    own, rivals = np.asarray(shifted[places], np.float64), shifted.copy()
    rivals[places] = -np.inf
    right = (1.0 - doubt) * own + doubt * np.asarray(rivals.max(axis=1), np.float64)

    def slope_and_curvature(inverse: float) -> tuple[float, float]:
        """Of the log-loss at 1 / T: what the probabilities expect of a logit less what it is, and their variance."""
        chances = np.exp(shifted * shifted.dtype.type(inverse))
        total = chances.sum(axis=1)
        chances *= shifted
        mean = chances.sum(axis=1) / total
        square = np.einsum("ij,ij->i", chances, shifted) / total
        return float(np.average(mean - right, weights=weights)), float(np.average(square - mean**2, weights=weights))

    low, high, inverse = 1.0 / HIGHEST, 1.0 / LOWEST, 1.0
    for _ in range(STEPS):
        slope, curvature = slope_and_curvature(inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else 0.0
        before, inverse = inverse, step if low < step < high else float(np.sqrt(low * high))
        if abs(inverse - before) < PRECISION * before:
            break
    return 1.0 / inverse

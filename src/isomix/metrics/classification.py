"""Classification metrics: accuracy, mean per class accuracy, expected calibration error, with bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isomix._arrays import check_integer
from isomix.errors import InputError
from isomix.metrics.bootstrap import bootstrap_intervals

__all__ = ["classification_metrics"]


def classification_metrics(
    labels: ArrayLike,
    predictions: ArrayLike,
    probabilities: ArrayLike | None = None,
    *,
    n_bins: int = 15,
    confidence: float | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score predicted classes.

    Parameters
    ----------
    labels : array_like, shape (n,)
        True classes.
    predictions : array_like, shape (n,)
        Predicted classes.
    probabilities : array_like, shape (n,) or (n, n_classes), optional
        Probability of the predicted class, or of all classes (``predict_proba``), of which the largest is taken.
    n_bins : int
        Bins of the calibration error: equal widths on (0, 1], closed on the right.
    confidence : float, optional
        Add ``"intervals"``: metric name to (lower, upper), a bootstrap over samples, e.g. at 0.95.
    n_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``accuracy``; ``mean_per_class_accuracy``, the mean of the recalls of the classes that occur in ``labels``; with
        ``probabilities`` ``expected_calibration_error``, the distance between accuracy and mean probability of a bin, averaged
        over bins by their share of samples (Naeini et al. 2015; Guo et al. 2017, eq. 3); and ``n_samples``.

    Raises
    ------
    InputError
        Different lengths, no sample, labels and predictions of different kinds, probabilities outside [0, 1].

    Examples
    --------
    >>> figures = classification_metrics(["cat", "cat", "cat", "dog"], ["cat", "cat", "dog", "dog"])
    >>> figures["accuracy"], round(figures["mean_per_class_accuracy"], 4)
    (0.75, 0.8333)
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != guess.shape or not truth.size:
        raise InputError(
            f"labels {truth.shape} and predictions {guess.shape}: expected the same shape (n,) with n ≥ 1."
        )
    if (truth.dtype.kind in "OUST") != (guess.dtype.kind in "OUST"):
        raise InputError(
            f"labels are {truth.dtype} and predictions are {guess.dtype}; expected both names or both numbers."
        )
    correct = (truth == guess).astype(np.float64)
    classes, of_class = np.unique(truth, return_inverse=True)
    certainty = None if probabilities is None else _certainty(probabilities, len(truth))
    n_bins = check_integer(n_bins, "n_bins", minimum=1)
    names = ["accuracy", "mean_per_class_accuracy"]
    if certainty is not None:
        names.append("expected_calibration_error")
        bins = np.clip(np.ceil(certainty * n_bins).astype(np.intp) - 1, 0, n_bins - 1)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        n = weights.sum()
        drawn = np.bincount(of_class, weights, minlength=len(classes))
        recall = np.bincount(of_class, weights * correct, minlength=len(classes))[drawn > 0] / drawn[drawn > 0]
        figures = [weights @ correct / n, recall.mean()]
        if certainty is not None:
            gaps = np.bincount(bins, weights * (correct - certainty), minlength=n_bins)
            figures.append(np.abs(gaps).sum() / n)
        return np.array(figures)

    result: dict[str, Any] = dict(zip(names, statistic(np.ones(len(truth))).tolist()))
    result["n_samples"] = len(truth)
    if confidence is not None:
        intervals = bootstrap_intervals(
            statistic, len(truth), confidence=confidence, n_resamples=n_resamples, seed=seed
        )
        result["intervals"] = {name: (low, high) for name, (low, high) in zip(names, intervals.tolist())}
    return result


def _certainty(probabilities: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.asarray(probabilities, np.float64)
    if array.ndim not in (1, 2) or len(array) != n or not array.size:
        raise InputError(f"probabilities: got shape {array.shape}, expected ({n},) or ({n}, n_classes).")
    if not (array.min() >= 0.0 and array.max() <= 1.0 + 1e-6):
        raise InputError(
            f"probabilities: from {array.min():.3g} to {array.max():.3g}, expected values in [0, 1]. Apply a softmax to logits first."
        )
    return array if array.ndim == 1 else np.asarray(array.max(axis=1))
